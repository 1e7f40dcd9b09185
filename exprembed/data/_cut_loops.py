"""Sampling squares out of pictures, and halving pictures, as compiled loops, at their first use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exprembed.compiled import compiled

_compiled = compiled("nsz", "contract", "reassoc")


@_compiled
def halve(pictures: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Write the means of 2 x 2 pixels, at an odd edge of what there is.

    Args:
        pictures: (N, H, W, C) uint8 or float32.
        out: (N, ceil(H / 2), ceil(W / 2), C).
    """
    height, width, channels = pictures.shape[1:]
    length = width * channels
    line = np.empty(length, np.float32)
    for n in range(len(pictures)):
        for i in range(out.shape[1]):
            first, second = pictures[n, 2 * i].reshape(length), pictures[n, min(2 * i + 1, height - 1)].reshape(length)
            for j in range(length):
                line[j] = (np.float32(first[j]) + np.float32(second[j])) / np.float32(2)
            for k in range(out.shape[2]):
                left, right = 2 * k * channels, min(2 * k + 1, width - 1) * channels
                for c in range(channels):
                    out[n, i, k, c] = (line[left + c] + line[right + c]) / np.float32(2)


@_compiled
def cut(
    pictures: NDArray[Any],
    owner: NDArray[np.int64],
    boxes: NDArray[np.float32],
    background: float,
    rows: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """Sample squares as torchvision's `roi_align` (aligned) does of pictures less their background.

    Each sampled pixel is the mean of g x g points between pixels, g the pixels of the picture that it spans, rounded up. What lies
    up to one pixel outside takes the edge's value, beyond that the background's.

    Args:
        pictures: (N, H, W, C) uint8 or float32.
        owner: (n,) number of each square's picture.
        boxes: (n, 4) left, top, right, bottom in continuous pixels.
        background: is taken off.
        rows: (n,) place of each square in `out`.
        out: (all, side, side, C); written at `rows`.
    """
    height, width, channels = pictures.shape[1:]
    side = out.shape[1]
    line = np.empty(width * channels, np.float32)
    for i in range(len(boxes)):
        picture, square = pictures[owner[i]], out[rows[i]]
        left, top = np.float64(boxes[i, 0]) - 0.5, np.float64(boxes[i, 1]) - 0.5
        across, down = (np.float64(boxes[i, 2]) - 0.5 - left) / side, (np.float64(boxes[i, 3]) - 0.5 - top) / side
        columns, lines = int(np.ceil(across)), int(np.ceil(down))
        if columns < 1 or lines < 1:
            square[:] = 0
            continue
        low, low_share, inside = _taps(left, across, columns, side, width)
        first, last = max(0, int(np.floor(left))), min(width, int(np.ceil(left + across * side)) + 2)
        for place in range(side):
            line[first * channels : last * channels] = 0
            seen = 0
            for point in range(lines):
                y = top + (place + (point + 0.5) / lines) * down
                if y < -1 or y > height:
                    continue
                seen += 1
                y = min(max(y, 0.0), height - 1.0)
                upper = int(y)
                share = np.float32(y - upper)
                above = picture[upper].reshape(width * channels)
                below = picture[min(upper + 1, height - 1)].reshape(width * channels)
                for j in range(first * channels, last * channels):
                    line[j] += (np.float32(1) - share) * np.float32(above[j]) + share * np.float32(below[j])
            for k in range(side):
                within = 0
                for point in range(k * columns, (k + 1) * columns):
                    within += inside[point]
                nothing = np.float32(background * seen * within)
                for c in range(channels):
                    total = -nothing
                    for point in range(k * columns, (k + 1) * columns):
                        if inside[point]:
                            at = low[point] * channels + c
                            after = min(low[point] + 1, width - 1) * channels + c
                            total += (np.float32(1) - low_share[point]) * line[at] + low_share[point] * line[after]
                    square[place, k, c] = total / np.float32(lines * columns)


@_compiled
def _taps(
    start: float, step: float, points: int, side: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Return the pixel left of each point across, how far the point lies to its right, and whether it counts."""
    low, share, inside = (
        np.zeros(side * points, np.int64),
        np.zeros(side * points, np.float32),
        np.zeros(side * points, np.int64),
    )
    for i in range(side * points):
        x = start + (i + 0.5) / points * step
        if x < -1 or x > width:
            continue
        inside[i] = 1
        x = min(max(x, 0.0), width - 1.0)
        low[i] = int(x)
        share[i] = x - low[i]
    return low, share, inside
