"""Masks of eyes and mouth: pixel by pixel against a transcription, moved and mirrored, on rendered faces, from tables."""

import doctest

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed.data import FaceTable, eye_mouth_mask, masks
from exprembed.data.loading import StepDataset
from exprembed.data.masks import relative_landmarks
from exprembed.data.samplers import BalancedSampler
from exprembed.data.synthetic import render_faces, save_faces
from exprembed.errors import BadInputError

SIZE = 32


def winds_round(polygon, x, y):
    """Whether a ray to the right leaves a polygon: the even-odd rule, edge by edge."""
    inside = False
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) / (y1 - y0) * (x1 - x0) > x:
            inside = not inside
    return inside


def transcribed(points, size):
    outlines = points[36:42], points[42:48], points[48:60]
    return [
        [int(any(winds_round(one, j + 0.5, i + 0.5) for one in outlines)) for j in range(size)] for i in range(size)
    ]


def drawn(seed, low=0, high=SIZE):
    return np.random.default_rng(seed).uniform(low, high, (68, 2))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    images, faces = render_faces(24, 3, 2, size=64)
    return save_faces(images, faces, tmp_path_factory.mktemp("faces"))


def points_of(faces, row):
    return np.array(faces["landmarks"].iloc[row]).reshape(68, 2)


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_transcription(seed):
    """Random points cross each other and leave the picture."""
    points = drawn(seed, -8, SIZE + 8)
    assert eye_mouth_mask(points, SIZE).tolist() == transcribed(points, SIZE)


def test_on_a_face(rendered):
    points = points_of(rendered, 5)
    mask = eye_mouth_mask(points, 64)
    assert mask.dtype == np.uint8
    assert mask.tolist() == transcribed(points, 64)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(-6, 6), st.integers(-6, 6))
def test_goes_where_the_points_go(seed, right, down):
    points = drawn(seed, 8, SIZE - 8)
    moved = eye_mouth_mask(points + np.array([right, down]), SIZE)
    assert np.array_equal(moved, np.roll(eye_mouth_mask(points, SIZE), (down, right), axis=(0, 1)))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_mirrored_points_make_the_mirrored_mask(seed):
    points = drawn(seed)
    mirrored = points * [-1, 1] + [SIZE, 0]
    assert np.array_equal(eye_mouth_mask(mirrored, SIZE), eye_mouth_mask(points, SIZE)[:, ::-1])


def test_covers_the_pupils_and_the_lips_of_rendered_faces(rendered):
    for row in range(len(rendered)):
        points = points_of(rendered, row)
        mask = eye_mouth_mask(points * 4, 256)
        area = 0.0
        for outline in (points[36:42], points[42:48], points[48:60]):
            (x, y), (u, v) = outline.T, np.roll(outline, -1, axis=0).T
            area += 8 * abs((x * v - u * y).sum())  # the shoelace formula, 16 times as large
        inside = (points[36:60] < 64).all() and (points[36:60] > 0).all()
        assert mask.sum() == pytest.approx(area, rel=0.03) if inside else mask.sum() <= area
        assert 0.01 < mask.mean() < 0.2
        column, line = (4 * points[60:68].mean(axis=0)).astype(int)  # the middle of the lips
        assert line >= 256 or mask[line, column] == 1


def test_the_nose_does_not_count(rendered):
    points = points_of(rendered, 0)
    other = points.copy()
    other[:36] += 5
    other[60:] += 1
    assert np.array_equal(eye_mouth_mask(points, 64), eye_mouth_mask(other, 64))


def test_landmarks_of_a_table(rendered):
    """Fractions of the file's own sides; faces without landmarks, and pairs in place of flat numbers."""
    table = pd.DataFrame(rendered).iloc[:4].copy()
    expected = np.stack([points_of(rendered, row) / 64 for row in range(4)])
    assert relative_landmarks(FaceTable(table)) == pytest.approx(expected, abs=1e-6)
    given_as = [points_of(rendered, 0), None, list(map(tuple, points_of(rendered, 2))), np.nan]
    found = relative_landmarks(FaceTable(table.assign(landmarks=pd.Series(given_as, table.index))))
    assert found[[0, 2]] == pytest.approx(expected[[0, 2]], abs=1e-6)
    assert np.isnan(found[[1, 3]]).all()
    with pytest.raises(BadInputError, match="need the faces' column 'landmarks'"):
        relative_landmarks(FaceTable(table.drop(columns="landmarks")))
    with pytest.raises(BadInputError, match=r"'synthetic-2-000000' has landmarks of \(10,\)"):
        relative_landmarks(FaceTable(table.assign(landmarks=[list(range(10))] * 4)))


def test_landmarks_survive_a_file(rendered, tmp_path):
    rendered.write_parquet(tmp_path / "faces.parquet")
    again = FaceTable.read_parquet(tmp_path / "faces.parquet")
    assert np.array_equal(relative_landmarks(again), relative_landmarks(rendered))


def test_a_step_has_the_masks_of_its_faces(rendered):
    table = pd.DataFrame(rendered)
    table.loc[table.index[::2], "landmarks"] = None
    faces = FaceTable(table)
    inputs = np.arange(len(faces), dtype=np.uint8)[:, None, None, None]
    sampler = BalancedSampler(np.arange(len(faces)).astype(str), 16)
    batch = StepDataset(inputs, faces, sampler, ["fear", "anger"], masks=16)[0]
    assert batch.masks.shape == (16, 1, 16, 16)
    for row, mask in zip(batch.inputs.flatten().tolist(), batch.masks.numpy(), strict=True):
        if row % 2 == 0:
            assert np.isnan(mask).all()
        else:
            assert np.array_equal(mask[0], eye_mouth_mask(points_of(rendered, row) / 4, 16))
    assert len(StepDataset(inputs, faces, sampler, ["fear"])[0].masks) == 0


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((68, 2), np.nan), np.zeros(136)])
def test_refused(points):
    with pytest.raises(BadInputError, match=r"\(68, 2\) finite points"):
        eye_mouth_mask(points, 16)


def test_examples():
    assert doctest.testmod(masks, extraglobs={"np": np}).failed == 0
