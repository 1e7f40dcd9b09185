"""Exact nearest neighbours of many queries: products of matrices, of which little is kept, and all of that checked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exprembed.errors import WrongUseError

Found = tuple[NDArray[np.int64], NDArray[np.float32]]

MEMORY_LIMIT = 2**28  # bytes
LARGEST = 1e18  # length of a vector; beyond, squared float32 distances overflow
_TREE_DIMS = 3
_FEW_ALLOWED = 0.25  # with a smaller share of the references allowed, a copy of those is quicker
_SMALL = 2**26  # products of numbers below which compiled loops would take longer to load than to run
_BLOCK, _QUERIES = 512, 256  # references and queries whose products a core's own cache holds
_LANES = 16  # queries that a processor multiplies at a time
ROUNDOFF = 2.0**-24
CLOSED = -1e38  # less than any sum: what is added to the products of a reference that may not be found
_SAMPLE, _MANY = 4096, 48  # references that foretell a limit, for so many neighbours: for few it comes soon enough

_ALONE = threading.Lock()


def longest(vectors: NDArray[Any]) -> float:
    """Return a bound of the vectors' lengths, at most sqrt(d) times the longest, without a copy of them.

    Example:
        >>> longest(np.array([[3.0, -4.0]]))
        5.656854249492381
    """
    return float(max(vectors.max(initial=0.0), -vectors.min(initial=0.0)) * np.sqrt(vectors.shape[1]))


class ExactSearch:
    r"""The k nearest of N references by L2 distance, for many queries at a time, exact up to float32 ties.

    With c the mean of the references and p = q - c,

    |q - x|^2 = |p|^2 - 2 (p.x + h(x) - p.c),  h(x) = -|x - c|^2 / 2.

    Products of matrices give all p.x. Where p.x + h(x) is so small that the distance must be larger than the k-th that is
    already known, x is passed over; else the distance is taken from the difference q - x. "Must" counts the rounding errors
    of products, sums and differences, which together move the squared distance by less than

    E = 4 (d + 8) u (|p| X + R^2 + |p|^2),

    X the largest |x|, R the largest |x - c|, u = 2^-24. So no distance that comes out was taken by the expansion, which in
    float32 loses near neighbours, and none that belongs there is missing. Of references at one distance the first come
    first. Up to three dimensions a k-d tree answers, which has no such order; little work SciPy does from differences.

    Each thread has queries of its own, or of few queries references of its own, and multiplies alone: threads that shared
    a product would wait for each other, for ever on a busy machine. So one search runs at a time; others wait.

    Args:
        references: (N, d) float32, N at least 1 and below 2^32; not copied, and not to be changed afterwards.
        memory_limit: bytes to work in, about; references and results not counted.

    Example:
        >>> search = ExactSearch(np.array([[0, 1], [1, 0], [0.1, 0.9]], dtype=np.float32))
        >>> search(np.array([[0, 1]], dtype=np.float32), k=2)[0].tolist()
        [[0, 2]]
    """

    def __init__(self, references: NDArray[np.float32], memory_limit: int = MEMORY_LIMIT) -> None:
        if memory_limit < 2**20:
            raise WrongUseError(f"memory_limit is in bytes, at least 1 MiB (1048576); got {memory_limit}")
        self._x = np.ascontiguousarray(references, dtype=np.float32)
        self._limit = memory_limit
        self._tree: Any = None
        self._half: NDArray[np.float32] | None = None

    def __call__(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None) -> Found:
        """Return rows (Q, k) and ascending squared distances (Q, k).

        Args:
            queries: (Q, d) float32.
            k: neighbours, no more than there are references that are allowed.
            allowed: (N,) which references may be found; None for all.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if allowed is not None and allowed.mean() < _FEW_ALLOWED:
            places = np.flatnonzero(allowed)
            rows, squared = ExactSearch(self._x[places], self._limit)(queries, k)
            return places[rows], squared
        if len(queries) * self._x.size <= _SMALL and 16 * self._x.size <= self._limit:
            return self._by_differences(queries, k, allowed)
        if self._x.shape[1] <= _TREE_DIMS and allowed is None:
            return self._by_tree(queries, k)
        return self._by_products(queries, k, allowed)

    def _by_differences(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None) -> Found:
        from scipy.spatial.distance import cdist

        rows, squared = np.empty((len(queries), k), dtype=np.int64), np.empty((len(queries), k), dtype=np.float32)
        for part in _blocks(len(queries), max(1, self._limit // (32 * len(self._x)))):
            every = cdist(queries[part], self._x, "sqeuclidean").astype(np.float32)
            if allowed is not None:
                every[:, ~allowed] = np.inf
            keys = _keys(every, np.arange(len(self._x)))
            keys.partition(k - 1, axis=1)
            rows[part], squared[part] = read_keys(np.sort(keys[:, :k], axis=1))
        return rows, squared

    def _by_tree(self, queries: NDArray[np.float32], k: int) -> Found:
        from scipy.spatial import cKDTree

        if self._tree is None:
            self._order = cKDTree(self._x, leafsize=32).indices
            self._tree = cKDTree(self._x[self._order], leafsize=32)  # now the points of a leaf lie beside each other
        # Queries beside each other walk the same branches, which then lie in the cache.
        order = np.lexsort(np.floor(8 * (queries - queries.min(axis=0)) / np.maximum(np.ptp(queries, axis=0), 1e-30)).T)
        rows, squared = np.empty((len(queries), k), dtype=np.int64), np.empty((len(queries), k), dtype=np.float32)
        lengths, places = self._tree.query(queries[order], np.arange(1, k + 1), workers=_threads())
        rows[order], squared[order] = self._order[places], np.square(lengths)
        return rows, squared

    def _by_products(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None) -> Found:
        if self._half is None:
            self._half = self._learn()
        rows, squared = np.empty((len(queries), k), dtype=np.int64), np.empty((len(queries), k), dtype=np.float32)
        half = self._half if allowed is None else np.where(allowed, self._half, np.float32(CLOSED))
        capacity = k + max(k // 2, 22)
        with _single_threaded() as threads, ThreadPoolExecutor(threads) as pool:
            most = self._limit // (threads * (24 * capacity + 4 * _BLOCK + 32 * self._x.shape[1]))
            parts = list(_blocks(len(queries), max(1, min(_QUERIES, most))))
            # Either each thread answers queries of its own, or, where those are too few, asks references of its own.
            shared = len(parts) < threads
            share = -(-len(self._x) // threads) if shared else len(self._x)

            def answer(part: slice) -> None:
                least = partial(_least, over=pool.map if shared else map, share=share, k=k, capacity=capacity)
                rows[part], squared[part] = self._sifted(queries[part], k, half, least)

            for _ in (map if shared else pool.map)(answer, parts):
                pass
        return rows, squared

    def _sifted(self, q: NDArray[np.float32], k: int, half: NDArray[np.float32], least: Callable[..., Found]) -> Found:
        """Answer some queries; those for which a sample foretold too little are asked again without."""
        p = q - self._center
        own = np.square(p, dtype=np.float64).sum(axis=1)
        error = 4 * (q.shape[1] + 8) * ROUNDOFF * (np.sqrt(own) * self._length + self._reach**2 + own)
        offset = ((own - error) / 2 + p.astype(np.float64) @ self._center).astype(np.float32)
        worst = np.full(len(q), np.inf, dtype=np.float32)
        if k >= _MANY and len(self._x) >= 8 * _SAMPLE:
            step = len(self._x) // _SAMPLE
            few = 8 + 2 * k // step  # about twice as many as the k nearest have in the sample
            sample = self._x[::step].copy(), half[::step].copy()
            found = least(*sample, q, p, offset, worst, over=map, share=len(sample[0]), k=few, capacity=few + 22)
            worst = np.fmin(worst, found[1][:, -1])
        rows, squared = least(self._x, half, q, p, offset, worst)
        wrong = np.flatnonzero(~(squared[:, -1] <= worst))  # or fewer than k were found, and this is not a number
        if len(wrong):
            worst = np.full(len(wrong), np.inf, dtype=np.float32)
            rows[wrong], squared[wrong] = least(self._x, half, q[wrong], p[wrong], offset[wrong], worst)
        return rows, squared

    def _learn(self) -> NDArray[np.float32]:
        """Measure c, X and R of the references, and return h."""
        self._center = self._x.mean(axis=0, dtype=np.float64).astype(np.float32)
        half = np.empty(len(self._x), dtype=np.float32)
        most = 0.0
        for part in _blocks(len(self._x), 2**13):
            half[part] = _squares(self._x[part] - self._center) / -2
            most = max(most, float(_squares(self._x[part]).max()))
        self._length, self._reach = most**0.5, (-2 * float(half.min())) ** 0.5
        return half


def _least(
    x: NDArray[np.float32],
    half: NDArray[np.float32],
    q: NDArray[np.float32],
    p: NDArray[np.float32],
    offset: NDArray[np.float32],
    worst: NDArray[np.float32],
    *,
    over: Callable[..., Iterator[NDArray[np.uint64]]],
    share: int,
    k: int,
    capacity: int,
) -> Found:
    """Return rows and squared distances (n, k) of the nearest no farther than `worst`; NaN where there are fewer."""
    from exprembed.metrics._sift import EMPTY, GROUP, WIDTH, sift, sift_products

    d, n = p.shape[1], -(-len(p) // _LANES) * _LANES
    tile = _aligned(max(d, WIDTH), n)
    tile[:d, : len(p)] = p.T

    def ask(part: slice) -> NDArray[np.uint64]:
        keys, held = np.full((len(q), capacity), EMPTY, dtype=np.uint64), np.zeros(len(q), dtype=np.int64)
        known = q, offset, worst.copy(), keys, held, k
        best = _aligned(n)
        if d <= WIDTH:
            sift(x, half, part.start, part.stop, tile, _aligned(GROUP, n), best, *known)
        else:
            buffer = _aligned(_BLOCK, n)
            for block in _blocks(part.stop, _BLOCK, part.start):
                products = np.matmul(x[block], tile, out=buffer[: block.stop - block.start])
                sift_products(products, x, half, block.start, best, *known)
        keys[np.arange(capacity) >= held[:, None]] = EMPTY  # left over from before a cut
        return keys

    keys = np.concatenate(list(over(ask, _blocks(len(x), share))), axis=1)
    keys.partition(k - 1, axis=1)
    return read_keys(np.sort(keys[:, :k], axis=1))


def _aligned(*shape: int) -> NDArray[np.float32]:
    """Return zeros that begin at a multiple of 64 bytes, so that no vector of the processor's straddles two lines."""
    size = int(np.prod(shape))
    more = np.zeros(size + 16, dtype=np.float32)
    start = -more.ctypes.data % 64 // 4
    return more[start : start + size].reshape(shape)


def _keys(squared: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return numbers that order by distance, and at equal distance by row."""
    found: NDArray[np.uint64] = (squared.view(np.uint32).astype(np.uint64) << np.uint64(32)) | rows.astype(np.uint64)
    return found


def read_keys(keys: NDArray[np.uint64]) -> Found:
    """Return the rows and squared distances of keys."""
    return (keys & np.uint64(2**32 - 1)).astype(np.int64), (keys >> np.uint64(32)).astype(np.uint32).view(np.float32)


def _blocks(stop: int, size: int, start: int = 0) -> Iterator[slice]:
    return (slice(at, min(at + size, stop)) for at in range(start, stop, size))


def _squares(differences: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of squares over the last axis."""
    found: NDArray[Any] = np.einsum("...d,...d->...", differences, differences)
    return found


@cache
def _libraries() -> Any:  # noqa: ANN401 - untyped
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _threads() -> int:
    """Return the threads that NumPy's products would take."""
    return max((library["num_threads"] for library in _libraries().info()), default=1)


@contextmanager
def _single_threaded() -> Iterator[int]:
    """Keep products to the thread that asks for them, and yield how many threads there might be."""
    with _ALONE:
        threads = _threads()
        with _libraries().limit(limits=1):
            yield threads
