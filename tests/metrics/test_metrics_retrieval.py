"""Rank difference, retrieval precision and identity leak against loops over single faces."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed.errors import BadInputError, WrongUseError
from exprembed.metrics import (
    IdentityLeak,
    expression_retrieval_precision,
    identity_leak,
    pairwise_votes,
    rank_difference,
)


def loop_rank_difference(votes):
    """One query, by the words of the protocol."""
    size = len(votes)
    score = [0] * size
    for i in range(size):
        for j in range(i + 1, size):
            if votes[i][j] > votes[j][i]:
                score[i], score[j] = score[i] + 1, score[j] - 1
            elif votes[i][j] < votes[j][i]:
                score[i], score[j] = score[i] - 1, score[j] + 1
    rank = [1 + sum(other > own for other in score) + (sum(other == own for other in score) - 1) / 2 for own in score]
    half = size // 2
    return (sum(rank[:half]) / half - sum(rank[half:]) / half) / half


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 10_000))
def test_rank_difference_equals_the_loop(half, queries, seed):
    votes = np.random.default_rng(seed).integers(0, 6, size=(queries, 2 * half, 2 * half))
    score = rank_difference(votes)
    expected = [loop_rank_difference(one.tolist()) for one in votes]
    assert score.by_query == pytest.approx(expected)
    assert score.mean == pytest.approx(np.mean(expected))
    assert -1 <= score.mean <= 1
    assert score.n == half
    swapped = np.roll(votes, half, axis=(1, 2))
    assert rank_difference(swapped).mean == pytest.approx(-score.mean)


@pytest.mark.parametrize("n", [1, 3, 10])
def test_positive_means_that_the_second_is_better(n):
    closeness = np.tile(np.r_[np.full(n, 2.0), np.full(n, 1.0)] + 0.01 * np.arange(2 * n), (10, 1))
    assert rank_difference(pairwise_votes(closeness)).mean == pytest.approx(1.0)
    assert rank_difference(pairwise_votes(-closeness)).mean == pytest.approx(-1.0)
    assert rank_difference(np.zeros((2 * n, 2 * n))).mean == 0.0


def test_pairwise_votes_equal_the_loop():
    judged = np.random.default_rng(0).integers(0, 4, size=(3, 10, 6)).astype(float)
    votes = pairwise_votes(judged)
    for query in range(3):
        for i in range(6):
            for j in range(6):
                assert votes[query, i, j] == sum(judged[query, r, i] < judged[query, r, j] for r in range(10))


@pytest.mark.parametrize(
    "votes", [np.zeros((3, 3)), np.zeros((2, 4)), np.zeros(4), np.zeros((0, 2, 2)), [[0, -1], [1, 0]]]
)
def test_rank_difference_bad_votes(votes):
    with pytest.raises(BadInputError, match="votes must be"):
        rank_difference(votes)


def random_case(n=60, d=3, seed=0):
    rng = np.random.default_rng(seed)
    points = pd.DataFrame(rng.normal(size=(n, d)), index=[f"f{i}" for i in range(n)])
    return points, rng.choice(["joy", "fear", "calm"], n), rng.choice(["p", "q", "r", "s"], n)


def loop_precision(points, labels, queries, k, people=None):
    shares, bases = [], []
    for row in queries:
        open_to = [i for i in range(len(points)) if i != row and (people is None or people[i] != people[row])]
        near = sorted(open_to, key=lambda i: np.linalg.norm(points[i] - points[row]))[:k]
        shares.append(sum(labels[i] == labels[row] for i in near) / len(near))
        bases.append(sum(labels[i] == labels[row] for i in open_to) / len(open_to))
    return np.array(shares), np.array(bases)


@pytest.mark.parametrize("with_people", [False, True])
def test_retrieval_precision_equals_the_loop(with_people):
    points, labels, people = random_case()
    people = people if with_people else None
    queries = [5, 17, 3, 44, 17]
    shares, bases = loop_precision(points.to_numpy(), labels, queries, 10, people)
    by_row = expression_retrieval_precision(points.to_numpy(), labels, queries, subjects=people)
    by_name = expression_retrieval_precision(points, labels, [f"f{i}" for i in queries], subjects=people)
    assert by_row == by_name
    assert by_row.precision == pytest.approx(shares.mean())
    assert by_row.base_rate == pytest.approx(bases.mean())
    for name in set(labels[queries]):
        assert by_row.by_class[name] == pytest.approx(shares[labels[queries] == name].mean())
        assert by_row.base_rate_by_class[name] == pytest.approx(bases[labels[queries] == name].mean())
    assert (by_row.n, by_row.k) == (5, 10)


def test_every_face_is_a_query_by_default_and_chance_equals_the_base_rate():
    points, labels, _ = random_case(n=600)
    score = expression_retrieval_precision(points, labels)
    assert score.n == 600
    assert score.precision == pytest.approx(score.base_rate, abs=0.03)


def test_retrieval_with_fewer_candidates_than_k_takes_what_there_is():
    score = expression_retrieval_precision([[0.0], [1.0], [2.0]], list("aab"), [0], k=3)
    assert score.precision == pytest.approx(0.5)
    score = expression_retrieval_precision(
        [[0.0], [0.1], [1.0], [9.0]], ["a", "b", "a", "b"], [0], k=3, subjects=["p", "p", "q", "q"]
    )
    assert score.precision == pytest.approx(0.5)


def test_retrieval_bad_input():
    points, labels, _ = random_case()
    with pytest.raises(BadInputError, match="'nobody' is not among"):
        expression_retrieval_precision(points, labels, ["f1", "nobody"])
    with pytest.raises(BadInputError, match="row numbers"):
        expression_retrieval_precision(points.to_numpy(), labels, ["f1"])
    with pytest.raises(BadInputError, match="60 is not among"):
        expression_retrieval_precision(points.to_numpy(), labels, [60])
    with pytest.raises(BadInputError, match="q >= 1"):
        expression_retrieval_precision(points, labels, [])
    with pytest.raises(BadInputError, match="no candidate"):
        expression_retrieval_precision(points, labels, subjects=["p"] * 60)
    with pytest.raises(WrongUseError, match="k must be"):
        expression_retrieval_precision(points, labels, k=-1)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_identity_leak_equals_the_loop(metric):
    points, labels, people = random_case(n=80)
    unit = points.to_numpy()
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True) if metric == "cosine" else unit
    leaks, chances = [], []
    for i in range(80):
        open_to = [j for j in range(80) if j != i and not (people[j] == people[i] and labels[j] == labels[i])]
        nearest = min(open_to, key=lambda j: np.linalg.norm(unit[j] - unit[i]))
        leaks.append(people[nearest] == people[i])
        chances.append(np.mean([people[j] == people[i] for j in open_to]))
    score = identity_leak(points, people, labels, metric)
    assert score.leak == pytest.approx(np.mean(leaks))
    assert score.chance == pytest.approx(np.mean(chances))
    assert score.n == 80


def test_identity_leak_tells_a_face_recogniser_from_an_expression_embedding():
    rng = np.random.default_rng(0)
    people, shown = np.repeat(np.arange(10), 21), np.tile(np.arange(7), 30)
    near_person = np.eye(10)[people] + 0.1 * rng.normal(size=(210, 10))
    near_expression = np.eye(7)[shown] + 0.1 * rng.normal(size=(210, 7))
    assert identity_leak(near_person, people, shown).leak == 1.0
    leak = identity_leak(near_expression, people, shown)
    assert leak.leak == 0.0
    assert leak.chance == pytest.approx(18 / 207)  # ten people with three pictures of each of seven expressions


@given(weight=st.floats(0, 100), same=st.integers(1, 50), others=st.integers(1, 500), more=st.integers(1, 500))
def test_odds_of_a_leak_do_not_depend_on_the_number_of_people(weight, same, others, more):
    """A face of the same person is nearest `weight` times as often as each other one."""

    def leak(others):
        return weight * same / (weight * same + others)

    few = IdentityLeak(leak(others), same / (same + others), 1)
    assert few.odds_ratio == pytest.approx(weight)
    assert few.among(few.chance) == pytest.approx(few.leak)
    assert few.among(same / (same + more)) == pytest.approx(leak(more))


def test_odds_of_a_leak_at_its_ends():
    assert IdentityLeak(0.0, 0.1, 9).odds_ratio == 0
    assert IdentityLeak(0.0, 0.0, 9).odds_ratio == 0
    assert IdentityLeak(1.0, 0.1, 9).odds_ratio == float("inf")
    assert IdentityLeak(1.0, 1.0, 9).odds_ratio == float("inf")
    assert IdentityLeak(1.0, 0.1, 9).among(0.5) == 1


def test_identity_leak_bad_input():
    points, labels, people = random_case()
    with pytest.raises(BadInputError, match="one person"):
        identity_leak(points, ["p"] * 60, ["joy"] * 60)
    with pytest.raises(BadInputError, match="subjects are missing"):
        identity_leak(points, [None, *people[1:]], labels)
    with pytest.raises(BadInputError, match="expressions must be"):
        identity_leak(points, people, labels[:-1])
