"""GCNet's tables and figures on a few rendered people: every part runs, folds keep people apart, verdicts say what they should."""

import copy
import dataclasses

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation._kept import Kept
from evaluation.gcnet import PAPER, Bench, _verdict, run
from evaluation.gcnet_contrast import scores
from evaluation.gcnet_data import SHOWN, ferplus_validation, left_out, pretraining_faces, rendered_sequences, shown
from evaluation.gcnet_protocol import METHODS, cross_validate, recipe_for, score
from exprembed.data import FaceTable
from exprembed.errors import BadInputError, WrongUseError
from exprembed.models import create_model
from exprembed.models.gcnet import CLASSES
from exprembed.training import load_recipe


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    base = load_recipe("gcnet-small", ["init=null", "steps=2", "sampler.batch_size=8", "check_every=2"])
    return Bench(base, (0,), 2, tmp_path_factory.mktemp("work"), subjects=4, data="middle")


def test_sequences_are_laid_out_as_ckplus(bench):
    sequences = rendered_sequences(bench.work / "sequences", 4)
    assert len(sequences) == 4 * 7 * 10
    for which, frames in SHOWN.items():
        faces = pd.DataFrame(shown(sequences, which))
        assert len(faces) == 4 * 7 * 4
        assert set(faces["frame"]) == {0, *frames}
        assert (faces.loc[faces["reference"], "expression"] == "neutral").all()
        assert (faces.loc[faces["reference"], "subject"].to_numpy() == faces["subject"].to_numpy()).all()
    scenes = pd.DataFrame(sequences).groupby("sequence")[["yaw", "light"]].first()
    assert len(scenes.drop_duplicates()) == 28  # nothing but the face tells the expression


def test_no_test_person_trains(bench, monkeypatch):
    from evaluation import gcnet_protocol

    seen = []

    def watched(recipe):
        seen.append(set(FaceTable.read_parquet(recipe.data.path)["subject"]))
        return create_model("baseline_cnn", classes=list(CLASSES[7]), backbone="gcnet_cnn_small")

    monkeypatch.setattr(gcnet_protocol, "trained", watched)
    tested = [
        set(r.faces["subject"]) for *_, r in cross_validate(bench.faces, bench.base, CLASSES[7], ["CNN"], (0,), 4)
    ]
    assert [len(people) for people in tested] == [1] * 4
    assert set.union(*tested) == set(bench.faces["subject"])
    for people, others in zip(tested, seen, strict=True):
        assert not people & others
        assert people | others == set(bench.faces["subject"])


def test_every_method_reads_the_same_batches(bench, tmp_path):
    recipes = {name: recipe_for(bench.base, name, CLASSES[7], tmp_path / "t.parquet", 3) for name in METHODS}
    for name, recipe in recipes.items():
        assert (recipe.seed, recipe.data.references, recipe.sampler) == (3, True, bench.base.sampler)
        assert recipe.model["name"] == METHODS[name][0]
        assert recipe.model.items() >= METHODS[name][1].items()
        model = create_model(**recipe.model)
        assert model.classes == CLASSES[7]
    assert recipes["CNN"].objectives[0].loss == "focal"
    assert bench.base.objectives[0].loss == "gcnet"
    assert recipes["GCNet S1R1, VAE"].model["generator"] == "vae"


def test_tables_figures_and_generators(bench, tmp_path):
    report = run(bench, ["tables", "figures", "generators", "sweep"], methods=["CNN", "GCNet S1R1"])
    table, drawn, generators, sweep = report.sections
    assert [row.name for row in table.rows] == ["CNN", "GCNet S1R1"]
    assert table.rows[1].paper == {"accuracy": 97.93}
    assert len(table.rows[0].ours["accuracy"].values) == 2
    assert table.rows[0].n_used == 4 * 7 * 3
    assert not table.same_data
    assert "GCNet S1R1 less CNN" in " ".join(table.notes)
    assert set(drawn.figures) == {"fig4", "fig5-pixels", "fig5-cnn", "fig5-delta", "fig6-cnn", "fig6-delta", "fig10"}
    assert [row.name for row in generators.rows] == ["autoencoder", "vae", "dcgan"]
    assert len({row.ours["parameters"] for row in generators.rows}) == 3
    assert [row.name for row in sweep.rows][:2] == ["lambda_S = 0.0001", "lambda_S = 0.001"]
    assert (report.write(tmp_path) / "fig4.png").is_file()


def test_contrast(bench, monkeypatch):
    from evaluation import gcnet_contrast

    monkeypatch.setattr(gcnet_contrast, "PEOPLE", 5)
    monkeypatch.setattr(gcnet_contrast, "NEIGHBOURS", 3)
    (section,) = run(bench, ["contrast"]).sections
    assert len(section.rows) == 8
    assert all(0 <= row.ours["identity leak"] <= 100 for row in section.rows)


