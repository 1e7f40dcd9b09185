"""Tracks and smoothed vectors, beside what they are by definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exprembed.errors import WrongUseError
from exprembed.pipeline import Smoother, Tracker, overlap

BOX = st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 15)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(one=BOX, other=BOX)
def test_overlap_counts_pixels(one, other):
    def pixels(box):
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    due = len(pixels(one) & pixels(other)) / len(pixels(one) | pixels(other))
    assert overlap([one], [other])[0, 0] == pytest.approx(due)


def test_faces_keep_their_numbers_while_they_move_in_any_order():
    tracker = Tracker(patience=0.5)
    for step in range(20):
        boxes = [[step, 0, step + 20, 20], [100 - step, 50, 130 - step, 80]]
        if step % 2 == 0:
            assert tracker(step / 25, boxes) == [0, 1]
        else:
            assert tracker(step / 25, boxes[::-1]) == [1, 0]
    assert tracker(20 / 25, []) == []
    assert tracker(21 / 25, [[80, 50, 110, 80], [200, 0, 220, 20]]) == [1, 2]


def test_a_track_that_was_away_too_long_is_another():
    tracker = Tracker(patience=0.5)
    assert tracker(0.0, [[0, 0, 10, 10]]) == [0]
    assert tracker(0.4, [[0, 0, 10, 10]]) == [0]
    assert tracker(1.0, [[0, 0, 10, 10]]) == [1]


def test_the_largest_overlap_is_joined_first():
    tracker = Tracker()
    tracker(0, [[0, 0, 10, 10], [6, 0, 16, 10]])
    assert tracker(0.1, [[5, 0, 15, 10], [1, 0, 11, 10]]) == [1, 0]


@given(st.lists(st.tuples(st.floats(0.01, 2), st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=20))
def test_smoothing_is_the_recursion(steps):
    smoother, time, due = Smoother(0.7, unit=False), 0.0, None
    for wait, *vector in steps:
        time += wait
        share = 1 - np.exp(-wait / 0.7)
        due = np.array(vector) if due is None else share * np.array(vector) + (1 - share) * due
        np.testing.assert_allclose(smoother(3, time, np.array(vector)), due, atol=1e-6)


def test_smoothed_unit_vectors_have_length_one_and_tracks_are_apart():
    smoother = Smoother(1.0, unit=True)
    smoother(0, 0.0, np.array([1.0, 0.0]))
    assert smoother(1, 0.0, np.array([0.0, 1.0])).tolist() == [0, 1]
    assert np.linalg.norm(smoother(0, 1.0, np.array([0.0, 1.0]))) == pytest.approx(1)
    for track in range(2, 1003):
        smoother(track, 2.0, np.array([1.0, 0.0]))
    assert smoother(0, 3.0, np.array([0.0, 1.0])).tolist() == [0, 1]  # forgotten: memory does not grow with a film


@pytest.mark.parametrize("make", [lambda: Tracker(least=0), lambda: Tracker(patience=-1), lambda: Smoother(0, True)])
def test_wrong_numbers_are_named(make):
    with pytest.raises(WrongUseError):
        make()
