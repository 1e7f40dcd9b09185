"""Emotion-GCN: classifiers of expressions and regressors of valence and arousal that a graph ties to each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from exprembed.data.word_vectors import read_word_vectors
from exprembed.errors import BadInputError, WrongUseError
from exprembed.models import MODELS
from exprembed.models.backbones import create_backbone
from exprembed.models.base import Embedder, EmbedderOutput, arguments, check_dimension
from exprembed.models.emotion_graph import (
    AFFECTNET_SPEARMAN,
    DIMENSIONS,
    SEVEN,
    class_correlations,
    class_names,
    conditional_probabilities,
    correlation_adjacency,
    emotion_adjacency,
    facs_vectors,
)
from exprembed.models.heads import xavier_init

__all__ = [
    "AFFECTNET_SPEARMAN",
    "DIMENSIONS",
    "SEVEN",
    "EmotionGCN",
    "GraphConvolutions",
    "class_correlations",
    "conditional_probabilities",
    "correlation_adjacency",
    "emotion_adjacency",
    "facs_vectors",
]

# The thesis's nodes are "happy" and "sad"; the other classes are called there as in this library.
_WORDS = {"happiness": "happy", "sadness": "sad"}


class GraphConvolutions(nn.Module):
    """Graph convolutions over fixed nodes: H^(l+1) = h(A H^l W^l), h LeakyReLU 0.2 between layers (thesis 1.5.1).

    Args:
        nodes: (n, d) H^0.
        adjacency: (n, n) A, normalised.
        widths: outputs of each layer; its weight starts from Glorot's uniform distribution, there is no bias.
    """

    nodes: Tensor
    adjacency: Tensor

    def __init__(self, nodes: np.ndarray, adjacency: np.ndarray, widths: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("nodes", torch.tensor(nodes, dtype=torch.get_default_dtype()), persistent=False)
        self.register_buffer("adjacency", torch.tensor(adjacency, dtype=torch.get_default_dtype()), persistent=False)
        inputs = (nodes.shape[1], *widths[:-1])
        self.layers = nn.ModuleList(nn.Linear(*pair, bias=False) for pair in zip(inputs, widths, strict=True))
        xavier_init(self)
        self._kept: Tensor | None = None
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def forward(self) -> Tensor:
        """Return H^L: (n, widths[-1])."""
        values = self.nodes
        for number, layer in enumerate(self.layers):
            values = functional.leaky_relu(values, 0.2) if number else values
            values = layer(self.adjacency @ values)
        return values

    def weights(self) -> Tensor:
        """Return H^L, computed once while the module is in evaluation mode and no gradient is asked for."""
        if self.training or torch.is_grad_enabled():
            self._kept = None  # a step may follow and move the layers, in evaluation mode too
            return self._computed()
        if self._kept is None:
            # Outside inference mode, whose tensors could not be copied or used elsewhere.
            with torch.inference_mode(False), torch.no_grad():
                self._kept = self._computed()
        return self._kept

    def _computed(self) -> Tensor:
        result: Tensor = self()
        return result

    def train(self, mode: bool = True) -> GraphConvolutions:
        """Set the mode; what was computed in evaluation mode does not outlive training."""
        self._kept = None if mode else self._kept
        super().train(mode)
        return self

    def _apply(self, *given: Any, **options: Any) -> GraphConvolutions:  # noqa: ANN401 - torch's own
        self._kept = None  # another device or type
        super()._apply(*given, **options)  # type: ignore[no-untyped-call]
        return self


def _forget(graph: GraphConvolutions, _: Any) -> None:  # noqa: ANN401 - torch's report of keys
    graph._kept = None


@MODELS.register("emotion_gcn")
class EmotionGCN(Embedder):
    """Emotion-GCN: a graph makes the classifiers and the regressors out of words (Antoniadis, NTUA thesis 2021).

    x = globalmax(backbone(I));  [W^c; W^r] = H^L,  H^(l+1) = h(A H^l W^l),  H^0 = Z;  logits = W^c x,  (v, a) = W^r x

    Symbols: x (B, D) the embedding (D = 1024 for DenseNet-121); Z (C + 2, d) a vector for each class, for valence and for
    arousal; A (C + 2, C + 2) the adjacency; W^l the layers' weights (d to 512 to D), h LeakyReLU 0.2 between them; W^c (C, D),
    W^r (2, D); logits (B, C), valence_arousal (B, 2), which no activation bounds. In evaluation mode without gradients W is
    computed once and kept until training, loading or a move to another device.

    Paper: section 6.3, (6.3.1) to (6.3.5). Deviations: Z is `facs_vectors` unless a file of word vectors is given (the thesis
    takes 300 numbers of a word embedding, which is a download); the input is the backbone's own size (the thesis: 227,
    `image_size=227`). The thesis does not say how W^l starts (ours: Glorot) nor how wide a third layer is (ours: `hidden`).

    Args:
        backbone: a registered name or `timm:<name>`.
        word_vectors: path to GloVe text or word2vec text or binary (.bin), of which only the nodes' words are read; or
            (C + 2, d) numbers; or None for `facs_vectors`. The model's card keeps the numbers, not the path.
        adjacency: (C + 2, C + 2) numbers, such as `emotion_adjacency` gives; None for AffectNet's correlations.
        tau: threshold of AffectNet's adjacency; a given adjacency has its own in it.
        p: its share of the neighbours; likewise.
        classes: the classes, in the order of the nodes: the seven, or your own.
        layers: L; 2 in the thesis.
        hidden: width between layers.
        freeze_backbone: hold the backbone's weights and statistics still.
        image_size: side of the input; None takes the backbone's own.

    Raises:
        WrongUseError: a number out of its range, an unknown backbone or class, classes without a default adjacency.
        BadInputError: word vectors or an adjacency of another shape or not finite; a file that lacks a word.

    Example:
        >>> model = EmotionGCN(backbone="resnet10_grey48").eval()
        >>> output = model(model.preprocess(np.zeros((2, 48, 48, 3), np.uint8)))
        >>> tuple(output.embedding.shape), tuple(output.logits.shape), tuple(output.valence_arousal.shape)
        ((2, 320), (2, 7), (2, 2))
        >>> torch.equal(model.logits(output.embedding), output.logits)
        True
    """

    metric = "cosine"

    def __init__(
        self,
        backbone: str = "densenet121",
        word_vectors: str | Path | Sequence[Sequence[float]] | np.ndarray | None = None,
        adjacency: Sequence[Sequence[float]] | np.ndarray | None = None,
        tau: float = 0.1,
        p: float = 0.7,
        classes: Sequence[str] = SEVEN,
        layers: int = 2,
        hidden: int = 512,
        freeze_backbone: bool = False,
        image_size: int | None = None,
    ) -> None:
        config = arguments(locals())
        names = class_names(classes)
        nodes, edges = _node_vectors(word_vectors, names), _edges(adjacency, names, tau, p)
        config["word_vectors"] = None if word_vectors is None else nodes.tolist()
        config["adjacency"] = None if adjacency is None else edges.tolist()
        net = create_backbone(backbone)
        preprocessing = net.preprocessing if image_size is None else replace(net.preprocessing, size=image_size)
        super().__init__(config, preprocessing, net.out_channels, names)
        widths = [check_dimension("hidden", hidden)] * (check_dimension("layers", layers) - 1)
        self.backbone = net
        self.graph = GraphConvolutions(nodes, edges, [*widths, net.out_channels])
        self.freeze(freeze_backbone)

    def features(self, images: Tensor) -> Tensor:
        """Return the backbone's maps, of each channel its maximum over the places: (B, D, 1, 1)."""
        maps: Tensor = self.backbone(images).amax(dim=(2, 3), keepdim=True)
        return maps

    def frozen_modules(self) -> Iterator[nn.Module]:
        """Yield the backbone."""
        yield self.backbone

    def from_features(self, maps: Tensor) -> EmbedderOutput:
        """Return embedding (B, D), logits (B, C), valence and arousal (B, 2) from pooled features (B, D, 1, 1)."""
        # Mixed precision would gain nothing on nine rows, and its rounding would show in distances.
        with torch.autocast(maps.device.type, enabled=False):
            weights = self.graph.weights()
            embedding = maps.flatten(1).to(weights.dtype)
            scores = functional.linear(embedding, weights)
        return EmbedderOutput(embedding, scores[:, :-2], scores[:, -2:])

    def logits(self, embedding: Tensor) -> Tensor:
        """Return the class scores (B, C) of embeddings (B, D)."""
        return functional.linear(embedding, self.graph.weights()[:-2])

    def valence_arousal(self, embedding: Tensor) -> Tensor:
        """Return valence and arousal (B, 2) of embeddings (B, D)."""
        return functional.linear(embedding, self.graph.weights()[-2:])


