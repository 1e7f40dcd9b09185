"""ExpressionIndex in memory: against brute force in float64, its ids, filters, exclusions and refusals."""

import sys

import numpy as np
import pandas as pd
import pytest

from exprembed.errors import BadInputError, MissingExtraError, WrongUseError
from exprembed.index import ExpressionIndex, SearchResult

KINDS = ["auto", "flat", "hnsw", "ivf", "IVF8,Flat", "SQ8"]


def brute_force(points, queries, metric):
    """(Q, n) distances in float64, by their definitions."""
    points, queries = np.asarray(points, dtype=np.float64), np.asarray(queries, dtype=np.float64)
    if metric == "l2":
        return np.sqrt(((queries[:, None] - points[None]) ** 2).sum(-1))
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    return 1 - queries @ points.T


def check_against(result, ids, distances, scale=1.0):
    """Every reported distance is the true one, and the k smallest are there, up to ties."""
    place = {name: column for column, name in enumerate(ids)}
    for query, row in enumerate(result.ids.tolist()):
        found = [name for name in row if name is not None]
        assert len(found) == min(result.k, len(ids))
        true = distances[query, [place[name] for name in found]]
        np.testing.assert_allclose(result.distances[query, : len(found)], true, atol=1e-5 * scale)
        np.testing.assert_allclose(true, np.sort(distances[query])[: len(found)], atol=1e-5 * scale)


def cases():
    rng = np.random.default_rng(0)
    unit = rng.normal(size=(500, 16))
    circle = np.stack([np.cos(t := rng.uniform(0, 2 * np.pi, 3000)), np.sin(t)], axis=1)
    return {
        "unit 16-d": unit / np.linalg.norm(unit, axis=1, keepdims=True),
        "long 16-d": 1000 * unit + 50,
        "duplicates": np.repeat(unit[:50], 10, axis=0),
        "circle": circle,
        "512-d": rng.normal(size=(300, 512)),
        "1-d": rng.normal(size=(200, 1)),
    }


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("case", list(cases()))
@pytest.mark.parametrize("k", [1, 10, 250])
def test_equals_brute_force(metric, case, k):
    points = cases()[case].astype(np.float32)
    queries = np.concatenate([points[:7], points[:20] * 1.01 + 0.001]).astype(np.float32)
    index = ExpressionIndex(points.shape[1], metric)
    ids = index.add(points)
    scale = np.linalg.norm(points, axis=1).max() if metric == "l2" else 1.0
    check_against(index.search(queries, k), ids, brute_force(points, queries, metric), scale)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_many_queries_take_the_exact_path_in_every_block(metric):
    points = cases()["circle"][:100].astype(np.float32)
    index = ExpressionIndex(2, metric)
    ids = index.add(points)
    single = index.search(points, 3)
    check_against(single, ids, brute_force(points, points, metric))
    many = index.search(np.tile(points, (650, 1)), 3)  # 130,000 numbers: where FAISS would expand the square
    assert (many.ids == np.tile(single.ids, (650, 1))).all()
    assert (many.distances == np.tile(single.distances, (650, 1))).all()
    assert many.distances[:, 0].max() == 0.0


def filled(kind="flat", metric="l2", n=300, d=8, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, d))
    table = pd.DataFrame({"age": np.arange(n) % 90, "expression": rng.choice(["joy", "fear"], n)})
    index = ExpressionIndex(d, metric, kind)
    index.add(points, [f"f{i}" for i in range(n)], table)
    return index, points, table


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("kind", KINDS)
def test_filters_exclusions_and_removals_hold_in_every_kind(kind, metric):
    index, points, table = filled(kind, metric)
    removed = [f"f{i}" for i in range(0, 300, 3)]
    assert index.remove(removed) == 100
    queries = points[:20] + 0.01
    exclude = [[f"f{(i + j) % 300}" for j in range(5)] if i % 2 else None for i in range(20)]
    result = index.search(queries, 8, where="age >= 30 and expression == 'joy'", exclude=exclude)
    allowed = {f"f{i}" for i in np.flatnonzero((table["age"] >= 30) & (table["expression"] == "joy"))} - set(removed)
    for query, row in enumerate(result.ids.tolist()):
        assert set(row) - {None} <= allowed - set(exclude[query] or [])
    if kind in ("auto", "flat"):
        for query in range(20):
            ids = sorted(allowed - set(exclude[query] or []))
            rows = [int(name[1:]) for name in ids]
            one = SearchResult(result.ids[query : query + 1], result.distances[query : query + 1])
            check_against(one, ids, brute_force(points[rows], queries[query : query + 1], metric))
    assert len(index) == 200
    assert index.info()["exact"] == (kind in ("auto", "flat"))


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_single_queries_that_come_again_and_again(metric, monkeypatch):
    """From some number on they are answered past codes, until the index changes: with the same ids as before."""
    from exprembed.index import flat

    made = []
    coded = flat.CodedSearch

    class Watched(coded):
        def __init__(self, references):
            made.append(len(references))
            super().__init__(references)

    monkeypatch.setattr(flat, "CodedSearch", Watched)
    index = filled(metric=metric, n=40_000, d=16)[0]
    queries = np.random.default_rng(1).normal(size=(220, 16))
    due = index.search(queries, 5)
    single = [index.search(query, 5) for query in queries]
    assert made == [40_000]
    assert [result.ids[0].tolist() for result in single] == due.ids.tolist()
    np.testing.assert_allclose(np.concatenate([result.distances for result in single]), due.distances, rtol=1e-5)

    removed = due.ids[0].tolist()
    index.remove(removed)
    index.add(queries[:1], ids=["new"], metadata={"age": [50], "expression": ["joy"]})
    for query in queries[:120]:
        index.search(query, 5)
    assert made == [40_000, 39_996]
    assert index.search(queries[0], 1).ids.tolist() == [["new"]]
    kept = [name for name in index.search(queries[0], 5, where="age < 40").ids[0] if name not in removed]
    assert len(kept) == 5
    assert (index.metadata.loc[kept, "age"] < 40).all()


