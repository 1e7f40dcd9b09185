"""Augmentation: identity where nothing varies, one draw a face, a function of its generator."""

import pytest
import torch

from exprembed.data.augment import Augmentation, gaussian_blur
from exprembed.errors import BadInputError


def faces(n=6, size=48, channels=1):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(1))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_nothing_varies():
    x = faces()
    assert torch.allclose(Augmentation.none()(x, 48, generator()), x, atol=1e-5)


def test_shape_range_and_determinism():
    x = faces(channels=3)
    out = Augmentation()(x, 40, generator())
    assert out.shape == (6, 3, 40, 40)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1
    assert torch.equal(out, Augmentation()(x, 40, generator()))
    assert not torch.equal(out, Augmentation()(x, 40, generator(1)))


def test_each_face_has_its_own_draw():
    x = faces(1).expand(5, -1, -1, -1)
    out = Augmentation()(x, 48, generator())
    assert all(not torch.allclose(out[0], out[i]) for i in range(1, 5))


def test_flip_alone_mirrors():
    x = faces()
    flipped = Augmentation(1.0, 0, (1, 1), 0, 0, 0, 0, 0, 0, 0)(x, 48, generator())
    assert torch.allclose(flipped, x.flip(3), atol=1e-5)


def test_a_quarter_turn_goes_one_way_or_the_other():
    x = torch.zeros(20, 1, 32, 32)
    x[:, :, :4, 14:18] = 1  # a mark at the top
    out = Augmentation(0, 30, (1, 1), 0, 0, 0, 0, 0, 0, 0)(x, 32, generator())
    columns = out.sum(dim=(1, 2))
    centre = (columns * torch.arange(32)).sum(1) / columns.sum(1)
    assert centre.max() > 19
    assert centre.min() < 12


def test_scale_magnifies():
    x = torch.zeros(1, 1, 64, 64)
    x[:, :, 24:40, 24:40] = 1
    twice = Augmentation(0, 0, (2.0, 2.0), 0, 0, 0, 0, 0, 0, 0)(x, 64, generator())
    assert float(twice.sum() / x.sum()) == pytest.approx(4, rel=0.1)


def test_blur_keeps_the_mean_and_lowers_the_spread():
    x = faces()
    blurred = gaussian_blur(x, 1.5)
    assert float(blurred.std()) < 0.4 * float(x.std())
    assert float(blurred.mean()) == pytest.approx(float(x.mean()), abs=0.01)
    flat = torch.full((1, 1, 9, 9), 0.3)
    assert torch.allclose(gaussian_blur(flat, 1.0), flat, atol=1e-6)


def test_refuses_bytes():
    with pytest.raises(BadInputError, match="uint8"):
        Augmentation()(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), 8, generator())


def test_two_equal_sides_make_cutouts_square():
    """CAKE cuts 45 x 45 of 224 x 224 pixels."""
    x = torch.rand(5, 3, 224, 224, generator=generator(3)) * 0.5 + 0.25
    quiet = (0.0, 0.0, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    out = Augmentation(*quiet, erase=1.0, erase_sides=(0.2008929, 0.2008929))(x, 224, generator())
    changed = ((out - x).abs().amax(dim=1) > 1e-3).flatten(1)
    assert changed.sum(dim=1).tolist() == pytest.approx(
        [45 * 45] * 5, abs=20
    )  # a pixel that has the mean hardly changes
    for mask in changed.unflatten(1, (224, 224)):
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        assert int(rows.max() - rows.min()) == int(columns.max() - columns.min()) == 44
