"""The index: who looks alike, which class, which ten pictures tell the album. Names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exprembed.index.albums import AlbumSummary, summarize_album
    from exprembed.index.bursts import best_of_bursts
    from exprembed.index.distributed import ShardedIndex
    from exprembed.index.expression_index import ExpressionIndex
    from exprembed.index.knn import KNNClassifier
    from exprembed.index.results import SearchResult
    from exprembed.index.svm import svm_classifier
    from exprembed.index.valence_arousal import AVFromEmbedding

__all__ = [
    "AVFromEmbedding",
    "AlbumSummary",
    "ExpressionIndex",
    "KNNClassifier",
    "SearchResult",
    "ShardedIndex",
    "best_of_bursts",
    "summarize_album",
    "svm_classifier",
]

_HOMES = {
    "AVFromEmbedding": "valence_arousal",
    "AlbumSummary": "albums",
    "ExpressionIndex": "expression_index",
    "KNNClassifier": "knn",
    "SearchResult": "results",
    "ShardedIndex": "distributed",
    "best_of_bursts": "bursts",
    "summarize_album": "albums",
    "svm_classifier": "svm",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    if name in _HOMES:
        return getattr(importlib.import_module(f"exprembed.index.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'exprembed.index' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
