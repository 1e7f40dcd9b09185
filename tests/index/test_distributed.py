"""Shards searched as one: what one index of everything finds."""

import doctest

import numpy as np
import pytest

from exprembed.errors import BadInputError, WrongUseError
from exprembed.index import ExpressionIndex, distributed
from exprembed.index.distributed import ShardedIndex


@pytest.fixture
def shards(tmp_path):
    """Three shards of 300 items, and one index of all."""
    rng = np.random.default_rng(0)
    whole, folders = ExpressionIndex(8, "cosine"), []
    for number in range(3):
        vectors, ids = rng.normal(size=(100, 8)), [f"s{number}-{i}" for i in range(100)]
        part = ExpressionIndex(8, "cosine")
        for index in (part, whole):
            index.add(vectors, ids, {"age": range(100)})
        part.save(tmp_path / f"{number}")
        folders.append(tmp_path / f"{number}")
    return folders, whole


def check(index, whole):
    queries = np.random.default_rng(1).normal(size=(20, 8))
    assert (len(index), index.dim, index.metric) == (300, 8, "cosine")
    for options in ({}, {"where": "age < 50"}, {"exclude": [["s0-1", "s2-7"]] * 20}):
        due, found = whole.search(queries, 7, **options), index.search(queries, 7, **options)
        assert found.ids.tolist() == due.ids.tolist()
        np.testing.assert_allclose(found.distances, due.distances, atol=1e-6)
    assert index.search(queries[0], 400).ids[0, 299:].tolist() == [
        whole.search(queries[0], 300).ids[0, 299],
        *[None] * 100,
    ]
    with pytest.raises(BadInputError, match="8 dimensions"):
        index.search([[1.0, 2.0]])
    with pytest.raises(WrongUseError):
        index.search(queries, 3, where="age <")


def test_local(shards):
    folders, whole = shards
    check(ShardedIndex(folders), whole)


def test_ray(shards):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        folders, whole = shards
        check(ShardedIndex(folders, engine="ray"), whole)
        with pytest.raises(BadInputError, match="does not exist"):
            ShardedIndex([*folders, "absent"], engine="ray")
    finally:
        ray.shutdown()


def test_an_item_of_two_shards_comes_once(shards, tmp_path):
    folders, _ = shards
    again = ExpressionIndex(8, "cosine")
    again.add(ExpressionIndex.load(folders[0]).vectors_of(["s0-3"]), ["s0-3"], {"age": [3]})
    again.save(tmp_path / "again")
    vector = again.vectors_of(["s0-3"])
    found = ShardedIndex([*folders, tmp_path / "again"]).search(vector, 5)
    assert found.ids[0].tolist().count("s0-3") == 1
    assert None not in found.ids[0]


def test_bad_shards(shards, tmp_path):
    folders, _ = shards
    ExpressionIndex(4, "cosine").save(tmp_path / "other")
    with pytest.raises(BadInputError, match=r"different dim do not belong together: 8 in .*4 in"):
        ShardedIndex([*folders, tmp_path / "other"])
    with pytest.raises(BadInputError, match="given twice"):
        ShardedIndex([folders[0], folders[0]])
    with pytest.raises(WrongUseError, match="at least one"):
        ShardedIndex([])
    with pytest.raises(WrongUseError, match="'local'"):
        ShardedIndex(folders, engine="locl")


def test_example():
    assert doctest.testmod(distributed).failed == 0
