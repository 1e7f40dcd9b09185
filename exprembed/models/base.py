"""What every embedder is: images in, short vectors out, with its preprocessing, metric and weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from exprembed.data.preprocessing import Preprocessing
from exprembed.errors import WrongUseError, unknown_name


@dataclass
class EmbedderOutput:
    """What a forward pass gives.

    Attributes:
        embedding: (B, d) the vectors whose distances are meant.
        logits: (B, C) class scores before softmax or sigmoid, or (J, B, C) where each of J domains has a classifier of
            its own; None where the model has no classifier.
        valence_arousal: (B, 2); None where the model does not regress them.
        parts: further outputs by name, (B, ...) tensors or tuples of them: what objectives aim at, or what a loss takes
            beside its input in training, by the name of its argument.
        penalties: terms that the model itself adds to the loss in training, each a scalar.
    """

    embedding: Tensor
    logits: Tensor | None = None
    valence_arousal: Tensor | None = None
    parts: dict[str, Any] = field(default_factory=dict)
    penalties: dict[str, Tensor] = field(default_factory=dict)

    def named(self, name: str) -> Any:  # noqa: ANN401 - a tensor, or a tuple of them
        """Return an output by its name, that of an attribute or of a part; WrongUseError where the model gives none."""
        own = {"embedding": self.embedding, "logits": self.logits, "valence_arousal": self.valence_arousal}
        given = {key: value for key, value in (own | self.parts).items() if value is not None}
        if name not in given:
            raise unknown_name("output of this model", name, given)
        return given[name]


class Embedder(nn.Module):
    """Base of every model: backbone + embedding + heads.

    A subclass is filed with `@MODELS.register("<name>")`, passes its constructor's arguments as `config`, and defines
    `features` (what a frozen backbone gives, cached once) and `from_features` (the part that trains).

    Attributes:
        preprocessing: what `embed` and `forward` demand of their input.
        embedding_dim: d.
        metric: the distance that the embedding is meant for, "l2" or "cosine".
        classes: names of the logits, in order; empty where there are none.
        domains: data sets with a classifier of their own -> their classes; empty where one classifier serves all.
        va_regions: division of the valence-arousal plane whose regions the model classifies; None where it does not.
        frozen: the backbone's weights and statistics do not move in training.
    """

    registered_name: ClassVar[str] = ""
    metric: str = "l2"

    def __init__(
        self, config: dict[str, Any], preprocessing: Preprocessing, embedding_dim: int, classes: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.config = config
        self.preprocessing = preprocessing
        self.embedding_dim = embedding_dim
        self.classes = tuple(classes)
        self.domains: dict[str, tuple[str, ...]] = {}
        self.va_regions: str | None = None
        self.frozen = False

    def features(self, images: Tensor) -> Tensor:
        """Return the backbone's maps (B, F, h, w) of normalised images (B, C, H, W)."""
        raise NotImplementedError

    def from_features(self, maps: Tensor) -> EmbedderOutput:
        """Return the output from the backbone's maps (B, F, h, w)."""
        raise NotImplementedError

    def training_output(self, images: Tensor, references: Tensor | None = None) -> EmbedderOutput:
        """Return the output that a training step sees, of normalised images and, where the data have them, their references.

        Models that train against references override it; a frozen backbone computes no gradient.
        """
        with torch.set_grad_enabled(not self.frozen):
            maps = self.features(images)
        return self.from_features(maps)

    def frozen_modules(self) -> Iterator[nn.Module]:
        """Yield the parts that `frozen` holds still."""
        yield from ()

    def start(self, maps: np.ndarray, labels: np.ndarray, domains: np.ndarray) -> None:
        """Set new layers from a frozen backbone's maps before training; models that can override it."""
        raise WrongUseError(f"{type(self).__name__} has no linear start; CAKE and AVK have (say start: drawn)")

    def forward(self, images: Tensor) -> EmbedderOutput:
        """Return the output for what `preprocess` gave; anything else raises BadInputError with the fix."""
        self.preprocessing.check(images)
        if self.frozen:
            with torch.no_grad():
                maps = self.features(images)
        else:
            maps = self.features(images)
        return self.from_features(maps)

    def preprocess(self, images: Any, layout: str = "HWC") -> Tensor:  # noqa: ANN401 - one image or many, of three kinds
        """Return what `embed` takes, from face crops: paths, PIL images or uint8 arrays, one or a list."""
        return self.prepare(torch.from_numpy(self.preprocessing.pixels(images, layout)))

    def prepare(self, pixels: Tensor) -> Tensor:
        """Return what `embed` takes, from (N, C, S, S) uint8 crops as `Preprocessing.pixels` gives them."""
        return self.preprocessing.normalize(pixels.to(next(self.parameters()).device))

    def check(self, images: Any) -> None:  # noqa: ANN401 - whatever a user passes
        """Raise BadInputError unless `images` is what `preprocess` gives."""
        self.preprocessing.check(images)

    def embed(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Return the embeddings (N, d) of what `preprocess` gave, in evaluation mode and without gradients."""
        self.check(images)
        if len(images) == 0:
            return torch.empty(0, self.embedding_dim)
        with evaluation_mode(self), torch.inference_mode():
            parts = [self(block).embedding for block in torch.split(images, batch_size)]
        return torch.cat(parts).clone()

    def represent(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Return the vectors (N, d) that a contrast is taken of: the embeddings, unless a model says otherwise."""
        return self.embed(images, batch_size)

    def train(self, mode: bool = True) -> Embedder:
        """Set the mode; what is frozen stays in evaluation mode, so that its statistics do not drift."""
        super().train(mode)
        if self.frozen:
            for module in self.frozen_modules():
                module.eval()
        return self

    def freeze(self, frozen: bool = True) -> Embedder:
        """Hold the backbone still (or let it move again)."""
        self.frozen = frozen
        for module in self.frozen_modules():
            module.requires_grad_(not frozen)
        return self.train(self.training)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the definition and every weight: vectors of two models may only be mixed when these agree."""
        definition = {
            "model": self.registered_name,
            "config": self.config,
            "preprocessing": self.preprocessing.to_dict(),
        }
        digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path, card: dict[str, Any] | None = None, half: bool = False) -> Path:
        """Write weights (safetensors) and card (JSON) beside each other; see `exprembed.models.storage.save_model`."""
        from exprembed.models.storage import save_model

        return save_model(self, path, card, half)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Run a block with `model` in evaluation mode and restore its mode afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def check_dimension(name: str, value: int, least: int = 1) -> int:
    """Return a size argument, or raise WrongUseError when it is below `least` or no whole number."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise WrongUseError(f"{name} must be a whole number of at least {least}; got {value!r}")
    return value


def check_device(name: str) -> torch.device:
    """Return a torch device that is there, or raise WrongUseError."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (AssertionError, NotImplementedError, RuntimeError) as error:  # torch's ways to say that it has none
        there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise WrongUseError(f"no device {name!r} here; there is {', '.join(there)}") from error
    return device


def arguments(scope: dict[str, Any]) -> dict[str, Any]:
    """Return a constructor's arguments from its `locals()`, JSON-ready: what rebuilds the model from its card."""
    own = {key: value for key, value in scope.items() if key not in ("self", "__class__")}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in own.items()}
