"""Photo -> detection -> landmarks -> similarity transform -> crop."""

import builtins
import io
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exprembed.data._cascade import Candidates
from exprembed.data.alignment import align_face
from exprembed.data.detectors import MTCNNDetector, YuNetDetector
from exprembed.data.faces import (
    DetectedFace,
    FaceCrop,
    FaceDetector,
    crop_faces,
    crops_of,
    iter_face_crops,
    judge_faces,
    judge_whole,
)
from exprembed.data.images import open_image
from exprembed.data.preprocessing import Alignment
from exprembed.data.quality import MEASURES, FaceLimits, sharpness
from exprembed.data.synthetic import render_faces
from exprembed.data.tables import FaceTable
from exprembed.errors import BadInputError, MissingExtraError, WrongUseError
from exprembed.files import Skipped

ALIGNMENT = Alignment(interocular=0.4, eye_height=0.35)


def dotted(points: np.ndarray, size: tuple[int, int] = (300, 240), radius: float = 4.0) -> Image.Image:
    """Draw soft dots on grey, red at the first point, blue at the second."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    pixels = np.full((size[1], size[0], 3), 60.0)
    for (u, v), channel in zip(points, (0, 2), strict=True):
        pixels[..., channel] += 190 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * (radius / 2) ** 2))
    return Image.fromarray(np.round(pixels).astype(np.uint8))


def centre_of(picture: Image.Image, channel: int) -> tuple[float, float]:
    """Return the centre of mass of how far one colour channel stands out, in continuous pixels."""
    pixels = np.asarray(picture).astype(float)
    weight = np.clip(pixels[..., channel] - pixels[..., 1], 0, None)
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]] + 0.5
    return float((weight * x).sum() / weight.sum()), float((weight * y).sum() / weight.sum())


def eyes(middle: tuple[float, float], distance: float, roll: float) -> np.ndarray:
    half = np.array([math.cos(math.radians(roll)), math.sin(math.radians(roll))]) * distance / 2
    return np.stack([np.array(middle) - half, np.array(middle) + half])


@settings(max_examples=30, deadline=None)
@given(
    distance=st.floats(30, 120),
    roll=st.floats(-180, 180),
    x=st.floats(110, 190),
    y=st.floats(90, 150),
    size=st.sampled_from([48, 64, 112, 224]),
)
def test_the_eyes_land_where_stated(distance, roll, x, y, size):
    points = eyes((x, y), distance, roll)
    crop = align_face(dotted(points, radius=distance / 8), points, ALIGNMENT, size)
    assert crop.size == (size, size)
    left, right = size / 2 - size * 0.2, size / 2 + size * 0.2
    assert centre_of(crop, 0) == pytest.approx((left, size * 0.35), abs=0.5)
    assert centre_of(crop, 2) == pytest.approx((right, size * 0.35), abs=0.5)


@pytest.mark.parametrize("roll", [-30, 30])
def test_roll_is_removed(roll):
    """Turning a smooth scene about the eyes' middle by hand changes nothing in the crop."""
    y, x = np.mgrid[:240, :300] + 0.5
    middle = (150.0, 120.0)

    def scene(u: np.ndarray, v: np.ndarray) -> Image.Image:
        waves = [128 + 60 * np.sin(u / 9 + phase) + 50 * np.cos(v / 11 - phase) for phase in (0.0, 1.0, 2.0)]
        return Image.fromarray(np.stack(waves, axis=2).astype(np.uint8))

    cosine, sine = math.cos(math.radians(roll)), math.sin(math.radians(roll))
    dx, dy = x - middle[0], y - middle[1]
    straight = align_face(scene(dx, dy), eyes(middle, 48, 0), ALIGNMENT, 64)
    turned = align_face(scene(cosine * dx + sine * dy, cosine * dy - sine * dx), eyes(middle, 48, roll), ALIGNMENT, 64)
    assert np.abs(np.asarray(straight).astype(float) - np.asarray(turned)).max() < 6


