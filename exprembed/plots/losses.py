"""What a loss does: points in the plane before and after it, and its value as a curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from exprembed.errors import BadInputError
from exprembed.plots.style import FAINT, INK, SERIES_COLORS, new_figure, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Circle = tuple[float, float, float, str]


@dataclass(frozen=True)
class Plane:
    """One panel of points in the plane.

    Attributes:
        title: text above it.
        points: (N, 2) embeddings, dots.
        colors: (N,) their colours.
        markers: (N,) matplotlib markers; dots where left out.
        hollow: (N,) whether a point is an outline only; none where left out.
        centers: (M, 2), squares.
        center_colors: (M,) their colours.
        trails: (T, 2) the way that something went, a line each, ...
        trail_colors: ... and their colours.
        circles: (x, y, radius, colour), outlines.
        rays: lines from the origin to the centres; the origin itself is then a cross.
        regions: (H, W) colours "#rrggbb" that fill the panel, row 0 at its bottom.
        note: text below it.
    """

    title: str
    points: np.ndarray
    colors: Sequence[str]
    markers: Sequence[str] = ()
    hollow: Sequence[bool] = ()
    centers: np.ndarray | None = None
    center_colors: Sequence[str] = ()
    trails: Sequence[np.ndarray] = ()
    trail_colors: Sequence[str] = ()
    circles: Sequence[Circle] = ()
    rays: bool = False
    regions: np.ndarray | None = None
    note: str = ""


@dataclass(frozen=True)
class Curves:
    """One panel of lines: `lines` name -> (n,) values at `x`; `dots` (x, y) marks on them; `dashed` names drawn so."""

    title: str
    xlabel: str
    ylabel: str
    x: np.ndarray
    lines: Mapping[str, np.ndarray]
    dots: Sequence[tuple[float, float]] = ()
    dashed: Sequence[str] = ()
    limits: tuple[float, float] | None = None


def plane_panels(
    panels: Sequence[Plane],
    names: Mapping[str, tuple[str, str]],
    limits: tuple[float, float, float, float] | None = None,
    scale: tuple[str, str, str] | None = None,
) -> Figure:
    """Draw panels of points side by side, all on one scale.

    Args:
        panels: left to right, "before" first.
        names: what a colour and marker mean, name -> (colour, marker), written below.
        limits: (left, right, bottom, top); what the points need where left out.
        scale: (colour map, text at its low end, text at its high end), where colours mean a number in [-1, 1].

    Raises:
        BadInputError: no panel, points that are not (N, 2), a number of colours that differs.

    Example:
        >>> panel = Plane("before", np.zeros((1, 2)), ["#0072B2"])
        >>> type(plane_panels([panel], {"sadness": ("#0072B2", "o")})).__name__
        'Figure'
    """
    if not panels:
        raise BadInputError("there is no panel to draw")
    for panel in panels:
        if panel.points.ndim != 2 or panel.points.shape[1] != 2 or len(panel.colors) != len(panel.points):
            raise BadInputError(
                f"{panel.title!r} needs (N, 2) points and N colours; got {panel.points.shape} and {len(panel.colors)}"
            )
    left, right, bottom, top = limits or _limits(panels)
    side = 4.0 if len(panels) < 3 else 3.5
    height = side * (top - bottom) / (right - left)
    notes = 0.28 if any(panel.note for panel in panels) else 0.0
    below = 0.42 + notes
    figure = new_figure(side * len(panels) + 0.12 * (len(panels) + 1), height + 0.4 + below)
    width, tall = figure.get_size_inches()
    for place, panel in enumerate(panels):
        x = 0.12 + place * (side + 0.12)
        axes = figure.add_axes((x / width, below / tall, side / width, height / tall))
        _draw_plane(axes, panel)
        axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=FAINT, linewidth=0.8)
        axes.set_title(panel.title, loc="left", fontsize=12, color=INK)
        axes.set_xlabel(panel.note, fontsize=11, color=INK, loc="left")
    _legend(figure, names, scale)
    return figure


def curve_panels(panels: Sequence[Curves]) -> Figure:
    """Draw panels of curves side by side, each with its own scale and the names of its lines inside.

    Raises:
        BadInputError: no panel, or a line whose length differs from that of x.

    Example:
        >>> type(curve_panels([Curves("a line", "x", "y", np.arange(2), {"x": np.arange(2)})])).__name__
        'Figure'
    """
    if not panels:
        raise BadInputError("there is no panel to draw")
    figure = new_figure(4.1 * len(panels), 3.4)
    for place, panel in enumerate(panels):
        axes = figure.add_axes(((place + 0.15) / len(panels), 0.16, 0.82 / len(panels), 0.74))
        plain_axes(axes, panel.title, panel.xlabel, panel.ylabel)
        for number, (name, values) in enumerate(panel.lines.items()):
            if np.shape(values) != np.shape(panel.x):
                raise BadInputError(
                    f"the line {name!r} has {np.size(values)} values; {np.size(panel.x)} are due, one each x"
                )
            style = "--" if name in panel.dashed else "-"
            axes.plot(panel.x, values, style, color=SERIES_COLORS[number % len(SERIES_COLORS)], linewidth=2, label=name)
        for x, y in panel.dots:
            axes.plot(x, y, "o", color=INK, markersize=6, clip_on=False, zorder=4)
        if panel.limits is not None:
            axes.set_ylim(panel.limits)
        axes.legend(fontsize=10, frameon=False, labelcolor=INK, handlelength=1.6)
    return figure


def _draw_plane(axes: Axes, panel: Plane) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Circle as Ring

    if panel.regions is not None:
        picture = np.array([[to_rgb(color) for color in row] for row in panel.regions])
        axes.imshow(
            picture,
            origin="lower",
            extent=(0, 1, 0, 1),
            transform=axes.transAxes,
            alpha=0.22 if len(panel.points) else 0.8,
            zorder=0,
        )
        axes.set_aspect("auto")
    for trail, color in zip(panel.trails, panel.trail_colors, strict=True):
        axes.plot(trail[:, 0], trail[:, 1], color=color, linewidth=1.2, zorder=2)
    for x, y, radius, color in panel.circles:
        axes.add_patch(Ring((x, y), radius, fill=False, color=color, linewidth=1.2, linestyle="--", zorder=2))
    markers = np.array(panel.markers or ["o"] * len(panel.points))
    hollow = np.array(panel.hollow or [False] * len(panel.points))
    colors = np.array(panel.colors)
    for marker in dict.fromkeys(panel.markers or ["o"]):
        for outline in (False, True):
            chosen = (markers == marker) & (hollow == outline)
            face, edge = ("none", colors[chosen]) if outline else (colors[chosen], "white")
            x, y = panel.points[chosen].T
            axes.scatter(
                x, y, s=38, marker=marker, c=face, edgecolors=edge, linewidths=1.3 if outline else 0.5, zorder=3
            )
    if panel.rays:
        axes.plot(0, 0, "+", color=INK, markersize=11, markeredgewidth=1.5, zorder=2)
    if panel.centers is None:
        return
    for (x, y), color in zip(panel.centers, panel.center_colors, strict=True):
        if panel.rays:
            axes.plot([0, x], [0, y], color=color, linewidth=1.4, zorder=2)
        axes.plot(x, y, "s", markersize=10, color=color, markeredgecolor=INK, markeredgewidth=1.6, zorder=4)


def _limits(panels: Sequence[Plane]) -> tuple[float, float, float, float]:
    """Return bounds round all that is drawn, with a margin."""
    shown = [panel.points for panel in panels] + [trail for panel in panels for trail in panel.trails]
    shown += [panel.centers for panel in panels if panel.centers is not None]
    shown += [np.array([[x - r, y - r], [x + r, y + r]]) for panel in panels for x, y, r, _ in panel.circles]
    shown += [np.zeros((1, 2))] if any(panel.rays for panel in panels) else []
    every = np.concatenate(shown)
    low, high = every.min(axis=0), every.max(axis=0)
    room = 0.06 * max(*(high - low), 1e-9)
    return float(low[0] - room), float(high[0] + room), float(low[1] - room), float(high[1] + room)


def _legend(figure: Figure, names: Mapping[str, tuple[str, str]], scale: tuple[str, str, str] | None) -> None:
    from matplotlib.lines import Line2D

    outlined = {"s": INK}
    handles = [
        Line2D(
            [], [], linestyle="", marker=marker, color=color, markersize=8, markeredgecolor=outlined.get(marker, color)
        )
        for color, marker in names.values()
    ]
    if handles:
        legend = figure.legend(
            handles,
            list(names),
            loc="lower left",
            bbox_to_anchor=(0.0, -0.01),
            ncols=len(handles),
            frameon=False,
            fontsize=11,
            handletextpad=0.1,
            columnspacing=1.2,
        )
        for text in legend.get_texts():
            text.set_color(INK)
    if scale is not None:
        width, tall = figure.get_size_inches()
        axes = figure.add_axes((1 - 2.3 / width, 0.16 / tall, 1.0 / width, 0.14 / tall))
        axes.imshow(np.linspace(-1, 1, 64)[None], cmap=scale[0], aspect="auto")
        axes.set(xticks=[], yticks=[])
        for place, end, side in ((-0.05, scale[1], "right"), (1.05, scale[2], "left")):
            axes.text(place, 0.5, end, transform=axes.transAxes, ha=side, va="center", fontsize=11, color=INK)
