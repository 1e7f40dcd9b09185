"""The GPU's exact search: beside float64 brute force on the CPU, and the same index on a GPU where there is one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed.errors import WrongUseError
from exprembed.index import ExpressionIndex
from exprembed.index.torch_search import TorchSearch


def unit(rng, n, d):
    x = rng.normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


DATA = {
    "unit": unit,
    "far from the origin": lambda rng, n, d: 1000 + rng.normal(size=(n, d)),
    "many duplicates": lambda rng, n, d: rng.integers(3, size=(n, d)),
    "on a circle": lambda rng, n, d: np.pad(unit(rng, n, 2), ((0, 0), (0, d - 2))),
    "large": lambda rng, n, d: 1e15 * rng.normal(size=(n, d)),
}


@pytest.mark.parametrize("name", DATA)
@given(seed=st.integers(0, 10_000), d=st.integers(2, 20), k=st.integers(1, 12), masked=st.booleans())
@settings(max_examples=12, deadline=None)
def test_beside_float64(name, seed, d, k, masked):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(40, 900))
    references = DATA[name](rng, n, d).astype(np.float32)
    queries = np.concatenate([DATA[name](rng, 9, d).astype(np.float32), references[:9]])
    allowed = rng.random(n) < 0.6 if masked else None
    rows, squared = TorchSearch(references, "cpu", memory_limit=2**16)(queries, k, allowed)
    every = ((queries[:, None].astype(np.float64) - references[None].astype(np.float64)) ** 2).sum(axis=2)
    if allowed is not None:
        every[:, ~allowed] = np.inf
    best = np.sort(every, axis=1)[:, :k]
    assert all(len(set(row)) == k for row in rows.tolist())
    np.testing.assert_allclose(np.take_along_axis(every, rows, axis=1), best, rtol=1e-5)
    np.testing.assert_allclose(squared, best, rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_an_index_on_a_gpu(tmp_path):
    rng = np.random.default_rng(0)
    index = ExpressionIndex(16)
    index.add(unit(rng, 50_000, 16))
    index.remove(["5", "77"])
    queries = unit(rng, 500, 16)
    due, found = index.search(queries, 10), index.to("cuda").search(queries, 10)
    np.testing.assert_allclose(found.distances, due.distances, rtol=1e-5)
    index.save(tmp_path)
    again = ExpressionIndex.load(tmp_path, device="cuda").search(queries, 10)
    assert (again.ids == found.ids).all()


def test_an_index_by_torch(monkeypatch):
    """The way through the index, by a device that is always there."""
    monkeypatch.setattr("exprembed.index.expression_index.check_device", lambda device: device)
    rng = np.random.default_rng(0)
    index = ExpressionIndex(16, "cosine")
    index.add(unit(rng, 500, 16))
    index.remove(["5", "77"])
    queries = unit(rng, 50, 16)
    due, found = index.search(queries, 10), index.to("cpu:0").search(queries, 10)
    assert index.info()["device"] == "cpu:0"
    np.testing.assert_allclose(found.distances, due.distances, rtol=1e-4)
    rough = ExpressionIndex(16, kind="hnsw")
    with pytest.raises(WrongUseError, match="only flat and IVF indexes go to 'cpu:0'"):
        rough.to("cpu:0")
