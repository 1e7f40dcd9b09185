"""Two-dimensional maps of an embedding, coloured by expression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from exprembed.errors import BadInputError, MissingExtraError, unknown_name
from exprembed.plots.style import FAINT, INK, expression_color, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METHODS = ("tsne", "umap", "pca")


def project(vectors: np.ndarray | pd.DataFrame, method: str = "tsne", seed: int = 0) -> np.ndarray:
    """Project vectors to the plane.

    Args:
        vectors: (n, d) finite numbers, n >= 4 for t-SNE and UMAP and n >= 2 for PCA.
        method: "tsne" (scikit-learn's; started from PCA, perplexity 30 or, for few points, (n - 1) / 3), "umap" (umap-learn's;
            15 neighbours or, for few points, n - 1) or "pca".
        seed: seed of t-SNE and UMAP.

    Returns:
        (n, 2) coordinates. Only neighbourhoods mean something in t-SNE and UMAP: not distances, not sizes.

    Raises:
        WrongUseError: an unknown method.
        BadInputError: too few vectors, a wrong shape, numbers that are not finite.
        MissingExtraError: "umap" without umap-learn.

    Example:
        >>> project(np.eye(3), method="pca").shape
        (3, 2)
    """
    if method not in METHODS:
        raise unknown_name("projection", method, METHODS)
    points = np.asarray(vectors, dtype=np.float64)
    least = 2 if method == "pca" else 4
    if points.ndim != 2 or len(points) < least:
        raise BadInputError(f"a {method} map needs vectors of shape (n, d) with n >= {least}; got {points.shape}")
    if not np.isfinite(points).all():
        row = int(np.argmax(~np.isfinite(points).all(axis=1)))
        raise BadInputError(f"vector {row} holds NaN or infinity; drop it before drawing")
    if method == "pca":
        # Through the SVD, so that one-dimensional vectors get a second coordinate of zero.
        centred = points - points.mean(axis=0)
        left, size, _ = np.linalg.svd(centred, full_matrices=False)
        flat = np.zeros((len(points), 2))
        kept = min(2, len(size))
        flat[:, :kept] = left[:, :kept] * size[:kept]
        return flat
    if method == "umap":
        return _umap(points, seed)
    from sklearn.manifold import TSNE

    start = project(points, "pca")
    start *= 1e-4 / max(float(start[:, 0].std()), 1e-12)  # the scale that scikit-learn gives its own PCA start
    perplexity = min(30.0, (len(points) - 1) / 3)
    laid: np.ndarray = TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(points)
    return laid


def _umap(points: np.ndarray, seed: int) -> np.ndarray:
    try:
        from umap import UMAP
    except ImportError as error:
        raise MissingExtraError("umap-learn", "plots", "a UMAP map") from error
    # Few points have no spectral layout of their own graph, which is UMAP's usual start.
    init = "spectral" if len(points) > 50 else "random"
    laid: np.ndarray = UMAP(n_neighbors=min(15, len(points) - 1), init=init, random_state=seed, n_jobs=1).fit_transform(
        points
    )
    return laid


def embedding_map(
    vectors: np.ndarray | pd.DataFrame,
    labels: Sequence[str] | pd.Series,
    method: str = "tsne",
    seed: int = 0,
    title: str = "",
    max_points: int = 4000,
    centers: tuple[np.ndarray, Sequence[str]] | None = None,
) -> Figure:
    """Draw a 2-D map of an embedding, one colour per expression, each one's name at its densest place (FEC, Fig. 5).

    Args:
        vectors: (n, d) embeddings.
        labels: (n,) expression of each; missing ones are drawn in light grey without a name.
        method: "tsne", "umap" or "pca".
        seed: seed of the method and of the sampling.
        title: text above the map.
        max_points: more vectors than this are sampled (said below the map).
        centers: (m, d) class centres and the m expressions that they belong to, drawn as squares.

    Returns:
        A matplotlib Figure.

    Raises:
        WrongUseError, BadInputError: see `project`; also where labels and vectors differ in number.

    Example:
        >>> type(embedding_map(np.eye(4), ["fear", "fear", "anger", "anger"], method="pca")).__name__
        'Figure'
    """
    points, names = np.asarray(vectors, dtype=np.float64), pd.Series(list(labels), dtype=object)
    if len(names) != len(points):
        raise BadInputError(f"{len(points)} vectors but {len(names)} labels; one label a vector is due")
    total = len(points)
    if total > max_points:
        kept = np.sort(np.random.default_rng(seed).choice(total, max_points, replace=False))
        points, names = points[kept], names.iloc[kept].reset_index(drop=True)
    marks = np.empty((0, points.shape[-1])) if centers is None else np.asarray(centers[0], dtype=np.float64)
    laid = project(np.concatenate([points, marks]), method, seed)
    places, marked = laid[: len(points)], laid[len(points) :]
    figure = new_figure(7.5, 6.5)
    axes = figure.add_axes((0.02, 0.05, 0.96, 0.88))
    axes.axis("off")
    axes.set_title(title, loc="left", fontsize=12, color=INK)
    size = float(np.clip(9000 / len(points), 6, 60))
    colors = [
        FAINT if missing else expression_color(str(name)) for name, missing in zip(names, names.isna(), strict=True)
    ]
    # One call in a mixed order: drawn class by class, the last class would hide the others.
    order = np.random.default_rng(seed).permutation(len(points))
    axes.scatter(places[order, 0], places[order, 1], s=size, c=np.array(colors)[order], alpha=0.75, linewidths=0)
    if centers is not None:
        squares = [expression_color(name) for name in centers[1]]
        axes.scatter(marked[:, 0], marked[:, 1], s=60, c=squares, marker="s", edgecolors=INK, linewidths=1.2)
    axes.set_aspect("equal", adjustable="datalim")
    _write_names(axes, places, names)
    sampled = f", {len(points):,} of {total:,} faces" if total > max_points else f", {total:,} faces"
    kind = {"tsne": f"t-SNE (seed {seed})", "umap": f"UMAP (seed {seed})", "pca": "PCA"}[method]
    figure.text(0.02, 0.02, f"{kind}{sampled}", fontsize=9, color=INK)
    return figure


def _write_names(axes: Axes, places: np.ndarray, names: pd.Series) -> None:
    """Write each class's name where the class is densest, and push names apart that would overlap."""
    import matplotlib.patheffects as effects

    texts, anchors = [], []
    for name in sorted(names.dropna().unique()):
        halo = [effects.withStroke(linewidth=3.5, foreground="white")]
        anchors.append(_densest(places[(names == name).to_numpy()]))
        color = expression_color(str(name))
        text = axes.text(anchors[-1][0], anchors[-1][1], str(name), color=color, fontsize=13, weight="bold")
        text.set(ha="center", va="center", path_effects=halo)
        texts.append(text)
    if not texts:
        return
    axes.apply_aspect()  # settles the limits, which pixels depend on
    boxes = [text.get_window_extent() for text in texts]
    pixels = axes.transData.transform(np.array(anchors))
    moved = _apart(pixels, np.array([[box.width + 4, box.height + 2] for box in boxes]))
    for text, place in zip(texts, axes.transData.inverted().transform(moved), strict=True):
        text.set_position((place[0], place[1]))


def _densest(points: np.ndarray) -> np.ndarray:
    """Return the point with most company: a mean would fall between the parts of a class that lies in two places."""
    if len(points) > 1000:
        points = points[np.linspace(0, len(points) - 1, 1000).astype(int)]
    distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    width = np.median(distance) / 3 or 1.0
    found: np.ndarray = points[np.exp(-((distance / width) ** 2)).sum(axis=1).argmax()]
    return found


def _apart(anchors: np.ndarray, sizes: np.ndarray, rounds: int = 200) -> np.ndarray:
    """Push overlapping boxes (centres, full widths and heights) apart, vertically: names are wide and low."""
    places = anchors.copy()
    for _ in range(rounds):
        moved = False
        for i in range(len(places)):
            for j in range(i):
                shift, reach = places[i] - places[j], (sizes[i] + sizes[j]) / 2
                if (np.abs(shift) < reach).all():
                    push = (reach[1] - abs(shift[1])) / 2 + 1e-6
                    up = 1.0 if shift[1] >= 0 else -1.0
                    places[i, 1] += up * push
                    places[j, 1] -= up * push
                    moved = True
        if not moved:
            break
    return places
