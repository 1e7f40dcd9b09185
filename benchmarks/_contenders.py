"""What `losses.py` times: each loss of exprembed, the plain loop, code on torch.cdist, and relatives in PML."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pytorch_metric_learning import distances, losses, reducers, regularizers
from torch import Tensor, nn
from torch.nn.functional import normalize

import exprembed.losses as ours

MARGIN, PAIR_MARGIN, ISLAND_MARGIN, ISLAND = 0.2, 1.5, 2.0, 0.1
LOOP_BATCH, LOOP_ITEMS = 512, 6000  # a loop over more than this does not end in a sensible time

Triplets = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Size:
    """One place of the grid: B faces of D numbers, C classes."""

    batch: int
    dim: int
    classes: int


class Batch:
    """Unit vectors, labels with at least two faces in each class that occurs, valence and arousal, triplets."""

    def __init__(self, size: Size, device: str) -> None:
        draw = torch.Generator().manual_seed(0)
        n = size.batch
        self.size, self.device = size, device
        self.x = normalize(torch.randn(n, size.dim, generator=draw)).to(device).requires_grad_()
        labels = torch.arange(n) % min(size.classes, max(1, n // 2))
        self.y = labels[torch.randperm(n, generator=draw)].to(device)
        self.va = (2 * torch.rand(n, 2, generator=draw) - 1).to(device)
        self._draw = draw

    def triplets(self, count: int) -> Triplets:
        """Return rows a, b, odd, the three of a triplet different."""
        n = self.size.batch
        first = torch.randint(n, (count,), generator=self._draw)
        steps = torch.randint(1, n - 1, (2, count), generator=self._draw).sort(dim=0).values
        second, third = (first + steps[0]) % n, (first + steps[1] + 1) % n
        return first.to(self.device), second.to(self.device), third.to(self.device)


class Contender:
    """Forward and backward of one loss."""

    def __init__(self, forward: Callable[[], Tensor], leaves: Iterable[Tensor]) -> None:
        self.forward, self.leaves = forward, list(leaves)

    def step(self) -> Tensor:
        """Run once, gradients cleared before; return the loss."""
        for leaf in self.leaves:
            leaf.grad = None
        loss = self.forward()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss


Maker = Callable[[], Contender]
Relatives = dict[str, Maker]


@dataclass(frozen=True)
class Case:
    """A loss at a size: how to make each contender; `pml` are relatives, `same_terms` those that have all of its terms."""

    loss: str
    detail: str
    make: Maker
    cdist: Maker
    loop: Maker | None
    pml: Relatives
    same_terms: Relatives


def cases(batch: Batch, subclasses: Iterable[int] = (1, 10), triplets: Iterable[int] = ()) -> list[Case]:
    """Return the losses at the size of the batch; `triplets` are multiples of B, and none leaves that loss out."""
    size, x, y = batch.size, batch.x, batch.y
    shape = (size.classes, size.dim)

    def case(
        loss: Any,  # noqa: ANN401 - makes one of ours
        cdist: Callable[..., Tensor],
        loop: Callable[..., Tensor],
        items: int,
        pml: Relatives,
        same_terms: Relatives | None = None,
        extra: tuple[Tensor, ...] = (),
        detail: str = "",
        **call: Any,  # noqa: ANN401
    ) -> Case:
        def module() -> Any:  # noqa: ANN401 - the same centres each time
            torch.manual_seed(0)
            return loss().to(batch.device)

        def make() -> Contender:
            ready = module()
            return Contender(lambda: ready(x, y, **call), [x])

        def plain(formula: Callable[..., Tensor]) -> Contender:
            held = getattr(module(), "centers", None)
            centers = () if held is None else (nn.Parameter(held.detach().clone()),)
            return Contender(lambda: formula(x, y, *centers, *extra), [x, *centers])

        name = loss.func.__name__
        looped = partial(plain, loop) if size.batch <= LOOP_BATCH and items <= LOOP_ITEMS else None
        return Case(name, detail, make, partial(plain, cdist), looped, pml, same_terms or {})

    def named(*names: str, index: Triplets | None = None) -> Relatives:
        return {name: partial(relative, name, batch, index) for name in names}

    n, pairs = size.batch, size.classes**2
    proxies = named("SoftTripleLoss (K = 1)", "ProxyNCALoss", "NormalizedSoftmaxLoss")
    apart = named("ProxyNCALoss + RegularFaceRegularizer", "NormalizedSoftmaxLoss + RegularFaceRegularizer")
    euclid = partial(ours.EuclideanIslandLoss, *shape, ISLAND_MARGIN, ISLAND)
    va = partial(ours.VACenterLoss, *shape)
    found = [
        case(partial(ours.CenterLoss, *shape), center_cdist, center_loop, n, proxies),
        case(partial(ours.CenterLocalLoss), local_cdist, local_loop, n, named("NCALoss")),
        case(partial(ours.IslandLoss, *shape, ISLAND), island_cdist, island_loop, n + pairs, proxies, apart),
        case(euclid, euclid_cdist, euclid_loop, n + pairs, proxies, apart),
        case(va, va_cdist, va_loop, n, proxies, extra=(batch.va,), valence_arousal=batch.va),
    ]
    for k in subclasses:
        made = partial(ours.SubclassLoss, *shape, k)
        soft = named(f"SoftTripleLoss (K = {k})")
        found.append(case(made, subclass_cdist, subclass_loop, n * k, soft, detail=f"K = {k}"))
    pair = partial(ours.PairContrastiveLoss, PAIR_MARGIN)
    found.append(case(pair, pair_cdist, pair_loop, n * (n - 1) // 2, named("ContrastiveLoss")))
    for times in triplets:
        index = batch.triplets(times * n)
        one = named(f"TripletMarginLoss (T = {times} B)", index=index)
        both = named(f"TripletMarginLoss (both ends, T = {times} B)", index=index)
        made, detail = partial(ours.NoAnchorTripletLoss, MARGIN), f"T = {times} B"
        items = times * n
        found.append(case(made, triplet_cdist, triplet_loop, items, one, both, index, detail, indices_tuple=index))
    return found


def relative(name: str, batch: Batch, index: Triplets | None) -> Contender:
    """Make one of pytorch-metric-learning's losses: plain distances, a mean over all pairs or triplets, as ours have."""
    c, d = batch.size.classes, batch.size.dim
    l2, mean = partial(distances.LpDistance, normalize_embeddings=False), {"reducer": reducers.MeanReducer()}
    loss_name, _, regularizer = name.partition(" + ")
    base, _, detail = loss_name.partition(" (")
    apart = {"weight_regularizer": regularizers.RegularFaceRegularizer()} if regularizer else {}
    k = int(detail.removeprefix("K = ").rstrip(")")) if detail.startswith("K = ") else 1
    made: dict[str, Callable[[], Any]] = {
        "SoftTripleLoss": lambda: losses.SoftTripleLoss(c, d, centers_per_class=k, **apart),
        "ProxyNCALoss": lambda: losses.ProxyNCALoss(c, d, distance=l2(power=2), **apart),
        "NormalizedSoftmaxLoss": lambda: losses.NormalizedSoftmaxLoss(c, d, **apart),
        "NCALoss": lambda: losses.NCALoss(distance=l2(power=2)),
        "ContrastiveLoss": lambda: losses.ContrastiveLoss(neg_margin=PAIR_MARGIN, distance=l2(), **mean),
        "TripletMarginLoss": lambda: losses.TripletMarginLoss(margin=MARGIN, distance=l2(), **mean),
    }
    loss = made[base]().to(batch.device)
    if index is not None and "both ends" in name:
        a, b, odd = index
        index = (torch.cat([a, b]), torch.cat([b, a]), torch.cat([odd, odd]))
    return Contender(lambda: loss(batch.x, batch.y, indices_tuple=index), [batch.x, *loss.parameters()])


