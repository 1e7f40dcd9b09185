"""exprembed evaluate, album, weights, train, features: the numbers are the library's, the output is JSON or a table."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from exprembed.cli.evaluate import PAPERS
from exprembed.data.synthetic import synthetic_triplets
from exprembed.data.tables import FaceTable
from exprembed.index import summarize_album, svm_classifier
from exprembed.metrics import (
    cross_validated_knn_auc,
    expression_retrieval_precision,
    knn_auc_roc,
    mean_class_accuracy,
    triplet_accuracy,
)


@pytest.fixture
def vectors(rendered, tmp_path):
    """Vectors of the rendered faces with their labels, as `embed` writes them."""
    values = np.random.default_rng(0).normal(size=(len(rendered), 3)).astype(np.float32)
    table = pd.DataFrame(rendered).drop(columns="landmarks")
    table[["v00", "v01", "v02"]] = values
    table.to_parquet(tmp_path / "v.parquet")
    return tmp_path / "v.parquet", pd.DataFrame(values, index=rendered.index)


def test_triplets(cli, vectors, rendered, tmp_path):
    path, values = vectors
    triplets = synthetic_triplets(FaceTable(pd.DataFrame(rendered)), per_type=40)
    weak = pd.DataFrame(triplets).copy()
    weak.loc[:9, "agreement"] = "weak"
    weak.to_parquet(tmp_path / "t.parquet")
    words = ["evaluate", "triplets", "--vectors", path, "--triplets", tmp_path / "t.parquet"]
    strong = cli(*words, "--json").json
    assert strong["n"] == 110
    assert strong["overall"] == pytest.approx(triplet_accuracy(values, weak[10:]).overall)
    every = cli(*words, "--agreement", "all", "--metric", "cosine", "--json").json
    assert (every["n"], every["metric"]) == (120, "cosine")
    assert every["by_type"] == pytest.approx(triplet_accuracy(values, weak, "cosine").by_type)
    table = cli(*words)
    assert "one_class" in table.out
    assert "chance 33.3 %" in table.out
    assert cli(*words, "--metric", "l3").code == 2
    assert cli(*words, "--agreement", "none").code == 3


def test_knn(cli, vectors, rendered):
    path, values = vectors
    labels = rendered["expression"]
    folds = cli("evaluate", "knn", "--gallery", path, "-k", "7", "--folds", "3", "--json").json
    assert folds["mean"] == pytest.approx(cross_validated_knn_auc(values, labels, 7, 3).mean)
    both = cli("evaluate", "knn", "--gallery", path, "--queries", path, "-k", "5", "--label", "subject", "--json").json
    assert both["mean"] == pytest.approx(knn_auc_roc(values, rendered["subject"], values, rendered["subject"], 5).mean)
    wrong = cli("evaluate", "knn", "--gallery", path, "--label", "expresion")
    assert wrong.code == 3
    assert "did you mean 'expression'?" in wrong.err
    assert cli("evaluate", "knn", "--gallery", path, "-k", "500").code == 3


def test_svm(cli, vectors, rendered, tmp_path):
    path, values = vectors
    truth = rendered["expression"].to_numpy(str)
    both = cli("evaluate", "svm", "--gallery", path, "--queries", path, "-C", "2", "--json").json
    named = svm_classifier(C=2).fit(values.to_numpy(), truth).predict(values.to_numpy())
    assert both["mean"] == pytest.approx(mean_class_accuracy(truth, named))
    assert both["by_class"]["fear"] == pytest.approx((named == truth)[truth == "fear"].mean())
    folds = cli("evaluate", "svm", "--gallery", path, "--folds", "3", "--kernel", "linear", "--json").json
    assert 0 <= folds["mean"] < both["mean"]
    assert folds["n"] == len(rendered)
    assert cli("evaluate", "svm", "--gallery", path, "--folds", "60").code == 3
    wrong = cli("evaluate", "svm", "--gallery", path, "--kernel", "rfb")
    assert wrong.code == 2
    assert "did you mean 'rbf'?" in wrong.err
    assert "cuML" in cli("evaluate", "svm", "--gallery", path, "--device", "cuda").err


def test_every_paper_has_its_command(cli):
    pytest.importorskip("evaluation.fec")
    for name in PAPERS:
        done = cli("evaluate", name, "--help")
        assert done.code == 0
        assert f"exprembed evaluate {name}" in done.out
        assert "--out" in done.out
    assert "--triplets" in cli("evaluate", "fec", "--help").out


def test_retrieval(cli, vectors, rendered):
    path, values = vectors
    words = ["evaluate", "retrieval", "--vectors", path, "-k", "4"]
    every = cli(*words, "--json").json
    expected = expression_retrieval_precision(values, rendered["expression"], k=4)
    assert (every["precision"], every["base_rate"]) == pytest.approx((expected.precision, expected.base_rate))
    others = cli(*words, "--other-subjects", "--json").json
    expected = expression_retrieval_precision(values, rendered["expression"], k=4, subjects=rendered["subject"])
    assert others["precision"] == pytest.approx(expected.precision)
    some = [cli(*words, "--queries", "10", "--json").json for _ in range(2)]
    assert some[0] == some[1]
    assert some[0]["n"] == 10
    assert cli(*words, "--queries", "1000").code == 2


def test_vectors_of_two_models_are_not_compared(cli, vectors, tmp_path):
    path, _ = vectors
    for name in ("a", "b"):
        table = pd.read_parquet(path)
        table.attrs = {"model": name, "metric": "l2"}
        table.to_parquet(tmp_path / f"{name}.parquet")
    done = cli("evaluate", "knn", "--gallery", tmp_path / "a.parquet", "--queries", tmp_path / "b.parquet", "-k", "3")
    assert done.code == 3
    assert "two different models" in done.err


def test_a_protocol_needs_a_checkout(cli, monkeypatch):
    monkeypatch.setattr("exprembed.cli.evaluate.__file__", "/nowhere/exprembed/cli/evaluate.py")
    done = cli("evaluate", "fec", "--faces", "x")
    assert done.code == 2
    assert "checkout" in done.err


def test_album_of_files_and_of_vectors(cli, photos, weights, tmp_path):
    parquet = tmp_path / "faces.parquet"
    assert cli("embed", photos, "--aligned", "--model", weights, "--out", parquet).code == 0
    values = pd.read_parquet(parquet)[["v00", "v01", "v02", "v03"]]
    expected = summarize_album(values, 4)
    for source, words in ((parquet, []), (photos, ["--aligned", "--model", weights])):
        found = cli("album", source, "--summary", "4", "--json", *words)
        assert found.code == 0
        assert [group["representative"] for group in found.json["groups"]] == list(expected.representatives)
        assert [group["size"] for group in found.json["groups"]] == list(expected.sizes)
        assert sorted(found.json["group_of"]) == sorted(values.index)
    nobody = cli("album", parquet, "--per-person")
    assert nobody.code == 2
    assert "a column 'subject'" in nobody.err
    people = pd.read_parquet(parquet).assign(subject=[f"p{place % 3}" for place in range(len(values))])
    people.to_parquet(tmp_path / "people.parquet")
    found = cli("album", tmp_path / "people.parquet", "--per-person", "--summary", "4", "--json").json
    expected = summarize_album(values, 4, people["subject"].tolist())
    assert [group["representative"] for group in found["groups"]] == list(expected.representatives)
    page = tmp_path / "album.html"
    assert cli("album", photos, "--aligned", "--model", weights, "--out", page, "--summary", "4").code == 0
    assert page.read_text().count("<img ") == 4


def test_an_album_takes_one_photo_of_a_burst(cli, photos, weights, tmp_path):
    burst = tmp_path / "burst"
    burst.mkdir()
    for place, photo in enumerate(sorted(photos.iterdir())[:6]):
        exif = Image.Exif()
        if place < 5:
            exif.get_ifd(0x8769)[0x9003] = f"2024:05:01 12:00:{2 * place + 20 * (place == 4):02d}"
        Image.open(photo).save(burst / f"{place}.jpg", exif=exif, quality=95)
    words = ["album", burst, "--aligned", "--model", weights, "--summary", "6", "--json", "--best-of"]
    found = cli(*words, "burst").json
    assert found["bursts"] == {"photos": 6, "without_time": 1, "kept": 3}
    assert found["faces"] == 3
    assert {str(burst / "4.jpg"), str(burst / "5.jpg")} < set(found["group_of"])
    assert cli(*words, "burst", "--gap", "1").json["faces"] == 6
    assert cli(*words, "brust").code == 2


def test_weights(cli, weights):
    shown = cli("weights", "show", weights, "--json").json
    assert shown["licence"] == "test"
    assert "licence" in cli("weights", "show", weights).out
    listed = cli("weights", "list", "--json")
    assert listed.code == 0
    assert listed.json["default"] == "fecnet_ferplus_16d"


def test_train_lists_recipes_and_passes_on_what_it_is_told(cli, tmp_path, monkeypatch):
    from exprembed.training import list_recipes, run

    assert set(cli("train", "--list", "--json").json["recipes"]) == set(list_recipes())
    seen = {}

    def fake(recipe, out, resume, progress):
        seen.update(steps=recipe.steps, path=recipe.data.path, out=out, resume=resume, progress=progress)
        print("a library prints")
        return run.TrainingResult(None, out / "w.safetensors", 9, 0.5)

    monkeypatch.setattr(run, "train", fake)
    words = ["train", "ferplus-triplets-small", "--set", "steps=3", "--set", "data.path=faces", "--out", tmp_path]
    done = cli(*words, "--json")
    assert (done.code, done.json["faces"], done.json["watched"]) == (0, 9, 0.5)
    assert seen == {"steps": 3, "path": "faces", "out": tmp_path, "resume": False, "progress": False}
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    again = cli(*words)
    assert again.code == 2
    assert "--resume" in again.err
    assert cli(*words, "--resume").code == 0
    assert seen["resume"] is True


def test_the_last_line_of_a_log(tmp_path):
    from exprembed.cli.train import _last_line

    log = tmp_path / "metrics.csv"
    assert _last_line(log) == ""
    log.write_text("epoch,loss/x,step\n")
    assert _last_line(log) == ""
    log.write_text("epoch,loss/x,step\n0,1.23456789,49\n0,,99\n")
    assert _last_line(log) == "epoch 0, step 99"


def test_features_are_cached_once(cli, photos, weights, tmp_path):
    words = ["features", "--model", weights, "--faces", photos, "--out", tmp_path / "cache", "--json"]
    first = cli(*words).json
    assert first["shape"] == [12, 320, 3, 3]
    assert np.load(first["path"]).dtype == np.float16
    assert cli(*words).json["path"] == first["path"]
    assert len(list((tmp_path / "cache").iterdir())) == 1
