"""Multi-task networks: expressions beside valence-arousal, beside regions of its plane, beside masks of eyes and mouth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from exprembed.data.regions import REGIONS, region_centres, region_count
from exprembed.errors import WrongUseError, unknown_name
from exprembed.models import MODELS
from exprembed.models.backbones import create_backbone
from exprembed.models.base import Embedder, EmbedderOutput, arguments, check_dimension
from exprembed.models.emotion_gcn import SEVEN
from exprembed.models.heads import xavier_init

TASKS = ("valence_arousal", *REGIONS)
HEADS = ("classic", "concatenate", "separate")


class MaskDecoder(nn.Module):
    """Maps of a backbone to a mask: 3x3 convolution, BN, ReLU, twice the size by bilinear steps, three times; 1x1 convolution.

    (B, inputs, h, w) to (B, 1, 8h, 8w): a cell of the mask is a square of the input with an eighth of the stride as side.
    """

    def __init__(self, inputs: int, channels: Sequence[int] = (64, 32, 16)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in channels:
            layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(inputs, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the scores before the sigmoid."""
        scores: Tensor = self.layers(maps)
        return scores.float()


@MODELS.register("multi_task")
class MultiTask(Embedder):
    r"""Expressions and a second task on one embedding (Antoniadis, NTUA thesis 2021, chapters 3 and 5).

    x = globalmax(backbone(I));  s = S f(x);  logits = W f'(x)
    classic: f = f' = x;   concatenate: f = x, f' = [x, a(s)];   separate: f = ReLU(F x + b), f' = ReLU(F' x + b')

    Symbols: x (B, D) the embedding (D = 1024 for DenseNet-121); s (B, R) the second task's scores, (B, 2) valence and arousal
    or a score for each region (see `va_regions`; two for "half", one for each sign); a the identity for valence and
    arousal, softmax over sectors, sigmoid for "half"; F, F' (D, D). W and S have no bias, as (5.1.1) and (5.1.4) print.

    `EmbedderOutput.valence_arousal` is s itself where s is regressed. Where regions are classes it is the expectation of the
    regions' centres (`region_centres`) over the probabilities a(s): it cannot leave the centres' hull, so that strong
    feelings come out too weak. `parts` holds `va_regions`, the scores s, and `va_shares`, a(s); `masks` holds (B, 1, 8h, 8w)
    the scores of cells to lie on an eye or the mouth, from the backbone's maps (h, w) before the maximum.

    Paper: (5.1.1) to (5.1.5), sections 5.1.2, 5.2.1 and 5.2.3, figures 5.1.1, 5.1.3, 5.2.2 and 5.2.3. With `second_task=None`
    it is the baseline of chapter 3. The figures' layers are not described: a, the width and the ReLU of the separate layers,
    and `MaskDecoder` are ours. The input is the backbone's own size (the thesis: 227, `image_size=227`).

    Args:
        backbone: a registered name or `timm:<name>`.
        second_task: "valence_arousal" (regression), "half", "quarter", "eight", "twelve", or None.
        head: "classic", "concatenate" or "separate".
        masks: add the branch that colours in eyes and mouth.
        classes: the classes, in the order of the logits: the seven, or your own.
        freeze_backbone: hold the backbone's weights and statistics still.
        image_size: side of the input; None takes the backbone's own.

    Raises:
        WrongUseError: an unknown backbone, task or head, another head than "classic" without a second task, fewer than two
            different classes.

    Example:
        >>> model = MultiTask(backbone="resnet10_grey48", second_task="eight", head="concatenate").eval()
        >>> output = model(model.preprocess(np.zeros((2, 48, 48, 3), np.uint8)))
        >>> tuple(output.embedding.shape), tuple(output.logits.shape), tuple(output.valence_arousal.shape)
        ((2, 320), (2, 7), (2, 2))
        >>> tuple(output.parts["va_regions"].shape), torch.equal(model.logits(output.embedding), output.logits)
        ((2, 8), True)
    """

    metric = "cosine"
    centres: Tensor

    def __init__(
        self,
        backbone: str = "densenet121",
        second_task: str | None = "valence_arousal",
        head: str = "classic",
        masks: bool = False,
        classes: Sequence[str] = SEVEN,
        freeze_backbone: bool = False,
        image_size: int | None = None,
    ) -> None:
        config = arguments(locals())
        if second_task is not None and second_task not in TASKS:
            raise unknown_name("second task", second_task, TASKS)
        if head not in HEADS:
            raise unknown_name("head", head, HEADS)
        if second_task is None and head != "classic":
            raise WrongUseError(f"the head {head!r} joins two tasks; give second_task, or take head='classic'")
        if isinstance(classes, str) or len(classes) < 2 or len(set(classes)) < len(classes):
            raise WrongUseError(f"at least two different classes are due; got {classes!r}")
        net = create_backbone(backbone)
        size = net.preprocessing.size if image_size is None else check_dimension("image_size", image_size)
        width = net.out_channels
        super().__init__(config, replace(net.preprocessing, size=size), width, classes)
        self.second_task, self.head = second_task, head
        self.va_regions = second_task if second_task in REGIONS else None
        scores = 0 if second_task is None else region_count(second_task)
        centres = np.eye(2) if self.va_regions is None else region_centres(self.va_regions)
        self.register_buffer("centres", torch.tensor(centres, dtype=torch.get_default_dtype()), persistent=False)
        self.backbone = net
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2 if head == "separate" else 0))
        self.classifier = nn.Linear(width + (scores if head == "concatenate" else 0), len(classes), bias=False)
        self.second = nn.Linear(width, scores, bias=False) if scores else None
        xavier_init(self.layers, self.classifier, *([self.second] if self.second is not None else []))
        self.decoder = MaskDecoder(width) if masks else None
        self.freeze(freeze_backbone)

    def features(self, images: Tensor) -> Tensor:
        """Return the backbone's maps (B, D, h, w); only the maximum of each, (B, D, 1, 1), where no mask is made of them."""
        maps: Tensor = self.backbone(images)
        return maps.amax(dim=(2, 3), keepdim=True) if self.decoder is None else maps

    def frozen_modules(self) -> Iterator[nn.Module]:
        """Yield the backbone."""
        yield self.backbone

    def from_features(self, maps: Tensor) -> EmbedderOutput:
        """Return embedding (B, D), logits (B, C), valence and arousal (B, 2) and the parts from what `features` gives."""
        parts = {} if self.decoder is None else {"masks": self.decoder(maps)}
        # Mixed precision would gain nothing on a few rows, and its rounding would show in distances.
        with torch.autocast(maps.device.type, enabled=False):
            embedding = maps.amax(dim=(2, 3)).to(self.classifier.weight.dtype)
            scores = self._scores(embedding)
            if scores is None:
                return EmbedderOutput(embedding, self._logits(embedding, None), parts=parts)
            if self.va_regions is not None:
                parts |= {"va_regions": scores, "va_shares": self._shares(scores)}
            logits = self._logits(embedding, scores)
            return EmbedderOutput(embedding, logits, self._point(scores), parts)

    def logits(self, embedding: Tensor) -> Tensor:
        """Return the class scores (B, C) of embeddings (B, D)."""
        return self._logits(embedding, self._scores(embedding))

    def valence_arousal(self, embedding: Tensor) -> Tensor:
        """Return valence and arousal (B, 2) of embeddings (B, D); WrongUseError for a model without a second task."""
        scores = self._scores(embedding)
        if scores is None:
            raise WrongUseError("this model knows classes alone; valence and arousal take a model with a second_task")
        return self._point(scores)

    def mask_scores(self, images: Tensor) -> Tensor:
        """Return the scores (B, 1, 8h, 8w) of the mask branch for what `preprocess` gave; WrongUseError without that branch."""
        scores: Tensor = self(images).named("masks")
        return scores

    def _scores(self, embedding: Tensor) -> Tensor | None:
        if self.second is None:
            return None
        scores: Tensor = self.second(functional.relu(self.layers[1](embedding)) if self.layers else embedding)
        return scores

    def _logits(self, embedding: Tensor, scores: Tensor | None) -> Tensor:
        seen = functional.relu(self.layers[0](embedding)) if self.layers else embedding
        if self.head == "concatenate" and scores is not None:
            seen = torch.cat([seen, self._shares(scores)], dim=1)
        logits: Tensor = self.classifier(seen)
        return logits

    def _shares(self, scores: Tensor) -> Tensor:
        """Return a(s): what the second task predicts."""
        if self.va_regions is None:
            return scores
        return scores.sigmoid() if self.va_regions == "half" else scores.softmax(dim=1)

    def _point(self, scores: Tensor) -> Tensor:
        shares = self._shares(scores)
        if self.va_regions == "half":
            shares = 2 * shares - 1  # the centre of a negative half lies opposite to that of the positive one
        return shares @ self.centres
