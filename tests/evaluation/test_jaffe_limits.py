"""What limits JAFFE's triplets: the bounds are those of the definitions, and the lost triplets add up."""

import numpy as np
import pandas as pd
import pytest

from evaluation import jaffe_limits
from evaluation.real_faces import RealFaces
from exprembed.data import FaceTable
from exprembed.data.readers.jaffe import RATINGS, jaffe_rating_triplets
from exprembed.data.synthetic import render_faces
from exprembed.errors import BadInputError
from exprembed.models import FECNet
from exprembed.report import Measure

NAMES = ("anger", "fear", "happiness", "neutral", "sadness")


@pytest.fixture(scope="module")
def faces() -> RealFaces:
    """Six people posing five expressions twice; ratings lie near those of the expression."""
    rng = np.random.default_rng(0)
    images, _ = render_faces(60, subjects=6, seed=0, size=48)
    grey = images.mean(axis=-1).astype(np.uint8)
    names = np.tile(np.repeat(NAMES, 2), 6)
    centre = {name: 4 * np.eye(6)[i] + 1 for i, name in enumerate(NAMES)}
    ratings = np.stack([centre[name] for name in names]) + 0.1 * rng.random((60, 6))
    ids = pd.Index([f"f{i}" for i in range(60)])
    columns = {"path": list(ids), "subject": np.repeat(list("abcdef"), 10), "expression": names}
    jaffe = FaceTable(pd.DataFrame(columns | dict(zip(RATINGS, ratings.T, strict=True)), index=ids))
    triplets = jaffe_rating_triplets(jaffe)
    images = dict.fromkeys(("gallery", "queries", "raf", "jaffe"), grey)
    return RealFaces(jaffe, jaffe, triplets, jaffe, jaffe, triplets, images, len(triplets), [])


def test_each_bound_is_what_it_says(faces: RealFaces) -> None:
    section = jaffe_limits.bounds(faces, [np.eye(60)], [np.eye(60)])
    values = {row.name: row.ours for row in section.rows}
    triplets = {name: columns["JAFFE triplets"] for name, columns in values.items()}
    assert triplets["the mean rating of the same expression on others"].mean > 95
    # Two of one expression and one of another are told by the expression alone; of three different ones a third is.
    kinds = faces.jaffe_triplets["type"].value_counts(normalize=True)
    expected = 100 * (kinds.get("two_class", 0) + (kinds.get("three_class", 0) + kinds.get("one_class", 0)) / 3)
    assert triplets["the posed expression alone"].mean == pytest.approx(expected, abs=4)
    assert triplets["the embedding"].mean < 1  # all faces equally far apart: no pair is closer


def test_what_is_learned_is_learned_from_others(faces: RealFaces) -> None:
    jaffe = faces.jaffe
    ratings, share = jaffe_limits.learned(pd.get_dummies(jaffe["expression"]).to_numpy(float), jaffe)
    assert share == 1
    assert np.abs(ratings.to_numpy() - jaffe[list(RATINGS)].to_numpy(float)).max() < 0.5
    persons = pd.get_dummies(jaffe["subject"]).to_numpy(float)  # nothing known of the person who is left out
    assert jaffe_limits.learned(persons, jaffe)[1] == pytest.approx(1 / len(NAMES), abs=0.21)


def test_ratings_of_others_leave_the_own_out() -> None:
    ratings = np.arange(18.0).reshape(3, 6)
    columns = {"path": list("xyz"), "subject": list("abc"), "expression": ["anger"] * 3}
    found = jaffe_limits.ratings_of_others(
        FaceTable(pd.DataFrame(columns | dict(zip(RATINGS, ratings.T, strict=True)), index=list("xyz")))
    )
    assert found.loc["x"].tolist() == ratings[1:].mean(axis=0).tolist()
    assert found.loc["y"].tolist() == ratings[[0, 2]].mean(axis=0).tolist()


def test_the_report_of_a_network(faces: RealFaces) -> None:
    model = FECNet(backbone="resnet10_grey48", dense_channels=0, hidden=16, classes=list(NAMES)).eval()
    report = jaffe_limits.run(faces, [model, model])
    bounds, seen, lost = report.sections
    assert bounds.rows[-1].ours["JAFFE triplets"].std == 0
    for row in seen.rows:
        assert sum(value.mean for value in row.ours.values()) == pytest.approx(100)
        assert row.n_used == 12
    shares = [row.ours["of the lost"] for row in lost.rows]
    assert all(isinstance(share, Measure) for share in shares)
    assert [share.mean for share in shares] == sorted((share.mean for share in shares), reverse=True)
    right = {row.name: row.ours["told right"].mean for row in lost.rows}
    assert all(0 <= value < 100 for value in right.values())


def test_a_network_without_a_classifier_is_refused(faces: RealFaces) -> None:
    with pytest.raises(BadInputError, match="no classifier"):
        jaffe_limits.run(faces, [FECNet(backbone="resnet10_grey48", dense_channels=0, hidden=16)])
