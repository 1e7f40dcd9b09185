"""Hinges of triplets: each route against one triplet at a time in NumPy, values and gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed.losses import _hinges
from exprembed.losses._hinges import Blocks, Listed, route_of, triplet_hinges

ROUTES = [None, Blocks, Listed]  # None: compiled loops
PAIRS = ((0, 1), (0, 2), (1, 2))


def reference(x, rows, margins, pulls):
    hinges, gradient = np.zeros(rows.shape[1]), np.zeros_like(x)
    for place, triplet in enumerate(rows.T):
        differences = [x[triplet[i]] - x[triplet[j]] for i, j in PAIRS]
        lengths = [np.sqrt((difference**2).sum()) for difference in differences]
        weights = [0.0, 0.0, 0.0]
        for far in (1, 2):
            hinge = lengths[0] - lengths[far] + margins[place]
            if hinge > 0:
                hinges[place] += hinge
                weights[0] += pulls[place]
                weights[far] -= pulls[place]
        for (i, j), difference, length, weight in zip(PAIRS, differences, lengths, weights, strict=True):
            if length > 0:
                gradient[triplet[i]] += weight * difference / length
                gradient[triplet[j]] -= weight * difference / length
    return hinges, gradient


def draw(seed, faces, dim, triplets):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(faces, dim)) + rng.normal(size=dim) * 3
    if faces > 2:
        x[1] = x[2]  # two that coincide
    return x, rng.integers(faces, size=(3, triplets)), rng.random(triplets), rng.normal(size=triplets)


@pytest.mark.parametrize("route", ROUTES)
@given(seed=st.integers(0, 10_000), faces=st.integers(1, 9), dim=st.integers(1, 5), triplets=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_value_and_gradient(route, seed, faces, dim, triplets):
    x, rows, margins, pulls = draw(seed, faces, dim, triplets)
    tensor = torch.tensor(x, requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_hinges, "_BLOCK", 2 * dim)  # two pairs at a time: "blocks" has several, the last one shorter
        found = triplet_hinges(tensor, torch.tensor(rows), torch.tensor(margins), route)
        found.backward(torch.tensor(pulls))
    hinges, gradient = reference(x, rows, margins, pulls)
    assert np.abs(found.detach().numpy() - hinges).max() < 1e-12
    assert np.abs(tensor.grad.numpy() - gradient).max() < 1e-10


def test_route_by_size():
    assert route_of(torch.zeros(64, 512), 3 * 64) is Listed
    assert route_of(torch.zeros(512, 512), 3 * 512) is Blocks


@pytest.mark.parametrize("route", ROUTES)
@given(seed=st.integers(0, 10_000), spread=st.floats(-7, 0))
@settings(max_examples=40, deadline=None)
def test_near_rows_in_float32(route, seed, spread):
    """Relative to each distance, however near: ||x||^2 + ||y||^2 - 2 xy would be off by 100 % where d = 1e-4.

    With the odd face a again and no margin a triplet's hinges are d(a, b).
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 16)).astype(np.float32)
    x[20:] = x[:20] + 10**spread * rng.normal(size=(20, 16)).astype(np.float32)
    first, second = rng.integers(40, size=(2, 500))
    first[:20], second[:20] = np.arange(20), np.arange(20, 40)
    found = triplet_hinges(torch.tensor(x), torch.tensor(np.stack([first, second, first])), 0.0, route)
    exact = np.linalg.norm(x[first].astype(np.float64) - x[second], axis=1)
    assert (np.abs(found.numpy() - exact) <= 2e-5 * exact).all()


def test_rows_that_do_not_lie_in_a_row():
    """Columns of a wider array, triplets as they come from a table, a gradient of one number for all."""
    rng = np.random.default_rng(0)
    wide, triplets = torch.tensor(rng.normal(size=(6, 8))), torch.tensor(rng.integers(6, size=(20, 3)))
    found = []
    for x, rows in ((wide[:, ::2], triplets.T), (wide[:, ::2].clone(), triplets.T.contiguous())):
        x.requires_grad_()
        value = triplet_hinges(x, rows, 0.3).sum()
        found.append((value.detach(), torch.autograd.grad(value, x)[0]))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("route", ROUTES)
def test_float64_gradcheck(route):
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(5, 3)), requires_grad=True)
    rows = torch.tensor([[0, 1, 4], [1, 2, 3], [2, 3, 0]])
    assert torch.autograd.gradcheck(lambda v: triplet_hinges(v, rows, 0.7, route), x)


@pytest.mark.parametrize("route", ROUTES)
def test_a_broken_face_shows_in_the_gradient(route):
    """A scaler of mixed precision looks for it there."""
    x = torch.zeros(4, 3)
    x[3] = float("nan")
    x.requires_grad_()
    rows = torch.tensor([[0, 1], [1, 2], [3, 0]])
    hinges = triplet_hinges(x, rows, 0.2, route)
    hinges.sum().backward()
    assert hinges[0].isnan()
    assert not hinges[1].isnan()
    assert x.grad.isnan().any()
