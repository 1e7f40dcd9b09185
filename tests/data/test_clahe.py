"""CLAHE against a loop-by-loop transcription, scikit-image and OpenCV; its place in a model's preprocessing."""

import doctest
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from exprembed.data import GrayCLAHE, Preprocessing, clahe
from exprembed.data.synthetic import render_faces
from exprembed.errors import BadInputError, WrongUseError

PLAN = Preprocessing(size=64, channels=1, mean=(0.5,), std=(0.25,), clahe=GrayCLAHE())


def equalise(pictures, **options):
    return GrayCLAHE(**options)(torch.from_numpy(np.asarray(pictures))[:, None])[:, 0].numpy()


@pytest.fixture(scope="module")
def pictures():
    """Faces, noise, a dark narrow range, a ramp and one level: (8, 64, 64) uint8."""
    faces, _ = render_faces(4, 2, seed=0, size=64)
    rng = np.random.default_rng(0)
    grey = (faces @ np.array([0.299, 0.587, 0.114])).round()
    ramp = np.repeat(np.arange(0, 256, 4)[None], 64, axis=0)
    rest = [rng.integers(0, 256, (64, 64)), rng.normal(40, 5, (64, 64)).clip(0, 255), ramp, np.full((64, 64), 90)]
    return np.concatenate([grey, rest]).astype(np.uint8)


def transcription(picture, clip_limit, grid):
    """The docstring's equations, one pixel and one level at a time."""
    height, width = picture.shape
    padded = np.pad(picture, ((0, -height % grid), (0, -width % grid)), mode="reflect")
    th, tw = padded.shape[0] // grid, padded.shape[1] // grid
    limit = max(1, int(clip_limit * th * tw / 256))
    maps = np.empty((grid, grid, 256))
    for i in range(grid):
        for j in range(grid):
            counts = [0] * 256
            for value in padded[i * th : (i + 1) * th, j * tw : (j + 1) * tw].flatten():
                counts[value] += 1
            excess = sum(max(0, count - limit) for count in counts)
            counts = [min(count, limit) + excess // 256 for count in counts]
            left = excess % 256
            place, step = 0, max(1, 256 // left) if left else 1
            while left:
                counts[place] += 1
                place, left = place + step, left - 1
            total = 0
            for value in range(256):
                total += counts[value]
                maps[i, j, value] = min(255, round(255 / (th * tw) * total))
    out = np.empty(picture.shape, np.uint8)
    for y in range(height):
        for x in range(width):
            fy, fx = y / th - 0.5, x / tw - 0.5
            i, j = int(np.floor(fy)), int(np.floor(fx))
            above, left = max(i, 0), max(j, 0)
            below, right = min(i + 1, grid - 1), min(j + 1, grid - 1)
            column = maps[:, :, picture[y, x]]
            upper = column[above, left] * (1 - (fx - j)) + column[above, right] * (fx - j)
            lower = column[below, left] * (1 - (fx - j)) + column[below, right] * (fx - j)
            out[y, x] = round(upper * (1 - (fy - i)) + lower * (fy - i))
    return out


@pytest.mark.parametrize(("side", "clip_limit", "grid"), [(64, 2.0, 8), (64, 40.0, 4), (50, 3.0, 4), (20, 0.1, 3)])
def test_it_is_the_equations(pictures, side, clip_limit, grid):
    for picture in pictures[::3, :side, :side]:
        ours = equalise([picture], clip_limit=clip_limit, grid=grid)[0].astype(int)
        theirs = transcription(picture, clip_limit, grid)
        # Sides that are no power of two: float64 and float32 may round a blend at exactly one half apart.
        assert np.abs(ours - theirs).max() <= (0 if side == 64 else 1)
        assert (ours != theirs).mean() < 0.01


@pytest.mark.parametrize("side", [8, 48, 50, 64])
@pytest.mark.parametrize("clip_limit", [0.5, 2.0, 40.0])
@pytest.mark.parametrize("grid", [1, 4, 8])
def test_it_is_opencv_s(pictures, side, clip_limit, grid):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    theirs = cv2.createCLAHE(clip_limit, (grid, grid))
    cut = np.ascontiguousarray(pictures[:, :side, :side])
    assert np.array_equal(
        equalise(cut, clip_limit=clip_limit, grid=grid), np.stack([theirs.apply(picture) for picture in cut])
    )


def test_one_tile_without_a_limit_is_histogram_equalisation(pictures):
    exposure = pytest.importorskip("skimage.exposure")
    for picture, ours in zip(pictures, equalise(pictures, clip_limit=256, grid=1), strict=True):
        assert np.array_equal(ours, np.round(255 * exposure.equalize_hist(picture)))


def test_it_is_close_to_scikit_image_s(pictures):
    """scikit-image stretches the result to the whole range and shares the clipped counts out in another way."""
    exposure = pytest.importorskip("skimage.exposure")
    for picture in pictures[:4]:
        theirs = 255 * exposure.equalize_adapthist(picture, kernel_size=16, clip_limit=40 / 256)
        assert np.abs(equalise([picture], clip_limit=40, grid=4)[0] - theirs).mean() < 1
        theirs = 255 * exposure.equalize_adapthist(picture)
        assert np.corrcoef(equalise([picture])[0].flatten(), theirs.flatten())[0, 1] > 0.97


@given(
    level=st.integers(0, 255),
    side=st.integers(8, 40),
    clip=st.floats(0.01, 300, allow_nan=False),
    grid=st.integers(1, 8),
)
@settings(max_examples=30, deadline=None)
def test_a_constant_picture_stays_constant(level, side, clip, grid):
    out = equalise(np.full((1, side, side), level, np.uint8), clip_limit=clip, grid=grid)
    assert len(np.unique(out)) == 1


@given(stnp.arrays(np.uint8, (3, 16, 16)), st.floats(0.1, 300), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_pictures_do_not_see_each_other_and_order_stays(pictures, clip, grid):
    out = equalise(pictures, clip_limit=clip, grid=grid)
    assert out.dtype == np.uint8
    assert np.array_equal(out[1:2], equalise(pictures[1:2], clip_limit=clip, grid=grid))
    whole = equalise(pictures, clip_limit=clip, grid=1)
    for before, after in zip(pictures, whole, strict=True):
        order = np.argsort(before, axis=None, kind="stable")
        assert (np.diff(after.flatten()[order].astype(int)) >= 0).all()


def test_contrast_rises_and_the_limit_bounds_it(pictures):
    dark = pictures[5:6]
    spread = [equalise(dark, clip_limit=limit, grid=2).std() for limit in (1.0, 4.0, 256.0)]
    assert dark.std() < spread[0] < spread[1] < spread[2]


def test_float_levels_are_those_of_uint8(pictures):
    """Training hands over float in [0, 1], after augmentation."""
    pixels = torch.from_numpy(pictures)[:, None]
    ours = GrayCLAHE()(pixels.float() / 255 + 0.001)
    assert ours.dtype == torch.float32
    assert torch.equal((ours * 255).round().to(torch.uint8), GrayCLAHE()(pixels))
    assert GrayCLAHE()(pixels[:1].double() / 255).dtype == torch.float64
    assert GrayCLAHE()(pixels[:0]).shape == (0, 1, 64, 64)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.zeros(2, 3, 64, 64), r"\(2, 3, 64, 64\) float32 where grey"),
        (torch.zeros(64, 64), "where grey"),
        (torch.zeros(1, 1, 64, 64, dtype=torch.int64), "int64"),
        (torch.zeros(1, 1, 64, 7), "8 pixels a side"),
    ],
)
def test_other_arrays_are_refused(pixels, message):
    with pytest.raises(BadInputError, match=message):
        GrayCLAHE()(pixels)


