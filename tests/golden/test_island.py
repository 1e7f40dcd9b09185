"""IslandLoss and EuclideanIslandLoss against a float64 NumPy transcription of thesis equations (4.3.1) to (4.3.4)."""

import numpy as np
import pytest
import torch
from _numeric import draw, norm, slope
from pytorch_metric_learning.reducers import SumReducer

from exprembed.errors import BadInputError, WrongUseError
from exprembed.losses import EuclideanIslandLoss, IslandLoss

C, D, ALPHA, LAMBDA, MARGIN = 5, 3, 0.4, 0.7, 2.5


def center_sum(x, y, centers):
    return sum(0.5 * norm(x[i] - centers[y[i]]) ** 2 for i in range(len(x)))


def cosine_sum(centers):
    """(4.3.1), second term: ordered pairs."""
    total = 0.0
    for j in range(len(centers)):
        for k in range(len(centers)):
            if k != j:
                total += centers[k] @ centers[j] / (norm(centers[k]) * norm(centers[j])) + 1
    return total


def cosine_push(centers, j):
    """The sum over k in (4.3.2), with its last fraction inside: it names k."""
    total = np.zeros(centers.shape[1])
    for k in range(len(centers)):
        if k != j:
            n_k, n_j = norm(centers[k]), norm(centers[j])
            total += centers[k] / (n_k * n_j) - centers[k] @ centers[j] / (n_k * n_j**3) * centers[j]
    return total


def hinge_sum(centers):
    """(4.3.4), second term: ordered pairs."""
    total = 0.0
    for j in range(len(centers)):
        for k in range(len(centers)):
            if k != j:
                total += max(MARGIN - norm(centers[k] - centers[j]), 0) ** 2
    return total


def hinge_push(centers, j):
    """Gradient to c_j of its own pairs, each counted once, as cosine_push is of the cosines."""
    total = np.zeros(centers.shape[1])
    for k in range(len(centers)):
        if k != j:
            apart = centers[j] - centers[k]
            total += -2 * max(MARGIN - norm(apart), 0) * apart / norm(apart)
    return total


def after(x, y, centers, push):
    """(4.3.2) and (4.3.3)."""
    moved = np.zeros_like(centers)
    for j in range(len(centers)):
        numerator, faces = np.zeros(centers.shape[1]), 0
        for i in range(len(x)):
            if y[i] == j:
                numerator += centers[j] - x[i]
                faces += 1
        delta = numerator / (1 + faces) + LAMBDA / (len(centers) - 1) * push(centers, j)
        moved[j] = centers[j] - ALPHA * delta
    return moved


def island(**options):
    return IslandLoss(C, D, lambda_island=LAMBDA, alpha=ALPHA, **options)


def euclidean(**options):
    return EuclideanIslandLoss(C, D, margin=MARGIN, lambda_island=LAMBDA, alpha=ALPHA, **options)


BOTH = pytest.mark.parametrize(
    ("make", "apart", "push"), [(island, cosine_sum, cosine_push), (euclidean, hinge_sum, hinge_push)]
)


def started(make, seed, **options):
    loss = make(**options).double()
    start = np.random.default_rng(seed + 99).normal(size=(C, D))
    with torch.no_grad():
        loss.centers.copy_(torch.tensor(start))
    return loss, start


@BOTH
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("reducer", [None, SumReducer()])
def test_value_gradient_and_update(make, apart, push, seed, batch, reducer):
    x, y, _ = draw(seed, batch)
    loss, start = started(make, seed, reducer=reducer)
    tensor = torch.tensor(x, requires_grad=True)
    value = loss(tensor, torch.tensor(y))
    value.backward()
    share = 1 if reducer else 1 / batch
    terms = {"center": center_sum(x, y, start) * share, "island": LAMBDA * apart(start)}
    assert float(value) == pytest.approx(sum(terms.values()), abs=1e-11)
    assert {name: float(term) for name, term in loss.breakdown.items()} == pytest.approx(terms, abs=1e-11)
    assert terms["island"] > 0
    expected = slope(lambda v: center_sum(v, y, start), x) * share  # the centres do not answer to x here
    assert np.abs(tensor.grad.numpy() - expected).max() < 1e-10
    assert np.abs(loss.centers.numpy() - after(x, y, start, push)).max() < 1e-12


@BOTH
def test_the_push_is_half_of_the_gradient_of_the_ordered_sum(make, apart, push):
    centers = np.random.default_rng(5).normal(size=(C, D))
    assert np.stack([push(centers, j) for j in range(C)]) == pytest.approx(slope(apart, centers) / 2, abs=1e-8)


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_optimizer_gradient_of_the_centres(make, apart, push, seed):
    x, y, _ = draw(seed)
    loss, start = started(make, seed, update="optimizer", reducer=SumReducer())
    loss(torch.tensor(x), torch.tensor(y)).backward()
    expected = slope(lambda c: center_sum(x, y, c) + LAMBDA * apart(c), start)
    assert np.abs(loss.centers.grad.numpy() - expected).max() < 1e-8
    assert np.array_equal(loss.centers.detach().numpy(), start)


