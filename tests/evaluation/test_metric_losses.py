"""Thesis Table 4.1 on a few rendered faces: every row trains, scores and keeps to its split."""

import numpy as np
import pandas as pd
import pytest

from evaluation.metric_losses import TRIALS, Split, recipe_of, run, split_faces, synthetic_faces
from exprembed.data import FaceTable
from exprembed.errors import BadInputError
from exprembed.training import load_recipe


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return synthetic_faces(tmp_path_factory.mktemp("faces"), 160, seed=3)


def base(*more):
    return load_recipe(
        "metric-losses-small", ["init=null", "steps=4", "sampler.batch_size=32", "model.dense_channels=8", *more]
    )


def test_copies_and_splits(faces):
    table = pd.DataFrame(faces)
    twin = table[table["split"] == "train"].iloc[[0]].assign(split="validation")
    twin.index = ["copy"]
    skipped = []
    split = split_faces(FaceTable(pd.concat([table, twin])), "rendered", skipped)
    assert [item.item for item in skipped] == ["copy"]
    assert "1" in split.words
    assert not set(split.train.index) & set(split.test.index)
    assert len(split.train) + len(split.test) == len(faces)
    assert split.has_va
    with pytest.raises(BadInputError, match="split"):
        split_faces(FaceTable(table.drop(columns="split")), "rendered")
    with pytest.raises(BadInputError, match="training and validation"):
        split_faces(FaceTable(table.assign(split="train")), "rendered")


def test_trials_train_and_differ(faces):
    split = split_faces(faces, "rendered")
    few = ("weighted cross entropy", "+ island", "+ subclass with margin, K = 2", "+ VA center, learned")
    report = run([split], base(), seeds=(0,), trials={name: TRIALS[name] for name in few}, pictures=False)
    (section,) = report.sections
    assert [row.name for row in section.rows] == list(few)
    for row in section.rows:
        assert set(row.ours) == {"softmax", "kNN", "linear SVM", "softmax, plain accuracy"}
        assert all(0 <= value.mean <= 100 for value in row.ours.values())
    assert section.rows[1].paper == {"softmax": 65.11}
    assert not section.same_data
    assert len({tuple(value.mean for value in row.ours.values()) for row in section.rows}) > 1


def test_every_trial_names_a_loss_and_its_arguments(faces):
    from exprembed.training.objectives import Facts, Objective

    for trial in TRIALS.values():
        recipe = recipe_of(base(), trial, 0.1, 0, "table")
        assert [Objective(plan, Facts(8, 16, [1] * 8, None)) for plan in recipe.objectives]


def test_va_rows_need_va(faces):
    split = split_faces(faces, "rendered")
    bare = Split("bare", "", FaceTable(split.train.drop(columns=["valence", "arousal"])), split.test, None)
    few = {name: TRIALS[name] for name in ("weighted cross entropy", "+ VA center local, both")}
    report = run([bare], base(), seeds=(0,), trials=few, pictures=False)
    assert [row.name for row in report.sections[0].rows] == ["weighted cross entropy"]


def test_pictures_show_the_centres(faces):
    pytest.importorskip("umap")
    split = split_faces(faces, "rendered")
    few = {"+ subclass, K = 10": TRIALS["+ subclass, K = 10"]}
    (section,) = run([split], base(), seeds=(0,), trials=few).sections
    (figure,) = section.figures.values()
    squares = figure.axes[0].collections[1].get_offsets()
    assert np.asarray(squares).shape == (80, 2)


def test_only_the_loss_differs(faces, tmp_path):
    plain = recipe_of(base(), TRIALS["weighted cross entropy"], 0.1, 1, tmp_path)
    center = recipe_of(base(), TRIALS["+ center"], 0.1, 1, tmp_path)
    assert center.objectives[-1].weight == 0.1
    center.objectives.pop()
    assert center.to_dict() == plain.to_dict()
