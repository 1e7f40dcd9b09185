"""The pictures of the pages on losses: a toy in the plane before and after each loss, or the loss as a curve.

Free points go down the gradient of the loss itself, called as in training, plus a weak spring from each point to where
it began, so that nothing collapses. Weights are larger than one would train with, to be seen. All of it is seeded: the
same versions of torch and matplotlib draw the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import typer
from pytorch_metric_learning.reducers import DoNothingReducer, SumReducer
from torch import Tensor
from torch.nn import functional

from evaluation._loss_toy import (
    CLASSES,
    COLORS,
    LIMITS,
    SHADES,
    border,
    called,
    centered,
    descend,
    fitted,
    means,
    plane,
    png,
    pulls,
    recalls,
    regions,
    shades,
    toy,
)
from exprembed import losses
from exprembed.cli import script
from exprembed.errors import unknown_name
from exprembed.files import atomic_path
from exprembed.miners import CategoryTripletMiner
from exprembed.plots.losses import Curves, Plane, curve_panels, plane_panels
from exprembed.plots.style import FAINT, INK, expression_color

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES: dict[str, Callable[[], Figure]] = {}
NAMES = {name: (color, "o") for name, color in zip(CLASSES, COLORS, strict=True)}
CENTER = {"centre": ("#FFFFFF", "s")}
RING = "$\\circ$"
SUM = SumReducer()


def picture(draw: Callable[[], Figure]) -> Callable[[], Figure]:
    """File a drawing under its name, that of the loss."""
    PICTURES[draw.__name__] = draw
    return draw


@picture
def no_anchor_triplet() -> Figure:
    """Draw faces that come to lie in the order in which triplets compare them."""
    rng = np.random.default_rng(1)
    shade, start = np.sort(rng.uniform(-1, 1, 60)), torch.tensor(rng.normal(0, 0.5, (60, 2)))
    triplets = rng.permuted(np.tile(np.arange(60), (2000, 1)), axis=1)[:, :3]
    rows, values = np.arange(len(triplets)), shade[triplets]
    odd = np.abs(3 * values - values.sum(axis=1, keepdims=True)).argmax(axis=1)
    columns = (*np.array([[1, 2], [0, 2], [0, 1]])[odd].T, odd)
    a, b, c = (torch.tensor(triplets[rows, column]) for column in columns)
    loss = losses.NoAnchorTripletLoss(margin=0.2)
    after = descend(called(loss, indices_tuple=(a, b, c), weight=60), start, 0.01, 0.03, 600)
    panels = []
    for title, x in (("before", start.numpy()), ("after", after)):
        pair, other, third = (np.linalg.norm(x[i] - x[j], axis=1) for i, j in ((a, b), (a, c), (b, c)))
        held = 100 * (pair < np.minimum(other, third)).mean()
        panels.append(Plane(title, x, shades(shade), note=f"{held:.0f} % of the triplets hold"))
    return plane_panels(panels, {}, scale=(SHADES, "very sad", "very happy"))


@picture
def category_triplet_miner() -> Figure:
    """Draw which negatives each mode keeps for one anchor and one positive."""
    rng, margin = np.random.default_rng(4), 0.2
    others = rng.uniform(-1.1, 1.1, (90, 2))
    others = others[np.linalg.norm(others, axis=1) > 0.12][:70]
    pair = np.array([[0.0, 0.0], [0.48, 0.36]])
    x, y = torch.tensor(np.concatenate([pair, others])), torch.tensor([0, 0] + [1] * 70)
    panels = []
    for mode in ("all", "hard", "semihard"):
        anchor, positive, negative = CategoryTripletMiner(mode, margin)(x, y)
        kept = set(negative[(anchor == 0) & (positive == 1)].tolist())
        radii = (0.6, 0.6 + margin) if mode == "semihard" else (0.6,)
        options: dict[str, Any] = {
            "hollow": [row not in kept for row in range(2, 72)],
            "centers": pair,
            "center_colors": [INK, COLORS[0]],
            "circles": [(0.0, 0.0, radius, FAINT) for radius in radii],
        }
        panels.append(Plane(mode, others, [COLORS[1]] * 70, note=f"{len(kept)} of 70 negatives", **options))
    names = {"anchor": (INK, "s"), "positive": (COLORS[0], "s"), "negative, kept": (COLORS[1], "o")}
    return plane_panels(panels, names | {"left out": (COLORS[1], RING)})


@picture
def center() -> Figure:
    """Draw centres that find their classes, and classes that gather at them."""
    x, y = toy()
    start = torch.tensor([[0.3, 0.2], [5.0, 3.6], [0.1, 3.8]])
    loss, trail = centered(losses.CenterLoss(3, 2, alpha=0.2, reducer=SUM), start), [start.numpy()]

    def objective(points: Tensor) -> Tensor:
        value: Tensor = loss(points, y)
        trail.append(loss.centers.numpy().copy())
        return value

    after = descend(objective, x)
    ways = {"trails": list(np.stack(trail, axis=1)), "trail_colors": COLORS}
    first = plane("before: centres anywhere", x, y, centers=start)
    return plane_panels([first, plane("after", after, y, centers=loss.centers, **ways)], NAMES | CENTER)


@picture
def center_local() -> Figure:
    """Draw the class means of batches, and classes that gather at them."""
    x, y = toy()
    rng, loss = np.random.default_rng(0), losses.CenterLocalLoss(reducer=SUM)
    seen: list[Tensor] = []

    def objective(points: Tensor) -> Tensor:
        batch = torch.tensor(rng.choice(len(points), 24, replace=False))
        seen.append(means(points[batch].detach(), y[batch]))
        value: Tensor = loss(points[batch], y[batch])
        return value

    after = descend(objective, x, spring=0.08)
    first, last = (torch.stack(part, dim=1) for part in (seen[:6], seen[-6:]))
    panels = [
        plane("before: the means of six batches", x, y, centers=first),
        plane("after: the means of the last six", after, y, centers=last),
    ]
    return plane_panels(panels, NAMES | {"class mean of a batch": CENTER["centre"]})


@picture
def island() -> Figure:
    """Draw centres that turn away from each other, as seen from the origin."""
    x, y = toy()
    start = means(x, y)
    loss = centered(losses.IslandLoss(3, 2, lambda_island=1.0, alpha=0.1, reducer=SUM), start)
    after = descend(called(loss, y), x)
    panels = []
    for title, points, centers in (("before", x, start), ("after", after, loss.centers)):
        unit = functional.normalize(centers)
        angles = [float((unit[i] @ unit[j]).arccos().rad2deg()) for i, j in ((0, 1), (0, 2), (1, 2))]
        note = "angles between centres: " + ", ".join(f"{angle:.0f}°" for angle in angles)
        panels.append(plane(title, points, y, centers=centers, rays=True, note=note))
    return plane_panels(panels, NAMES | CENTER | {"origin": (INK, "+")})


@picture
def euclidean_island() -> Figure:
    """Draw centres that move apart until they are the margin away from each other."""
    (x, y), margin = toy(), 2.6
    start = means(x, y)
    loss = centered(losses.EuclideanIslandLoss(3, 2, margin, lambda_island=1.0, reducer=SUM), start)
    after = descend(called(loss, y), x)
    panels = []
    for title, points, centers in (("before", x, start), ("after", after, loss.centers)):
        circles = [(*place, margin / 2, color) for place, color in zip(centers.tolist(), COLORS, strict=True)]
        panels.append(plane(title, points, y, centers=centers, circles=circles))
    return plane_panels(panels, NAMES | CENTER | {"circle of radius m / 2": (FAINT, RING)})


@picture
def subclass() -> Figure:
    """Draw classes that gather at several centres, and what the margin does to the centres nobody chose."""
    x, y = toy()
    start = torch.tensor(np.random.default_rng(5).normal([2.4, 1.8], 0.9, (3, 3, 2)))
    panels = [plane("before, K = 3", x, y, centers=start)]
    choices: tuple[tuple[str, dict[str, float]], ...] = (
        ("without margin", {}),
        ("with margin", {"margin": 0.5, "lambda_margin": 0.05}),
    )
    for title, options in choices:
        loss = centered(losses.SubclassLoss(3, 2, 3, reducer=SUM, **options), start)
        after = descend(called(loss, y), x)
        panels.append(plane(title, after, y, centers=loss.centers))
    return plane_panels(panels, NAMES | CENTER)


@picture
def va_center() -> Figure:
    """Draw what center loss does to faces of unusual valence, and what the weights do."""
    rng = np.random.default_rng(3)
    lumps = np.array([[[0.0, 0.0]] * 20 + [[1.0, 1.4]] * 8, [[2.6, 0.2]] * 20 + [[1.5, -1.2]] * 8])
    x = torch.tensor((lumps + rng.normal(0, 0.38, lumps.shape)).reshape(-1, 2))
    y = torch.arange(2).repeat_interleave(28)
    usual, noise = np.tile(np.arange(28) < 20, 2), rng.normal(0, 0.1, 56)
    valence = (np.where((y.numpy() == 0) == usual, 0.8, -0.8) + noise).clip(-1, 1)
    va, class_va = torch.tensor(np.stack([valence, np.zeros(56)], axis=1)), [[0.8, 0.0], [-0.8, 0.0]]
    weights = (2 * np.sqrt(2) - np.abs(valence - np.array(class_va)[y, 0])) ** 2 / 4
    look: dict[str, Any] = {"colors": shades(valence), "markers": ["o^"[label] for label in y]}
    panels = [Plane("before", x.numpy(), **look)]
    plain = centered(losses.CenterLoss(2, 2, reducer=SUM), means(x, y))
    weighted = centered(losses.VACenterLoss(2, 2, class_va=class_va, reducer=SUM), means(x, y))
    noted = f"weights: usual {weights[usual].mean():.1f}, unusual {weights[~usual].mean():.1f}"
    runs: list[tuple[str, Any, dict[str, Any], str]] = [
        ("center loss", plain, {}, "weights: 1.0"),
        ("VA-weighted", weighted, {"valence_arousal": va}, noted),
    ]
    for title, loss, given, note in runs:
        after = descend(called(loss, y, **given), x, 0.5)
        squares = {"centers": loss.centers.numpy(), "center_colors": ["#FFFFFF"] * 2}
        panels.append(Plane(title, after, note=note, **look, **squares))
    names = {"labelled happiness": (FAINT, "o"), "labelled sadness": (FAINT, "^")}
    return plane_panels(panels, names | CENTER, scale=(SHADES, "valence −1", "1"))


@picture
def pair_contrastive() -> Figure:
    """Draw pairs of one class that attract, and pairs of two that keep a margin."""
    x, y = toy()
    panels = [plane("before", x, y)]
    for title, negative in (("positive alone", False), ("both, m = 2.5", True)):
        loss = losses.PairContrastiveLoss(margin=2.5, negative=negative)
        panels.append(plane(title, descend(called(loss, y, weight=80), x), y))
    return plane_panels(panels, NAMES)


@picture
def gcnet() -> Figure:
    """Draw codes of faces and of their generated references under the contrastive term."""
    rng = np.random.default_rng(2)
    faces = rng.normal([1.5, 1.2], [1.1, 0.8], (28, 2))
    start = torch.tensor(np.stack([faces, faces + rng.normal(0, 0.45, (28, 2))]))
    y, z, image = torch.arange(2).repeat_interleave(14), torch.zeros(28, 2), torch.zeros(28, 1)
    loss = losses.GCNetLoss(margin=1.0, reducer=SUM)
    after = descend(lambda codes: loss(z, y, image, image, image, codes=(codes[0], codes[1])), start, 0.05)
    colors = [expression_color(("neutral", "happiness")[label]) for label in y]
    panels = []
    for title, codes in (("before", start.numpy()), ("after, m = 1", after)):
        distances = np.linalg.norm(codes[0] - codes[1], axis=1)
        note = f"mean distance: neutral {distances[:14].mean():.2f}, happiness {distances[14:].mean():.2f}"
        links: dict[str, Any] = {"trails": list(codes.transpose(1, 0, 2)), "trail_colors": colors}
        hollow = [False] * 28 + [True] * 28
        panels.append(Plane(title, codes.reshape(-1, 2), colors * 2, hollow=hollow, note=note, **links))
    names = {name: (expression_color(name), "o") for name in ("neutral", "happiness")}
    return plane_panels(panels, names | {"code of its generated reference": (FAINT, RING)})


@picture
def weighted_cross_entropy() -> Figure:
    """Draw what the weights do to the region of a rare class."""
    rng, counts = np.random.default_rng(0), (240, 80, 16)
    middles = np.array([[0.0, 0.0], [1.7, 0.5], [0.8, 1.6]])
    x = torch.tensor(middles.repeat(counts, axis=0) + rng.normal(0, 0.75, (sum(counts), 2)))
    y = torch.arange(3).repeat_interleave(torch.tensor(counts))
    panels = []
    for title, loss in (("cross entropy", functional.cross_entropy), ("weighted", losses.WeightedCrossEntropy(counts))):
        scores = fitted(called(loss, y), x, 3)
        recall = ", ".join(f"{share:.0f} %" for share in recalls(scores(x), y))
        panels.append(plane(title, x, y, regions=regions(scores), note=f"recall: {recall}"))
    names = {f"{name}, {count} faces": mark for (name, mark), count in zip(NAMES.items(), counts, strict=True)}
    return plane_panels(panels, names, LIMITS)


@picture
def multi_domain_cross_entropy() -> Figure:
    """Draw two data sets that draw the line between two classes elsewhere, and a classifier for each."""
    rng, counts, lines = np.random.default_rng(0), (300, 40), torch.tensor([-0.5, 1.3])
    x = torch.tensor(rng.uniform(LIMITS[::2], LIMITS[1::2], (sum(counts), 2)))
    domains = torch.arange(2).repeat_interleave(torch.tensor(counts))
    y = (x[:, 0] + 0.4 * x[:, 1] + torch.tensor(rng.normal(0, 0.3, len(x))) > lines[domains]).long()
    loss = losses.MultiDomainCrossEntropy.from_counts(torch.bincount(2 * domains + y).view(2, 2))
    pooled = fitted(called(functional.cross_entropy, y), x, 2)
    every = fitted(lambda z: loss(z.view(-1, 2, 2).transpose(0, 1), y, domains), x, 4)
    panels = []
    for j, name in enumerate(("large", "small")):

        def own(points: Tensor, j: int = j) -> Tensor:
            return every(points)[:, 2 * j : 2 * j + 2]

        mine = domains == j
        recall = [np.mean(recalls(scores(x[mine]), y[mine])) for scores in (own, pooled)]
        note = f"mean recall {recall[0]:.0f} %, with one for both {recall[1]:.0f} %"
        options: dict[str, Any] = {"regions": regions(own), "trails": [border(pooled)], "trail_colors": [INK]}
        panels.append(plane(f"{name} data set, its own classifier", x[mine], y[mine], note=note, **options))
    names = {name: NAMES[name] for name in CLASSES[:2]}
    return plane_panels(panels, names | {"border of one classifier for both": (INK, "_")}, LIMITS)


@picture
def va_histogram() -> Figure:
    """Draw training faces in the valence-arousal plane, and the classes' shares in each bin."""
    from matplotlib.colors import to_hex, to_rgb

    rng, bins = np.random.default_rng(0), 10
    middles = np.array([[0.55, 0.15], [-0.5, -0.3], [-0.35, 0.35]]).repeat(150, axis=0)
    va, y = rng.normal(middles, 0.26).clip(-1, 1), torch.arange(3).repeat_interleave(150)
    mixed = losses.VAHistogram(va, y, bins=bins).probabilities.numpy() @ np.array([to_rgb(color) for color in COLORS])
    cells = np.array([[to_hex(color) for color in row] for row in mixed.transpose(1, 0, 2)])
    panels = [
        plane("training faces", va, y, note="valence →, arousal ↑"),
        Plane(f"P(class | bin), {bins} bins", np.empty((0, 2)), [], regions=cells, note="a mixed colour: mixed shares"),
    ]
    return plane_panels(panels, NAMES, (-1, 1, -1, 1))


