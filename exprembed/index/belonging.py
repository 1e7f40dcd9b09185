"""What an index belongs to: a device, the model that embedded its vectors, and the files it was saved as."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exprembed.errors import BadInputError, WrongUseError
from exprembed.index.store import ITEMS, VECTORS, Manifest

if TYPE_CHECKING:
    from exprembed.index.expression_index import ExpressionIndex

METRICS = ("l2", "cosine")


def check_device(device: str) -> str:
    """Return "cpu", or a GPU that torch sees here; anything else raises WrongUseError."""
    if device == "cpu":
        return device
    if not isinstance(device, str) or not re.fullmatch(r"cuda(:\d+)?", device):
        raise WrongUseError(f"device must be 'cpu', 'cuda' or 'cuda:N'; got {device!r}")
    import torch

    seen = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= seen:
        raise WrongUseError(f"device {device!r}: torch sees {seen or 'no'} GPU here; use device='cpu'")
    return device


def fingerprint_of(model: Any) -> str | None:  # noqa: ANN401 - a model, text or None
    """Return a model's fingerprint; what is neither a model nor its fingerprint raises WrongUseError."""
    fingerprint = model if model is None or isinstance(model, str) else getattr(model, "fingerprint", model)
    if fingerprint is not None and (not isinstance(fingerprint, str) or not fingerprint.strip()):
        raise WrongUseError(f"model must be a model or its fingerprint as text; got {type(fingerprint).__name__}")
    return fingerprint


def check_model(model: Any, dim: int, metric: str, error: type[Exception]) -> None:  # noqa: ANN401 - a model, text or None
    """Raise `error` where a model embeds to another dimension or for another metric."""
    for what, due in (("embedding_dim", dim), ("metric", metric)):
        given = getattr(model, what, due)
        if given != due:
            raise error(f"the model's {what} is {given!r}, the index's is {due!r}")


def check_story(place: Path, manifest: Manifest, index: ExpressionIndex, next_row: int, held: int) -> None:
    """Raise BadInputError where the manifest, the vectors (`held` of them) and the items tell different stories."""
    if index.metric not in METRICS:
        raise BadInputError(f"{place}: the manifest names the unknown metric {index.metric!r}")
    if manifest["dim"] != index.dim:
        raise BadInputError(
            f"{place}: the manifest says dimension {manifest['dim']}, {VECTORS} holds dimension {index.dim}"
        )
    if (manifest["next_row"], manifest["live"]) != (next_row, len(index)):
        raise BadInputError(
            f"{place}: the manifest says {manifest['live']} items of {manifest['next_row']} ever added, "
            f"{ITEMS} holds {len(index)} of {next_row}"
        )
    due = (len(index),) if index.exact else range(len(index), next_row + 1)
    if held not in due:
        raise BadInputError(f"{place}: {ITEMS} lists {len(index)} items, {VECTORS} holds {held} vectors")
