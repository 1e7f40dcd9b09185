"""Hinges of many triplets on plain L2 distances, each exact, values and gradients written out as one step of autograd.

A triplet is three pairs of rows: (a, b), (a, odd), (b, odd). What differs by the size of the batch is how distances come
from pairs, and how the weights of the pairs become a gradient: three routes, of which `route_of` takes the quickest.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from exprembed.losses._base import no_autocast

# Up to so many numbers, the differences of the pairs are kept for the way back; up to fewer, nothing else is quicker.
_KEPT, _FEW = 2**18, 2**14
# All distances of a batch, by one product of matrices, cost as much as so many times fewer, whose rows must be fetched.
_ALL_PAIRS = 20
# Differences that are taken sooner than a product of matrices has been checked.
_DIFFERENCES = 2**17
# Numbers that are fetched at a time. On a CPU 1 MiB of float32 stays in the cache, and in memory that torch has already.
_BLOCK_CPU, _BLOCK = 2**18, 2**26
# A squared distance below this part of the largest squared length has lost too much in ||x||^2 + ||y||^2 - 2 xy.
_NEAR = 2**-7


def triplet_hinges(x: Tensor, rows: Tensor, margin: Tensor | float, route: type[Route] | None = None) -> Tensor:
    """Return (T,) max(0, d(a,b) - d(a,odd) + m) + max(0, d(a,b) - d(b,odd) + m); gradients are 0 where d = 0.

    Args:
        x: (B, D).
        rows: (3, T) rows a, b and odd of x.
        margin: m, a number or (T,).
        route: instead of `route_of`'s.
    """
    hinges: Tensor = _Hinges.apply(x, rows, margin, route or route_of(x, 3 * rows.shape[1]))
    return hinges


class Route(Protocol):
    """A way from P pairs of rows, `first` and `second`, to their distances and back; `kept` is what the way back needs."""

    @staticmethod
    def distances(x: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return (P,) distances, and what to keep."""
        ...

    @staticmethod
    def gradient(x: Tensor, first: Tensor, second: Tensor, weights: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """Return the gradient to x from (P,) weights of the differences of the pairs."""
        ...


def route_of(x: Tensor, pairs: int) -> type[Route]:
    """Choose the quickest way; products of matrices only where they are sure to be of full precision."""
    numbers, every = pairs * x.shape[1], x.shape[0] ** 2
    if numbers <= _FEW:
        return Listed
    if every <= _ALL_PAIRS * pairs and x.device.type == "cpu" and torch.get_float32_matmul_precision() == "highest":
        return AllPairs
    return Listed if numbers <= _KEPT else Blocks


class _Hinges(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, margin: Tensor | float, route: type[Route]) -> Tensor:  # noqa: ANN401
        a, b, odd = rows.unbind()
        first, second = torch.cat([a, a, b]), torch.cat([b, odd, odd])
        with no_autocast(x):
            lengths, kept = route.distances(x, first, second)
        distances = lengths.view(3, -1)
        hinges = torch.sub(distances[0] + margin, distances[1:]).relu_()
        if ctx.needs_input_grad[0]:
            far = hinges.sign()  # the gradient of the distances, and over their lengths that of the differences
            weights = torch.cat([far.sum(dim=0, keepdim=True), far.neg_()]).div_(distances).nan_to_num_(0, 0, 0)
            ctx.save_for_backward(x, first, second, weights, *kept)
            ctx.route = route
        return hinges.sum(dim=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        x, first, second, weights, *kept = ctx.saved_tensors
        with no_autocast(x):
            weighted = (weights * gradients[0]).view(-1)
            return ctx.route.gradient(x, first, second, weighted, tuple(kept)), None, None, None


class Listed:
    """Few pairs: the difference of each."""

    @staticmethod
    def distances(x: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return distances, and the (P, D) differences."""
        differences = x.index_select(0, first).sub_(x.index_select(0, second))
        return torch.linalg.vector_norm(differences, dim=1), (differences,)

    @staticmethod
    def gradient(x: Tensor, first: Tensor, second: Tensor, weights: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """Add each weighted difference to one row, and take it from the other."""
        pulls = kept[0] * weights[:, None]
        return torch.zeros_like(x).index_add_(0, first, pulls).index_add_(0, second, pulls, alpha=-1)


class AllPairs:
    """Many of the pairs of a batch: taken from all distances.

    In small batches of short rows those come from differences, else from one product of matrices, and near ones again.

    With S the symmetric matrix of the weights of the pairs, the gradient to x_i is sum_j S_ij (x_i - x_j).
    """

    @staticmethod
    def distances(x: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return distances, and the places of the pairs in a (B, B) matrix."""
        places = torch.add(second, first, alpha=len(x))
        if x.numel() * len(x) <= _DIFFERENCES:
            every = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
            return every.view(-1).index_select(0, places), (x, places)
        centred = x - x.mean(dim=0)  # the products then lose less
        squares = torch.linalg.vecdot(centred, centred)
        every = torch.addmm(squares, centred, centred.T, alpha=-2).add_(squares[:, None])
        found = every.view(-1).index_select(0, places)
        least = _NEAR * float(squares.max())
        if float(found.min()) < least:
            near = (found < least).nonzero().squeeze(1)
            found[near] = _lengths(x, first[near], second[near]).square_()
        return found.sqrt_(), (centred, places)

    @staticmethod
    def gradient(x: Tensor, first: Tensor, second: Tensor, weights: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """Sum the weights by pair first."""
        centred, places = kept
        totals = x.new_zeros(len(x) ** 2).index_add_(0, places, weights, alpha=-1).view(len(x), -1)
        totals = totals + totals.T
        totals.diagonal().sub_(totals.sum(dim=1))
        return totals @ centred


class Blocks:
    """Some pairs of a large batch: fetched a block at a time; S as in `AllPairs`, and mostly zero."""

    @staticmethod
    def distances(x: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return distances; nothing is kept."""
        return _lengths(x, first, second), ()

    @staticmethod
    def gradient(x: Tensor, first: Tensor, second: Tensor, weights: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """Multiply by the sparse matrix of the weights."""
        places = torch.stack([torch.cat([first, second]), torch.cat([second, first])])
        both = weights.repeat(2)
        sums = x.new_zeros(len(x)).index_add_(0, places[0], both)
        matrix = torch.sparse_coo_tensor(places, both, (len(x), len(x)), check_invariants=False)
        centred = x - x.mean(dim=0)
        return torch.addmm(sums[:, None] * centred, matrix, centred, alpha=-1)


def _lengths(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return the distances of pairs, from their differences, a block at a time: no (P, D) array."""
    block = max(1, (_BLOCK_CPU if x.device.type == "cpu" else _BLOCK) // max(1, x.shape[1]))
    pairs = zip(torch.split(first, block), torch.split(second, block), strict=True)
    differences = (x.index_select(0, i).sub_(x.index_select(0, j)) for i, j in pairs)
    return torch.cat([torch.linalg.vector_norm(rows, dim=1) for rows in differences])
