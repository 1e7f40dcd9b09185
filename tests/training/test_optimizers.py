"""Muon beside AdamW: the update against a NumPy transcription, and who moves what."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from exprembed.training.optimizers import OPTIMIZERS, Muon, convolution_weights, orthogonalized


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_singular_values_come_near_one(rows, columns, seed):
    matrix = torch.tensor(np.random.default_rng(seed).normal(size=(rows, columns)))
    u, s, vt = np.linalg.svd(matrix.numpy(), full_matrices=False)
    kept = s > 0.05 * s.max()  # what is smaller needs more than five steps
    found = orthogonalized(matrix)
    assert found.shape == matrix.shape
    assert found.dtype == matrix.dtype
    along = np.diag(u.T @ found.numpy() @ vt.T)
    assert along[kept].min() > 0.5
    assert along.max() < 1.35


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (1, 5)])
def test_iteration_equals_its_polynomial(shape):
    matrix = np.random.default_rng(0).normal(size=shape)
    found = orthogonalized(torch.tensor(matrix), precision=torch.float64).numpy()
    assert np.abs(found - reference(matrix)).max() < 1e-10


def test_no_gradient_direction_is_invented():
    assert not orthogonalized(torch.zeros(3, 5)).any()


def reference(matrix):
    """Transcribe the iteration in float64: p(s) = 3.4445 s - 4.775 s^3 + 2.0315 s^5 on the singular values, five times."""
    u, s, vt = np.linalg.svd(matrix.astype(float), full_matrices=False)
    s = s / np.sqrt((s**2).sum())
    for _ in range(5):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    return u @ np.diag(s) @ vt


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(6, 2))


def groups(net):
    chosen = convolution_weights(net)
    parts = {by_muon: [p for p in net.parameters() if (id(p) in chosen) == by_muon] for by_muon in (False, True)}
    return [{"params": parts[by_muon], "lr": 0.01, "muon": by_muon} for by_muon in (False, True)]


def step(net, optimizer):
    optimizer.zero_grad()
    net(torch.randn(3, 1, 5, 5, generator=torch.Generator().manual_seed(1))).square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in net.named_parameters()}
    optimizer.step()
    return gradients


def test_convolutions_by_the_equation_and_the_rest_by_adamw():
    net, twin = network(), network()
    assert convolution_weights(net) == {id(net[2].weight)}  # not the first: it has one input channel
    ours = Muon(groups(net), muon_rate=5.0, momentum=0.9, weight_decay=0.1)
    theirs = torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=0.1)
    weight, momentum = net[2].weight.detach().numpy().copy(), 0.0
    for _ in range(3):
        gradient = step(net, ours)["2.weight"].numpy()
        momentum = 0.9 * momentum + gradient
        update = orthogonalized(torch.tensor((gradient + 0.9 * momentum).reshape(6, -1))).numpy()
        weight = weight * (1 - 0.05 * 0.1) - 0.05 * update.reshape(weight.shape)
        assert np.abs(net[2].weight.detach().numpy() - weight).max() < 1e-3  # bfloat16 inside
        weight = net[2].weight.detach().numpy().copy()
    net = network()
    ours = Muon(groups(net), weight_decay=0.1)
    step(net, ours)
    step(twin, theirs)
    for (name, mine), other in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, other) == (name != "2.weight"), name


def test_state_goes_on_where_it_was():
    net, other = network(), network()
    first = Muon(groups(net))
    step(net, first)
    other.load_state_dict(net.state_dict())
    second = Muon(groups(other))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    step(net, first)
    step(other, second)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_a_loss(name):
    net = network()
    images = torch.randn(8, 1, 5, 5)
    optimizer = OPTIMIZERS[name](groups(net), weight_decay=0.0)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (net(images) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]