@pytest.mark.parametrize("options", [{"clip_limit": 0}, {"clip_limit": float("nan")}, {"grid": 0}, {"grid": 2.5}])
def test_limits_and_grids_that_mean_nothing(options):
    with pytest.raises(WrongUseError, match=next(iter(options))):
        GrayCLAHE(**options)


def test_preprocessing_equalises_before_it_normalises(pictures):
    equalised = equalise(pictures)
    expected = (torch.from_numpy(equalised)[:, None].float() / 255 - 0.5) / 0.25
    assert torch.equal(PLAN(list(pictures)), expected)
    assert torch.equal(PLAN.normalize(torch.from_numpy(pictures)[:, None].float() / 255), expected)
    PLAN.check(PLAN(list(pictures)))
    assert np.array_equal(PLAN.pixels(list(pictures))[:, 0], pictures)  # the crops themselves are left alone


def test_it_is_stored_with_the_model(tmp_path):
    from exprembed.models import FECNet, load_model

    torch.manual_seed(0)
    model = FECNet(backbone="resnet10_grey48", dense_channels=0, hidden=16, embedding_dim=4)
    plain = model.fingerprint
    model.preprocessing = Preprocessing(size=48, channels=1, mean=(0.5,), std=(0.25,), clahe=GrayCLAHE(3.0, 4))
    again = load_model(model.save(tmp_path / "equalised"))
    assert again.preprocessing == model.preprocessing
    assert again.fingerprint == model.fingerprint != plain


def test_cards_from_before_it_load_and_keep_their_fingerprint():
    assert Preprocessing.from_dict(json.loads(json.dumps(PLAN.to_dict()))) == PLAN
    old = Preprocessing(size=48, channels=1, mean=(0.5,), std=(0.25,))
    assert "clahe" not in old.to_dict()  # what is hashed into fingerprints stays what it was
    assert Preprocessing.from_dict(old.to_dict()) == old
    for broken in ({"clip": 2}, 3):
        with pytest.raises(BadInputError, match="clahe"):
            Preprocessing.from_dict(PLAN.to_dict() | {"clahe": broken})


def test_colour_and_tiny_crops_have_none():
    with pytest.raises(WrongUseError, match="channels=3"):
        Preprocessing(clahe=GrayCLAHE())
    with pytest.raises(WrongUseError, match="size=6"):
        Preprocessing(size=6, channels=1, mean=(0.5,), std=(0.25,), clahe=GrayCLAHE())


def test_the_example_runs():
    assert doctest.testmod(clahe).failed == 0