def test_no_codes_where_memory_is_short(monkeypatch):
    from exprembed.index import flat

    monkeypatch.setattr(flat, "CodedSearch", type("Never", (flat.CodedSearch,), {"__init__": None}))
    index = ExpressionIndex(16, memory_limit=2**20)
    index.add(np.random.default_rng(0).normal(size=(60_000, 16)))
    for _ in range(120):
        index.search(np.ones(16), 1)


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "IVF8,Flat"])
def test_approximate_kinds_find_most_of_the_nearest(kind):
    index, points, _ = filled(kind, n=2000)
    exact, _, _ = filled("flat", n=2000)
    near, true = index.search(points[:100], 10), exact.search(points[:100], 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near.ids, true.ids, strict=True)])
    assert recall > 0.6
    assert (near.ids[:, 0] == [f"f{i}" for i in range(100)]).all()


def test_padding_where_fewer_exist():
    index = ExpressionIndex(2)
    empty = index.search([[0, 1], [1, 0]], k=3)
    assert empty.ids.tolist() == [[None] * 3] * 2
    assert np.isposinf(empty.distances).all()
    index.add([[0, 1], [1, 0]], ids=["a", "b"])
    assert index.search([0, 1], k=4).ids.tolist() == [["a", "b", None, None]]
    assert index.search([0, 1], k=2, exclude=["a"]).ids.tolist() == [["b", None]]
    assert index.search([0, 1], k=1, where="id != 'a' and id != 'b'").ids.tolist() == [[None]]
    assert index.search(np.empty((0, 2)), k=4).ids.shape == (0, 4)
    index.remove(["a", "b"])
    assert index.search([0, 1], k=1).ids.tolist() == [[None]]
    assert (len(index), index.ids, len(index.metadata)) == (0, [], 0)


def test_exclude_takes_one_id_or_several_or_none_for_each_query():
    index = ExpressionIndex(1)
    index.add([[1.0], [2.0], [3.0]], ids=["a", "b", "c"])
    result = index.search([[1.0], [1.0], [1.0]], k=2, exclude=["a", {"b", "a", "stranger"}, None])
    assert result.ids.tolist() == [["b", "c"], ["c", None], ["a", "b"]]
    with pytest.raises(BadInputError, match="for each of the 1 queries; got 2"):
        index.search([1.0], exclude=["a", "b"])
    with pytest.raises(BadInputError, match="single text 'a'"):
        index.search([1.0], exclude="a")


def test_ids_are_never_used_twice():
    index = ExpressionIndex(1)
    index.add([[1.0], [2.0]], ids=["a", "b"])
    index.remove(["a"])
    assert "a" not in index
    assert "b" in index
    with pytest.raises(BadInputError, match="'a' was removed"):
        index.add([[1.0]], ids=["a"])
    with pytest.raises(BadInputError, match="'b' is already"):
        index.add([[1.0]], ids=["b"])
    assert index.add([[4.0]]) == ["2"]  # numbered on from the items ever added
    assert index.add([[5.0]], ids=["4"]) == ["4"]
    with pytest.raises(BadInputError, match="'4' is already"):
        index.add([[6.0]])
    assert index.ids == ["b", "2", "4"]


