"""The kinds of alignment: which points place a face in its crop, against transcriptions of the papers' equations."""

import doctest
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from exprembed.data import landmarks as landmarks_module
from exprembed.data.alignment import align_face, eye_places
from exprembed.data.detectors import MTCNNDetector
from exprembed.data.images import open_image
from exprembed.data.landmarks import MEAN_FACE, eye_centroids, fit_similarity, five_points
from exprembed.data.preprocessing import Alignment, Preprocessing
from exprembed.data.synthetic import render_faces
from exprembed.errors import BadInputError, WrongUseError

KINDS = {"eyes": 5, "eye_centroids": 68, "five_points": 5}
PLACE = {"interocular": 0.4, "eye_height": 0.35}


def umeyama(source, target):
    """Equations 39 to 42 of Umeyama 1991 in two dimensions: c R and t, with its own names."""
    mean_x, mean_y = source.mean(axis=0), target.mean(axis=0)
    variance_x = ((source - mean_x) ** 2).sum(axis=1).mean()
    covariance = (target - mean_y).T @ (source - mean_x) / len(source)
    u, d, vt = np.linalg.svd(covariance)
    s = np.eye(2)
    if np.linalg.det(u) * np.linalg.det(vt) < 0:
        s[1, 1] = -1
    rotation = u @ s @ vt
    c = np.trace(np.diag(d) @ s) / variance_x
    return np.column_stack([c * rotation, mean_y - c * rotation @ mean_x])


def moved(points, scale, roll, shift):
    turn = np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    return scale * points @ turn.T + shift


def in_crop(points, given_points, alignment):
    """Where `points` of a picture lie in the crop, in fractions of its side, by the two-eye transform of the paper."""
    left, right = eye_places(given_points, alignment)
    dx, dy = right - left
    scale, angle = alignment.interocular / math.hypot(dx, dy), math.atan2(dy, dx)
    return moved(points - (left + right) / 2, scale, -angle, [0.5, alignment.eye_height])


def a_face(kind, seed):
    """Points near those of a face, 5 or 68 of them."""
    rng = np.random.default_rng(seed)
    if kind == "eye_centroids":
        _, table = render_faces(1, 1, seed=seed % 7, size=64)
        return np.reshape(table["landmarks"].iloc[0], (68, 2)) / 24 + rng.normal(0, 0.02, (68, 2))
    return MEAN_FACE[:, :2] + rng.normal(0, 0.08, (5, 2))


moves = {
    "scale": st.floats(0.5, 400),
    "roll": st.floats(-math.pi, math.pi),
    "shift": arrays(float, 2, elements=st.floats(-900, 900)),
}


@given(
    arrays(float, st.tuples(st.integers(2, 9), st.just(2)), elements=st.floats(-50, 50)),
    st.integers(0, 9999),
)
def test_the_similarity_is_umeyama_s(source, seed):
    assume(((source - source.mean(axis=0)) ** 2).sum() > 1e-3)
    target = np.random.default_rng(seed).normal(0, 30, source.shape)
    expected = umeyama(source, target)
    assume(np.hypot(*expected[:, 0]) > 1e-4)  # else the rotation is not defined
    np.testing.assert_allclose(fit_similarity(source, target), expected, rtol=1e-6, atol=1e-6)


def test_points_without_partners_are_refused():
    with pytest.raises(BadInputError, match=r"\(5, 2\) and \(4, 2\)"):
        fit_similarity(MEAN_FACE[:, :2], MEAN_FACE[:4, :2])


def test_the_similarity_of_mirrored_points_is_a_rotation():
    """Left and right swapped: the best fit would be a reflection, which no crop may be."""
    points = MEAN_FACE[:, :2]
    found = fit_similarity(points[[1, 0, 2, 4, 3]] + [0.1, 0.0], points)
    assert np.linalg.det(found[:, :2]) > 0
    np.testing.assert_allclose(found, umeyama(points[[1, 0, 2, 4, 3]] + [0.1, 0.0], points), atol=1e-12)


@given(st.integers(0, 999), arrays(float, 4, elements=st.floats(-0.3, 0.3)))
def test_no_other_similarity_is_closer(seed, change):
    points, template = a_face("five_points", seed), Alignment(kind="five_points").template
    best = fit_similarity(points, template)
    a, b, x, y = change
    other = best + np.array([[a, -b, x], [b, a, y]])
    cost = [((points @ m[:, :2].T + m[:, 2] - template) ** 2).sum() for m in (best, other)]
    assert cost[0] <= cost[1] + 1e-12


def test_eye_centroids_are_the_thesis_s():
    _, table = render_faces(12, 12, seed=4, size=96)
    for flat in table["landmarks"]:
        points = np.reshape(flat, (68, 2))
        # Points 37 to 42 and 43 to 48 of a numbering from 1; "left" is that of the picture.
        l_x, l_y = (sum(points[i - 1, axis] for i in range(37, 43)) / 6 for axis in (0, 1))
        r_x, r_y = (sum(points[i - 1, axis] for i in range(43, 49)) / 6 for axis in (0, 1))
        angle = np.arctan2(r_y - l_y, r_x - l_x)  # (3.1.1)
        size, plan = 224, Alignment(0.45, 0.4, "eye_centroids")
        desired_distance = plan.interocular * size
        scale = desired_distance / np.sqrt((r_x - l_x) ** 2 + (r_y - l_y) ** 2)  # (3.1.2)
        middle = np.array([(l_x + r_x) / 2, (l_y + r_y) / 2])
        expected = moved(points - middle, scale, -angle, [size / 2, size * plan.eye_height])
        np.testing.assert_allclose(in_crop(points, points, plan) * size, expected, atol=1e-9)
        np.testing.assert_allclose(eye_centroids(points), [[l_x, l_y], [r_x, r_y]], atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 999), **moves)
