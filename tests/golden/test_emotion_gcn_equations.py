"""Emotion-GCN's adjacency, by hand; its graph, scores and gradients against a float64 NumPy transcription."""

import numpy as np
import pytest
import torch
from _numeric import slope

from exprembed import EmotionGCN
from exprembed.data import FaceTable
from exprembed.models.emotion_gcn import (
    AFFECTNET_SPEARMAN,
    SEVEN,
    class_correlations,
    conditional_probabilities,
    correlation_adjacency,
    emotion_adjacency,
)

# By hand: with tau = 0.1 all classes have an edge to valence but surprise (.028), all to arousal but happiness (.014).
# Columns: neutral, happiness, sadness, surprise, fear, disgust, anger, valence, arousal. With neighbours' share p a class with
# both edges gives p / 2 to each, one with a single edge p; valence and arousal have six neighbours, p / 6 for each.
BY_HAND = {
    0.7: np.array(
        [
            [0.3, 0, 0, 0, 0, 0, 0, 0.35, 0.35],
            [0, 0.3, 0, 0, 0, 0, 0, 0.7, 0],
            [0, 0, 0.3, 0, 0, 0, 0, 0.35, 0.35],
            [0, 0, 0, 0.3, 0, 0, 0, 0, 0.7],
            [0, 0, 0, 0, 0.3, 0, 0, 0.35, 0.35],
            [0, 0, 0, 0, 0, 0.3, 0, 0.35, 0.35],
            [0, 0, 0, 0, 0, 0, 0.3, 0.35, 0.35],
            [7 / 60, 7 / 60, 7 / 60, 0, 7 / 60, 7 / 60, 7 / 60, 0.3, 0],
            [7 / 60, 0, 7 / 60, 7 / 60, 7 / 60, 7 / 60, 7 / 60, 0, 0.3],
        ]
    ),
    0.5: np.array(
        [
            [0.5, 0, 0, 0, 0, 0, 0, 0.25, 0.25],
            [0, 0.5, 0, 0, 0, 0, 0, 0.5, 0],
            [0, 0, 0.5, 0, 0, 0, 0, 0.25, 0.25],
            [0, 0, 0, 0.5, 0, 0, 0, 0, 0.5],
            [0, 0, 0, 0, 0.5, 0, 0, 0.25, 0.25],
            [0, 0, 0, 0, 0, 0.5, 0, 0.25, 0.25],
            [0, 0, 0, 0, 0, 0, 0.5, 0.25, 0.25],
            [1 / 12, 1 / 12, 1 / 12, 0, 1 / 12, 1 / 12, 1 / 12, 0.5, 0],
            [1 / 12, 0, 1 / 12, 1 / 12, 1 / 12, 1 / 12, 1 / 12, 0, 0.5],
        ]
    ),
}


@pytest.mark.parametrize("p", BY_HAND)
def test_adjacency_of_affectnet(p):
    given = [AFFECTNET_SPEARMAN[name] for name in SEVEN]
    assert np.abs(correlation_adjacency(given, tau=0.1, p=p) - BY_HAND[p]).max() < 1e-12


def test_the_models_default_is_that_adjacency():
    assert np.abs(EmotionGCN("resnet10_grey48").graph.adjacency.numpy() - BY_HAND[0.7]).max() < 1e-7
    assert np.abs(EmotionGCN("resnet10_grey48", p=0.5).graph.adjacency.numpy() - BY_HAND[0.5]).max() < 1e-7


def printed(correlations, tau, p):
    """Equations (6.3.2) to (6.3.5), index by index, and D^-1/2 A D^-1/2; nodes without neighbours keep 1 - p."""
    n = len(correlations) + 2
    category = range(n - 2)
    a = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(n):
            if i == j:
                a[i][j] = 1.0
            elif i in category and j not in category:
                a[i][j] = abs(correlations[i][j - n + 2])
            elif j in category and i not in category:
                a[i][j] = abs(correlations[j][i - n + 2])
    joined = [[(i in category) != (j in category) and a[i][j] >= tau for j in range(n)] for i in range(n)]
    weighted = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(n):
            if i == j:
                weighted[i][j] = 1 - p
            elif joined[i][j]:
                weighted[i][j] = p / sum(joined[i][k] for k in range(n) if k != i)
    degree = [sum(row) for row in weighted]
    return np.array([[weighted[i][j] / (degree[i] ** 0.5 * degree[j] ** 0.5) for j in range(n)] for i in range(n)])


@pytest.mark.parametrize("tau", [0.0, 0.05, 0.1, 0.15, 0.4, 1.0])
@pytest.mark.parametrize("p", [0.0, 0.2, 0.7, 0.9])
@pytest.mark.parametrize("classes", [2, 7, 8])
def test_adjacency_of_any_correlations(tau, p, classes):
    given = np.random.default_rng(classes).uniform(-0.5, 0.5, (classes, 2))
    ours = correlation_adjacency(given, tau, p)
    assert np.abs(ours - printed(given.tolist(), tau, p)).max() < 1e-12
    assert np.abs(ours.sum(axis=1) - 1).max() < 1e-12
    assert np.array_equal(ours, correlation_adjacency(-given, tau, p))


