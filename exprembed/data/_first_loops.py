"""The first layers of a network in one pass, as a compiled loop, at its first use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exprembed.compiled import compiled

Maps = NDArray[np.float32]
_compiled = compiled("nsz", "contract", "reassoc")


@_compiled
def convolve_prelu_max(x: Maps, weight: Maps, bias: Maps, slopes: Maps, out: Maps) -> None:
    """Write max over windows of 2 x 2, 2 apart, of PReLU(bias + 3x3 convolution of three channels).

    Two rows of one channel are made at a time, from four rows of the picture, and never written.

    Args:
        x: (N, H, W, 3).
        weight: (C, 27): of each channel that comes out, three by three of each that goes in.
        bias: (C,).
        slopes: (C,) what values below zero are multiplied by.
        out: (N, ceil((H - 2) / 2), ceil((W - 2) / 2), C); the last windows are cut off where the map ends.
    """
    height, width = x.shape[1:3]
    rows = np.empty((3, 4, width), np.float32)
    best = np.empty(width - 2, np.float32)
    whole = len(best) // 2
    for n in range(len(x)):
        for i in range(out.shape[1]):
            for r in range(4):
                source = x[n, min(2 * i + r, height - 1)]
                for channel in range(3):
                    line = rows[channel, r]
                    for j in range(width):
                        line[j] = source[j, channel]
            alone = 2 * i + 3 >= height  # an odd last row
            places = out[n, i]
            for c in range(len(bias)):
                _two_rows(rows[0], rows[1], rows[2], weight[c], bias[c], slopes[c], alone, best)
                for k in range(whole):
                    places[k, c] = max(best[2 * k], best[2 * k + 1])
                if len(best) > 2 * whole:
                    places[whole, c] = best[2 * whole]


@_compiled
def _two_rows(red: Maps, green: Maps, blue: Maps, w: Maps, bias: float, slope: float, alone: bool, best: Maps) -> None:
    """Write the larger of two rows' values at each place; of the first alone where there is no second."""
    r0, r1, r2, r3 = red[0], red[1], red[2], red[3]
    g0, g1, g2, g3 = green[0], green[1], green[2], green[3]
    b0, b1, b2, b3 = blue[0], blue[1], blue[2], blue[3]
    # Numbers of their own, so that they stay in registers.
    u0, u1, u2, u3, u4, u5, u6, u7, u8 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8]
    v0, v1, v2, v3, v4, v5, v6, v7, v8 = w[9], w[10], w[11], w[12], w[13], w[14], w[15], w[16], w[17]
    w0, w1, w2, w3, w4, w5, w6, w7, w8 = w[18], w[19], w[20], w[21], w[22], w[23], w[24], w[25], w[26]
    for x in range(len(best)):
        upper = bias + _three(u0, u1, u2, r0, x) + _three(u3, u4, u5, r1, x) + _three(u6, u7, u8, r2, x)
        upper += _three(v0, v1, v2, g0, x) + _three(v3, v4, v5, g1, x) + _three(v6, v7, v8, g2, x)
        upper += _three(w0, w1, w2, b0, x) + _three(w3, w4, w5, b1, x) + _three(w6, w7, w8, b2, x)
        lower = bias + _three(u0, u1, u2, r1, x) + _three(u3, u4, u5, r2, x) + _three(u6, u7, u8, r3, x)
        lower += _three(v0, v1, v2, g1, x) + _three(v3, v4, v5, g2, x) + _three(v6, v7, v8, g3, x)
        lower += _three(w0, w1, w2, b1, x) + _three(w3, w4, w5, b2, x) + _three(w6, w7, w8, b3, x)
        upper = upper if upper > 0 else upper * slope
        lower = lower if lower > 0 else lower * slope
        best[x] = upper if alone or upper > lower else lower


@_compiled
def _three(a: float, b: float, c: float, row: Maps, x: int) -> float:
    total: float = a * row[x] + b * row[x + 1] + c * row[x + 2]
    return total
