"""Complete linkage by a chain of nearest neighbours: scipy's clusters, whatever is kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from exprembed.index import albums, summarize_album
from exprembed.index import linkage as ours


def unit(rng, n, d):
    x = rng.normal(size=(n, d)) + rng.normal(size=d)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 120),
    d=st.integers(2, 16),
    kept=st.integers(2, 9),
    at_once=st.integers(1, 9),
)
@settings(max_examples=60, deadline=None)
def test_same_clusters_as_scipy(seed, n, d, kept, at_once):
    rng = np.random.default_rng(seed)
    x, clusters = unit(rng, n, d), int(rng.integers(1, n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ours, "_KEPT", kept)
        patch.setattr(ours, "_MEMBERS", at_once)
        found = ours.complete_linkage(x, clusters)
    due = fcluster(linkage(x, "complete", "cosine"), clusters, "maxclust")
    assert len(np.unique(found)) == clusters
    assert adjusted_rand_score(found, due) == 1


def test_duplicates_end():
    x = np.repeat(unit(np.random.default_rng(0), 9, 4), 30, axis=0)
    found = ours.complete_linkage(x, 9)
    assert adjusted_rand_score(found, np.repeat(np.arange(9), 30)) == 1
    assert len(np.unique(ours.complete_linkage(np.ones((50, 4)) / 2, 10))) == 10


def test_large_albums_take_it(monkeypatch):
    x = unit(np.random.default_rng(0), 400, 16)
    due = summarize_album(x, 7)
    monkeypatch.setattr(albums, "_MANY", 400)
    asked = []
    monkeypatch.setattr(albums, "complete_linkage", lambda *a: asked.append(1) or ours.complete_linkage(*a))
    found = summarize_album(x, 7)
    assert asked
    assert found.representatives == due.representatives
    assert (found.labels == due.labels).all()
