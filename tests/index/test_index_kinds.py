"""Approximate kinds: tuned to a recall, compacted, merged, chosen by size; and vectors back from every kind."""

from types import SimpleNamespace

import faiss
import numpy as np
import pandas as pd
import pytest
import torch

from exprembed.errors import BadInputError, WrongUseError
from exprembed.index import ExpressionIndex, engine, kinds

KINDS = ["flat", "ivf", "hnsw", "IVF16,SQ8", "IVF8,PQ4x4"]
LOSSLESS = KINDS[:3]


def unit(n, d=8, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def made(kind, n=2000):
    index = ExpressionIndex(8, kind=kind)
    index.add(unit(n), ids=[f"x{i}" for i in range(n)], metadata={"n": range(n)})
    return index


def share_found(index, queries, k=10):
    exact = ExpressionIndex(8, kind="flat")
    exact.merge(index)
    due, found = exact.search(queries, k).ids, index.search(queries, k).ids
    return np.mean([len(set(one) & set(other)) / k for one, other in zip(due, found, strict=True)])


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "IVF16,SQ8"])
@pytest.mark.parametrize("recall", [0.5, 0.95])
def test_tuned_to_a_recall(kind, recall, tmp_path):
    index = made(kind, 4002)
    index.remove(["x4001", "x4000"])  # hidden, the last of all
    reached = index.tune(recall, queries=300)
    assert reached >= recall
    # By other queries than those it was tuned on, and against what the kind itself keeps.
    assert share_found(index, unit(300, seed=1)) > recall - 0.05
    index.save(tmp_path)
    back = ExpressionIndex.load(tmp_path)
    assert (back.recall, back.info()["effort"]) == (reached, index.info()["effort"])
    assert (back.search(unit(50, seed=1)).ids == index.search(unit(50, seed=1)).ids).all()


def test_more_recall_takes_more_effort():
    index = made("ivf", 4000)
    efforts = []
    for recall in (0.3, 0.9, 1.0):
        index.tune(recall, queries=200)
        efforts.append(index.info()["effort"]["nprobe"])
    assert efforts[0] < efforts[1] <= efforts[2]


def test_tuning_what_needs_none_or_cannot():
    assert made("flat").tune() == 1
    coarse = made("IVF8,PQ4x4")
    assert coarse.tune(1.0, queries=100) == coarse.recall
    with pytest.raises(WrongUseError, match="in \\(0, 1\\]"):
        made("ivf").tune(1.5)
    with pytest.raises(BadInputError, match="fewer than two"):
        ExpressionIndex(8, kind="hnsw").tune()


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_come_back(kind):
    index = made(kind)
    index.remove(["x5", "x0"])
    found = index.vectors_of(["x7", "x1999", "x7"])
    assert found == pytest.approx(unit(2000)[[7, 1999, 7]], abs=1e-6 if kind in LOSSLESS else 0.6)
    assert index.vectors_of([]).shape == (0, 8)
    with pytest.raises(BadInputError, match="'x5' was already removed"):
        index.vectors_of(["x5"])


@pytest.mark.parametrize("kind", KINDS)
def test_compacting(kind):
    index = made(kind)
    gone = [f"x{i}" for i in range(0, 2000, 2)]
    index.remove(gone)
    assert index.compact() == (0 if kind == "flat" else 1000)
    assert len(index) == 1000
    assert index.ids[0] == "x1"
    assert not set(index.search(unit(50, seed=1), 10).ids.ravel()) & set(gone)
    assert "x7" in index.search(unit(2000)[7], 1 if kind != "IVF8,PQ4x4" else 100).ids
    with pytest.raises(BadInputError, match="was removed, and no id is used twice"):
        index.add(unit(1), ids=["x0"])
    assert index.add(unit(1), ids=["fresh"]) == ["fresh"]


def test_merging(tmp_path):
    one, other = made("ivf"), ExpressionIndex(8)
    other.add(unit(3, seed=5), ["a", "b", "c"], {"who": ["u", "v", "w"]})
    other.remove(["b"])
    assert one.merge(other) == ["a", "c"]
    assert one.search(unit(3, seed=5)[0], 1).ids[0, 0] == "a"
    assert one.metadata.loc["c", "who"] == "w"
    assert pd.isna(one.metadata.loc["x0", "who"])
    with pytest.raises(BadInputError, match="'a' is already in the index"):
        one.merge(other)
    assert len(one) == 2002
    assert one.merge(ExpressionIndex(8)) == []
    with pytest.raises(BadInputError, match="different metric do not mix: 'l2' here, 'cosine' there"):
        one.merge(ExpressionIndex(8, "cosine"))
    with pytest.raises(BadInputError, match="different model do not mix"):
        ExpressionIndex(8, model="m1").merge(ExpressionIndex(8, model="m2"))


