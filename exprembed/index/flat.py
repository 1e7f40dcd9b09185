"""Exact search over a flat FAISS index: which of several ways answers soonest, by number of queries and device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exprembed.metrics.coded import CodedSearch
from exprembed.metrics.exact import ExactSearch, Found

_FEW = 32  # queries below which reading all vectors once for many of them gains little
_SINGLE = 16  # queries below which each is better read past codes by itself
_OFTEN = (
    100  # queries, few at a time, after which codes are worth making: that takes as long, loading the loops included
)


class FlatSearch:
    """The k nearest of a flat index's vectors, exact on every way.

    On a CPU many queries are answered by `ExactSearch`; few by FAISS from differences, never by the unchecked expansion
    |q|^2 - 2 q.x + |x|^2, which in float32 loses near neighbours (and all order among points of two or three
    dimensions); and few that come again and again by `CodedSearch`. On a GPU torch answers, whose result is checked like
    `ExactSearch`'s: FAISS's own flat search there knows the expansion alone.

    Args:
        faiss: the module.
        inner: a flat index; it must not change while this lives.
        rows: (N,) row of each vector.
        device: "cpu", "cuda" or "cuda:N".
        memory_limit: bytes to work in, about.
    """

    def __init__(self, faiss: Any, inner: Any, rows: NDArray[np.int64], device: str, memory_limit: int) -> None:  # noqa: ANN401
        self._faiss, self._inner, self._rows, self._limit = faiss, inner, rows, memory_limit
        self._vectors = faiss.rev_swig_ptr(inner.get_xb(), len(rows) * inner.d).reshape(-1, inner.d)
        self._on_cpu = device == "cpu"
        self._many: Any
        if self._on_cpu:
            self._many = ExactSearch(self._vectors, memory_limit)
        else:
            from exprembed.index.torch_search import TorchSearch

            self._many = TorchSearch(self._vectors, device, memory_limit)
        self._asked = 0
        self._coded: CodedSearch | None = None

    def __call__(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None) -> Found:
        """Return rows (Q, k) and ascending squared distances (Q, k).

        Args:
            queries: (Q, d).
            k: neighbours, no more than there are vectors whose rows are allowed.
            allowed: (next row,) bool, by row; None for all.
        """
        inside = None if allowed is None else allowed[self._rows]
        places, squared = self._way(len(queries))(queries, k, inside)
        return self._rows[places], squared

    def _way(self, n: int) -> Any:  # noqa: ANN401 - one of the searches
        if not self._on_cpu or n >= _FEW:
            return self._many
        if self._coded is None:
            self._asked += n
            if self._asked < _OFTEN or not CodedSearch.fits(self._vectors, self._limit):
                return self._by_differences
            self._coded = CodedSearch(self._vectors)
        if not self._coded.useful:
            return self._by_differences
        return self._coded if n < _SINGLE else self._many

    def _by_differences(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None) -> Found:
        options = {}
        if allowed is not None and not allowed.all():
            bits = np.packbits(allowed, bitorder="little")
            options = {"params": self._faiss.SearchParameters(sel=self._faiss.IDSelectorBitmap(bits))}
        # Blocks below FAISS's threshold keep it on differences; older releases count queries, newer ones numbers.
        threshold = int(self._faiss.cvar.distance_compute_blas_threshold)
        block = max(1, (threshold - 1) // self._inner.d if threshold > 1000 else threshold - 1)
        if len(queries) <= block:
            squared, places = self._inner.search(queries, k, **options)
            return places, squared
        parts = [self._inner.search(queries[at : at + block], k, **options) for at in range(0, len(queries), block)]
        squared, places = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
        return places, squared
