"""Hinges of many triplets on plain L2 distances, each exact; no (T, D) array beyond what the processor's cache holds.

What differs by the size of the batch is how distances come from rows, and how the weights of the pairs become a
gradient. Few triplets need none of this.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from exprembed.losses._base import no_autocast

# Numbers that are fetched at a time. On a CPU 1 MiB of float32 stays in the cache, and in memory that torch has already.
_BLOCK_CPU, _BLOCK = 2**18, 2**26
# On a CPU all distances cost as much as so many times fewer listed ones, whose rows must be fetched; or fewer than a block.
_ALL_PAIRS, _ALL_PAIRS_FEW = 20, 4
# Fewer numbers than these are fetched before a matrix of all distances has been laid out.
_FEW_NUMBERS = 2**17
# So short rows leave nothing to gain by products of matrices.
_SHORT = 128


def triplet_hinges(x: Tensor, rows: Tensor, margin: Tensor | float, route: type[Route]) -> Tensor:
    """Return (T,) max(0, d(a,b) - d(a,odd) + m) + max(0, d(a,b) - d(b,odd) + m); gradients are 0 where d = 0.

    Args:
        x: (B, D).
        rows: (3, T) rows a, b and odd of x.
        margin: m, a number or (T,).
        route: see `route_of`.
    """
    hinges: Tensor = _Hinges.apply(x, rows, margin, route)
    return hinges


class Route(Protocol):
    """A way from rows to distances and back; `kept` is what the way back needs."""

    @staticmethod
    def distances(x: Tensor, rows: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return (3, T) d(a,b), d(a,odd), d(b,odd), and what to keep."""
        ...

    @staticmethod
    def gradient(x: Tensor, rows: Tensor, distances: Tensor, pulls: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """Return the gradient to x from (3, T) `pulls`, those of the distances."""
        ...


def route_of(x: Tensor, triplets: int) -> type[Route] | None:
    """Choose the quickest way; None where plain arithmetic is: on few rows, or on all distances of short ones."""
    pairs, every, block = 3 * triplets, x.shape[0] ** 2, _block(x)
    if pairs <= block and pairs * x.shape[1] <= _FEW_NUMBERS:
        return None
    if x.shape[1] <= _SHORT:
        return None if pairs <= block or few_pairs(x, triplets) else Blocks
    if x.device.type == "cpu" and every <= pairs * (_ALL_PAIRS_FEW if pairs <= block else _ALL_PAIRS):
        return AllPairs
    return None if pairs <= block else Blocks


def _block(x: Tensor) -> int:
    return max(1, (_BLOCK_CPU if x.device.type == "cpu" else _BLOCK) // max(1, x.shape[1]))


class _Hinges(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, margin: Tensor | float, route: type[Route]) -> Tensor:  # noqa: ANN401
        distances, kept = route.distances(x, rows)
        hinges = (distances[0] - distances[1:]).add_(margin).relu_()
        ctx.save_for_backward(x, rows, distances, hinges, *kept)
        ctx.route = route
        return hinges.sum(dim=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        x, rows, distances, hinges, *kept = ctx.saved_tensors
        far = (hinges > 0) * gradients[0]
        pulls = torch.cat([far.sum(dim=0, keepdim=True), far.neg_()])
        with no_autocast(x):
            return ctx.route.gradient(x, rows, distances, pulls, tuple(kept)), None, None, None


def few_pairs(x: Tensor, triplets: int) -> bool:
    """Whether the distances of all pairs of the batch are quicker had than those of listed rows."""
    every = x.shape[0] ** 2
    return x.shape[1] <= _SHORT and (every <= 4 * 3 * triplets or every * x.shape[1] <= _FEW_NUMBERS)


def all_distances(x: Tensor, rows: Tensor) -> Tensor:
    """Return (3, T) d(a,b), d(a,odd), d(b,odd), picked from the distances of all pairs of the batch."""
    first, second = _sides(rows)
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    places = ((low * (2 * x.shape[0] - 3 - low)) >> 1).add_(high).sub_(1)  # in pdist's order
    every = torch.cat([torch.nn.functional.pdist(x), x.new_zeros(1)])
    places = torch.where(low == high, len(every) - 1, places)  # a row and itself
    return every.index_select(0, places).view(3, -1)


class AllPairs:
    """Most pairs of the batch: taken from all distances.

    With S the symmetric matrix of the weights of the pairs, the gradient to x_i is sum_j S_ij (x_i - x_j).
    """

    @staticmethod
    def distances(x: Tensor, rows: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return distances, and all of the batch, (B, B), with the places of the pairs."""
        above = x.new_ones(len(x), len(x), dtype=torch.bool).triu_(diagonal=1)
        every = x.new_zeros(len(x), len(x)).masked_scatter_(above, torch.nn.functional.pdist(x))
        every = every + every.T
        first, second = _sides(rows)
        places = first * len(x) + second
        return every.view(-1).index_select(0, places).view(3, -1), (every, places)

    @staticmethod
    def gradient(x: Tensor, rows: Tensor, distances: Tensor, pulls: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """Sum the pulls by pair first."""
        every, places = kept
        totals = x.new_zeros(x.shape[0] ** 2).index_add_(0, places, pulls.view(-1)).view(len(x), -1)
        weights = _per_length(totals + totals.T, every)
        return _gathered(x, weights.sum(dim=1), weights)


class Blocks:
    """Some pairs of a large batch: fetched a block at a time; S as in `AllPairs`, and mostly zero."""

    @staticmethod
    def distances(x: Tensor, rows: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return distances; nothing is kept."""
        pairs = zip(*(torch.split(side, _block(x)) for side in _sides(rows)), strict=True)
        fetched = (x.index_select(0, i).sub_(x.index_select(0, j)) for i, j in pairs)
        return torch.cat([torch.linalg.vector_norm(differences, dim=1) for differences in fetched]).view(3, -1), ()

    @staticmethod
    def gradient(x: Tensor, rows: Tensor, distances: Tensor, pulls: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """Multiply by the sparse matrix of the weights."""
        weights = _per_length(pulls, distances).view(-1).repeat(2)
        first, second = _sides(rows)
        places = torch.stack([torch.cat([first, second]), torch.cat([second, first])])
        matrix = torch.sparse_coo_tensor(places, weights, (len(x), len(x)), check_invariants=False)
        return _gathered(x, x.new_zeros(len(x)).index_add_(0, places[0], weights), matrix)


def _sides(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return both ends of the pairs (a, b), (a, odd), (b, odd): (3 T,) each."""
    a, b, odd = rows
    return torch.cat([a, a, b]), torch.cat([b, odd, odd])


def _per_length(pulls: Tensor, distances: Tensor) -> Tensor:
    return (pulls / distances).masked_fill_(distances == 0, 0)


def _gathered(x: Tensor, sums: Tensor, weights: Tensor) -> Tensor:
    """Return sum_j w_ij (x_i - x_j) from the weights and their row sums."""
    centred = x - x.mean(dim=0)  # the products then lose less
    return sums[:, None] * centred - weights @ centred
