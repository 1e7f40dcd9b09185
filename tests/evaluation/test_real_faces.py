"""The report on real faces, the one on changed pictures and the one on CelebA, on rendered faces in their layouts."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from evaluation import celeba_index, fec, real_faces, robustness
from exprembed.data import FaceTable, TripletTable
from exprembed.data.synthetic import render_faces, synthetic_triplets
from exprembed.data.tables import EXPRESSIONS
from exprembed.data.triplets import triplets_from_votes
from exprembed.errors import BadInputError
from exprembed.models import AFFNetCL, FECNet


def voted(n, subjects, seed):
    images, faces = render_faces(n, subjects, seed, size=48)
    table = pd.DataFrame(faces)
    for name in EXPRESSIONS:
        table[f"votes_{name}"] = 8 * (table["expression"] == name) + (name == "neutral")
    return np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images]), FaceTable(table)


@pytest.fixture(scope="module")
def faces():
    tables, images = {}, {}
    for seed, name in enumerate(("gallery", "queries", "raf", "jaffe")):
        images[name], tables[name] = voted(240, 6, seed)
    strong = triplets_from_votes(tables["queries"], 100, seed=0, strong_only=True)
    judged = synthetic_triplets(tables["jaffe"], 60, seed=0)
    return real_faces.RealFaces(
        tables["gallery"], tables["queries"], strong, tables["raf"], tables["jaffe"], judged, images, 300, []
    )


def one_hot(faces):
    """An embedding that knows each face's expression and nothing else."""
    classes = {name: i for i, name in enumerate(EXPRESSIONS)}
    return {
        name: pd.DataFrame(
            np.eye(8, dtype=np.float32)[getattr(faces, name)["expression"].map(classes)],
            index=getattr(faces, name).index,
        )
        for name in faces.images
    }


def test_knowing_the_class_scores_what_it_must(faces):
    scores = real_faces.score(faces, one_hot(faces), "l2")
    assert scores["FER+ AUC"] == pytest.approx(100)
    assert scores["RAF-DB AUC"] == pytest.approx(100)
    assert scores["one-class"] == 0
    assert scores["two-class"] > 95


def test_a_report_has_every_row_and_column(faces):
    report = real_faces.run(faces, {"classes": ("l2", [one_hot, one_hot])}, seeds=(0, 1))
    rows = {row.name: row for row in report.sections[0].rows}
    assert set(rows) >= {"chance", "median simulated rater", "the votes themselves (Hellinger)", "classes"}
    assert set(rows["classes"].ours) == set(real_faces.COLUMNS)
    assert rows["chance"].ours["FER+ triplets"] == pytest.approx(100 / 3)
    assert 0 < rows["chance"].ours["JAFFE leak"] < 30
    assert rows["the votes themselves (Hellinger)"].ours["two-class"] > 95
    assert rows["median simulated rater"].ours["FER+ triplets"] > 66
    json.loads(report.to_json())


def test_tables_are_what_the_fec_evaluation_takes(faces, tmp_path):
    sets = {"gallery": faces.gallery.assign(split="train").add_prefix("train-", axis=0)}
    sets["queries"] = faces.queries.assign(split="validation").add_prefix("validation-", axis=0)
    strong = triplets_from_votes(FaceTable(sets["queries"]), 100, strong_only=True)
    ferplus = dataclasses.replace(faces, **{name: FaceTable(table) for name, table in sets.items()}, triplets=strong)
    real_faces.write_tables(ferplus, {"FECNet-16d": ("l2", [one_hot, one_hot])}, tmp_path)
    given = [f"--faces={tmp_path}/faces.parquet", f"--triplets={tmp_path}/triplets.parquet"]
    given += [f"--vectors=FECNet-16d={tmp_path}/FECNet-16d-{seed}.parquet" for seed in (0, 1)]
    result = CliRunner().invoke(fec.app, [*given, "--tables=1,3", "--json"])
    assert result.exit_code == 0, result.output
    first, third = json.loads(result.stdout)["sections"]
    row = next(row for row in third["rows"] if row["name"] == "FECNet-16d")
    assert row["ours"]["all"]["values"] == [row["ours"]["all"]["mean"]] * 2
    assert row["n_used"] == len(strong)  # the strong ones, which the report scores
    assert first["title"].startswith("Table 1")


