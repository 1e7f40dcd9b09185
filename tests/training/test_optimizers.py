"""Optimisers and schedules: updates and rates against NumPy transcriptions, and who moves what how fast."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from exprembed.errors import WrongUseError
from exprembed.training.optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    Muon,
    convolution_weights,
    make_schedule,
    orthogonalized,
    parameter_groups,
)


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


@pytest.mark.parametrize("name", ["nesterov", "sgd"])
def test_momentum_equals_its_formula(name):
    """v <- 0.9 v + h, w <- w - rate v, Nesterov's - rate (h + 0.9 v); h = g + decay w, g the gradient of a quadratic."""
    start, target = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.1, -1.0])
    weight = nn.Parameter(torch.tensor(start))
    optimizer = OPTIMIZERS[name]([{"params": [weight], "lr": 0.05}], weight_decay=0.01)
    w, v = start.copy(), np.zeros(3)
    for _ in range(20):
        optimizer.zero_grad()
        ((weight - torch.tensor(target)) ** 2).sum().backward()
        optimizer.step()
        g = 2 * (w - target) + 0.01 * w
        v = 0.9 * v + g
        w = w - 0.05 * (g + 0.9 * v if name == "nesterov" else v)
        assert np.abs(weight.detach().numpy() - w).max() < 1e-12


def test_inverse_is_caffes_policy():
    """base_lr (1 + gamma iter)^-power."""
    rate = make_schedule("inverse", 300_000, 0.1, {"gamma": 1e-4, "power": 0.75})
    assert rate(0) == 1.0
    for step in (1, 5000, 300_000):
        assert rate(step) == pytest.approx((1 + 1e-4 * step) ** -0.75, rel=1e-12)
    assert [make_schedule("constant", 10, 0.1, {})(step) for step in (0, 9)] == [1.0, 1.0]
    cosine = make_schedule("cosine", 100, 0.1, {})
    assert [cosine(0), cosine(10), cosine(55), cosine(100)] == pytest.approx([1 / 11, 1.0, 0.5, 0.0], abs=1e-12)
    for name in ("inverse", "cosine"):
        with pytest.raises(WrongUseError, match=f"options of the schedule '{name}'"):
            make_schedule(name, 10, 0.1, {"gama": 1.0})


def test_each_part_has_its_rate():
    net = nn.ModuleDict(
        {"encoder": nn.Linear(2, 2), "decoder": nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})}
    )
    named = dict(net.named_parameters())
    groups = parameter_groups(named, 0.1, {"decoder.": 10, "decoder.b.": 0.5, "encoder.bias": 0})
    found = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert {name: found[id(p)] for name, p in named.items()} == pytest.approx(
        {
            "encoder.weight": 0.1,
            "encoder.bias": 0.0,
            "decoder.a.weight": 1.0,
            "decoder.a.bias": 1.0,
            "decoder.b.weight": 0.05,
            "decoder.b.bias": 0.05,
        }
    )
    assert sum(len(group["params"]) for group in groups) == len(named)
    (one,) = parameter_groups(named, 0.1, {})
    assert (one["lr"], one["muon"]) == (0.1, False)
    with pytest.raises(WrongUseError, match=r"did you mean 'decoder\.'"):
        parameter_groups(named, 0.1, {"decodr.": 10})
    with pytest.raises(WrongUseError, match="must not be negative"):
        parameter_groups(named, 0.1, {"decoder.": -1})


def test_recipes_name_what_there_is():
    """The recipe's lists stand apart, so that reading one loads no torch."""
    from exprembed.training import recipe

    assert set(recipe.OPTIMIZERS) == set(OPTIMIZERS)
    assert set(recipe.SCHEDULES) == set(SCHEDULES)
