"""Thesis chapters 3 and 5 on a few rendered faces: every row trains, cells are kept, the report says what is there."""

import numpy as np
import pytest
from PIL import Image

from evaluation._kept import Kept
from evaluation.emotion_gcn_bench import ferplus_split
from evaluation.metric_losses import split_faces
from evaluation.multitask import Bench, rendered_split, run
from evaluation.multitask_rows import MAIN, PRINTED_SVM, TABLES, TRIALS
from exprembed.data.synthetic import render_faces, save_faces
from exprembed.data.tables import FaceTable
from exprembed.errors import WrongUseError
from exprembed.models.emotion_gcn import SEVEN
from exprembed.training import load_recipe
from exprembed.training.module import TrainingModule
from exprembed.training.run import build_model, make_steps


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    faces = save_faces(*render_faces(160, 10, 3, size=48), folder)
    return split_faces(FaceTable(faces[faces["expression"].isin(SEVEN)]), "few rendered faces", [])


def bench_of(split, folder, *more):
    return Bench(split, load_recipe("multitask-small", ["steps=1", "sampler.batch_size=32", *more]), Kept(folder))


def test_rows_and_tables_fit_each_other():
    named = [name for printed in TABLES.values() for name in printed]
    assert set(named) | set(PRINTED_SVM) | {"masks"} == set(TRIALS) | {"masks"}
    assert len(MAIN) == 15
    assert all(TRIALS[name].svm for name in PRINTED_SVM)


@pytest.mark.parametrize("name", TRIALS)
def test_every_row_can_be_trained(split, tmp_path, name):
    recipe = bench_of(split, tmp_path).recipe(TRIALS[name], 1)
    model = build_model(recipe)
    pixels = np.zeros((len(split.train), 1, 48, 48), np.uint8)
    module = TrainingModule(model, recipe, make_steps(recipe, model, pixels, split.train))
    assert len(module.terms) == len(TRIALS[name].objectives)
    assert (recipe.seed, recipe.model["backbone"]) == (1, "vgg8_grey48")


def test_rows_of_each_table_are_trained_and_scored(split, tmp_path):
    few = [
        "single task, CE", "single task", "single task, logit loss", "MSE, classic", "CCC, classic", "Eight, concatenate",
        "masks", "WCE, WCE, age sampler", "CCC, classic + island",
    ]  # fmt: skip
    report = run(bench_of(split, tmp_path), seeds=(0,), only=few)
    titles = {section.title.partition(":")[0]: section for section in report.sections}
    assert list(titles) == [
        "Table 3.1", "Table 3.2", "Table 5.1", "Section 5.1.2", "Table 5.2", "Table 5.3", "Table 5.4", "Confusion matrices",
    ]  # fmt: skip
    assert [row.name for row in titles["Table 5.1"].rows] == [
        "single task", "MSE, classic", "CCC, classic", "Eight, concatenate",
    ]  # fmt: skip
    for section in report.sections:
        assert not section.same_data
        for row in section.rows:
            assert row.n_used == len(split.test)
            assert all(-100 <= value.mean <= 100 for value in row.ours.values())
    single, mse = titles["Table 5.1"].rows[:2]
    assert set(single.ours) == {"accuracy"}
    assert set(mse.ours) == {"accuracy", "CCC-V", "CCC-A", "gain"}
    assert mse.ours["gain"].mean == pytest.approx(mse.ours["accuracy"].mean - single.ours["accuracy"].mean)
    assert mse.paper == {"accuracy": 64.8, "CCC-V": 75.2, "CCC-A": 57.2, "gain": pytest.approx(0.43)}
    assert set(titles["Table 5.4"].rows[0].ours) == {"softmax", "SVM"}
    assert len(titles["Confusion matrices"].figures) == 3
    assert len(list(tmp_path.iterdir())) == len(few)


def test_cells_are_kept_and_belong_to_their_settings(split, tmp_path):
    bench = bench_of(split, tmp_path)
    run(bench, seeds=(0,), only=["single task"])
    settings = bench.settings(TRIALS["single task"], 0)
    cell = bench.kept.find(settings)
    assert np.sum(cell["confusion"]) == len(split.test)
    bench.kept.path(settings).unlink()
    bench.kept.values(settings, lambda: {**cell, "accuracy": 0.125})
    report = run(bench, seeds=(0, 1), only=[])  # nothing is trained, what is kept is reported
    assert report.sections[0].rows[0].ours["accuracy"].values == (12.5,)
    assert report.sections[0].rows[0].note == "1 seed"
    other = bench_of(split, tmp_path, "learning_rate=0.002")
    assert other.settings(TRIALS["single task"], 0) != settings
    assert other.stored(TRIALS["single task"], (0,)) == []
    assert bench.settings(TRIALS["masks"], 0) != bench.settings(TRIALS["masks"], 1)


def test_what_is_said_of_gains(split, tmp_path):
    bench = bench_of(split, tmp_path)
    for name, accuracies in {"single task": (0.5, 0.52), "Eight, classic": (0.6, 0.61), "masks": (0.51, 0.53)}.items():
        for seed, accuracy in enumerate(accuracies):
            cell = {"accuracy": accuracy, "confusion": np.eye(7, dtype=int)}
            bench.kept.values(bench.settings(TRIALS[name], seed), lambda cell=cell: cell)
    table, *_ = [section for section in run(bench, (0, 1), []).sections if section.title.startswith("Table 5.1")]
    assert "from the single task: Eight, classic (+9.5)." in table.notes[0]


def test_harder_faces(tmp_path):
    split = rendered_split(tmp_path, "middle", subjects=5)
    assert set(split.train["frame"]) == {0, 4, 5, 6}
    assert set(split.train["expression"]) == set(SEVEN)
    assert not set(split.train["subject"]) & set(split.test["subject"])
    with pytest.raises(WrongUseError, match="did you mean 'middle'"):
        rendered_split(tmp_path, "midle")


def test_ferplus(tmp_path):
    """Training faces train, validation faces are scored, the test split takes no part; copies of training faces are left out."""
    order = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
    images, faces = render_faces(150, 5, 6, size=48)
    rows = ["Usage,Image name," + ",".join([*order, "unknown", "NF"])]
    for i, (image, expression) in enumerate(zip(images, faces["expression"], strict=True)):
        usage, folder = [("Training", "Train"), ("PublicTest", "Valid"), ("PrivateTest", "Test")][i % 3]
        (tmp_path / f"FER2013{folder}").mkdir(exist_ok=True)
        picture = images[0] if i == 4 else image  # a copy of the first training face among the scored
        Image.fromarray(picture).convert("L").save(tmp_path / f"FER2013{folder}" / f"fer{i:07d}.png")
        votes = [8 * (expression == name) + (name == "neutral") for name in order]
        rows.append(",".join([usage, f"fer{i:07d}.png", *map(str, votes), "1", "0"]))
    (tmp_path / "fer2013new.csv").write_text("\n".join(rows) + "\n")
    split = ferplus_split(tmp_path, [])
    shown = (faces["expression"] != "contempt").to_numpy()
    assert len(split.train) == shown[::3].sum()
    assert len(split.test) == shown[1::3].sum() - shown[4]
    assert split.has_va
    assert "exact copy of a training or an earlier image: 1" in split.words or not shown[4]
    bench = bench_of(split, tmp_path / "cells")
    assert run(bench, (0,), ["CCC, classic"]).sections[0].rows
