"""Hinges of triplets: each route against one triplet at a time in NumPy, values and gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed.losses import NoAnchorTripletLoss, _hinges
from exprembed.losses._hinges import AllPairs, Blocks, route_of

ROUTES = [AllPairs, Blocks]
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
        found = _hinges._Hinges.apply(tensor, torch.tensor(rows), torch.tensor(margins), route)
        found.backward(torch.tensor(pulls))
    hinges, gradient = reference(x, rows, margins, pulls)
    assert np.abs(found.detach().numpy() - hinges).max() < 1e-12
    assert np.abs(tensor.grad.numpy() - gradient).max() < 1e-10


@pytest.mark.parametrize(
    ("faces", "dim", "triplets", "route"),
    [
        (64, 16, 64, None),
        (64, 16, 640, None),  # few numbers: a matrix of all distances does not pay
        (64, 16, 100_000, None),  # all distances, by pdist
        (4096, 16, 40_960, Blocks),
        (64, 512, 640, AllPairs),
        (300, 1024, 2000, AllPairs),
        (600, 1024, 2000, Blocks),
    ],
)
def test_route_by_size(faces, dim, triplets, route):
    assert route_of(torch.zeros(faces, dim), triplets) is route


@pytest.mark.parametrize("route", ROUTES)
def test_near_rows_far_from_the_origin(route):
    """What ||x||^2 + ||y||^2 - 2 xy would lose in float32."""
    x = torch.full((3, 8), 100.0)
    x[1, 0] += 1e-3
    distances, _ = route.distances(x, torch.tensor([[0], [1], [2]]))
    assert distances[0, 0] == x[1, 0] - x[0, 0] > 0
    assert distances[1, 0] == 0


@pytest.mark.parametrize("route", ROUTES)
def test_float64_gradcheck(route):
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(5, 3)), requires_grad=True)
    rows = torch.tensor([[0, 1, 4], [1, 2, 3], [2, 3, 0]])
    assert torch.autograd.gradcheck(lambda v: _hinges._Hinges.apply(v, rows, 0.7, route), x)


@pytest.mark.parametrize(("faces", "dim", "triplets", "all_of_them"), [(7, 5, 30, True), (64, 200, 20, False)])
def test_few_triplets_in_the_loss(faces, dim, triplets, all_of_them):
    """The two ways that need no node of their own: picked from all distances, and row by row."""
    x, rows, margins, _ = draw(3, faces, dim, triplets)
    rows[:, 0] = [1, 2, 0]  # a and b coincide
    rows[:, 1] = [0, 0, 3]  # and are one face
    tensor = torch.tensor(x, requires_grad=True)
    assert route_of(tensor, triplets) is None
    assert _hinges.few_pairs(tensor, triplets) == all_of_them
    loss = NoAnchorTripletLoss()(tensor, indices_tuple=torch.tensor(rows), margins=torch.tensor(margins))
    loss.backward()
    hinges, gradient = reference(x, rows, margins, np.full(triplets, 1 / triplets))
    assert abs(float(loss) - hinges.mean()) < 1e-12
    assert np.abs(tensor.grad.numpy() - gradient).max() < 1e-10