def test_turned_scaled_and_shifted_points_give_the_same_crop(kind, seed, scale, roll, shift):
    points, plan = a_face(kind, seed), Alignment(**PLACE, kind=kind)
    there = moved(points, scale, roll, shift)
    np.testing.assert_allclose(in_crop(there, there, plan), in_crop(points, points, plan), atol=1e-6)
    np.testing.assert_allclose(eye_places(there, plan), moved(eye_places(points, plan), scale, roll, shift), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_eye_places_alone_cut_the_same_crop_again(kind):
    images, table = render_faces(3, 3, seed=8, size=128)
    plan = Alignment(**PLACE, kind=kind)
    for image, flat in zip(images, table["landmarks"], strict=True):
        points = np.reshape(flat, (68, 2))
        points = points if kind == "eye_centroids" else five_points(points)
        crop = align_face(Image.fromarray(image), points, plan, 64)
        again = align_face(Image.fromarray(image), eye_places(points, plan), plan, 64)
        assert np.array_equal(crop, again)
        plain = align_face(Image.fromarray(image), eye_places(points, plan), replace(plan, kind="eyes"), 64)
        assert np.array_equal(crop, plain)


@given(**moves)
def test_all_kinds_cut_the_mean_face_alike(scale, roll, shift):
    five = moved(MEAN_FACE[:, :2], scale, roll, shift)
    many = np.repeat(five[[0]], 68, axis=0)
    many[42:48], many[[30, 48, 54]] = five[1], five[2:]
    for kind, points in (("eyes", five), ("five_points", five), ("eye_centroids", many)):
        plan = Alignment(**PLACE, kind=kind)
        np.testing.assert_allclose(in_crop(five, points, plan), plan.template, atol=1e-7)


def test_five_points_land_on_the_template_in_pixels():
    plan, size = Alignment(**PLACE, kind="five_points"), 96
    points = moved(MEAN_FACE[:, :2], 50.0, 0.4, [130.0, 90.0])
    y, x = np.mgrid[:240, :300] + 0.5
    for place, (u, v) in zip(plan.template * size, points, strict=True):
        dot = 250 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 18)
        crop = np.asarray(align_face(Image.fromarray(dot.astype(np.uint8)), points, plan, size)).astype(float)
        rows, columns = np.mgrid[:size, :size] + 0.5
        centre = (columns * crop).sum() / crop.sum(), (rows * crop).sum() / crop.sum()
        assert centre == pytest.approx(tuple(place), abs=0.3)


def test_five_of_sixty_eight():
    points = np.random.default_rng(0).normal(size=(68, 2))
    expected = [points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[30], points[48], points[54]]
    np.testing.assert_allclose(five_points(points), expected)
    assert five_points(points[:5]).tolist() == points[:5].tolist()
    with pytest.raises(BadInputError, match=r"\(68, 2\).*got \(7, 2\)"):
        five_points(points[:7])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 3, 4, 5, 67, 68])
def test_other_points_than_the_kind_takes_are_refused(kind, count):
    points = np.random.default_rng(0).normal(60, 20, (count, 2))
    if count == KINDS[kind]:
        assert eye_places(points, Alignment(kind=kind)).shape == (2, 2)
        return
    with pytest.raises(BadInputError, match=rf"alignment '{kind}'.*\({KINDS[kind]}, 2\).*got \({count}, 2\)"):
        eye_places(points, Alignment(kind=kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_points_that_say_nothing_are_refused(kind, value):
    with pytest.raises(BadInputError, match=r"differ|finite"):
        eye_places(np.full((KINDS[kind], 2), value), Alignment(kind=kind))


def test_a_kind_travels_with_the_model():
    with pytest.raises(WrongUseError, match="unknown kind of alignment 'five_point'; did you mean 'five_points'"):
        Alignment(kind="five_point")
    for kind in KINDS:
        plan = Preprocessing(alignment=Alignment(**PLACE, kind=kind))
        assert Preprocessing.from_dict(plan.to_dict()) == plan
    # Models from before there were kinds keep their definition, and with it their fingerprint.
    assert Preprocessing(alignment=Alignment(**PLACE)).to_dict()["alignment"] == PLACE
    assert Preprocessing.from_dict(Preprocessing(alignment=None).to_dict()).alignment is None


def test_examples_in_the_documentation_run():
    assert doctest.testmod(landmarks_module).failed == 0


@pytest.mark.data
def test_the_mean_face_is_ferplus_s():
    """MTCNN's points on 300 training pictures and their mirror images, brought together by similarity transforms."""
    pytest.importorskip("facenet_pytorch", reason="the extra 'faces' is not installed")
    folder = Path(os.environ.get("EXPREMBED_DATA", "-")) / "ferplus" / "FER2013Train"
    if not folder.exists():
        pytest.skip("set EXPREMBED_DATA to the folder that holds ferplus")
    files, detector = sorted(folder.glob("*.png")), MTCNNDetector()
    sets = []
    for faces in detector.detect_batch([open_image(path) for path in files[:: len(files) // 300][:300]]):
        if faces and faces[0].score > 0.9:
            points = max(faces, key=lambda face: face.area).landmarks
            sets += [points, (points * [-1, 1])[[1, 0, 2, 4, 3]]]
    mean = MEAN_FACE[:, :2]
    for _ in range(5):
        fitted = [fit_similarity(points, mean) for points in sets]
        mean = np.mean([points @ m[:, :2].T + m[:, 2] for points, m in zip(sets, fitted, strict=True)], axis=0)
        mean = (mean - mean[:2].mean(axis=0)) / (mean[1, 0] - mean[0, 0])
    np.testing.assert_allclose(mean, MEAN_FACE[:, :2], atol=0.03)
