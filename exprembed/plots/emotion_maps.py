"""Emotion maps: which class a domain's classifier gives to each place of a compact embedding, in the plane or on a globe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from exprembed.errors import BadInputError, MissingExtraError, WrongUseError
from exprembed.plots.style import INK, expression_color, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ABOUT = 1 / 20  # of the range: how near a face must be to lie about a place
_PALE = 0.55  # share of white in the colour of an area, under points of the full colour


class Classifies(Protocol):
    """What a map asks of a model; `CAKE` and `AVK` have it."""

    def classify(self, vectors: Any, domain: str) -> np.ndarray:  # noqa: ANN401 - anything that an array is made of
        """Return the class that a domain's classifier gives to embeddings (n, d): (n,) str."""
        ...


@dataclass(frozen=True)
class EmotionGrid:
    """The class at each place of an embedding, as one domain sees it.

    Attributes:
        classes: (h, w) str, the class at each cell's centre; row 0 has the smallest y.
        x: (w,) centres of the columns: the first coordinate, or phi in radians.
        y: (h,) centres of the rows: the second coordinate, or theta in radians.
        sphere: the places are those of the unit sphere: phi = atan2(e_2, e_1), theta = arccos(e_3).
        faces: (h, w) observed vectors about each cell: nearer than a twentieth of the range of each coordinate, or of
            half a turn of the sphere.
    """

    classes: np.ndarray
    x: np.ndarray
    y: np.ndarray
    sphere: bool
    faces: np.ndarray

    def borders(self, by_faces: bool = False) -> pd.DataFrame:
        """Return how long the border between each two classes is: (C, C), as shares of all borders, symmetric.

        Lengths are measured on the sphere, or in the plane with the observed range of each coordinate as the unit; a
        staircase of cells is as long as its steps.

        Args:
            by_faces: a piece of border counts as often as faces lie about it, so that one through an empty part counts
                for nothing.
        """
        names, codes = np.unique(self.classes, return_inverse=True)
        height, width = self.classes.shape
        codes = codes.reshape(height, width)
        across = np.full(height, np.pi / height if self.sphere else 1 / height)
        between = (self.y[1:] + self.y[:-1]) / 2
        along = np.sin(between) * 2 * np.pi / width if self.sphere else np.full(height - 1, 1 / width)
        right = np.roll(codes, -1, axis=1) if self.sphere else codes[:, 1:]
        left = codes if self.sphere else codes[:, :-1]
        table = np.zeros((len(names), len(names)))
        for one, other, length, near in (
            (left, right, across, self.faces[:, : left.shape[1]]),
            (codes[:-1], codes[1:], along, self.faces[:-1]),
        ):
            lengths = np.broadcast_to(length[:, None], one.shape) * (near if by_faces else 1)
            np.add.at(table, (one.ravel(), other.ravel()), lengths.ravel())
        np.fill_diagonal(table, 0)
        total = table.sum() or 1.0
        return pd.DataFrame((table + table.T) / total, index=names, columns=names)

    def neighbours(self, least: float = 0.01, by_faces: bool = False) -> set[tuple[str, str]]:
        """Return the pairs of classes (in sorted order) whose border is at least a share of all borders."""
        table = self.borders(by_faces)
        return {(a, b) for a in table.index for b in table.columns if a < b and table.loc[a, b] >= least}


