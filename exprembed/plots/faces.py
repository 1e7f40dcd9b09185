"""Rows of small pictures: a face, what a model makes of it, and what it should be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from exprembed.errors import BadInputError
from exprembed.plots.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_LETTER = 0.075  # inches that a letter of a row's name takes at most


def face_rows(rows: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """Draw rows of pictures under each other, a column for each face (GCNet, Fig. 4, 8 and 10).

    Args:
        rows: name -> (n, H, W) grey or (n, H, W, 3) pictures, uint8 or float in [0, 1] (what lies outside is cut off).
        title: text above the figure.

    Returns:
        A matplotlib Figure.

    Raises:
        BadInputError: no row, or rows of different lengths.

    Example:
        >>> type(face_rows({"input": np.zeros((2, 8, 8)), "reference": np.ones((2, 8, 8))})).__name__
        'Figure'
    """
    lengths = {name: len(pictures) for name, pictures in rows.items()}
    if not rows or len(set(lengths.values())) != 1 or not max(lengths.values()):
        raise BadInputError(f"rows of as many pictures each are due; got {lengths}")
    columns = next(iter(lengths.values()))
    label = 0.2 + _LETTER * max(map(len, rows))  # inches
    width, height = label + 0.9 * columns, 0.4 + 0.95 * len(rows)
    figure = new_figure(width, height)
    places = {"left": label / width, "right": 1.0, "bottom": 0.02, "top": 1 - 0.4 / height}
    axes = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw=places)
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            values = picture / 255 if picture.dtype == np.uint8 else np.clip(picture, 0, 1)
            axis.imshow(values, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            for side in axis.spines.values():
                side.set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    if title:
        figure.suptitle(title, fontsize=9)
    return figure