@picture
def focal() -> Figure:
    """Draw focal loss and its pull over the probability of the true class."""
    p = np.linspace(0.01, 0.99, 99)
    drawn = {}
    for gamma in (0, 1, 2, 5):
        name = f"γ = {gamma}" if gamma else "γ = 0: cross entropy"
        loss = losses.FocalLoss(gamma, reducer=DoNothingReducer())
        drawn[name] = pulls(loss, p, torch.zeros(len(p), dtype=torch.long))
    return loss_and_pull(p, drawn, "loss", "p of the true class", (0, 4))


@picture
def soft_label() -> Figure:
    """Draw cross entropy against a target share."""
    return against_share(losses.SoftLabelLoss(reducer=DoNothingReducer()), (0, 3))


@picture
def logit() -> Figure:
    """Draw the squared distance to a target share."""
    return against_share(losses.LogitLoss(reducer=DoNothingReducer()), (0, 1))


def against_share(loss: Any, limits: tuple[float, float]) -> Figure:  # noqa: ANN401 - one of ours
    """Draw a loss and its pull over the predicted share of a class, for three target shares."""
    p = np.linspace(0.005, 0.995, 199)
    targets = {share: torch.tensor([[share, 1 - share]]).double().repeat(len(p), 1) for share in (1.0, 0.75, 0.5)}
    drawn = {f"q = {share:g}": pulls(loss, p, target) for share, target in targets.items()}
    return loss_and_pull(p, drawn, "loss, least where p = q", "p of a class", limits)


