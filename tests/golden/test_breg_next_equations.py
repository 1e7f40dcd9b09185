"""BReG-NeXt's shortcut and layer against our own NumPy float64 transcription, values and gradients."""

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from exprembed.models import breg_next, create_backbone
from exprembed.models.breg_next import BoundedShortcut, BRegLayer


def shortcut(a, c):
    module = BoundedShortcut().double()
    with torch.no_grad():
        module.a.fill_(a)
        module.c.fill_(c)
    return module


def h(x, a, c):
    return np.arctan(a * x / np.sqrt(c**2 + 1)) / (a * np.sqrt(c**2 + 1))


@pytest.mark.parametrize(("a", "c"), [(1.0, 1.0), (-0.5, 2.0), (3.0, 0.0)])
def test_shortcut_and_its_gradients(a, c):
    x = np.linspace(-20, 20, 81)
    module, given_x = shortcut(a, c), torch.tensor(x, requires_grad=True)
    out = module(given_x)
    assert np.abs(out.detach().numpy() - h(x, a, c)).max() < 1e-12
    out.sum().backward()
    assert np.abs(given_x.grad.numpy() - 1 / (c**2 + 1 + a**2 * x**2)).max() < 1e-12
    step = 1e-6
    for found, high, low in (
        (module.a.grad, h(x, a + step, c), h(x, a - step, c)),
        (module.c.grad, h(x, a, c + step), h(x, a, c - step)),
    ):
        assert float(found) == pytest.approx(((high - low) / (2 * step)).sum(), abs=1e-6)


@given(st.floats(-1e6, 1e6), st.floats(-10, 10), st.floats(-10, 10))
def test_shortcut_is_bounded_odd_and_even_in_its_slope(x, a, c):
    value = float(shortcut(a, c)(torch.tensor(x, dtype=torch.float64)))
    assert abs(value) <= abs(x) / (c**2 + 1) + 1e-9
    assert abs(value) * max(abs(a), 1e-4) * np.sqrt(c**2 + 1) <= np.pi / 2 + 1e-9
    assert float(shortcut(a, c)(torch.tensor(-x, dtype=torch.float64))) == pytest.approx(-value, abs=1e-12)
    assert float(shortcut(-a, c)(torch.tensor(x, dtype=torch.float64))) == pytest.approx(value, rel=1e-6, abs=1e-9)


def test_shortcut_at_zero_slope_is_finite():
    x = torch.tensor([-3.0, 0.5], dtype=torch.float64, requires_grad=True)
    module = shortcut(0.0, 1.0)
    out = module(x)
    out.sum().backward()
    assert out.tolist() == pytest.approx([-1.5, 0.25], abs=1e-6)
    assert all(torch.isfinite(value).all() for value in (x.grad, module.a.grad, module.c.grad))


@pytest.mark.parametrize(("inputs", "outputs", "stride", "side"), [(3, 3, 1, 6), (3, 5, 2, 6), (3, 5, 2, 5)])
def test_layer(inputs, outputs, stride, side):
    """Residual and shortcut add up; pooled places are means, new channels of the shortcut zero, odd sides round up."""
    torch.manual_seed(0)
    layer = BRegLayer(inputs, outputs, stride).double().eval()
    x = torch.randn(2, inputs, side, side, dtype=torch.float64)
    first, second = layer.residual[2].weight, layer.residual[5].weight
    inner = functional.conv2d(functional.elu(x / np.sqrt(1 + 1e-5)), first, stride=stride, padding=1)
    residual = functional.conv2d(functional.elu(inner / np.sqrt(1 + 1e-5)), second, padding=1)
    kept = h(x.numpy(), 1, 1)
    side_out = -(-side // stride)
    expected = np.zeros((2, outputs, side_out, side_out))
    for i in range(side_out):
        for j in range(side_out):
            block = kept[:, :, i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
            expected[:, :inputs, i, j] = block.mean(axis=(2, 3))
    assert np.abs(layer(x).detach().numpy() - residual.detach().numpy() - expected).max() < 1e-12


def test_network():
    net = create_backbone("breg_next").eval()
    layers = [module for module in net.body if isinstance(module, BRegLayer)]
    assert [layer.residual[-1].out_channels for layer in layers] == [32] * 7 + [64] * 9 + [128] * 8
    assert [number for number, layer in enumerate(layers) if layer.residual[2].stride == (2, 2)] == [7, 16]
    assert sum(isinstance(module, torch.nn.Conv2d) for module in net.modules()) == 1 + 2 * 24
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 128, 16, 16)
    assert not doctest.testmod(breg_next).failed
