"""Batch composition: what one training step sees, as a function of (seed, step) alone.

Because no state is carried from step to step, a resumed run sees exactly what an uninterrupted one would have seen, and
N processes of one run see N different batches without talking to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from exprembed.data.tables import TRIPLET_TYPES, FaceTable, TripletTable
from exprembed.data.triplets import draw_triplets, label_votes, simulate_raters
from exprembed.errors import BadInputError, WrongUseError


@dataclass(frozen=True)
class BatchPlan:
    """The faces of a batch, each once, and the triplets among them.

    Attributes:
        rows: (B,) rows of the FaceTable, all different where the batch carries triplets.
        triplets: (T, 3) positions in `rows`: a, b, odd; None where the batch carries none.
        types: (T,) positions in TRIPLET_TYPES.
    """

    rows: np.ndarray
    triplets: np.ndarray | None = None
    types: np.ndarray | None = None


class Sampler(Protocol):
    """Plans the batch of each step."""

    def plan(self, step: int) -> BatchPlan:
        """Return the batch of a step; the same for the same sampler and step."""
        ...


def _rng(seed: int, step: int) -> np.random.Generator:
    return np.random.default_rng([seed, step])


def column_groups(column: pd.Series, bins: int | Sequence[float] = 5) -> np.ndarray:
    """Return the group that each face belongs to by one of its columns, for `BalancedSampler`.

    Text and booleans are groups as they are. Numbers fall into equal intervals from the least to the greatest (not into
    equally filled ones: those are balanced already). An interval is closed below, the last one above too.

    Args:
        column: (n,) values; missing ones form a group of their own.
        bins: the number of intervals, or the ascending borders between them (ages: [20, 40, 60] gives four groups).

    Returns:
        (n,) str.

    Raises:
        WrongUseError: fewer than one interval, or borders that do not ascend.

    Example:
        >>> column_groups(pd.Series([3, 25, 60, None]), [20, 40]).tolist(), column_groups(pd.Series(["a", "b"])).tolist()
        (['0', '1', '2', 'missing'], ['a', 'b'])
    """
    missing = column.isna().to_numpy()
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return np.where(missing, "missing", column.to_numpy().astype(str))
    values = column.to_numpy(float)
    if isinstance(bins, int):
        if bins < 1:
            raise WrongUseError(f"bins must be at least 1; got {bins}")
        known = values[~missing] if not missing.all() else np.zeros(1)
        borders = np.linspace(known.min(), known.max(), bins + 1)[1:-1]
    else:
        borders = np.asarray(bins, float)
        if borders.ndim != 1 or (np.diff(borders) <= 0).any():
            raise WrongUseError(f"the borders between bins must ascend; got {list(bins)}")
    return np.where(missing, "missing", np.searchsorted(borders, values, side="right").astype(str))


class BalancedSampler:
    """Draws faces with replacement, rare groups more often: P(face) ~ f_group ^ -power.

    With classes as groups and power 1 it is the thesis's expression sampler, with ages as groups its age sampler
    (Antoniadis, NTUA thesis 2021, section 5.3; its (5.3.1) prints the inverse weight, as (3.3.4) does).

    Args:
        labels: (n,) class of each face, or another group such as `column_groups` gives; missing ones form one of their own.
        batch_size: faces a batch.
        power: 0 draws faces evenly, 1 draws classes evenly (AFFNet-CL: 16 faces of each of eight emotions).
        seed: of every draw.
        among: (n,) True for the faces that may be drawn; None for all.
    """

    def __init__(
        self, labels: np.ndarray, batch_size: int, power: float = 0.5, seed: int = 0, among: np.ndarray | None = None
    ) -> None:
        if batch_size < 1 or not 0 <= power <= 1:
            raise WrongUseError(f"batch_size must be positive and power in [0, 1]; got {batch_size} and {power}")
        if among is not None and not among.any():
            raise BadInputError("there is no face to draw: none has a class of the model")
        _, codes, counts = np.unique(np.asarray(labels, dtype=str), return_inverse=True, return_counts=True)
        weights = counts[codes].astype(float) ** -power
        if among is not None:
            weights = weights * among
        self._rows = np.flatnonzero(weights)
        self._cumulative = np.cumsum(weights[self._rows] / weights.sum())
        self.batch_size = batch_size
        self.seed = seed

    def plan(self, step: int) -> BatchPlan:
        """Return `batch_size` rows."""
        draws = _rng(self.seed, step).random(self.batch_size)
        return BatchPlan(self._rows[np.minimum(np.searchsorted(self._cumulative, draws), len(self._rows) - 1)])


class TripletSampler:
    """Equal numbers of given triplets of each type; each distinct face of them is in the batch once (FEC, section 5.2).

    Args:
        faces: the faces that the triplets name.
        triplets: judged triplets; only strong ones should train (FEC, section 5).
        per_type: triplets of each type a batch, the paper's 30.
        seed: of every draw.

    Raises:
        BadInputError: a type is absent from the table, or a triplet names an unknown face.
    """

    def __init__(self, faces: FaceTable, triplets: TripletTable, per_type: int = 30, seed: int = 0) -> None:
        rows = np.stack([faces.index.get_indexer(pd.Index(triplets[column])) for column in ("a", "b", "odd")], axis=1)
        if (rows < 0).any():
            row = int(np.argmax((rows < 0).any(axis=1)))
            raise BadInputError(
                f"triplet {row} names a face that is not in the table; use triplets.present_in(faces.index)"
            )
        self._rows = rows
        self._members = [np.flatnonzero((triplets["type"] == name).to_numpy()) for name in TRIPLET_TYPES]
        for name, members in zip(TRIPLET_TYPES, self._members, strict=True):
            if not len(members):
                raise BadInputError(f"there is no {name} triplet, and a batch holds equally many of each type")
        self.per_type = per_type
        self.seed = seed

    def plan(self, step: int) -> BatchPlan:
        """Return 3 * per_type triplets and their distinct faces."""
        rng = _rng(self.seed, step)
        chosen = np.concatenate([rng.choice(members, self.per_type) for members in self._members])
        rows, positions = np.unique(self._rows[chosen], return_inverse=True)
        types = np.repeat(np.arange(len(TRIPLET_TYPES)), self.per_type)
        return BatchPlan(rows, positions.reshape(-1, 3), types)


class VoteTripletSampler:
    """A pool of faces a step and fresh triplets among them, judged by simulated raters from the faces' votes.

    Drawing triplets inside a pool lets each embedded face serve in many triplets (per_type * 9 / pool on average), where
    triplets drawn over all faces use nearly every face once. Only triplets on which the raters agree strongly are
    kept, so their number varies a little.

    Args:
        faces: faces with votes.
        pool: distinct faces a batch, drawn like BalancedSampler's.
        per_type: triplets of each type that are drawn and judged.
        raters: simulated raters a triplet.
        power: how much more often rare classes are drawn.
        seed: of every draw.
    """

    def __init__(
        self, faces: FaceTable, pool: int = 96, per_type: int = 300, raters: int = 6, power: float = 0.5, seed: int = 0
    ) -> None:
        self._votes, _ = label_votes(faces, per_type, raters)
        self._labels = self._votes.argmax(axis=1)
        counts = np.bincount(self._labels)
        if len(np.flatnonzero(counts)) < 3 or pool < 9 or pool > len(faces):
            raise BadInputError(
                f"triplets of all types need 3 classes and a pool of 9 faces or more; got pool {pool} of {len(faces)} faces"
            )
        weights = counts[self._labels].astype(float) ** -power
        self._weights = weights / weights.sum()
        self.pool, self.per_type, self.raters, self.seed = pool, per_type, raters, seed

    def plan(self, step: int) -> BatchPlan:
        """Return `pool` rows and the strong ones among 3 * per_type triplets."""
        rng = _rng(self.seed, step)
        rows = rng.choice(len(self._weights), self.pool, replace=False, p=self._weights)
        votes, labels = self._votes[rows], self._labels[rows]
        triplets, types = [], []
        for kind, name in enumerate(TRIPLET_TYPES):
            try:
                drawn = draw_triplets(labels, name, self.per_type, rng)
            except BadInputError:  # a pool may lack a class with three faces; the other types still train
                continue
            answers = simulate_raters(votes, drawn, self.raters, rng)
            counts = (answers[:, :, None] == np.arange(3)).sum(axis=1)
            strong = 3 * counts.max(axis=1) >= 2 * self.raters
            order = np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]])[counts.argmax(axis=1)]
            triplets.append(np.take_along_axis(drawn, order, axis=1)[strong])
            types.append(np.full(int(strong.sum()), kind))
        return BatchPlan(rows, np.concatenate(triplets), np.concatenate(types))