def test_a_correlation_that_is_the_threshold_is_an_edge():
    assert correlation_adjacency([[0.1, 0.0], [0.2, 0.2]], tau=0.1)[0, 2] == pytest.approx(0.7)


def test_signed_adjacency_of_affectnet():
    """By hand: the same edges; of valence's and arousal's classes only these go with them, all others against them."""
    ours = correlation_adjacency([AFFECTNET_SPEARMAN[name] for name in SEVEN], tau=0.1, p=0.7, signed=True)
    with_valence, with_arousal = {"happiness"}, {"surprise", "fear", "disgust", "anger"}
    expected = BY_HAND[0.7].copy()
    for row, name in enumerate(SEVEN):
        if name not in with_valence:
            expected[[row, 7], [7, row]] *= -1
        if name not in with_arousal:
            expected[[row, 8], [8, row]] *= -1
    assert np.abs(ours - expected).max() < 1e-12
    assert np.abs(np.abs(ours).sum(axis=1) - 1).max() < 1e-12


# Four faces: two of one label each, one of the first and second, one of all three. By hand: with the first class there are
# three faces, with the second three, with the third one; M_12 = 2, M_13 = M_23 = 1.
LABELS = [[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1]]
GIVEN = np.array([[1, 2 / 3, 1 / 3], [2 / 3, 1, 1 / 3], [1, 1, 1]])


def test_conditional_probabilities_of_labels_and_votes():
    assert np.abs(conditional_probabilities(LABELS) - GIVEN).max() < 1e-12
    # Two faces, ten raters: 8 say the first and 2 the second, 5 each. s_1 = 1.3, s_2 = 0.7; s_1 s_2 = 0.16 + 0.25.
    votes = conditional_probabilities([[0.8, 0.2], [0.5, 0.5]])
    assert np.abs(votes - [[0.89 / 1.3, 0.41 / 1.3], [0.41 / 0.7, 0.29 / 0.7]]).max() < 1e-12
    assert np.array_equal(conditional_probabilities(np.eye(3)), np.eye(3))


def test_edges_between_classes():
    """By hand: tau = 0.5 takes P(2 | 1) and P(1 | 2), and both given the third, to which no class leads back."""
    felt = [[0.9, 0.1], [-0.6, 0.2], [0.0, -0.5]]
    expected = np.array(
        [
            [0.3, 0.35, 0, 0.35, 0],
            [0.35, 0.3, 0, 0.35, 0],
            [0.7 / 3, 0.7 / 3, 0.3, 0, 0.7 / 3],
            [0.35, 0.35, 0, 0.3, 0],
            [0, 0, 0.7, 0, 0.3],
        ]
    )
    assert np.abs(correlation_adjacency(felt, 0.5, 0.7, GIVEN) - expected).max() < 1e-12
    expected[1, 3] *= -1
    expected[3, 1] *= -1
    expected[2, 4] *= -1
    expected[4, 2] *= -1
    assert np.abs(correlation_adjacency(felt, 0.5, 0.7, GIVEN, signed=True) - expected).max() < 1e-12


@pytest.mark.parametrize("tau", [0.0, 0.1, 0.4, 1.0])
@pytest.mark.parametrize("p", [0.0, 0.7])
def test_signs_are_all_that_signed_changes(tau, p):
    rng = np.random.default_rng(0)
    felt, given = rng.uniform(-0.5, 0.5, (7, 2)).round(1), conditional_probabilities(rng.dirichlet(np.ones(7), 50))
    for between in (None, given):
        signed = correlation_adjacency(felt, tau, p, between, signed=True)
        assert np.abs(np.abs(signed) - correlation_adjacency(felt, tau, p, between)).max() < 1e-12
        assert np.array_equal(signed[:7, 7:] < 0, (felt < 0) & (signed[:7, 7:] != 0))
        assert np.abs(np.abs(signed).sum(axis=1) - 1).max() < 1e-12


def mean_ranks(values):
    return [sum(v < x for v in values) + (1 + sum(v == x for v in values)) / 2 for x in values]


def spearman(x, y):
    """(6.3.3) with ranks from their mean, as its sentence has it."""
    x, y = mean_ranks(x), mean_ranks(y)
    x, y = [v - sum(x) / len(x) for v in x], [v - sum(y) / len(y) for v in y]
    top = sum(a * b for a, b in zip(x, y, strict=True))
    return top / (sum(a * a for a in x) * sum(b * b for b in y)) ** 0.5


