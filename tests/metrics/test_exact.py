"""Exact search by groups: beside float64 brute force, on what float32 products get wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed.errors import WrongUseError
from exprembed.metrics import exact
from exprembed.metrics.exact import ExactSearch


def unit(rng, n, d):
    x = rng.normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def clusters(rng, n, d):
    return rng.normal(size=(7, d))[rng.integers(7, size=n)] + 0.01 * rng.normal(size=(n, d))


DATA = {
    "unit": unit,
    "clusters": clusters,
    "far from the origin": lambda rng, n, d: 1000 + rng.normal(size=(n, d)),
    "of many lengths": lambda rng, n, d: unit(rng, n, d) * 10 ** rng.uniform(-3, 3, size=(n, 1)),
    "many duplicates": lambda rng, n, d: rng.integers(3, size=(n, d)),
    "all the same": lambda rng, n, d: np.ones((n, d)),
    "on a circle": lambda rng, n, d: np.pad(unit(rng, n, 2), ((0, 0), (0, d - 2))),
    "small": lambda rng, n, d: 1e-15 * rng.normal(size=(n, d)),
    "large": lambda rng, n, d: 1e15 * rng.normal(size=(n, d)),
}


def brute(queries, references, allowed=None):
    differences = queries[:, None].astype(np.float64) - references[None].astype(np.float64)
    squared = (differences**2).sum(axis=2)
    if allowed is not None:
        squared[:, ~allowed] = np.inf
    return squared


def check(found, queries, references, k, allowed=None):
    rows, squared = found
    every = brute(queries, references, allowed)
    assert rows.shape == squared.shape == (len(queries), k)
    assert all(len(set(row)) == k for row in rows.tolist())
    best = np.sort(every, axis=1)[:, :k]
    np.testing.assert_allclose(np.take_along_axis(every, rows, axis=1), best, rtol=1e-5)  # the same up to ties
    np.testing.assert_allclose(squared, best, rtol=1e-5)
    assert (np.diff(squared, axis=1) >= 0).all()


@pytest.mark.parametrize("name", DATA)
@given(seed=st.integers(0, 10_000), d=st.integers(2, 20), k=st.integers(1, 12), masked=st.booleans())
@settings(max_examples=12, deadline=None)
def test_beside_float64(name, seed, d, k, masked):
    rng = np.random.default_rng(seed)
    n = 3000 + int(rng.integers(64))
    references = DATA[name](rng, n, d).astype(np.float32)
    queries = np.concatenate([DATA[name](rng, 20, d).astype(np.float32), references[:20]])
    allowed = rng.random(n) < rng.choice([0.05, 0.6, 0.99]) if masked else None
    search = ExactSearch(references)
    check(search(queries, k, allowed), queries, references, k, allowed)


@pytest.mark.parametrize("k", [1, 10, 100])
def test_groups_answer(k):
    """Well-separated points need no second look."""
    rng = np.random.default_rng(0)
    references, queries = unit(rng, 5000, 16).astype(np.float32), unit(rng, 300, 16).astype(np.float32)
    search = ExactSearch(references, few=lambda *_: pytest.fail("not by groups"))
    check(search(queries, k), queries, references, k)


def test_who_is_not_sure_asks_again():
    """Five hundred copies of one vector cannot be told apart by the maxima of their groups."""
    rng = np.random.default_rng(0)
    references = unit(rng, 5000, 16).astype(np.float32)
    references[rng.permutation(5000)[:2000]] = references[0]
    queries = np.concatenate([references[:1], unit(rng, 99, 16).astype(np.float32)])
    asked = []

    def few(some, k, allowed):
        asked.append(some)
        return ExactSearch(references)._by_differences(some, k, allowed)

    check(ExactSearch(references, few=few)(queries, 10), queries, references, 10)
    assert any((some == references[0]).all(axis=1).any() for some in asked)


def test_memory_limit():
    rng = np.random.default_rng(0)
    references, queries = unit(rng, 20_000, 8).astype(np.float32), unit(rng, 500, 8).astype(np.float32)
    small, large = (ExactSearch(references, memory_limit=limit)(queries, 10) for limit in (2**20, 2**28))
    assert np.array_equal(small[0], large[0])
    with pytest.raises(WrongUseError, match="at least 1 MiB"):
        ExactSearch(references, memory_limit=1000)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 900), k=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_largest_by_eights(seed, n, k):
    rng = np.random.default_rng(seed)
    values = rng.integers(50, size=(n, 5)).astype(np.float32)
    k = min(k, n)
    places, least = exact._largest(values, k)
    found = np.sort(np.take_along_axis(values.T, places, axis=1), axis=1)
    assert np.array_equal(found, np.sort(values.T, axis=1)[:, n - k :])
    assert np.array_equal(least, found[:, 0])


def test_threads_of_numpy_are_given_back():
    from threadpoolctl import threadpool_info

    before = threadpool_info()
    rng = np.random.default_rng(0)
    ExactSearch(unit(rng, 5000, 16).astype(np.float32))(unit(rng, 100, 16).astype(np.float32), 5)
    assert threadpool_info() == before
