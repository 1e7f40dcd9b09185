"""k nearest neighbours as a scikit-learn classifier, at the protocol's 200 neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from exprembed.errors import BadInputError
from exprembed.index.belonging import METRICS
from exprembed.metrics.checks import check_metric, unit_rows
from exprembed.metrics.exact import LARGEST, MEMORY_LIMIT, ExactSearch, longest
from exprembed.metrics.neighbours import check_k

_AT_ONCE = 2**18  # neighbours whose labels are counted together


class KNNClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classify a face by the labels of its nearest neighbours; a scikit-learn estimator.

    p(c | x) = |{i in kNN(x): y_i = c}| / k, the share of class c among the k nearest training vectors; the class with
    the largest share is predicted, the first in sorted order of several. The search is exact.
    Vemulapalli and Agarwala, "A Compact Embedding for Facial Expression Similarity", CVPR 2019, section 5.7 (k = 200).

    Args:
        n_neighbors: k, at most the number of training vectors.
        metric: "l2" or "cosine".
        memory_limit: bytes that a search works in, about.

    Attributes:
        classes_: (C,) the classes, sorted.
        n_features_in_: d.

    Raises:
        BadInputError: fewer training vectors than neighbours, a zero vector under cosine, a length beyond 1e18.
        WrongUseError: n_neighbors below 1, an unknown metric.
        ValueError: what scikit-learn itself refuses (NaN, a wrong d, labels of a regression).

    Example:
        >>> knn = KNNClassifier(n_neighbors=2).fit([[0.0], [0.1], [1.0], [1.1]], ["fear", "fear", "joy", "joy"])
        >>> knn.predict([[0.2], [0.9]]).tolist()
        ['fear', 'joy']
        >>> knn.predict_proba([[0.55]]).tolist()
        [[0.5, 0.5]]
    """

    def __init__(self, n_neighbors: int = 200, metric: str = "l2", memory_limit: int = MEMORY_LIMIT) -> None:
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.memory_limit = memory_limit

    def fit(self, X: Any, y: Any) -> KNNClassifier:  # noqa: ANN401 - scikit-learn's names
        """Remember the training vectors X (n, d) and their classes y (n,)."""
        check_k(self.n_neighbors, "n_neighbors")
        check_metric(self.metric, METRICS)
        points, labels = validate_data(self, X, y, dtype=(np.float64, np.float32))
        check_classification_targets(labels)
        if len(points) < self.n_neighbors:
            raise BadInputError(
                f"n_neighbors={self.n_neighbors} needs as many training vectors; n_samples = {len(points)}"
            )
        self.classes_, self._codes = np.unique(labels, return_inverse=True)
        self._search = ExactSearch(self._ready(points, "training vectors"), self.memory_limit)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: ANN401 - scikit-learn's names
        """Return the share of each class among the neighbours of each query: (Q, C), rows summing to 1."""
        check_is_fitted(self)
        queries = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        shares = np.empty((len(queries), len(self.classes_)))
        block = max(1, min(_AT_ONCE, self.memory_limit // 32) // self.n_neighbors)  # rows and distances, twice
        for start in range(0, len(queries), block):
            part = slice(start, start + block)
            rows, _ = self._search(self._ready(queries[part], "queries"), self.n_neighbors)
            votes = self._codes[rows]
            for code in range(len(self.classes_)):
                shares[part, code] = (votes == code).mean(axis=1)
        return shares

    def _ready(self, points: NDArray[Any], name: str) -> NDArray[np.float32]:
        """Return float32 vectors whose L2 distances order as the metric does."""
        if self.metric == "cosine":
            return unit_rows(points, name=name).astype(np.float32)
        if longest(points) > LARGEST:
            raise BadInputError(f"{name} may be longer than {LARGEST:g}, where distances overflow; scale them down")
        return np.asarray(points, dtype=np.float32)

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: ANN401 - scikit-learn's names
        """Return the class with the largest share for each query: (Q,)."""
        check_is_fitted(self)
        predicted: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return predicted
