"""Distances of listed pairs: each way of getting them against one pair at a time in NumPy, values and gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed.losses import _distances
from exprembed.losses._distances import listed_distances

ROUTES = {"fetched": _distances._Fetched, "all": _distances._All, "blocks": _distances._Blocks}


def reference(x, first, second, pulls):
    distances, gradient = np.zeros(len(first)), np.zeros_like(x)
    for place, (i, j) in enumerate(zip(first, second, strict=True)):
        difference = x[i] - x[j]
        distances[place] = np.sqrt((difference**2).sum())
        if distances[place] > 0:
            gradient[i] += pulls[place] * difference / distances[place]
            gradient[j] -= pulls[place] * difference / distances[place]
    return distances, gradient


def draw(seed, rows, dim, pairs):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, dim)) + rng.normal(size=dim) * 3
    first, second = rng.integers(rows, size=(2, pairs))
    if rows > 2:
        x[1] = x[2]  # two that coincide
    return x, first, second, rng.normal(size=pairs)


@pytest.mark.parametrize("route", ROUTES)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 9), dim=st.integers(1, 5), pairs=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_value_and_gradient(route, seed, rows, dim, pairs):
    x, first, second, pulls = draw(seed, rows, dim, pairs)
    tensor = torch.tensor(x, requires_grad=True)
    # Two pairs at a time, so that "blocks" has several of them, the last one shorter.
    found = ROUTES[route].apply(tensor, torch.tensor(first), torch.tensor(second), 2)
    found.backward(torch.tensor(pulls))
    distances, gradient = reference(x, first, second, pulls)
    assert np.abs(found.detach().numpy() - distances).max() < 1e-12
    assert np.abs(tensor.grad.numpy() - gradient).max() < 1e-10


@pytest.mark.parametrize(("rows", "dim", "pairs", "route"), [(64, 16, 192, "fetched"), (8, 4, 72, "all")])
def test_chosen_route_of_small_batches(monkeypatch, rows, dim, pairs, route):
    assert chosen(monkeypatch, rows, dim, pairs) == [route]


def test_chosen_route_of_large_batches(monkeypatch):
    assert chosen(monkeypatch, 300, 1024, 6000) == ["all"]
    assert chosen(monkeypatch, 600, 1024, 6000) == ["blocks"]


def chosen(monkeypatch, rows, dim, pairs):
    """Name the route that is taken, with the distances that it gave checked against each other."""
    taken = []
    x, first, second, _ = draw(0, rows, dim, pairs)
    arguments = torch.tensor(x), torch.tensor(first), torch.tensor(second)
    for name, function in ROUTES.items():

        class Spy:
            @staticmethod
            def apply(*given, name=name, function=function):
                taken.append(name)
                return function.apply(*given)

        monkeypatch.setattr(_distances, function.__name__, Spy)
    found = listed_distances(*arguments).numpy()
    monkeypatch.undo()
    assert np.allclose(found, np.linalg.norm(x[first] - x[second], axis=1), atol=1e-12)
    return taken


@pytest.mark.parametrize("route", ROUTES)
def test_near_rows_far_from_the_origin(route):
    """What ||x||^2 + ||y||^2 - 2 xy would lose in float32."""
    x = torch.full((3, 8), 100.0)
    x[1, 0] += 1e-3
    found = ROUTES[route].apply(x, torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2]), 2)
    assert found[0] == x[1, 0] - x[0, 0] > 0
    assert found[1] == 0


def test_float64_gradcheck():
    x, first, _, _ = draw(1, 3, 3, 6)
    x[1] += 1.0
    pairs = torch.tensor(first), torch.tensor((first + 1) % 3)
    for function in ROUTES.values():
        assert torch.autograd.gradcheck(
            lambda v, function=function: function.apply(v, *pairs, 2), torch.tensor(x, requires_grad=True)
        )
