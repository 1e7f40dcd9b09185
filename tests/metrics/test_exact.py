"""Exact search: beside float64 brute force, on what float32 products get wrong."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exprembed.errors import WrongUseError
from exprembed.metrics import exact
from exprembed.metrics.coded import CodedSearch
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
    np.testing.assert_allclose(
        squared, best, rtol=1e-5, atol=1e-44
    )  # a step of the smallest numbers of float32 is 1e-45
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


@pytest.fixture
def compiled(monkeypatch):
    """Take the way of large searches."""
    monkeypatch.setattr(exact, "_SMALL", 0)


@pytest.mark.parametrize("name", DATA)
@given(seed=st.integers(0, 10_000), d=st.integers(2, 20), k=st.integers(1, 120), masked=st.booleans())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_products_beside_float64(compiled, name, seed, d, k, masked):
    rng = np.random.default_rng(seed)
    n = 900 + int(rng.integers(600))
    references = DATA[name](rng, n, d).astype(np.float32)
    queries = np.concatenate([DATA[name](rng, 20, d).astype(np.float32), references[:20]])
    allowed = rng.random(n) < rng.choice([0.3, 0.6, 0.99]) if masked else None
    check(ExactSearch(references)(queries, k, allowed), queries, references, k, allowed)


@pytest.mark.parametrize("name", DATA)
@given(seed=st.integers(0, 10_000), d=st.integers(1, 20), k=st.integers(1, 300), masked=st.booleans())
@settings(max_examples=12, deadline=None)
def test_codes_beside_float64(name, seed, d, k, masked):
    """One query at a time past a byte a number, within a block and over several."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([900, 4096, 9000])) + int(rng.integers(2))
    references = DATA[name](rng, n, max(d, 2)).astype(np.float32)[:, -d:]
    queries = np.concatenate([DATA[name](rng, 4, max(d, 2)).astype(np.float32)[:, -d:], references[-4:]])
    allowed = rng.random(n) < rng.choice([0.4, 0.99]) if masked else None
    check(CodedSearch(references)(queries, k, allowed), queries, references, k, allowed)


def test_codes_and_a_query_far_away():
    """What rounds to nothing beside the query's own length is not passed over."""
    rng = np.random.default_rng(0)
    references = unit(rng, 5000, 16).astype(np.float32)
    queries = np.float32(10.0) ** np.arange(0, 7)[:, None] * unit(rng, 7, 16).astype(np.float32)
    check(CodedSearch(references)(queries, 10), queries, references, 10)


def test_codes_tell_when_they_are_of_no_use():
    rng = np.random.default_rng(0)
    references = unit(rng, 5000, 16).astype(np.float32)
    assert CodedSearch(references).useful
    references[7] *= 1e6
    search = CodedSearch(references)
    assert not search.useful
    check(search(references[:5], 10), references[:5], references, 10)


@pytest.mark.parametrize("d", [16, 80])
@pytest.mark.parametrize("k", [1, 10, 100])
def test_few_are_looked_into(compiled, d, k, monkeypatch):
    """Of well-separated points most are passed over: what is looked into is not the whole again."""
    from exprembed.metrics import _sift

    looked = []
    for name in ("sift", "sift_products"):
        loop = getattr(_sift, name)
        monkeypatch.setattr(_sift, name, lambda *given, loop=loop: looked.append(loop(*given)))
    rng = np.random.default_rng(0)
    references, queries = unit(rng, 40_000, d).astype(np.float32), unit(rng, 300, d).astype(np.float32)
    check(ExactSearch(references)(queries, k), queries, references, k)
    assert 0 < sum(looked) < 0.4 * references.shape[0] * len(queries)


@pytest.mark.parametrize("search", [ExactSearch, CodedSearch])
def test_first_of_equal_ones(compiled, search):
    """Two thousand copies of one vector: the first rows of them come, in order."""
    rng = np.random.default_rng(0)
    references = unit(rng, 5000, 16).astype(np.float32)
    copies = np.sort(rng.permutation(5000)[:2000])
    references[copies] = references[0]
    queries = np.concatenate([references[:1], unit(rng, 99, 16).astype(np.float32)])
    rows, squared = search(references)(queries, 10)
    assert rows[0].tolist() == np.union1d(copies, 0)[:10].tolist()
    check((rows, squared), queries, references, 10)


@pytest.mark.parametrize("arrangement", ["as it comes", "none of the sample is near", "only the sample is near"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_sample_foretells_or_is_not_believed(compiled, arrangement, masked, monkeypatch):
    """Whatever the sample says of the k-th distance, the answer is the same."""
    monkeypatch.setattr(exact, "_SAMPLE", 64)
    rng = np.random.default_rng(0)
    references, queries = unit(rng, 6400, 6).astype(np.float32), unit(rng, 90, 6).astype(np.float32)
    if arrangement != "as it comes":
        sampled = np.arange(6400) % 100 == 0
        references[sampled if arrangement.startswith("none") else ~sampled] += 5
    allowed = rng.random(6400) < 0.7 if masked else None
    check(ExactSearch(references)(queries, 60, allowed), queries, references, 60, allowed)


def test_selection():
    """The k least come first, whatever stands there."""
    from exprembed.metrics._sift import _least_first

    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 90, 300):
        for high in (2, 2**63):
            for k in {1, (n + 1) // 2, n}:
                keys = rng.integers(high, size=n, dtype=np.uint64)
                due = np.sort(keys)[:k]
                _least_first(keys, k)
                assert np.array_equal(np.sort(keys[:k]), due)
                assert keys[k - 1] == due[-1]


def test_memory_limit(compiled):
    rng = np.random.default_rng(0)
    references, queries = unit(rng, 20_000, 8).astype(np.float32), unit(rng, 500, 8).astype(np.float32)
    small, large = (ExactSearch(references, memory_limit=limit)(queries, 10) for limit in (2**20, 2**28))
    assert np.array_equal(small[0], large[0])
    with pytest.raises(WrongUseError, match="at least 1 MiB"):
        ExactSearch(references, memory_limit=1000)


def test_threads_of_numpy_are_given_back(compiled):
    from threadpoolctl import threadpool_info

    before = threadpool_info()
    rng = np.random.default_rng(0)
    ExactSearch(unit(rng, 5000, 16).astype(np.float32))(unit(rng, 100, 16).astype(np.float32), 5)
    assert threadpool_info() == before
