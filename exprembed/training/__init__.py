"""The one training loop and its recipes."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Recipe": "recipe",
    "load_recipe": "recipe",
    "list_recipes": "recipe",
    "train": "run",
    "fit": "run",
    "TrainingResult": "run",
    "cache_features": "features",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    if name in _HOMES:
        return getattr(importlib.import_module(f"exprembed.training.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'exprembed.training' has no attribute {name!r}")