# What tutorials write: a distance of everything to everything, and a mask. ------------------------------------------


def center_cdist(x: Tensor, y: Tensor, centers: Tensor) -> Tensor:
    """(B, C) squared distances, of which one in each row counts."""
    own = y[:, None] == torch.arange(len(centers), device=y.device)
    return (torch.cdist(x, centers).square() * own).sum() / (2 * len(x))


def local_cdist(x: Tensor, y: Tensor) -> Tensor:
    """Class means from a (B, C) mask."""
    member = (y[:, None] == torch.unique(y)).to(x.dtype)
    means = member.T @ x / member.sum(dim=0)[:, None]
    total: Tensor = (torch.cdist(x, means).square() * member).sum()
    return total / (2 * len(x))


def island_cdist(x: Tensor, y: Tensor, centers: Tensor) -> Tensor:
    """All cosines of centres."""
    cosines = normalize(centers) @ normalize(centers).T
    apart = 1 - torch.eye(len(centers), device=x.device)
    return center_cdist(x, y, centers) + ISLAND * ((cosines + 1) * apart).sum()


def euclid_cdist(x: Tensor, y: Tensor, centers: Tensor) -> Tensor:
    """All distances of centres."""
    hinges = (ISLAND_MARGIN - torch.cdist(centers, centers)).clamp(min=0).square()
    apart = 1 - torch.eye(len(centers), device=x.device)
    return center_cdist(x, y, centers) + ISLAND * (hinges * apart).sum()


