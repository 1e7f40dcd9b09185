"""FECNet and its comparison networks: the same trunk with an embedding, a softmax, or action-unit classifiers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from exprembed.data.tables import EXPRESSIONS
from exprembed.errors import BadInputError, WrongUseError
from exprembed.models import MODELS
from exprembed.models.backbones import create_backbone
from exprembed.models.base import Embedder, EmbedderOutput, arguments, check_dimension
from exprembed.models.heads import AroundMean, FECTrunk, UnitLinear, xavier_init

DISFA_ACTION_UNITS = ("1", "2", "4", "5", "6", "9", "12", "15", "17", "20", "25", "26")


class _FECBase(Embedder):
    """Backbone and trunk of figure 3; subclasses add what follows the hidden layer.

    `config` holds the subclass's arguments by name; those of the trunk are common to all.
    """

    def __init__(self, config: dict[str, Any], embedding_dim: int) -> None:
        if not 0 <= config["dropout"] < 1:
            raise WrongUseError(f"dropout must be in [0, 1); got {config['dropout']}")
        net = create_backbone(config["backbone"])
        size = config["image_size"]
        preprocessing = net.preprocessing if size is None else replace(net.preprocessing, size=size)
        super().__init__(config, preprocessing, embedding_dim, config["classes"])
        self.backbone = net
        self.trunk = FECTrunk(
            net.out_channels,
            check_dimension("dense_channels", config["dense_channels"], 0),
            check_dimension("dense_layers", config["dense_layers"], 0),
            check_dimension("dense_growth", config["dense_growth"]),
            check_dimension("hidden", config["hidden"]),
            config["dropout"],
        )
        xavier_init(self.trunk)
        self.freeze(config["freeze_backbone"])

    def features(self, images: Tensor) -> Tensor:
        """Return the backbone's maps (B, F, h, w)."""
        maps: Tensor = self.backbone(images)
        return maps

    def frozen_modules(self) -> Iterator[nn.Module]:
        """Yield the backbone."""
        yield self.backbone


