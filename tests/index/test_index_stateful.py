"""The index against a dictionary, through random lives of add, remove, save, load and search."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from exprembed.errors import BadInputError
from exprembed.index import ExpressionIndex

DIM = 3
GRID = st.integers(-3, 3)
VECTORS = st.tuples(GRID, GRID, GRID).filter(any)  # a small grid: duplicates and ties are common


def distance(x, y, metric):
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if metric == "l2":
        return float(np.linalg.norm(x - y))
    return float(1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y))


class Life(RuleBasedStateMachine):
    kind = "flat"
    live = Bundle("live")
    gone = Bundle("gone")

    @initialize(metric=st.sampled_from(["l2", "cosine"]))
    def start(self, metric):
        self.folder = tempfile.TemporaryDirectory()
        self.metric = metric
        self.index = ExpressionIndex(DIM, metric, self.kind)
        self.model = {}
        self.used = 0

    @rule(
        target=live,
        vectors=st.lists(VECTORS, max_size=6),
        ages=st.sampled_from(["all", "none", "other"]),
        auto=st.booleans(),
    )
    def add(self, vectors, ages, auto):
        ids = [str(self.used + i) if auto else f"x{self.used + i}" for i in range(len(vectors))]
        metadata = {
            "all": {"age": [v[0] for v in vectors]},
            "none": None,
            "other": {"eye": [bool(v[1] > 0) for v in vectors]},
        }[ages]
        matrix = np.array(vectors, dtype=float).reshape(-1, DIM)
        assert self.index.add(matrix, None if auto else ids, metadata) == ids
        for item, vector in zip(ids, vectors, strict=True):
            self.model[item] = (vector, vector[0] if ages == "all" else None)
        self.used += len(vectors)
        return multiple(*ids)

    @rule(target=gone, ids=st.sets(consumes(live), max_size=4))
    def remove(self, ids):
        assert self.index.remove(sorted(ids)) == len(ids)
        for item in ids:
            del self.model[item]
        return multiple(*ids)

    @rule(item=st.one_of(gone, live))
    def no_id_is_used_twice(self, item):
        with pytest.raises(BadInputError, match=r"removed|already"):
            self.index.add([[1.0, 0.0, 0.0]], [item])

    @rule(item=gone)
    def removed_items_cannot_be_removed(self, item):
        with pytest.raises(BadInputError, match="already removed"):
            self.index.remove([item])

    @rule()
    def save_and_load(self):
        self.index.save(Path(self.folder.name) / "index")
        self.index = ExpressionIndex.load(Path(self.folder.name) / "index")

    @rule()
    def compact(self):
        hidden = self.index.compact()
        assert hidden == 0 or self.kind != "flat"
        assert self.index.compact() == 0

    @rule(item=live)
    def vector_of(self, item):
        vector = np.array(self.model[item][0], dtype=float)
        due = vector / np.linalg.norm(vector) if self.metric == "cosine" else vector
        assert self.index.vectors_of([item])[0] == pytest.approx(due, abs=1e-6)

    @rule(target=live, vectors=st.lists(VECTORS, max_size=3))
    def merge(self, vectors):
        other = ExpressionIndex(DIM, self.metric)
        ids = [f"x{self.used + i}" for i in range(len(vectors))]
        other.add(np.array(vectors, dtype=float).reshape(-1, DIM), ids, {"age": [v[0] for v in vectors]})
        assert self.index.merge(other) == ids
        self.model |= {item: (vector, vector[0]) for item, vector in zip(ids, vectors, strict=True)}
        self.used += len(vectors)
        return multiple(*ids)

    @rule(queries=st.lists(VECTORS, min_size=1, max_size=4), k=st.integers(1, 8), age=st.none() | GRID, data=st.data())
    def search(self, queries, k, age, data):
        self.index.add(np.empty((0, DIM)), metadata={"age": np.empty(0, dtype=int)})  # the column exists
        exclude = [data.draw(st.sets(st.sampled_from([*self.model, "stranger"]), max_size=3)) for _ in queries]
        where = None if age is None else f"age >= {age}"
        result = self.index.search(np.array(queries, dtype=float), k, where, exclude)
        assert result.ids.shape == (len(queries), k)
        for row, (query, left_out) in enumerate(zip(queries, exclude, strict=True)):
            true = {
                item: distance(query, vector, self.metric)
                for item, (vector, has) in self.model.items()
                if item not in left_out and (age is None or (has is not None and has >= age))
            }
            hits = result.hits(row)
            for item, reported in hits:
                assert reported == pytest.approx(true[item], abs=1e-5)
            if self.kind == "flat":
                assert [reported for _, reported in hits] == pytest.approx(sorted(true.values())[:k], abs=1e-5)

    @invariant()
    def agrees(self):
        if not hasattr(self, "index"):
            return
        assert self.index.ids == list(self.model)
        assert len(self.index) == len(self.model)
        info = self.index.info()
        assert (info["next_row"], info["removed"]) == (self.used, self.used - len(self.model))
        table = self.index.metadata
        assert table.index.tolist() == list(self.model)
        if "age" in table:
            ages = [
                None if missing else int(value)
                for value, missing in zip(table["age"], table["age"].isna(), strict=True)
            ]
            assert ages == [has for _, has in self.model.values()]

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()


class GraphLife(Life):
    kind = "hnsw"


class ListLife(Life):
    kind = "ivf"


Life.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
GraphLife.TestCase.settings = settings(max_examples=5, stateful_step_count=20, deadline=None)
ListLife.TestCase.settings = settings(max_examples=5, stateful_step_count=20, deadline=None)
TestLife = Life.TestCase
TestGraphLife = GraphLife.TestCase
TestListLife = ListLife.TestCase
