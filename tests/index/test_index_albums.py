"""Album summaries against a plain transcription of complete linkage."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed.errors import BadInputError, WrongUseError
from exprembed.index import AlbumSummary, summarize_album


def loop_clusters(points, count):
    """Merge the two clusters whose farthest members are nearest, until `count` are left."""
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    clusters = [[row] for row in range(len(points))]

    def apart(one, other):
        return max(1 - float(unit[i] @ unit[j]) for i in one for j in other)

    while len(clusters) > count:
        pairs = [(apart(clusters[i], clusters[j]), i, j) for i in range(len(clusters)) for j in range(i)]
        _, i, j = min(pairs)
        clusters[j] += clusters.pop(i)
    return unit, [sorted(cluster) for cluster in clusters]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 14), st.integers(1, 6), st.sampled_from([2, 5]))
def test_equals_complete_linkage_by_hand(seed, n, count, d):
    points = np.random.default_rng(seed).normal(size=(n, d))
    summary = summarize_album(points, count)
    unit, clusters = loop_clusters(points, count)
    clusters.sort(key=lambda members: (-len(members), members[0]))
    assert [np.flatnonzero(summary.labels == number).tolist() for number in range(len(clusters))] == clusters
    assert summary.sizes == tuple(map(len, clusters))
    for members, representative in zip(clusters, summary.representatives, strict=True):
        centre = unit[members].mean(axis=0)
        cosines = [unit[row] @ centre for row in members]
        assert representative in members
        assert unit[representative] @ centre == pytest.approx(max(cosines), abs=1e-10)


def test_names_scale_and_determinism():
    points = pd.DataFrame(np.random.default_rng(0).normal(size=(150, 16)), index=[f"img{i}.jpg" for i in range(150)])
    summary = summarize_album(points)
    by_row = summarize_album(points.to_numpy(dtype=np.float32) * 7)
    assert len(summary.representatives) == len(set(summary.representatives)) == 10
    assert summary.representatives == tuple(f"img{row}.jpg" for row in by_row.representatives)
    assert (summary.labels == by_row.labels).all()
    assert all(type(row) is int for row in by_row.representatives)
    assert sum(summary.sizes) == 150
    assert list(summary.sizes) == sorted(summary.sizes, reverse=True)


def test_finds_planted_expressions():
    rng = np.random.default_rng(0)
    centres = np.eye(16)[:10]
    truth = rng.integers(0, 10, 200)
    summary = summarize_album(centres[truth] + 0.03 * rng.normal(size=(200, 16)))
    assert sorted(truth[list(summary.representatives)]) == list(range(10))


def test_small_albums_and_duplicates():
    assert summarize_album([[1.0, 2.0]]).representatives == (0,)
    few = summarize_album(pd.DataFrame(np.eye(3), index=list("abc")), 10)
    assert (few.representatives, few.labels.tolist(), few.sizes) == (("a", "b", "c"), [0, 1, 2], (1, 1, 1))
    same = summarize_album(np.ones((30, 4)), 10)
    assert len(same.representatives) == 10
    assert sum(same.sizes) == 30
    opposite = summarize_album([[1.0, 0.0], [-1.0, 0.0]], 1)
    assert (opposite.representatives, opposite.sizes) == ((0,), (2,))


def test_bad_albums():
    with pytest.raises(BadInputError, match="empty"):
        summarize_album(np.empty((0, 16)))
    with pytest.raises(BadInputError, match=r"all zero.*row 1 \('b'\)"):
        summarize_album(pd.DataFrame([[1.0], [0.0]], index=["a", "b"]))
    with pytest.raises(BadInputError, match="NaN"):
        summarize_album([[np.nan, 1.0]])
    with pytest.raises(BadInputError, match="'a' is repeated"):
        summarize_album(pd.DataFrame([[1.0], [2.0]], index=["a", "a"]))
    for count in (0, -1, 2.5, True):
        with pytest.raises(WrongUseError, match="n_clusters must be"):
            summarize_album([[1.0]], count)
    with pytest.raises(BadInputError, match="same clusters"):
        AlbumSummary((0,), np.array([0, 1]), (2,))
    with pytest.raises(ValueError, match="read-only"):
        summarize_album([[1.0]]).labels[0] = 3


def test_people_are_factored_out():
    """Six people, far apart, with the same four expressions: clusters of people without, of expressions with subjects."""
    rng = np.random.default_rng(0)
    people, expressions = 1.5 * np.eye(16)[:6], 0.5 * np.eye(16)[8:12]
    who, what = np.repeat(np.arange(6), 4), np.tile(np.arange(4), 6)
    faces = people[who] + expressions[what] + 0.01 * rng.normal(size=(24, 16))
    alike = summarize_album(faces, 6).labels
    assert all(len(set(alike[who == person])) == 1 for person in range(6))
    found = summarize_album(faces, 4, subjects=who.tolist()).labels
    assert all(len(set(found[what == expression])) == 1 for expression in range(4))
    assert len(set(found)) == 4


def test_subjects_may_be_unknown_or_alone():
    faces = np.random.default_rng(0).normal(size=(5, 8)) + 1
    summary = summarize_album(faces, 2, subjects=["a", "a", None, float("nan"), "b"])
    assert len(set(summary.labels[2:])) == 1  # three that are nobody else's all become the mean
    with pytest.raises(BadInputError, match=r"subjects must be \(5,\), one a vector; got 2"):
        summarize_album(faces, 2, subjects=["a", "b"])
