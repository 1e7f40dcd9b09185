"""Scores of retrieval: rank difference of two embeddings, precision of neighbours, how far identity leaks in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from exprembed.errors import BadInputError
from exprembed.metrics.checks import as_labels, as_matrix, check_unique, plain
from exprembed.metrics.neighbours import nearest_rows


@dataclass(frozen=True)
class RankDifference:
    """Result of `rank_difference`.

    Attributes:
        mean: mean over queries, in [-1, 1]; above 0 the second embedding retrieves better.
        by_query: (Q,) the difference of each query.
        n: images retrieved by each embedding for a query.
    """

    mean: float
    by_query: NDArray[np.float64]
    n: int


def rank_difference(votes: ArrayLike) -> RankDifference:
    """Compare what two embeddings retrieve by how people rank it: **positive means that the second is better**.

    The N results of the first embedding and the N of the second are merged and judged in pairs: more votes win (+1),
    fewer lose (-1), equal ones tie (0). The 2N images are ranked by the sum of these scores, 1 the best, equal sums
    sharing their mean rank; then D = (mean rank of the first's - mean rank of the second's) / N. An image that both
    retrieve stands in both halves and ties with itself. Vemulapalli and Agarwala, CVPR 2019, section 5.7 and Fig. 6
    (first AFFNet-CL-P, second FECNet-16d).

    Args:
        votes: (2N, 2N) or (Q, 2N, 2N), entry (i, j) the number of raters (>= 0) who find image i closer to the query
            than image j; rows 0..N-1 are the first embedding's images, N..2N-1 the second's. `pairwise_votes` makes it.

    Returns:
        RankDifference.

    Raises:
        BadInputError: not square, an odd number of images, negative or NaN votes.

    Example:
        >>> rank_difference([[0, 1], [5, 0]]).mean
        1.0
    """
    counts = np.asarray(votes, dtype=np.float64)
    counts = counts[None] if counts.ndim == 2 else counts
    if counts.ndim != 3 or counts.shape[1] != counts.shape[2] or counts.shape[1] % 2 or counts.size == 0:
        raise BadInputError(f"votes must be (2N, 2N) or (Q, 2N, 2N), N images of each embedding; got {np.shape(votes)}")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise BadInputError("votes must be numbers of raters, 0 or more")
    scores = np.sign(counts - counts.transpose(0, 2, 1)).sum(axis=2)
    ranks = pd.DataFrame(-scores).rank(axis=1, method="average").to_numpy()
    n = counts.shape[1] // 2
    by_query = (ranks[:, :n].mean(axis=1) - ranks[:, n:].mean(axis=1)) / n
    return RankDifference(float(by_query.mean()), by_query, n)


def pairwise_votes(judged: ArrayLike) -> NDArray[np.int64]:
    """Count, for each pair of images, the raters who find the one closer to the query than the other.

    Args:
        judged: (R, M) or (Q, R, M): the distance from the query that each of R raters sees in each of M images.

    Returns:
        (M, M) or (Q, M, M) int, as `rank_difference` takes it.

    Example:
        >>> pairwise_votes([[0.1, 0.9], [0.2, 0.3], [0.5, 0.4]]).tolist()
        [[0, 2], [1, 0]]
    """
    seen = np.asarray(judged, dtype=np.float64)
    if seen.ndim not in (2, 3) or np.isnan(seen).any():
        raise BadInputError(f"judged must be (R, M) or (Q, R, M) distances without NaN; got shape {seen.shape}")
    return np.asarray((seen[..., :, None] < seen[..., None, :]).sum(axis=-3), dtype=np.int64)


@dataclass(frozen=True)
class RetrievalPrecision:
    """Result of `expression_retrieval_precision`.

    Attributes:
        precision: mean share of a query's k nearest faces that bear its label, in [0, 1].
        base_rate: the same share expected of faces drawn at random.
        by_class: precision by the query's label.
        base_rate_by_class: base rate by the query's label.
        n: number of queries.
        k: number of neighbours.
    """

    precision: float
    base_rate: float
    by_class: dict[Any, float]
    base_rate_by_class: dict[Any, float]
    n: int
    k: int


def expression_retrieval_precision(
    vectors: pd.DataFrame | ArrayLike,
    labels: pd.Series | ArrayLike,
    queries: Sequence[Any] | ArrayLike | None = None,
    k: int = 10,
    metric: str = "l2",
    subjects: pd.Series | ArrayLike | None = None,
) -> RetrievalPrecision:
    """Score the share of a face's k nearest faces that bear its label (precision at k), beside the base rate.

    The query itself is never among its results. base_rate = mean over queries of (candidates with the query's label) /
    (candidates). Where subjects leave a query fewer than k candidates, the share is of those that there are.

    Args:
        vectors: (n, d) vectors; a DataFrame is indexed by face_id.
        labels: (n,) label of each face: a class, or one attribute as true / false.
        queries: face_ids (row numbers beside an array) of the queries; None takes every face.
        k: results of each query.
        metric: "l2", "l1" or "cosine".
        subjects: (n,) person in each face; when given, faces of the query's person are no candidates.

    Returns:
        RetrievalPrecision.

    Raises:
        BadInputError: bad vectors or labels, an unknown query, a query without any candidate, too few faces.
        WrongUseError: k below 1, an unknown metric.

    Example:
        >>> expression_retrieval_precision([[0.0], [0.1], [1.0], [1.1]], list("aabb"), k=1).precision
        1.0
    """
    matrix = as_matrix(vectors)
    codes, classes = pd.factorize(as_labels(labels, vectors, len(matrix)), sort=True)
    asked = _query_rows(vectors, queries, len(matrix))
    if subjects is None:
        groups, people = np.arange(len(matrix)), np.ones(len(matrix), dtype=np.int64)
    else:
        groups = pd.factorize(as_labels(subjects, vectors, len(matrix), "subjects"))[0]
        people = np.bincount(groups)
    candidates = len(matrix) - people[groups[asked]]
    if (candidates == 0).any():
        raise BadInputError(
            f"the query in row {int(asked[np.argmin(candidates)])} has no candidate: every other face "
            "is of the same person"
        )
    own = (
        pd.Series(1, index=pd.MultiIndex.from_arrays([groups, codes])).groupby(level=[0, 1]).transform("sum").to_numpy()
    )
    base = (np.bincount(codes)[codes[asked]] - own[asked]) / candidates
    share = np.empty(len(asked))
    for part, rows in nearest_rows(matrix, matrix[asked], k, metric, (groups, groups[asked])):
        hits = (codes[rows] == codes[asked[part], None]) & (rows >= 0)
        share[part] = hits.sum(axis=1) / (rows >= 0).sum(axis=1)
    by_class = {classes[code]: float(share[codes[asked] == code].mean()) for code in np.unique(codes[asked])}
    by_base = {classes[code]: float(base[codes[asked] == code].mean()) for code in np.unique(codes[asked])}
    return RetrievalPrecision(float(share.mean()), float(base.mean()), by_class, by_base, len(asked), k)


@dataclass(frozen=True)
class IdentityLeak:
    """Result of `identity_leak`.

    Attributes:
        leak: share of faces whose nearest candidate shows the same person, in [0, 1]; lower is better.
        chance: the same share expected of a candidate drawn at random.
        n: faces scored.
    """

    leak: float
    chance: float
    n: int

    @property
    def odds_ratio(self) -> float:
        """W = (leak / (1 - leak)) / (chance / (1 - chance)), in [0, inf]; lower is better, 1 is chance.

        Where each face of the same person is nearest w times as often as each other face, w is this ratio, however many
        people there are to choose from; the leak itself falls with every further person.

        Example:
            >>> round(IdentityLeak(leak=0.15, chance=0.087, n=213).odds_ratio, 2)
            1.85
        """
        if self.leak == 1 or self.chance == 0:
            return float("inf") if self.leak else 0.0
        return self.leak / (1 - self.leak) * (1 - self.chance) / self.chance

    def among(self, chance: float) -> float:
        """Return the leak of the same odds among other people, where chance would give `chance`, in [0, 1].

        Example:
            >>> round(IdentityLeak(leak=0.15, chance=0.087, n=213).among(0.5), 2)
            0.65
        """
        if self.odds_ratio == float("inf"):
            return 1.0
        odds = self.odds_ratio * chance
        return odds / (odds + 1 - chance)


def identity_leak(
    vectors: pd.DataFrame | ArrayLike,
    subjects: pd.Series | ArrayLike,
    expressions: pd.Series | ArrayLike,
    metric: str = "l2",
) -> IdentityLeak:
    """Score how often the nearest face is of the same person although its expression differs.

    The candidates of a face are all faces but itself and those of the same person with the same expression, for these
    ought to be near. chance = mean over faces of (same person's candidates) / (candidates).

    Args:
        vectors: (n, d) vectors; a DataFrame is indexed by face_id.
        subjects: (n,) person in each face.
        expressions: (n,) expression of each face.
        metric: "l2", "l1" or "cosine".

    Returns:
        IdentityLeak.

    Raises:
        BadInputError: bad vectors or labels, or a face without any candidate.
        WrongUseError: an unknown metric.

    Example:
        >>> identity_leak([[0.0], [0.1], [1.0], [1.1]], list("ppqq"), ["joy", "fear", "joy", "fear"]).leak
        1.0
    """
    matrix = as_matrix(vectors)
    n = len(matrix)
    people = pd.factorize(as_labels(subjects, vectors, n, "subjects"))[0]
    shown = pd.factorize(as_labels(expressions, vectors, n, "expressions"))[0]
    groups = pd.factorize(people * (shown.max(initial=0) + 1) + shown)[0]
    same_person, same_group = np.bincount(people)[people], np.bincount(groups)[groups]
    if n == 0 or same_group.max() == n:
        raise BadInputError(f"all {n} faces are of one person with one expression: none has a candidate")
    leaks = np.empty(n, dtype=bool)
    for part, rows in nearest_rows(matrix, matrix, 1, metric, (groups, groups)):
        leaks[part] = people[rows[:, 0]] == people[part]
    chance = (same_person - same_group) / (n - same_group)
    return IdentityLeak(float(leaks.mean()), float(chance.mean()), n)


def _query_rows(vectors: object, queries: Any, n: int) -> NDArray[np.int64]:  # noqa: ANN401 - ids or row numbers
    if queries is None:
        return np.arange(n)
    asked = np.asarray(queries)
    if isinstance(vectors, pd.DataFrame):
        check_unique(vectors.index, "vectors")
        rows = vectors.index.get_indexer(pd.Index(list(queries)))
    else:
        if asked.dtype.kind not in "iu":
            raise BadInputError(f"queries beside an array are row numbers; got {asked.dtype}")
        rows = np.where((asked >= 0) & (asked < n), asked, -1)
    if asked.ndim != 1 or not len(asked):
        raise BadInputError(
            f"queries must be face_ids or row numbers of the vectors, (q,) with q >= 1; got shape {asked.shape}"
        )
    if (rows < 0).any():
        raise BadInputError(f"the query {plain(asked[np.argmax(rows < 0)])} is not among the {n} vectors")
    return rows.astype(np.int64)
