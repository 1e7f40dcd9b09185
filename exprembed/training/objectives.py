"""From a recipe's objectives to numbers: each takes the model's output and the batch, and gives one term."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from exprembed.data.loading import Batch, StepDataset
from exprembed.data.regions import region_count
from exprembed.data.tables import TRIPLET_TYPES
from exprembed.errors import BadInputError, WrongUseError, unknown_name
from exprembed.losses import LOSSES
from exprembed.losses.multi_domain import domain_weights
from exprembed.losses.va_histogram import VAHistogram
from exprembed.miners import CategoryTripletMiner
from exprembed.models.base import Embedder, EmbedderOutput
from exprembed.training.recipe import ObjectivePlan


@dataclass(frozen=True)
class Facts:
    """What losses ask to be told of the model and of the training faces.

    Attributes:
        num_classes: C.
        embedding_dim: d.
        class_counts: training faces of each class.
        histogram: bins -> class distributions over the valence-arousal plane; None without faces that carry both.
        class_weights: (J, C) weight of each class in each domain; None where the model does not tell domains apart.
        domain_sizes: (J,) labelled training faces of each domain; None likewise.
        neutral: number of the class "neutral", -1 where there is none.
        teacher_dim: numbers of the teacher's vectors, 0 where the faces carry none.
        counts: training faces of each class of a target whose classes are not the model's own.
    """

    num_classes: int
    embedding_dim: int
    class_counts: list[int]
    histogram: Callable[..., VAHistogram] | None
    neutral: int = -1
    teacher_dim: int = 0
    class_weights: Tensor | None = None
    domain_sizes: Tensor | None = None
    counts: Mapping[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Embedder, steps: StepDataset) -> Facts:
        """Count the training faces."""
        classes = len(model.classes)
        labelled = steps.labels >= 0
        both = labelled & np.isfinite(steps.valence_arousal).all(axis=1)
        felt = steps.valence_arousal[both], steps.labels[both]
        histogram = partial(VAHistogram, *felt, classes) if both.any() else None
        counts = np.bincount(steps.labels[labelled], minlength=classes).tolist()
        neutral = model.classes.index("neutral") if "neutral" in model.classes else -1
        weights, sizes = None, None
        if model.domains:
            cells = steps.domains[labelled] * classes + steps.labels[labelled]
            table = np.bincount(cells, minlength=len(model.domains) * classes).reshape(-1, classes)
            weights, sizes = domain_weights(table, [len(names) for names in model.domains.values()])
        others = {} if model.va_regions is None else {"va_regions": _region_counts(steps.regions, model.va_regions)}
        taught = steps.vectors.shape[1]
        return cls(classes, model.embedding_dim, counts, histogram, neutral, taught, weights, sizes, others)

    def about(self, target: str) -> Facts:
        """Return the facts as a loss on a target is told them: of that target's classes."""
        if target == "va_regions" and target not in self.counts:
            raise WrongUseError("the target va_regions needs a model that classifies regions, as multi_task does")
        counts = self.counts.get(target)
        if counts is None:
            return self
        return replace(self, num_classes=len(counts), class_counts=counts, class_weights=None, domain_sizes=None)


def _region_counts(regions: np.ndarray, kind: str) -> list[int]:
    """Count the training faces of each region; for "half" the faces above 0 on each axis.

    No face is ever of a region without training faces, so that its weight means nothing; counted as the rarest other, it
    leaves the weights of the others as they are.
    """
    if regions.ndim > 1:
        return [int(count) for count in np.nansum(regions, axis=0)]
    counts = np.bincount(regions[regions >= 0], minlength=region_count(kind))
    rarest = counts[counts > 0].min(initial=len(regions))
    return [int(count) or int(rarest) for count in counts]


