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
def frame(pictures: NDArray[np.uint8], margin: int, out: NDArray[np.float32]) -> None:
    """Write (x - 127.5) / 128 of pictures (N, H, W, C) inside a frame of zeros: (N, H + 2 margin, W + 2 margin, C)."""
    height, width, channels = pictures.shape[1:]
    side, length = margin * channels, width * channels
    for n in range(len(pictures)):
        out[n, :margin] = 0
        out[n, margin + height :] = 0
        for i in range(height):
            source, line = pictures[n, i].reshape(length), out[n, margin + i].reshape(length + 2 * side)
            line[:side] = 0
            line[side + length :] = 0
            inside = line[side : side + length]
            for j in range(length):
                inside[j] = (np.float32(source[j]) - np.float32(127.5)) * np.float32(1 / 128)


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
        left, top, right, bottom = boxes[i]
        if not (right > left and bottom > top):  # nor where one is not a number
            square[:] = 0
            continue
        column, across = _weights(left, right, side, width)
        row, down = _weights(top, bottom, side, height)
        first = np.int64(column[0])
        length = (np.int64(column[-1]) + across.shape[1] - first) * channels
        for place in range(side):
            line[:length] = 0
            for more in range(down.shape[1]):
                share = down[place, more]
                if share != 0:
                    source = picture[row[place] + np.uint64(more)].reshape(width * channels)
                    source = source[first * channels : first * channels + length]
                    for j in range(length):
                        line[j] += share * np.float32(source[j])
            total_down = down[place].sum() * np.float32(background)
            for k in range(side):
                start = (column[k] - np.uint64(first)) * np.uint64(channels)
                nothing = total_down * across[k].sum()
                for c in range(channels):
                    total = -nothing
                    for more in range(across.shape[1]):
                        total += across[k, more] * line[start + np.uint64(more * channels + c)]
                    square[place, k, c] = total


@_compiled
def _weights(low: float, high: float, side: int, size: int) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """Return the first pixel of each of `side` samples along an axis, and the weights of it and those behind it.

    Of samples that lie beyond the axis by more than a pixel all weights are zero.
    """
    step = (np.float64(high) - np.float64(low)) / side
    points = int(np.ceil(step))
    pixels = min(points + 1, size)
    firsts, weights = np.zeros(side, np.uint64), np.zeros((side, pixels), np.float32)
    for k in range(side):
        for point in range(points):
            x = low - 0.5 + (k + (point + 0.5) / points) * step
            inside = x >= -1 and x <= size
            x = np.float64(min(max(x, 0.0), size - 1.0))
            if point == 0:
                firsts[k] = np.uint64(min(int(x), size - pixels))
            if inside:
                lower = int(x)
                share = x - lower
                weights[k, lower - np.int64(firsts[k])] += (1 - share) / points
                if share > 0:
                    weights[k, lower + 1 - np.int64(firsts[k])] += share / points
    return firsts, weights