@MODELS.register("fecnet")
class FECNet(_FECBase):
    """FECNet: a short unit vector learned from triplets without an anchor (Vemulapalli & Agarwala, CVPR 2019).

    e = L2norm(FC_d(dropout(FC_512(pool(dense(conv1x1(backbone(I))))))))

    The backbone is frozen by default, as in the paper, whose FaceNet weights are not public: bring your own, or train
    with `freeze_backbone=False`. Batch normalisation and ReLU6 in the trunk, Xavier initialisation (section 4, 5.2).

    With `shares` = w above 0 (not in the paper), the d = 2 C numbers say of a softmax p over C classes, taught by the
    same triplets, how likely each is and how far it stands from where the average face has it:

    e = [sqrt(w p_1), ..., sqrt(w p_C), sqrt(1 - w) a_1, ..., sqrt(1 - w) a_C],  a = L2norm(log p - mean_c log p_c - m),

    m the running mean of log p - mean_c log p_c over the training batches: a unit vector too, in which
    |e - e'|^2 = 2 w H(p, p')^2 + (1 - w) |a - a'|^2, H the Hellinger distance. Probabilities tell plain expressions
    apart and are nearly alike for all mild ones; log odds around the average face (Aitchison's centred log-ratio) see
    what a face adds to it, however little.

    Args:
        embedding_dim: d, 16 in the paper.
        backbone: a registered name or `timm:<name>`.
        dropout: probability after the hidden layer (the paper's 0.5; it does not say where).
        freeze_backbone: hold the backbone's weights and statistics still.
        image_size: side of the input; None takes the backbone's own (224 for `facenet_nn2`).
        dense_channels: outputs of the 1x1 convolution; 0 leaves out it and the dense block.
        dense_layers: layers of the dense block.
        dense_growth: growth rate of the dense block.
        hidden: width of the hidden layer.
        classes: names of classes for an auxiliary softmax on the hidden layer (not in the paper); empty for none.
        mirror: outside training, embed the face and its mirror image and normalise the sum (not in the paper): twice
            the work, and a face and its mirror image get one vector.
        shares: w in [0, 1), the part of the embedding's squared length that the classes' probabilities have.

    Raises:
        WrongUseError: sizes out of range; shares without classes, or with another d than two numbers a class.

    Example:
        >>> import numpy as np
        >>> model = FECNet(embedding_dim=16, backbone="resnet10_grey48")
        >>> vectors = model.embed(model.preprocess(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)))
        >>> tuple(vectors.shape), round(float(vectors.norm()), 4)
        ((1, 16), 1.0)
    """

    def __init__(
        self,
        embedding_dim: int = 16,
        backbone: str = "facenet_nn2",
        dropout: float = 0.5,
        freeze_backbone: bool = True,
        image_size: int | None = None,
        dense_channels: int = 512,
        dense_layers: int = 5,
        dense_growth: int = 64,
        hidden: int = 512,
        classes: Sequence[str] = (),
        mirror: bool = False,
        shares: float = 0.0,
    ) -> None:
        super().__init__(arguments(locals()), check_dimension("embedding_dim", embedding_dim))
        if not 0 <= shares < 1:
            raise WrongUseError(f"shares is a part of the embedding's squared length, in [0, 1); got {shares}")
        if shares and (len(classes) < 2 or embedding_dim != 2 * len(classes)):
            raise WrongUseError(
                f"shares={shares} gives two of the embedding's {embedding_dim} numbers to each class: name at least two "
                f"classes, and make embedding_dim twice as many; got {len(classes)}"
            )
        self.mirror, self.shares = mirror, shares
        self.classifier = nn.Linear(hidden, len(classes)) if classes else None
        self.embedding = AroundMean(len(classes)) if shares else UnitLinear(hidden, embedding_dim)
        xavier_init(self.embedding, *([self.classifier] if self.classifier is not None else []))
        self.freeze(freeze_backbone)

    def with_mirror(self, mirror: bool = True) -> FECNet:
        """Turn `mirror` on or off in a model that is trained already; return the model itself."""
        self.mirror = self.config["mirror"] = mirror
        return self

    def forward(self, images: Tensor) -> EmbedderOutput:
        """Return the output for what `preprocess` gave; with `mirror`, of the image and its mirror image together."""
        output = super().forward(images)
        if not self.mirror or self.training:
            return output
        other = super().forward(images.flip(3))
        logits = None if output.logits is None or other.logits is None else (output.logits + other.logits) / 2
        return EmbedderOutput(functional.normalize(output.embedding + other.embedding, dim=1), logits)

    def from_features(self, maps: Tensor) -> EmbedderOutput:
        """Return the output from the backbone's maps (B, F, h, w)."""
        hidden = self.trunk(maps)
        logits = None if self.classifier is None else self.classifier(hidden)
        if not self.shares or logits is None:
            return EmbedderOutput(self.embedding(hidden), logits)
        log_p = functional.log_softmax(logits.float(), dim=1)
        odds = functional.normalize(self.embedding(log_p - log_p.mean(dim=1, keepdim=True)), dim=1)
        vectors = torch.cat([self.shares**0.5 * (log_p / 2).exp(), (1 - self.shares) ** 0.5 * odds], dim=1)
        return EmbedderOutput(vectors, logits)

    def class_shares(self, embedding: Tensor) -> Tensor:
        """Return what vectors say of the classes, without the images: p_c = max(e_c, 0)^2 / sum of them, (N, C) in [0, 1].

        Of an image's own vector they are the softmax's probabilities; with `mirror`, between those of the image and of
        its mirror image: the roots are averaged.

        Args:
            embedding: (N, d) vectors of this model, or (d,) for one.

        Raises:
            WrongUseError: the model has no `shares`, or vectors are not (N, d).
            BadInputError: a vector without a number above 0 for any class: not one of this model's.

        Example:
            >>> model = FECNet(4, "resnet10_grey48", classes=["joy", "fear"], shares=0.5)
            >>> model.class_shares(torch.tensor([[0.6, 0.3, 0.5, 0.5]])).round(decimals=2)
            tensor([[0.8000, 0.2000]])
        """
        if not self.shares:
            raise WrongUseError("this FECNet was built without shares: its vectors hold no numbers of classes")
        vectors = torch.as_tensor(embedding)
        if vectors.ndim not in (1, 2) or vectors.shape[-1] != self.embedding_dim:
            raise WrongUseError(f"vectors must be (N, {self.embedding_dim}); got {tuple(vectors.shape)}")
        said = vectors.reshape(-1, self.embedding_dim)[:, : len(self.classes)].clamp(min=0).square()
        whole = said.sum(dim=1, keepdim=True)
        if not (whole > 0).all():
            row = int((whole[:, 0] > 0).int().argmin())
            raise BadInputError(f"vector {row} says nothing of any class: it is not one of this model's")
        shares: Tensor = said / whole
        return shares


