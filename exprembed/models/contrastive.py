"""The delta of any embedder against any reference: how a face differs from its person at rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from exprembed.errors import BadInputError, WrongUseError, unknown_name
from exprembed.models.base import Embedder, EmbedderOutput
from exprembed.models.gcnet import GCNet, contrastive_delta

REFERENCES = ("generated", "subject_mean")


class ContrastiveEmbedder(Embedder):
    """Embeds a face as the delta of its vector against a reference's (GCNet's equation 2, for any embedder).

    delta = | e(X)/||e(X)|| - e(Xr)/||e(Xr)|| |, with e the base's `represent` and Xr

    - "generated": G(X) of the base, if it is a GCNet, else of `generator`;
    - "subject_mean": the mean of e(X)/||e(X)|| over all faces of the same person in the call, `embed(images, subjects=...)`;
    - a face: a path, PIL image or uint8 array, that person's neutral face, for all images.

    Of a GCNet, e is its encoder's code, so that with "generated" the delta is its own embedding. A generated reference is
    as its GCNet sees faces: grey and, with its default backbone, equalised; `generator` for a base that is not should be
    trained without CLAHE. Not in the paper, whose delta is of its own encoder alone.

    Args:
        base: any embedder.
        reference: "generated", "subject_mean", or a face.
        generator: the GCNet that makes the reference faces where the base is none.

    Raises:
        WrongUseError: an unknown kind of reference, or "generated" without a GCNet.
        BadInputError: a face that cannot be read.

    Example:
        >>> import numpy as np
        >>> from exprembed import FECNet
        >>> face, neutral = np.full((48, 48), 90, np.uint8), np.full((48, 48), 200, np.uint8)
        >>> model = ContrastiveEmbedder(FECNet(backbone="resnet10_grey48"), reference=neutral)
        >>> deltas = model.embed(model.preprocess([face, neutral]))
        >>> tuple(deltas.shape), round(float(deltas[1].norm()), 4)
        ((2, 16), 0.0)
    """

    def __init__(self, base: Embedder, reference: Any = "generated", generator: GCNet | None = None) -> None:  # noqa: ANN401
        named = isinstance(reference, str) and len(Path(reference).parts) < 2 and not Path(reference).suffix
        if named and reference not in REFERENCES:
            raise unknown_name("reference (or face)", reference, REFERENCES)
        source = base if generator is None and isinstance(base, GCNet) else generator
        if named and reference == "generated" and source is None:
            raise WrongUseError(
                f"{type(base).__name__} generates no reference face; pass generator=, a trained GCNet, or another reference"
            )
        self.kind = reference if named else "face"
        config = {"base": base.fingerprint, "reference": self.kind}
        dim = base.represent(torch.zeros(0, base.preprocessing.channels, *[base.preprocessing.size] * 2)).shape[1]
        super().__init__(config, base.preprocessing, dim)
        self.base = base
        self.source = source if self.kind == "generated" and source is not base else None
        self.register_buffer(
            "face", None if named else base.represent(base.preprocess(reference)).cpu(), persistent=False
        )
        if self.face is not None and len(self.face) != 1:
            raise BadInputError(f"one reference face is due; got {len(self.face)}")

    face: Tensor | None

    def forward(self, images: Tensor) -> EmbedderOutput:
        """Return the deltas of what `preprocess` gave; not with "subject_mean", which needs `embed(images, subjects=...)`."""
        if self.kind == "subject_mean":
            raise WrongUseError('the reference "subject_mean" needs to know who is who: embed(images, subjects=[...])')
        self.check(images)
        if self.kind == "generated" and self.source is None:
            return EmbedderOutput(self.base(images).embedding)  # that is GCNet's own
        vectors = self.base.represent(images)
        if self.face is not None:
            return EmbedderOutput(contrastive_delta(vectors, self.face.to(vectors).expand_as(vectors)))
        return EmbedderOutput(contrastive_delta(vectors, self.base.represent(self.reference(images))))

    def reference(self, images: Tensor) -> Tensor:
        """Return the generated reference faces of what `preprocess` gave, as the base takes them."""
        if self.kind != "generated":
            raise WrongUseError(f"no reference face is generated with the reference {self.kind!r}")
        if self.source is None:
            return self.base.reference(images)  # type: ignore[no-any-return, operator]  # a GCNet, see __init__
        own, other = self.base.preprocessing, self.source.preprocessing
        low, high = own.value_range
        mean, std = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) for v in (own.mean, own.std))
        pixels = ((images * std + mean - low) / (high - low)).clamp(0, 1)
        faces = self.source.reference(other.normalize(_fitted(pixels, other.channels, other.size)))
        return own.normalize(_fitted(self.source.generator.pixels(faces).clamp(0, 1), own.channels, own.size))

    def embed(self, images: Tensor, batch_size: int = 256, subjects: Sequence[Any] | None = None) -> Tensor:
        """Return the deltas (N, d); `subjects` (N,) name who each face shows, for the reference "subject_mean".

        Raises:
            WrongUseError: subjects without that reference, or that reference without subjects.
            BadInputError: not one subject a face, or a missing one.
        """
        if (self.kind == "subject_mean") != (subjects is not None):
            raise WrongUseError(f"subjects go with the reference 'subject_mean', and only with it; it is {self.kind!r}")
        if subjects is None:
            return super().embed(images, batch_size)
        who = pd.Series(list(subjects))
        if len(who) != len(images) or who.isna().any():
            raise BadInputError(f"one subject a face is due: {len(images)} faces, {int(who.notna().sum())} subjects")
        units = functional.normalize(self.base.represent(images, batch_size), dim=1)
        codes = torch.from_numpy(pd.factorize(who)[0]).to(units.device)
        people = int(codes.max()) + 1 if len(codes) else 0
        sums = torch.zeros(people, units.shape[1], device=units.device).index_add_(0, codes, units)
        return contrastive_delta(units, sums[codes])

    def distance(self, images: Tensor, subjects: Sequence[Any] | None = None) -> Tensor:
        """Return how far each face is from its reference: (N,) ||delta||, in [0, 2]."""
        length: Tensor = self.embed(images, subjects=subjects).norm(dim=1)
        return length

    def save(self, path: str | Path, card: dict[str, Any] | None = None, half: bool = False) -> NoReturn:
        """Refuse: nothing here is learnt; save the base and the generator."""
        raise WrongUseError("a ContrastiveEmbedder has no weights of its own: save its base (and its generator)")


def _fitted(pixels: Tensor, channels: int, size: int) -> Tensor:
    """Return pixels of [0, 1] with another number of channels and another side."""
    if pixels.shape[1] != channels:
        luma = torch.tensor([0.299, 0.587, 0.114], device=pixels.device).view(1, 3, 1, 1)
        pixels = pixels.expand(-1, 3, -1, -1) if channels == 3 else (pixels * luma).sum(dim=1, keepdim=True)
    if pixels.shape[-1] == size:
        return pixels
    return functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
