"""Exact nearest neighbours on a GPU, by torch: products of matrices that check themselves, as in `ExactSearch`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exprembed.metrics.exact import MEMORY_LIMIT, Found

_SPARE = 8  # candidates beyond k
_CLOSED = -1e38


class TorchSearch:
    r"""The k nearest of N references by L2 distance, exact up to float32 ties; the references live on the device.

    With s(x) = q.x - |x|^2 / 2, of centred vectors, the k + 8 references with the largest s are compared by differences, and are sure to hold the
    k nearest if |q|^2 - 2 m - 2 E > D_k: m the least of their s, E the bound of the rounding error that
    `exprembed.metrics.exact.ExactSearch` explains. Queries that cannot show it are compared with all references.

    Args:
        references: (N, d) float32, N at least 1.
        device: of torch's.
        memory_limit: bytes to work in, about; the references themselves not counted.

    Example:
        >>> search = TorchSearch(np.array([[0, 1], [1, 0], [0.1, 0.9]], dtype=np.float32), "cpu")
        >>> search(np.array([[0, 1]], dtype=np.float32), k=2)[0].tolist()
        [[0, 2]]
    """

    def __init__(self, references: NDArray[np.float32], device: str, memory_limit: int = MEMORY_LIMIT) -> None:
        self._x = torch.from_numpy(np.array(references, dtype=np.float32)).to(device)
        self._center = self._x.double().mean(dim=0).float()
        self._limit = memory_limit
        self._reach = float(torch.linalg.vector_norm(self._x - self._center, dim=1).max())

    @torch.inference_mode()
    def __call__(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None) -> Found:
        """Return rows (Q, k) and ascending squared distances (Q, k); `allowed` (N,) says which references may be found."""
        closed = None if allowed is None else torch.from_numpy(~allowed).to(self._x.device)
        q = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32)).to(self._x.device)
        rows, squared = [], []
        for some in torch.split(q, max(1, min(4096, self._limit // (64 * (k + _SPARE) * self._x.shape[1])))):
            found, lengths, sure = self._by_products(some, k, closed)
            again = (~sure).nonzero().squeeze(1)
            if len(again):
                found[again], lengths[again] = self._by_differences(some[again], k, closed)
            rows.append(found.cpu())
            squared.append(lengths.cpu())
        return torch.cat(rows).numpy(), torch.cat(squared).numpy()

    def _by_products(self, q: Tensor, k: int, closed: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows, squared distances, and of which queries they are sure to be right."""
        centred, n = q - self._center, min(k + _SPARE, len(self._x))
        best, places = q.new_empty(len(q), 0), torch.empty(len(q), 0, dtype=torch.long, device=q.device)
        for start, x in self._blocks(len(q)):
            x = x - self._center
            half = torch.linalg.vecdot(x, x).div_(-2)
            if closed is not None:
                half.masked_fill_(closed[start : start + len(x)], _CLOSED)
            scores = torch.addmm(half, centred, x.T)
            near = scores.topk(min(n, len(x)), dim=1)
            best, places = torch.cat([best, near.values], dim=1), torch.cat([places, near.indices + start], dim=1)
            best, kept = best.topk(min(n, best.shape[1]), dim=1)
            places = places.gather(1, kept)
        lengths = (self._x[places] - q[:, None]).square_().sum(dim=2)
        if closed is not None:
            lengths.masked_fill_(closed[places], torch.inf)
        nearest, order = lengths.topk(k, dim=1, largest=False)
        own = torch.linalg.vecdot(centred, centred).double()
        unit = 2.0**-24 if torch.get_float32_matmul_precision() == "highest" else 2.0**-8
        error = (q.shape[1] + 8) * unit * (own.sqrt() + self._reach).square()
        sure = own - 2 * best[:, -1].double() - 2 * error > nearest[:, -1]
        return places.gather(1, order), nearest, sure | (n == len(self._x))

    def _by_differences(self, q: Tensor, k: int, closed: Tensor | None) -> tuple[Tensor, Tensor]:
        squared, places = q.new_empty(len(q), 0), torch.empty(len(q), 0, dtype=torch.long, device=q.device)
        for start, x in self._blocks(len(q)):
            lengths = torch.cdist(q, x, compute_mode="donot_use_mm_for_euclid_dist").square_()
            if closed is not None:
                lengths.masked_fill_(closed[start : start + len(x)], torch.inf)
            near = lengths.topk(min(k, len(x)), dim=1, largest=False)
            squared, places = torch.cat([squared, near.values], dim=1), torch.cat([places, near.indices + start], dim=1)
            squared, kept = squared.topk(min(k, squared.shape[1]), dim=1, largest=False)
            places = places.gather(1, kept)
        return places, squared

    def _blocks(self, queries: int) -> list[tuple[int, Tensor]]:
        """Return blocks of references, each with its first row, of which a matrix with all queries fits."""
        size = max(1, self._limit // (16 * queries))
        return [(start, self._x[start : start + size]) for start in range(0, len(self._x), size)]