@MODELS.register("affnet_tl")
class AFFNetTL(FECNet):
    """AFFNet-TL: FECNet trained with category-label triplets instead of judged ones (FEC, section 5.1); same network."""


class _Classifier(_FECBase):
    """The trunk with a linear classifier; embeds by its penultimate (P) or final (F) layer."""

    metric = "cosine"

    def __init__(self, config: dict[str, Any]) -> None:
        classes, hidden = config["classes"], check_dimension("hidden", config["hidden"])
        self.layer = config["layer"]
        if self.layer not in ("P", "F"):
            raise WrongUseError(f"layer must be 'P' (penultimate) or 'F' (final); got {self.layer!r}")
        if len(classes) < 2 or len(set(classes)) < len(classes):
            raise WrongUseError(f"a classifier needs at least two different classes; got {classes}")
        super().__init__(config, hidden if self.layer == "P" else len(classes))
        self.classifier = nn.Linear(hidden, len(classes))
        xavier_init(self.classifier)

    def from_features(self, maps: Tensor) -> EmbedderOutput:
        """Return the output from the backbone's maps (B, F, h, w)."""
        hidden = self.trunk(maps)
        logits = self.classifier(hidden)
        return EmbedderOutput((hidden if self.layer == "P" else logits).float(), logits)


@MODELS.register("affnet_cl")
class AFFNetCL(_Classifier):
    """AFFNet-CL: the same network with a softmax over emotions (FEC, section 5.1); embeds by layer P or F.

    Args:
        classes: names of the classes, in the order of the logits.
        layer: "P", the hidden layer (`hidden`-d), or "F", the logits (C-d). The other arguments are FECNet's.
    """

    def __init__(
        self,
        classes: Sequence[str] = EXPRESSIONS,
        layer: str = "P",
        backbone: str = "facenet_nn2",
        dropout: float = 0.5,
        freeze_backbone: bool = True,
        image_size: int | None = None,
        dense_channels: int = 512,
        dense_layers: int = 5,
        dense_growth: int = 64,
        hidden: int = 512,
    ) -> None:
        super().__init__(arguments(locals()))


@MODELS.register("facsnet_cl")
class FACSNetCL(_Classifier):
    """FACSNet-CL: the same network with one sigmoid per action unit (FEC, section 5.1; DISFA's twelve by default).

    Args:
        classes: numbers of the action units, in the order of the logits; a unit is positive above intensity 2.
        layer: "P" or "F" as in AFFNetCL. The other arguments are FECNet's.
    """

    def __init__(
        self,
        classes: Sequence[str] = DISFA_ACTION_UNITS,
        layer: str = "P",
        backbone: str = "facenet_nn2",
        dropout: float = 0.5,
        freeze_backbone: bool = True,
        image_size: int | None = None,
        dense_channels: int = 512,
        dense_layers: int = 5,
        dense_growth: int = 64,
        hidden: int = 512,
    ) -> None:
        super().__init__(arguments(locals()))
