"""The inner loops of `ExactSearch`, compiled at their first use: what of a block of products may be among the nearest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exprembed.compiled import compiled

EMPTY = 2**64 - 1  # a key that nothing has
_GROUP = 32  # references that are passed over together: fewer ask more often, more are looked into more often
_LOW = np.uint64(32)


# Neither infinity nor the order of a sum is promised away except where numbers are known to be finite.
_compiled = compiled("nnan", "nsz", "contract", "reassoc")


@_compiled
def sift(
    products: NDArray[np.float32],
    half: NDArray[np.float32],
    first: int,
    x: NDArray[np.float32],
    q: NDArray[np.float32],
    offset: NDArray[np.float32],
    limit: NDArray[np.float32],
    keys: NDArray[np.uint64],
    held: NDArray[np.int64],
    k: int,
) -> None:
    """Put the references of a block that may be among the k nearest into each query's keys.

    A key is a squared distance's bits above a row's, so that keys order by distance and, at equal distance, by row. Full
    keys are cut to the k least, which raises the query's limit.

    Args:
        products: (m, n) of m references with n queries.
        half: (m,) what to add to a reference's products.
        first: row of the first reference.
        x: (N, d) all references.
        q: (n, d) queries.
        offset: (n,) limit plus half the k-th squared distance.
        limit: (n,) the least sum that may still matter; raised in place.
        keys: (n, capacity), more than k; changed in place.
        held: (n,) how many keys there are; changed in place.
        k: neighbours.
    """
    m, n = products.shape
    d, capacity = q.shape[1], keys.shape[1]
    best = np.empty(n, np.float32)
    squared = np.empty(1, np.float32)
    bits = squared.view(np.uint32)
    for start in range(0, m, _GROUP):
        stop = min(start + _GROUP, m)
        _maxima(products[start:stop], half[start:stop], best)
        for i in range(n):
            if best[i] >= limit[i]:
                query = q[i]
                for place in range(start, stop):
                    if products[place, i] + half[place] >= limit[i]:
                        reference = x[first + place]
                        total = np.float32(0)
                        for t in range(d):
                            difference = reference[t] - query[t]
                            total += difference * difference
                        squared[0] = total
                        keys[i, held[i]] = (np.uint64(bits[0]) << _LOW) | np.uint64(first + place)
                        held[i] += 1
                        if held[i] == capacity:
                            _least_first(keys[i], k)
                            held[i] = k
                            bits[0] = np.uint32(keys[i, k - 1] >> _LOW)
                            limit[i] = max(limit[i], offset[i] - np.float32(0.5) * squared[0])


@_compiled
def _maxima(products: NDArray[np.float32], half: NDArray[np.float32], best: NDArray[np.float32]) -> None:
    """Write the largest sum of each query into `best`."""
    best[:] = products[0] + half[0]
    for place in range(1, len(products)):
        row, more = products[place], half[place]
        for i in range(len(best)):
            value = row[i] + more
            best[i] = value if value > best[i] else best[i]


@_compiled
def _least_first(keys: NDArray[np.uint64], k: int) -> None:
    """Bring the k least keys to the front, the largest of them last (Hoare's selection, median of three)."""
    low, high = 0, len(keys) - 1
    while low < high:
        a, b, c = keys[low], keys[(low + high) // 2], keys[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            return
