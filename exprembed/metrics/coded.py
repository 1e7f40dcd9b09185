"""Exact nearest neighbours of one query at a time: a byte a number says which references need not be looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exprembed.metrics.exact import CLOSED, ROUNDOFF, Found, read_keys

_LEAST = 2**19  # numbers in the references below which FAISS answers as soon
_COARSE = 0.25  # of the references' median distance from their middle: coarser codes tell near from far too seldom
_SAMPLE = 1024  # references that this is measured on


class CodedSearch:
    r"""The k nearest of N references by L2 distance, for single queries, exact up to float32 ties.

    A query reads all references, and reading is what takes the time. So they are read as codes, a byte a number, which is
    a fourth: with the middle c and the step s of each dimension, x is c + s code + e, |e| <= epsilon. With p = q - c,

    |q - x| >= |p - s code| - epsilon,  |p - s code|^2 = |p|^2 - 2 (p.(s code) - |s code|^2 / 2),

    so that whatever lies nearer than the k-th distance r that is already known has

    p.(s code) - |s code|^2 / 2 >= (|p|^2 - (r + epsilon)^2) / 2,

    less the rounding errors (see `ExactSearch`). Of those alone the distance is taken, from the difference q - x. Of
    references at one distance the first come first.

    Args:
        references: (N, d) float32; not copied, and not to be changed afterwards.

    Attributes:
        useful: whether codes tell near from far: not where one reference lies very far from all others.

    Example:
        >>> search = CodedSearch(np.array([[0, 1], [1, 0], [0.1, 0.9]], dtype=np.float32))
        >>> search(np.array([[0, 1]], dtype=np.float32), k=2)[0].tolist()
        [[0, 2]]
    """

    def __init__(self, references: NDArray[np.float32]) -> None:
        from exprembed.metrics._scan import LANES, ROUNDS

        self._x = np.ascontiguousarray(references, dtype=np.float32)
        n, d = self._x.shape
        low, high = self._x.min(axis=0), self._x.max(axis=0)
        self._middle = (low / 2 + high / 2).astype(np.float32)
        self._step = np.maximum((high / 2 - low / 2) / 127, np.finfo(np.float32).tiny).astype(np.float32)
        block = LANES * ROUNDS
        self._codes = np.zeros((-(-n // block), d, block), dtype=np.int8)
        self._half = np.full((len(self._codes), block), CLOSED, dtype=np.float32)
        error = reach = 0.0
        for place, start in enumerate(range(0, n, block)):
            centred = self._x[start : start + block].astype(np.float64) - self._middle
            codes = np.clip(np.rint(centred / self._step), -127, 127)
            said = codes * self._step.astype(np.float64)
            squares = np.square(said).sum(axis=1)
            self._codes[place, :, : len(codes)] = codes.T
            self._half[place, : len(codes)] = squares / -2
            error = max(error, float(np.square(centred - said).sum(axis=1).max()))
            reach = max(reach, float(squares.max()))
        self._error, self._reach = error**0.5, reach**0.5
        few = self._x[:: -(-n // _SAMPLE)].astype(np.float64)
        spread = float(np.median(np.sqrt(np.square(few - np.median(few, axis=0)).sum(axis=1))))
        self.useful = self._error <= _COARSE * spread

    @staticmethod
    def fits(references: NDArray[np.float32], memory_limit: int) -> bool:
        """Whether there is enough to read for codes to gain by, and room for them."""
        n, d = references.shape
        return references.size >= _LEAST and n * (d + 4) <= memory_limit

    def __call__(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None) -> Found:
        """Return rows (Q, k) and ascending squared distances (Q, k).

        Args:
            queries: (Q, d) float32.
            k: neighbours, no more than there are references that are allowed.
            allowed: (N,) which references may be found; None for all.
        """
        half = self._half
        if allowed is not None:
            half = half.copy()
            half.ravel()[: len(allowed)][~allowed] = CLOSED
        found = [self._one(query, k, half) for query in np.ascontiguousarray(queries, dtype=np.float32)]
        rows, squared = read_keys(np.stack(found))
        return rows, squared

    def _one(self, q: NDArray[np.float32], k: int, half: NDArray[np.float32]) -> NDArray[np.uint64]:
        from exprembed.metrics._scan import scan

        p = q - self._middle
        own = float(np.square(p, dtype=np.float64).sum())
        reach = self._reach + self._error
        rounding = 4 * (len(q) + 8) * ROUNDOFF * (own**0.5 * reach + reach**2 + own)
        keys = np.empty(k + max(k // 2, 22), dtype=np.uint64)
        held = scan(self._codes, half, self._x, q, p * self._step, own, rounding, self._error, keys, k)
        return np.sort(keys[:held])[:k]
