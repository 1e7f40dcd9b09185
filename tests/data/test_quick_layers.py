"""Quicker layers give what the network's own give."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from exprembed.data._quick_layers import ConvolvePReLUMax, PReLUInPlace, PReLUMax, SharesAndMoves, quickened


@given(st.integers(1, 3), st.integers(1, 12), st.integers(3, 15), st.integers(3, 15), st.sampled_from([2, 3]))
@settings(max_examples=60, deadline=None)
def test_prelu_and_maximum(n, channels, height, width, side):
    """Slopes of either sign, windows cut off at the far sides; any layout in memory."""
    torch.manual_seed(height * 100 + width)
    x, layer = torch.randn(n, channels, height, width), nn.PReLU(channels)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(channels))
        own = PReLUMax(layer, nn.MaxPool2d(side, 2, ceil_mode=True))
        due = functional.max_pool2d(functional.prelu(x, layer.weight), side, 2, ceil_mode=True)
        assert torch.equal(own(x), due)
        assert torch.equal(own(x.contiguous(memory_format=torch.channels_last)), due)
        due = functional.max_pool2d(functional.prelu(x.double(), layer.weight.double()), side, 2, ceil_mode=True)
        assert torch.equal(own.double()(x.double()), due)


@given(st.integers(1, 3), st.integers(1, 12), st.integers(4, 40), st.integers(4, 40), st.sampled_from([2, 3]))
@settings(max_examples=60, deadline=None)
def test_convolution_prelu_and_maximum(n, channels, height, width, side):
    """Slopes of either sign, odd and even sides."""
    height += height % 2 if side == 3 else 0
    torch.manual_seed(height * 100 + width)
    x, first, layer = torch.randn(n, 3, height, width), nn.Conv2d(3, channels, 3), nn.PReLU(channels)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(channels))
        own = ConvolvePReLUMax(first, layer, nn.MaxPool2d(side, 2, ceil_mode=True))
        due = functional.max_pool2d(functional.prelu(first(x), layer.weight), side, 2, ceil_mode=True)
        assert own(x).shape == due.shape
        assert torch.allclose(own(x), due, atol=1e-5)
        assert torch.allclose(own.double()(x.double()).float(), due, atol=1e-5)


@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_prelu_and_products(n, channels, height, width):
    """A PReLU alone, and with convolutions of 1 x 1 behind it, in any layout in memory."""
    torch.manual_seed(channels)
    x, layer = torch.randn(n, channels, height, width), nn.PReLU(channels)
    heads = nn.Conv2d(channels, 2, 1), nn.Conv2d(channels, 4, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(channels))
        for own, due in (
            (PReLUInPlace(layer), layer(x)),
            *((lambda given, i=i: SharesAndMoves(layer, *heads)(given)[i], heads[i](layer(x))) for i in (0, 1)),
        ):
            assert torch.allclose(own(x.clone()), due, atol=1e-5)
            assert torch.allclose(own(x.clone(memory_format=torch.channels_last)), due, atol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("PNet", (37, 50)), ("RNet", (24, 24)), ("ONet", (48, 48))])
def test_mtcnn_networks(name, size):
    networks = pytest.importorskip("facenet_pytorch.models.mtcnn")
    x = torch.tensor(np.random.default_rng(0).normal(size=(5, 3, *size)), dtype=torch.float32)
    with torch.inference_mode():
        due = getattr(networks, name)().eval()(x)
        quick = quickened(getattr(networks, name)().eval())
        found = quick(x.contiguous(memory_format=torch.channels_last))
    assert {type(layer).__name__ for layer in quick.modules()} & {"PReLUMax", "ConvolvePReLUMax"}
    for one, other in zip(found, due, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, atol=1e-5)
