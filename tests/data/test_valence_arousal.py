"""Valence and arousal expected from votes, and the class means behind them."""

import doctest
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from exprembed.data import FaceTable, class_means_of_ratings, expected_valence_arousal, valence_arousal
from exprembed.data.valence_arousal import AFFECTNET_CLASS_MEANS
from exprembed.errors import BadInputError

MEANS = {"happiness": (0.8, 0.2), "fear": (-0.6, 0.6)}
RATED = ["happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt", "neutral"]


def voted(**votes):
    ids = [f"f{i}" for i in range(len(next(iter(votes.values()))))]
    return FaceTable({"path": ids} | {f"votes_{name}": counts for name, counts in votes.items()}, index=ids)


def test_expectation():
    faces = expected_valence_arousal(voted(happiness=[4, 1, 0], fear=[0, 3, 7]), MEANS)
    for row, share in zip(faces[["valence", "arousal"]].to_numpy(), (1.0, 0.25, 0.0), strict=True):
        for place in range(2):
            expected = share * MEANS["happiness"][place] + (1 - share) * MEANS["fear"][place]
            assert row[place] == pytest.approx(expected, abs=1e-12)


def test_it_refuses():
    with pytest.raises(BadInputError, match="no mean valence and arousal for bored"):
        expected_valence_arousal(voted(fear=[1], bored=[1]))
    with pytest.raises(BadInputError, match="no vote"):
        expected_valence_arousal(voted(fear=[0], happiness=[0]))
    with pytest.raises(BadInputError, match="votes"):
        expected_valence_arousal(FaceTable({"path": ["a"]}, index=["a"]))


@pytest.fixture
def ratings(tmp_path):
    """Two images, three raters: the same numbers in every file would hide a wrong join, so rows stand in another order."""
    raters = ["participant0", "participant1", "participant2"]
    frames = {
        "expression": pd.DataFrame([[0, 0, 3], [7, 3, 0]], columns=raters, index=["a.jpg", "b.jpg"]),
        "valence": pd.DataFrame([[0.25, 1.0, -0.5], [0.5, 0.75, -1.0]], columns=raters, index=["b.jpg", "a.jpg"]),
        "arousal": pd.DataFrame([[0.0, 0.5, 0.25], [0.5, -0.25, 0.75]], columns=raters, index=["a.jpg", "b.jpg"]),
    }
    for kind, frame in frames.items():
        frame.rename_axis("filename").reset_index().rename_axis("index").to_csv(tmp_path / f"{kind}_set2_C25.csv")
    return tmp_path


def test_means_join_by_name(ratings):
    means = class_means_of_ratings(ratings)
    assert list(means.index) == RATED
    assert means.loc["happiness"].tolist() == pytest.approx([np.mean([0.5, 0.75, -0.5]), np.mean([0.0, 0.5, 0.75])])
    assert means.loc["fear"].tolist() == pytest.approx([np.mean([-1.0, 1.0]), np.mean([0.25, -0.25])])
    assert means.loc["disgust"].isna().all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("filename", "file", "needs the columns filename"),
        ("a.jpg", "", "blank or repeated"),
        ("a.jpg", "b.jpg", "blank or repeated"),
        ("a.jpg", "c.jpg", "rate different images"),
        ("participant2", "participant9", "rate different images"),
        ("0.75", "high", "not a number"),
        ("0.75", "7.5", "run from -1 to 1"),
    ],
)
def test_bad_ratings(ratings, old, new, message):
    file = ratings / "valence_set2_C25.csv"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(BadInputError, match=message):
        class_means_of_ratings(ratings)


def test_bad_expressions(ratings):
    file = ratings / "expression_set2_C25.csv"
    file.write_text(file.read_text().replace("7", "9"))
    with pytest.raises(BadInputError, match="none of 0 to 7"):
        class_means_of_ratings(ratings)
    file.unlink()
    with pytest.raises(BadInputError, match="there is no"):
        class_means_of_ratings(ratings)


@pytest.mark.data
def test_the_means_of_the_ratings_are_those_written_down():
    folder = Path(os.environ.get("EXPREMBED_DATA") or "-", "affectnet_c25")
    if not folder.is_dir():
        pytest.skip("set EXPREMBED_DATA to the folder that holds affectnet_c25")
    means = class_means_of_ratings(folder)
    for name, pair in AFFECTNET_CLASS_MEANS.items():
        assert means.loc[name].round(3).tolist() == pytest.approx(pair, abs=1e-9)


def test_docstring_examples():
    assert doctest.testmod(valence_arousal).failed == 0
