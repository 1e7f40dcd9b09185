"""How much of the nearest an approximate kind finds, and how much effort that takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from exprembed.metrics.exact import ExactSearch

if TYPE_CHECKING:
    from exprembed.index.engine import Engine


def tuned(engine: Engine, allowed: NDArray[np.bool_], recall: float, k: int, queries: int, seed: int) -> float:
    """Set the least effort of a doubling series that reaches a recall; return the recall that was measured.

    Args:
        engine: approximate.
        allowed: (next row,) which rows may be found, at least two.
        recall: wanted, in (0, 1]. Where no effort is enough, the most is kept.
        k: neighbours.
        queries: rows that are asked for, each left out of its own result.
        seed: of their choice.
    """
    live = np.flatnonzero(allowed)
    asked = np.sort(np.random.default_rng(seed).choice(live, size=min(queries, len(live)), replace=False))
    vectors, k = engine.vectors(live), min(k, len(live) - 1)
    some = vectors[np.searchsorted(live, asked)]
    places, _ = ExactSearch(vectors)(some, k + 1)
    due = _others(live[places], asked, k)
    effort = engine.effort()
    value = 1 if effort is None else min(effort[2], k if effort[0] == "efSearch" else 1)
    while True:
        if effort is not None:
            engine.set_effort(value)
        found = _others(engine.search(some, k + 1, allowed)[0], asked, k)
        reached = float(np.mean([len(np.intersect1d(*pair)) / k for pair in zip(due, found, strict=True)]))
        if reached >= recall or effort is None or value >= effort[2]:
            return reached
        value = min(2 * value, effort[2])


def _others(rows: NDArray[np.int64], own: NDArray[np.int64], k: int) -> list[NDArray[np.int64]]:
    """Return the first k of each query's rows that are not its own."""
    return [found[(found != row) & (found >= 0)][:k] for found, row in zip(rows, own, strict=True)]
