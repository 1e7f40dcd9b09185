"""Complete linkage by cosine distance in little memory: a chain of nearest neighbours that looks at one cluster at a time."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

_KEPT = 64  # rows of distances that are kept, 8 n bytes each
_MEMBERS = 64  # vectors of a cluster that are multiplied at a time


def complete_linkage(unit: NDArray[np.float64], n_clusters: int) -> NDArray[np.int64]:
    """Merge clusters until `n_clusters` are left; return the cluster of each vector, numbers without order.

    D(A, B) = max over a in A, b in B of 1 - a.b;  the two clusters with the smallest D are merged first.

    A chain goes from a cluster to its nearest one, to that one's nearest, and so on, until two are each other's nearest:
    those are merged at some time by the rule above, whatever else is (Murtagh 1983; D is reducible), so they are merged now, and
    the merges are put in order afterwards. D of one cluster to all others is n products of d numbers for each member, and
    that of a merged cluster the larger of the two. Memory is about (64 + 64 + d) n numbers: 60 MB at 50,000 vectors.

    Args:
        unit: (n, d) unit vectors, n > n_clusters.
        n_clusters: at least 1.

    Example:
        >>> complete_linkage(np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), 2).tolist()
        [0, 1, 1]
    """
    chain = _Chain(unit)
    merges = np.empty((len(unit) - 1, 2), dtype=np.int64)
    heights = np.empty(len(unit) - 1)
    for at in range(len(unit) - 1):
        merges[at], heights[at] = chain.merge()
    return _cut(merges[np.argsort(heights, kind="stable")][: len(unit) - n_clusters], len(unit))


class _Chain:
    """Clusters in slots, and the chain; a cluster is named by one of its vectors, for ever."""

    def __init__(self, unit: NDArray[np.float64]) -> None:
        n = len(unit)
        self._unit, self._turned = unit, np.ascontiguousarray(unit.T)
        self._slot = np.arange(n)  # of each vector
        self._members: list[list[int]] = [[row] for row in range(n)]  # of each slot; empty once it is merged away
        self._live = n
        self._chain: list[int] = []  # slots
        self._rows = np.empty((min(_KEPT, n), n))
        self._places: OrderedDict[int, int] = OrderedDict()  # where the row of a slot is, the one used last at the end
        self._free = list(range(len(self._rows)))

    def merge(self) -> tuple[tuple[int, int], float]:
        """Merge two clusters that are each other's nearest; return a vector of each, and their distance."""
        if not self._chain:
            self._chain.append(next(slot for slot, members in enumerate(self._members) if members))
        while True:
            top = self._chain[-1]
            row = self._row(top)
            nearest = int(row.argmin())
            if (
                len(self._chain) > 1 and row[self._chain[-2]] <= row[nearest]
            ):  # of equal ones the one before, or it never ends
                break
            self._chain.append(nearest)
        kept, gone = self._chain[-2], self._chain[-1]
        height = float(row[kept])
        names = self._members[kept][0], self._members[gone][0]
        self._join(kept, gone)
        return names, height

    def _join(self, kept: int, gone: int) -> None:
        del self._chain[-2:]
        old, other = self._row(kept), self._row(gone)
        np.maximum(old, other, out=old)
        self._free.append(self._places.pop(gone))
        rows = self._rows
        np.maximum(rows[:, kept], rows[:, gone], out=rows[:, kept])
        rows[:, gone] = np.inf
        old[kept] = np.inf
        self._slot[self._members[gone]] = kept
        self._members[kept] += self._members[gone]
        self._members[gone] = []
        self._live -= 1
        if not self._chain:
            self._chain.append(kept)
        if self._live < len(self._members) // 2:
            self._close_gaps()

    def _row(self, slot: int) -> NDArray[np.float64]:
        """Return D of a cluster to all others by slot; infinite to itself and where there is none."""
        if slot in self._places:
            self._places.move_to_end(slot)
            return self._rows[self._places[slot], : len(self._members)]
        place = self._free.pop() if self._free else self._places.popitem(last=False)[1]
        self._places[slot] = place
        row = self._rows[place, : len(self._members)]
        members = self._members[slot]
        least = self._unit[members[0]] @ self._turned
        for at in range(1, len(members), _MEMBERS):
            some = self._unit[members[at : at + _MEMBERS]] @ self._turned
            np.minimum(least, some.min(axis=0), out=least)
        row.fill(-np.inf)
        np.maximum.at(row, self._slot, 1 - least)
        row[row == -np.inf] = np.inf
        row[slot] = np.inf
        return row

    def _close_gaps(self) -> None:
        """Give the clusters slots without gaps, so that rows are no longer than needed."""
        full = np.array([slot for slot, members in enumerate(self._members) if members])
        moved = np.full(len(self._members), -1)
        moved[full] = np.arange(len(full))
        self._rows[:, : len(full)] = self._rows[:, full]
        self._slot = moved[self._slot]
        self._members = [self._members[slot] for slot in full]
        self._chain = [int(moved[slot]) for slot in self._chain]
        self._places = OrderedDict((int(moved[slot]), place) for slot, place in self._places.items())


def _cut(merges: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return the cluster of each of n vectors after these merges."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(merges), dtype=np.int8), (merges[:, 0], merges[:, 1])), shape=(n, n))
    labels: NDArray[np.int64] = connected_components(edges, directed=False)[1].astype(np.int64)
    return labels