def _node_vectors(given: Any, classes: Sequence[str]) -> np.ndarray:  # noqa: ANN401 - a path, numbers or nothing
    if given is None:
        return facs_vectors(classes)
    if isinstance(given, str | Path):
        return read_word_vectors(given, [_WORDS.get(name, name) for name in (*classes, *DIMENSIONS)])
    return _numbers("word_vectors", given, (len(classes) + 2, None))


def _edges(given: Any, classes: Sequence[str], tau: float, p: float) -> np.ndarray:  # noqa: ANN401 - numbers or nothing
    if given is not None:
        return _numbers("adjacency", given, (len(classes) + 2, len(classes) + 2))
    lacking = [name for name in classes if name not in AFFECTNET_SPEARMAN]
    if lacking:
        raise WrongUseError(
            f"there is no default adjacency for {', '.join(lacking)}; pass adjacency=emotion_adjacency(faces, classes=...)"
        )
    return correlation_adjacency([AFFECTNET_SPEARMAN[name] for name in classes], tau, p)


def _numbers(name: str, given: Any, shape: tuple[int, int | None]) -> np.ndarray:  # noqa: ANN401 - from a user
    due = f"({shape[0]}, {shape[1] or 'd'}) finite numbers, a row for each class, valence and arousal, are due"
    try:
        table = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{name}: {due}; got {error}") from error
    if table.ndim != 2 or len(table) != shape[0] or table.shape[1] != (shape[1] or table.shape[1]) or not table.size:
        raise BadInputError(f"{name}: {due}; got {table.shape}")
    if not np.isfinite(table).all():
        raise BadInputError(f"{name}: {due}; got NaN or infinity")
    return table
