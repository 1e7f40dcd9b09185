"""Valence and arousal of an embedding and back, classes and neighbours: one object on one fitted set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import Ridge
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from exprembed.errors import BadInputError, WrongUseError
from exprembed.index.knn import KNNClassifier
from exprembed.metrics.neighbours import nearest_rows


class AVFromEmbedding(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Read valence and arousal off embeddings, and the other way round, by ridge regression on a fitted set.

    Forth: y = A e + b minimises sum_i ||y_i - A e_i - b||^2 + alpha ||A||^2; back: the same with y and e exchanged, which is
    the mean embedding of faces that feel y, not the inverse of A. A scikit-learn estimator on vectors of any embedder; with
    classes in `fit` it also answers them, so that one object knows class, valence-arousal and neighbours.

    Args:
        alpha: strength of the penalty, at least 0.
        n_neighbors: neighbours that vote on a class.
        metric: "l2" or "cosine", for classes and neighbours.

    Attributes:
        n_features_in_: d.
        classes_: (C,) the classes, where `fit` was given some.

    Raises:
        WrongUseError: a negative alpha; classes asked of an object that was fitted without.
        BadInputError: valence and arousal that are not (n, 2) in [-1, 1], fewer faces than neighbours.
        ValueError: what scikit-learn itself refuses (NaN, a wrong d).

    Example:
        >>> vectors, felt = np.eye(4), [[1, 0], [-1, 0], [0, 1], [0, -1]]
        >>> known = AVFromEmbedding(alpha=1e-9, n_neighbors=1).fit(vectors, felt, ["joy", "grief", "fear", "calm"])
        >>> round(float(known.predict(vectors)[0, 0]), 3), known.classify(vectors[:1]).tolist()
        (1.0, ['joy'])
        >>> known.neighbours(vectors[2:3], 1).tolist()
        [[2]]
    """

    def __init__(self, alpha: float = 1.0, n_neighbors: int = 10, metric: str = "l2") -> None:
        self.alpha = alpha
        self.n_neighbors = n_neighbors
        self.metric = metric

    def fit(self, X: Any, y: Any, classes: Any = None) -> AVFromEmbedding:  # noqa: ANN401 - scikit-learn's names
        """Fit to vectors X (n, d), their valence and arousal y (n, 2), and, where known, their classes (n,)."""
        if not self.alpha >= 0:
            raise WrongUseError(f"alpha must be at least 0; got {self.alpha}")
        points, felt = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64)
        if felt.ndim != 2 or felt.shape[1] != 2 or (np.abs(felt) > 1).any():
            raise BadInputError(f"valence and arousal are due as (n, 2) in [-1, 1]; got {felt.shape}")
        self._forth = Ridge(alpha=self.alpha).fit(points, felt)
        self._back = Ridge(alpha=self.alpha).fit(felt, points)
        self._points = points
        self._knn = None if classes is None else KNNClassifier(self.n_neighbors, self.metric).fit(points, classes)
        if self._knn is not None:
            self.classes_ = self._knn.classes_
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:  # noqa: ANN401 - scikit-learn's names
        """Return valence and arousal of vectors (Q, d): (Q, 2), not clipped to [-1, 1]."""
        check_is_fitted(self)
        felt: NDArray[np.float64] = self._forth.predict(validate_data(self, X, dtype=np.float64, reset=False))
        return felt

    def embedding_of(self, valence_arousal: Any) -> NDArray[np.float64]:  # noqa: ANN401 - anything array-like
        """Return the embeddings (Q, d) that faces with given valence and arousal (Q, 2) have on average."""
        check_is_fitted(self)
        felt = check_array(valence_arousal, dtype=np.float64)
        if felt.shape[1] != 2:
            raise BadInputError(f"valence and arousal are due as (n, 2); got {felt.shape}")
        points: NDArray[np.float64] = self._back.predict(felt)
        return points

    def classify(self, X: Any) -> NDArray[Any]:  # noqa: ANN401 - scikit-learn's names
        """Return the class of each vector (Q, d) by its nearest fitted vectors: (Q,)."""
        check_is_fitted(self)
        if self._knn is None:
            raise WrongUseError("no classes were fitted; pass them: fit(X, y, classes)")
        return self._knn.predict(X)

    def neighbours(self, X: Any, k: int) -> NDArray[np.int64]:  # noqa: ANN401 - scikit-learn's names
        """Return the rows of the k nearest fitted vectors of each vector (Q, d), nearest first: (Q, k)."""
        check_is_fitted(self)
        queries = validate_data(self, X, dtype=np.float64, reset=False)
        return np.concatenate([rows for _, rows in nearest_rows(self._points, queries, k, self.metric)])
