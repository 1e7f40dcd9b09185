"""Groups that a sampler balances: text, numbers in equal intervals, borders of one's own, missing values."""

import doctest

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed.data import samplers
from exprembed.data.samplers import BalancedSampler, column_groups
from exprembed.errors import WrongUseError


def test_text_and_booleans_are_groups_as_they_are():
    assert column_groups(pd.Series(["b", "a", None])).tolist() == ["b", "a", "missing"]
    assert column_groups(pd.Series([True, False])).tolist() == ["True", "False"]


def test_intervals_are_equally_wide_not_equally_filled():
    ages = pd.Series([0.0] * 90 + [1.0] * 9 + [10.0])
    assert pd.Series(column_groups(ages, 5)).value_counts().to_dict() == {"0": 99, "4": 1}
    assert column_groups(pd.Series([0, 2, 4, 10]), 5).tolist() == [
        "0",
        "1",
        "2",
        "4",
    ]  # closed below, the last above too


@settings(deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=30), st.integers(1, 7))
def test_groups_ascend_with_the_values(values, bins):
    groups = column_groups(pd.Series(values), bins).astype(int)
    assert (np.diff(groups[np.argsort(values, kind="stable")]) >= 0).all()
    assert groups.min() >= 0
    assert groups.max() < bins


def test_borders_of_ones_own_and_missing_values():
    ages = pd.Series([3.0, 20.0, np.nan, 80.0])
    assert column_groups(ages, [20, 40, 60]).tolist() == ["0", "1", "missing", "3"]
    assert column_groups(pd.Series([np.nan, np.nan])).tolist() == ["missing", "missing"]
    for bins, message in ((0, "at least 1"), ([40, 20], "ascend")):
        with pytest.raises(WrongUseError, match=message):
            column_groups(ages, bins)


def test_power_one_fills_batches_evenly_over_age_groups():
    ages = pd.Series(np.random.default_rng(0).beta(1, 6, 5000))
    groups = column_groups(ages, 4)
    sampler = BalancedSampler(groups, 2000, power=1.0)
    drawn = pd.Series(groups[sampler.plan(0).rows]).value_counts(normalize=True)
    assert drawn.to_numpy() == pytest.approx([0.25] * 4, abs=0.03)
    assert pd.Series(groups).value_counts(normalize=True).max() > 0.5


def test_examples():
    assert doctest.testmod(samplers).failed == 0
