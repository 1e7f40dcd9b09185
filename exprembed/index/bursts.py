"""One photo of each burst: of pictures taken within seconds of each other, the one that stands for all."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from exprembed.errors import BadInputError, WrongUseError
from exprembed.metrics.checks import as_matrix, unit_rows


def best_of_bursts(
    vectors: pd.DataFrame | ArrayLike,
    photos: Sequence[Hashable],
    times: Sequence[float | None],
    gap: float = 3.0,
) -> list[Hashable]:
    """Return one photo of each burst, in order of time; photos without a time are bursts of their own, at the end.

    Photos in order of time belong to one burst while each follows the one before within `gap` seconds. The best of a
    burst has the most faces; of several, the largest mean over its faces of cos(x, m), m the mean of the unit vectors of the
    burst's faces; of several, the first. So blinks and odd moments go, and nobody is lost.

    Args:
        vectors: (n, d), one a face.
        photos: (n,) the photo that each face is from.
        times: (n,) when that photo was taken, in seconds; None or NaN where unknown.
        gap: seconds, at least 0.

    Raises:
        BadInputError: another number of photos or times than faces, one photo with two times, NaN or zero vectors.
        WrongUseError: a negative gap.

    Example:
        >>> best_of_bursts([[0, 1], [0.1, 1], [1, 0], [1, 1]], ["a", "b", "c", "d"], [0.0, 1.0, 2.0, 60.0])
        ['b', 'd']
    """
    if not gap >= 0:
        raise WrongUseError(f"gap is in seconds, at least 0; got {gap}")
    unit = unit_rows(as_matrix(vectors), vectors)
    if not len(unit) == len(photos) == len(times):
        raise BadInputError(f"{len(unit)} faces need as many photos and times; got {len(photos)} and {len(times)}")
    faces = pd.DataFrame({"photo": pd.Series(list(photos), dtype=object), "time": pd.array(times, dtype="Float64")})
    faces["time"] = faces["time"].astype("float64")
    taken = faces.groupby("photo", sort=False)["time"].agg(["first", "nunique"])
    if (taken["nunique"] > 1).any():
        raise BadInputError(f"the photo {taken.index[taken['nunique'] > 1][0]!r} has two times")
    order = taken["first"].sort_values(kind="stable")  # unknown times last
    burst = (~(order.diff() <= gap)).cumsum()
    faces["burst"] = faces["photo"].map(burst)
    means = pd.DataFrame(unit).groupby(faces["burst"].to_numpy()).transform("mean").to_numpy()
    centres = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    faces["typical"] = np.round((unit * centres).sum(axis=1), 9)
    ranked = faces.groupby("photo", sort=False).agg(n=("photo", "size"), typical=("typical", "mean")).loc[order.index]
    ranked["burst"] = burst
    best = ranked.sort_values(["burst", "n", "typical"], ascending=[True, False, False], kind="stable")
    found: list[Hashable] = best.groupby("burst", sort=True).head(1).index.tolist()
    return found
