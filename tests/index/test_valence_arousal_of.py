"""AVFromEmbedding: ridge regression forth and back against its closed form; classes and neighbours beside it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from exprembed import AVFromEmbedding, KNNClassifier
from exprembed.errors import BadInputError, WrongUseError


def fitted_set(seed=0, n=60, d=3):
    rng = np.random.default_rng(seed)
    felt = rng.uniform(-1, 1, (n, 2))
    return felt @ rng.normal(size=(2, d)) + 0.05 * rng.normal(size=(n, d)) + 3, felt


def closed_form(x, y, alpha):
    """(X'X + alpha I)^-1 X'Y on centred X and Y."""
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    xc, yc = x - mean_x, y - mean_y
    weights = np.linalg.solve(xc.T @ xc + alpha * np.eye(x.shape[1]), xc.T @ yc)
    return lambda v: (v - mean_x) @ weights + mean_y


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(0.001, 100))
def test_forth_and_back_are_the_closed_form(seed, alpha):
    vectors, felt = fitted_set(seed)
    known = AVFromEmbedding(alpha=alpha).fit(vectors, felt)
    asked, wanted = vectors[:5] + 0.1, felt[:5] / 2
    assert np.abs(known.predict(asked) - closed_form(vectors, felt, alpha)(asked)).max() < 1e-9
    assert np.abs(known.embedding_of(wanted) - closed_form(felt, vectors, alpha)(wanted)).max() < 1e-9


def test_there_and_back():
    vectors, felt = fitted_set()
    known = AVFromEmbedding(alpha=1e-6).fit(vectors, felt)
    assert np.abs(known.predict(known.embedding_of(felt)) - felt).max() < 0.1
    assert known.score(vectors, felt) > 0.95


def test_one_object_answers_class_and_neighbours():
    vectors, felt = fitted_set()
    names = np.where(felt[:, 0] > 0, "joy", "grief")
    known = AVFromEmbedding(n_neighbors=5, metric="cosine").fit(vectors, felt, names)
    assert known.classes_.tolist() == ["grief", "joy"]
    assert known.classify(vectors).tolist() == KNNClassifier(5, "cosine").fit(vectors, names).predict(vectors).tolist()
    rows = known.neighbours(vectors, 3)
    assert rows[:, 0].tolist() == list(range(60))
    assert clone(known).get_params() == {"alpha": 1.0, "n_neighbors": 5, "metric": "cosine"}


def test_it_refuses():
    vectors, felt = fitted_set()
    with pytest.raises(WrongUseError, match="alpha"):
        AVFromEmbedding(alpha=-1).fit(vectors, felt)
    for wrong in (felt[:, :1], 2 * felt, felt[:, 0]):
        with pytest.raises(BadInputError, match=r"\(n, 2\)"):
            AVFromEmbedding().fit(vectors, wrong)
    known = AVFromEmbedding().fit(vectors, felt)
    with pytest.raises(WrongUseError, match="no classes"):
        known.classify(vectors)
    with pytest.raises(BadInputError, match=r"\(n, 2\)"):
        known.embedding_of(np.zeros((3, 1)))
    with pytest.raises(BadInputError, match="61 neighbours"):
        known.neighbours(vectors, 61)
    with pytest.raises(ValueError, match="features"):
        known.predict(vectors[:, :2])
    with pytest.raises(ValueError, match="NaN"):
        known.predict(np.full((1, 3), np.nan))
