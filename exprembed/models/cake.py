"""CAKE-k and AVk: a few numbers that tell the emotion, with one linear classifier for each data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from exprembed.data.multi_domain import Classes, class_lists
from exprembed.errors import BadInputError, WrongUseError, unknown_name
from exprembed.models import MODELS
from exprembed.models.backbones import create_backbone
from exprembed.models.base import Embedder, EmbedderOutput, arguments, check_dimension
from exprembed.models.heads import FECTrunk
from exprembed.models.linear_start import Affine, linear_scores, squeezed

# The paper's three data sets and its seven classes.
PAPER_DOMAINS: Mapping[str, Classes] = {"affectnet": 7, "rafdb": 7, "sfew": 7}


class _MultiDomainEmbedder(Embedder):
    """Features of a backbone -> embedding -> one classifier a domain; subclasses say how they embed.

    `config` holds the subclass's arguments by name. `width` is F, the number of features.
    """

    known: Tensor
    projection: nn.Linear | None

    def __init__(self, config: dict[str, Any], embedding_dim: int) -> None:
        if not 0 <= config["dropout"] < 1:
            raise WrongUseError(f"dropout must be in [0, 1); got {config['dropout']}")
        lists = class_lists(config["domains"])
        config["domains"] = {name: list(names) for name, names in lists.items()}
        net = create_backbone(config["backbone"])
        size = config["image_size"]
        preprocessing = net.preprocessing if size is None else replace(net.preprocessing, size=size)
        classes = tuple(dict.fromkeys(name for names in lists.values() for name in names))
        super().__init__(config, preprocessing, embedding_dim, classes)
        self.domains = lists
        self.backbone = net
        hidden = check_dimension("hidden", config["hidden"], 0)
        self.trunk = FECTrunk(net.out_channels, 0, 0, 1, hidden, 0.0) if hidden else None
        self.width = hidden or net.out_channels
        self.dropout = nn.Dropout(config["dropout"])
        self.classifiers = nn.Linear(embedding_dim, len(lists) * len(classes))
        known = torch.tensor([[name in names for name in classes] for names in lists.values()])
        self.register_buffer("known", known, persistent=False)
        self.freeze(config["freeze_backbone"])

    def features(self, images: Tensor) -> Tensor:
        """Return the backbone's maps averaged over their places, or the hidden layer on them: (B, F, 1, 1)."""
        maps: Tensor = self.backbone(images)
        if self.trunk is not None:
            return torch.as_tensor(self.trunk(maps))[:, :, None, None]
        return maps.mean(dim=(2, 3), keepdim=True)

    def frozen_modules(self) -> Iterator[nn.Module]:
        """Yield the backbone, and the hidden layer on it."""
        yield from (part for part in (self.backbone, self.trunk) if part is not None)

    def logits(self, embedding: Tensor) -> Tensor:
        """Return each domain's scores of embeddings (B, d): (J, B, C), -inf for classes that a domain does not have."""
        scores = self.classifiers(embedding).unflatten(1, self.known.shape).transpose(0, 1)
        masked: Tensor = scores.masked_fill(~self.known[:, None], -torch.inf)
        return masked

    def given(self) -> Affine:
        """Return the coordinates before the learned ones, as they follow from x (float64); none here."""
        return Affine(np.zeros((0, self.width)), np.zeros(0))

    @torch.no_grad()
    def start(self, maps: np.ndarray, labels: np.ndarray, domains: np.ndarray) -> None:
        """Start from the best linear classifiers of each domain, squeezed into the embedding (`linear_start`).

        The paper draws its weights. With two or three coordinates that leads each seed to another arrangement of the
        classes, most of them poor; this start leads all to one that fits the training faces better than most.
        Coordinates beyond the rank of the classifiers' scores stay as drawn, and have no part in the scores at first.

        Args:
            maps: (n, F, 1, 1) of the frozen backbone (`features`).
            labels: (n,) class names; faces of a class that their domain lacks take no part.
            domains: (n,) data sets.

        Raises:
            BadInputError: other shapes; faces of fewer than two classes in a domain.
        """
        x, y, j = np.asarray(maps, np.float32).reshape(len(maps), -1), np.asarray(labels, str), np.asarray(domains, str)
        if x.shape != (len(y), self.width) or y.shape != j.shape:
            shapes = f"{np.shape(maps)}, {y.shape} and {j.shape}"
            raise BadInputError(f"maps (n, {self.width}, 1, 1), labels (n,) and domains (n,) are due; got {shapes}")
        given = self.given()
        scores, weight = linear_scores(x, y, j, self.domains, self.classes)
        learned, reading = squeezed(scores, given, x, weight, self.embedding_dim - len(given.offset))
        nn.init.zeros_(self.classifiers.weight)
        for layer, part in ((self.classifiers, reading), (self.projection, learned)):
            if layer is not None:
                rows, columns = part.slope.shape
                layer.weight[:rows, :columns] = torch.as_tensor(part.slope)
                layer.bias[:rows] = torch.as_tensor(part.offset)

    def classify(self, vectors: Any, domain: str) -> np.ndarray:  # noqa: ANN401 - anything that an array is made of
        """Return the class that a domain's classifier gives to embeddings (n, d): (n,) str.

        Raises:
            WrongUseError: an unknown domain, with the nearest one.
            BadInputError: vectors of another shape.
        """
        if domain not in self.domains:
            raise unknown_name("domain", domain, self.domains)
        points = np.asarray(vectors, dtype=np.float32)
        if points.ndim != 2 or points.shape[1] != self.embedding_dim:
            raise BadInputError(f"embeddings (n, {self.embedding_dim}) are due; got {points.shape}")
        with torch.inference_mode():
            place = next(self.parameters()).device
            scores = self.logits(torch.tensor(points, device=place))[list(self.domains).index(domain)]
        named: np.ndarray = np.asarray(self.classes)[scores.argmax(dim=1).cpu().numpy()]
        return named


