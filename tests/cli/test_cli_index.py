"""exprembed index: build, add, search, remove, info, on photos, data sets and Parquet files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from exprembed.cli._vectors import read_vectors
from exprembed.index import ExpressionIndex
from exprembed.models import FECNet, load_model


@pytest.fixture
def index(cli, photos, weights, tmp_path):
    """An index of the twelve photos."""
    done = cli("index", "build", photos, "--aligned", "--model", weights, "--out", tmp_path / "i", "--json")
    assert done.code == 0
    assert done.json["items"] == 12
    return tmp_path / "i"


def test_a_whole_life(cli, index, photos, rendered, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    for name in rendered.index[12:15]:
        (more / f"{name}.png").write_bytes(Path(rendered.loc[name, "path"]).read_bytes())
    added = cli("index", "add", index, more, "--aligned", "--json")  # the weights are noted in the index
    assert (added.code, added.json["items"], added.json["faces"]) == (0, 15, 3)
    query, other = sorted(photos.iterdir())[:2]
    found = cli("index", "search", index, query, "-k", "3", "--json").json["results"][0]
    ids = [hit["id"] for hit in found["hits"]]
    distances = [hit["distance"] for hit in found["hits"]]
    assert len(ids) == 3
    assert str(query) not in ids  # an item is no answer to itself
    assert distances == sorted(distances)
    removed = cli("index", "remove", index, ids[0], "--json")
    assert (removed.json["removed"], removed.json["items"]) == (1, 14)
    again = cli("index", "search", index, query, "-k", "3", "--json").json["results"][0]["hits"]
    assert [hit["id"] for hit in again][:2] == ids[1:]
    unknown = cli("index", "remove", index, ids[0])
    assert unknown.code == 3
    assert "already removed" in unknown.err
    info = cli("index", "info", index, "--json").json
    assert (info["live"], info["removed"], info["dim"], info["exact"]) == (14, 1, 4, True)
    assert "path" in info["columns"]
    kept = cli("index", "remove", index, "--where", f"path == '{other}'", "--json")
    assert (kept.json["removed"], kept.json["items"]) == (1, 13)


def test_search_agrees_with_brute_force(cli, index, photos, weights):
    model, paths = load_model(weights), sorted(photos.iterdir())
    vectors = model.embed(model.preprocess(paths)).double().numpy()
    distance = np.linalg.norm(vectors[4] - vectors, axis=1)
    distance[4] = np.inf
    order = np.argsort(distance)[:5]
    hits = cli("index", "search", index, paths[4], "-k", "5", "--json").json["results"][0]["hits"]
    assert [hit["id"] for hit in hits] == [str(paths[row]) for row in order]
    np.testing.assert_allclose([hit["distance"] for hit in hits], distance[order], atol=1e-4)


def test_a_photo_from_outside_may_be_a_query(cli, index, rendered):
    path = rendered["path"].iloc[20]
    done = cli("index", "search", index, path, "--aligned", "-k", "2", "--json")
    assert done.code == 0
    assert [len(one["hits"]) for one in done.json["results"]] == [2]
    assert cli("index", "search", index, "nobody").err.count("neither an item") == 1
    table = cli("index", "search", index, path, "--aligned")
    assert "distance" in table.out


def test_add_skips_what_is_there(cli, index, photos, rendered):
    new = photos / "new.png"
    new.write_bytes(Path(rendered["path"].iloc[30]).read_bytes())
    done = cli("index", "add", index, photos, "--aligned", "--json")
    assert done.code == 1
    assert (done.json["items"], done.json["skipped"]) == (13, 12)
    assert set(pd.read_csv(index.parent / "skipped.csv")["reason"]) == {"is in the index already"}
    nothing = cli("index", "add", index, photos, "--aligned", "--json")
    assert (nothing.code, nothing.json["items"], nothing.json["faces"]) == (1, 13, 0)


def test_build_does_not_replace_unasked(cli, index, photos, weights):
    words = ["index", "build", photos / "*00000*.png", "--aligned", "--model", weights, "--out", index]
    done = cli(*words)
    assert done.code == 2
    assert "--replace" in done.err
    assert len(ExpressionIndex.load(index)) == 12
    assert cli(*words, "--replace").code == 0
    assert len(ExpressionIndex.load(index)) == 10


@pytest.mark.parametrize("verb", ["add", "search"])
def test_another_model_is_refused(cli, index, rendered, tmp_path, verb):
    other = FECNet(backbone="resnet10_grey48", dense_channels=0, hidden=16, embedding_dim=4).save(tmp_path / "other")
    done = cli("index", verb, index, rendered["path"].iloc[30], "--aligned", "--model", other)
    assert done.code == 3
    assert "give the index's own weights" in done.err
    assert len(ExpressionIndex.load(index)) == 12


def test_a_data_set_can_be_filtered(cli, celeba, weights, tmp_path):
    out = tmp_path / "celeba.index"
    words = ["index", "build", celeba, "--dataset", "celeba", "--aligned", "--limit", "5", "--model", weights]
    built = cli(*words, "--out", out, "--json")
    assert built.code == 0
    assert (built.json["items"], built.json["images"]) == (5, 5)
    assert built.json["images_per_second"] > 0
    assert built.json["peak_memory_mib"] > 1
    found = cli("index", "search", out, "000002", "--where", "attr_Smiling == 1", "-k", "5", "--json").json
    assert sorted(hit["id"] for hit in found["results"][0]["hits"]) == ["000001", "000003", "000005"]
    wrong = cli("index", "search", out, "000002", "--where", "attr_Smilin == 1")
    assert wrong.code == 2
    assert "did you mean attr_Smiling?" in wrong.err


def test_a_parquet_file_becomes_an_index(cli, photos, weights, tmp_path):
    out, index = tmp_path / "faces.parquet", tmp_path / "p"
    assert cli("embed", photos, "--aligned", "--model", weights, "--out", out).code == 0
    assert cli("index", "build", out, "--out", index).code == 0
    loaded = ExpressionIndex.load(index, model=load_model(weights))
    vectors = read_vectors(out).vectors
    assert loaded.ids == list(vectors.index)
    assert loaded.search(vectors, 1).ids[:, 0].tolist() == loaded.ids
    assert cli("index", "build", out, photos, "--out", tmp_path / "q").code == 2


def test_kinds_and_metrics(cli, photos, weights, tmp_path):
    words = ["index", "build", photos, "--aligned", "--model", weights]
    assert cli(*words, "--out", tmp_path / "a", "--kind", "hnsw", "--metric", "cosine").code == 0
    info = cli("index", "info", tmp_path / "a", "--json").json
    assert (info["kind"], info["metric"], info["exact"]) == ("hnsw", "cosine", False)
    assert cli(*words, "--out", tmp_path / "b", "--kind", "nonsense").code == 2


def test_a_damaged_index_is_3_and_says_which_file(cli, index):
    (index / "items.parquet").write_bytes(b"broken")
    done = cli("index", "info", index)
    assert done.code == 3
    assert "items.parquet" in done.err


def test_the_page_shows_every_hit(cli, index, photos, tmp_path):
    page = tmp_path / "found.html"
    queries = sorted(photos.iterdir())[:2]
    assert cli("index", "search", index, *queries, "-k", "4", "--html", page).code == 0
    text = page.read_text()
    assert text.count("<img ") == 2 * 5
    assert text.count("data:image/jpeg;base64,") == 2 * 5
    gone = sorted(photos.iterdir())[5]
    gone.unlink()
    done = cli("index", "search", index, queries[0], "-k", "11", "--html", page, "--json")
    assert done.code == 1
    assert "no picture" in page.read_text()
    assert str(gone) in (tmp_path / "skipped.csv").read_text()


def test_found_faces_in_an_index(cli, photos, weights, detector, tmp_path):
    index = tmp_path / "faces"
    assert cli("index", "build", photos, "--model", weights, "--out", index).code == 0
    held = ExpressionIndex.load(index)
    assert all(name.endswith("#0") for name in held.ids)
    assert {"path", "left", "eyes", "detection_score"} <= set(held.metadata.columns)
    # An item asked by its id and its photo asked as a file are the same face.
    by_id = cli("index", "search", index, held.ids[0], "-k", "3", "--json").json["results"][0]["hits"]
    by_photo = cli("index", "search", index, held.metadata["path"].iloc[0], "-k", "4", "--json").json["results"][0][
        "hits"
    ]
    assert by_photo[0]["id"] == held.ids[0]
    assert by_photo[0]["distance"] < 1e-3
    assert [hit["id"] for hit in by_photo[1:]] == [hit["id"] for hit in by_id]


def test_tuned_merged_and_compacted(cli, tmp_path):
    rng = np.random.default_rng(0)
    for name, n in (("one", 600), ("two", 50)):
        index = ExpressionIndex(8, kind="ivf" if name == "one" else "flat")
        index.add(rng.normal(size=(n, 8)), [f"{name}{i}" for i in range(n)])
        index.save(tmp_path / name)
    assert cli("index", "merge", tmp_path / "one", tmp_path / "two", "--json").json["items"] == 650
    again = cli("index", "merge", tmp_path / "one", tmp_path / "two")
    assert again.code == 3
    assert "'two0' is already in the index" in again.err
    assert cli("index", "remove", tmp_path / "one", "one0", "two0").code == 0
    done = cli("index", "compact", tmp_path / "one", "--recall", "0.9", "--json").json
    assert (done["dropped"], done["items"]) == (2, 648)
    assert done["recall"] >= 0.9
    assert cli("index", "info", tmp_path / "one", "--json").json["recall"] == done["recall"]
    assert cli("index", "compact", tmp_path / "one", "--recall", "7").code == 2


def test_built_to_a_recall(cli, photos, weights, tmp_path):
    words = ["index", "build", photos, "--aligned", "--model", weights, "--out", tmp_path / "a", "--json"]
    assert cli(*words, "--kind", "hnsw", "--recall", "1").json["recall"] == 1