@BOTH
def test_eval_mode_moves_nothing(make, apart, push):
    x, y, _ = draw(1)
    loss, start = started(make, 1)
    value = float(loss.eval()(torch.tensor(x), torch.tensor(y)))
    assert value == pytest.approx(center_sum(x, y, start) / len(x) + LAMBDA * apart(start))
    assert np.array_equal(loss.centers.numpy(), start)


@BOTH
@pytest.mark.parametrize("update", ["paper", "optimizer"])
def test_centres_travel_in_the_state_dict(make, apart, push, update):
    one, other = make(update=update), make(update=update)
    assert list(one.state_dict()) == ["centers"]
    assert ("centers" in dict(one.named_parameters())) == (update == "optimizer")
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.centers, other.centers)


@BOTH
def test_an_empty_batch_still_pushes_the_centres(make, apart, push):
    loss, start = started(make, 2)
    x = torch.zeros(0, D, dtype=torch.float64, requires_grad=True)
    value = loss(x, torch.zeros(0, dtype=torch.long))
    value.backward()
    assert float(value) == pytest.approx(LAMBDA * apart(start))
    assert np.abs(loss.centers.numpy() - after(np.zeros((0, D)), [], start, push)).max() < 1e-12


@BOTH
def test_one_class_has_no_islands(make, apart, push):
    loss = type(make())(1, D, lambda_island=3.0).double()
    start = loss.centers.clone()
    value = loss(torch.ones(2, D, dtype=torch.float64), torch.tensor([0, 0]))
    assert float(loss.breakdown["island"]) == 0
    assert float(value) == pytest.approx(float((1 - start).square().sum() / 2))
    assert torch.isfinite(loss.centers).all()


def test_a_centre_without_length_has_no_direction():
    for update in ("paper", "optimizer"):
        loss, start = started(island, 3, update=update)
        with torch.no_grad():
            loss.centers[2] = 0
        start[2] = 0
        value = loss(torch.zeros(1, D, dtype=torch.float64, requires_grad=True), torch.tensor([2]))
        value.backward()
        others = [j for j in range(C) if j != 2]
        assert float(value) == pytest.approx(LAMBDA * (cosine_sum(start[others]) + 2 * (C - 1)))
        assert torch.isfinite(loss.centers).all()
        if update == "optimizer":
            assert torch.isfinite(loss.centers.grad).all()
        else:
            assert not loss.centers[2].any()


def test_coinciding_centres_do_not_push_each_other():
    for update in ("paper", "optimizer"):
        loss = EuclideanIslandLoss(2, D, margin=2.0, lambda_island=0.5, update=update).double()
        with torch.no_grad():
            loss.centers.fill_(0.3)
        value = loss(torch.full((1, D), 0.3, dtype=torch.float64, requires_grad=True), torch.tensor([0]))
        value.backward()
        assert float(value) == pytest.approx(0.5 * 2 * 4)
        assert torch.allclose(loss.centers, torch.tensor(0.3, dtype=torch.float64))
        if update == "optimizer":
            assert not loss.centers.grad.any()


def test_centres_far_apart_cost_nothing():
    loss = EuclideanIslandLoss(3, 3, margin=2.0, lambda_island=1.0).double()
    loss.centers.copy_(3 * torch.eye(3))
    assert float(loss(3 * torch.eye(3).double(), torch.arange(3))) == 0
    assert torch.equal(loss.centers, 3 * torch.eye(3).double())
    opposite = IslandLoss(2, 1, lambda_island=1.0)
    opposite.centers.copy_(torch.tensor([[2.0], [-0.5]]))
    assert float(opposite(torch.tensor([[2.0]]), torch.tensor([0]))) == pytest.approx(0, abs=1e-6)


@BOTH
def test_a_miner_weighs_the_faces_alone(make, apart, push):
    x, y, _ = draw(4, batch=4)
    loss, start = started(make, 4)
    loss(torch.tensor(x), torch.tensor(y), tuple(torch.tensor(column) for column in ([0], [1], [0], [2])))
    expected = sum(w * center_sum(x[i : i + 1], y[i : i + 1], start) for i, w in enumerate((1, 0.5, 0.5, 0))) / 4
    assert float(loss.breakdown["center"]) == pytest.approx(expected, abs=1e-12)
    assert float(loss.breakdown["island"]) == pytest.approx(LAMBDA * apart(start), abs=1e-11)


def test_wrong_use():
    for make in (IslandLoss, EuclideanIslandLoss):
        for value in (-0.1, float("nan")):
            with pytest.raises(WrongUseError, match="lambda_island must not be negative"):
                make(C, D, lambda_island=value)
        with pytest.raises(WrongUseError, match="alpha"):
            make(C, D, alpha=2)
        with pytest.raises(WrongUseError, match=r"'papers'.*did you mean 'paper'"):
            make(C, D, update="papers")
        with pytest.raises(WrongUseError, match="must be positive"):
            make(C, 0)
        with pytest.raises(BadInputError, match="got 5"):
            make(C, D)(torch.zeros(1, D), torch.tensor([5]))
        with pytest.raises(BadInputError, match="integer type"):
            make(C, D)(torch.zeros(1, D), torch.tensor([1.0]))
        with pytest.raises(BadInputError, match="made for 3"):
            make(C, D)(torch.zeros(1, 2), torch.tensor([1]))
    with pytest.raises(WrongUseError, match="margin must not be negative; got -1"):
        EuclideanIslandLoss(C, D, margin=-1)