def va_cdist(x: Tensor, y: Tensor, centers: Tensor, va: Tensor) -> Tensor:
    """Weights from the batch's class means, then as center_cdist."""
    own = (y[:, None] == torch.arange(len(centers), device=y.device)).to(x.dtype)
    means = own.T @ va / own.sum(dim=0).clamp(min=1)[:, None]
    weights = (8**0.5 - (torch.cdist(va, means) * own).sum(dim=1)).square() / 4
    return (weights * (torch.cdist(x, centers).square() * own).sum(dim=1)).sum() / (2 * len(x))


def subclass_cdist(x: Tensor, y: Tensor, centers: Tensor) -> Tensor:
    """(B, C K) distances, of which the smallest of the own class counts."""
    every = torch.cdist(x, centers.flatten(0, 1)).view(len(x), *centers.shape[:2])
    return every[torch.arange(len(x), device=x.device), y].min(dim=1).values.square().mean() / 2


def pair_cdist(x: Tensor, y: Tensor) -> Tensor:
    """(B, B) distances and two masks."""
    every, same = torch.cdist(x, x), y[:, None] == y
    above = torch.ones_like(same).triu(diagonal=1)
    positive, negative = same & above, ~same & above
    hinges = (PAIR_MARGIN - every).clamp(min=0).square()
    return (every.square() * positive).sum() / (2 * positive.sum()) + (hinges * negative).sum() / (2 * negative.sum())


def triplet_cdist(x: Tensor, y: Tensor, a: Tensor, b: Tensor, odd: Tensor) -> Tensor:
    """(B, B) distances, three of them a triplet."""
    every = torch.cdist(x, x)
    pair = every[a, b] + MARGIN
    return ((pair - every[a, odd]).relu() + (pair - every[b, odd]).relu()).mean()


# The equations, one term at a time. ---------------------------------------------------------------------------------


def center_loop(x: Tensor, y: Tensor, centers: Tensor) -> Tensor:
    """Face by face."""
    return _total((x[i] - centers[y[i]]).square().sum() for i in range(len(x))) / (2 * len(x))


def local_loop(x: Tensor, y: Tensor) -> Tensor:
    """Class by class, then face by face."""
    means = {int(c): x[y == c].mean(dim=0) for c in torch.unique(y)}
    return _total((x[i] - means[int(y[i])]).square().sum() for i in range(len(x))) / (2 * len(x))


def island_loop(x: Tensor, y: Tensor, centers: Tensor) -> Tensor:
    """Face by face, then pair by pair of centres."""
    pairs = _ordered(len(centers))
    cosines = (centers[j] @ centers[k] / (centers[j].norm() * centers[k].norm()) + 1 for j, k in pairs)
    return center_loop(x, y, centers) + ISLAND * _total(cosines)


def euclid_loop(x: Tensor, y: Tensor, centers: Tensor) -> Tensor:
    """Face by face, then pair by pair of centres."""
    gaps = ((ISLAND_MARGIN - (centers[j] - centers[k]).norm()).clamp(min=0) for j, k in _ordered(len(centers)))
    return center_loop(x, y, centers) + ISLAND * _total(gap.square() for gap in gaps)


def va_loop(x: Tensor, y: Tensor, centers: Tensor, va: Tensor) -> Tensor:
    """Class by class, then face by face."""
    means = {int(c): va[y == c].mean(dim=0) for c in torch.unique(y)}
    weights = ((8**0.5 - (va[i] - means[int(y[i])]).norm()).square() / 4 for i in range(len(x)))
    terms = (weight * (x[i] - centers[y[i]]).square().sum() for i, weight in enumerate(weights))
    return _total(terms) / (2 * len(x))


def subclass_loop(x: Tensor, y: Tensor, centers: Tensor) -> Tensor:
    """Face by face, centre by centre."""
    nearest = (min((x[i] - center).square().sum() for center in centers[y[i]]) for i in range(len(x)))
    return _total(nearest) / (2 * len(x))


def pair_loop(x: Tensor, y: Tensor) -> Tensor:
    """Pair by pair."""
    positive, negative = [], []
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            distance = (x[i] - x[j]).norm()
            if y[i] == y[j]:
                positive.append(distance.square())
            else:
                negative.append((PAIR_MARGIN - distance).clamp(min=0).square())
    return _total(positive) / (2 * len(positive)) + _total(negative) / (2 * len(negative))


def triplet_loop(x: Tensor, y: Tensor, a: Tensor, b: Tensor, odd: Tensor) -> Tensor:
    """Triplet by triplet."""
    terms = []
    for i, j, k in zip(a.tolist(), b.tolist(), odd.tolist(), strict=True):
        pair = (x[i] - x[j]).norm() + MARGIN
        terms.append((pair - (x[i] - x[k]).norm()).relu() + (pair - (x[j] - x[k]).norm()).relu())
    return _total(terms) / len(terms)


def _total(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum()


def _ordered(count: int) -> list[tuple[int, int]]:
    return [(j, k) for j in range(count) for k in range(count) if j != k]
