"""GCNet: the contrastive delta of a face against a generated reference face; its baselines and its pre-training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from exprembed.data.tables import EXPRESSIONS
from exprembed.errors import WrongUseError, unknown_name
from exprembed.models import MODELS
from exprembed.models.backbones import create_backbone
from exprembed.models.base import Embedder, EmbedderOutput, arguments, check_dimension, evaluation_mode
from exprembed.models.generators import (
    GENERATORS,
    WIDTHS,
    AutoencoderGenerator,
    ConvEncoder,
    Generator,
    Switches,
    decoder_for,
    encode_with,
)
from exprembed.models.heads import xavier_init

VARIANTS = ("S0R0", "S1R0", "S0R1", "S1R1")
# The paper's sets: MMI and Oulu-CASIA's six, CK+'s seven (contempt, no neutral face), CK+'s eight.
CLASSES = {6: EXPRESSIONS[1:7], 7: EXPRESSIONS[1:], 8: EXPRESSIONS}


def contrastive_delta(codes: Tensor, references: Tensor) -> Tensor:
    r"""Compare codes with their references', element by element: delta_j = | a_j / ||a|| - b_j / ||b|| |.

    Symbols: a = En(X) and b = En(Xr), rows of two (B, p) tensors; delta (B, p), each number in [0, 2] and
    ||delta|| = ||a/||a|| - b/||b|||| in [0, 2]. The gradient is 0 where both agree; a zero code counts as a zero vector.

    Paper: Kim et al., equation (2) and the sentence after it.

    Example:
        >>> contrastive_delta(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])).round(decimals=2)
        tensor([[0.6000, 0.2000]])
    """
    half = codes.dtype in (torch.float16, torch.bfloat16)
    a, b = (codes.float(), references.float()) if half else (codes, references)
    return (functional.normalize(a, dim=1) - functional.normalize(b, dim=1)).abs()


def code_length(size: int) -> int:
    """Return p = (W / 2)^2 n / 2^n, n = 3 layers, for inputs of W = `size` pixels (section IV.A): 384 at 64; W stops at 64."""
    return min(size, 64) ** 2 // 4 * 3 // 8


def _class_names(num_classes: int | None, classes: Sequence[str] | None) -> tuple[str, ...]:
    if classes is None:
        count = 7 if num_classes is None else num_classes
        if count not in CLASSES:
            raise WrongUseError(
                f"only 6, 7 and 8 classes have names of their own; name yours with classes=[...], not {count}"
            )
        return CLASSES[count]
    if len(set(classes)) < len(classes) or num_classes not in (None, len(classes)):
        raise WrongUseError(f"num_classes={num_classes} and classes={list(classes)} do not fit, or a name is repeated")
    return tuple(classes)


class _Coding(Embedder):
    """Contrastive encoder and classification layer: maps of a backbone, dropout, FC to a code of p numbers, FC to logits."""

    def __init__(self, config: dict[str, Any], classes: Sequence[str]) -> None:
        if not 0 <= config["dropout"] < 1:
            raise WrongUseError(f"dropout must be in [0, 1); got {config['dropout']}")
        net = create_backbone(config["backbone"])
        plan = net.preprocessing
        if config["image_size"] is not None:
            plan = replace(plan, size=check_dimension("image_size", config["image_size"], 8))
        dim = config["embedding_dim"]
        super().__init__(
            config, plan, check_dimension("embedding_dim", code_length(plan.size) if dim is None else dim), classes
        )
        self.backbone = net
        with evaluation_mode(net), torch.no_grad():
            maps = net(torch.zeros(1, plan.channels, plan.size, plan.size))
        self.dropout = nn.Dropout(config["dropout"])
        self.code = nn.Linear(maps.numel(), self.embedding_dim)
        self.classifier = nn.Linear(self.embedding_dim, len(self.classes)) if self.classes else None
        xavier_init(self.code, *([] if self.classifier is None else [self.classifier]))

    def features(self, images: Tensor) -> Tensor:
        """Return the images: a generator needs them whole, so no maps of them are kept."""
        return images

    def encode(self, maps: Tensor, faces: int = 1) -> Tensor:
        """Return the codes of maps (B, F, h, w); with `faces` = 2, those of B / 2 faces and then of their references.

        A face and its reference lose the same numbers by dropout: what two draws lose would stand in their difference.
        """
        flat = maps.flatten(1)
        if self.training:
            flat = flat * self.dropout(torch.ones_like(flat[: len(flat) // faces])).repeat(faces, 1)
        codes: Tensor = self.code(flat)
        return codes

    def logits(self, codes: Tensor) -> Tensor | None:
        """Return the class scores of codes or deltas."""
        return None if self.classifier is None else self.classifier(codes)


@MODELS.register("gcnet")
class GCNet(_Coding):
    """GCNet: embeds a face as the difference of its code from that of a reference face generated from it.

    e = delta(En(X), En(G(X))),  z = W e + b, with `contrastive_delta` and En = FC(dropout(backbone(.)))

    Trained by `GCNetLoss` on faces with references: `training_output` gives it all that its five terms take. The
    decoders behind En (Decoder2 in figure 3) rebuild X and Xr in training only; outside it they do not run.

    S1R1 with its defaults has 2,736,359 parameters (the paper says 3M), 2,586,919 of which run outside training. The paper
    does not say what stands between the FC layer and delta (ours: nothing) nor the margin of the loss.

    Args:
        variant: "S0R0", "S1R0", "S0R1" or "S1R1": S1 gives the loss the codes, R1 adds the decoders.
        generator: "autoencoder" (Conv.AEs, of the backbone's own widths), "vae" or "dcgan".
        num_classes: 6, 7 or 8, the paper's sets; None for 7 or for as many as `classes`.
        classes: names of the logits, in order, in place of the paper's.
        backbone: En's convolutions, a registered name or `timm:<name>`.
        image_size: side of the input; None takes the backbone's own (64).
        embedding_dim: p; None for the paper's formula, see `code_length`.
        dropout: before the FC layer.
        generator_width: channels of the first layer of "vae" and "dcgan".
        latent: code length of "vae" and "dcgan".

    Raises:
        WrongUseError: an unknown variant or generator, classes that do not fit, a side that the generator cannot take.

    Paper: Kim et al. (2019), figure 2 and equations (2) and (3).

    Example:
        >>> import numpy as np
        >>> model = GCNet(variant="S1R1", num_classes=7)
        >>> images = model.preprocess(np.zeros((66, 66, 3), np.uint8))
        >>> tuple(model.embed(images).shape), tuple(model.reference(images).shape)
        ((1, 384), (1, 1, 64, 64))
    """

    def __init__(
        self,
        variant: str = "S1R1",
        generator: str = "autoencoder",
        num_classes: int | None = None,
        classes: Sequence[str] | None = None,
        backbone: str = "gcnet_cnn",
        image_size: int | None = None,
        embedding_dim: int | None = None,
        dropout: float = 0.5,
        generator_width: int = 64,
        latent: int = 100,
    ) -> None:
        if variant not in VARIANTS:
            raise unknown_name("variant", variant, VARIANTS)
        super().__init__(arguments(locals()), _class_names(num_classes, classes))
        self.variant = variant
        self.generator = _generator(self)
        targets = 2 if variant.endswith("R1") else 0  # the face, its reference
        self.decoders = nn.ModuleList(decoder_for(self.backbone, self.preprocessing.size) for _ in range(targets))

    def from_features(self, maps: Tensor) -> EmbedderOutput:
        """Return delta and logits from images."""
        generated, _ = self.generator(maps)
        delta = contrastive_delta(*(self.encode(self.backbone(faces)) for faces in (maps, generated)))
        return EmbedderOutput(delta, self.logits(delta))

    def training_output(self, images: Tensor, references: Tensor | None = None) -> EmbedderOutput:
        """Return delta, logits, and what GCNetLoss takes beside them; the references are due."""
        if references is None:
            raise WrongUseError(
                "GCNet trains on faces with references: set data.references=true, and see FaceTable's `reference`"
            )
        generated, penalties = self.generator(images, references)
        codes, maps, switches = self._encode(images, generated)
        delta = contrastive_delta(*codes)
        parts: dict[str, Any] = {"images": images, "references": references, "generated": generated}
        if self.variant.startswith("S1"):
            parts["codes"] = codes
        if self.decoders:
            parts["reconstructions"] = self._decode(maps, switches)
        return EmbedderOutput(delta, self.logits(delta), parts=parts, penalties=penalties)

    def represent(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Return the codes En(X) (N, p) of what `preprocess` gave, before any contrast."""
        self.check(images)
        if len(images) == 0:
            return torch.empty(0, self.embedding_dim)
        return self._in_blocks(images, batch_size, lambda block: (self.encode(self.backbone(block)),))[0]

    def reference(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Return the generated reference faces of what `preprocess` gave, in the same form: (N, C, S, S)."""
        return self._in_blocks(images, batch_size, lambda block: (self.generator(block)[0],))[0]

    def reconstructions(self, images: Tensor, batch_size: int = 256) -> tuple[Tensor, Tensor]:
        """Return what Decoder2 rebuilds from the codes of the faces and of their references; variants with R1 only."""
        if not self.decoders:
            raise WrongUseError(f"{self.variant} rebuilds nothing; take a variant with R1")

        def rebuilt(block: Tensor) -> tuple[Tensor, ...]:
            _, maps, switches = self._encode(block, self.generator(block)[0])
            return self._decode(maps, switches)

        image, reference = self._in_blocks(images, batch_size, rebuilt)
        return image, reference

    def _in_blocks(self, images: Tensor, batch_size: int, make: Any) -> list[Tensor]:  # noqa: ANN401 - a callable
        self.check(images)
        with evaluation_mode(self), torch.inference_mode():
            parts = [make(block) for block in torch.split(images, batch_size)]
        return [torch.cat(column).clone() for column in zip(*parts, strict=True)]

    def _encode(self, images: Tensor, generated: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor, Switches]:
        """Encode faces and references in one batch, so that batch norms see the statistics of both together."""
        maps, switches = encode_with(self.backbone, torch.cat([images, generated]))
        own, other = self.encode(maps, faces=2).chunk(2)
        return (own, other), maps, switches

    def _decode(self, maps: Tensor, switches: Switches) -> tuple[Tensor, Tensor]:
        halves = []
        for half, decode in enumerate(self.decoders):
            part = [(places.chunk(2)[half], size) for places, size in switches]
            halves.append(self.generator.normalized(decode(maps.chunk(2)[half], part)))
        return halves[0], halves[1]


def _generator(model: _Coding) -> Generator:
    config = model.config
    if config["generator"] not in GENERATORS:
        raise unknown_name("generator", config["generator"], GENERATORS)
    kind = GENERATORS[config["generator"]]
    if kind is AutoencoderGenerator:
        body = model.backbone.body
        return kind(model.preprocessing, body.widths if isinstance(body, ConvEncoder) else WIDTHS)
    return kind(model.preprocessing, *(check_dimension(name, config[name]) for name in ("generator_width", "latent")))


@MODELS.register("baseline_cnn")
class BaselineCNN(_Coding):
    """GCNet's baseline (a): the same encoder and FC layers without any reference; embeds by the first FC layer.

    e = FC_p(dropout(backbone(X))),  z = W e + b. Its arguments are GCNet's.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        classes: Sequence[str] | None = None,
        backbone: str = "gcnet_cnn",
        image_size: int | None = None,
        embedding_dim: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(arguments(locals()), _class_names(num_classes, classes))

    def from_features(self, maps: Tensor) -> EmbedderOutput:
        """Return code and logits from images."""
        code = self.encode(self.backbone(maps)).float()
        return EmbedderOutput(code, self.logits(code))


@MODELS.register("metric_cnn")
class MetricCNN(BaselineCNN):
    """GCNet's baseline (b): the baseline with a contrastive term on the codes of a real pair, a face and its reference.

    Trained by `GCNetLoss` too, whose generation term is 0 here: the real reference stands for the generated one.
    """

    def training_output(self, images: Tensor, references: Tensor | None = None) -> EmbedderOutput:
        """Return code and logits of the faces, and the codes of the pairs."""
        if references is None:
            raise WrongUseError("MetricCNN trains on faces with references: set data.references=true")
        code, other = self.encode(self.backbone(torch.cat([images, references])), faces=2).float().chunk(2)
        parts = {"images": images, "references": references, "generated": references, "codes": (code, other)}
        return EmbedderOutput(code, self.logits(code), parts=parts)


@MODELS.register("gcnet_pretraining")
class GCNetPretraining(_Coding):
    """What GCNet starts from: a generator that rebuilds the face itself, and an encoder that tells people apart.

    Both are trained in one run and share nothing: `GCNetLoss` with Xr = X is identification (Cls) plus reconstruction
    (Gen). GCNet then takes the parts that its recipe's `init_parts` name. Given references, the generator learns those
    instead of the face: figure 10's generator alone. Paper: section IV.A.

    Args:
        classes: the people; the training loop fills them in from the data's subjects.
        generator: as in GCNet, like all other arguments.
    """

    def __init__(
        self,
        classes: Sequence[str] = (),
        generator: str = "autoencoder",
        backbone: str = "gcnet_cnn",
        image_size: int | None = None,
        embedding_dim: int | None = None,
        dropout: float = 0.5,
        generator_width: int = 64,
        latent: int = 100,
    ) -> None:
        super().__init__(arguments(locals()), classes)
        self.generator = _generator(self)

    def from_features(self, maps: Tensor) -> EmbedderOutput:
        """Return code and logits from images."""
        code = self.encode(self.backbone(maps)).float()
        return EmbedderOutput(code, self.logits(code))

    def training_output(self, images: Tensor, references: Tensor | None = None) -> EmbedderOutput:
        """Return code and logits, and the faces, or their references, beside what the generator makes of them."""
        target = images if references is None else references
        generated, penalties = self.generator(images, target)
        output = self.from_features(images)
        parts = {"images": images, "references": target, "generated": generated}
        return EmbedderOutput(output.embedding, output.logits, parts=parts, penalties=penalties)
