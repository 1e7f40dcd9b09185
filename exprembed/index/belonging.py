"""What an index belongs to: a device, and the model that embedded its vectors."""

from __future__ import annotations

from typing import Any

from exprembed.errors import WrongUseError


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
