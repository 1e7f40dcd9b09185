"""Saved indexes: what comes back, what is refused, and what a kill at any moment leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from exprembed.errors import BadInputError, WrongUseError
from exprembed.index import ExpressionIndex, store

FILES = {"manifest.json", "vectors.faiss", "items.parquet"}


class Model:
    """What the index asks of a model."""

    embedding_dim = 4
    metric = "cosine"

    def __init__(self, fingerprint="0123abc"):
        self.fingerprint = fingerprint


def filled(kind="auto", metric="cosine", model=None, n=60):
    rng = np.random.default_rng(0)
    index = ExpressionIndex(4, metric, kind, model=model)
    table = pd.DataFrame({"age": np.arange(n), "name": [None, "Zoë"] * (n // 2), "smiling": np.arange(n) % 3 == 0})
    index.add(rng.normal(size=(n, 4)), [f"é{i}" for i in range(n)], table)
    index.remove(["é3", "é4"])
    return index


@pytest.mark.parametrize("kind", ["auto", "hnsw", "ivf", "IVF4,SQ8"])
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_what_was_saved_comes_back(tmp_path, kind, metric):
    index = filled(kind, metric, model="0123abc")
    index.save(tmp_path / "new" / "index")
    again = ExpressionIndex.load(str(tmp_path / "new" / "index"), device="cpu")
    assert {path.name for path in (tmp_path / "new" / "index").iterdir()} == FILES
    assert again.info() == index.info()
    assert again.ids == index.ids
    pd.testing.assert_frame_equal(again.metadata, index.metadata)
    queries = np.random.default_rng(1).normal(size=(9, 4))
    for where in (None, "age > 20 and (smiling or name == null)"):
        before, after = index.search(queries, 7, where), again.search(queries, 7, where)
        assert (before.ids == after.ids).all()
        assert (before.distances == after.distances).all()
    with pytest.raises(BadInputError, match="'é3' was removed"):
        again.add([[1, 1, 1, 1]], ["é3"])
    assert again.add([[1, 1, 1, 1]]) == ["60"]


def test_an_empty_index_and_one_without_metadata_come_back(tmp_path):
    for kind in ("auto", "ivf", "hnsw"):
        index = ExpressionIndex(3, kind=kind)
        index.save(tmp_path / kind)
        again = ExpressionIndex.load(tmp_path / kind)
        assert len(again) == 0
        again.add(np.random.default_rng(0).normal(size=(200, 3)))
        again.save(tmp_path / kind)
        assert len(ExpressionIndex.load(tmp_path / kind)) == 200


def test_removed_items_leave_nothing_but_their_id(tmp_path):
    index = filled()
    index.save(tmp_path)
    table = pq.read_table(tmp_path / "items.parquet").to_pandas()
    assert table.loc[3, "id"] == "é3"
    assert table.loc[3].drop(["id", "_live"]).isna().all()
    assert table["_live"].sum() == 58
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["dim"], manifest["metric"], manifest["next_row"], manifest["live"]) == (4, "cosine", 60, 58)


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    (tmp_path / "vectors.faiss.backup").write_bytes(b"mine too")
    filled().save(tmp_path)
    filled().save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"photo.jpg", "vectors.faiss.backup"}


@pytest.mark.parametrize("name", ["vectors.faiss", "items.parquet"])
def test_a_damaged_cut_or_missing_file_is_named(tmp_path, name):
    filled().save(tmp_path)
    path, whole = tmp_path / name, (tmp_path / name).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (bytes(flipped), whole[:-1], b"", whole + b"x"):
        path.write_bytes(content)
        with pytest.raises(BadInputError, match=rf"{name} does not match its checksum"):
            ExpressionIndex.load(tmp_path)
    path.unlink()
    with pytest.raises(BadInputError, match=f"{name} is missing"):
        ExpressionIndex.load(tmp_path)
    path.write_bytes(whole)
    assert len(ExpressionIndex.load(tmp_path)) == 58


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 8}, "manifest says dimension 8, vectors.faiss holds dimension 4"),
        ({"metric": "l3"}, "unknown metric 'l3'"),
        ({"next_row": 61}, "61 ever added, items.parquet holds 58 of 60"),
        ({"live": 60}, "manifest says 60 items"),
        ({"format": 2}, "format 2, of a newer release"),
        ({"format": "x"}, "no manifest"),
        ({"dim": "4"}, "field 'dim' is '4'"),
        ({"dim": True}, "field 'dim' is True"),
        ({"files": None}, "field 'files' is None"),
        ({"files": {}}, "does not match its checksum"),
        ({"files": {"vectors.faiss": 3}}, "does not match its checksum"),
    ],
)
def test_a_manifest_that_disagrees_is_refused(tmp_path, change, message):
    filled().save(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(BadInputError, match=message):
        ExpressionIndex.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', "\x00"])
def test_a_broken_manifest_is_refused(tmp_path, text):
    filled().save(tmp_path)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BadInputError, match=r"manifest\.json"):
        ExpressionIndex.load(tmp_path)


def test_folders_without_an_index_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="does not exist"):
        ExpressionIndex.load(tmp_path / "nowhere")
    with pytest.raises(BadInputError, match=r"no manifest\.json in it"):
        ExpressionIndex.load(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInputError, match="cannot be read"):
        ExpressionIndex.load(tmp_path / "file")
    with pytest.raises(BadInputError, match="cannot be saved"):
        filled().save(tmp_path / "file")
    (tmp_path / "items.parquet").write_text("someone else's")
    with pytest.raises(BadInputError, match=r"holds items\.parquet but no manifest"):
        filled().save(tmp_path)
    assert (tmp_path / "items.parquet").read_text() == "someone else's"


def test_another_models_vectors_are_refused(tmp_path):
    index = filled(model=Model())
    index.save(tmp_path)
    assert ExpressionIndex.load(tmp_path, model=Model()).model == "0123abc"
    assert ExpressionIndex.load(tmp_path, model="0123abc").ids == index.ids
    assert len(ExpressionIndex.load(tmp_path)) == 58
    with pytest.raises(BadInputError, match="of the model 0123abc, and ffff is due"):
        ExpressionIndex.load(tmp_path, model=Model("ffff"))
    other = Model()
    other.metric = "l2"
    with pytest.raises(BadInputError, match="metric is 'l2', the index's is 'cosine'"):
        ExpressionIndex.load(tmp_path, model=other)
    other = Model()
    other.embedding_dim = 16
    with pytest.raises(BadInputError, match="embedding_dim is 16"):
        ExpressionIndex.load(tmp_path, model=other)
    with pytest.raises(WrongUseError, match="embedding_dim is 4, the index's is 2"):
        ExpressionIndex(2, "cosine", model=Model())
    filled().save(tmp_path)
    with pytest.raises(BadInputError, match="was not recorded"):
        ExpressionIndex.load(tmp_path, model="0123abc")
    with pytest.raises(WrongUseError, match="device"):
        ExpressionIndex.load(tmp_path, device="cuda:99")


def test_a_save_does_not_undo_anothers(tmp_path):
    index = filled()
    index.save(tmp_path)
    index.save(tmp_path)
    mine, yours = ExpressionIndex.load(tmp_path), ExpressionIndex.load(tmp_path)
    yours.remove(["é0"])
    yours.save(tmp_path)
    mine.remove(["é1"])
    with pytest.raises(BadInputError, match="saved by another process since"):
        mine.save(tmp_path)
    assert "é1" in ExpressionIndex.load(tmp_path)
    mine.save(tmp_path / "elsewhere")
    filled(n=20).save(tmp_path)  # a new index replaces what is there
    assert len(ExpressionIndex.load(tmp_path)) == 18


def test_a_save_that_fails_leaves_the_old_index(tmp_path, monkeypatch):
    index = filled()
    index.save(tmp_path)
    index.remove(["é0"])

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "sha256_of", full_disk)
    with pytest.raises(BadInputError, match="No space left"):
        index.save(tmp_path)
    monkeypatch.undo()
    assert len(ExpressionIndex.load(tmp_path)) == 58
    index.save(tmp_path)
    assert len(ExpressionIndex.load(tmp_path)) == 57


def test_readers_wait_for_renames_but_not_for_ever(tmp_path, monkeypatch):
    filled().save(tmp_path)
    real, calls = store.sha256_of, []

    def vanishing(path):
        calls.append(path)
        if len(calls) == 1:  # between the look and the use, another process completes its save
            filled(n=20).save(tmp_path)
        return real(path)

    monkeypatch.setattr(store, "sha256_of", vanishing)
    assert len(ExpressionIndex.load(tmp_path)) == 18
    monkeypatch.setattr(store, "_unchanged", lambda *_: False)
    with pytest.raises(BadInputError, match="saved faster than it can be read"):
        ExpressionIndex.load(tmp_path)


def crash(mode, folder, *rest):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(Path(__file__).with_name("crash_index.py")), mode, str(folder), *rest]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process to kill it")


@needs_fork
def test_a_kill_before_any_file_operation_leaves_old_or_new_whole(tmp_path):
    result = crash("points", tmp_path / "index")
    assert result["killed"] >= 12
    assert set(result["left"]) == FILES


@needs_fork
def test_kills_at_random_moments_lose_nothing_acknowledged(tmp_path):
    assert crash("random", tmp_path / "index", "15")["saves"] > 2


@needs_fork
def test_readers_see_whole_indexes_while_another_process_saves(tmp_path):
    result = crash("readers", tmp_path / "index")
    assert result["loads"] > 3
    assert result["generations"] > 1
