"""Hinges of triplets: each route against one triplet at a time in NumPy, values and gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed.losses import _hinges
from exprembed.losses._hinges import AllPairs, Blocks, Listed, route_of, triplet_hinges

ROUTES = [AllPairs, Blocks, Listed]
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
        patch.setattr(_hinges, "_BLOCK_CPU", 2 * dim)  # two pairs at a time: "blocks" has several, the last one shorter
        found = triplet_hinges(tensor, torch.tensor(rows), torch.tensor(margins), route)
        found.backward(torch.tensor(pulls))
    hinges, gradient = reference(x, rows, margins, pulls)
    assert np.abs(found.detach().numpy() - hinges).max() < 1e-12
    assert np.abs(tensor.grad.numpy() - gradient).max() < 1e-10


@pytest.mark.parametrize(
    ("faces", "dim", "triplets", "route"),
    [
        (64, 16, 64, Listed),
        (64, 16, 640, AllPairs),
        (64, 512, 64, Listed),
        (64, 512, 640, AllPairs),
        (512, 16, 512, Listed),
        (512, 512, 512, Blocks),
        (4096, 16, 40_960, Blocks),
        (600, 1024, 2000, Blocks),
    ],
)
def test_route_by_size(faces, dim, triplets, route):
    assert route_of(torch.zeros(faces, dim), 3 * triplets) is route


def test_no_products_of_low_precision():
    """With `set_float32_matmul_precision("medium")` the distances would come from bfloat16 or TF32."""
    x = torch.zeros(64, 512)
    assert route_of(x, 1920) is AllPairs
    torch.set_float32_matmul_precision("medium")
    try:
        assert route_of(x, 1920) is Blocks
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("route", ROUTES)
def test_near_rows_far_from_the_origin(route):
    """What ||x||^2 + ||y||^2 - 2 xy would lose in float32."""
    x = torch.full((3, 8), 100.0)
    x[1, 0] += 1e-3
    distances, _ = route.distances(x, torch.tensor([0, 0]), torch.tensor([1, 2]))
    assert distances[0] == x[1, 0] - x[0, 0] > 0
    assert distances[1] == 0


@given(seed=st.integers(0, 10_000), spread=st.floats(-7, 0))
@settings(max_examples=40, deadline=None)
def test_all_pairs_in_float32(seed, spread):
    """Relative to each distance, however near: the products alone are off by 100 % where d = 1e-4."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 16)).astype(np.float32)
    x[20:] = x[:20] + 10**spread * rng.normal(size=(20, 16)).astype(np.float32)
    first, second = rng.integers(40, size=(2, 500))
    first[:20], second[:20] = np.arange(20), np.arange(20, 40)
    found, _ = AllPairs.distances(torch.tensor(x), torch.tensor(first), torch.tensor(second))
    exact = np.linalg.norm(x[first].astype(np.float64) - x[second], axis=1)
    assert (np.abs(found.numpy() - exact) <= 2e-5 * exact).all()


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
    triplet_hinges(x, rows, 0.2, route).sum().backward()
    assert x.grad.isnan().any()