def emotion_grid(
    model: Classifies, domain: str, vectors: np.ndarray | pd.DataFrame, resolution: int = 300
) -> EmotionGrid:
    """Sample an embedding densely and classify each sample (CAKE, section 3.4).

    Args:
        model: a `CAKE` or `AVK`.
        domain: whose classifier.
        vectors: (n, d) observed embeddings: d = 2, whose range the grid covers, or d = 3 on the unit sphere
            (CAKE-3-Norm), all of which it covers.
        resolution: columns; a sphere has half as many rows.

    Raises:
        BadInputError: vectors of another shape, not finite, or three-dimensional and not of length 1.
        WrongUseError: a resolution below 8, an unknown domain.
    """
    from scipy.spatial import cKDTree

    points = _checked(vectors)
    if resolution < 8:
        raise WrongUseError(f"a map needs a resolution of at least 8 cells; got {resolution}")
    if points.shape[1] == 3:
        rows = resolution // 2
        x = (np.arange(resolution) + 0.5) / resolution * 2 * np.pi - np.pi
        y = (np.arange(rows) + 0.5) / rows * np.pi
        phi, theta = np.meshgrid(x, y)
        places = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
        unit, reach = np.ones(3), 2 * np.sin(np.pi * _ABOUT / 2)
    else:
        low, high = points.min(axis=0), points.max(axis=0)
        unit, reach = np.maximum(high - low, 1e-9), _ABOUT
        share = (np.arange(resolution) + 0.5) / resolution
        x, y = (low[i] + share * unit[i] for i in (0, 1))
        places = np.stack(np.meshgrid(x, y), axis=-1)
    flat = places.reshape(-1, points.shape[1])
    faces = cKDTree(points / unit).query_ball_point(flat / unit, reach, return_length=True)
    classes, shape = np.asarray(model.classify(flat, domain)), places.shape[:2]
    return EmotionGrid(classes.reshape(shape), x, y, points.shape[1] == 3, faces.reshape(shape))


def spherical(vectors: np.ndarray | pd.DataFrame) -> np.ndarray:
    """Return phi = atan2(e_2, e_1) and theta = arccos(e_3) of unit vectors (n, 3): (n, 2), radians.

    Example:
        >>> (spherical(np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])) / np.pi).tolist()
        [[0.5, 0.5], [0.0, 0.0]]
    """
    points = np.asarray(vectors, dtype=np.float64)
    return np.stack([np.arctan2(points[:, 1], points[:, 0]), np.arccos(points[:, 2].clip(-1, 1))], axis=1)


def class_f1(
    model: Classifies, domain: str, vectors: np.ndarray | pd.DataFrame, labels: Sequence[str] | pd.Series
) -> dict[str, float]:
    """Return the F1 score of each class that is given or predicted, by name; faces without a label take no part."""
    from sklearn.metrics import f1_score

    points, names = _checked(vectors), pd.Series(list(labels), dtype=object)
    if len(names) != len(points):
        raise BadInputError(f"{len(points)} vectors but {len(names)} labels; one label a vector is due")
    known = names.notna().to_numpy()
    if not known.any():
        raise BadInputError("no vector has a label, and an F1 score needs some")
    truth = names[known].astype(str).to_numpy(str)
    guess = np.asarray(model.classify(points[known], domain), dtype=str)
    classes = np.unique(np.concatenate([truth, guess]))
    scores = f1_score(truth, guess, labels=classes, average=None, zero_division=0)
    return {str(name): float(score) for name, score in zip(classes, scores, strict=True)}