def test_failed_calls_change_nothing():
    index, points, _ = filled()
    before = index.search(points[:5], 300)
    good = np.ones((2, 8))
    for vectors, ids, metadata in [
        (np.array([[1.0] * 8, [np.nan] * 8]), None, None),
        (good, ["new", "f1"], None),
        (good, ["new", "new"], None),
        (good, ["new", " "], None),
        (good, ["new", 7], None),
        (good, ["new"], None),
        (good, ["new", "newer"], {"age": [1]}),
        (good, ["new", "newer"], {"age": ["old", "older"]}),
        (np.ones((2, 7)), ["new", "newer"], None),
    ]:
        with pytest.raises(BadInputError):
            index.add(vectors, ids, metadata)
    for ids in (["f1", "nobody"], ["f1", "f1"], ["f1", None], "f1"):
        with pytest.raises(BadInputError):
            index.remove(ids)
    assert len(index) == 300
    assert "new" not in index
    after = index.search(points[:5], 300)
    assert (before.ids == after.ids).all()


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, np.nan]], "NaN or infinity in 1 of 1 rows"),
        ([[1.0, 1.0], [0.0, 0.0]], "all zero in 1 of 2 rows, first in row 1"),
        ([[1.0, 2.0, 3.0]], r"must have 2 dimensions, \(n, 2\); got shape \(1, 3\)"),
        ([[["a"]]], "table of numbers|real numbers"),
        ([["a", "b"]], "numbers"),
        ([[1.0], [1.0, 2.0]], "table of numbers"),
        ([[1j, 1j]], "real numbers"),
        ([[1e30, 0]], "overflow"),
        (np.ones((2, 2, 2)), "one row a face"),
        (pd.DataFrame({"x": [1.0, np.inf], "y": [1.0, 1.0]}, index=["p", "q"]), r"row 1 \('q'\)"),
    ],
)
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_bad_vectors_are_refused_by_add_and_search(vectors, message, metric):
    index = ExpressionIndex(2, metric)
    if message != "overflow" or metric == "l2":
        with pytest.raises(BadInputError, match=message):
            index.add(vectors)
    with pytest.raises(BadInputError, match=message):
        index.search(vectors, 1)
    assert len(index) == 0


def test_wrong_use_is_named(monkeypatch):
    for options, message in [
        ({"dim": 0}, "dim must be"),
        ({"dim": 2.0}, "dim must be"),
        ({"metric": "l1"}, "unknown metric 'l1'; did you mean 'l2'"),
        ({"kind": "flatt"}, "kind 'flatt' is none of auto, flat, hnsw, ivf"),
        ({"kind": 7}, "kind must be text"),
        ({"kind": "IDMap,Flat"}, "leave 'IDMap' out"),
        ({"device": "cuda:99"}, "device='cpu'"),
        ({"device": "gpu"}, "'cuda' or 'cuda:N'"),
        ({"model": 7}, "model must be"),
        ({"model": " "}, "model must be"),
    ]:
        with pytest.raises(WrongUseError, match=message):
            ExpressionIndex(**options)
    index = ExpressionIndex(2)
    for k in (0, -1, 1.5, True, None):
        with pytest.raises(WrongUseError, match="k must be"):
            index.search([1.0, 0.0], k=k)
    with pytest.raises(BadInputError, match="cannot start from 3 vectors"):
        ExpressionIndex(2, kind="IVF8,Flat").add(np.eye(3, 2) + 1)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'exprembed\[cpu\]'"):
        ExpressionIndex(2)


def test_vectors_may_be_frames_lists_tensors_and_halves():
    torch = pytest.importorskip("torch")
    index = ExpressionIndex(2)
    frame = pd.DataFrame([[1.0, 0.0], [0.0, 1.0]], index=["a", "b"])
    assert index.add(frame) == ["a", "b"]
    assert index.add(torch.tensor([[0.5, 0.5]], requires_grad=True)) == ["2"]
    assert index.add(torch.tensor([2.0, 2.0]).bfloat16()) == ["3"]
    assert index.add(np.array([[3, 3]], dtype=np.float16), pd.Index(["e"])) == ["e"]
    assert index.add([-1, -1], np.array(["f"])) == ["f"]
    assert index.search(torch.tensor([0.5, 0.5]), 1).ids.tolist() == [["2"]]
    assert index.search(frame, 1).ids.tolist() == [["a"], ["b"]]


