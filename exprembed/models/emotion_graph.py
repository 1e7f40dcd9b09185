"""What Emotion-GCN's graph is made of: which node flows into which, and the vectors that stand at the nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from exprembed.data.tables import EXPRESSIONS, FaceTable
from exprembed.errors import BadInputError, WrongUseError, unknown_name

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


def emotion_adjacency(
    faces: FaceTable,
    tau: float = 0.1,
    p: float = 0.7,
    classes: Sequence[str] = SEVEN,
    conditionals: Any = None,  # noqa: ANN401 - anything that an array is made of
    signed: bool = False,
) -> np.ndarray:
    """Return Emotion-GCN's adjacency of labelled faces: which class goes with valence, and which with arousal.

    c = Spearman's correlation of each one-hot class with valence and with arousal; then `correlation_adjacency`.

    Paper: thesis (6.3.3). It prints sum x_r y_r / sqrt(sum x_r^2 sum y_r^2) of the bare ranks; its sentence says Spearman's
    coefficient, which takes ranks from their mean. The sentence wins: bare ranks correlate whatever the labels are. Ties,
    of which one-hot columns consist, share their mean rank.

    Args:
        faces: with `expression`, `valence` and `arousal`; faces that lack one of them, or are of another class, take no
            part.
        tau: as for `correlation_adjacency`, like `p`, `conditionals` and `signed`.
        p: share of the neighbours.
        classes: the first C nodes, in order; valence and arousal follow.
        conditionals: (C, C) probability of a class given another, which joins classes too; None for no such edge.
        signed: keep the correlations' signs.

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
    return correlation_adjacency(class_correlations(faces, classes), tau, p, conditionals, signed)


def class_correlations(faces: FaceTable, classes: Sequence[str] = SEVEN) -> np.ndarray:
    """Return Spearman's correlation of each class with valence and with arousal: (C, 2) in [-1, 1].

    See `emotion_adjacency` for which faces count and for what is refused.
    """
    names = class_names(classes)
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