def emotion_map(
    model: Classifies,
    domain: str,
    vectors: np.ndarray | pd.DataFrame,
    labels: Sequence[str] | pd.Series | None = None,
    resolution: int = 300,
    title: str = "",
    axes_names: tuple[str, str] | None = None,
    max_points: int = 2000,
    seed: int = 0,
) -> Figure:
    """Draw a domain's classes over a 2-d embedding, or over the sphere of CAKE-3-Norm in phi and theta (CAKE, Fig. 5).

    Areas are pale, observed faces are points in the full colour of their label. In each area stand its class and, where
    labels are given, the class's F1 score on these faces; classes without an area are named below the map.

    Args:
        model: a `CAKE` or `AVK`.
        domain: whose classifier.
        vectors: (n, 2) observed embeddings, or (n, 3) on the unit sphere.
        labels: (n,) true class of each, missing where unknown; None draws the points in ink and no score.
        resolution: see `emotion_grid`.
        title: text above the map; the domain by default.
        axes_names: names of the coordinates, such as ("arousal", "valence").
        max_points: more faces than this are sampled (said below the map); the scores are those of all.
        seed: of the sampling.

    Raises:
        BadInputError, WrongUseError: see `emotion_grid`; also where labels and vectors differ in number.

    Example:
        >>> class Halves:
        ...     def classify(self, vectors, domain):
        ...         return np.where(np.asarray(vectors)[:, 0] < 0, "fear", "anger")
        >>> type(emotion_map(Halves(), "raf", np.array([[-1.0, 0.0], [1.0, 1.0]]), ["fear", "anger"])).__name__
        'Figure'
    """
    grid, points = emotion_grid(model, domain, vectors, resolution), _checked(vectors)
    scores = None if labels is None else class_f1(model, domain, points, labels)
    figure = new_figure(7.5, 4.6 if grid.sphere else 6.2)
    axes = figure.add_axes((0.1, 0.14, 0.87, 0.78))
    axes.set_title(title or domain, loc="left", fontsize=12, color=INK)
    axes.imshow(_pale(grid.classes), extent=_extent(grid), origin="lower", aspect="auto", interpolation="nearest")
    names = axes_names or (("φ", "θ") if grid.sphere else ("first coordinate", "second coordinate"))
    axes.set_xlabel(names[0], fontsize=11, color=INK)
    axes.set_ylabel(names[1], fontsize=11, color=INK)
    axes.tick_params(labelsize=9, color=INK, labelcolor=INK)
    chosen = np.arange(len(points))
    if len(points) > max_points:
        chosen = np.random.default_rng(seed).permutation(len(points))[:max_points]
    flat = spherical(points[chosen]) if grid.sphere else points[chosen]
    given = pd.Series([None] * len(points) if labels is None else list(labels), dtype=object)
    colors = [
        INK if missing else expression_color(str(name)) for name, missing in zip(given, given.isna(), strict=True)
    ]
    axes.scatter(flat[:, 0], flat[:, 1], s=7, c=np.array(colors)[chosen], linewidths=0, alpha=0.8)
    axes.set_xlim(*_extent(grid)[:2])
    axes.set_ylim(*_extent(grid)[2:])
    _write_areas(axes, grid, scores)
    drawn = f"{len(chosen):,} of {len(points):,} faces" if len(chosen) < len(points) else f"{len(points):,} faces"
    without = sorted(set(scores or {}) - set(np.unique(grid.classes)))
    missing = (
        "; no area: " + ", ".join(f"{name} (F1 {(scores or {})[name]:.2f})" for name in without) if without else ""
    )
    figure.text(0.02, 0.015, drawn + missing, fontsize=9, color=INK)
    return figure


