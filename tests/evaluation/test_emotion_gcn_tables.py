"""Thesis chapter 6 on a few rendered faces: every row trains what it says, is scored on that, and is not trained twice."""

import doctest
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation import emotion_gcn, emotion_gcn_bench
from evaluation.emotion_gcn import _beaten, run
from evaluation.emotion_gcn_bench import FREE, Bench, Trained, ferplus_split, lost, rendered_split
from evaluation.emotion_gcn_rows import BREG, CCC, CHOICES, GCN, LESS, SINGLE, SWEEPS, TABLE, VARIANTS
from exprembed.data import FaceTable
from exprembed.models import create_model
from exprembed.models.emotion_gcn import SEVEN, correlation_adjacency, emotion_adjacency
from exprembed.training import load_recipe

QUICK = ["steps=2", "sampler.batch_size=16", "model.hidden=8", "sizes={0.0: 32, 0.5: 48}"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    split = rendered_split(tmp_path_factory.mktemp("faces"), 160)
    return Bench.of(load_recipe("emotion-gcn-small", QUICK), split, tmp_path_factory.mktemp("kept"))


def test_every_row_trains_and_is_scored(bench):
    report = run(bench, (0, 1), ("tables",))
    main, others = *report.sections, *run(bench, (0,), ("variants",)).sections
    assert "contempt" not in set(bench.split.train["expression"])
    assert [row.name for row in main.rows] == list(TABLE)
    assert [row.name for row in others.rows] == list(VARIANTS)
    scored = [set(row.ours) for row in main.rows]
    assert scored[:2] == [{"accuracy", "seen"}, {"CCC-V", "CCC-A"}]
    assert all(names == {"accuracy", "CCC-V", "CCC-A", "seen"} for names in scored[2:])
    for row in (*main.rows, *others.rows):
        assert all(-100 <= value.mean <= 100 for value in row.ours.values())
        assert row.n_used == len(bench.split.test)
    assert bench.recipe.model["layers"] == 2  # rows do not leak into the common recipe
    assert len({tuple(value.mean for value in row.ours.values()) for row in main.rows}) == len(TABLE)
    assert not main.same_data
    assert "Emotion-GCN stands " in " ".join(main.notes)
    assert report.data["not run"] == "rates, variants, sweep, figures, breg"


def test_the_other_parts(bench, monkeypatch):
    monkeypatch.setattr(emotion_gcn, "CHOICES", CHOICES[:2])
    monkeypatch.setattr(emotion_gcn, "SWEEPS", {name: dict(list(rows.items())[:1]) for name, rows in SWEEPS.items()})
    drawn = emotion_gcn.embedding_map
    monkeypatch.setattr(emotion_gcn, "embedding_map", lambda *given, **options: drawn(*given[:2], "pca", **options))
    report = run(bench, (0,), ("rates", "sweep", "figures"), search_steps=1, sweep_steps=1)
    rates, tau, p, figures = report.sections
    assert len(rates.rows) == len(TABLE) * 2
    assert "held out of them to choose on" in rates.data
    assert [len(section.rows) for section in (tau, p)] == [3, 3]
    assert len(figures.figures) == 10
    assert all(figure is not None for figure in figures.figures.values())


def test_rates_that_these_faces_prefer_are_used(bench, monkeypatch):
    monkeypatch.setattr(emotion_gcn, "CHOICES", CHOICES[:2])
    monkeypatch.setattr(emotion_gcn, "aim", lambda scores: -scores["accuracy"])
    trained = []
    own = Bench.trained

    def noted(self, trial, seed, steps=None):
        trained.append((steps, trial.rates))
        return own(self, trial, seed, steps)

    monkeypatch.setattr(Bench, "trained", noted)
    report = run(bench, (0,), ("rates", "tables"), only=(SINGLE,), search_steps=1, choose=True)
    table, rates = report.sections
    assert [row.name for row in table.rows] == [SINGLE]
    worst = min(rates.rows, key=lambda row: row.ours["accuracy"].mean).name
    assert f"{SINGLE}: {trained[-1][1]}" == worst
    assert trained[-1][0] is None
    assert [steps for steps, _ in trained[:-1]] == [1, 1]


def test_a_network_is_trained_once(bench, monkeypatch):
    first = bench.trained(TABLE[GCN], 0)
    monkeypatch.setattr(Bench, "_train", lambda *_: pytest.fail("trained again"))
    again = bench.trained(TABLE[GCN], 0)
    assert again.scores == first.scores
    for name in ("counts", "weights", "embedding"):
        assert np.array_equal(getattr(again, name), getattr(first, name))
    for other in (lambda: bench.trained(TABLE[GCN], 7), lambda: bench.trained(TABLE[GCN], 0, steps=3)):
        with pytest.raises(pytest.fail.Exception, match="trained again"):
            other()


def test_what_rows_train(bench):
    recipes = {name: bench.recipe_of(trial, 3) for name, trial in {**TABLE, **VARIANTS}.items()}
    losses = {name: [plan.loss for plan in recipe.objectives] for name, recipe in recipes.items()}
    assert losses[SINGLE] == ["weighted_cross_entropy"]
    assert losses["single-task, valence and arousal"] == ["ccc"]
    assert losses["multi-task + MSE"] == ["weighted_cross_entropy", "MSELoss"]
    assert losses[GCN] == losses[CCC] == ["weighted_cross_entropy", "ccc"]
    assert np.array_equal(recipes[GCN].model["adjacency"], emotion_adjacency(bench.split.train))
    signed = np.array(recipes["signed edges"].model["adjacency"])
    assert np.allclose(np.abs(signed), recipes[GCN].model["adjacency"])
    assert (signed < 0).any()
    assert np.any(np.array(recipes["edges between classes"].model["adjacency"])[:7, :7] * (1 - np.eye(7)))
    assert {recipe.seed for recipe in recipes.values()} == {3}
    lengths = [
        np.linalg.norm(recipes[name].model["word_vectors"], axis=1)
        for name in ("Emotion-GCN, one-hot vectors", "random vectors")
    ]
    assert np.allclose(lengths, 1)


def test_rates_are_chosen_on_other_subjects_and_without_the_scored_faces(bench):
    inner = bench.inner()
    sides = inner.split.train, inner.split.test
    assert not set(sides[0]["subject"]) & set(sides[1]["subject"])
    assert {*sides[0].index, *sides[1].index} == set(bench.split.train.index)
    assert len(inner.pixels) == len(sides[0])
    assert len(inner.scored) == len(sides[1])
    plain = replace(bench.split, train=FaceTable(pd.DataFrame(bench.split.train).drop(columns="subject")))
    by_content = replace(bench, split=plain).inner()
    assert 0 < len(by_content.split.test) < len(by_content.split.train)


def test_edges_between_classes_by_votes():
    faces = {"path": ["a", "b", "c"], "expression": ["fear", "anger", "fear"], "valence": [-0.5, -0.6, -0.4]}
    votes = {f"votes_{name}": [0, 0, 0] for name in SEVEN} | {"votes_fear": [6, 4, 10], "votes_anger": [4, 6, 0]}
    table = FaceTable({**faces, "arousal": [0.5, 0.6, 0.4], **votes}, index=list("abc"))
    split = type("S", (), {"train": table, "test": table})
    found = Bench(None, split, None, None).conditionals
    fear, anger = SEVEN.index("fear"), SEVEN.index("anger")
    assert found[fear, anger] == pytest.approx(0.48 / 2.0)
    assert found[anger, fear] == pytest.approx(0.48 / 1.0)
    assert correlation_adjacency(np.zeros((7, 2)), 0.1, 0.7, found)[fear, anger] == pytest.approx(0.7)


def test_ferplus_has_what_its_votes_let_expect_and_no_copy(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (46, 48, 48), np.uint8)
    order = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
    lines = ["Usage,Image name," + ",".join(order) + ",unknown,NF"]
    for row in range(48):  # 16 train; 16 and 17 copy the first training face and each other, every eighth is contempt
        usage, folder = ("Training", "FER2013Train") if row < 16 else ("PublicTest", "FER2013Valid")
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(noise[0 if row in (16, 17) else row - 2 * (row > 17)]).save(
            tmp_path / folder / f"fer{row:07d}.png"
        )
        votes = [8 * (place == row % 8) for place in range(8)]
        votes[0] += 2
        lines.append(f"{usage},fer{row:07d}.png," + ",".join(map(str, votes)) + ",0,0")
    (tmp_path / "fer2013new.csv").write_text("\n".join(lines) + "\n")
    skipped = []
    split = ferplus_split(tmp_path, skipped)
    assert len(split.train) == 14
    assert len(split.test) == 26
    assert len(skipped) == 2
    assert "contempt" not in {*split.train["expression"], *split.test["expression"]}
    happy = split.test[split.test["expression"] == "happiness"].iloc[0]
    assert happy["valence"] == pytest.approx(0.8 * 0.386 + 0.2 * 0.021)
    by_votes = Bench(None, split, None, None).conditionals
    assert by_votes[1, 0] == pytest.approx(0.2)  # where one rater says happiness, another says neutral


def test_another_backbone_trains_its_own_rows(bench, monkeypatch):
    """Table 6.5 with a small network in the place of BReG-NeXt."""
    monkeypatch.setattr(emotion_gcn, "BREG_BACKBONE", "resnet10_grey48")
    report = run(bench, (0,), ("breg",))
    (table,) = report.sections
    assert {row.name: row.paper["accuracy"] for row in table.rows} == BREG
    assert report.data["setting"].startswith("resnet10_grey48, 2 steps")
    assert "These are what vgg8_grey48 prefers." in table.notes[-1]


def test_networks_that_learned_nothing_are_named():
    weights = np.concatenate([np.zeros((7, 2)), [[1.0, 0.0], [0.0, 1.0]]])
    embedding = np.array([[5.0, 0.1], [7.0, 0.3]], np.float16)
    runs = {
        "far": [Trained({"accuracy": 0.9, "CCC-V": 0.001, "CCC-A": 0.8}, None, weights, embedding)],
        "near": [Trained({"CCC-V": 0.6, "CCC-A": 0.7}, None, weights, embedding)],
        "classes": [Trained({"accuracy": 0.9}, None, weights, embedding)],
    }
    assert list(lost(runs)) == ["far, V: mean 6.0, deviation 1.0"]


def test_what_the_report_says_of_a_gain():
    def runs(single, multi):
        made = {
            name: [Trained({"accuracy": value}, None, None, None) for value in values]
            for name, values in ((SINGLE, single), (CCC, multi), (GCN, multi), (LESS, multi))
        }
        return next(iter(_beaten(made)))

    assert "9.5 points of accuracy above the single task: more than one deviation over seeds (1.4)" in runs(
        (0.7, 0.72), (0.8, 0.81)
    )
    assert "10.5 points of accuracy below the single task: more than" in runs((0.7, 0.72), (0.6, 0.61))
    assert "not more than" in runs((0.7, 0.72), (0.71, 0.72))
    assert "not more than" in runs((0.7,), (0.8,))


def test_rows_without_a_graph_are_free_vectors():
    model = create_model("emotion_gcn", backbone="vgg8_grey48", **FREE)
    assert [tuple(layer.weight.shape) for layer in model.graph.layers] == [(256, 9)]


def test_examples():
    for module in (emotion_gcn, emotion_gcn_bench):
        assert doctest.testmod(module).failed == 0
