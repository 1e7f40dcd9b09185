"""Confusion matrices as figures: each cell is its share of the row."""

import doctest

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from exprembed.errors import BadInputError
from exprembed.plots import confusion, confusion_matrix_figure


def test_cells_are_shares_of_their_row():
    figure = confusion_matrix_figure([[30, 10, 0], [0, 0, 0], [1, 1, 1]], ["a", "b", "c"], "title")
    (axes,) = figure.axes
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "75", (1, 0): "25", (2, 0): "0", (0, 2): "33", (1, 2): "33", (2, 2): "33"}
    assert np.asarray(axes.images[0].get_array())[0].tolist() == [75, 25, 0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.get_title(loc="left") == "title"
    colours = {text.get_position(): to_rgba(text.get_color()) for text in axes.texts}
    assert colours[0, 0] == to_rgba("white")  # on a dark cell
    assert colours[1, 0] != to_rgba("white")


@pytest.mark.parametrize("counts", [[[1, 2]], [[1, -1], [0, 1]], [1, 2], [[np.nan, 0], [0, 1]]])
def test_refused(counts):
    with pytest.raises(BadInputError, match=r"counts \(2, 2\)"):
        confusion_matrix_figure(counts, ["a", "b"])


def test_examples():
    assert doctest.testmod(confusion).failed == 0