def conditional_probabilities(shares: Any) -> np.ndarray:  # noqa: ANN401 - anything that an array is made of
    """Return how probable each class is given another: P(j | i) = sum_n s_ni s_nj / sum_n s_ni.

    Symbols: s_ni in [0, 1] how far face n is of class i. Several labels a face (0 or 1) make it ML-GCN's M_ij / N_i, faces
    with both over faces with i. Shares of votes (`vote_distributions`) make it the chance that a second rater says j where a
    first says i. One label a face gives no class a chance beside another.

    Paper: Antoniadis, NTUA thesis 2021, section 6.4.3, which takes "the conditional probability matrix of the basic emotions
    like in ML-GCN" (Chen et al., CVPR 2019) and does not say which co-occurrences it counts where faces have one label.

    Args:
        shares: (N, C) in [0, 1].

    Returns:
        (C, C) float64; row i is given class i. Of a class of which no face is at all, zeros.

    Raises:
        BadInputError: another shape, or numbers outside [0, 1].

    Example:
        >>> conditional_probabilities([[1, 1, 0], [1, 0, 0]]).tolist()
        [[1.0, 0.5, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    own = np.asarray(shares, dtype=np.float64)
    if own.ndim != 2 or not own.size or not ((own >= 0) & (own <= 1)).all():
        raise BadInputError(f"shares (N, C) in [0, 1] are due, a row a face; got {own.shape}")
    total = own.sum(axis=0)[:, None]
    table: np.ndarray = np.divide(own.T @ own, total, out=np.zeros((own.shape[1],) * 2), where=total > 0)
    bounded: np.ndarray = np.minimum(table, 1)  # rounding may pass it
    return bounded


def correlation_adjacency(
    correlations: Any,  # noqa: ANN401 - anything that an array is made of
    tau: float = 0.1,
    p: float = 0.7,
    conditionals: Any = None,  # noqa: ANN401 - likewise
    signed: bool = False,
) -> np.ndarray:
    """Return the normalised adjacency of given correlations of classes with valence and arousal.

    A'_ij = 1 where |c_ij| >= tau, else 0;  A''_ij = p A'_ij / sum_{k != i} |A'_ik|,  A''_ii = 1 - p;  D^-1/2 A'' D^-1/2

    Symbols: i a node, first the C classes, then valence and arousal; c its correlation with j where one is a class and the
    other a dimension, and no edge elsewhere; D the sums of |A''| over the rows. Row i says how much of each node flows into i.
    With `conditionals` c_ij = P(j | i) between two classes, whose edges may go one way only. With `signed` A'_ij = -1 where
    c_ij <= -tau.

    Paper: Antoniadis, NTUA thesis 2021, (6.3.2), (6.3.4), (6.3.5) and section 6.1.1; 6.4.3 for edges between classes.
    Where a formula and its sentence disagree the sentence wins: (6.3.4) with tau = 0 would join class to class, of which
    (6.3.2) says that "we set the other pairs to zero"; (6.1.3) prints D^1/2 for the symmetric normalisation D^-1/2 A D^-1/2
    of section 6.1.1, and adds the identity, which A'' has in its diagonal already. (6.3.5) divides by zero for a node
    without neighbours: here it keeps its own diagonal, which the normalisation makes 1. Rows of all others sum to 1 as
    they are, so that the normalisation leaves them alone and "all rows sum to one" (1.5.1) holds in every case.
    The thesis gives no threshold for edges between classes (ours: tau). Signs are our own addition, and change nothing
    else: the thesis takes absolute values. The absolute values of a row then sum to 1: plain sums would fall to zero where
    correlations cancel.

    Args:
        correlations: (C, 2) in [-1, 1], with valence and with arousal; signs count where `signed`.
        tau: least |c| of an edge, in [0, 1].
        p: share of the neighbours, in [0, 1); 1 - p stays with the node.
        conditionals: (C, C) in [0, 1], such as `conditional_probabilities` gives; the diagonal does not count. None for no
            edge between classes.
        signed: keep the correlations' signs.

    Returns:
        (C + 2, C + 2) float64.

    Raises:
        BadInputError: correlations or conditionals of another shape or out of their range.
        WrongUseError: tau or p out of its range.

    Example:
        >>> correlation_adjacency([[0.86, 0.01], [-0.45, -0.43]]).round(2).tolist()
        [[0.3, 0.0, 0.7, 0.0], [0.0, 0.3, 0.35, 0.35], [0.35, 0.35, 0.3, 0.0], [0.0, 0.7, 0.0, 0.3]]
        >>> correlation_adjacency([[0.86, 0.01], [-0.45, -0.43]], signed=True).round(2)[1].tolist()
        [0.0, 0.3, -0.35, -0.35]
    """
    if not 0 <= tau <= 1 or not 0 <= p < 1:
        raise WrongUseError(f"tau must be in [0, 1] and p in [0, 1); got tau={tau}, p={p}")
    felt = np.asarray(correlations, dtype=np.float64)
    if felt.ndim != 2 or felt.shape[1] != 2 or not len(felt) or not (np.abs(felt) <= 1).all():
        raise BadInputError(f"correlations (C, 2) in [-1, 1] are due; got {felt.shape}")
    classes = len(felt)
    edges = np.zeros((classes + 2, classes + 2))
    edges[:classes, classes:] = (np.abs(felt) >= tau) * (np.where(felt < 0, -1, 1) if signed else 1)
    edges += edges.T
    if conditionals is not None:
        given = np.asarray(conditionals, dtype=np.float64)
        if given.shape != (classes, classes) or not ((given >= 0) & (given <= 1)).all():
            raise BadInputError(f"conditionals ({classes}, {classes}) in [0, 1] are due; got {given.shape}")
        edges[:classes, :classes] = (given >= tau) & ~np.eye(classes, dtype=bool)
    neighbours = np.abs(edges).sum(axis=1, keepdims=True)
    weighted = p * edges / np.maximum(neighbours, 1) + (1 - p) * np.eye(classes + 2)
    root = np.sqrt(np.abs(weighted).sum(axis=1))
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


def class_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the classes, or raise WrongUseError unless they are two different names or more."""
    if isinstance(classes, str) or len(classes) < 2 or len(set(classes)) < len(classes):
        raise WrongUseError(f"at least two different classes are due; got {classes!r}")
    return tuple(classes)
