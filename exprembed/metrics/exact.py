"""Exact nearest neighbours of many queries: products of matrices of which only maxima are kept, and that check themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exprembed.errors import WrongUseError

Found = tuple[NDArray[np.int64], NDArray[np.float32]]
Few = Callable[[NDArray[np.float32], int, NDArray[np.bool_] | None], Found]

MEMORY_LIMIT = 2**28  # bytes
LARGEST = 1e18  # length of a vector; beyond, squared float32 distances overflow
FEW_QUERIES = 32  # below, reading the references once for all queries gains nothing
_TREE_DIMS = 3
_SPARE = 8  # groups beyond the k best
_FEW_ALLOWED = 0.25  # with a smaller share of the references allowed, a copy of those is quicker
_PRODUCTS = 2**17  # numbers in a block of products, which a core's own cache holds
_QUERIES = 256
_FETCHED = 2**18  # numbers fetched at a time, for the same reason
_ROUNDOFF = 2.0**-24
_CLOSED = -1e38  # less than any s; infinity would make NaN of zeros
_EIGHT = 8

_ALONE = threading.Lock()


class ExactSearch:
    r"""The k nearest of N references by L2 distance, for many queries at a time, exact up to float32 ties.

    |q - x|^2 = |q|^2 - 2 s(x),  s(x) = q.x - |x|^2 / 2.  The references come in groups of g neighbours in memory. A
    product of matrices gives all s, of which only the largest of each group is kept; the k + 8 groups with the largest
    are fetched, and the distances of their members taken from differences. The k nearest are among them if

        |q|^2 - 2 m - 2 E > D_k,   E = (d + 8) u (|q| + R)^2,

    m the least of the maxima of the fetched groups, D_k the k-th squared distance found, R the largest |x|, u = 2^-24:
    E bounds the rounding error of s. Queries that cannot show it (before a pile of duplicates, say) are answered from
    differences with all references. Vectors are centred on the mean of the references first, so that |q| and R, and with
    them E, are small. Up to three dimensions a k-d tree answers.

    Each thread has its own queries and multiplies alone: threads that shared a product would wait for each other, for
    ever on a busy machine. So one search runs at a time; others wait.

    Args:
        references: (N, d) float32, N at least 1; not copied, and not to be changed afterwards.
        memory_limit: bytes to work in, about; the references themselves not counted.
        few: answers few queries instead of our own differences: (queries, k, allowed) to rows and squared distances.

    Example:
        >>> search = ExactSearch(np.array([[0, 1], [1, 0], [0.1, 0.9]], dtype=np.float32))
        >>> search(np.array([[0, 1]], dtype=np.float32), k=2)[0].tolist()
        [[0, 2]]
    """

    def __init__(
        self, references: NDArray[np.float32], memory_limit: int = MEMORY_LIMIT, few: Few | None = None
    ) -> None:
        if memory_limit < 2**20:
            raise WrongUseError(f"memory_limit is in bytes, at least 1 MiB (1048576); got {memory_limit}")
        self._x = np.ascontiguousarray(references, dtype=np.float32)
        self._limit = memory_limit
        self._few = few or self._by_differences
        self._own_few = few is None
        self._tree: Any = None
        self._center = self._x.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._reach = float(
            np.sqrt(max(_squares(self._x[rows] - self._center).max() for rows in _blocks(len(self._x), 2**14)))
        )

    def __call__(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None) -> Found:
        """Return rows (Q, k) and ascending squared distances (Q, k).

        Args:
            queries: (Q, d) float32.
            k: neighbours, no more than there are references that are allowed.
            allowed: (N,) which references may be found; None for all.
        """
        if len(queries) < FEW_QUERIES and not self._own_few:
            return self._few(queries, k, allowed)
        if allowed is not None and allowed.mean() < _FEW_ALLOWED:
            places = np.flatnonzero(allowed)
            rows, squared = ExactSearch(self._x[places], self._limit)(queries, k)
            return places[rows], squared
        if self._x.shape[1] <= _TREE_DIMS and allowed is None:
            return self._by_tree(queries, k)
        group = 64 if k <= 32 else 8
        if (k + _SPARE) * group * 2 > len(self._x) or len(queries) < FEW_QUERIES:
            return self._few(queries, k, allowed)
        return self._by_groups(queries, k, allowed, group)

    def _by_tree(self, queries: NDArray[np.float32], k: int) -> Found:
        from scipy.spatial import cKDTree

        if self._tree is None:
            self._tree = cKDTree(self._x)
        lengths, rows = self._tree.query(queries, np.arange(1, k + 1), workers=_threads())
        return rows, np.square(lengths).astype(np.float32)

    def _by_differences(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None) -> Found:
        rows = np.empty((len(queries), k), dtype=np.int64)
        squared = np.empty((len(queries), k), dtype=np.float32)
        for at, query in enumerate(queries):
            every = np.concatenate([_squares(self._x[part] - query) for part in _blocks(len(self._x), 2**14)])
            if allowed is not None:
                every[~allowed] = np.inf
            rows[at], squared[at] = (found[0] for found in _smallest(every[None], k))
        return rows, squared

    def _by_groups(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None, group: int) -> Found:
        rows = np.empty((len(queries), k), dtype=np.int64)
        squared = np.empty((len(queries), k), dtype=np.float32)
        sure = np.empty(len(queries), dtype=bool)

        ready = None
        if self._x.nbytes <= self._limit // 4:
            ready = self._augmented(slice(0, len(self._x) // group * group), allowed)

        def answer(part: slice) -> None:
            rows[part], squared[part], sure[part] = self._grouped(queries[part], k, allowed, group, ready)

        with _single_threaded() as threads, ThreadPoolExecutor(threads) as pool:
            most = self._limit // (threads * 8 * (len(self._x) // group))
            block = max(1, min(_QUERIES, most, -(-len(queries) // threads)))
            for _ in pool.map(answer, _blocks(len(queries), block)):
                pass
        again = np.flatnonzero(~sure)
        if len(again):
            rows[again], squared[again] = self._few(queries[again], k, allowed)
        return rows, squared

    def _grouped(
        self,
        queries: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.bool_] | None,
        group: int,
        ready: NDArray[np.float32] | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
        """Return rows, squared distances, and of which queries they are sure to be right."""
        d, whole, fetch = self._x.shape[1], len(self._x) // group, k + _SPARE
        centred = queries - self._center
        chosen, least = _largest(self._maxima(centred, allowed, group, ready), fetch)
        grouped = self._x[: whole * group].reshape(whole, group * d)
        rest = np.arange(whole * group, len(self._x))  # too few for a group: always looked at
        rows = np.empty((len(queries), k), dtype=np.int64)
        squared = np.empty((len(queries), k), dtype=np.float32)
        for part in _blocks(len(queries), max(1, _FETCHED // (fetch * group * d))):
            some, names = (
                queries[part, None],
                (chosen[part, :, None] * group + np.arange(group)).reshape(-1, fetch * group),
            )
            every = _squares(grouped[chosen[part]].reshape(len(some), -1, d) - some)
            if len(rest):
                every = np.concatenate([every, _squares(self._x[rest] - some)], axis=1)
                names = np.concatenate([names, np.broadcast_to(rest, (len(some), len(rest)))], axis=1)
            if allowed is not None:
                every[~allowed[names]] = np.inf
            places, squared[part] = _smallest(every, k)
            rows[part] = np.take_along_axis(names, places, axis=1)
        own = _squares(centred.astype(np.float64))
        error = (d + 8) * _ROUNDOFF * (np.sqrt(own) + self._reach) ** 2
        return rows, squared, own - 2 * least - 2 * error > squared[:, -1]

    def _maxima(
        self,
        centred: NDArray[np.float32],
        allowed: NDArray[np.bool_] | None,
        group: int,
        ready: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        """Return (groups, Q) the largest s of each group; about -1e38 where none of it is allowed."""
        n, whole = len(centred), len(self._x) // group
        maxima = np.empty((whole, n), dtype=np.float32)
        step = max(1, _PRODUCTS // (group * n))
        buffer = np.empty((step * group, n), dtype=np.float32)
        turned = np.ascontiguousarray(np.concatenate([centred, np.ones((n, 1), dtype=np.float32)], axis=1).T)
        for groups in _blocks(whole, step):
            rows = slice(groups.start * group, groups.stop * group)
            x = self._augmented(rows, allowed) if ready is None else ready[rows]
            products = np.matmul(x, turned, out=buffer[: len(x)])
            np.max(products.reshape(-1, group, n), axis=1, out=maxima[groups])
        return maxima

    def _augmented(self, rows: slice, allowed: NDArray[np.bool_] | None) -> NDArray[np.float32]:
        """Return centred x and -|x|^2 / 2 beside it, (n, d + 1), so that products with (q, 1) are s."""
        x = self._x[rows] - self._center
        half = -_squares(x) / 2
        if allowed is not None:
            half[~allowed[rows]] = _CLOSED
        return np.column_stack([x, half])


def _blocks(n: int, size: int) -> Iterator[slice]:
    return (slice(at, min(at + size, n)) for at in range(0, n, size))


def _squares(differences: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of squares over the last axis."""
    found: NDArray[Any] = np.einsum("...d,...d->...", differences, differences)
    return found


