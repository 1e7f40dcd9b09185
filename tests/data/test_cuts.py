"""Squares cut by loops beside torchvision's own sampling."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed.data._cuts import LoopedCuts, SampledCuts, cuts_of, framed


@given(
    seed=st.integers(0, 10_000),
    height=st.integers(6, 150),
    width=st.integers(6, 150),
    side=st.sampled_from([24, 48]),
)
@settings(max_examples=40, deadline=None)
def test_loops_beside_torchvision(seed, height, width, side):
    """Inside, over the edges, far outside, smaller than a pixel, inverted."""
    rng = np.random.default_rng(seed)
    pictures = torch.from_numpy(rng.integers(0, 256, (3, height, width, 3), dtype=np.uint8))
    corner = rng.uniform(-60, 160, (40, 2))
    places = np.concatenate([rng.integers(3, size=(40, 1)), corner, corner + rng.uniform(-3, 200, (40, 1))], axis=1)
    places = torch.from_numpy(places.astype(np.float32))
    found, due = LoopedCuts(pictures)(places, side), SampledCuts(pictures)(places, side)
    assert found.shape == due.shape == (40, 3, side, side)
    assert (found - due).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(7, 9), (64, 97), (200, 311)])
def test_smaller_copies_beside_pooling(shape):
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8))
    found, due = LoopedCuts(pictures).copies, SampledCuts(pictures).copies
    assert len(found) == len(due)
    for ours, torchs in zip(found, due, strict=True):
        assert np.abs(ours - 127.5 - torchs.permute(0, 2, 3, 1).numpy()).max() < 1e-4


def test_no_candidates():
    pictures = torch.zeros(1, 60, 60, 3, dtype=torch.uint8)
    assert cuts_of(pictures)(torch.zeros(0, 5), 24).shape == (0, 3, 24, 24)


def test_a_frame_of_grey():
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8))
    pictures = pictures.permute(0, 3, 1, 2)
    found = framed(pictures, 4)
    assert found.shape == (2, 3, 13, 15)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(found[:, :, 4:-4, 4:-4], (pictures.float() - 127.5) / 128)
    found[:, :, 4:-4, 4:-4] = 0
    assert not found.any()
