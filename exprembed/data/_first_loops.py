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
    length = _in_lanes(width - 2)
    rows = np.zeros((3, 4, length + 2), np.float32)
    first, larger = np.empty(length, np.float32), np.empty(length, np.float32)
    whole, single = (width - 2) // 2, width % 2
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
                _two_rows(rows[0], rows[1], rows[2], weight[c], bias[c], slopes[c], first, larger)
                best = first if alone else larger
                for k in range(whole):
                    places[k, c] = max(best[2 * k], best[2 * k + 1])
                if single:
                    places[whole, c] = best[2 * whole]


@_compiled
def convolve_prelu_max_of_three(x: Maps, weight: Maps, bias: Maps, slopes: Maps, out: Maps) -> None:
    """Write the same over windows of 3 x 3, 2 apart, of small pictures.

    A picture's even rows lie end to end, and so do its odd ones, and each are gone through as one: what the end of one row
    makes with the beginning of the next is thrown away, which costs less than to begin anew with every row.

    Args:
        x: (N, H, W, 3), H even, H and W at least 4.
        weight: (C, 27).
        bias: (C,).
        slopes: (C,).
        out: (N, ceil((H - 3) / 2), ceil((W - 3) / 2), C); the last windows are cut off where the map ends.
    """
    pairs, width = x.shape[1] // 2 - 1, x.shape[2]  # pairs of rows of the map
    asked = pairs * width
    length = _in_lanes(asked)
    rows = np.zeros((3, 4, length + width + 2), np.float32)
    first, larger = np.empty(length + width, np.float32), np.empty(length, np.float32)
    third = first[width:]
    for n in range(len(x)):
        for channel in range(3):
            even, odd, next_even, next_odd = rows[channel]
            for i in range(pairs + 1):
                upper, lower = x[n, 2 * i], x[n, 2 * i + 1]
                to_even, to_odd = even[i * width :], odd[i * width :]
                for j in range(width):
                    to_even[j] = upper[j, channel]
                    to_odd[j] = lower[j, channel]
            next_even[:asked] = even[width : width + asked]
            next_odd[:asked] = odd[width : width + asked]
        for c in range(len(bias)):
            _two_rows(rows[0], rows[1], rows[2], weight[c], bias[c], slopes[c], first[:length], larger)
            first[asked:] = -np.inf  # one row more than the map has, less than all others
            for j in range(length):
                larger[j] = larger[j] if larger[j] > third[j] else third[j]
            for i in range(out.shape[1]):
                best, places = larger[i * width : (i + 1) * width], out[n, i]
                best[-2:] = -np.inf
                for k in range(out.shape[2]):
                    places[k, c] = max(max(best[2 * k], best[2 * k + 1]), best[min(2 * k + 2, width - 1)])


@_compiled
def _in_lanes(length: int) -> int:
    """Return a length that no loop has a remainder of: single numbers take as long as many at a time."""
    return (length + 15) // 16 * 16


@_compiled
def _two_rows(
    red: Maps, green: Maps, blue: Maps, w: Maps, bias: float, slope: float, first: Maps, larger: Maps
) -> None:
    """Write, of two rows of a map that four rows of each colour make, the first, and the larger at each place."""
    r0, r1, r2, r3 = red[0], red[1], red[2], red[3]
    g0, g1, g2, g3 = green[0], green[1], green[2], green[3]
    b0, b1, b2, b3 = blue[0], blue[1], blue[2], blue[3]
    # Numbers of their own, so that they stay in registers.
    u0, u1, u2, u3, u4, u5, u6, u7, u8 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8]
    v0, v1, v2, v3, v4, v5, v6, v7, v8 = w[9], w[10], w[11], w[12], w[13], w[14], w[15], w[16], w[17]
    w0, w1, w2, w3, w4, w5, w6, w7, w8 = w[18], w[19], w[20], w[21], w[22], w[23], w[24], w[25], w[26]
    for x in range(len(larger)):
        upper = bias + _three(u0, u1, u2, r0, x) + _three(u3, u4, u5, r1, x) + _three(u6, u7, u8, r2, x)
        upper += _three(v0, v1, v2, g0, x) + _three(v3, v4, v5, g1, x) + _three(v6, v7, v8, g2, x)
        upper += _three(w0, w1, w2, b0, x) + _three(w3, w4, w5, b1, x) + _three(w6, w7, w8, b2, x)
        lower = bias + _three(u0, u1, u2, r1, x) + _three(u3, u4, u5, r2, x) + _three(u6, u7, u8, r3, x)
        lower += _three(v0, v1, v2, g1, x) + _three(v3, v4, v5, g2, x) + _three(v6, v7, v8, g3, x)
        lower += _three(w0, w1, w2, b1, x) + _three(w3, w4, w5, b2, x) + _three(w6, w7, w8, b3, x)
        upper = upper if upper > 0 else upper * slope
        lower = lower if lower > 0 else lower * slope
        first[x] = upper
        larger[x] = upper if upper > lower else lower


@_compiled
def _three(a: float, b: float, c: float, row: Maps, x: int) -> float:
    total: float = a * row[x] + b * row[x + 1] + c * row[x + 2]
    return total