def _smallest(values: NDArray[np.float32], k: int) -> Found:
    """Return the places of the k smallest of each row and their values, ascending; the first of equal ones first."""
    places = np.argpartition(values, k - 1, axis=1)[:, :k]
    places.sort(axis=1)
    found = np.take_along_axis(values, places, axis=1)
    order = np.argsort(found, axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(found, order, axis=1)


def _largest(values: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the places (Q, k) of the k largest in each column of (n, Q) values, and the least of them (Q,).

    Where there are many, those of the k eights whose own largest are the largest: no others come into question.
    """
    n, columns = len(values) // _EIGHT, np.arange(values.shape[1])
    if n < 4 * k:
        places = np.argpartition(values.T, len(values) - k, axis=1)[:, len(values) - k :]
    else:
        eights, _ = _largest(values[: n * _EIGHT].reshape(n, _EIGHT, -1).max(axis=1), k)
        near = (eights[:, :, None] * _EIGHT + np.arange(_EIGHT)).reshape(len(columns), -1)
        rest = np.broadcast_to(np.arange(n * _EIGHT, len(values)), (len(columns), len(values) % _EIGHT))
        near = np.concatenate([near, rest], axis=1)
        found = values[near, columns[:, None]]
        best = np.argpartition(found, found.shape[1] - k, axis=1)[:, found.shape[1] - k :]
        places = np.take_along_axis(near, best, axis=1)
    return places, values[places, columns[:, None]].min(axis=1).astype(np.float64)


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
