"""Matrices between named nodes: a graph's adjacency, the cosine similarity of vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from exprembed.errors import BadInputError
from exprembed.plots.style import INK, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DARK = 0.6  # of the scale: numbers on darker cells are white
_CELL = 0.52  # inches


def adjacency_figure(adjacency: np.ndarray, names: Sequence[str], title: str = "") -> Figure:
    """Draw a graph's adjacency (thesis, Fig. 6.3.3): row i says how much of each node flows into node i.

    Args:
        adjacency: (n, n) in [-1, 1].
        names: (n,) the nodes.
        title: text above the figure.

    Raises:
        BadInputError: another shape, or numbers out of their range.

    Example:
        >>> type(adjacency_figure(np.eye(2), ["happiness", "valence"])).__name__
        'Figure'
    """
    table = np.asarray(adjacency, dtype=np.float64)
    if table.shape != (len(names),) * 2 or not (np.abs(table) <= 1 + 1e-9).all():
        raise BadInputError(f"an adjacency ({len(names)}, {len(names)}) in [-1, 1] is due; got {table.shape}")
    return _panels({title: table}, names, -1.0 if (table < 0).any() else 0.0)


def similarity_figure(weights: Mapping[str, np.ndarray], names: Sequence[str]) -> Figure:
    """Draw the cosine similarity of learned classifiers and regressors, a panel a network (thesis, Fig. 6.4.3).

    Args:
        weights: title -> (n, D) vectors.
        names: (n,) what the vectors are of.

    Raises:
        BadInputError: no network, another number of vectors, or a vector of zeros.

    Example:
        >>> type(similarity_figure({"multi-task": np.eye(2)}, ["happiness", "valence"])).__name__
        'Figure'
    """
    panels = {}
    for title, given in weights.items():
        vectors = np.asarray(given, dtype=np.float64)
        length = np.linalg.norm(vectors, axis=1, keepdims=True) if vectors.ndim == 2 else np.zeros(1)
        if len(vectors) != len(names) or not length.all():
            raise BadInputError(f"{title!r}: {len(names)} vectors other than zero are due; got {vectors.shape}")
        panels[title] = (vectors / length) @ (vectors / length).T
    if not panels:
        raise BadInputError("no vectors to compare; one network at least is due")
    return _panels(panels, names, -1.0)


def _panels(panels: Mapping[str, np.ndarray], names: Sequence[str], low: float) -> Figure:
    side = _CELL * len(names)
    left = 0.3 + 0.085 * max(len(name) for name in names)  # the longest name, in inches
    width, height = len(panels) * (left + side) + 0.15, left + side + 0.45
    figure = new_figure(width, height)
    for place, (title, values) in enumerate(panels.items()):
        x = place * (left + side) + left
        axes = figure.add_axes((x / width, left / height, side / width, side / height))
        _draw(axes, values, names, low)
        axes.set_title(title, loc="left", fontsize=11, color=INK)
    return figure


def _draw(axes: Axes, shown: np.ndarray, names: Sequence[str], low: float) -> None:
    """Draw a matrix (n, n) with its numbers: white is 0, blue 1, red -1 (where `low` is -1)."""
    axes.imshow(shown, cmap="RdBu" if low < 0 else "Blues", vmin=low, vmax=1)
    for row, column in np.argwhere(np.isfinite(shown)):
        value = shown[row, column]
        color = "white" if abs(value) > _DARK else INK
        words = f"{value:.2f}" if value else "0"
        axes.text(column, row, words, ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0, labelsize=9, colors=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