def test_metadata_columns_may_differ_and_are_matched_by_id():
    index = ExpressionIndex(1)
    index.add([[1.0], [2.0]], ["a", "b"], pd.DataFrame({"age": [30, 8], "smiling": [True, False]}))
    index.add([[3.0]], ["c"])
    index.add([[4.0], [5.0]], ["d", "e"], pd.DataFrame({"age": [7.5, 1.0], "name": ["Eve", None]}, index=["e", "d"]))
    table = index.metadata
    assert table.index.tolist() == ["a", "b", "c", "d", "e"]
    assert table["age"].tolist()[:2] == [30.0, 8.0]
    assert np.isnan(table.loc["c", "age"])
    assert (table.loc["d", "age"], table.loc["e", "age"]) == (1.0, 7.5)
    assert table.loc["e", "name"] == "Eve"
    assert table["smiling"].isna().tolist() == [False, False, True, True, True]
    assert table["smiling"].tolist()[:2] == [True, False]
    assert index.search([1.0], 5, where="smiling or name == 'Eve'").ids[0].tolist()[:3] == ["a", "e", None]
    assert index.info()["columns"] == {"age": "double", "smiling": "bool", "name": "large_string"}
    index.remove(["a"])
    assert index.metadata.index.tolist() == ["b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"age": [1]}, "1 rows for 2 items"),
        ({"id": ["x", "y"]}, "'id' is reserved"),
        ({7: [1, 2]}, "7 is not a text"),
        (pd.DataFrame([[1, 2], [3, 4]], columns=["x", "x"]), "'x' is there twice"),
        ({"x": ["text", 3]}, "'x' mixes types"),
        ({"x": [object(), object()]}, "'x' mixes types"),
        (pd.DataFrame({"x": [1, 2]}, index=["a", "stranger"]), "'b' is only in one"),
        (5, "cannot be read as a table"),
    ],
)
def test_bad_metadata_is_refused(metadata, message):
    with pytest.raises(BadInputError, match=message):
        ExpressionIndex(1).add([[1.0], [2.0]], ["a", "b"], metadata)


def test_face_tables_with_categories_and_landmarks_are_metadata():
    index = ExpressionIndex(1)
    faces = pd.DataFrame(
        {"path": ["a.png", "b.png"], "expression": pd.Categorical(["joy", None]), "landmarks": [[1.0, 2.0], None]},
        index=["a", "b"],
    )
    index.add([[1.0], [2.0]], ["a", "b"], faces)
    assert index.search([1.0], 2, where="expression == null").ids.tolist() == [["b", None]]
    assert index.metadata.loc["a", "landmarks"].tolist() == [1.0, 2.0]


def test_search_result_is_validated_and_immutable():
    ids, distances = np.array([["a", "b", None]], dtype=object), np.array([[0.0, 0.5, np.inf]])
    result = SearchResult(ids, distances)
    ids[0, 0], distances[0, 0] = "changed", 9.0
    assert result.hits(0) == [("a", 0.0), ("b", 0.5)]
    assert (len(result), result.k, result.distances.dtype) == (1, 3, np.float32)
    with pytest.raises(ValueError, match="read-only"):
        result.ids[0, 0] = "x"
    with pytest.raises(AttributeError):
        result.ids = ids
    assert result.to_frame()["rank"].tolist() == [1, 2]
    assert SearchResult(np.empty((0, 3), dtype=object), np.empty((0, 3))).to_frame().empty
    for wrong_ids, wrong_distances in [
        ([["a"]], [[0.0, 1.0]]),
        (["a"], [0.0]),
        ([["a", "b"]], [[1.0, 0.5]]),
        ([["a"]], [[-1.0]]),
        ([["a"]], [[np.nan]]),
        ([["a", "a"]], [[0.0, 1.0]]),
        ([[None]], [[1.0]]),
        ([["a"]], [[np.inf]]),
        ([[7]], [[1.0]]),
    ]:
        with pytest.raises(BadInputError):
            SearchResult(np.array(wrong_ids, dtype=object), np.array(wrong_distances))


def test_neighbours_of_items_leave_out_themselves_and_who_is_like_them():
    index = ExpressionIndex(2)
    index.add(
        [[0, 1], [0.1, 1], [0.2, 1], [0.3, 1], [0.45, 1]], list("abcde"), {"subject": ["u", "u", "v", None, None]}
    )
    assert index.neighbours(["a", "d"], 2).ids.tolist() == [["b", "c"], ["c", "e"]]
    assert index.neighbours(["a", "d"], 2, apart="subject").ids.tolist() == [["c", "d"], ["c", "e"]]
    index.remove(["b"])
    assert index.neighbours(["a"], 4, apart="subject").ids.tolist() == [["c", "d", "e", None]]
    assert index.neighbours(["a"], 1, where="id == 'e'").ids.tolist() == [["e"]]
    with pytest.raises(WrongUseError, match=r"'subjet'.*'subject'"):
        index.neighbours(["a"], apart="subjet")
    with pytest.raises(BadInputError, match="'b' was already removed"):
        index.neighbours(["b"])
