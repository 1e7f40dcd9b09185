"""PReLU alone, with the maximum over windows, and with products behind it, in one pass each: loops compiled at their first use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exprembed.compiled import compiled

Maps = NDArray[np.float32]


@compiled("nsz")
def prelu_max(x: Maps, slopes: Maps, side: int, out: Maps) -> None:
    """Write max over windows of side x side, 2 apart, of max(x, 0) + slope min(x, 0).

    Whole rows are worked on, channels and places alike, as they lie beside each other in memory: two of three maxima are
    thrown away, and still the pass takes a fraction of two.

    Args:
        x: (N, H, W, C).
        slopes: (W, C), of each channel the same at each place.
        side: of a window, 2 or 3; the last windows are cut off where the map ends.
        out: (N, ceil((H - side) / 2) + 1, ceil((W - side) / 2) + 1, C).
    """
    height, width, channels = x.shape[1:]
    length = width * channels
    slope = slopes.reshape(length)
    best = np.empty(length, np.float32)
    for n in range(len(x)):
        for i in range(out.shape[1]):
            for r in range(2 * i, min(2 * i + side, height)):
                row = x[n, r].reshape(length)
                if r == 2 * i:
                    for j in range(length):
                        best[j] = row[j] if row[j] > 0 else row[j] * slope[j]
                else:
                    for j in range(length):
                        value = row[j] if row[j] > 0 else row[j] * slope[j]
                        best[j] = value if value > best[j] else best[j]
            for _ in range(1, side):
                # Left to right: what is overwritten is not read again, and best[j + channels] is still a single place's
                # at the first step. At the second it holds two, so that a window of three is two windows of two.
                for j in range(length - channels):
                    best[j] = best[j + channels] if best[j + channels] > best[j] else best[j]
            for k in range(out.shape[2]):
                start = 2 * k * channels
                for c in range(channels):
                    out[n, i, k, c] = best[start + c]


@compiled("nsz")
def prelu(x: Maps, slopes: Maps) -> None:
    """Replace values below zero by slope times themselves.

    Args:
        x: (P, C) places and channels; changed in place.
        slopes: (C,).
    """
    for place in range(len(x)):
        row = x[place]
        for c in range(len(row)):
            row[c] = row[c] if row[c] > 0 else row[c] * slopes[c]


@compiled("nsz", "contract", "reassoc")
def six_of_prelu(x: Maps, slopes: Maps, weight: Maps, bias: Maps, out: Maps) -> None:
    """Write the six numbers bias + weight PReLU(x) of each place, side by side, so that what is read is read once.

    Args:
        x: (P, C).
        slopes: (C,).
        weight: (6, C).
        bias: (6,).
        out: (P, 6).
    """
    w0, w1, w2, w3, w4, w5 = weight[0], weight[1], weight[2], weight[3], weight[4], weight[5]
    zero = np.float32(0)
    for place in range(len(x)):
        row, six = x[place], out[place]
        t0, t1, t2, t3, t4, t5 = zero, zero, zero, zero, zero, zero
        for c in range(len(slopes)):
            value = row[c] if row[c] > 0 else row[c] * slopes[c]
            t0 += value * w0[c]
            t1 += value * w1[c]
            t2 += value * w2[c]
            t3 += value * w3[c]
            t4 += value * w4[c]
            t5 += value * w5[c]
        six[0], six[1], six[2] = t0 + bias[0], t1 + bias[1], t2 + bias[2]
        six[3], six[4], six[5] = t3 + bias[3], t4 + bias[4], t5 + bias[5]
