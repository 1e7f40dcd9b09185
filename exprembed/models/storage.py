"""Models by name, and weights on disk: one .safetensors and one card .json each, never pickle."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exprembed.data.preprocessing import Preprocessing
from exprembed.errors import BadInputError, WrongUseError, unknown_name
from exprembed.files import atomic_path, sha256_of, write_json
from exprembed.models import MODELS
from exprembed.models.base import Embedder, check_device

FORMAT = 1
DEFAULT_WEIGHTS = "fecnet_ferplus_16d"
ONNX = ".onnx"
# What a card must say of its origin; the rest is filled in by `save_model`.
STATED = ("licence", "training_data", "training_data_licence", "intended_use", "scores")
NOT_STATED = "not stated"


def create_model(name: str, **options: Any) -> Embedder:  # noqa: ANN401 - the model's own arguments
    """Build an untrained model by its registered name.

    Raises:
        WrongUseError: an unknown name or argument; the nearest valid one is in the message.
    """
    import inspect

    cls = MODELS.get(name)
    known = inspect.signature(cls).parameters
    for option in options:
        if option not in known:
            raise unknown_name(f"argument of {cls.__name__}", option, known)
    return cls(**options)


def list_models() -> list[str]:
    """Return the registered names of all models, sorted."""
    return list(MODELS.items())


def _folder() -> Path:
    return Path(str(resources.files("exprembed") / "weights"))


def list_weights() -> list[str]:
    """Return the names of the packaged weights, sorted."""
    return sorted(path.stem for path in _folder().glob("*.safetensors"))


def weights_card(name_or_path: str | Path | None = None) -> dict[str, Any]:
    """Return the card of packaged weights by name, of a file by path, or of the default; an ONNX file holds its own."""
    weights = _find(name_or_path)
    if weights.suffix == ONNX:
        from exprembed.models.onnx import onnx_card

        return onnx_card(weights)
    path = _card_path(weights)
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInputError(f"the weights have no card: {path} is absent; weights and card travel together") from error
    except (OSError, ValueError) as error:
        raise BadInputError(f"the card {path} cannot be read: {error}") from error
    missing = {
        "format",
        "model",
        "config",
        "preprocessing",
        "sha256",
        "embedding_dim",
        "metric",
        "example",
        *STATED,
    } - set(card)
    if missing:
        raise BadInputError(f"the card {path} lacks {', '.join(sorted(missing))}")
    if card["format"] != FORMAT:
        raise BadInputError(f"the card {path} has format {card['format']!r}; this version reads {FORMAT}")
    return dict(card)


def load_model(name_or_path: str | Path | None = None, device: str = "cpu") -> Embedder:
    """Load a trained model in evaluation mode.

    Args:
        name_or_path: a packaged name, a path to a .safetensors file or to an exported .onnx file, or None for the
            packaged default.
        device: where to put it, "cpu", "cuda" or "cuda:1"; an ONNX model runs on the CPU.

    Raises:
        WrongUseError: no such packaged weights (with the nearest name), no such device.
        MissingExtraError: an ONNX file without onnxruntime.
        BadInputError: a missing or broken file or card, or a checksum that does not match the card's.

    Example:
        >>> load_model().embedding_dim
        16
    """
    from safetensors.torch import load_file

    place, path = check_device(device), _find(name_or_path)
    if path.suffix == ONNX:
        from exprembed.models.onnx import load_onnx

        if device != "cpu":
            raise WrongUseError(f"{path} runs on the CPU; for device={device!r} load the .safetensors weights")
        return load_onnx(path)
    card = weights_card(path)
    found = sha256_of(path)
    if found != card["sha256"]:
        raise BadInputError(
            f"{path} has SHA-256 {found[:12]}... where its card says {str(card['sha256'])[:12]}...: not the file of this card"
        )
    model = create_model(card["model"], **card["config"])
    model.preprocessing = Preprocessing.from_dict(card["preprocessing"])
    model.metric = card["metric"]
    try:
        state = {key: value.float() if value.is_floating_point() else value for key, value in load_file(path).items()}
        model.load_state_dict(state)
    except Exception as error:  # safetensors' own error type and torch's RuntimeError both mean: not these weights
        raise BadInputError(
            f"{path} does not hold the weights of {card['model']} with {card['config']}: {error}"
        ) from error
    model.eval()
    return model.to(place)


def save_model(model: Embedder, path: str | Path, card: dict[str, Any] | None = None, half: bool = False) -> Path:
    """Write `path` (.safetensors) and its card (.json beside it), each replaced atomically.

    The card holds the definition, the preprocessing, the checksum, the date, one input (a synthetic face, PNG) with
    the embedding that the stored weights give for it, and what the caller states: licence, training data and its
    licence, intended use, measured scores; what is not stated says so.

    Args:
        model: any registered embedder.
        path: where to write; a missing suffix is added, another one raises WrongUseError.
        card: what to state; keys outside the known ones are kept.
        half: store float16, which halves the file; the stored embedding is computed from the rounded weights.
    """
    from safetensors.torch import save_file

    target = Path(path)
    target = target if target.suffix else target.with_suffix(".safetensors")
    if target.suffix != ".safetensors":
        raise WrongUseError(f"weights are written as .safetensors; got {target.name!r}")
    if MODELS.items().get(model.registered_name) is not type(model):
        raise WrongUseError(f"{type(model).__name__} is not registered; file it with @MODELS.register(name) to save it")
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    if half:
        state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    stored = create_model(model.registered_name, **model.config)
    stored.preprocessing, stored.metric = model.preprocessing, model.metric
    stored.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in state.items()})
    with atomic_path(target) as temporary:
        save_file(state, temporary, metadata={"exprembed": str(FORMAT)})
    full = {
        "format": FORMAT,
        "model": model.registered_name,
        "config": model.config,
        "preprocessing": model.preprocessing.to_dict(),
        "embedding_dim": model.embedding_dim,
        "metric": model.metric,
        "classes": list(model.classes),
        "sha256": sha256_of(target),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "date": date.today().isoformat(),
        **dict.fromkeys(STATED, NOT_STATED),
        **(card or {}),
        "example": stored_example(stored),
    }
    write_json(_card_path(target), full)
    return target


def example_difference(model: Embedder, card: dict[str, Any]) -> float:
    """Return the largest difference between the card's stored embedding and what `model` gives for its stored input."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(card["example"]["image"])))
    given = model.embed(model.preprocess(picture))[0].cpu().numpy()
    return float(np.abs(given - np.asarray(card["example"]["embedding"])).max())


