"""Losses over triplets and pairs as compiled loops: a small batch takes less time than torch's calls alone would."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exprembed.compiled import compiled

Floats = NDArray[np.floating[Any]]
_compiled = compiled("nsz", "contract", "reassoc")


@_compiled
def hinges(x: Floats, rows: NDArray[np.int64], margins: Floats, found: Floats, weights: Floats) -> None:
    """Fill in the hinges of each triplet, and what its pairs' differences weigh in the gradient.

    Args:
        x: (B, D).
        rows: (3, T) rows a, b and odd of x.
        margins: (T,), or (1,) for all.
        found: (T,) receives max(0, d(a,b) - d(a,odd) + m) + max(0, d(a,b) - d(b,odd) + m).
        weights: (3, T) receives the derivative by each distance over the distance, 0 where that is 0.
    """
    last = len(margins) - 1
    for t in range(rows.shape[1]):
        a, b, odd = rows[0, t], rows[1, t], rows[2, t]
        near = to_a = to_b = x[0, 0] * 0
        for i in range(x.shape[1]):
            near += (x[a, i] - x[b, i]) ** 2
            to_a += (x[a, i] - x[odd, i]) ** 2
            to_b += (x[b, i] - x[odd, i]) ** 2
        near, to_a, to_b = np.sqrt(near), np.sqrt(to_a), np.sqrt(to_b)
        reach = near + margins[min(t, last)]
        first, second = reach - to_a, reach - to_b
        found[t] = (0 if first <= 0 else first) + (0 if second <= 0 else second)  # NaN stays
        pull = (first > 0) + (second > 0)
        weights[0, t] = pull / near if near > 0 else 0
        weights[1, t] = -1 / to_a if first > 0 and to_a > 0 else 0
        weights[2, t] = -1 / to_b if second > 0 and to_b > 0 else 0


@_compiled
def gradient(x: Floats, rows: NDArray[np.int64], weights: Floats, pulls: Floats, out: Floats) -> None:
    """Add the gradient to x from that of the hinges.

    Args:
        x: as for `hinges`, like `rows` and `weights`.
        rows: (3, T).
        weights: (3, T).
        pulls: (T,) the gradient to the hinges.
        out: (B, D) zeros.
    """
    for t in range(rows.shape[1]):
        a, b, odd = rows[0, t], rows[1, t], rows[2, t]
        near, to_a, to_b = weights[0, t] * pulls[t], weights[1, t] * pulls[t], weights[2, t] * pulls[t]
        for i in range(x.shape[1]):
            between, from_a, from_b = x[a, i] - x[b, i], x[a, i] - x[odd, i], x[b, i] - x[odd, i]
            out[a, i] += near * between + to_a * from_a
            out[b, i] += to_b * from_b - near * between
            out[odd, i] -= to_a * from_a + to_b * from_b


@_compiled
def pairs(x: Floats, y: NDArray[np.int64], margin: Floats, near: Floats, far: Floats) -> tuple[float, float, int]:
    """Return the sums over pairs of one class and of two, and how many are of one.

    Args:
        x: (B, D).
        y: (B,) classes.
        margin: (1,) m.
        near: (B, B) zeros, receives 1 for pairs of one class: the sum of d^2 / 2 over them is the first sum.
        far: (B, B) zeros, receives -(m - d) / d for pairs of two nearer than m and apart: the sum of (m - d)^2 / 2 over
            those nearer than m is the second. With W either of them, sum_j W_ij (x_i - x_j) is its sum's gradient to x_i.
    """
    of_one = of_two = 0.0
    one = 0
    square = np.zeros(1, x.dtype)  # a bare 0 would make all sums float64
    for i in range(len(x)):
        for j in range(i):
            square[0] = 0
            for k in range(x.shape[1]):
                difference = x[i, k] - x[j, k]
                square[0] += difference * difference
            if y[i] == y[j]:
                one += 1
                of_one += square[0] / 2
                near[i, j] = near[j, i] = 1
            else:
                length = np.sqrt(square[0])
                short = margin[0] - length
                if not short <= 0:  # NaN stays
                    of_two += short * short / 2
                    far[i, j] = far[j, i] = -short / length if length != 0 else 0
    return of_one, of_two, one
