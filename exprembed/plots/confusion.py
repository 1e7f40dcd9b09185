"""Confusion matrices: what faces of each class are taken for."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from exprembed.errors import BadInputError
from exprembed.plots.style import INK, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion_matrix_figure(counts: Any, classes: Sequence[str], title: str = "") -> Figure:  # noqa: ANN401 - an array
    """Draw a confusion matrix; each cell holds its share of the row, in percent.

    Args:
        counts: (C, C) faces, row = true class, column = predicted class; a row without faces stays blank.
        classes: names of the classes, in order.
        title: text above the figure.

    Raises:
        BadInputError: another shape than (C, C), or a negative count.

    Example:
        >>> figure = confusion_matrix_figure([[8, 2], [1, 9]], ["fear", "anger"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['80', '20', '10', '90']
    """
    table, size = np.asarray(counts, dtype=float), len(classes)
    if table.shape != (size, size) or not size or not (table >= 0).all():
        raise BadInputError(f"counts ({size}, {size}) of at least 0 are due for {size} classes; got {table.shape}")
    totals = table.sum(axis=1, keepdims=True)
    shares = 100 * table / np.maximum(totals, 1)
    figure = new_figure(1.8 + 0.62 * size, 1.7 + 0.62 * size)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(size, size):
        if totals[row, 0]:
            colour = "white" if shares[row, column] > 55 else INK
            axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=10, color=colour)
    axes.set_xticks(range(size), classes, rotation=45, ha="right", fontsize=10, color=INK)
    axes.set_yticks(range(size), classes, fontsize=10, color=INK)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xlabel("predicted", fontsize=11, color=INK)
    axes.set_ylabel("true (row = 100 %)", fontsize=11, color=INK)
    axes.set_title(textwrap.fill(title, 12 + 5 * size), loc="left", fontsize=12, color=INK)
    figure.tight_layout()
    return figure
