"""Metric-learning objectives: one file per family, called as in pytorch-metric-learning."""

from __future__ import annotations

import importlib
from typing import Any

from exprembed.registry import Registry

LOSSES: Registry[type] = Registry("loss", "exprembed.losses")

# What belongs with the losses and is none.
_HELPERS = {"CrossBatchMemory": "memory", "EuclideanDistance": "_base", "VAHistogram": "va_histogram"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any registered loss
    if name.startswith("__"):
        raise AttributeError(name)
    if name in _HELPERS:
        return getattr(importlib.import_module(f"exprembed.losses.{_HELPERS[name]}"), name)
    found = LOSSES.exports().get(name)
    if found is None:
        raise AttributeError(f"module 'exprembed.losses' has no attribute {name!r}")
    return found


def __dir__() -> list[str]:
    return sorted(["LOSSES", *_HELPERS, *LOSSES.exports()])