def emotion_globe(
    model: Classifies,
    domain: str,
    vectors: np.ndarray | pd.DataFrame,
    labels: Sequence[str] | pd.Series | None = None,
    resolution: int = 240,
    title: str = "",
    max_points: int = 2000,
    seed: int = 0,
) -> Any:  # noqa: ANN401 - plotly's Figure
    """Draw CAKE-3-Norm on a sphere that turns under the mouse; `.write_html(path)` makes a page of it.

    Args:
        model: a `CAKE` with three normalised dimensions.
        domain: whose classifier colours the sphere.
        vectors: (n, 3) observed unit vectors.
        labels: (n,) true class of each, missing where unknown; None draws the points in ink.
        resolution: see `emotion_grid`.
        title: text above; the domain by default.
        max_points: more faces than this are sampled.
        seed: of the sampling.

    Returns:
        A plotly Figure.

    Raises:
        MissingExtraError: plotly is not installed.
        BadInputError: vectors that are not on the unit sphere, labels of another number.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise MissingExtraError("plotly", "plots", "a globe") from error
    points = _checked(vectors)
    if points.shape[1] != 3:
        raise BadInputError(f"a globe shows unit vectors (n, 3); got {points.shape}")
    names = pd.Series([None] * len(points) if labels is None else list(labels), dtype=object)
    if len(names) != len(points):
        raise BadInputError(f"{len(points)} vectors but {len(names)} labels; one label a vector is due")
    grid = emotion_grid(model, domain, points, resolution)
    rows, columns = grid.classes.shape
    # One corner more than cells closes the sphere at the seam and at the poles.
    phi, theta = np.meshgrid(np.linspace(-np.pi, np.pi, columns + 1), np.linspace(0, np.pi, rows + 1))
    corner = np.arange(phi.size).reshape(phi.shape)
    one, right, below, far = (
        part.ravel() for part in (corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:])
    )
    triangles = np.concatenate([np.stack([one, right, below], axis=1), np.stack([right, far, below], axis=1)])
    # Two triangles a cell, each in one colour: a surface would blend classes, and show others along the borders.
    color = (255 * _pale(grid.classes).reshape(-1, 3)).round().astype(int).tolist()
    sphere = go.Mesh3d(
        x=(np.sin(theta) * np.cos(phi)).ravel(), y=(np.sin(theta) * np.sin(phi)).ravel(), z=np.cos(theta).ravel(),
        **dict(zip("ijk", triangles.T, strict=True)), facecolor=2 * [f"rgb({r},{g},{b})" for r, g, b in color],
        hoverinfo="skip", lighting={"ambient": 1, "diffuse": 0, "specular": 0, "fresnel": 0},
    )  # fmt: skip
    figure = go.Figure(sphere)
    chosen = np.random.default_rng(seed).permutation(len(points))[:max_points]
    for name in sorted({str(value) for value in names.iloc[chosen].dropna()} | set(map(str, np.unique(grid.classes)))):
        own = 1.01 * points[chosen[(names.iloc[chosen] == name).to_numpy()]]
        figure.add_scatter3d(
            x=own[:, 0], y=own[:, 1], z=own[:, 2], name=name, mode="markers",
            marker={"size": 2.5, "color": expression_color(name)}, showlegend=True,
        )  # fmt: skip
    bare = 1.01 * points[chosen[names.iloc[chosen].isna().to_numpy()]]
    figure.add_scatter3d(
        x=bare[:, 0], y=bare[:, 1], z=bare[:, 2], name="no label", mode="markers",
        marker={"size": 2, "color": INK}, showlegend=bool(len(bare)),
    )  # fmt: skip
    hidden = {"visible": False}
    figure.update_layout(
        title=title or domain,
        margin={"l": 0, "r": 0, "b": 0, "t": 50},
        legend={"itemsizing": "constant"},
        scene={"xaxis": hidden, "yaxis": hidden, "zaxis": hidden, "aspectmode": "data"}
        | {"camera": {"eye": {"x": 1.05, "y": 1.05, "z": 0.6}}},
    )
    return figure


def _checked(vectors: np.ndarray | pd.DataFrame) -> np.ndarray:
    points = np.asarray(vectors, dtype=np.float64)
    if points.ndim != 2 or not len(points) or points.shape[1] not in (2, 3):
        raise BadInputError(f"a map shows embeddings (n, 2), or unit vectors (n, 3), n at least 1; got {points.shape}")
    if not np.isfinite(points).all():
        raise BadInputError(f"vector {int(np.argmax(~np.isfinite(points).all(axis=1)))} holds NaN or infinity")
    if points.shape[1] == 3 and (np.abs(np.linalg.norm(points, axis=1) - 1) > 1e-3).any():
        raise BadInputError("three dimensions have a map only on the unit sphere; train CAKE with normalize=True")
    return points


def _pale(classes: np.ndarray) -> np.ndarray:
    """Return the areas' colours: (h, w, 3) in [0, 1]."""
    from matplotlib.colors import to_rgb

    names, codes = np.unique(classes, return_inverse=True)
    palette = np.array([to_rgb(expression_color(str(name))) for name in names])
    painted: np.ndarray = (_PALE + (1 - _PALE) * palette)[codes.reshape(classes.shape)]
    return painted


def _extent(grid: EmotionGrid) -> tuple[float, float, float, float]:
    half_x, half_y = (grid.x[1] - grid.x[0]) / 2, (grid.y[1] - grid.y[0]) / 2
    return grid.x[0] - half_x, grid.x[-1] + half_x, grid.y[0] - half_y, grid.y[-1] + half_y


def _write_areas(axes: Axes, grid: EmotionGrid, scores: dict[str, float] | None) -> None:
    """Write each class, and its score, at the place of its area that is farthest from the area's border."""
    import matplotlib.patheffects as effects
    from scipy.ndimage import distance_transform_edt

    for name in np.unique(grid.classes):
        depth = distance_transform_edt(np.pad(grid.classes == name, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        words = str(name) if scores is None else f"{name}\nF1 {scores.get(str(name), 0.0):.2f}"
        text = axes.text(grid.x[column], grid.y[row], words, color=INK, fontsize=10, weight="bold")
        text.set(ha="center", va="center", path_effects=[effects.withStroke(linewidth=3, foreground="white")])
