"""The two tables: what they accept, and what they say of what they refuse."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exprembed.data import FaceTable, TripletTable, subject_folds
from exprembed.errors import BadInputError


def test_face_table_keeps_what_it_is_given(tmp_path):
    faces = FaceTable(
        {
            "path": ["a.png", "b.png"],
            "expression": ["fear", None],
            "valence": [-1.0, np.nan],
            "votes_fear": [3, 0],
            "votes_joy": [1, 2],
        },
        index=["a", "b"],
    )
    assert faces.index.name == "face_id"
    assert faces.votes.columns.tolist() == ["fear", "joy"]
    faces.write_parquet(tmp_path / "faces.parquet")
    again = FaceTable.read_parquet(tmp_path / "faces.parquet")
    pd.testing.assert_frame_equal(pd.DataFrame(again), pd.DataFrame(faces))
    assert type(faces[faces["path"] == "a.png"]) is pd.DataFrame


@pytest.mark.parametrize(
    ("columns", "index", "message"),
    [
        ({"expression": ["fear"]}, ["a"], "path"),
        ({"path": ["a", "b"]}, ["a", "a"], "repeated"),
        ({"path": ["a"]}, [" "], "blank"),
        ({"path": ["a"]}, [0], "int where str"),
        ({"path": [""]}, ["a"], "column 'path' is blank"),
        ({"path": [3]}, ["a"], "where str is due"),
        ({"path": ["a"], "valence": [1.5]}, ["a"], r"1.5 where a number in \[-1, 1\]"),
        ({"path": ["a"], "valence": ["high"]}, ["a"], "where a number is due"),
        ({"path": ["a"], "votes_joy": [-1]}, ["a"], "whole number"),
        ({"path": ["a"], "votes_joy": [0.5]}, ["a"], "whole number"),
        ({"path": ["a"], "au_12": [6.0]}, ["a"], r"\[0, 5\]"),
        ({"path": ["a"], "left": [1]}, ["a"], "four columns"),
        ({"path": ["a"], "left": [5], "right": [5], "top": [0], "bottom": [3]}, ["a"], "not below 'right'"),
    ],
)
def test_face_table_refuses(columns, index, message):
    with pytest.raises(BadInputError, match=message):
        FaceTable(columns, index=index)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"odd": None}, "'odd' is missing"),
        ({"b": ["x", "y"]}, "same face"),
        ({"type": ["one_class", "one-class"]}, "'one-class', not one of"),
        ({"agreement": ["strong", "sure"]}, "row 1"),
        ({"a": ["x", None]}, "row 1, column 'a' is missing"),
        ({"votes_odd_a": [1, -2]}, "whole number"),
    ],
)
def test_triplet_table_refuses(change, message):
    columns = {
        "a": ["x", "y"],
        "b": ["y", "z"],
        "odd": ["z", "x"],
        "type": ["one_class"] * 2,
        "agreement": ["strong"] * 2,
    }
    columns |= change
    with pytest.raises(BadInputError, match=message):
        TripletTable({key: value for key, value in columns.items() if value is not None})


def test_triplets_present_in():
    triplets = TripletTable({"a": ["x", "y"], "b": ["y", "z"], "odd": ["z", "w"]})
    assert len(triplets.present_in(["x", "y", "z"])) == 1


def test_broken_parquet(tmp_path):
    (tmp_path / "x.parquet").write_text("no parquet")
    with pytest.raises(BadInputError, match="cannot be read"):
        FaceTable.read_parquet(tmp_path / "x.parquet")
    with pytest.raises(BadInputError):
        FaceTable.read_parquet(tmp_path / "absent.parquet")


@given(st.lists(st.integers(0, 12).map(lambda i: f"s{i:02d}"), min_size=5), st.integers(2, 5))
def test_subject_folds(subjects, n):
    unique = sorted(set(subjects))
    if len(unique) < n:
        with pytest.raises(BadInputError, match="at least as many"):
            subject_folds(subjects, n)
        return
    folds = subject_folds(subjects, n)
    for subject, fold in zip(subjects, folds, strict=True):
        assert fold == unique.index(subject) % n


@given(st.lists(st.integers(0, 10**6), min_size=2, unique=True), st.integers(2, 10), st.integers(0, 5), st.randoms())
def test_subject_folds_are_the_papers(numbers, n, rows, random):
    """By ID ascending, every n-th: no subject in two folds, sizes that differ by one at most, whatever the rows' order."""
    if len(numbers) < n:
        return
    subjects = [f"S{number}" for number in numbers for _ in range(1 + rows)]
    random.shuffle(subjects)
    folds = subject_folds(subjects, n)
    fold_of = dict(zip(subjects, folds.tolist(), strict=True))
    assert all(fold_of[subject] == fold for subject, fold in zip(subjects, folds, strict=True))
    for fold in range(n):
        assert [number for number in sorted(numbers) if fold_of[f"S{number}"] == fold] == sorted(numbers)[fold::n]
    sizes = np.bincount(list(fold_of.values()), minlength=n)
    assert sizes.max() - sizes.min() <= 1


def test_subject_folds_of_118_people():
    """CK+'s ten: eight of twelve people and two of eleven."""
    folds = subject_folds([f"S{number:03d}" for number in range(1, 119)], 10)
    assert sorted(np.bincount(folds).tolist()) == [11, 11] + [12] * 8
    assert folds[[0, 10, 117]].tolist() == [0, 0, 7]


def test_subject_folds_take_mixed_ids():
    assert subject_folds(["KA", "12", "a1b", "1", "a1", "S01", "S1"], 7).tolist() == [2, 1, 6, 0, 5, 3, 4]