def test_neighbours_are_of_other_people():
    """Vectors that name the person alone leak, and know nothing of the expression."""
    faces = pd.DataFrame({"subject": np.repeat(list("abcdef"), 4), "expression": ["fear", "anger"] * 12})
    person = np.repeat(np.eye(6), 4, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(24, 6))
    assert scores(person, faces)["identity leak"] > 0
    expression = np.tile(np.eye(2), (12, 1)) + 0.01 * np.random.default_rng(0).normal(size=(24, 2))
    found = scores(np.repeat(expression, 1, axis=0), faces)
    assert found["accuracy by neighbours"] == 100
    assert found["identity leak"] == 0


def test_the_verdict_compares_fold_by_fold():
    def tested(accuracy, leak):
        return {"accuracy": accuracy, "leak": leak, "chance": 0.1}

    found = {"CNN": [tested(0.5, 0.4), tested(0.7, 0.4)], "GCNet S1R1": [tested(0.6, 0.1), tested(0.9, 0.3)]}
    (line,) = _verdict(found)
    assert line.startswith(
        "GCNet S1R1 less CNN: +15.0 points, standard deviation over trainings 7.1; the CNN's own is 14.1"
    )
    assert line.endswith("0.50 of it; above chance 10.0 and 30.0 points.")
    assert _verdict({"CNN": found["CNN"]}) == []
    assert PAPER["Table IV"]["GCNet S1R1"] == 81.53


def test_a_finished_fold_is_not_trained_again(bench, tmp_path, monkeypatch):
    """The second run reads what the first kept; another rate is another setting."""
    from evaluation import gcnet_protocol

    own = dataclasses.replace(bench, kept=Kept(tmp_path), base=copy.deepcopy(bench.base))
    first = run(own, ["tables"], methods=["CNN"])
    assert len(list(tmp_path.glob("*.npz"))) == 2
    monkeypatch.setattr(gcnet_protocol, "trained", None)
    again = run(own, ["tables"], methods=["CNN"])
    assert again.sections[0].rows == first.sections[0].rows
    own.base.learning_rate *= 2
    with pytest.raises(TypeError):
        run(own, ["tables"], methods=["CNN"])


def test_pretraining_people_are_others(bench, tmp_path):
    table = FaceTable.read_parquet(pretraining_faces(tmp_path, subjects=3, each=2))
    assert not set(table["subject"]) & set(bench.faces["subject"])
    assert len(table) == 6


def test_bad_input(bench):
    with pytest.raises(WrongUseError, match="did you mean 'tables'"):
        run(bench, ["table"])
    model = create_model("baseline_cnn", classes=["joy"], backbone="gcnet_cnn_small")
    with pytest.raises(BadInputError, match="none of the 112 faces has one of the classes joy"):
        score(model, pd.DataFrame(bench.faces))


def test_a_real_set_fills_its_table(bench, tmp_path):
    """Oulu-CASIA in its official layout: Table V, six classes, what was left out counted."""
    noise = np.random.default_rng(0)
    for person in range(1, 5):
        for name in ("Anger", "Disgust", "Fear", "Happiness", "Sadness"):
            for frame in range(3):
                path = tmp_path / f"VL/Strong/P{person:03d}/{name}/{frame:03d}.jpeg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(noise.integers(0, 256, (40, 40), np.uint8)).save(path)
    report = run(bench, ["tables"], real={"oulu_casia": tmp_path}, methods=["GCNet S1R1"])
    section = report.sections[1]
    assert section.title.startswith("Table V: 6 classes")
    assert section.rows[0].paper == {"accuracy": 86.11}
    assert section.rows[0].n_used == 4 * 5 * 2
    assert "20 sequences of 4 people" in section.data
    assert "the sequence is absent: 4" in section.data


def test_copies_of_ferplus_are_counted(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (3, 48, 48), np.uint8)
    (tmp_path / "FER2013Valid").mkdir()
    lines = ["Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"]
    for row, (image, votes) in enumerate(((0, "9,1"), (1, "1,9"), (0, "8,2"), (2, "5,5"))):
        Image.fromarray(noise[image]).save(tmp_path / f"FER2013Valid/fer{row:07d}.png")
        lines.append(f"PublicTest,fer{row:07d}.png,{votes},0,0,0,0,0,0,0,0")
    (tmp_path / "fer2013new.csv").write_text("\n".join(lines) + "\n")
    skipped = []
    assert ferplus_validation(tmp_path, skipped)["expression"].tolist() == ["neutral", "happiness"]
    assert left_out(skipped) == ["Left out: exact copy of an earlier image: 1"]
    assert left_out([]) == []