@MODELS.register("cake")
class CAKE(_MultiDomainEmbedder):
    """CAKE-k: k numbers from which a linear classifier for each data set reads the emotion (Kervadec et al., 2018).

    e = W x + b,  z^j = W^j e + b^j;  with `normalize` e = (W x + b) / ||W x + b||, CAKE-3-Norm for k = 3

    Symbols: x (B, F) the features on which the backbone's own classifier stood, its maps averaged over their places
    (F = 512 for ResNet-18) or with `hidden` the layer on them, e (B, k) the embedding, z (J, B, C) the scores of the J
    domains. No activation anywhere behind x (the paper's footnote 1).

    Paper: Kervadec et al., "CAKE: Compact and Accurate K-dimensional representation of Emotion", BMVC Workshops 2018,
    section 2.2 and figure 3. Deviation: domains may have different classes; a class that a domain lacks scores -inf
    there. The paper does not say where dropout stands (ours: on x) nor how strong it is. It draws all weights; here
    `start` may find them.

    Args:
        embedding_dim: k, 3 in the paper's best compact model.
        backbone: a registered name or `timm:<name>`.
        domains: name of each data set -> its classes: their names, or 7 or 8 for the first so many of EXPRESSIONS. The name
            is what the faces' column `dataset` holds.
        normalize: put embeddings on the unit sphere.
        dropout: probability on x, in [0, 1).
        freeze_backbone: hold the backbone's weights and statistics still (the second stage of training).
        image_size: side of the input; None takes the backbone's own (224 for ResNet-18).
        hidden: width of the layer (FC, batch normalisation, ReLU6: `FECTrunk`) between the backbone and x, part of the
            backbone in all else; 0 for none, as in the paper. FECNet and AFFNet-CL have one, and what they learned of
            emotions stands in it.

    Raises:
        WrongUseError: a number out of its range, an unknown backbone, no domain, a list of fewer than two classes.

    Example:
        >>> model = CAKE(embedding_dim=3, backbone="resnet10_grey48", domains={"rafdb": 7, "ferplus": 8}, normalize=True)
        >>> vectors = model.embed(model.preprocess(np.zeros((90, 90, 3), np.uint8)))
        >>> tuple(vectors.shape), round(float(vectors.norm()), 4), tuple(model.logits(vectors).shape)
        ((1, 3), 1.0, (2, 1, 8))
        >>> model.classify(vectors, "rafdb").shape
        (1,)
    """

    def __init__(
        self,
        embedding_dim: int = 3,
        backbone: str = "resnet18",
        domains: Mapping[str, Classes] = PAPER_DOMAINS,
        normalize: bool = False,
        dropout: float = 0.5,
        freeze_backbone: bool = True,
        image_size: int | None = None,
        hidden: int = 0,
    ) -> None:
        super().__init__(arguments(locals()), check_dimension("embedding_dim", embedding_dim))
        self.normalize = normalize
        self.projection: nn.Linear = nn.Linear(self.width, embedding_dim)

    def from_features(self, maps: Tensor) -> EmbedderOutput:
        """Return embedding (B, k) and logits (J, B, C) from pooled features (B, F, 1, 1)."""
        embedding = _full(self.projection, self.dropout(maps.flatten(1)))
        if self.normalize:
            embedding = functional.normalize(embedding, dim=1)
        return EmbedderOutput(embedding, self.logits(embedding))


