"""Plain L2 distances of listed pairs of rows, each exact; no (P, D) array beyond what the processor's cache holds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Numbers that are fetched at a time. On a CPU 1 MiB of float32 stays in the cache, and in memory that torch has already.
_BLOCK_CPU, _BLOCK = 2**18, 2**26
# On a CPU all distances cost as much as so many times fewer listed ones, whose rows must be fetched; or fewer than a block.
_ALL_PAIRS, _ALL_PAIRS_FEW = 20, 4


def listed_distances(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return (P,) ||x_i - x_j|| of the rows i in `first` and j in `second`; the gradient is 0 where two coincide."""
    on_cpu = x.device.type == "cpu"
    block = max(1, (_BLOCK_CPU if on_cpu else _BLOCK) // max(1, x.shape[1]))
    few = len(first) <= block
    if on_cpu and len(x) ** 2 <= len(first) * (_ALL_PAIRS_FEW if few else _ALL_PAIRS):
        route: type[torch.autograd.Function] = _All
    else:
        route = _Fetched if few else _Blocks
    distances: Tensor = route.apply(x, first, second, block)
    return distances


class _Fetched(torch.autograd.Function):
    """Few pairs: their differences are kept for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, second: Tensor, block: int) -> Tensor:  # noqa: ANN401
        differences = x.index_select(0, first).sub_(x.index_select(0, second))
        distances: Tensor = torch.linalg.vector_norm(differences, dim=1)
        ctx.save_for_backward(differences, first, second, distances)
        ctx.rows = len(x)
        return distances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        differences, first, second, distances = ctx.saved_tensors
        pulls = differences * _weights(gradients[0], distances)[:, None]
        gradient = pulls.new_zeros(ctx.rows, pulls.shape[1]).index_add_(0, first, pulls)
        return gradient.index_add_(0, second, pulls, alpha=-1), None, None, None


class _All(torch.autograd.Function):
    """Most pairs of the batch: taken from all distances.

    With S the symmetric matrix of the weights of the pairs, the gradient to x_i is sum_j S_ij (x_i - x_j).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, second: Tensor, block: int) -> Tensor:  # noqa: ANN401
        above = x.new_ones(len(x), len(x), dtype=torch.bool).triu_(diagonal=1)
        every = x.new_zeros(len(x), len(x)).masked_scatter_(above, torch.nn.functional.pdist(x))
        every = every + every.T
        places = first * len(x) + second
        ctx.save_for_backward(x, every, places)
        return every.view(-1).index_select(0, places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        x, every, places = ctx.saved_tensors
        totals = x.new_zeros(every.numel()).index_add_(0, places, gradients[0]).view_as(every)
        weights = _weights(totals + totals.T, every)
        with torch.autocast(x.device.type, enabled=False):
            return _gathered(x, weights.sum(dim=1), weights), None, None, None


class _Blocks(torch.autograd.Function):
    """Some pairs of a large batch: fetched a block at a time; S as in `_All`, and mostly zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, second: Tensor, block: int) -> Tensor:  # noqa: ANN401
        pairs = zip(torch.split(first, block), torch.split(second, block), strict=True)
        fetched = (x.index_select(0, i).sub_(x.index_select(0, j)) for i, j in pairs)
        distances = torch.cat([torch.linalg.vector_norm(differences, dim=1) for differences in fetched])
        ctx.save_for_backward(x, first, second, distances)
        return distances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        x, first, second, distances = ctx.saved_tensors
        weights = _weights(gradients[0], distances).repeat(2)
        places = torch.stack([torch.cat([first, second]), torch.cat([second, first])])
        matrix = torch.sparse_coo_tensor(places, weights, (len(x), len(x)), check_invariants=False)
        with torch.autocast(x.device.type, enabled=False):
            return _gathered(x, x.new_zeros(len(x)).index_add_(0, places[0], weights), matrix), None, None, None


def _weights(gradient: Tensor, distances: Tensor) -> Tensor:
    return (gradient / distances).masked_fill_(distances == 0, 0)


def _gathered(x: Tensor, sums: Tensor, weights: Tensor) -> Tensor:
    """Return sum_j w_ij (x_i - x_j) from the weights and their row sums."""
    centred = x - x.mean(dim=0)  # the products then lose less
    return sums[:, None] * centred - weights @ centred
