"""exprembed export onnx, and the file where weights go: --model model.onnx, --engine onnx."""

import numpy as np
import pytest

from exprembed.cli._vectors import read_vectors
from exprembed.models import load_model

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def exported(cli, weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return cli("export", "onnx", weights, "--out", out, "--json"), out


def test_export_says_what_it_wrote(exported, weights):
    done, out = exported
    assert (done.code, done.err) == (0, "")
    said, model = done.json, load_model(weights)
    assert said["out"] == str(out)
    assert said["bytes"] == out.stat().st_size
    assert 0 <= said["difference"] <= said["tolerance"] == 1e-4
    assert (said["model"], said["dim"], said["metric"], said["size"]) == (model.fingerprint, 4, "l2", 48)


def test_the_card_travels_along(cli, exported):
    shown = cli("weights", "show", exported[1], "--json")
    assert shown.code == 0
    assert shown.json["licence"] == "test"
    assert shown.json["scores"] == {"some, score": 0.5}


def test_the_difference_is_printed(cli, weights, tmp_path, monkeypatch):
    monkeypatch.setattr("exprembed.models.export_onnx", lambda *_: (tmp_path / "m.onnx").write_bytes(b"x") * 2.5e-7)
    done = cli("export", "onnx", weights, "--out", tmp_path / "m.onnx")
    assert "at most 2.5e-07 on 16 rendered faces" in done.out


def test_embedding_by_the_file_is_embedding_by_torch(cli, exported, photos, weights, tmp_path):
    found = {}
    for model in (weights, exported[1]):
        out = tmp_path / f"{model.suffix}.parquet"
        assert cli("embed", photos, "--aligned", "--model", model, "--threads", "1", "--out", out).code == 0
        found[model.suffix] = read_vectors(out)
    theirs, ours = found[".safetensors"], found[".onnx"]
    np.testing.assert_allclose(ours.vectors, theirs.vectors, atol=1e-4)
    assert (ours.model, ours.metric) == (theirs.model, theirs.metric)


def test_engine_onnx_exports_once(cli, photos, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("EXPREMBED_CACHE", str(tmp_path / "cache"))
    words = ["embed", photos, "--aligned", "--model", weights, "--engine", "onnx", "--out", tmp_path / "f.parquet"]
    first = cli(*words)
    assert first.code == 0
    assert "once" in first.err
    (file,) = (tmp_path / "cache").iterdir()
    written = file.stat().st_mtime_ns
    assert load_model(file).fingerprint == load_model(weights).fingerprint == read_vectors(tmp_path / "f.parquet").model
    second = cli(*words)
    assert second.code == 0
    assert "once" not in second.err
    assert file.stat().st_mtime_ns == written


def test_an_index_of_one_answers_the_other(cli, exported, photos, weights, tmp_path):
    index, query = tmp_path / "faces.index", min(photos.iterdir())
    assert cli("index", "build", photos, "--aligned", "--model", exported[1], "--out", index).code == 0
    for model in (weights, exported[1]):
        done = cli("index", "search", index, query, "--aligned", "--model", model, "-k", "1", "--json")
        assert done.code == 0, done.err
        assert str(query) in done.out


@pytest.mark.parametrize(
    ("engine", "expected"), [("torch", "is an ONNX model"), ("onx", "did you mean 'onnx'?"), ("onnx", None)]
)
def test_engines_that_do_not_fit(cli, exported, photos, tmp_path, engine, expected):
    out = tmp_path / "f.parquet"
    done = cli("embed", photos, "--aligned", "--model", exported[1], "--engine", engine, "--out", out)
    assert done.code == (2 if expected else 0)
    assert (expected or "") in done.err
    assert out.exists() == (expected is None)


def test_wrong_use_and_bad_input(cli, weights, exported, tmp_path):
    done = cli("export", "onnx", weights, "--out", tmp_path / "model.pt")
    assert (done.code, done.out) == (2, "")
    assert ".onnx" in done.err
    assert cli("export", "onnx", "fecnet_ferplus_15d", "--out", tmp_path / "m.onnx").code == 2
    assert cli("export", "onnx", tmp_path / "absent.safetensors", "--out", tmp_path / "m.onnx").code == 3
    again = cli("export", "onnx", exported[1], "--out", tmp_path / "m.onnx")
    assert again.code == 2
    assert "copy the file" in again.err
    assert not list(tmp_path.iterdir())


def test_a_model_that_differs_is_3_and_leaves_no_file(cli, weights, tmp_path, monkeypatch):
    monkeypatch.setattr("exprembed.models.onnx._difference", lambda *_: 1.0)
    done = cli("export", "onnx", weights, "--out", tmp_path / "m.onnx")
    assert done.code == 3
    assert "differs from torch by 1 where 0.0001 is allowed" in done.err
    assert not list(tmp_path.iterdir())