def test_auto_leaves_flat_when_it_grows(monkeypatch, tmp_path):
    monkeypatch.setattr(kinds, "AUTO_FLAT", 3000)
    index = made("auto")
    assert index.info()["exact"]
    index.remove(["x3"])
    index.add(unit(2000, seed=1), [f"y{i}" for i in range(2000)])
    info = index.info()
    assert (info["exact"], info["factory"], info["live"]) == (False, "IVF256,Flat", 3999)
    assert index.search(unit(2000, seed=1)[9], 1).ids[0, 0] == "y9"
    assert "x3" not in index.search(unit(2000)[3], 5).ids
    index.save(tmp_path)
    assert ExpressionIndex.load(tmp_path).search(unit(2000)[8], 1).ids[0, 0] == "x8"


def test_auto_takes_bytes_when_memory_asks(monkeypatch, tmp_path):
    """First exact, then lists, then lists of one byte a number: every item is still found, under its own id."""
    monkeypatch.setattr(kinds, "AUTO_FLAT", 1000)
    monkeypatch.setattr(engine, "physical_memory", lambda: 2 * 3000 * (4 * 8 + 8))
    monkeypatch.setattr(engine, "_BLOCK", 700)
    index, factories = ExpressionIndex(dim=8), []
    for part in range(5):
        index.add(unit(1000, seed=part), [f"{part}-{i}" for i in range(1000)])
        index.remove([f"{part}-0"])
        factories.append(index.info()["factory"])
    assert factories == ["Flat", "IVF128,Flat", "IVF128,Flat", "IVF256,SQ8", "IVF256,SQ8"]
    index.tune(0.9)
    for part in range(5):
        found = index.search(unit(1000, seed=part)[1:200], 1).ids[:, 0]
        assert np.mean(found == [f"{part}-{i}" for i in range(1, 200)]) > 0.8
    index.save(tmp_path)
    assert "SQ8" in ExpressionIndex.load(tmp_path).info()["factory"]


class OtherBuild:
    """FAISS as its GPU build looks, with copies on the CPU for copies on a GPU."""

    def __init__(self):
        self.copies = []

    def __getattr__(self, name):
        return getattr(faiss, name)

    def StandardGpuResources(self):
        return None

    def GpuMultipleClonerOptions(self):
        return SimpleNamespace(shard=False)

    def index_cpu_to_gpu(self, resources, number, index):
        self.copies.append(number)
        return faiss.clone_index(index)

    def index_cpu_to_all_gpus(self, index, options):
        self.copies.append("shards" if options.shard else "copies")
        return faiss.clone_index(index)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_lists_on_a_gpu(monkeypatch, device):
    """What FAISS's GPU build is asked for, and that its answers mean the same: with a stand-in for the GPU."""
    index, queries = made("IVF16,Flat"), unit(50, seed=5)
    index.remove(["x3"])
    due = index.search(queries, 5)
    monkeypatch.setattr("exprembed.index.expression_index.check_device", lambda device: device)
    with pytest.raises(WrongUseError, match="GPU build"):
        index.to(device)
    build = OtherBuild()
    monkeypatch.setattr(index._engine, "_faiss", build)
    found = index.to(device).search(queries, 5)
    assert np.array_equal(due.ids, found.ids)
    index.search(queries, 5)
    index.add(unit(3, seed=9), ["n0", "n1", "n2"])
    assert index.search(unit(3, seed=9), 1).ids[:, 0].tolist() == ["n0", "n1", "n2"]
    assert build.copies == [1 if ":" in device else "shards"] * 2  # a copy until something changes
    with pytest.raises(WrongUseError, match="only flat and IVF"):
        made("hnsw").to(device)


@pytest.mark.skipif(
    not (torch.cuda.is_available() and hasattr(faiss, "StandardGpuResources")), reason="no GPU for FAISS"
)
def test_lists_on_a_real_gpu():
    index, queries = made("IVF16,Flat"), unit(50, seed=5)
    due, found = index.search(queries, 5), index.to("cuda").search(queries, 5)
    assert np.mean(due.ids == found.ids) > 0.99


@pytest.mark.parametrize("kind", ["flat", "IVF16,Flat", "IVF16,SQ8"])
def test_an_index_in_its_file_changes_only_in_memory(kind, tmp_path):
    """Loaded vectors and lists stay in the file: changing the index copies them, and the file is what it was."""
    made(kind).save(tmp_path)
    before = (tmp_path / "vectors.faiss").read_bytes()
    one, other = ExpressionIndex.load(tmp_path), ExpressionIndex.load(tmp_path)
    due = other.search(unit(50, seed=5), 5)
    assert np.allclose(one.vectors_of(["x0", "x1999"]), unit(2000)[[0, 1999]], atol=0.02)
    one.add(unit(30, seed=9), [f"n{i}" for i in range(30)])
    one.remove(["x5", "n3"])
    assert one.search(unit(30, seed=9)[:2], 1).ids[:, 0].tolist() == ["n0", "n1"]
    assert (tmp_path / "vectors.faiss").read_bytes() == before
    assert np.array_equal(other.search(unit(50, seed=5), 5).ids, due.ids)
    one.compact()
    one.save(tmp_path)
    assert np.array_equal(
        other.search(unit(50, seed=5), 5).ids, due.ids
    )  # the file that it reads lives on without a name
    again = ExpressionIndex.load(tmp_path)
    assert len(again) == 2028
    assert again.search(unit(30, seed=9)[:2], 1).ids[:, 0].tolist() == ["n0", "n1"]
