"""exprembed: short vectors whose distances mean how alike two facial expressions look to people.

The public names load on first use, so that `import exprembed` costs neither torch nor faiss.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load_model": "exprembed.models",
    "create_model": "exprembed.models",
    "list_models": "exprembed.models",
    "ContrastiveEmbedder": "exprembed.models",
    "embed": "exprembed.pipeline",
    "ExpressionIndex": "exprembed.index",
    "SearchResult": "exprembed.index",
    "KNNClassifier": "exprembed.index",
    "AVFromEmbedding": "exprembed.index",
    "summarize_album": "exprembed.index",
    "AlbumSummary": "exprembed.index",
    "FaceTable": "exprembed.data",
    "TripletTable": "exprembed.data",
    "Preprocessing": "exprembed.data",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    if name.startswith("_"):
        raise AttributeError(f"module 'exprembed' has no attribute {name!r}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    from exprembed.models import MODELS

    found = MODELS.exports().get(name)
    if found is None:
        raise AttributeError(f"module 'exprembed' has no attribute {name!r}")
    return found


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__"])