def test_networks_joined_agree_with_each(faces):
    """Two embeddings of the same cosines, joined, have those cosines; the others' faces have no say in the turning."""
    other = real_faces.joined([one_hot, lambda sets: {name: -table for name, table in one_hot(sets).items()}], 8)
    vectors, exact = other(faces), one_hot(faces)
    for name in faces.images:
        assert vectors[name].index.equals(getattr(faces, name).index)
        assert np.allclose(vectors[name] @ vectors[name].T, exact[name] @ exact[name].T, atol=1e-5)


def test_models_and_baselines_embed_every_set(faces):
    model = FECNet(backbone="resnet10_grey48", dense_channels=0, hidden=16)
    for maker in (real_faces.embed_with(model), real_faces.simple(real_faces.pixels_pca)):
        vectors = maker(faces)
        for name in faces.images:
            assert vectors[name].shape == (240, 16)
            assert vectors[name].index.equals(getattr(faces, name).index)


def test_a_cache_is_kept_per_model_and_pictures(faces, tmp_path):
    shares = {"shares": 0.5, "classes": list("abcdefgh")}
    path = FECNet(backbone="resnet10_grey48", dense_channels=0, hidden=16, **shares).save(tmp_path / "net")
    plain, hidden = real_faces.load_model(path), real_faces.hidden_layer(path)
    first = {model: real_faces.embed_with(model, tmp_path / "cache")(faces) for model in (plain, hidden)}
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 8
    again = real_faces.embed_with(plain, tmp_path / "cache")(faces)
    fresh = real_faces.embed_with(plain)(faces)
    for name in faces.images:
        assert again[name].equals(first[plain][name])
        assert np.allclose(again[name], fresh[name], atol=1e-6)
        assert (first[hidden][name].to_numpy() >= 0).all()  # ReLU6, no normalisation
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 8


def test_classifier_layers_are_those_of_the_network(faces, tmp_path):
    p = AFFNetCL(layer="P", backbone="resnet10_grey48", dense_channels=0, hidden=16)
    f = AFFNetCL(layer="F", backbone="resnet10_grey48", dense_channels=0, hidden=16)
    f.load_state_dict(p.state_dict())
    makers = real_faces.classifier_layers(p.save(tmp_path / "p"))
    assert np.allclose(makers["P"](faces)["raf"], real_faces.embed_with(p)(faces)["raf"], atol=1e-5)
    logits = real_faces.embed_with(f)(faces)["raf"]
    assert np.allclose(makers["F"](faces)["raf"], logits, atol=1e-4)
    roots = makers["class shares"](faces)["raf"]
    assert np.allclose(np.square(roots), torch.softmax(torch.tensor(logits.to_numpy()), dim=1), atol=1e-5)
    assert roots.index.equals(logits.index)
    network = FECNet(backbone="resnet10_grey48", dense_channels=0, hidden=16, classes=f.config["classes"], shares=0.5)
    network.load_state_dict(f.state_dict(), strict=False)
    shown = real_faces.embed_with(f)(faces)["gallery"].to_numpy()
    network.embedding.mean.copy_(torch.tensor(shown - shown.mean(axis=1, keepdims=True)).mean(dim=0))
    due = real_faces.embed_with(network)(faces)["raf"]
    assert np.allclose(makers["shares and odds"](faces)["raf"], due, atol=1e-4)


