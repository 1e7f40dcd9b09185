"""The rows of the thesis's Tables 3.1, 3.2 and 5.1 to 5.4: what each trains, and what the thesis prints for it on AffectNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Terms = Sequence[Mapping[str, Any]]
SINGLE, PRINTED_SINGLE = "single task", 64.37

WCE: Mapping[str, Any] = {"loss": "weighted_cross_entropy", "input": "logits", "target": "labels"}
CE: Mapping[str, Any] = {**WCE, "loss": "CrossEntropyLoss"}
FOCAL: Mapping[str, Any] = {**WCE, "loss": "focal"}
FELT: Mapping[str, Any] = {"input": "valence_arousal", "target": "valence_arousal"}
REGION: Mapping[str, Any] = {"input": "va_regions", "target": "va_regions"}
MASKS: Mapping[str, Any] = {"loss": "BCEWithLogitsLoss", "input": "masks", "target": "masks"}
SOFT: Mapping[str, Any] = {"loss": "soft_label", "input": "logits", "target": "va_histogram", "bins": 5, "weight": 0.1}
LOGIT: Mapping[str, Any] = {**SOFT, "loss": "logit", "bins": 10, "weight": 1.0}

# Second tasks: the model's argument, and the term of the loss. Regions are trained by plain cross entropy, as section 5.2.1
# says; the weighted one, which Table 5.2 names, all but vanishes where a region holds one face of thousands.
SECOND: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "MSE": ("valence_arousal", {**FELT, "loss": "MSELoss"}),
    "CCC": ("valence_arousal", {**FELT, "loss": "ccc"}),
    "Half (MSE)": ("half", {**REGION, "loss": "MSELoss", "input": "va_shares"}),
    "Half (BCE)": ("half", {**REGION, "loss": "BCEWithLogitsLoss"}),
    "Quarter": ("quarter", {**REGION, "loss": "CrossEntropyLoss"}),
    "Eight": ("eight", {**REGION, "loss": "CrossEntropyLoss"}),
    "Twelve": ("twelve", {**REGION, "loss": "CrossEntropyLoss"}),
}
HEADS = ("classic", "concatenate", "separate")

# The metric losses stand with the weight 0.1, as in `metric_losses`.
METRIC: Mapping[str, Mapping[str, Any]] = {
    "island": {"loss": "island", "input": "embedding", "target": "labels", "weight": 0.1},
} | {
    f"subclass k={k}": {
        "loss": "subclass",
        "input": "embedding",
        "target": "labels",
        "weight": 0.1,
        "options": {"num_subclasses": k, "margin": 0.5, "lambda_margin": 0.1},
    }
    for k in (3, 5)
}


@dataclass(frozen=True)
class Trial:
    """What a row changes of the recipe `multitask-small`.

    Attributes:
        objectives: the terms of the loss.
        model: arguments of the model.
        sampler: arguments of the sampler.
        svm: score an SVM on the embeddings too.
    """

    objectives: Terms
    model: Mapping[str, Any] = field(default_factory=lambda: {"second_task": None})
    sampler: Mapping[str, Any] = field(default_factory=dict)
    svm: bool = False


def second_task(name: str, head: str = "classic", first: Mapping[str, Any] = WCE, extra: Terms = ()) -> Trial:
    """Return the row of a second task under a head, by default beside weighted cross entropy."""
    kind, term = SECOND[name]
    return Trial((first, term, *extra), {"second_task": kind, "head": head}, svm=bool(extra))


def _sampled(first: Mapping[str, Any], second: str, sampler: Mapping[str, Any]) -> Trial:
    terms = (first, {**REGION, "loss": second})
    return Trial(terms, {"second_task": "eight", "head": "concatenate"}, sampler)


_EXPRESSION: Mapping[str, Any] = {"power": 1.0}
_AGE: Mapping[str, Any] = {"power": 1.0, "by": "age", "bins": 5}
_WEIGHTED = "weighted_cross_entropy"

TRIALS: dict[str, Trial] = {
    "single task": Trial((WCE,)),
    "single task, CE": Trial((CE,)),
    "single task, soft loss": Trial((WCE, SOFT)),
    "single task, logit loss": Trial((WCE, LOGIT)),
    **{f"{name}, {head}": second_task(name, head) for name in SECOND for head in HEADS},
    "masks": Trial((WCE, MASKS), {"second_task": None, "masks": True}),
    "WCE, WCE": _sampled(WCE, _WEIGHTED, {}),
    "WCE, WCE, expression sampler": _sampled(WCE, _WEIGHTED, _EXPRESSION),
    "WCE, WCE, age sampler": _sampled(WCE, _WEIGHTED, _AGE),
    "CE, WCE, expression sampler": _sampled(CE, _WEIGHTED, _EXPRESSION),
    "CE, CE, expression sampler": _sampled(CE, "CrossEntropyLoss", _EXPRESSION),
    "focal, WCE": _sampled(FOCAL, _WEIGHTED, {}),
    "focal, focal": _sampled(FOCAL, "focal", {}),
    **{
        f"{name}, {head} + {metric}": second_task(name, head, extra=(term,))
        for name in ("CCC", "Eight")
        for head in HEADS
        for metric, term in METRIC.items()
    },
}

_PRINTED_51 = {
    "MSE": (64.8, 64.74, None),
    "CCC": (65.63, 65.43, 65.2),
    "Half (MSE)": (None, 64.89, None),
    "Half (BCE)": (None, 65.26, None),
    "Quarter": (65.14, 65.63, None),
    "Eight": (65.86, 65.97, 65.43),
    "Twelve": (None, 65.11, None),
}
_PRINTED_53 = {
    ("CCC", "island"): (65.6, 65.57, None),
    ("CCC", "subclass k=3"): (None, 64.89, None),
    ("CCC", "subclass k=5"): (65.77, 65.43, 65.71),
    ("Eight", "island"): (65.25, 65.2, None),
    ("Eight", "subclass k=3"): (None, 64.86, None),
    ("Eight", "subclass k=5"): (64.37, 65.69, 65.69),
}

# Title -> rows with the thesis's accuracy; the CCCs of two rows are those of its Table 6.3.
TABLES: Mapping[str, Mapping[str, float | None]] = {
    "Table 3.1: plain and weighted cross entropy": {"single task, CE": None, "single task": 64.37},
    "Table 3.2: soft and logit loss": {
        "single task": 64.37,
        "single task, soft loss": 64.68,
        "single task, logit loss": 65.05,
    },
    "Table 5.1: second tasks and heads": {
        "single task": 64.37,
        **{
            f"{name}, {head}": value
            for name, values in _PRINTED_51.items()
            for head, value in zip(HEADS, values, strict=True)
        },
    },
    "Section 5.1.2: masks of eyes and mouth": {"single task": 64.37, "masks": None},
    "Table 5.2: samplers and focal loss (eight sectors, concatenated)": {
        "WCE, WCE": 65.97,
        "WCE, WCE, expression sampler": 60.74,
        "WCE, WCE, age sampler": 62.86,
        "CE, WCE, expression sampler": 62.77,
        "CE, CE, expression sampler": 62.43,
        "focal, WCE": 64.0,
        "focal, focal": 64.74,
    },
    "Table 5.3: multi-task and metric losses": {
        f"{name}, {head} + {metric}": value
        for (name, metric), values in _PRINTED_53.items()
        for head, value in zip(HEADS, values, strict=True)
    },
}
PRINTED_CCC = {"MSE, classic": (75.2, 57.2), "CCC, classic": (76.8, 65.1)}
# Table 5.4: the softmax's accuracy and the SVM's. The thesis does not name the heads; the softmax's numbers do, but for two.
PRINTED_SVM = {
    "Eight, classic + island": (65.25, 65.71),
    "Eight, concatenate + subclass k=5": (65.69, 65.63),
    "CCC, classic + island": (65.6, 65.69),
    "CCC, classic + subclass k=5": (65.77, 65.8),
}
# What is run first where time is short: the thesis's own cells of Table 5.1, and the masks.
MAIN = [name for name, value in TABLES["Table 5.1: second tasks and heads"].items() if value is not None] + ["masks"]
