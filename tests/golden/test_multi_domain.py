"""MultiDomainCrossEntropy against a float64 NumPy transcription of CAKE equations (1) and (2)."""

import math

import numpy as np
import pytest
import torch
from _numeric import slope
from pytorch_metric_learning.reducers import SumReducer

from exprembed.errors import BadInputError
from exprembed.losses import MultiDomainCrossEntropy

COUNTS = np.array([[100, 30, 20, 50], [7, 0, 12, 2], [400, 900, 100, 5]])  # the second data set lacks a class
J, C = COUNTS.shape


def cross_entropy(z, label):
    return -math.log(math.exp(z[label]) / sum(math.exp(number) for number in z))


def printed(z, y, domains):
    """(1), the mean over the batch, with (2) and the class weights written out."""
    total = 0.0
    for i in range(len(y)):
        for j in range(J):
            size = sum(COUNTS[j])
            of_class = COUNTS[j][y[i]]
            w_class = size / (of_class * C) if of_class else 0.0
            w_dataset = 1 / math.log(size) if domains[i] == j else 0.0
            total += w_class * w_dataset * cross_entropy(z[j][i], y[i])
    return total / len(y)


def draw(seed, batch):
    rng = np.random.default_rng([seed, batch])
    return rng.normal(size=(J, batch, C)), rng.integers(0, C, batch), rng.integers(0, J, batch)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("reducer", [None, SumReducer()])
def test_value_and_gradient(seed, batch, reducer):
    z, y, domains = draw(seed, batch)
    loss = MultiDomainCrossEntropy.from_counts(COUNTS, reducer=reducer)
    tensor = torch.tensor(z, requires_grad=True)
    value = loss(tensor, torch.tensor(y), torch.tensor(domains))
    value.backward()
    share = batch if reducer else 1
    assert float(value) == pytest.approx(printed(z, y, domains) * share, abs=1e-11)
    assert float(loss.breakdown["loss"]) == float(value)
    gradient = tensor.grad.numpy()
    assert np.abs(gradient - slope(lambda v: printed(v, y, domains), z) * share).max() < 1e-9
    for i in range(batch):
        for j in range(J):
            if j != domains[i]:
                assert not gradient[j, i].any()  # the other classifiers learn nothing from this face


def test_given_weights_are_those_of_the_counts():
    z, y, domains = draw(0, 9)
    sizes = COUNTS.sum(axis=1)
    weights = [[sizes[j] / (COUNTS[j][c] * C) if COUNTS[j][c] else 0.0 for c in range(C)] for j in range(J)]
    value = MultiDomainCrossEntropy(weights, sizes)(torch.tensor(z), torch.tensor(y), domains.tolist())
    assert float(value) == pytest.approx(printed(z, y, domains), abs=1e-12)


def test_balanced_domains_weigh_by_their_size_alone():
    loss = MultiDomainCrossEntropy.from_counts([[5, 5], [500, 500]])
    z, y = torch.zeros(2, 1, 2, dtype=torch.float64), torch.tensor([0])
    small, large = (float(loss(z, y, [j])) for j in (0, 1))
    assert small == pytest.approx(math.log(2) / math.log(10))
    assert small == pytest.approx(3 * large)


def test_empty_batch():
    z = torch.zeros(J, 0, C, requires_grad=True)
    none = torch.zeros(0, dtype=torch.long)
    value = MultiDomainCrossEntropy.from_counts(COUNTS)(z, none, none)
    value.backward()
    assert float(value) == 0
    assert z.grad.shape == (J, 0, C)


def test_wrong_use():
    loss = MultiDomainCrossEntropy.from_counts(COUNTS)
    z, y, domains = torch.zeros(J, 2, C), torch.tensor([0, 1]), torch.tensor([0, 2])
    for shape in ((2, C), (J, 2, C + 1), (J - 1, 2, C)):
        with pytest.raises(BadInputError, match=r"logits must be \(3, B, 4\)"):
            loss(torch.zeros(shape), y, domains)
    with pytest.raises(BadInputError, match=r"^labels must lie in 0..3; got 4"):
        loss(z, torch.tensor([0, 4]), domains)
    with pytest.raises(BadInputError, match="integer type"):
        loss(z, y.float(), domains)
    with pytest.raises(BadInputError, match=r"domains: labels must lie in 0..2; got 3"):
        loss(z, y, [0, 3])
    with pytest.raises(BadInputError, match=r"domains: labels must lie in 0..2; got -1"):
        loss(z, y, [-1, 0])
    with pytest.raises(BadInputError, match=r"domains: labels must be \(2,\)"):
        loss(z, y, [0])
    with pytest.raises(BadInputError, match="domains: labels must be class numbers"):
        loss(z, y, domains.float())
    with pytest.raises(BadInputError, match=r"class_weights must be \(J, C\) and domain_sizes \(J,\)"):
        MultiDomainCrossEntropy([[1.0, 1.0]], [10, 20])
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadInputError, match="finite and not negative"):
            MultiDomainCrossEntropy([[1.0, weight]], [10])
    for size in (1, 0, float("nan")):
        with pytest.raises(BadInputError, match=r"needs a data set of at least 2 faces"):
            MultiDomainCrossEntropy([[1.0, 1.0]], [size])
    with pytest.raises(BadInputError, match="at least 2 faces"):
        MultiDomainCrossEntropy.from_counts([[1, 0]])
    for counts in ([[1, -1]], [3, 4]):
        with pytest.raises(BadInputError, match=r"counts must be \(J, C\), none negative"):
            MultiDomainCrossEntropy.from_counts(counts)