def stored_example(model: Embedder) -> dict[str, Any]:
    """Return one input (a synthetic face, PNG) and the embedding that `model` gives for it."""
    from PIL import Image

    from exprembed.data.synthetic import render_faces

    images, _ = render_faces(8, subjects=1, seed=0, size=max(48, model.preprocessing.size))
    buffer = io.BytesIO()
    picture = Image.fromarray(images[-1])
    picture.save(buffer, format="PNG")
    vector = model.embed(model.preprocess(picture))[0]
    return {"image": base64.b64encode(buffer.getvalue()).decode(), "embedding": [round(float(v), 7) for v in vector]}


def _card_path(weights: Path) -> Path:
    return weights.with_suffix(".json")


def _find(name_or_path: str | Path | None) -> Path:
    if name_or_path is None:
        name_or_path = DEFAULT_WEIGHTS
    path = Path(name_or_path)
    if path.suffix in (".safetensors", ONNX) or len(path.parts) > 1:
        if not path.is_file():
            raise BadInputError(f"there is no weights file {path}")
        return path
    packaged = _folder() / f"{name_or_path}.safetensors"
    if not packaged.is_file():
        raise unknown_name("weights", name_or_path, list_weights())
    return packaged


def load_matching(
    model: Embedder, path: str | Path, prefixes: Sequence[str] = ("backbone.", "trunk.", "regressor.")
) -> list[str]:
    """Copy the parts of stored weights that fit `model` by name and shape; return the names copied.

    Raises:
        BadInputError: nothing under the prefixes fits, so that training would silently start from scratch.
    """
    from safetensors.torch import load_file

    found = _find(path)
    own = model.state_dict()
    stored = {
        key: value.float() if value.is_floating_point() else value
        for key, value in load_file(found).items()
        if key.startswith(tuple(prefixes)) and key in own and own[key].shape == value.shape
    }
    if not any(value.ndim for value in stored.values()):  # counters of batch norms fit everything and mean nothing
        raise BadInputError(f"{found} holds nothing that fits this model under {', '.join(prefixes)}")
    with torch.no_grad():
        for key, value in stored.items():
            own[key].copy_(value)
    return sorted(stored)
