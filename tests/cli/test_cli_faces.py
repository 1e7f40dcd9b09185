"""exprembed faces show, and limits on faces with their explanations in the verbs that take photos."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from exprembed.cli._faces import recut
from exprembed.cli._vectors import read_vectors
from exprembed.cli.faces import face_sheet
from exprembed.data.alignment import align_face
from exprembed.data.clahe import GrayCLAHE
from exprembed.data.faces import DetectedFace, judge_faces
from exprembed.data.landmarks import five_points
from exprembed.data.preprocessing import Alignment, Preprocessing
from exprembed.data.quality import MEASURES, sharpness
from exprembed.data.synthetic import render_faces
from exprembed.models import load_model


def listed(folder):
    with (folder / "skipped.csv").open(newline="") as source:
        return {row["item"]: row["reason"] for row in csv.DictReader(source)}


@pytest.fixture(scope="module")
def scene():
    """A photo of three drawn faces and what a perfect detector says of them."""
    images, table = render_faces(3, 3, seed=21, size=160)
    photo, found = Image.new("RGB", (640, 300), (90, 120, 150)), []
    for image, flat, (x, y, side) in zip(
        images, table["landmarks"], [(20, 60, 160), (260, 40, 200), (500, 90, 100)], strict=True
    ):
        photo.paste(Image.fromarray(image).resize((side, side)), (x, y))
        points = five_points(np.reshape(flat, (68, 2))) * side / 160 + [x, y]
        found.append(DetectedFace((x, y, x + side, y + side), points, 0.9))
    return photo, found


@pytest.mark.parametrize("plan", [Preprocessing(), Preprocessing(size=48, channels=1, mean=(0.5,), std=(0.25,))])
def test_the_sheet_shows_what_the_model_sees(scene, plan):
    photo, detected = scene
    found = judge_faces("a.png", photo, detected, plan.alignment, plan.size)
    sheet = np.asarray(face_sheet(photo, found, plan))
    factor = max(1, 192 // plan.size)
    for one in found:
        pixels = plan.pixels(align_face(photo, one.detected.landmarks, plan.alignment, plan.size))[0]
        expected = np.kron(np.broadcast_to(pixels, (3, plan.size, plan.size)), np.ones((1, factor, factor)))
        assert contains(sheet, expected.transpose(1, 2, 0).astype(np.uint8))


def test_equalised_models_see_equalised_crops(scene):
    photo, detected = scene
    plan = Preprocessing(size=48, channels=1, mean=(0.5,), std=(0.25,), clahe=GrayCLAHE())
    found = judge_faces("a.png", photo, detected, plan.alignment, plan.size)
    plain = np.asarray(face_sheet(photo, found, replace(plan, clahe=None)))
    sheet = np.asarray(face_sheet(photo, found, plan))
    assert sheet.shape == plain.shape
    assert (sheet != plain).any(axis=2).sum() > 10_000
    seen = plan(found[0].crop)[0, 0].numpy() * 0.25 + 0.5
    grey = np.kron(np.round(seen * 255).astype(np.uint8), np.ones((4, 4), np.uint8))
    assert contains(sheet, np.stack([grey] * 3, axis=2))


def contains(picture, part):
    """Is `part` somewhere in `picture`, pixel for pixel?"""
    high, wide = part.shape[:2]
    corners = np.argwhere((picture[: -high + 1, : -wide + 1] == part[0, 0]).all(axis=2))
    return any(np.array_equal(picture[y : y + high, x : x + wide], part) for y, x in corners)


def test_boxes_and_points_are_drawn(scene):
    photo, detected = scene
    found = judge_faces("a.png", photo, detected, size=96)
    dropped = [one._replace(dropped="for a test") for one in found]
    scale, gap = 960 / 640, 16
    for faces, color in ((found, (0x00, 0x89, 0x7B)), (dropped, (0xD8, 0x43, 0x15))):
        sheet = face_sheet(photo, faces, Preprocessing(size=96))
        for one in detected:
            left, top, _, bottom = one.box
            assert sheet.getpixel((gap + round(left * scale), gap + round((top + bottom) / 2 * scale))) == color
            for x, y in one.landmarks:
                assert sheet.getpixel((gap + round(x * scale), gap + round(y * scale))) == color


def test_show_writes_a_png_and_tells_of_each_face(cli, photos, weights, detector, tmp_path):
    photo, out = next(iter(sorted(photos.iterdir()))), tmp_path / "a" / "show.png"
    done = cli("faces", "show", photo, "--out", out, "--model", weights)
    assert done.code == 0
    assert f"{photo}: 1 found\n  #0: score 0.90, sharpness " in done.out
    assert "; kept\n" in done.out
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert picture.size[0] > 720  # 64 x 64 pixels, enlarged to 720 x 720, and a crop
    document = cli("faces", "show", photo, "--out", out, "--model", weights, "--max-yaw", 0, "--json")
    assert document.code == 1
    (one,) = document.json["faces"]
    assert not one["kept"]
    assert "(max_yaw)" in one["reason"]
    assert set(MEASURES) < set(one)
    assert len(one["landmarks"]) == 5
    assert "1 found" in document.err


def test_show_takes_crops_too(cli, photos, weights, tmp_path):
    photo = next(iter(sorted(photos.iterdir())))
    for words in (["--aligned"], ["--crop-eyes", "0.3,0.4,0.7,0.4"]):
        done = cli("faces", "show", photo, *words, "--model", weights, "--out", tmp_path / "show.png", "--json")
        assert done.code == 0
        (one,) = done.json["faces"]
        assert one["sharpness"] > 0
        assert one["yaw"] is None
        assert (one["interocular"] is None) == (words == ["--aligned"])


def test_what_show_cannot_do(cli, photos, weights, detector, tmp_path):
    (tmp_path / "text.png").write_text("hello")
    Image.new("RGB", (64, 64), "gray").save(tmp_path / "nobody.png")
    for name, expected in (("text.png", "looks like text"), ("nobody.png", "no face found"), ("gone.png", "not exist")):
        done = cli("faces", "show", tmp_path / name, "--model", weights, "--out", tmp_path / "show.png")
        assert done.code == 3
        assert expected in done.err
    done = cli("faces", "show", tmp_path / "nobody.png", "--out", tmp_path / "show.jpg")
    assert done.code == 2
    assert "--out is a PNG file" in done.err
    assert not (tmp_path / "show.png").exists()


def test_measures_become_columns(cli, photos, weights, detector, tmp_path):
    out = tmp_path / "faces.parquet"
    assert cli("embed", photos, "--model", weights, "--out", out).code == 0
    faces, model = read_vectors(out).faces, load_model(weights)
    for _, row in faces.iterrows():
        image = Image.open(row["path"])
        crop = align_face(image, np.reshape(row["landmarks"], (5, 2)), model.preprocessing.alignment, 48)
        assert row["sharpness"] == sharpness(np.asarray(crop.convert("L")))
        assert row["interocular"] == pytest.approx(0.38 * 64)
        assert (row["detection_score"], row["box_width"], row["box_height"]) == (0.9, 64, 64)
    whole = cli("embed", photos, "--aligned", "--model", weights, "--out", out)
    assert whole.code == 0
    faces = read_vectors(out).faces
    assert faces["sharpness"].gt(0).all()
    assert not {"yaw", "detection_score"} & set(faces.columns)  # what is not known of any face is no column


def test_a_dropped_face_is_listed_with_its_reason_and_value(cli, photos, weights, detector, tmp_path):
    sharp, blurred, *_ = sorted(photos.iterdir())
    Image.open(blurred).filter(ImageFilter.GaussianBlur(4)).save(blurred)
    out = tmp_path / "faces.parquet"
    words = ["embed", sharp, blurred, "--model", weights, "--out", out, "--min-sharpness", 100]
    done = cli(*words, "--explain")
    assert done.code == 1
    assert list(read_vectors(out).vectors.index) == [f"{sharp}#0"]
    ((item, reason),) = listed(tmp_path).items()
    assert item == f"{blurred}#0"
    value = float(reason.removeprefix("sharpness ").partition(",")[0])
    assert reason == f"sharpness {value}, below 100 (min_sharpness)"
    assert f"{sharp}: 1 found\n  #0: score 0.90" in done.out
    assert f"; dropped: {reason}\n" in done.out
    quiet = cli(*words, "--explain", "--json")
    assert quiet.json["skipped"] == 1
    assert "; dropped: " in quiet.err  # stdout is the document's


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--min-face", "70"], "box of 64 pixels, below 70 (min_face)"),
        (["--min-score", "0.95"], "score 0.90, below 0.95 (min_score)"),
        (["--max-pitch", "1"], r"beyond 1 (max_pitch)"),
    ],
)
def test_each_limit(cli, photos, weights, detector, tmp_path, words, reason):
    done = cli("embed", photos, "--model", weights, "--out", tmp_path / "f.parquet", *words, "--explain")
    assert done.code == 3
    assert reason in done.err
    assert done.out.count("; dropped: ") == 12


def test_explain_tells_of_photos_without_a_face(cli, photos, weights, detector, tmp_path):
    (photos / "text.png").write_text("hello")
    Image.new("RGB", (64, 64), "gray").save(photos / "nobody.png")
    wide = np.concatenate([np.asarray(Image.open(path)) for path in sorted(photos.glob("s*.png"))[:2]], axis=1)
    Image.fromarray(wide).save(photos / "two.png")
    words = ["embed", photos, "--model", weights, "--out", tmp_path / "f.parquet", "--explain"]
    done = cli(*words, "--faces", "largest")
    assert done.code == 1
    assert f"{photos / 'nobody.png'}: no face found" in done.out
    assert f"{photos / 'text.png'}: is not an image" in done.out
    assert f"{photos / 'two.png'}: 2 found" in done.out
    assert "; dropped: not the largest face" in done.out
    assert [Path(item).name for item in listed(tmp_path)] == ["nobody.png", "text.png"]
    aligned = cli(*words, "--aligned", "--min-sharpness", 1)
    assert "  the file: sharpness " in aligned.out
    assert f"{photos / 'nobody.png'}" in listed(tmp_path)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--aligned", "--max-yaw", "30"], "--max-yaw limits what a detector finds"),
        (["--crop-eyes", "0.3,0.4,0.7,0.4", "--min-score", "0.5"], "--min-score limits what a detector finds"),
        (["--dataset", "celeba", "--max-pitch", "20"], "add --detector mtcnn"),
        (["--min-score", "2"], "min-score"),
        (["--max-yaw", "-3"], "max-yaw"),
    ],
)
def test_limits_that_cannot_be(cli, celeba, weights, tmp_path, words, expected):
    done = cli("embed", celeba, "--model", weights, "--out", tmp_path / "f.parquet", *words)
    assert done.code == 2
    assert expected in done.err


@pytest.mark.parametrize("kind", ["five_points", "eye_centroids"])
def test_a_model_brings_its_kind_of_alignment(cli, photos, weights, detector, tmp_path, kind):
    model = load_model(weights)
    alignment = Alignment(0.373, 0.379, kind)
    model.preprocessing = replace(model.preprocessing, alignment=alignment)
    path = model.save(tmp_path / "kind", {"licence": "test", "scores": {"none": 0.0}})
    out = tmp_path / "faces.parquet"
    done = cli("embed", photos, "--model", path, "--out", out)
    if kind == "eye_centroids":
        assert done.code == 3
        assert "(2, 2) or (68, 2)" in done.err  # five points are no substitute for the 68 it was trained by
        return
    assert done.code == 0
    file = read_vectors(out)
    row = file.faces.iloc[0]
    crop = align_face(Image.open(row["path"]), np.reshape(row["landmarks"], (5, 2)), alignment, 48)
    np.testing.assert_allclose(file.vectors.iloc[0], model.embed(model.preprocess(crop)).numpy()[0], atol=1e-5)
    assert np.array_equal(recut(row, model.preprocessing), crop)
    assert not np.allclose(row["eyes"], row["landmarks"][:4])  # the fitted template's eyes, not the face's own


def test_mtcnn_looks_for_nothing_smaller_than_min_face(monkeypatch):
    from exprembed.cli._faces import FaceOptions

    asked = []
    monkeypatch.setattr(
        "exprembed.data.detectors.MTCNNDetector", lambda min_face, device: asked.append((min_face, device))
    )
    for value in (0.0, 20.0, 80.0):
        FaceOptions(min_face=value).make_detector()
    FaceOptions(device="cuda:1").make_detector()
    assert asked == [(1.0, "cpu"), (20.0, "cpu"), (80.0, "cpu"), (20.0, "cuda:1")]
