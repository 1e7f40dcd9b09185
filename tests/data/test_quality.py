"""Measures of a face: sharpness, head pose, size, and the limits on them."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFilter

from exprembed.data import quality as quality_module
from exprembed.data.landmarks import MEAN_FACE, five_points
from exprembed.data.quality import MEASURES, FaceLimits, FaceQuality, head_pose, measure_face, sharpness
from exprembed.data.synthetic import render_faces
from exprembed.errors import BadInputError, WrongUseError

pictures = arrays(np.uint8, st.tuples(st.integers(3, 9), st.integers(3, 9)))


@given(pictures)
def test_sharpness_is_the_variance_of_the_laplacian(picture):
    height, width = picture.shape
    y = picture.astype(np.float64)
    values = [
        y[r - 1, c] + y[r + 1, c] + y[r, c - 1] + y[r, c + 1] - 4 * y[r, c]
        for r in range(1, height - 1)
        for c in range(1, width - 1)
    ]
    mean = sum(values) / len(values)
    assert sharpness(picture) == pytest.approx(sum((v - mean) ** 2 for v in values) / len(values), abs=1e-9)


@given(pictures, st.integers(0, 3), st.floats(0.1, 1), st.floats(-50, 50))
def test_sharpness_under_turns_light_and_contrast(picture, quarters, contrast, light):
    plain = sharpness(picture)
    assert sharpness(np.rot90(picture, quarters)) == pytest.approx(plain)
    assert sharpness(picture[:, ::-1]) == pytest.approx(plain)
    assert sharpness(picture * contrast + light) == pytest.approx(contrast**2 * plain, abs=1e-6)
    assert sharpness(np.stack([picture] * 3, axis=2)) == pytest.approx(plain, abs=1e-6)


def test_a_ramp_has_no_detail_and_blur_takes_it_away():
    x = np.arange(30.0)
    assert sharpness(3 * x[:, None] + 2 * x) == pytest.approx(0, abs=1e-9)
    images, _ = render_faces(8, 8, seed=1, size=96)
    for image in images:
        picture = Image.fromarray(image)
        values = [
            sharpness(np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)))) for radius in (0, 0.7, 1.5, 3)
        ]
        assert values == sorted(values, reverse=True)
        assert values[-1] < 0.1 * values[0]
        # Enlarged from a quarter of the size, it is as large but not as sharp.
        assert sharpness(np.asarray(picture.resize((24, 24)).resize((96, 96)))) < 0.3 * values[0]


def test_luma_is_that_of_pillow():
    images, _ = render_faces(2, 2, seed=1, size=64)
    for image in images:
        grey = np.asarray(Image.fromarray(image).convert("L"))
        assert sharpness(image) == pytest.approx(sharpness(grey), rel=0.02)  # Pillow rounds to whole numbers


@pytest.mark.parametrize("shape", [(2, 9), (9, 2), (9, 9, 4), (9,), (1, 9, 9, 3)])
def test_no_sharpness_of_other_shapes(shape):
    with pytest.raises(BadInputError, match="at least 3 x 3"):
        sharpness(np.zeros(shape, np.uint8))


def rotation(yaw, pitch, roll):
    """R_roll R_pitch R_yaw, each as it acts on (x to the right, y down, z to the viewer)."""
    (cy, sy), (cp, sp), (cr, sr) = ((math.cos(a), math.sin(a)) for a in np.deg2rad([yaw, pitch, roll]))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


@given(
    st.floats(-85, 85),
    st.floats(-80, 80),
    st.floats(-179, 179),
    st.floats(0.5, 500),
    arrays(float, 2, elements=st.floats(-900, 900)),
)
def test_the_pose_of_a_mean_face_from_afar_is_exact(yaw, pitch, roll, scale, shift):
    points = scale * (MEAN_FACE @ rotation(yaw, pitch, roll).T)[:, :2] + shift
    assert head_pose(points) == pytest.approx((yaw, pitch, roll), abs=1e-5)
    mirrored = (points * [-1, 1])[[1, 0, 2, 4, 3]]
    assert head_pose(mirrored) == pytest.approx((-yaw, pitch, -roll), abs=1e-5)


def test_signs():
    """The nose moves to where the face turns: to the right, then down."""
    assert (MEAN_FACE @ rotation(20, 0, 0).T)[2, 0] > 0.1
    assert (MEAN_FACE @ rotation(0, 20, 0).T)[2, 1] > MEAN_FACE[2, 1] + 0.1
    assert (MEAN_FACE @ rotation(0, 0, 20).T)[1, 1] > 0


def test_the_pose_of_drawn_faces():
    """Faces of their own shape and expression, seen from near; their nose lies higher than that of the mean face."""
    _, table = render_faces(200, 100, seed=11, size=112)
    given_pose = table[["yaw", "pitch", "roll"]].to_numpy()
    found = np.array([head_pose(np.reshape(flat, (68, 2))) for flat in table["landmarks"]])
    error = np.abs(found - given_pose).mean(axis=0)
    alike = [np.corrcoef(found[:, k], given_pose[:, k])[0, 1] for k in range(3)]
    assert (error < [3, 7, 1]).all(), error
    assert (alike > np.array([0.98, 0.6, 0.95])).all(), alike


def test_points_on_a_line_have_no_pose():
    line = np.stack([np.arange(5.0), 2 * np.arange(5.0)], axis=1)
    assert np.isnan(head_pose(line)).all()
    assert np.isnan(head_pose(np.zeros((5, 2)))).all()
    assert np.isnan(head_pose(np.full((5, 2), np.nan))).all()
    with pytest.raises(BadInputError, match=r"got \(4, 2\)"):
        head_pose(np.zeros((4, 2)))


def test_what_is_not_given_is_not_known():
    assert np.isnan(list(measure_face().columns().values())).all()
    images, table = render_faces(1, 1, seed=2, size=64)
    points = np.reshape(table["landmarks"].iloc[0], (68, 2))
    full = measure_face(images[0], points, (-3.0, 4.0, 57.0, 84.0), 0.75)
    assert tuple(full.columns()) == MEASURES
    assert full.detection_score == 0.75
    assert full.sharpness == sharpness(images[0])
    assert (full.yaw, full.pitch, full.roll) == head_pose(five_points(points))
    left, right = five_points(points)[:2]
    assert full.interocular == pytest.approx(np.linalg.norm(right - left))
    assert (full.box_width, full.box_height) == (60, 80)
    eyes = measure_face(landmarks=np.array([[10.0, 10.0], [20.0, 20.0]]))
    assert (eyes.roll, eyes.interocular) == pytest.approx((45, math.sqrt(200)))
    assert math.isnan(eyes.yaw)
    assert str(FaceQuality()) == ""


measures = st.floats(-90, 90) | st.just(math.nan)
limit = st.none() | st.floats(0, 90)


@given(st.floats(1, 90) | st.just(math.nan), measures, measures, measures, st.floats(0, 90), limit, limit, limit)
def test_a_face_is_kept_if_it_meets_every_limit(box, sharp, yaw, pitch, min_face, min_sharpness, max_yaw, max_pitch):
    limits = FaceLimits(min_face, None, min_sharpness, max_yaw, max_pitch)
    reason = limits.reason(FaceQuality(sharpness=sharp, yaw=yaw, pitch=pitch, box_width=box, box_height=box + 1))
    fails = {
        "min_face": box < min_face,
        "min_sharpness": min_sharpness is not None and not sharp >= min_sharpness,
        "max_yaw": max_yaw is not None and not abs(yaw) <= max_yaw,
        "max_pitch": max_pitch is not None and not abs(pitch) <= max_pitch,
    }
    if reason is None:
        assert not any(fails.values())
    else:
        assert {name: f"({name})" in reason for name in fails} == fails
        assert len(reason.split("; ")) == sum(fails.values())


def test_reasons_tell_value_and_limit():
    face = FaceQuality(0.55, 12.34, -41.26, 3.0, 0.0, 20.0, 33.4, 30.2)
    limits = FaceLimits(min_face=40, min_score=0.9, min_sharpness=50, max_yaw=30, max_pitch=20)
    assert limits.reason(face) == (
        "box of 30 pixels, below 40 (min_face); score 0.55, below 0.9 (min_score); "
        "sharpness 12.3, below 50 (min_sharpness); yaw -41.3, beyond 30 (max_yaw)"
    )
    assert FaceLimits(max_yaw=30).reason(FaceQuality()) == "yaw unknown, limit 30 (max_yaw)"
    assert FaceLimits().reason(FaceQuality()) is None


@pytest.mark.parametrize(
    "wrong", [{"min_face": -1}, {"min_score": 1.5}, {"max_yaw": math.nan}, {"min_sharpness": math.inf}]
)
def test_impossible_limits(wrong):
    with pytest.raises(WrongUseError, match=next(iter(wrong))):
        FaceLimits(**wrong)


def test_examples_in_the_documentation_run():
    assert doctest.testmod(quality_module).failed == 0
