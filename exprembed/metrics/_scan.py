"""The inner loops of `CodedSearch`, compiled at their first use: one query past all references, a byte a number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exprembed.compiled import compiled
from exprembed.metrics._sift import _least_first

LANES, ROUNDS = 512, 8  # references are looked at in blocks of rounds x lanes; a lane is passed over or looked into
_LOW = np.uint64(32)
_AT_ONCE = 4  # numbers of a vector added together, so that sums are read and written less often

# Nothing here is NaN; sums may be taken in another order, which the bound of rounding errors allows for.
_compiled = compiled("nnan", "nsz", "contract", "reassoc")


@_compiled
def scan(
    codes: NDArray[np.int8],
    half: NDArray[np.float32],
    x: NDArray[np.float32],
    q: NDArray[np.float32],
    turned: NDArray[np.float32],
    own: float,
    rounding: float,
    error: float,
    keys: NDArray[np.uint64],
    k: int,
) -> int:
    """Put the references that may be among the k nearest of one query into `keys`; return how many there are.

    A key is a squared distance's bits above a row's. Full keys are cut to the k least, which raises the limit.

    Args:
        codes: (blocks, d, LANES * ROUNDS) the references, a byte a number.
        half: (blocks, LANES * ROUNDS) what to add to a reference's product with the query.
        x: (N, d) the references.
        q: (d,) the query.
        turned: (d,) what its products with the codes are taken with.
        own: the square of the query's distance from the codes' middle.
        rounding: by how much sums and squares of distances may be wrong.
        error: how far a reference may lie from what its codes say.
        keys: (capacity,), more than k; changed in place.
        k: neighbours.
    """
    d, capacity = len(q), len(keys)
    sums, best = np.empty(LANES * ROUNDS, np.float32), np.empty(LANES, np.float32)
    squared = np.empty(1, np.float32)
    bits = squared.view(np.uint32)
    limit, held = np.float32(-1e37), 0
    for block in range(len(codes)):
        _add_products(codes[block], half[block], turned, sums)
        if block == 0 and k <= len(sums):
            # The k references of the largest sums lie no farther than these say, and so does the k-th nearest.
            reach = np.sqrt(max(0.0, own + rounding - 2.0 * np.float64(np.partition(sums, len(sums) - k)[-k]))) + error
            limit = max(limit, _limit(own, rounding, reach + error))
        _lane_maxima(sums, best)
        for lane in range(LANES):
            if best[lane] < limit:
                continue
            for place in range(lane, LANES * ROUNDS, LANES):
                if sums[place] < limit:
                    continue
                row = block * LANES * ROUNDS + place
                reference = x[row]
                total = np.float32(0)
                for t in range(d):
                    difference = reference[t] - q[t]
                    total += difference * difference
                squared[0] = total
                keys[held] = (np.uint64(bits[0]) << _LOW) | np.uint64(row)
                held += 1
                if held == capacity:
                    _least_first(keys, k)
                    held = k
                    bits[0] = np.uint32(keys[k - 1] >> _LOW)
                    limit = max(limit, _limit(own, rounding, np.sqrt(np.float64(squared[0])) + error))
    return held


@_compiled
def _limit(own: float, rounding: float, reach: float) -> np.float32:
    """Return the least sum of a reference whose codes say that it lies within reach."""
    return np.float32((own - rounding - reach * reach) / 2)


@_compiled
def _add_products(
    codes: NDArray[np.int8], half: NDArray[np.float32], turned: NDArray[np.float32], sums: NDArray[np.float32]
) -> None:
    """Write half + turned . codes of each reference of a block (d, n) into `sums` (n,)."""
    d, n = codes.shape
    sums[:] = half
    whole = d - d % _AT_ONCE
    for t in range(0, whole, _AT_ONCE):
        f0, f1, f2, f3 = turned[t], turned[t + 1], turned[t + 2], turned[t + 3]
        c0, c1, c2, c3 = codes[t], codes[t + 1], codes[t + 2], codes[t + 3]
        for i in range(n):
            sums[i] += f0 * np.float32(c0[i]) + f1 * np.float32(c1[i]) + f2 * np.float32(c2[i]) + f3 * np.float32(c3[i])
    for t in range(whole, d):
        f, c = turned[t], codes[t]
        for i in range(n):
            sums[i] += f * np.float32(c[i])


@_compiled
def _lane_maxima(sums: NDArray[np.float32], best: NDArray[np.float32]) -> None:
    """Write the largest of every LANES-th sum into `best`; the eight rounds stand side by side, which is quicker."""
    n = len(best)
    for i in range(n):
        a, b = max(sums[i], sums[n + i]), max(sums[2 * n + i], sums[3 * n + i])
        c, d = max(sums[4 * n + i], sums[5 * n + i]), max(sums[6 * n + i], sums[7 * n + i])
        best[i] = max(max(a, b), max(c, d))
