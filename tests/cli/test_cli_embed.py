"""exprembed embed: the vectors are the library's, every file is accounted for."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from exprembed.cli._faces import _save_crop
from exprembed.cli._vectors import read_vectors
from exprembed.data.alignment import align_face
from exprembed.data.faces import FaceCrop
from exprembed.data.tables import FaceTable
from exprembed.data.vectors import vector_columns
from exprembed.errors import BadInputError
from exprembed.models import load_model


def embed_files(weights, paths):
    model = load_model(weights)
    return model.embed(model.preprocess(list(paths))).numpy()


def test_aligned_files_give_the_library_s_vectors(cli, photos, weights, tmp_path):
    out = tmp_path / "faces.parquet"
    done = cli("embed", photos, "--aligned", "--model", weights, "--out", out, "--json")
    assert done.code == 0
    file = read_vectors(out)
    paths = sorted(photos.iterdir())
    assert list(file.vectors.index) == list(map(str, paths))
    np.testing.assert_allclose(file.vectors.to_numpy(), embed_files(weights, paths), atol=1e-5)
    assert file.model == load_model(weights).fingerprint == done.json["model"]
    document = done.json
    assert (document["images"], document["faces"], document["skipped"], document["dim"]) == (12, 12, 0, 4)
    assert document["images_per_second"] > 0
    assert document["peak_memory_mib"] > 1
    assert done.err == ""
    assert list(FaceTable.read_parquet(out)["path"]) == list(map(str, paths))


def test_what_cannot_be_read_is_skipped_and_listed(cli, photos, weights, tmp_path):
    (photos / "text.jpg").write_text("hello")
    (photos / "empty.png").touch()
    whole = next(iter(sorted(photos.glob("*.png")))).read_bytes()
    (photos / "half.png").write_bytes(whole[: len(whole) // 2])
    Image.new("1", (9000, 9000)).save(photos / "large.png", compress_level=1)
    out = tmp_path / "faces.parquet"
    done = cli("embed", photos, "--aligned", "--model", weights, "--out", out, "--json")
    assert done.code == 1
    assert done.json["faces"] == 12
    listed = pd.read_csv(tmp_path / "skipped.csv")
    assert sorted(Path(item).name for item in listed["item"]) == ["empty.png", "half.png", "large.png", "text.jpg"]
    assert done.json["skipped"] == 4
    assert len(read_vectors(out).vectors) == 12
    for name in ("text.jpg", "empty.png", "half.png", "large.png"):
        (photos / name).unlink()
    assert cli("embed", photos, "--aligned", "--model", weights, "--out", out).code == 0
    assert not (tmp_path / "skipped.csv").exists()  # it spoke of the earlier run


def test_a_foreign_skipped_csv_is_left_alone(cli, photos, weights, tmp_path):
    (tmp_path / "skipped.csv").write_text("my,own,table\n")
    assert cli("embed", photos, "--aligned", "--model", weights, "--out", tmp_path / "f.parquet").code == 0
    assert (tmp_path / "skipped.csv").read_text() == "my,own,table\n"


def test_nothing_but_bad_files_is_3(cli, weights, tmp_path):
    (tmp_path / "a.jpg").write_text("hello")
    done = cli("embed", tmp_path / "a.jpg", "--aligned", "--model", weights, "--out", tmp_path / "faces.parquet")
    assert done.code == 3
    assert "no face in 1 file" in done.err
    assert "looks like text" in done.err
    assert "looks like text" in (tmp_path / "skipped.csv").read_text()


def test_found_faces_and_their_crops(cli, photos, weights, detector, tmp_path):
    wide = np.concatenate([np.asarray(Image.open(path)) for path in sorted(photos.iterdir())[:2]], axis=1)
    Image.fromarray(wide).save(photos / "two.png")
    Image.new("RGB", (64, 64), "gray").save(photos / "nobody.png")
    out, crops = tmp_path / "faces.parquet", tmp_path / "crops"
    done = cli("embed", photos, "--model", weights, "--out", out, "--crops", crops, "--json")
    assert done.code == 1
    assert (done.json["images"], done.json["faces"], done.json["skipped"]) == (14, 14, 1)
    file = read_vectors(out)
    two = [name for name in file.vectors.index if "two.png" in name]
    assert [name[-2:] for name in two] == ["#0", "#1"]
    model = load_model(weights)
    name = file.vectors.index[0]
    row = file.faces.loc[name]
    crop = align_face(Image.open(row["path"]), np.reshape(row["eyes"], (2, 2)), model.preprocessing.alignment, 48)
    np.testing.assert_allclose(file.vectors.loc[name], embed_files(weights, [crop])[0], atol=1e-5)
    # The crops are what the model saw: embedded as they are, they give the same vectors.
    np.testing.assert_allclose(embed_files(weights, file.faces["crop"]), file.vectors.to_numpy(), atol=1e-5)
    assert all(Path(path).is_relative_to(crops) for path in file.faces["crop"])
    largest = cli("embed", photos / "two.png", "--faces", "largest", "--model", weights, "--out", out, "--json")
    assert largest.json["faces"] == 1


def test_crop_eyes_cuts_every_file_alike(cli, photos, weights, tmp_path):
    out = tmp_path / "faces.parquet"
    assert cli("embed", photos, "--crop-eyes", "0.25,0.3,0.75,0.35", "--model", weights, "--out", out).code == 0
    file, model = read_vectors(out), load_model(weights)
    path = file.faces["path"].iloc[3]
    eyes = np.array([[0.25, 0.3], [0.75, 0.35]]) * 64
    crop = align_face(Image.open(path), eyes, model.preprocessing.alignment, 48)
    np.testing.assert_allclose(file.vectors.iloc[3], embed_files(weights, [crop])[0], atol=1e-5)
    np.testing.assert_allclose(list(file.faces["eyes"].iloc[3]), eyes.flatten())


def test_a_data_set_brings_its_labels_and_its_geometry(cli, celeba, weights, tmp_path):
    out = tmp_path / "faces.parquet"
    done = cli("embed", celeba, "--dataset", "celeba", "--aligned", "--limit", "5", "--model", weights, "--out", out)
    assert done.code == 0
    file, model = read_vectors(out), load_model(weights)
    assert list(file.vectors.index) == [f"{n:06d}" for n in range(1, 6)]
    assert file.faces["attr_Smiling"].tolist() == [1, 0, 1, 0, 1]
    eyes = np.reshape(list(file.faces["eyes"].iloc[0]), (2, 2))
    np.testing.assert_allclose(eyes, [[70, 112], [109, 112]], atol=0.2)  # of 178 x 218 pixels
    crop = align_face(Image.open(file.faces["path"].iloc[0]), eyes, model.preprocessing.alignment, 48)
    np.testing.assert_allclose(file.vectors.iloc[0], embed_files(weights, [crop])[0], atol=1e-5)
    same = tmp_path / "same.parquet"
    assert cli("embed", celeba, "--dataset", "celeba", "--limit", "5", "--model", weights, "--out", same).code == 0
    pd.testing.assert_frame_equal(read_vectors(same).vectors, file.vectors)


def test_a_data_set_can_be_searched_for_faces(cli, celeba, weights, detector, tmp_path):
    out = tmp_path / "faces.parquet"
    words = ["embed", celeba, "--dataset", "celeba", "--detector", "mtcnn", "--model", weights, "--out", out]
    assert cli(*words).code == 0
    faces = read_vectors(out).faces
    assert list(faces.index) == [f"{n:06d}" for n in range(1, 7)]
    assert {"left", "detection_score", "attr_Male", "subject"} <= set(faces.columns)


def test_a_missing_image_of_a_data_set_is_skipped(cli, celeba, weights, tmp_path):
    (celeba / "img_align_celeba" / "000002.jpg").unlink()
    done = cli("embed", celeba, "--dataset", "celeba", "--model", weights, "--out", tmp_path / "f.parquet", "--json")
    assert done.code == 1
    assert (done.json["faces"], done.json["skipped"]) == (5, 1)


def test_batches_change_nothing(cli, photos, weights, tmp_path):
    found = []
    for batch in (1, 5, 64):
        out = tmp_path / f"{batch}.parquet"
        assert cli("embed", photos, "--aligned", "--model", weights, "--out", out, "--batch", batch).code == 0
        found.append(read_vectors(out).vectors.to_numpy())
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[0], found[2], atol=1e-5)


@given(st.integers(1, 20_000))
def test_vector_columns_sort_as_they_count(dim):
    names = vector_columns(dim)
    assert len(set(names)) == dim
    assert sorted(names) == names


@given(st.lists(st.sampled_from(["..", ".", "a", "b#0", "...", "/", "~"]), min_size=1, max_size=6))
def test_no_face_id_leads_out_of_the_crop_folder(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("crops")
    path = _save_crop(FaceCrop("/".join(parts), Image.new("RGB", (2, 2)), {}), folder)
    assert path.resolve().is_relative_to(folder.resolve())


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (pd.DataFrame({"path": ["a"]}, index=["a"]), "holds no vectors"),
        (pd.DataFrame({"v00": [1.0, 2.0]}, index=["a", "a"]), "twice"),
        (pd.DataFrame({"v00": [1.0, np.nan]}, index=["a", "b"]), "NaN"),
        (pd.DataFrame({"v00": ["x"]}, index=["a"]), "parquet"),
    ],
)
def test_files_that_are_no_vectors(table, expected, tmp_path):
    table.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(BadInputError, match=expected):
        read_vectors(tmp_path / "t.parquet")


def test_any_table_of_floats_is_a_vector_file(tmp_path):
    pd.DataFrame(np.eye(3, dtype=np.float32), columns=list("xyz")).to_parquet(tmp_path / "t.parquet")
    file = read_vectors(tmp_path / "t.parquet")
    assert list(file.vectors.index) == ["0", "1", "2"]
    assert (file.model, file.metric) == (None, "l2")
