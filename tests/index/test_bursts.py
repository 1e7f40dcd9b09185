"""Bursts of photos: by time, and the one that stands for each."""

import doctest

import numpy as np
import pytest

from exprembed.errors import BadInputError, WrongUseError
from exprembed.index import bursts
from exprembed.index.bursts import best_of_bursts

NEAR = [[0.0, 1.0], [0.1, 1.0], [0.3, 1.0]]


def test_example():
    assert doctest.testmod(bursts).failed == 0


def test_order_of_time_counts_not_of_files():
    assert best_of_bursts(NEAR, ["c", "b", "a"], [9.0, 0.0, 8.0]) == ["b", "a"]
    assert best_of_bursts(NEAR, ["c", "b", "a"], [9.0, 0.0, 8.0], gap=0.5) == ["b", "a", "c"]


def test_a_chain_of_photos_is_one_burst():
    assert best_of_bursts(NEAR, list("abc"), [0.0, 3.0, 6.0]) == ["b"]
    assert best_of_bursts(NEAR, list("abc"), [0.0, 3.1, 6.2]) == ["a", "b", "c"]


def test_most_faces_first_then_the_most_typical():
    vectors = [[0.0, 1.0], [1.0, 0.0], [0.7, 0.7], [0.6, 0.8]]
    assert best_of_bursts(vectors, ["two", "two", "one", "other"], [0.0, 0.0, 1.0, 2.0]) == ["two"]
    assert best_of_bursts(vectors[2:] * 2, ["a", "b", "c", "d"], [0.0, 1.0, 2.0, 3.0])[0] in "abcd"
    assert best_of_bursts(np.ones((3, 2)), list("abc"), [2.0, 1.0, 0.0]) == ["c"]  # of equal ones the first in time


def test_unknown_times_stand_alone():
    assert best_of_bursts(NEAR, list("abc"), [None, 5.0, float("nan")]) == ["b", "a", "c"]


def test_bad_bursts():
    with pytest.raises(BadInputError, match="'a' has two times"):
        best_of_bursts(NEAR, ["a", "a", "b"], [0.0, 1.0, 2.0])
    with pytest.raises(BadInputError, match="3 faces need as many photos and times; got 2 and 3"):
        best_of_bursts(NEAR, ["a", "b"], [0.0, 1.0, 2.0])
    with pytest.raises(WrongUseError, match="got -1"):
        best_of_bursts(NEAR, list("abc"), [0.0, 1.0, 2.0], gap=-1)
