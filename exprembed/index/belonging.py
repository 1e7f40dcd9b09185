"""What an index belongs to: a device, the model that embedded its vectors, and the files it was saved as."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from exprembed.errors import BadInputError, WrongUseError
from exprembed.index.store import ITEMS, VECTORS, Manifest

if TYPE_CHECKING:
    from exprembed.index.expression_index import ExpressionIndex

METRICS = ("l2", "cosine")


def check_device(device: str) -> None:
    """Raise WrongUseError for another device than this release searches on."""
    if device != "cpu":
        raise WrongUseError(f"device {device!r}: this release searches on the CPU; use device='cpu'")


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
