"""Matrices between nodes: what the cells say, and what is refused."""

import doctest

import numpy as np
import pytest

from exprembed.errors import BadInputError
from exprembed.plots import adjacency_figure, matrices, similarity_figure

NODES = ("happiness", "sadness", "valence")


def cells(axes):
    return [text.get_text() for text in axes.texts]


def test_an_adjacency_shows_its_numbers_and_signs():
    figure = adjacency_figure([[0.3, 0, 0.7], [0, 0.3, -0.7], [0.35, -0.35, 0.3]], NODES, "edges")
    (axes,) = figure.axes
    assert cells(axes) == ["0.30", "0", "0.70", "0", "0.30", "-0.70", "0.35", "-0.35", "0.30"]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(NODES)
    assert axes.images[0].get_clim() == (-1, 1)
    assert adjacency_figure(np.eye(3), NODES).axes[0].images[0].get_clim() == (0, 1)


def test_similarity_is_the_cosine_whatever_the_lengths():
    figure = similarity_figure({"one": [[2.0, 0], [0, 5], [-3, 0]], "two": np.eye(3)}, NODES)
    first, second = figure.axes
    assert cells(first) == ["1.00", "0", "-1.00", "0", "1.00", "0", "-1.00", "0", "1.00"]
    assert second.get_title(loc="left") == "two"


def test_nothing_is_drawn_outside_the_picture():
    names = ("a rather long name of a class", "b", "c")
    figure = adjacency_figure(np.eye(3), names, "title")
    figure.canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    for text in [*figure.axes[0].get_xticklabels(), *figure.axes[0].get_yticklabels(), figure.axes[0]._left_title]:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height


@pytest.mark.parametrize("table", [np.eye(2), np.full((3, 3), 1.5), np.full((3, 3), np.nan), [1.0, 2.0]])
def test_bad_adjacency(table):
    with pytest.raises(BadInputError, match="an adjacency"):
        adjacency_figure(table, NODES)


@pytest.mark.parametrize("vectors", [np.eye(2), np.zeros((3, 2)), [1.0, 2.0, 3.0]])
def test_bad_vectors(vectors):
    with pytest.raises(BadInputError, match="vectors other than zero"):
        similarity_figure({"one": vectors}, NODES)
    with pytest.raises(BadInputError, match="one network"):
        similarity_figure({}, NODES)


def test_examples():
    assert doctest.testmod(matrices).failed == 0
