"""Hinges of many triplets on plain L2 distances, each exact, values and gradients written out as one step of autograd.

A triplet is three pairs of rows: (a, b), (a, odd), (b, odd). On a CPU compiled loops do all of it; elsewhere torch does, by
one of two routes from pairs to distances and from the weights of the pairs to a gradient.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from exprembed.losses._base import no_autocast

# Up to so many numbers the differences of the pairs are kept for the way back.
_KEPT = 2**18
# Numbers that are fetched at a time.
_BLOCK = 2**26


def triplet_hinges(x: Tensor, rows: Tensor, margin: Tensor | float, route: type[Route] | None = None) -> Tensor:
    """Return (T,) max(0, d(a,b) - d(a,odd) + m) + max(0, d(a,b) - d(b,odd) + m); gradients are 0 where d = 0.

    Args:
        x: (B, D).
        rows: (3, T) rows a, b and odd of x.
        margin: m, a number or (T,).
        route: instead of the compiled loops on a CPU, and of `route_of`'s elsewhere.
    """
    hinges: Tensor
    if route is None and x.device.type == "cpu":
        hinges = _Looped.apply(x, rows, margin)
    else:
        hinges = _Hinges.apply(x, rows, margin, route or route_of(x, 3 * rows.shape[1]))
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
    """Choose the quickest way on a GPU."""
    return Listed if pairs * x.shape[1] <= _KEPT else Blocks


class _Looped(torch.autograd.Function):
    """The whole of it in compiled loops."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, margin: Tensor | float) -> Tensor:  # noqa: ANN401
        from exprembed.losses import _loops

        faces, triplets = x.detach().contiguous(), rows.contiguous()
        margins = torch.as_tensor(margin, dtype=x.dtype).detach().reshape(-1)
        hinges, weights = faces.new_empty(rows.shape[1]), faces.new_empty(rows.shape)
        _loops.hinges(*(values.numpy() for values in (faces, triplets, margins, hinges, weights)))
        ctx.save_for_backward(faces, triplets, weights)
        return hinges

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        from exprembed.losses import _loops

        faces, triplets, weights = ctx.saved_tensors
        found, pulls = torch.zeros_like(faces), gradients[0].contiguous()
        _loops.gradient(*(values.numpy() for values in (faces, triplets, weights, pulls, found)))
        return found, None, None


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


class Blocks:
    """Many pairs: fetched a block at a time.

    With S the symmetric matrix of the weights of the pairs, mostly zero, the gradient to x_i is sum_j S_ij (x_i - x_j).
    """

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
    block = max(1, _BLOCK // max(1, x.shape[1]))
    pairs = zip(torch.split(first, block), torch.split(second, block), strict=True)
    differences = (x.index_select(0, i).sub_(x.index_select(0, j)) for i, j in pairs)
    return torch.cat([torch.linalg.vector_norm(rows, dim=1) for rows in differences])
