"""An index built by Ray's workers: what one process builds, also when workers or the whole build are killed midway."""

import doctest
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from exprembed.cli import app
from exprembed.data.synthetic import render_faces, save_faces
from exprembed.errors import BadInputError, WrongUseError
from exprembed.index import ExpressionIndex, kinds, shards
from exprembed.index.ray_build import Block, _Worker, build_by_ray

ray = pytest.importorskip("ray")
ray_vectors = pytest.importorskip("ray_vectors")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.cloudpickle.register_pickle_by_value(ray_vectors)  # which the workers do not find
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="module")
def local():
    """One index of the same faces, made here."""

    def make(kind="flat", metric="l2"):
        index = ExpressionIndex(ray_vectors.DIM, metric, kind)
        parts = [ray_vectors.faces(number) for number in (0, 1, 2, 4, 5, 6, 7)]
        metadata = pd.concat([pd.DataFrame(part.metadata, dtype=object) for part in parts]).convert_dtypes()
        index.add(
            np.concatenate([part.vectors for part in parts]), [name for part in parts for name in part.ids], metadata
        )
        return index

    return make


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder of finished shards, one of whose workers was killed; and the log of what was embedded."""
    folder = tmp_path_factory.mktemp("work")
    log, told = folder / "log", []
    embedder = partial(ray_vectors.Embedder, log, folder / "killed")
    built = build_by_ray(ray_vectors.blocks(), embedder, folder, ray_vectors.DIM, advance=told.append)
    assert (folder / "killed").exists()
    assert len(built.made) == 7 * ray_vectors.EACH
    assert (sum(told), built.reused) == (8 * ray_vectors.EACH, 0)
    return folder


def again(work, **options):
    """Build from the finished shards: nothing may be embedded."""
    return build_by_ray(
        ray_vectors.blocks(), partial(ray_vectors.Embedder, work / "log"), work, ray_vectors.DIM, **options
    )


def check_same(made, due, least=1.0):
    queries = np.random.default_rng(99).normal(size=(50, ray_vectors.DIM))
    assert made.ids == due.ids
    pd.testing.assert_frame_equal(made.metadata, due.metadata)
    info, expected = made.info(), due.info()
    assert {**info, "factory": ""} == {**expected, "factory": ""}
    found, wanted = made.search(queries), due.search(queries)
    share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.ids, wanted.ids, strict=True)])
    assert share >= least
    if least == 1:
        np.testing.assert_allclose(found.distances, wanted.distances, atol=1e-6)


def test_a_killed_worker_costs_its_own_block_alone(work):
    embedded = (work / "log").read_text().split()
    assert sorted(embedded) == [str(number) for number in range(8)]


@pytest.mark.parametrize(
    ("kind", "metric"), [("flat", "l2"), ("auto", "cosine"), ("ivf", "l2"), ("ivf", "cosine"), ("PCA4,IVF8,SQ8", "l2")]
)
def test_equals_the_local_build(work, local, kind, metric):
    before = (work / "log").read_text()
    built = again(work, kind=kind, metric=metric)
    assert (built.skipped, built.reused) == ([("photo 3", "no face")], 8 * ray_vectors.EACH)
    check_same(built.made, local(kind, metric))
    assert (work / "log").read_text() == before


def test_a_kind_without_lists(work, local):
    check_same(again(work, kind="hnsw").made, local("hnsw"), 0.95)


def test_many_become_lists_trained_on_a_sample(work, local, monkeypatch):
    monkeypatch.setattr(kinds, "AUTO_FLAT", 1000)
    monkeypatch.setattr("exprembed.index.ray_build._LEAST", 1000)
    monkeypatch.setattr("exprembed.index.ray_build._A_LIST", 5)
    made = again(work).made
    assert made.info()["factory"] == local("auto").info()["factory"] == "IVF256,Flat"
    made.tune(0.95)
    exact = local()
    queries = np.random.default_rng(7).normal(size=(200, ray_vectors.DIM))
    pairs = zip(made.search(queries).ids, exact.search(queries).ids, strict=True)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in pairs]) > 0.9


def test_is_an_index_like_any_other(work, tmp_path):
    made = again(work, kind="ivf", model="abc").made
    made.save(tmp_path / "i")
    loaded = ExpressionIndex.load(tmp_path / "i", model="abc")
    assert loaded.info() == made.info()
    vector = ray_vectors.vectors(6)[7]
    np.testing.assert_array_equal(loaded.vectors_of(["x6-7"])[0], vector)
    assert loaded.search(vector, 1).ids.tolist() == [["x6-7"]]
    assert loaded.search(ray_vectors.vectors(5)[7], 2, where="age == 7").ids.tolist() == [["x5-7", None]]
    loaded.remove(["x6-7"])
    assert loaded.search(vector, 1).ids.tolist() != [["x6-7"]]
    loaded.add([vector], ["new"], {"block": [9]})
    assert loaded.search(vector, 1).ids.tolist() == [["new"]]
    assert (loaded.compact(), len(loaded)) == (1, 7 * ray_vectors.EACH)
    loaded.save(tmp_path / "i")
    assert len(ExpressionIndex.load(tmp_path / "i")) == 7 * ray_vectors.EACH


def test_a_killed_build_goes_on_where_it_was(cluster, tmp_path, local):
    work, log = tmp_path / "work", tmp_path / "log"
    environment = {**os.environ, "RAY_ADDRESS": cluster}
    driver = subprocess.Popen(
        [sys.executable, ray_vectors.__file__, work, log], env=environment, stderr=subprocess.PIPE
    )
    while len(list(work.glob("*.parquet"))) < 3:
        assert driver.poll() is None, driver.stderr.read()
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    finished = [block.content for block in ray_vectors.blocks() if (work / f"{block.digest}.parquet").exists()]
    assert 3 <= len(finished) < 8
    built = build_by_ray(ray_vectors.blocks(), partial(ray_vectors.Embedder, log), work, ray_vectors.DIM, kind="flat")
    embedded = log.read_text().split()
    assert all(embedded.count(str(number)) == 1 for number in finished)
    assert {*map(int, embedded)} == set(range(8))
    assert built.reused >= len(finished) * ray_vectors.EACH
    check_same(built.made, local())


def test_what_an_embedder_raises_is_told(work, tmp_path):
    bad = [Block(shards.digest_of([], "bad"), 1, 0, "photo 0")]
    (tmp_path / "log").mkdir()  # cannot be written to
    with pytest.raises(BadInputError, match=r"photo 0: .*Is a directory"):
        build_by_ray(bad, partial(ray_vectors.Embedder, tmp_path / "log"), tmp_path / "work", ray_vectors.DIM)
    with pytest.raises(WrongUseError, match="nonsense"):
        again(work, kind="nonsense")
    with pytest.raises(BadInputError, match="cannot start from 2800 vectors"):
        again(work, kind="IVF4096,Flat")
    twice = ray_vectors.blocks()
    with pytest.raises(BadInputError, match="'x0-0' is already in the index"):
        build_by_ray([twice[0], twice[0]], partial(ray_vectors.Embedder, work / "log"), work, ray_vectors.DIM)


def test_photos_that_kill_every_worker_are_not_tried_for_ever(tmp_path):
    (tmp_path / "shard.run.tries").write_bytes(b"...")
    worker = _Worker(ray_vectors.Embedder, {}, ray_vectors.DIM, ".", "run")
    told = worker({"number": 0, "shard": str(tmp_path / "shard.parquet")})
    assert told == {"number": 0, "problem": "3 workers died over these photos"}


@pytest.fixture
def photos(tmp_path):
    """Twelve rendered faces and a file that is none."""
    images, table = render_faces(12, 3, seed=3, size=64)
    save_faces(images, table, tmp_path / "photos")
    (tmp_path / "photos" / "broken.png").write_text("no picture")
    return tmp_path / "photos"


def cli(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_on_the_command_line(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["index", "build", "photos", "--aligned"]
    assert cli(*words, "--out", "here/a").exit_code == 1
    done = cli(*words, "--out", "there/b", "--engine", "ray", "--shard", 5)
    assert done.exit_code == 1, done.output
    assert "12 faces of 13 files" in done.output
    a, b = (ExpressionIndex.load(tmp_path / name) for name in ("here/a", "there/b"))
    assert b.ids == a.ids
    assert all(name.startswith("photos/") for name in b.ids)
    pd.testing.assert_frame_equal(b.metadata, a.metadata)
    assert b.info() == a.info()
    np.testing.assert_allclose(b.vectors_of(b.ids), a.vectors_of(a.ids), atol=1e-5)
    assert Path("there/skipped.csv").read_text() == Path("here/skipped.csv").read_text()
    assert Path("there/b/made_with.json").read_text() == Path("here/a/made_with.json").read_text()
    assert not Path("there/b.shards").exists()


def test_wrong_use_of_the_command(photos, tmp_path, monkeypatch):
    words = ["index", "build", photos, "--aligned", "--out", tmp_path / "i"]
    for more, message in (
        (["--shard", 5], "--shard goes with --engine ray"),
        (["--engine", "rai"], "did you mean 'ray'"),
    ):
        done = cli(*words, *more)
        assert (done.exit_code, message in done.output) == (2, True), done.output
    done = cli("index", "build", tmp_path / "v.parquet", "--engine", "ray", "--out", tmp_path / "i")
    assert (done.exit_code, "--engine local" in done.output) == (2, True)
    monkeypatch.setitem(sys.modules, "ray", None)
    done = cli(*words, "--engine", "ray")
    assert (done.exit_code, "exprembed[scale]" in done.output) == (2, True), done.output


def test_only_shards_are_cleared(tmp_path):
    for name in (
        "0" * 64 + ".parquet",
        "." + "0" * 64 + ".parquet.x1",
        "0" * 64 + ".5a.tries",
        "trained.faiss",
        "mine.parquet",
    ):
        (tmp_path / name).touch()
    shards.clear_shards(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.parquet"]


def test_a_damaged_shard_is_named(tmp_path):
    (tmp_path / "s").write_bytes(b"broken")
    with pytest.raises(BadInputError, match=r"shard .*s cannot be read"):
        shards.Shard(tmp_path / "s")


def test_examples():
    assert doctest.testmod(shards).failed == 0
