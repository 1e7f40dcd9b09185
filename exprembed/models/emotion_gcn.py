"""Emotion-GCN: classifiers of expressions and regressors of valence and arousal that a graph ties to each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from exprembed.data.tables import EXPRESSIONS, FaceTable
from exprembed.data.word_vectors import read_word_vectors
from exprembed.errors import BadInputError, WrongUseError, unknown_name
from exprembed.models import MODELS
from exprembed.models.backbones import create_backbone
from exprembed.models.base import Embedder, EmbedderOutput, arguments, check_dimension
from exprembed.models.heads import xavier_init

DIMENSIONS = ("valence", "arousal")
SEVEN = EXPRESSIONS[:7]

# Spearman's correlation of each class with valence and arousal in AffectNet's training set.
AFFECTNET_SPEARMAN: Mapping[str, tuple[float, float]] = {
    "neutral": (-0.335, -0.284),
    "happiness": (0.861, 0.014),
    "sadness": (-0.453, -0.434),
    "surprise": (-0.028, 0.338),
    "fear": (-0.122, 0.236),
    "disgust": (-0.176, 0.144),
    "anger": (-0.384, 0.414),
}

# The action units of each expression in EMFACS (Ekman and Friesen, 1983); 0 is FACS's code for a face that does nothing.
EMFACS: Mapping[str, tuple[int, ...]] = {
    "neutral": (0,),
    "happiness": (6, 12),
    "sadness": (1, 4, 15),
    "surprise": (1, 2, 5, 26),
    "fear": (1, 2, 4, 5, 7, 20, 26),
    "disgust": (9, 15, 16),
    "anger": (4, 5, 7, 23),
    "contempt": (12, 14),
}

# The thesis's nodes are "happy" and "sad"; the other classes are called there as in this library.
_WORDS = {"happiness": "happy", "sadness": "sad"}


def emotion_adjacency(faces: FaceTable, tau: float = 0.1, p: float = 0.7, classes: Sequence[str] = SEVEN) -> np.ndarray:
    """Return Emotion-GCN's adjacency of labelled faces: which class goes with valence, and which with arousal.

    c = Spearman's correlation of each one-hot class with valence and with arousal; then `correlation_adjacency`.

    Paper: thesis (6.3.3). It prints sum x_r y_r / sqrt(sum x_r^2 sum y_r^2) of the bare ranks; its sentence says Spearman's
    coefficient, which takes ranks from their mean. The sentence wins: bare ranks correlate whatever the labels are. Ties,
    of which one-hot columns consist, share their mean rank.

    Args:
        faces: with `expression`, `valence` and `arousal`; faces that lack one of them, or are of another class, take no
            part.
        tau: as for `correlation_adjacency`, like `p`.
        p: share of the neighbours.
        classes: the first C nodes, in order; valence and arousal follow.

    Returns:
        (C + 2, C + 2) float64; (9, 9) for seven classes.

    Raises:
        BadInputError: a missing column, a class without faces, valence or arousal that never varies.
        WrongUseError: fewer than two different classes; tau or p out of range.

    Example:
        >>> rows = {"expression": ["happiness", "happiness", "anger", "anger"], "valence": [0.8, 0.6, -0.5, -0.7]}
        >>> faces = FaceTable({"path": ["a", "b", "c", "d"], **rows, "arousal": [0.2, 0.6, 0.3, 0.5]}, index=list("abcd"))
        >>> emotion_adjacency(faces, classes=("happiness", "anger")).round(2).tolist()
        [[0.3, 0.0, 0.7, 0.0], [0.0, 0.3, 0.7, 0.0], [0.35, 0.35, 0.3, 0.0], [0.0, 0.0, 0.0, 1.0]]
    """
    return correlation_adjacency(class_correlations(faces, classes), tau, p)


def class_correlations(faces: FaceTable, classes: Sequence[str] = SEVEN) -> np.ndarray:
    """Return Spearman's correlation of each class with valence and with arousal: (C, 2) in [-1, 1].

    See `emotion_adjacency` for which faces count and for what is refused.
    """
    names = _class_names(classes)
    lacking = [column for column in ("expression", *DIMENSIONS) if column not in faces]
    if lacking:
        raise BadInputError(
            f"the adjacency needs the faces' {', '.join(lacking)}; columns: {', '.join(map(str, faces))}"
        )
    known = pd.DataFrame(faces)[["expression", *DIMENSIONS]].dropna()
    known = known[known["expression"].isin(names)]
    absent = [name for name in names if not (known["expression"] == name).any()]
    if absent:
        raise BadInputError(f"no face with valence and arousal is of the class {', '.join(absent)}")
    constant = [name for name in DIMENSIONS if known[name].nunique() < 2]
    if constant:
        raise BadInputError(f"{' and '.join(constant)} is the same in all faces and correlates with nothing")
    one_hot = pd.DataFrame({name: (known["expression"] == name).astype(float) for name in names})
    ranks = pd.concat([one_hot, known[list(DIMENSIONS)]], axis=1).rank()
    table: np.ndarray = np.corrcoef(ranks.to_numpy(), rowvar=False)[: len(names), len(names) :]
    return table


def correlation_adjacency(
    correlations: Any,  # noqa: ANN401 - anything that an array is made of
    tau: float = 0.1,
    p: float = 0.7,
) -> np.ndarray:
    """Return the normalised adjacency of given correlations of classes with valence and arousal.

    A'_ij = 1 where |c_ij| >= tau, else 0;  A''_ij = p A'_ij / sum_{k != i} A'_ik,  A''_ii = 1 - p;  D^-1/2 A'' D^-1/2

    Symbols: i a node, first the C classes, then valence and arousal; c its correlation with j where one is a class and the
    other a dimension, and no edge elsewhere; D the sums of the rows of A''. Row i says how much of each node flows into i.

    Paper: Antoniadis, NTUA thesis 2021, (6.3.2), (6.3.4), (6.3.5) and section 6.1.1.
    Where a formula and its sentence disagree the sentence wins: (6.3.4) with tau = 0 would join class to class, of which
    (6.3.2) says that "we set the other pairs to zero"; (6.1.3) prints D^1/2 for the symmetric normalisation D^-1/2 A D^-1/2
    of section 6.1.1, and adds the identity, which A'' has in its diagonal already. (6.3.5) divides by zero for a node
    without neighbours: here it keeps its own diagonal, which the normalisation makes 1. Rows of all others sum to 1 as
    they are, so that the normalisation leaves them alone and "all rows sum to one" (1.5.1) holds in every case.

    Args:
        correlations: (C, 2) in [-1, 1], with valence and with arousal; signs do not count.
        tau: least |c| of an edge, in [0, 1].
        p: share of the neighbours, in [0, 1); 1 - p stays with the node.

    Returns:
        (C + 2, C + 2) float64.

    Raises:
        BadInputError: correlations of another shape or out of their range.
        WrongUseError: tau or p out of its range.

    Example:
        >>> correlation_adjacency([[0.86, 0.01], [-0.45, -0.43]]).round(2).tolist()
        [[0.3, 0.0, 0.7, 0.0], [0.0, 0.3, 0.35, 0.35], [0.35, 0.35, 0.3, 0.0], [0.0, 0.7, 0.0, 0.3]]
    """
    if not 0 <= tau <= 1 or not 0 <= p < 1:
        raise WrongUseError(f"tau must be in [0, 1] and p in [0, 1); got tau={tau}, p={p}")
    strength = np.abs(np.asarray(correlations, dtype=np.float64))
    if strength.ndim != 2 or strength.shape[1] != 2 or not len(strength) or not (strength <= 1).all():
        raise BadInputError(f"correlations (C, 2) in [-1, 1] are due; got {strength.shape}")
    nodes = len(strength) + 2
    edges = np.zeros((nodes, nodes))
    edges[:-2, -2:] = strength >= tau
    edges += edges.T
    neighbours = edges.sum(axis=1, keepdims=True)
    weighted = p * edges / np.maximum(neighbours, 1) + (1 - p) * np.eye(nodes)
    root = np.sqrt(weighted.sum(axis=1))
    normalised: np.ndarray = weighted / np.outer(root, root)
    return normalised


def facs_vectors(classes: Sequence[str] = SEVEN) -> np.ndarray:
    """Return the built-in node vectors: each class's action units, and an axis for each of valence and arousal.

    z_i = u_i / ||u_i||, u_i one at the class's units in `EMFACS` and zero elsewhere.

    Vectors of words put what is said alike close together; these put faces close together that move alike: fear shares four
    units with surprise. They need no download, are linearly independent, hold nothing that was measured on a data set, and
    leave the classes' relation to valence and arousal to the graph.

    Returns:
        (C + 2, d) float64 of unit length, d = 17 columns: the fifteen units, valence, arousal.

    Raises:
        WrongUseError: a class that EMFACS does not know.

    Example:
        >>> vectors = facs_vectors()
        >>> vectors.shape, (vectors @ vectors.T).round(2)[3, [2, 4, 7]].tolist()
        ((9, 17), [0.29, 0.76, 0.0])
    """
    units = sorted({unit for own in EMFACS.values() for unit in own})
    table = np.zeros((len(classes) + 2, len(units) + 2))
    for row, name in enumerate(classes):
        if name not in EMFACS:
            raise WrongUseError(f"{unknown_name('class', name, EMFACS)}; or pass word_vectors")
        table[row, [units.index(unit) for unit in EMFACS[name]]] = 1
    table[-2:, -2:] = np.eye(2)
    vectors: np.ndarray = table / np.linalg.norm(table, axis=1, keepdims=True)
    return vectors


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
        names = _class_names(classes)
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


def _class_names(classes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(classes, str) or len(classes) < 2 or len(set(classes)) < len(classes):
        raise WrongUseError(f"at least two different classes are due; got {classes!r}")
    return tuple(classes)


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