def test_duplicates_across_splits_are_left_out(tmp_path, monkeypatch):
    grey, _ = voted(24, 3, 0)
    for folder, numbers in (("FER2013Train", range(12)), ("FER2013Valid", range(12, 24))):
        (tmp_path / "ferplus" / folder).mkdir(parents=True)
        for i in numbers:
            source = {12: 0, 13: 14}.get(i, i)  # 12 copies a training image, 13 and 14 are the same image
            Image.fromarray(grey[source]).save(tmp_path / "ferplus" / folder / f"fer{i:07d}.png")
    order = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
    lines = ["Usage,Image name," + ",".join(order) + ",unknown,NF"]
    for i in range(24):
        votes = ",".join(str(9 * (j == i % 4)) for j in range(8))
        lines.append(f"{'Training' if i < 12 else 'PublicTest'},fer{i:07d}.png,{votes},0,1")
    (tmp_path / "ferplus" / "fer2013new.csv").write_text("\n".join(lines) + "\n")
    nobody = FaceTable({"path": [], "split": [], "subject": [], "expression": []}, index=pd.Index([], dtype=str))
    monkeypatch.setattr(real_faces, "read_rafdb", lambda _: FaceTable({"path": ["x"], "split": ["train"]}, index=["x"]))
    monkeypatch.setattr(real_faces, "read_jaffe", lambda _: nobody)
    stop = RuntimeError("the rest is not of interest here")

    def grey_or_stop(table):
        if table["path"].iloc[0] == "x":
            raise stop
        return original(table)

    original, kept = real_faces.grey_pictures, {}
    monkeypatch.setattr(real_faces, "grey_pictures", grey_or_stop)
    monkeypatch.setattr(real_faces, "triplets_from_votes", lambda queries, *_, **__: kept.update(q=list(queries.index)))
    with pytest.raises(RuntimeError, match="not of interest"):
        real_faces.read_real_faces(tmp_path)
    assert len(kept["q"]) == 10
    assert "fer0000012" not in kept["q"]
    assert "fer0000013" in kept["q"]
    assert "fer0000014" not in kept["q"]


def test_each_change_changes_the_picture_and_keeps_its_size():
    grey, _ = voted(8, 1, 0)
    picture = Image.fromarray(grey[-1])
    for name, change in robustness.CHANGES.items():
        changed = np.asarray(change(picture))
        assert changed.shape == (48, 48)
        assert (np.abs(changed.astype(int) - grey[-1]).mean() > 0.5) == (name != "as it is"), name
    flat = Image.fromarray(np.full((48, 48), 77, np.uint8))
    for name in ("roll 15 degrees", "zoom 0.8", "zoom 1.25"):
        assert (np.asarray(robustness.CHANGES[name](flat)) == 77).all(), name


def test_robustness_report(faces):
    model = FECNet(backbone="resnet10_grey48", dense_channels=0, hidden=16)
    pictures = {
        str(face): Image.fromarray(image)
        for face, image in zip(faces.queries.index, faces.images["queries"], strict=True)
    }
    report = robustness.run({"toy": model}, pictures, faces.triplets, "rendered faces")
    assert [row.name for row in report.sections[0].rows] == list(robustness.CHANGES)
    assert all(0 <= row.ours["toy"] <= 100 for row in report.sections[0].rows)


def test_celeba_through_the_launcher(tmp_path):
    images, table = render_faces(16, 2, 4, size=96)
    (tmp_path / "img_align_celeba").mkdir()
    rows, people = [], []
    for i, (image, expression) in enumerate(zip(images, table["expression"], strict=True)):
        Image.fromarray(image).resize((178, 218)).save(tmp_path / "img_align_celeba" / f"{i + 1:06d}.jpg")
        rows.append(f"{i + 1:06d}.jpg {1 if expression == 'happiness' else -1} 1")
        people.append(f"{i + 1:06d}.jpg {i % 2 + 1}")
    (tmp_path / "list_attr_celeba.txt").write_text("16\nSmiling Young\n" + "\n".join(rows) + "\n")
    (tmp_path / "identity_CelebA.txt").write_text("\n".join(people) + "\n")
    report = celeba_index.run(tmp_path, queries=16, k=3, threads=1)
    job, search = report.sections
    assert job.rows[0].n_used == 16
    assert job.rows[0].ours["images a second"] > 0
    rates = [row.ours["base rate, %"] for row in search.rows]
    assert sum(rates) == pytest.approx(100)
    assert rates[0] == pytest.approx(100 * (table["expression"] == "happiness").mean())
    with pytest.raises(BadInputError, match="Smilng"):
        celeba_index.run(tmp_path, "Smilng")


def test_triplet_tables_are_what_they_say(faces):
    assert isinstance(faces.triplets, TripletTable)
    assert set(faces.triplets["agreement"]) == {"strong"}
