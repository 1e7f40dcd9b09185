"""The valence-arousal plane cut into regions: halves by sign, and four, eight or twelve angular sectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from exprembed.errors import BadInputError, unknown_name

SECTORS: Mapping[str, int] = {"quarter": 4, "eight": 8, "twelve": 12}
REGIONS = ("half", *SECTORS)
"""Kinds of division. "half" halves the plane twice, by the sign of valence and by that of arousal."""


def va_regions(valence_arousal: Any, kind: str) -> np.ndarray:  # noqa: ANN401 - anything that an array is made of
    """Return the region of the valence-arousal plane that each point lies in.

    sector: k = floor(theta R / 2 pi),  theta = atan2(arousal, valence) in [0, 2 pi);   half: (valence >= 0, arousal >= 0)

    Symbols: R sectors, 4 ("quarter"), 8 or 12, counted from the axis of positive valence towards that of positive arousal
    (counter-clockwise where arousal points up). A point on a border belongs to the sector that begins there. The exact
    origin has no angle, hence no sector; for "half", 0 counts as not negative.

    Paper: Antoniadis, NTUA thesis 2021, section 5.2.1 and figure 5.2.1. It gives neither the angle at which the first sector
    begins (ours: the axis, so that eight and twelve part the quarters) nor what becomes of the origin, and names "half"
    in Table 5.1 alone; two signs are what its two losses, BCE and MSE, can both be put on.

    Args:
        valence_arousal: (n, 2) in [-1, 1]; NaN where unknown.
        kind: "half", "quarter", "eight" or "twelve".

    Returns:
        (n,) int, sectors; (n, 2) int of 0 and 1 for "half". -1 where valence or arousal is unknown, and at the origin.

    Raises:
        WrongUseError: an unknown kind.
        BadInputError: another shape, or numbers out of range.

    Example:
        >>> va_regions([[0.5, 0.1], [-0.5, 0.1], [0.3, -0.3], [0.0, 0.0]], "quarter").tolist()
        [0, 1, 3, -1]
        >>> va_regions([[0.5, -0.1]], "half").tolist()
        [[1, 0]]
    """
    if kind not in REGIONS:
        raise unknown_name("division of the valence-arousal plane", kind, REGIONS)
    points = np.asarray(valence_arousal, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or (np.abs(points) > 1).any():
        raise BadInputError(f"valence and arousal (n, 2) in [-1, 1] are due; got {points.shape}")
    known = np.isfinite(points).all(axis=1, keepdims=True)
    if kind == "half":
        return np.where(known, points >= 0, -1).astype(np.int64)
    points = np.where(known, points, 0.0) + 0.0  # turns -0, whose angle is pi, into 0
    turn = np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi) % 1
    # A remainder of a tiny negative angle can round up to a whole turn.
    sectors = (turn * SECTORS[kind]).astype(np.int64) % SECTORS[kind]
    return np.where(points.any(axis=1), sectors, -1)


def region_count(kind: str) -> int:
    """Return the scores that a division takes: one a sector; for "half" two, each the score of one sign.

    Example:
        >>> region_count("half"), region_count("eight")
        (2, 8)
    """
    return SECTORS.get(kind, 2)


def region_centres(kind: str) -> np.ndarray:
    """Return the centre of gravity of each region of the unit disc, as (valence, arousal).

    c_k = r (cos t, sin t),  t = (2k + 1) pi / R,  r = 2 R sin(pi / R) / (3 pi)

    For "half" the centres of the positive half of each axis, at 4 / (3 pi); those of the negative halves lie opposite.

    Returns:
        (R, 2) float64; for "half" (2, 2): the half of positive valence, the half of positive arousal.

    Raises:
        WrongUseError: an unknown kind.

    Example:
        >>> region_centres("quarter").round(3)[0].tolist(), region_centres("half").round(3).tolist()
        ([0.424, 0.424], [[0.424, 0.0], [0.0, 0.424]])
    """
    if kind == "half":
        return np.eye(2) * 4 / (3 * np.pi)
    if kind not in SECTORS:
        raise unknown_name("division of the valence-arousal plane", kind, REGIONS)
    count = SECTORS[kind]
    middle = (2 * np.arange(count) + 1) * np.pi / count
    centres: np.ndarray = (
        2 * count * np.sin(np.pi / count) / (3 * np.pi) * np.stack([np.cos(middle), np.sin(middle)], 1)
    )
    return centres