def loss_and_pull(
    p: np.ndarray, drawn: dict[str, tuple[np.ndarray, np.ndarray]], title: str, xlabel: str, limits: tuple[float, float]
) -> Figure:
    """Draw values on the left, their least ones dotted, and pulls on the right."""
    values, pull = ({name: pair[i] for name, pair in drawn.items()} for i in (0, 1))
    dots = [(float(p[value.argmin()]), float(value.min())) for value in values.values()]
    left = Curves(title, xlabel, "L", p, values, dots if "least" in title else (), limits=limits)
    return curve_panels([left, Curves("pull on its score, −dL/dz", xlabel, "", p, pull)])


@picture
def ccc() -> Figure:
    """Draw what predictions too small, too large or off by a constant cost."""
    target, loss = np.linspace(-0.8, 0.8, 201), losses.CCCLoss()
    panels = []
    for title, xlabel, steps, factor in (
        ("predictions shrunk or stretched", "prediction / truth", np.linspace(0, 2.5, 101), True),
        ("predictions shifted", "shift", np.linspace(-1, 1, 101), False),
    ):
        predicted = target * steps[:, None] if factor else target + steps[:, None]
        pearson = [np.corrcoef(row, target)[0, 1] if row.std() else np.nan for row in predicted]
        lines = {
            "1 − CCC": np.array([loss(*(torch.tensor(v)[:, None] for v in (row, target))) for row in predicted]),
            "mean squared error": ((predicted - target) ** 2).mean(axis=1),
            "1 − Pearson's r": 1 - np.array(pearson),
        }
        panels.append(Curves(title, xlabel, "loss", steps, lines, dashed=list(lines)[1:], limits=(-0.03, 1.05)))
    return curve_panels(panels)


def write(out: Path, names: list[str]) -> None:
    """Draw pictures by name into a folder.

    Raises:
        WrongUseError: an unknown name.
    """
    for name in names:
        if name not in PICTURES:
            raise unknown_name("picture", name, PICTURES)
    for name in names:
        with atomic_path(out / f"{name}.png") as temporary:
            temporary.write_bytes(png(PICTURES[name]()))


def main(
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("docs/losses/pictures"),
    only: Annotated[list[str] | None, typer.Option(help="Draw this one alone; can be given several times.")] = None,
) -> None:
    """Draw the pictures of the pages on losses."""
    write(out, only or list(PICTURES))


if __name__ == "__main__":
    script(main)()
