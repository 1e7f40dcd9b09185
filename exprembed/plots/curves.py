"""Curves and bars: accuracy over dimensions, AUC over neighbours, rank difference, triplets by type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from exprembed.errors import BadInputError
from exprembed.plots.style import FAINT, INK, SERIES_COLORS, label_line_ends, new_figure, plain_axes, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = Sequence[float] | np.ndarray
Curve = tuple[Series, Series] | tuple[Series, Series, Series]
CHANCE_TRIPLET = 100 / 3


def knn_curve(curves: Mapping[str, Curve], title: str = "", references: Mapping[str, float] | None = None) -> Figure:
    """Draw mean AUC-ROC over the number of neighbours (FEC, Fig. 7).

    Args:
        curves: name -> (k, mean AUC-ROC in %) or (k, mean, standard deviation over seeds).
        title: text above the figure.
        references: name -> AUC-ROC in %, drawn as dotted lines.

    Raises:
        BadInputError: no curve, or one whose parts differ in length.

    Example:
        >>> type(knn_curve({"ours": ([1, 10, 100], [70.0, 80.0, 85.0])})).__name__
        'Figure'
    """
    return _curve_figure(curves, title, "number of neighbours k", "mean AUC-ROC, %", references)


def dimensionality_curve(
    curves: Mapping[str, Curve],
    title: str = "",
    references: Mapping[str, float] | None = None,
    measure: str = "triplet prediction accuracy, %",
) -> Figure:
    """Draw a measure over the dimension of the embedding (FEC, Fig. 4; CAKE, Fig. 4 and 2).

    Args:
        curves: name -> (dimension, accuracy in %) or (dimension, mean, standard deviation over seeds).
        title: text above the figure.
        references: name -> accuracy in %, drawn as dotted lines (the median rater).
        measure: what is drawn, written beside the axis.

    Raises:
        BadInputError: no curve, or one whose parts differ in length.

    Example:
        >>> type(dimensionality_curve({"ours": ([4, 8, 16], [60.0, 65.0, 68.0])}, references={"raters": 88.0})).__name__
        'Figure'
    """
    return _curve_figure(curves, title, "dimensions", measure, references)


def sweep_curve(curves: Mapping[str, Curve], xlabel: str, title: str = "") -> Figure:
    """Draw accuracy over a setting that is varied (GCNet, Fig. 11: the weight of the contrastive term).

    Args:
        curves: name -> (setting, accuracy in %) or (setting, mean, standard deviation).
        xlabel: the setting.
        title: text above the figure.

    Raises:
        BadInputError: no curve, or one whose parts differ in length.

    Example:
        >>> type(sweep_curve({"S1R1": ([0.1, 1.0], [60.0, 65.0])}, "weight")).__name__
        'Figure'
    """
    return _curve_figure(curves, title, xlabel, "accuracy, %", None)


def rank_difference_curve(
    n: Series, values: Series, ours: str = "ours", other: str = "other", title: str = ""
) -> Figure:
    """Draw the rank-difference metric over the number of retrieved images (FEC, Fig. 6).

    Args:
        n: (m,) numbers of retrieved images.
        values: (m,) rank difference in [-1, 1]; above zero `ours` is better.
        ours: name of the embedding that wins above zero.
        other: name of the one that wins below.
        title: text above the figure.

    Raises:
        BadInputError: lengths that differ, or values outside [-1, 1].

    Example:
        >>> type(rank_difference_curve([1, 2, 3], [0.2, 0.3, 0.25])).__name__
        'Figure'
    """
    x, y, _ = _checked("rank difference", (n, values))
    if (np.abs(y[np.isfinite(y)]) > 1).any():
        raise BadInputError(f"a rank difference lies in [-1, 1]; got {y.tolist()}")
    figure = new_figure(7, 4)
    axes = figure.add_axes((0.11, 0.15, 0.86, 0.74))
    plain_axes(axes, title, "number of retrieved images N", "rank difference")
    reach = max(0.1, 1.25 * float(np.nanmax(np.abs(y), initial=0.0)))
    axes.set_ylim(-min(reach, 1.0), min(reach, 1.0))
    axes.axhline(0, color=INK, linewidth=1)
    axes.plot(x, y, color=SERIES_COLORS[0], marker="o", markersize=5, linewidth=2)
    axes.set_xticks(x)
    for text, height, side in ((f"{ours} better", 0.98, "top"), (f"{other} better", 0.02, "bottom")):
        axes.text(0.02, height, text, transform=axes.transAxes, va=side, color=INK, fontsize=10, style="italic")
    return figure


def triplet_bars(
    accuracy: Mapping[str, Mapping[str, float]],
    ceiling: Mapping[str, float] | None = None,
    deviation: Mapping[str, Mapping[str, float]] | None = None,
    title: str = "",
    ceiling_name: str = "median rater",
) -> Figure:
    """Draw triplet prediction accuracy by type, the raters as the ceiling and chance as the floor (FEC, Table 3).

    Args:
        accuracy: embedding -> type -> accuracy in %; the types of the first embedding give the panels.
        ceiling: type -> accuracy of the raters in %.
        deviation: embedding -> type -> standard deviation over seeds.
        title: text above the figure.
        ceiling_name: what the ceiling is ("simulated median rater").

    Raises:
        BadInputError: nothing to draw.

    Example:
        >>> type(triplet_bars({"ours": {"one_class": 60.0, "all": 68.0}}, {"one_class": 85.0, "all": 88.0})).__name__
        'Figure'
    """
    if not accuracy or not next(iter(accuracy.values())):
        raise BadInputError("no accuracy to draw; one embedding with one triplet type at least is due")
    types, names = list(next(iter(accuracy.values()))), list(accuracy)
    rows, height = len(names), 1.3 + 0.36 * len(names)
    figure = new_figure(9, height)
    left = 0.03 + 0.0098 * max(len(name) for name in names)
    width = (0.99 - left) / len(types)
    for place, type_name in enumerate(types):
        box = (left + place * width, 0.5 / height, 0.88 * width, 0.36 * rows / height)
        axes = figure.add_axes(box)
        _bar_panel(axes, [accuracy[name].get(type_name, np.nan) for name in names], deviation, names, type_name)
        axes.set_title(type_name.replace("_", "-"), loc="left", fontsize=11, color=INK)
        axes.set_yticks(range(rows), names if place == 0 else [""] * rows)
        top = (ceiling or {}).get(type_name, np.nan)
        if np.isfinite(top):
            axes.axvline(top, color=INK, linewidth=1.5)
            side = "center" if top < 90 else "right"  # near the edge a centred number would run into the next panel
            axes.text(top, -0.68, f"{top:.1f}", fontsize=10, color=INK, ha=side, va="bottom")
    legend = f"bold line: {ceiling_name}; " if ceiling else ""
    words = f"triplet prediction accuracy, %   ({legend}dotted line: chance, {CHANCE_TRIPLET:.1f})"
    figure.text(left, 0.04 / height, words, fontsize=10, color=INK, va="bottom")
    figure.text(0.02, 1 - 0.08 / height, title, fontsize=12, color=INK, va="top")
    return figure


def _bar_panel(
    axes: Axes,
    values: Sequence[float],
    deviation: Mapping[str, Mapping[str, float]] | None,
    names: Sequence[str],
    type_name: str,
) -> None:
    plain_axes(axes)
    axes.grid(visible=False)
    spreads = [(deviation or {}).get(name, {}).get(type_name, np.nan) for name in names]
    axes.barh(range(len(names)), np.nan_to_num(values), color=SERIES_COLORS[0], height=0.72)
    for place, (value, spread_of) in enumerate(zip(values, spreads, strict=True)):
        if np.isfinite(value):
            axes.text(2, place, f"{value:.1f}", color="white", fontsize=9, va="center", weight="bold")
        if np.isfinite(value) and np.isfinite(spread_of):
            axes.errorbar(value, place, xerr=spread_of, color=INK, linewidth=1.2, capsize=2)
    axes.axvline(CHANCE_TRIPLET, color=INK, linewidth=1, linestyle=":")
    axes.set_xlim(0, 102)
    axes.set_xticks((0, 50))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _curve_figure(
    curves: Mapping[str, Curve], title: str, xlabel: str, ylabel: str, references: Mapping[str, float] | None
) -> Figure:
    if not curves:
        raise BadInputError("no curve to draw; one name with its points at least is due")
    checked = {name: _checked(name, curve) for name, curve in curves.items()}
    figure = new_figure(8, 4.5)
    longest = max(len(line) for name in [*curves, *(references or {})] for line in wrapped(name).split("\n"))
    axes = figure.add_axes((0.1, 0.14, max(0.4, 0.87 - 0.0098 * longest), 0.76))
    plain_axes(axes, title, xlabel, ylabel)
    axes.set_xscale("log", base=2)
    ticks = np.unique(np.concatenate([x for x, _, _ in checked.values()]))
    axes.set_xticks(_thinned(ticks), minor=False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_xlim(ticks[0] / 1.15, ticks[-1] * 1.15)
    ends = []
    for place, (name, (x, y, spread_of)) in enumerate(checked.items()):
        color = SERIES_COLORS[place % len(SERIES_COLORS)]
        axes.plot(x, y, color=color, marker="o", markersize=4.5, linewidth=2)
        axes.fill_between(x, y - spread_of, y + spread_of, color=color, alpha=0.18, linewidth=0)
        finite = np.flatnonzero(np.isfinite(y))
        if len(finite):
            ends.append((float(x[finite[-1]]), float(y[finite[-1]]), name, color))
    for name, height in (references or {}).items():
        axes.axhline(height, color=FAINT, linewidth=1.5, linestyle=":")
        ends.append((float(axes.get_xlim()[1]), height, name, INK))
    _room(axes)
    label_line_ends(axes, ends)
    return figure


def _room(axes: Axes) -> None:
    low, high = axes.get_ylim()
    margin = 0.05 * (high - low)
    axes.set_ylim(low - margin, high + margin)


def _thinned(ticks: np.ndarray, factor: float = 1.4) -> np.ndarray:
    """Keep the ticks of a logarithmic axis that leave room for their numbers, the last one always."""
    kept: list[float] = []
    for tick in ticks[::-1]:
        if not kept or kept[-1] / tick >= factor:
            kept.append(float(tick))
    return np.array(kept[::-1])


def _checked(name: str, curve: Curve) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = np.asarray(curve[0], dtype=float), np.asarray(curve[1], dtype=float)
    spread_of = np.nan_to_num(np.asarray(curve[2], dtype=float)) if len(curve) > 2 else np.zeros_like(y)
    if not (x.ndim == 1 and x.shape == y.shape == spread_of.shape and len(x)):
        raise BadInputError(f"curve {name!r}: x {x.shape} and y {y.shape} must be equally long and not empty")
    order = np.argsort(x)
    return x[order], y[order], spread_of[order]
