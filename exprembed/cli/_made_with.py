"""With which weights an index was built: noted beside it, found again, compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from exprembed.errors import BadInputError
from exprembed.files import write_json

if TYPE_CHECKING:
    from exprembed.index import ExpressionIndex

MADE_WITH = "made_with.json"


def check_model(place: Path, held: ExpressionIndex, fingerprint: str | None) -> None:
    """Raise BadInputError where an index holds another model's vectors than those at hand."""
    if held.model is not None and fingerprint is not None and held.model != fingerprint:
        raise BadInputError(
            f"{place} holds vectors of the model {held.model[:12]}..., and these are of {fingerprint[:12]}...; "
            "give the index's own weights with --model"
        )


def note_weights(index: Path, model: str | None) -> None:
    """Note in an index folder where its weights are found again: a packaged name, or a file's absolute path."""
    is_file = model is not None and Path(model).suffix in (".safetensors", ".onnx")
    write_json(index / MADE_WITH, {"model": str(Path(str(model)).absolute()) if is_file else model})


def made_with(index: Path) -> str | None:
    """Return the weights that an index was built with, where `build` noted any."""
    try:
        found = json.loads((index / MADE_WITH).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    model = found.get("model") if isinstance(found, dict) else None
    return model if isinstance(model, str) else None
