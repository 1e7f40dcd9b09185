"""Exact nearest neighbours for the metrics, in blocks, with candidates left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exprembed.errors import BadInputError, WrongUseError
from exprembed.metrics.checks import check_metric, unit_rows
from exprembed.metrics.exact import LARGEST, ExactSearch, longest

_BLOCK_ENTRIES = 4_000_000  # neighbours held at once: 64 MB of row numbers and distances


def nearest_rows(
    gallery: NDArray[Any],
    queries: NDArray[Any],
    k: int,
    metric: str = "l2",
    groups: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Yield the rows of the k nearest gallery vectors of each query, nearest first, block by block.

    Exact up to ties of the vectors' own type: float32 by `ExactSearch`, float64 and L1 by scikit-learn's brute force.
    Cosine is L2 between the unit vectors, which orders alike.

    Args:
        gallery: (n, d), finite.
        queries: (q, d), finite.
        k: neighbours of each query.
        metric: "l2", "l1" or "cosine".
        groups: (n,) and (q,) whole numbers >= 0; candidates of the query's own group are left out.

    Yields:
        A slice of queries and its (block, k) row numbers, -1 where fewer candidates exist.

    Raises:
        BadInputError: dimensions that differ, an empty gallery, more neighbours than gallery vectors.
        WrongUseError: k below 1, an unknown metric.
    """
    check_metric(metric)
    check_k(k)
    if gallery.shape[1] != queries.shape[1]:
        raise BadInputError(
            f"the gallery has {gallery.shape[1]} dimensions and the queries {queries.shape[1]}; one "
            "model must embed both"
        )
    if k > len(gallery):
        raise BadInputError(f"{k} neighbours were asked of a gallery of {len(gallery)} vectors; take a smaller k")
    kind = np.result_type(gallery, queries)
    if metric == "cosine":
        gallery, queries = unit_rows(gallery, name="gallery vectors"), unit_rows(queries, name="query vectors")
    gallery, queries = np.ascontiguousarray(gallery, dtype=kind), np.ascontiguousarray(queries, dtype=kind)
    # The largest group bounds how many of the nearest can be left out, so that many more always suffice.
    fetch = k if groups is None else min(len(gallery), k + int(np.bincount(groups[0]).max()))
    search = _search(gallery, fetch, metric)
    block = max(1, _BLOCK_ENTRIES // fetch)
    for start in range(0, len(queries), block):
        part = slice(start, min(start + block, len(queries)))
        rows = search(queries[part])
        yield part, rows if groups is None else drop_rows(rows, groups[0][rows] == groups[1][part, None], k)


def _search(gallery: NDArray[Any], k: int, metric: str) -> Callable[[NDArray[Any]], NDArray[np.int64]]:
    if gallery.dtype == np.float32 and metric != "l1" and longest(gallery) <= LARGEST:
        exact = ExactSearch(gallery)
        return lambda queries: exact(queries, k)[0]
    from sklearn.neighbors import NearestNeighbors

    brute = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="manhattan" if metric == "l1" else "euclidean")
    brute.fit(gallery)
    return lambda queries: brute.kneighbors(queries, return_distance=False)


def drop_rows(rows: NDArray[np.int64], dropped: NDArray[np.bool_], k: int) -> NDArray[np.int64]:
    """Close the gaps that left-out neighbours leave and keep the first k of each row, padded with -1.

    Example:
        >>> drop_rows(np.array([[4, 7, 2]]), np.array([[True, False, False]]), k=3).tolist()
        [[7, 2, -1]]
    """
    order = np.argsort(dropped, axis=1, kind="stable")[:, :k]
    kept: NDArray[np.int64] = np.where(
        np.take_along_axis(dropped, order, axis=1), -1, np.take_along_axis(rows, order, axis=1)
    )
    return np.pad(kept, ((0, 0), (0, k - kept.shape[1])), constant_values=-1)


def check_k(k: object, name: str = "k") -> int:
    """Return a number of neighbours; what is not a whole number of at least 1 raises WrongUseError."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise WrongUseError(f"{name} must be a whole number of at least 1; got {k!r}")
    return int(k)
