"""Embedders: one file per system; backbones and heads that they share; saving and loading."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from exprembed.registry import Registry

if TYPE_CHECKING:
    from exprembed.models.backbones import BackboneFactory
    from exprembed.models.base import Embedder

MODELS: Registry[type[Embedder]] = Registry("model", "exprembed.models")
BACKBONES: Registry[BackboneFactory] = Registry("backbone", "exprembed.models")

_HOMES = {
    "Embedder": "base",
    "EmbedderOutput": "base",
    "create_backbone": "backbones",
    "create_model": "storage",
    "list_models": "storage",
    "load_model": "storage",
    "list_weights": "storage",
    "weights_card": "storage",
    "ContrastiveEmbedder": "contrastive",
    "contrastive_delta": "gcnet",
    "embed_faces": "embedding",
    "OnnxEmbedder": "onnx",
    "export_onnx": "onnx",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    if name in _HOMES:
        return getattr(importlib.import_module(f"exprembed.models.{_HOMES[name]}"), name)
    if name.startswith("__"):
        raise AttributeError(name)
    found = MODELS.exports().get(name)
    if found is None:
        raise AttributeError(f"module 'exprembed.models' has no attribute {name!r}")
    return found
