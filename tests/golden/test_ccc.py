"""CCCLoss against a float64 NumPy transcription of thesis equations (5.2.1) and (5.2.2), biased moments."""

import numpy as np
import pytest
import torch
from _numeric import slope
from pytorch_metric_learning.reducers import SumReducer

from exprembed.errors import BadInputError
from exprembed.losses import CCCLoss


def concordance(x, y):
    """(5.2.1)."""
    count = len(x)
    m_x, m_y = sum(x) / count, sum(y) / count
    s_x = sum((number - m_x) ** 2 for number in x) / count
    s_y = sum((number - m_y) ** 2 for number in y) / count
    s_xy = sum((one - m_x) * (other - m_y) for one, other in zip(x, y, strict=True)) / count
    return 2 * s_xy / (s_x + s_y + (m_x - m_y) ** 2)


def printed(x, y):
    """(5.2.2), over the columns."""
    return 1 - sum(concordance(x[:, k], y[:, k]) for k in range(x.shape[1])) / x.shape[1]


def printed_slope(x, y):
    """Its derivative, column by column: -2 ((y_i - m_y) - rho (x_i - m_y)) / (B K denominator)."""
    gradient = np.zeros_like(x)
    for k in range(x.shape[1]):
        one, other = x[:, k], y[:, k]
        below = one.var() + other.var() + (one.mean() - other.mean()) ** 2
        for i in range(len(x)):
            above = (other[i] - other.mean()) - concordance(one, other) * (one[i] - other.mean())
            gradient[i, k] = -2 * above / (x.size * below)
    return gradient


def run(x, y, **options):
    tensor = torch.as_tensor(x, dtype=torch.float64).clone().requires_grad_()
    loss = CCCLoss(**options)
    value = loss(tensor, torch.as_tensor(y, dtype=torch.float64))
    value.backward()
    assert float(loss.breakdown["loss"]) == float(value)
    return float(value), tensor.grad.numpy()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(2, 2), (9, 2), (30, 1), (5, 3)])
@pytest.mark.parametrize("reducer", [None, SumReducer()])
def test_value_and_gradient(seed, shape, reducer):
    rng = np.random.default_rng(seed)
    y = rng.uniform(-1, 1, shape)
    x = 0.6 * y + 0.3 * rng.normal(size=shape) + 0.1
    value, gradient = run(x, y, reducer=reducer)  # no reducer touches it: it is one number of the whole batch
    assert value == pytest.approx(printed(x, y), abs=1e-12)
    assert np.abs(gradient - printed_slope(x, y)).max() < 1e-12
    assert np.abs(gradient - slope(lambda v: printed(v, y), x)).max() < 1e-9


def test_both_kinds_of_moments_differ_so_one_is_used_throughout():
    x, y = np.array([[0.1], [0.5], [0.2]]), np.array([[0.0], [0.9], [0.4]])
    unbiased = 2 * np.cov(x[:, 0], y[:, 0])[0, 1] / (np.var(x, ddof=1) + np.var(y, ddof=1) + (x.mean() - y.mean()) ** 2)
    mixed = 2 * np.cov(x[:, 0], y[:, 0])[0, 1] / (np.var(x) + np.var(y) + (x.mean() - y.mean()) ** 2)
    value, _ = run(x, y)
    assert value == pytest.approx(printed(x, y), abs=1e-14)
    assert abs(value - (1 - unbiased)) > 1e-3
    assert abs(value - (1 - mixed)) > 1e-2


def test_agreement_and_opposition():
    y = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    value, gradient = run(y, y)
    assert value == pytest.approx(0, abs=1e-14)
    assert np.abs(gradient).max() < 1e-14
    assert run(-(y - y.mean(axis=0)) + y.mean(axis=0), y)[0] == pytest.approx(2)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([[0.3, 0.1]], [[0.3, 0.1]], 0.0),  # a batch of one, right
        ([[0.3, 0.1]], [[0.3, 0.2]], 0.5),  # one column right, one wrong
        ([[0.3], [0.7]], [[0.5], [0.5]], 1.0),  # a constant target
        ([[0.5], [0.5]], [[0.2], [0.7]], 1.0),  # a constant prediction
        ([[0.5], [0.5]], [[0.5], [0.5]], 0.0),  # both, and equal
        ([[0.0], [0.0]], [[0.0], [0.0]], 0.0),
        ([[1e-170]], [[0.0]], 0.0),  # squares underflow
        ([[1e-155]], [[0.0]], 0.0),  # a square below the smallest normal number
    ],
)
def test_constant_columns_and_batches_of_one(x, y, expected):
    value, gradient = run(x, y)
    assert value == pytest.approx(expected, abs=1e-12)
    assert np.isfinite(gradient).all()


def test_a_constant_prediction_is_drawn_along_with_its_target():
    _, gradient = run([[0.5], [0.5]], [[0.2], [0.7]])
    assert gradient[0, 0] > 0 > gradient[1, 0]  # downhill: face 0 lower, face 1 higher


@pytest.mark.parametrize("shape", [(0, 2), (3, 0)])
def test_nothing_to_compare(shape):
    x = torch.zeros(shape, requires_grad=True)
    value = CCCLoss()(x, torch.zeros(shape))
    value.backward()
    assert float(value) == 0
    assert x.grad.shape == shape


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_broken_predictions_are_no_agreement(number):
    assert torch.isnan(CCCLoss()(torch.tensor([[number], [0.0]]), torch.tensor([[0.0], [1.0]])))


def test_wrong_use():
    with pytest.raises(BadInputError, match=r"must both be \(B, K\).*\(2, 1\) torch.float32 and \(2, 2\)"):
        CCCLoss()(torch.zeros(2, 1), torch.zeros(2, 2))
    with pytest.raises(BadInputError, match=r"must both be \(B, K\)"):
        CCCLoss()(torch.zeros(2), torch.zeros(2))
    with pytest.raises(BadInputError, match=r"the prediction float; got \(1, 1\) torch.int64"):
        CCCLoss()(torch.tensor([[1]]), torch.tensor([[1]]))
    assert float(CCCLoss()(torch.tensor([[0.0], [1.0]]), torch.tensor([[0], [1]]))) == 0  # targets may be
