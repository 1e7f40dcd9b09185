"""Who is who from one frame to the next, by the overlap of boxes; and vectors smoothed along those tracks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exprembed.errors import WrongUseError

_TRACKS = 1000  # whose last vectors are kept


def overlap(one: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Return the intersection over union of all pairs of boxes.

    Args:
        one: (n, 4) left, top, right, bottom.
        other: (m, 4).

    Returns:
        (n, m) in [0, 1].

    Example:
        >>> overlap([[0, 0, 2, 2]], [[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]]).round(3).tolist()
        [[1.0, 0.333, 0.0]]
    """
    a, b = np.reshape(np.asarray(one, float), (-1, 1, 4)), np.reshape(np.asarray(other, float), (1, -1, 4))
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) for boxes in (a, b)]
    found: NDArray[np.float64] = common / np.maximum(areas[0] + areas[1] - common, 1e-12)
    return found


class Tracker:
    """Numbers the faces of a film so that one face keeps its number while it moves.

    Of all pairs of a track's last box and a face of the new frame, that with the largest overlap is joined, then the
    largest among the others, and so on down to `least`. A face that joins none begins a track; a track that nobody joined
    for `patience` seconds is over, and its number is not given again.

    Args:
        least: overlap (intersection over union) that joins, in (0, 1].
        patience: seconds.

    Example:
        >>> tracker = Tracker()
        >>> tracker(0.0, [[0, 0, 10, 10], [50, 0, 60, 10]]), tracker(0.04, [[51, 0, 61, 10], [1, 0, 11, 10]])
        ([0, 1], [1, 0])
    """

    def __init__(self, least: float = 0.3, patience: float = 1.0) -> None:
        if not 0 < least <= 1 or not patience >= 0:
            raise WrongUseError(f"least lies in (0, 1] and patience is 0 or more; got {least}, {patience}")
        self.least, self.patience = least, patience
        self._boxes: dict[int, NDArray[np.float64]] = {}
        self._seen: dict[int, float] = {}
        self._next = 0

    def __call__(self, time: float, boxes: ArrayLike) -> list[int]:
        """Return the track of each (n, 4) box of the frame at `time`, which never goes back."""
        new = np.reshape(np.asarray(boxes, float), (-1, 4))
        for track in [track for track, seen in self._seen.items() if time - seen > self.patience]:
            del self._boxes[track], self._seen[track]
        tracks, names = list(self._boxes), [-1] * len(new)
        shared = overlap(np.array([self._boxes[track] for track in tracks]).reshape(-1, 4), new)
        while shared.size and shared.max() >= self.least:
            old, one = divmod(int(shared.argmax()), len(new))
            names[one] = tracks[old]
            shared[old], shared[:, one] = -1, -1
        for face, name in enumerate(names):
            if name < 0:
                names[face], self._next = self._next, self._next + 1
            self._boxes[names[face]], self._seen[names[face]] = new[face], time
        return names


class Smoother:
    r"""Vectors that follow a face's expression over time without its jitter.

    s(t) = a x(t) + (1 - a) s(t'),  a = 1 - exp(-(t - t') / tau)

    Symbols: x(t) the vector of the frame at time t, t' the time of the track's frame before, tau = `seconds`; the first
    frame of a track is itself. Under a metric of unit vectors s is scaled to length 1 where it is given out. It looks back
    only, so that it needs nothing but the last vector of a track: a change shows to 63 % after tau.

    Args:
        seconds: tau, above 0.
        unit: scale to length 1.

    Example:
        >>> smoother = Smoother(seconds=1.0, unit=False)
        >>> [round(float(smoother(0, time, np.array([value]))[0]), 3) for time, value in ((0.0, 0.0), (1.0, 1.0))]
        [0.0, 0.632]
    """

    def __init__(self, seconds: float, unit: bool) -> None:
        if not seconds > 0:
            raise WrongUseError(f"smoothing is over a time in seconds, above 0; got {seconds}")
        self.seconds, self.unit = seconds, unit
        self._last: dict[int, tuple[float, NDArray[np.float64]]] = {}

    def __call__(self, track: int, time: float, vector: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the smoothed vector (d,) of a track's next frame."""
        mean = np.asarray(vector, np.float64)
        before = self._last.pop(track, None)
        if before is not None:
            share = 1 - math.exp(-(time - before[0]) / self.seconds)
            mean = before[1] + share * (mean - before[1])
        self._last[track] = (time, mean)
        if len(self._last) > _TRACKS:
            del self._last[next(iter(self._last))]  # the one that was longest away
        length = float(np.linalg.norm(mean)) if self.unit else 1.0
        return (mean / max(length, 1e-12)).astype(np.float32)
