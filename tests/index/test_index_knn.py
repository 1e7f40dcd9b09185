"""KNNClassifier: against a loop, against scikit-learn's own, and by its estimator checks."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from exprembed.errors import BadInputError, WrongUseError
from exprembed.index import KNNClassifier, svm_classifier
from exprembed.metrics.exact import MEMORY_LIMIT


@parametrize_with_checks([KNNClassifier(n_neighbors=1), KNNClassifier(n_neighbors=3)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def random_case(n=150, q=40, d=5, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(["anger", "fear", "joy"], n)
    shift = {"anger": 0.0, "fear": 1.0, "joy": 2.0}
    return rng.normal(size=(n, d)) + np.array([[shift[c]] for c in labels]), labels, 1 + rng.normal(size=(q, d))


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 9, 150])
def test_shares_equal_the_loop(metric, dtype, k):
    points, labels, queries = random_case()
    knn = KNNClassifier(k, metric).fit(points.astype(dtype), labels)
    shares = knn.predict_proba(queries.astype(dtype))
    assert knn.classes_.tolist() == ["anger", "fear", "joy"]
    for row, query in enumerate(queries):
        if metric == "l2":
            away = ((points - query) ** 2).sum(axis=1)
        else:
            away = -points @ query / np.linalg.norm(points, axis=1)
        votes = Counter(labels[np.argsort(away, kind="stable")[:k]])
        assert shares[row].tolist() == pytest.approx([votes[name] / k for name in knn.classes_])
        assert knn.predict(queries[row : row + 1].astype(dtype))[0] == knn.classes_[shares[row].argmax()]


def test_equals_scikit_learn_at_the_protocols_k():
    points, labels, queries = random_case(n=3000, q=200, d=16)
    ours, theirs = KNNClassifier().fit(points, labels), KNeighborsClassifier(200, algorithm="brute").fit(points, labels)
    assert ours.n_neighbors == 200
    np.testing.assert_allclose(ours.predict_proba(queries), theirs.predict_proba(queries))
    assert (ours.predict(queries) == theirs.predict(queries)).all()


def test_exact_on_a_circle_where_float32_products_fail():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 4000)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    labels = np.arange(4000)
    assert (KNNClassifier(1).fit(points, labels).predict(points) == labels).mean() > 0.999


def test_is_a_good_estimator():
    points, labels, _ = random_case()
    knn = clone(KNNClassifier(7, metric="cosine"))
    assert knn.get_params() == {"n_neighbors": 7, "metric": "cosine", "memory_limit": MEMORY_LIMIT}
    assert knn.set_params(n_neighbors=5).n_neighbors == 5
    assert cross_val_score(KNNClassifier(9), points, labels, cv=3).mean() > 0.7
    frame = pd.DataFrame(points, columns=[f"e{i}" for i in range(5)])
    assert KNNClassifier(3).fit(frame, labels).feature_names_in_.tolist() == list(frame.columns)
    assert KNNClassifier(3).fit(frame, pd.Series(labels)).score(frame, labels) > 0.8


def test_ties_go_to_the_first_class():
    knn = KNNClassifier(2).fit([[0.0], [1.0]], ["b", "a"])
    assert knn.predict([[0.2]]).tolist() == ["a"]


def test_bad_use():
    points, labels, queries = random_case()
    with pytest.raises(BadInputError, match="n_neighbors=200 needs as many"):
        KNNClassifier().fit(points, labels)
    with pytest.raises(WrongUseError, match="n_neighbors must be"):
        KNNClassifier(0).fit(points, labels)
    with pytest.raises(WrongUseError, match="did you mean 'cosine'"):
        KNNClassifier(3, "cosin").fit(points, labels)
    with pytest.raises(ValueError, match="NaN"):
        KNNClassifier(3).fit(points * np.nan, labels)
    with pytest.raises(ValueError, match="features"):
        KNNClassifier(3).fit(points, labels).predict(queries[:, :2])
    with pytest.raises(BadInputError, match="all zero"):
        KNNClassifier(3, "cosine").fit(points, labels).predict(queries * 0)


def test_a_support_vector_machine_may_weigh_classes_alike():
    """Of two overlapping classes the rare one is hardly ever named, unless its errors weigh more."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(400, 2)), rng.normal(size=(20, 2)) + 1])
    labels = np.array(["many"] * 400 + ["few"] * 20)
    plain, balanced = (svm_classifier(balanced=how).fit(points, labels).predict(points) for how in (False, True))
    assert (plain[labels == "few"] == "few").mean() < 0.3
    assert (balanced[labels == "few"] == "few").mean() > 0.6
    for wrong in ({"C": 0}, {"kernel": "rfb"}, {"device": "gpu"}):
        with pytest.raises(WrongUseError):
            svm_classifier(**wrong)