class Objective(nn.Module):
    """One weighted term of the loss."""

    margins: Tensor | None

    def __init__(self, plan: ObjectivePlan, facts: Facts) -> None:
        super().__init__()
        self.plan = plan
        self.facts = facts.about(plan.target)
        self.loss = _loss(plan, self.facts)
        taken = inspect.signature(self.loss.forward).parameters
        # What a loss takes beside values and labels, by name; True where it cannot do without.
        self.wants = {name: entry.default is entry.empty for name, entry in list(taken.items())[2:]}
        self.histogram = None
        if plan.target == "va_histogram":
            if facts.histogram is None:
                raise BadInputError("the target va_histogram needs faces with expression, valence and arousal")
            self.histogram = facts.histogram(bins=plan.bins)
        if plan.target == "vectors" and not facts.teacher_dim:
            raise BadInputError(
                "the target vectors needs faces with a teacher's vectors, columns v00, v01, ...; they have none"
            )
        self.miner = None if plan.miner is None else CategoryTripletMiner(**plan.miner)
        margins = getattr(self.loss, "type_margins", None)
        table = [margins.get(name, self.loss.margin) for name in TRIPLET_TYPES] if margins else None
        self.register_buffer("margins", None if table is None else torch.tensor(table), persistent=False)

    def forward(self, output: EmbedderOutput, batch: Batch) -> Tensor:
        """Return the term, already weighted."""
        values = output.named(self.plan.input)
        if self.plan.target == "triplets":
            extra = {} if self.margins is None else {"margins": self.margins[batch.types]}
            term = self.loss(values, indices_tuple=tuple(batch.triplets.T), **extra)
        else:
            target, there = self._target(values, batch)
            if target.is_floating_point():
                term = self.loss(values[there], target[there])
            else:
                term = self._on_classes(values, target, there, output, batch)
        weighted: Tensor = self.plan.weight * term
        return weighted

    def _on_classes(self, values: Tensor, classes: Tensor, there: Tensor, output: EmbedderOutput, batch: Batch) -> Any:  # noqa: ANN401 - the loss's own
        if "valence_arousal" in self.wants:
            there = there & batch.valence_arousal.isfinite().all(dim=1)
        values, labels = values[..., there, :], classes[there]  # (B, D), or (J, B, C) of J domains
        told = {**output.parts, "valence_arousal": batch.valence_arousal, "domains": batch.domains}
        extra: dict[str, Any] = {
            name: tuple(part[there] for part in parts) if isinstance(parts, tuple) else parts[there]
            for name, parts in told.items()
            if name in self.wants
        }
        lacking = [name for name, needed in self.wants.items() if needed and name not in extra]
        if lacking:
            raise WrongUseError(
                f"the loss {self.plan.loss!r} takes {', '.join(lacking)}, which this model does not give"
            )
        if self.miner is not None:
            extra["indices_tuple"] = self.miner(values, labels)
        return self.loss(values, labels, **extra)

    def _target(self, values: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the target of every face (whole numbers are classes), and which faces have one."""
        if self.plan.target == "votes":
            return batch.votes, batch.votes.sum(dim=1) > 0
        if self.histogram is not None:
            there = batch.valence_arousal.isfinite().all(dim=1)
            return self.histogram(batch.valence_arousal.nan_to_num()), there
        if self.plan.target == "masks":
            target = functional.interpolate(batch.masks, values.shape[-2:], mode="area")
        else:
            target = {
                "labels": batch.labels,
                "valence_arousal": batch.valence_arousal,
                "va_regions": batch.regions,
                "vectors": batch.vectors,
                "action_units": batch.action_units,
            }[self.plan.target]
        if self.plan.target == "vectors" and target.shape != values.shape:
            raise WrongUseError(
                f"the output {self.plan.input!r} has {values.shape[-1]} numbers a face and the teacher's vectors have "
                f"{target.shape[-1]}; tools/join_vectors.py turns them to as many"
            )
        return target, target.flatten(1).isfinite().all(dim=1) if target.is_floating_point() else target >= 0


def _loss(plan: ObjectivePlan, facts: Facts) -> Any:  # noqa: ANN401 - ours, pytorch-metric-learning's or torch's
    from pytorch_metric_learning import losses as metric_losses

    others = {
        name: getattr(place, name) for place in (nn, metric_losses) for name in dir(place) if name.endswith("Loss")
    }
    if plan.loss not in LOSSES.items() and plan.loss not in others:
        raise unknown_name("loss", plan.loss, [*LOSSES.items(), *others])
    cls: Any = LOSSES.get(plan.loss) if plan.loss in LOSSES.items() else others[plan.loss]
    known = inspect.signature(cls).parameters
    for option in plan.options:
        if option not in known and not any(entry.kind is entry.VAR_KEYWORD for entry in known.values()):
            raise unknown_name(f"argument of {cls.__name__}", option, known)
    facts_given = {entry.name: getattr(facts, entry.name) for entry in fields(facts)}
    given = {name: value for name, value in facts_given.items() if name in known and value is not None}
    lacking = [name for name in ("class_weights", "domain_sizes") if name in known and name not in given | plan.options]
    if lacking:
        raise WrongUseError(f"the loss {plan.loss!r} is for a model with domains, such as cake; or give it {lacking}")
    return cls(**given | plan.options)
