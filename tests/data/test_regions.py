"""Regions of the valence-arousal plane: a transcription point by point, turns and mirrors, borders, the origin."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed.data import regions, va_regions
from exprembed.data.regions import REGIONS, SECTORS, region_centres, region_count
from exprembed.errors import BadInputError, WrongUseError

unit = st.floats(-1, 1, allow_subnormal=False)


def transcribed(valence, arousal, count):
    """Walk round from the axis of positive valence, sector by sector."""
    angle = math.acos(max(-1.0, min(1.0, valence / math.hypot(valence, arousal))))
    angle = angle if arousal >= 0 else 2 * math.pi - angle
    for number in range(count):
        if number * 2 * math.pi / count <= angle < (number + 1) * 2 * math.pi / count:
            return number
    raise AssertionError


def clear_of_borders(point, count, margin=1e-6):
    turn = math.atan2(point[1], point[0]) / (2 * math.pi) * count
    return math.hypot(*point) > 1e-3 and abs(turn - round(turn)) > margin


@pytest.mark.parametrize("kind", SECTORS)
def test_sectors_equal_a_walk_round(kind):
    points = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    expected = [transcribed(*point, SECTORS[kind]) for point in points]
    assert va_regions(points, kind).tolist() == expected
    assert set(expected) == set(range(SECTORS[kind]))


@settings(deadline=None)
@given(unit, unit, st.sampled_from(list(SECTORS)), st.integers(0, 11))
def test_a_turn_by_a_sector_is_the_next_sector(valence, arousal, kind, turns):
    count = SECTORS[kind]
    if not clear_of_borders((valence, arousal), count):
        return
    angle = 2 * math.pi * turns / count
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    point = np.array([valence, arousal]) / 2  # stays in the square
    first, second = va_regions(np.stack([point, turn @ point]), kind)
    assert second == (first + turns) % count


@settings(deadline=None)
@given(unit, unit, st.floats(0.01, 1), st.sampled_from(list(SECTORS)))
def test_strength_does_not_count(valence, arousal, factor, kind):
    if clear_of_borders((valence, arousal), SECTORS[kind]):
        near, far = va_regions([[factor * valence, factor * arousal], [valence, arousal]], kind)
        assert near == far


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(unit, unit), min_size=1, max_size=20), st.sampled_from(list(SECTORS)))
def test_mirrored_points_have_mirrored_counts(points, kind):
    count = SECTORS[kind]
    points = np.array([point for point in points if clear_of_borders(point, count)]).reshape(-1, 2)
    own, mirrored = (
        np.bincount(va_regions(half, kind), minlength=count) for half in (points, points * np.array([1, -1]))
    )
    assert own.tolist() == mirrored[::-1].tolist()
    assert own.sum() == len(points)


@settings(deadline=None)
@given(unit, unit)
def test_kinds_agree_with_each_other(valence, arousal):
    """Eight and twelve part the quarters, and off the axes a quarter is a pair of signs."""
    found = {kind: va_regions([[valence, arousal]], kind)[0] for kind in REGIONS}
    if clear_of_borders((valence, arousal), 12) and clear_of_borders((valence, arousal), 8):
        assert found["quarter"] == found["eight"] // 2 == found["twelve"] // 3
        assert found["half"].tolist() == [found["quarter"] in (0, 3), found["quarter"] in (0, 1)]


@pytest.mark.parametrize("kind", SECTORS)
def test_a_border_belongs_to_the_sector_that_begins_there(kind):
    count = SECTORS[kind]
    assert va_regions([[1, 0], [0, 1], [-1, 0], [0, -1]], kind).tolist() == [0, count // 4, count // 2, 3 * count // 4]
    assert va_regions([[1, -0.0], [-1, -0.0]], kind).tolist() == [0, count // 2]
    assert va_regions([[1, -1e-17], [1, -1e-300]], kind).tolist() == [0, 0]  # the angle rounds to a whole turn


def test_the_origin_has_no_sector_and_two_signs():
    nothing = [[0.0, 0.0], [-0.0, -0.0], [np.nan, 0.5], [0.5, np.nan]]
    assert va_regions(nothing, "eight").tolist() == [-1] * 4
    assert va_regions(nothing, "half").tolist() == [[1, 1], [1, 1], [-1, -1], [-1, -1]]
    assert va_regions([[0.3, -0.2], [-0.3, 0.2]], "half").tolist() == [[1, 0], [0, 1]]
    assert va_regions(np.empty((0, 2)), "eight").shape == (0,)


@pytest.mark.parametrize("kind", SECTORS)
def test_centres_are_centres_of_gravity(kind):
    rng, count = np.random.default_rng(1), SECTORS[kind]
    points = rng.uniform(-1, 1, (200_000, 2))
    points = points[np.hypot(*points.T) < 1]
    found = va_regions(points, kind)
    means = np.stack([points[found == number].mean(axis=0) for number in range(count)])
    assert np.abs(means - region_centres(kind)).max() < 0.01
    assert va_regions(region_centres(kind), kind).tolist() == list(range(count))
    assert region_count(kind) == count


def test_centres_of_halves_add_up_to_those_of_quarters():
    assert region_centres("half").sum(axis=0) == pytest.approx(region_centres("quarter")[0])
    assert region_count("half") == 2


def test_refused():
    for ask in (lambda: va_regions([[0, 0]], "eighth"), lambda: region_centres("quarters")):
        with pytest.raises(WrongUseError, match="did you mean"):
            ask()
    for points in ([0.1, 0.2], [[0.1, 0.2, 0.3]], [[1.1, 0]]):
        with pytest.raises(BadInputError, match="valence and arousal"):
            va_regions(points, "eight")


def test_examples():
    assert doctest.testmod(regions, extraglobs={"np": np}).failed == 0
