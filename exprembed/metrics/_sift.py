"""The inner loops of `ExactSearch`, compiled at their first use: which references may be among the nearest of queries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exprembed.compiled import compiled
from exprembed.metrics.exact import CLOSED

EMPTY = 2**64 - 1  # a key that nothing has
WIDTH = 16  # dimensions whose products are written out, so that a reference stays in registers
GROUP = 32  # references that are passed over together: fewer ask more often, more are looked into more often
_LOW = np.uint64(32)


# Neither infinity nor the order of a sum is promised away except where numbers are known to be finite.
_compiled = compiled("nnan", "nsz", "contract", "reassoc")


@_compiled
def sift(
    x: NDArray[np.float32],
    half: NDArray[np.float32],
    first: int,
    last: int,
    tile: NDArray[np.float32],
    sums: NDArray[np.float32],
    best: NDArray[np.float32],
    q: NDArray[np.float32],
    offset: NDArray[np.float32],
    worst: NDArray[np.float32],
    keys: NDArray[np.uint64],
    held: NDArray[np.int64],
    k: int,
) -> int:
    """Put the references that may be among the k nearest into each query's keys; return how many distances were taken.

    A key is a squared distance's bits above a row's, so that keys order by distance and, at equal distance, by row. Full
    keys are cut to the k least, which lowers what is the worst that may still matter.

    Args:
        x: (N, d) all references; d at most `WIDTH`.
        half: (N,) what to add to a reference's products.
        first: row of the first reference to ask.
        last: row after the last one.
        tile: (WIDTH, n) the queries less the middle, padded with zeros.
        sums: (GROUP, n), to work in, as
        best: (n,) is; all three are quickest where they begin at multiples of 64 bytes.
        q: (n, d) the queries.
        offset: (n,) what a sum is at least, less half a squared distance.
        worst: (n,) the largest squared distance that may still matter; lowered in place.
        keys: (n, capacity), more than k; changed in place.
        held: (n,) how many keys there are; changed in place.
        k: neighbours.
    """
    part = np.zeros((GROUP, WIDTH), np.float32)
    looked = 0
    for start in range(first, last, GROUP):
        m = min(GROUP, last - start)
        part[:m, : x.shape[1]] = x[start : start + m]
        best[:] = CLOSED
        _multiply(half[start : start + m], part[:m], tile, sums, best)
        looked += _look_into(sums[:m], best, x, half, start, q, offset, worst, keys, held, k)
    return looked


@_compiled
def sift_products(
    products: NDArray[np.float32],
    x: NDArray[np.float32],
    half: NDArray[np.float32],
    first: int,
    best: NDArray[np.float32],
    q: NDArray[np.float32],
    offset: NDArray[np.float32],
    worst: NDArray[np.float32],
    keys: NDArray[np.uint64],
    held: NDArray[np.int64],
    k: int,
) -> int:
    """Do as `sift` does with the products (m, n) of the m references from `first` on with the queries; changes them."""
    m, n = products.shape
    looked = 0
    for start in range(0, m, GROUP):
        sums = products[start : start + GROUP]
        best[:] = CLOSED
        for place in range(len(sums)):
            row, more = sums[place], half[first + start + place]
            for i in range(n):
                row[i] += more
                best[i] = row[i] if row[i] > best[i] else best[i]
        looked += _look_into(sums, best, x, half, first + start, q, offset, worst, keys, held, k)
    return looked


@_compiled
def _multiply(
    half: NDArray[np.float32],
    part: NDArray[np.float32],
    tile: NDArray[np.float32],
    sums: NDArray[np.float32],
    best: NDArray[np.float32],
) -> None:
    """Set sums (m, n) to half + part . tile of a part's m references (m, WIDTH), and raise best (n,) to their largest."""
    for place in range(len(part)):
        reference, more, row = part[place], half[place], sums[place]
        for i in range(len(best)):
            total = more
            for t in range(WIDTH):
                total += reference[t] * tile[t, i]
            row[i] = total
            best[i] = total if total > best[i] else best[i]


@_compiled
def _look_into(
    sums: NDArray[np.float32],
    best: NDArray[np.float32],
    x: NDArray[np.float32],
    half: NDArray[np.float32],
    first: int,
    q: NDArray[np.float32],
    offset: NDArray[np.float32],
    worst: NDArray[np.float32],
    keys: NDArray[np.uint64],
    held: NDArray[np.int64],
    k: int,
) -> int:
    """Take the distances from the queries of those m references from `first` on that their sums (m, n) do not rule out."""
    n, d = q.shape
    capacity = keys.shape[1]
    squared = np.empty(1, np.float32)
    bits = squared.view(np.uint32)
    looked = 0
    for i in range(n):
        limit = offset[i] - np.float32(0.5) * worst[i]
        if best[i] < limit:
            continue
        query = q[i]
        for place in range(len(sums)):
            row = first + place
            if sums[place, i] < limit or half[row] < CLOSED / 2:
                continue
            reference = x[row]
            total = np.float32(0)
            for t in range(d):
                difference = reference[t] - query[t]
                total += difference * difference
            looked += 1
            if total <= worst[i]:
                squared[0] = total
                keys[i, held[i]] = (np.uint64(bits[0]) << _LOW) | np.uint64(row)
                held[i] += 1
                if held[i] == capacity:
                    _least_first(keys[i], k)
                    held[i] = k
                    bits[0] = np.uint32(keys[i, k - 1] >> _LOW)
                    worst[i] = min(worst[i], squared[0])
                    limit = offset[i] - np.float32(0.5) * worst[i]
    return looked


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