@MODELS.register("avk")
class AVK(_MultiDomainEmbedder):
    """AVk: regressed arousal and valence, and k learned dimensions beside them (Kervadec et al., 2018).

    e = [a(x), v(x), W x + b],  z^j = W^j e + b^j

    Symbols: x (B, F) pooled features; a and v one linear layer on x, trained first and then frozen; e (B, 2 + k) the
    embedding; z (J, B, C). `EmbedderOutput.valence_arousal` is (B, 2) in the library's order, valence first; the
    embedding has arousal first, as the paper draws it.

    Paper: as for `CAKE`, section 2.2 ("AV1, AV2, ..."). Deviation: as for `CAKE`.

    Args:
        extra_dims: k; 0 is the paper's AV.
        backbone: a registered name or `timm:<name>`.
        domains: as for `CAKE`.
        dropout: probability on x, in [0, 1).
        freeze_backbone: hold the backbone still.
        freeze_regressor: hold arousal and valence still; False for the first stage, in which they are learned.
        image_size: side of the input; None takes the backbone's own.
        hidden: as for `CAKE`.

    Raises:
        WrongUseError: as for `CAKE`; a frozen regressor on a backbone that moves.

    Example:
        >>> model = AVK(extra_dims=1, backbone="resnet10_grey48", domains={"rafdb": 7})
        >>> output = model(model.preprocess(np.zeros((2, 48, 48, 3), np.uint8)))
        >>> tuple(output.embedding.shape), torch.equal(output.embedding[:, :2], output.valence_arousal.flip(1))
        ((2, 3), True)
    """

    def __init__(
        self,
        extra_dims: int = 1,
        backbone: str = "resnet18",
        domains: Mapping[str, Classes] = PAPER_DOMAINS,
        dropout: float = 0.5,
        freeze_backbone: bool = True,
        freeze_regressor: bool = True,
        image_size: int | None = None,
        hidden: int = 0,
    ) -> None:
        if freeze_regressor and not freeze_backbone:
            raise WrongUseError("a frozen regressor needs a frozen backbone, or what it was fitted to moves under it")
        super().__init__(arguments(locals()), 2 + check_dimension("extra_dims", extra_dims, 0))
        self.regressor = nn.Linear(self.width, 2).requires_grad_(not freeze_regressor)
        self.frozen_regressor = freeze_regressor
        self.projection = nn.Linear(self.width, extra_dims) if extra_dims else None

    def given(self) -> Affine:
        """Return arousal and valence."""
        weight, bias = (part.detach().cpu().double().numpy() for part in (self.regressor.weight, self.regressor.bias))
        return Affine(weight[::-1], bias[::-1])

    def from_features(self, maps: Tensor) -> EmbedderOutput:
        """Return embedding (B, 2 + k), logits (J, B, C), valence and arousal (B, 2) from features (B, F, 1, 1)."""
        features = maps.flatten(1)
        dropped = self.dropout(features)
        felt = _full(self.regressor, features if self.frozen_regressor else dropped)
        parts = [felt.flip(1)] + ([] if self.projection is None else [_full(self.projection, dropped)])
        embedding = torch.cat(parts, dim=1)
        return EmbedderOutput(embedding, self.logits(embedding), felt)


def _full(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """Apply a layer; the result has its weights' type also under mixed precision, whose rounding distances would show."""
    result: Tensor = layer(inputs).to(layer.weight.dtype)
    return result