@pytest.mark.parametrize("classes", [7, 8])
def test_adjacency_of_faces(classes):
    from exprembed.data.tables import EXPRESSIONS

    names, rng = EXPRESSIONS[:classes], np.random.default_rng(classes)
    labels = rng.permutation([*names, *rng.choice(names, 72)])
    faces = FaceTable(
        {
            "path": [f"{i}.png" for i in range(len(labels))],
            "expression": labels,
            "valence": rng.normal(0, 0.3, len(labels)).clip(-1, 1).round(1),  # ties
            "arousal": rng.uniform(-1, 1, len(labels)),
        },
        index=[f"f{i}" for i in range(len(labels))],
    )
    expected = [
        [spearman([float(label == name) for label in labels], list(faces[felt])) for felt in ("valence", "arousal")]
        for name in names
    ]
    assert np.abs(class_correlations(faces, names) - expected).max() < 1e-12
    assert np.abs(emotion_adjacency(faces, 0.1, 0.7, names) - printed(expected, 0.1, 0.7)).max() < 1e-12
    given = conditional_probabilities(rng.dirichlet(np.ones(classes), 50))
    both = emotion_adjacency(faces, 0.1, 0.7, names, conditionals=given, signed=True)
    assert np.array_equal(both, correlation_adjacency(class_correlations(faces, names), 0.1, 0.7, given, signed=True))


def transcribed(nodes, adjacency, layers):
    """H^(l+1) = h(A H^l W^l), number by number, without h behind the last layer."""
    values = nodes
    for number, weight in enumerate(layers):
        if number:
            assert np.abs(values).min() > 1e-4, "a step of the numeric slope would cross the bend of h"
            values = np.where(values > 0, values, 0.2 * values)
        mixed = np.array([sum(adjacency[i, j] * values[j] for j in range(len(values))) for i in range(len(values))])
        values = np.array([[np.dot(row, weight[:, k]) for k in range(weight.shape[1])] for row in mixed])
    return values


def weighted_sum(factors, x, nodes, adjacency, layers):
    """A number that depends on every score: its gradient shows all of them."""
    w = transcribed(nodes, adjacency, layers)
    return float((factors * (x @ w.T)).sum())


SEED = 0  # of weights that keep clear of the bend, as `transcribed` checks


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_forward_and_gradients(layers, mode):
    rng = np.random.default_rng([SEED, layers])
    nodes = rng.normal(size=(9, 4))
    adjacency = correlation_adjacency(rng.uniform(-1, 1, (7, 2)), 0.3, 0.6)
    torch.set_default_dtype(torch.float64)
    try:
        model = EmotionGCN("resnet10_grey48", word_vectors=nodes, adjacency=adjacency, layers=layers, hidden=5)
    finally:
        torch.set_default_dtype(torch.float32)
    widths = [*[5] * (layers - 1), 6]  # six features stand for the backbone's 320
    drawn = [rng.normal(size=pair) for pair in zip([4, *widths[:-1]], widths, strict=True)]
    for layer, weight in zip(model.graph.layers, drawn, strict=True):
        layer.weight = torch.nn.Parameter(torch.tensor(weight.T.copy()))
    getattr(model, mode)()

    x, factors = rng.normal(size=(3, 6)), rng.normal(size=(3, 9))
    maps = torch.tensor(x)[:, :, None, None].requires_grad_()
    output = model.from_features(maps)
    scores = x @ transcribed(nodes, adjacency, drawn).T
    assert np.abs(output.embedding.detach().numpy() - x).max() == 0
    assert np.abs(output.logits.detach().numpy() - scores[:, :7]).max() < 1e-8
    assert np.abs(output.valence_arousal.detach().numpy() - scores[:, 7:]).max() < 1e-8

    both = torch.cat([output.logits, output.valence_arousal], dim=1)
    (torch.tensor(factors) * both).sum().backward()
    gradient = slope(lambda v: weighted_sum(factors, v, nodes, adjacency, drawn), x)
    assert np.abs(maps.grad[:, :, 0, 0].numpy() - gradient).max() < 1e-8
    for i, layer in enumerate(model.graph.layers):
        gradient = slope(
            lambda v, i=i: weighted_sum(factors, x, nodes, adjacency, [*drawn[:i], v, *drawn[i + 1 :]]), drawn[i]
        )
        assert np.abs(layer.weight.grad.T.numpy() - gradient).max() < 1e-8


def test_default_words_are_the_action_units_and_two_axes():
    nodes = EmotionGCN("resnet10_grey48").graph.nodes.double().numpy()
    # 0 1 2 4 5 6 7 9 12 14 15 16 20 23 26 valence arousal
    assert nodes[0].tolist() == [1] + 16 * [0]
    assert nodes[1] == pytest.approx(np.array([0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]) / 2**0.5, abs=1e-7)
    assert nodes[4] == pytest.approx(np.array([0, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0]) / 7**0.5, abs=1e-7)
    assert nodes[7].tolist() == 15 * [0] + [1, 0]
    assert nodes[8].tolist() == 16 * [0] + [1]
    assert np.linalg.matrix_rank(nodes) == 9