def test_identity_transform_returns_the_pixels():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8))
    crop = align_face(noise, np.array([[30.0, 35.0], [70.0, 35.0]]), ALIGNMENT, 100)
    assert np.array_equal(crop, noise)


def test_shrinking_is_antialiased():
    """One-pixel stripes have no place in a crop of a sixth of the size: they must average to grey, not alias."""
    stripes = np.zeros((600, 600, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    for roll in (0, 20):
        crop = np.asarray(align_face(Image.fromarray(stripes), eyes((300, 210), 240, roll), ALIGNMENT, 96)).astype(
            float
        )
        assert np.abs(crop[20:70, 20:70] - 127.5).max() < 12


def test_beyond_the_picture_the_edge_repeats():
    half = np.zeros((60, 60), dtype=np.uint8)
    half[:, 30:] = 200
    crop = np.asarray(align_face(Image.fromarray(half), np.array([[20.0, 20.0], [40.0, 20.0]]), ALIGNMENT, 200))
    assert crop.shape == (200, 200)  # a grey picture stays grey
    assert (crop[:, :90] == 0).all()
    assert (crop[:, 110:] == 200).all()


def test_a_huge_face_costs_no_memory_beyond_the_picture():
    photo = Image.new("L", (4000, 3000), 77)
    crop = align_face(photo, np.array([[10.0, 1500.0], [3990.0, 1500.0]]), Alignment(0.05, 0.5), 64)
    assert (np.asarray(crop) == 77).all()


@pytest.mark.parametrize(
    "landmarks",
    [
        [[5.0, 5.0], [5.0, 5.0]],
        [[np.nan, 1.0], [2.0, 2.0]],
        [[1.0, 2.0]],
        [1.0, 2.0, 3.0, 4.0],
        [[-900.0, 0], [-880, 0]],
    ],
)
def test_impossible_landmarks_are_named_errors(landmarks):
    with pytest.raises(BadInputError, match=r"landmarks|eye|beside"):
        align_face(Image.new("RGB", (100, 100)), np.array(landmarks), ALIGNMENT, 96)


def test_impossible_size():
    with pytest.raises(WrongUseError, match="size is the side"):
        align_face(Image.new("RGB", (100, 100)), np.array([[30.0, 35.0], [70.0, 35.0]]), ALIGNMENT, 0)


class DotDetector:
    """Finds the faces that its list says, for pictures of the size in question."""

    def __init__(self, faces: dict[tuple[int, int], list[DetectedFace]]) -> None:
        self.faces = faces
        self.largest_batch = 0

    def detect(self, image: Image.Image) -> list[DetectedFace]:
        assert image.mode == "RGB"
        return self.faces.get(image.size, [])

    def detect_batch(self, images: Sequence[Image.Image]) -> list[list[DetectedFace]]:
        self.largest_batch = max(self.largest_batch, len(images))
        return [self.detect(image) for image in images]


def face(x: float, y: float, width: float) -> DetectedFace:
    offsets = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    return DetectedFace((x, y, x + width, y + width), np.array([x, y]) + offsets * width, 0.9)


@pytest.fixture
def photos(tmp_path):
    crowd = [face(20 + 50 * (i % 5), 10 + 60 * (i // 5), 30 + i) for i in range(10)]
    sizes = {"crowd": (300, 240), "one": (200, 150), "none": (80, 80), "tiny": (90, 90), "edge": (70, 60)}
    for name, size in sizes.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.new("RGB", size, (120, 90, 60)).save(tmp_path / "in" / f"{name}.png")
    found = {sizes["crowd"]: crowd, sizes["one"]: [face(50, 40, 60)], sizes["tiny"]: [face(5, 5, 12), face(40, 40, 15)]}
    found[sizes["edge"]] = [face(-10, -5, 60)]
    (tmp_path / "in" / "broken.jpg").write_bytes(b"<html>gone</html>")
    return tmp_path / "in", DotDetector(found)


def test_every_face_becomes_a_row_and_every_picture_is_accounted_for(photos):
    folder, detector = photos
    result = crop_faces(folder, detector, ALIGNMENT, size=64)
    assert isinstance(result.faces, FaceTable)
    assert [crop.size for crop in result.crops] == [(64, 64)] * 12 == [(64, 64)] * len(result.faces)
    assert [item for item in result.faces.index if item.startswith("crowd")] == [f"crowd.png#{i}" for i in range(10)]
    assert {item: reason for item, reason in result.skipped if item != "broken.jpg"} == {
        "none.png": "no face found",
        "tiny.png#0": "box of 15 pixels, below 20 (min_face)",
        "tiny.png#1": "box of 12 pixels, below 20 (min_face)",
    }
    assert "looks like an HTML page" in dict(result.skipped)["broken.jpg"]
    accounted = {item.partition("#")[0] for item in [*result.faces.index, *(item for item, _ in result.skipped)]}
    assert accounted == {path.name for path in folder.iterdir()}


def test_rows_say_where_the_face_is(photos, tmp_path):
    folder, detector = photos
    table = crop_faces(folder, detector, ALIGNMENT, size=64).faces
    row = table.loc["one.png#0"]
    assert row["path"] == str(folder / "one.png")
    assert row[["left", "top", "right", "bottom"]].tolist() == [50, 40, 110, 100]
    assert np.allclose(np.reshape(row["landmarks"], (5, 2)), face(50, 40, 60).landmarks)
    assert row["detection_score"] == pytest.approx(0.9)
    assert table.loc["edge.png#0", ["left", "top", "right", "bottom"]].tolist() == [0, 0, 50, 55]  # within the picture
    widths = table["right"] - table["left"]
    assert widths.loc["crowd.png#0"] == 39
    assert widths.filter(like="crowd").is_monotonic_decreasing
    table.write_parquet(tmp_path / "faces.parquet")
    again = FaceTable.read_parquet(tmp_path / "faces.parquet")
    assert again.drop(columns="landmarks").equals(table.drop(columns="landmarks"))
    assert np.allclose(np.stack(again["landmarks"]), np.stack(table["landmarks"]))


def test_only_the_largest_face_if_asked(photos):
    folder, detector = photos
    result = crop_faces([folder / "crowd.png", str(folder / "one.png")], detector, ALIGNMENT, faces="largest")
    assert list(result.faces.index) == [f"{folder / 'crowd.png'}#0", f"{folder / 'one.png'}#0"]
    assert result.crops[0].size == (224, 224)


def test_a_face_below_a_limit_is_listed_with_its_value(photos):
    folder, detector = photos
    told = []
    result = crop_faces(
        folder,
        detector,
        ALIGNMENT,
        size=64,
        limits=FaceLimits(min_face=38, min_score=0.5),
        explain=lambda name, found, reason: told.append((name, found, reason)),
    )
    assert list(result.faces.index) == ["crowd.png#0", "crowd.png#1", "edge.png#0", "one.png#0"]
    listed = dict(result.skipped)
    assert listed["crowd.png#2"] == "box of 37 pixels, below 38 (min_face)"
    assert len(result.faces) + sum("#" in item for item in listed) == 14
    by_name = {name: (found, reason) for name, found, reason in told}
    assert sorted(by_name) == sorted(path.name for path in folder.iterdir())
    assert by_name["none.png"] == ([], "no face found")
    assert "HTML" in by_name["broken.jpg"][1]
    crowd = by_name["crowd.png"][0]
    assert [one.verdict for one in crowd[:2]] == ["kept", "kept"]
    assert [one.dropped for one in crowd if one.dropped] == [listed[one.face_id] for one in crowd if one.dropped]
    row = result.faces.loc["one.png#0"]
    assert row[["interocular", "box_width", "box_height"]].tolist() == pytest.approx([24, 60, 60])
    assert row[list(MEASURES)].notna().all()


def test_the_largest_face_is_chosen_before_the_limits(photos):
    """Where the one face asked for is no good, no other takes its place."""
    folder, detector = photos
    image, detected = Image.open(folder / "crowd.png"), detector.faces[300, 240]
    found = judge_faces("a", image, detected, ALIGNMENT, 32, "largest", FaceLimits(min_face=39.5))
    assert found[0].dropped == "box of 39 pixels, below 39.5 (min_face)"
    assert {one.dropped for one in found[1:]} == {"not the largest face"}
    assert {one.crop for one in found[1:]} == {None}
    assert list(crops_of("a", "a", image, found)) == [Skipped("a#0", found[0].dropped)]


def test_a_face_that_cannot_be_cut_is_listed(photos):
    image = Image.new("RGB", (100, 100))
    bad = DetectedFace((10, 10, 60, 60), np.zeros((5, 2)), 0.8)
    odd = DetectedFace((10, 10, 60, 60), np.zeros((3, 2)), 0.8)
    beside = DetectedFace((-80, -80, -20, -20), face(-80, -80, 60).landmarks, 0.8)
    for one in (bad, odd, beside):
        for which in ("all", "largest"):
            (found, *rest) = judge_faces("a", image, [one, face(10, 10, 20)], ALIGNMENT, 32, which)
            assert found.crop is None
            assert re.search("different|landmarks|beside", found.dropped)
            assert found.quality.detection_score == 0.8
            assert (rest[0].crop is None) == (which == "largest")
    assert judge_faces("a", image, [], ALIGNMENT, 32) == []


def test_a_file_that_is_one_face():
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    whole = judge_whole("a", Image.fromarray(noise), size=48, limits=FaceLimits(min_face=500))
    assert (whole.face_id, whole.dropped, whole.crop.size) == ("a", None, (70, 90))  # it has no box, and stays as it is
    small = Image.fromarray(noise).resize((48, 48), Image.Resampling.BILINEAR).convert("L")
    assert whole.quality.sharpness == sharpness(np.asarray(small))
    points = np.array([[20.0, 30.0], [50.0, 30.0]])
    cut = judge_whole("a", Image.fromarray(noise), points, ALIGNMENT, 48, FaceLimits(min_sharpness=1e9))
    assert np.array_equal(cut.crop, align_face(Image.fromarray(noise), points, ALIGNMENT, 48))
    assert cut.quality.interocular == 30
    assert "below 1e+09 (min_sharpness)" in cut.dropped


def test_pictures_names_and_repeats(photos):
    folder, detector = photos
    one = Image.open(folder / "one.png")
    assert list(crop_faces(one, detector).faces.index) == ["image_0#0"]
    assert list(crop_faces([one, one], detector).faces.index) == ["image_0#0", "image_1#0"]
    named = crop_faces({"ann": one, "bob": folder / "one.png"}, detector).faces
    assert named["path"].to_dict() == {"ann#0": "ann", "bob#0": str(folder / "one.png")}
    again = crop_faces([folder / "one.png", folder / "one.png"], detector)
    assert len(again.faces) == 1
    assert again.skipped == [Skipped(str(folder / "one.png"), "named twice; only the first counts")]


def test_no_face_anywhere_gives_an_empty_table(photos):
    folder, detector = photos
    result = crop_faces(folder / "none.png", detector)
    assert result.crops == []
    assert len(result.faces) == 0
    assert list(result.faces.columns[:5]) == ["path", "left", "top", "right", "bottom"]
    assert len(result.skipped) == 1


def test_crops_stream_in_bounded_memory():
    given = 0

    def endless() -> Iterator[Image.Image]:
        nonlocal given
        while True:
            given += 1
            yield Image.new("RGB", (200, 150))

    detector = DotDetector({(200, 150): [face(50, 40, 60)]})
    stream = iter_face_crops(endless(), detector, ALIGNMENT, 32)
    for number in range(40):
        item = next(stream)
        assert isinstance(item, FaceCrop)
        assert item.face_id == f"image_{number}#0"
    assert given <= 48
    assert detector.largest_batch == 16


def test_exif_rotated_photo_gives_the_same_crop(tmp_path):
    points = eyes((120, 100), 50, 12)
    upright = dotted(points, (240, 200))
    exif = Image.Exif()
    exif[274] = 6  # stored turned by a quarter
    upright.save(tmp_path / "upright.png")
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    detector = DotDetector(
        {(240, 200): [DetectedFace((80, 60, 160, 140), np.vstack([points, points, points[:1]]), 1.0)]}
    )
    straight, turned = crop_faces([tmp_path / "upright.png", tmp_path / "turned.png"], detector, ALIGNMENT, 96).crops
    assert np.array_equal(straight, turned)


def test_wrong_calls(photos):
    folder, detector = photos
    with pytest.raises(WrongUseError, match="unknown choice of faces 'biggest'; did you mean"):
        crop_faces(folder, detector, faces="biggest")
    with pytest.raises(BadInputError, match="does not exist"):
        crop_faces(folder / "gone.png", detector)
    with pytest.raises(BadInputError, match="no image"):
        crop_faces(str(folder / "none"), detector) if (folder / "none").mkdir() is None else None
    listed = crop_faces([folder / "gone.png"], detector)
    assert "does not exist" in listed.skipped[0].reason


def test_progress_goes_to_standard_error(photos, capsys):
    folder, detector = photos
    crop_faces(folder, detector, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "faces" in shown.err


def test_the_protocol():
    assert isinstance(DotDetector({}), FaceDetector)
    assert not isinstance(object(), FaceDetector)


# --- the detectors themselves -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mtcnn():
    pytest.importorskip("facenet_pytorch", reason="the extra 'faces' is not installed")
    return MTCNNDetector()


@pytest.fixture(scope="module")
def yunet():
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    path = os.environ.get("EXPREMBED_YUNET")
    if not path:
        pytest.skip("set EXPREMBED_YUNET to YuNet's ONNX file")
    return YuNetDetector(path)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (48, 48), (640, 480)])
def test_no_face_in_a_blank_picture(mtcnn, size):
    assert mtcnn.detect(Image.new("RGB", size, (128, 100, 90))) == []
    assert isinstance(mtcnn, FaceDetector)


def test_batches_of_mixed_sizes_keep_their_order(mtcnn, monkeypatch):
    asked = []

    def cascade(pictures: torch.Tensor, least: float, thresholds: tuple[float, ...]) -> Candidates:
        """Answer with the mean of each picture as the score."""
        n = len(pictures)
        asked.append((tuple(pictures.shape[:3]), least, thresholds))
        boxes = torch.tensor([[10.0, 10, 50, 50]]).expand(n, 4)
        return Candidates(
            boxes, boxes, pictures.float().mean(dim=(1, 2, 3)), torch.arange(n), torch.full((n, 5, 2), 20.0)
        )

    monkeypatch.setattr(mtcnn, "_cascade", cascade)
    sizes = [(48, 48), (200, 180), (48, 48), (2560, 1280), (200, 180)]
    images = [Image.new("RGB", size, (40 * i,) * 3) for i, size in enumerate(sizes)]
    found = mtcnn.detect_batch(images)
    assert [round(item[0].score) for item in found] == [0, 40, 80, 120, 160]
    assert found[0][0].box == pytest.approx((10, 10, 50, 50))
    # 2560 x 1280 is seen at half its size
    assert found[3][0].box == pytest.approx((20, 20, 100, 100))
    assert found[3][0].landmarks == pytest.approx(np.full((5, 2), 40.0))
    # the smallest face: three tenths of the short side, what min_face says, and what the shrunk picture can show
    usual = mtcnn.thresholds
    assert asked == [
        ((2, 48, 48), pytest.approx(14.4), usual),
        ((2, 180, 200), 20, usual),
        ((1, 640, 1280), 20, usual),
    ]


def test_a_small_picture_without_a_face_gets_a_second_look(mtcnn, monkeypatch):
    asked = []
    nothing = Candidates(torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), torch.zeros(0, 5, 2))
    monkeypatch.setattr(mtcnn, "_cascade", lambda pixels, *how: asked.append((len(pixels), *how)) or nothing)
    assert mtcnn.detect_batch([Image.new("RGB", size) for size in [(48, 48), (300, 200), (48, 48)]]) == [[], [], []]
    usual, small = mtcnn.thresholds, pytest.approx(14.4)
    assert asked == [(2, small, usual), (1, 20, usual), (2, pytest.approx(14.4 * 0.84), (0.5, 0.5, 0.5))]


@pytest.fixture(scope="module")
def drawn():
    """Twelve drawn faces that the networks see, each alone on a larger picture."""
    images, _ = render_faces(40, subjects=20, seed=3, size=112)
    return [Image.fromarray(image) for image in images]


def test_mtcnn_finds_drawn_faces_wherever_they_stand(mtcnn, drawn):
    alone = mtcnn.detect_batch(drawn)
    seen = [i for i, faces in enumerate(alone) if len(faces) == 1 and faces[0].score > 0.95][:6]
    assert len(seen) == 6
    sheet = Image.new("RGB", (3 * 150 + 40, 2 * 150 + 40), (127, 127, 127))
    for place, i in enumerate(seen):
        sheet.paste(drawn[i], (40 + 150 * (place % 3), 40 + 150 * (place // 3)))
    together = mtcnn.detect(sheet)
    assert len(together) == 6
    for place, i in enumerate(seen):
        moved = alone[i][0].landmarks + np.array([40 + 150 * (place % 3), 40 + 150 * (place // 3)])
        assert min(np.abs(face.landmarks - moved).max() for face in together) < 4


def test_mtcnn_finds_what_stands_within_the_points(mtcnn, drawn):
    for faces in mtcnn.detect_batch(drawn):
        for face in faces:
            left, top, right, bottom = face.box
            eyes, mouth = face.landmarks[:2], face.landmarks[3:]
            assert left < eyes[0, 0] < eyes[1, 0] < right
            assert top < eyes[:, 1].mean() < mouth[:, 1].mean() < bottom


def test_a_batch_gives_what_each_picture_gives(mtcnn, drawn):
    together = mtcnn.detect_batch(drawn[:8])
    for image, faces in zip(drawn[:8], together, strict=True):
        for one, other in zip(mtcnn.detect(image), faces, strict=True):
            assert one.box == pytest.approx(other.box, abs=1e-2)
            assert one.landmarks == pytest.approx(other.landmarks, abs=1e-2)


def test_larger_min_face_leaves_out_small_faces(mtcnn, drawn):
    seen = next(image for image, faces in zip(drawn, mtcnn.detect_batch(drawn), strict=True) if len(faces) == 1)
    sheet = Image.new("RGB", (500, 300), (127, 127, 127))
    sheet.paste(seen.resize((224, 224)), (20, 40))
    sheet.paste(seen.resize((40, 40)), (400, 100))
    sides = [round(face.side) for face in mtcnn.detect(sheet)]
    assert len(sides) == 2
    assert sides[1] < 60
    assert [round(face.side) for face in MTCNNDetector(min_face=90).detect(sheet)] == [pytest.approx(sides[0], abs=8)]


def test_missing_extras_are_named(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name: str, *args: object, **options: object) -> object:
        if name in ("facenet_pytorch", "cv2"):
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"facenet-pytorch.*exprembed\[faces\]"):
        MTCNNDetector()
    with pytest.raises(MissingExtraError, match="opencv"):
        YuNetDetector(tmp_path / "yunet.onnx")


def test_wrong_options_of_detectors(tmp_path):
    with pytest.raises(WrongUseError, match="min_face"):
        MTCNNDetector(min_face=0)
    with pytest.raises(WrongUseError, match="min_score"):
        YuNetDetector(tmp_path / "a.onnx", min_score=2)


def test_yunet_needs_its_network(tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    with pytest.raises(BadInputError, match=r"a\.onnx does not exist"):
        YuNetDetector(tmp_path / "a.onnx")
    (tmp_path / "b.onnx").write_bytes(b"no network")
    with pytest.raises(BadInputError, match=r"b\.onnx is not a YuNet network"):
        YuNetDetector(tmp_path / "b.onnx")


def real(*parts: str) -> Path:
    root = os.environ.get("EXPREMBED_DATA")
    folder = Path(root or "-", *parts)
    if not folder.exists():
        pytest.skip(f"set EXPREMBED_DATA to the folder that holds {parts[0]}")
    return folder


@pytest.mark.data
@pytest.mark.parametrize("name", ["mtcnn", "yunet"])
def test_real_faces_are_found_upright_and_turned(name, request):
    """Turning a photo by 15 degrees turns its landmarks, by which the crop is turned back."""
    detector = request.getfixturevalue(name)
    turns = []
    for file in sorted(real("jaffe").glob("*.tiff"))[::9]:
        photo = open_image(file)
        turned = photo.rotate(15, Image.Resampling.BICUBIC, fillcolor=(127, 127, 127))
        (straight,), (tilted,) = detector.detect_batch([photo, turned])
        assert straight.landmarks[0, 0] < straight.landmarks[1, 0]
        assert straight.landmarks[:2, 1].max() < straight.landmarks[2, 1] < straight.landmarks[3:, 1].min()
        (ux, uy), (vx, vy) = (found.landmarks[1] - found.landmarks[0] for found in (straight, tilted))
        turns.append(math.degrees(math.atan2(uy, ux) - math.atan2(vy, vx)))
    assert np.mean(turns) == pytest.approx(15, abs=1.5)
    assert np.std(turns) < 4


@pytest.mark.data
@pytest.mark.parametrize("name", ["mtcnn", "yunet"])
@pytest.mark.parametrize(
    ("folder", "pattern", "least"),
    [
        (("jaffe",), "*.tiff", 0.99),
        (("ferplus", "FER2013Train"), "*.png", 0.90),
        (("rafdb", "basic", "Image", "aligned"), "*.jpg", 0.90),
        (("celeba", "img_align_celeba"), "*.jpg", 0.97),
    ],
)
def test_small_crops_get_landmarks(name, folder, pattern, least, request):
    detector = request.getfixturevalue(name)
    files = sorted(real(*folder).glob(pattern))
    found = detector.detect_batch([open_image(file) for file in files[:: len(files) // 60][:60]])
    assert np.mean([len(item) > 0 for item in found]) >= least


@pytest.mark.data
@pytest.mark.parametrize("name", ["mtcnn", "yunet"])
def test_ten_real_faces_in_one_large_photo(name, request):
    detector = request.getfixturevalue(name)
    files = sorted(real("jaffe").glob("*.tiff"))[::13][:10]
    photo = Image.new("RGB", (3000, 1600), (90, 110, 130))
    for i, file in enumerate(files):
        photo.paste(open_image(file).resize((500, 500)), (40 + 590 * (i % 5), 100 + 750 * (i // 5)))
    buffer = io.BytesIO()
    photo.save(buffer, "PNG")
    result = crop_faces({"group": open_image(buffer.getvalue())}, detector, ALIGNMENT, 96)
    assert len(result.crops) == len(result.faces) == 10
    assert result.skipped == []
