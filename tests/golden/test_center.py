"""CenterLoss and CenterLocalLoss against a float64 NumPy transcription of thesis equations (4.2.1), (4.2.2), (4.2.4)."""

import numpy as np
import pytest
import torch
from _numeric import draw, slope
from pytorch_metric_learning.reducers import SumReducer

from exprembed.errors import BadInputError, WrongUseError
from exprembed.losses import CenterLocalLoss, CenterLoss

C, D, ALPHA = 5, 3, 0.3


def printed_sum(x, y, centers):
    """(4.2.1)."""
    total = 0.0
    for i in range(len(x)):
        total += 0.5 * np.sum((x[i] - centers[y[i]]) ** 2)
    return total


def after(x, y, centers, alpha):
    """(4.2.2) with c <- c - alpha * delta."""
    moved = centers.copy()
    for j in range(len(centers)):
        numerator, faces = np.zeros(centers.shape[1]), 0
        for i in range(len(x)):
            if y[i] == j:
                numerator += centers[j] - x[i]
                faces += 1
        moved[j] = centers[j] - alpha * numerator / (1 + faces)
    return moved


def batch_means(x, y):
    """(4.2.4), for the classes that occur."""
    means = {}
    for j in set(y.tolist()):
        rows = [x[i] for i in range(len(x)) if y[i] == j]
        means[j] = sum(rows) / len(rows)
    return means


def printed_local_sum(x, y):
    means = batch_means(x, y)
    return sum(0.5 * np.sum((x[i] - means[y[i]]) ** 2) for i in range(len(x)))


def made(seed, **options):
    loss = CenterLoss(C, D, alpha=ALPHA, **options).double()
    start = np.random.default_rng(seed + 99).normal(size=(C, D))
    with torch.no_grad():
        loss.centers.copy_(torch.tensor(start))
    return loss, start


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("reducer", [None, SumReducer()])
def test_value_gradient_and_update(seed, batch, reducer):
    x, y, _ = draw(seed, batch)
    loss, start = made(seed, reducer=reducer)
    tensor = torch.tensor(x, requires_grad=True)
    value = loss(tensor, torch.tensor(y))
    value.backward()
    share = 1 if reducer else 1 / batch
    assert float(value) == pytest.approx(printed_sum(x, y, start) * share, abs=1e-12)
    printed = np.stack([x[i] - start[y[i]] for i in range(batch)])  # (4.2.2), left
    assert np.abs(tensor.grad.numpy() - printed * share).max() < 1e-12
    assert np.abs(printed - slope(lambda v: printed_sum(v, y, start), x)).max() < 1e-10
    assert np.abs(loss.centers.numpy() - after(x, y, start, ALPHA)).max() < 1e-12  # whatever the reducer
    assert np.array_equal(loss.centers[[0, C - 1]].numpy(), start[[0, C - 1]])  # classes without a face


def test_centres_of_several_steps():
    loss, centers = made(0)
    for seed in range(5):
        x, y, _ = draw(seed)
        value = loss(torch.tensor(x), torch.tensor(y))
        assert float(value) == pytest.approx(printed_sum(x, y, centers) / len(x), abs=1e-12)
        centers = after(x, y, centers, ALPHA)
    assert np.abs(loss.centers.numpy() - centers).max() < 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_optimizer_moves_the_centres_by_the_gradient(seed):
    x, y, _ = draw(seed)
    loss, start = made(seed, update="optimizer", reducer=SumReducer())
    loss(torch.tensor(x), torch.tensor(y)).backward()
    expected = slope(lambda c: printed_sum(x, y, c), start)
    assert np.abs(loss.centers.grad.numpy() - expected).max() < 1e-10
    assert np.array_equal(loss.centers.detach().numpy(), start)


def test_eval_mode_moves_nothing():
    x, y, _ = draw(1)
    loss, start = made(1)
    assert float(loss.eval()(torch.tensor(x), torch.tensor(y))) == pytest.approx(printed_sum(x, y, start) / len(x))
    assert np.array_equal(loss.centers.numpy(), start)


@pytest.mark.parametrize("update", ["paper", "optimizer"])
def test_centres_travel_in_the_state_dict(update):
    one, other = CenterLoss(C, D, update=update), CenterLoss(C, D, update=update)
    assert dict(one.named_buffers()).keys() == ({"centers"} if update == "paper" else set())
    assert dict(one.named_parameters()).keys() == ({"centers"} if update == "optimizer" else set())
    assert not torch.equal(one.centers, other.centers)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.centers, other.centers)
    assert one.centers.dtype == torch.float32


def test_rates_zero_and_one():
    x, y, _ = draw(2, batch=1)
    for alpha, share in ((0.0, 0.0), (1.0, 0.5)):  # one face: half of the way at rate 1
        loss = CenterLoss(C, D, alpha=alpha).double()
        start = loss.centers.clone()
        loss(torch.tensor(x), torch.tensor(y))
        assert loss.centers[y[0]].numpy() == pytest.approx((1 - share) * start[y[0]].numpy() + share * x[0])


def test_a_miner_weighs_the_faces_and_not_the_centres():
    x, y, _ = draw(3, batch=4)
    loss, start = made(3)
    triplets = tuple(torch.tensor(column) for column in ([0, 0], [1, 2], [2, 1]))  # faces 0, 1, 2 twice, 3 never
    value = loss(torch.tensor(x), torch.tensor(y), triplets)
    assert float(value) == pytest.approx(printed_sum(x[:3], y[:3], start) / 4, abs=1e-12)
    assert np.abs(loss.centers.numpy() - after(x, y, start, ALPHA)).max() < 1e-12
    pairs = tuple(torch.tensor(column) for column in ([0], [1], [0], [2]))  # 0 twice, 1 and 2 once
    expected = sum(w * printed_sum(x[i : i + 1], y[i : i + 1], start) for i, w in enumerate((1, 0.5, 0.5, 0))) / 4
    assert float(made(3)[0](torch.tensor(x), torch.tensor(y), pairs)) == pytest.approx(expected, abs=1e-12)
    nothing = tuple(torch.tensor([], dtype=torch.long) for _ in range(3))  # the library's convention: all weigh one
    value = made(3)[0](torch.tensor(x), torch.tensor(y), nothing)
    assert float(value) == pytest.approx(printed_sum(x, y, start) / 4, abs=1e-12)


def test_empty_batch_leaves_the_centres():
    loss, start = made(0)
    x = torch.zeros(0, D, dtype=torch.float64, requires_grad=True)
    value = loss(x, torch.zeros(0, dtype=torch.long))
    value.backward()
    assert float(value) == 0
    assert x.grad.shape == (0, D)
    assert np.array_equal(loss.centers.numpy(), start)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("reducer", [None, SumReducer()])
def test_local_value_and_gradient(seed, batch, reducer):
    x, y, _ = draw(seed, batch)
    tensor = torch.tensor(x, requires_grad=True)
    value = CenterLocalLoss(reducer=reducer)(tensor, torch.tensor(y))
    value.backward()
    share = 1 if reducer else 1 / batch
    assert float(value) == pytest.approx(printed_local_sum(x, y) * share, abs=1e-12)
    through_the_means = slope(lambda v: printed_local_sum(v, y), x)
    means_held = np.stack([x[i] - batch_means(x, y)[y[i]] for i in range(batch)])
    assert np.abs(through_the_means - means_held).max() < 1e-10
    assert np.abs(tensor.grad.numpy() - means_held * share).max() < 1e-12


def test_local_keeps_nothing_and_takes_any_class_number():
    x, y, _ = draw(5)
    loss = CenterLocalLoss()
    value = float(loss(torch.tensor(x), torch.tensor(y)))
    assert not loss.state_dict()
    assert float(loss(torch.tensor(x), torch.tensor(y) * 1000 - 3)) == pytest.approx(value)
    assert float(loss(torch.tensor(x), torch.arange(9))) == 0  # each face is its class's mean
    empty = torch.zeros(0, D, requires_grad=True)
    loss(empty, torch.zeros(0, dtype=torch.long)).backward()
    assert empty.grad.shape == (0, D)


def test_wrong_use():
    x, y = torch.zeros(2, D), torch.tensor([0, 1])
    with pytest.raises(WrongUseError, match=r"'optimiser'.*did you mean 'optimizer'"):
        CenterLoss(C, D, update="optimiser")
    with pytest.raises(WrongUseError, match="must be positive"):
        CenterLoss(0, D)
    for alpha in (-0.1, 1.5, float("nan")):
        with pytest.raises(WrongUseError, match=r"alpha must lie in \[0, 1\]"):
            CenterLoss(C, D, alpha=alpha)
    for loss in (CenterLoss(C, D), CenterLocalLoss()):
        with pytest.raises(WrongUseError, match="needs labels"):
            loss(x)
        with pytest.raises(BadInputError, match=r"labels must be \(2,\)"):
            loss(x, torch.tensor([0]))
        with pytest.raises(BadInputError, match=r"an integer type; got torch.float32"):
            loss(x, y.float())
        with pytest.raises(BadInputError, match=r"an integer type; got torch.bool"):
            loss(x, y.bool())
        with pytest.raises(BadInputError, match=r"embeddings must be \(B, D\) float; got \(2, 3\) torch.int64"):
            loss(x.long(), y)
        with pytest.raises(BadInputError, match=r"embeddings must be \(B, D\) float; got \(3,\)"):
            loss(x[0], y)
    with pytest.raises(BadInputError, match="4 dimensions and the loss was made for 3"):
        CenterLoss(C, D)(torch.zeros(2, 4), y)
    with pytest.raises(BadInputError, match=r"labels must lie in 0..4; got 5$"):
        CenterLoss(C, D)(x, torch.tensor([0, 5]))
    with pytest.raises(BadInputError, match=r"labels must lie in 0..4; got -1 \(leave faces without a class out\)"):
        CenterLoss(C, D)(x, torch.tensor([0, -1]))


def test_bad_labels_move_nothing():
    loss, start = made(0)
    with pytest.raises(BadInputError):
        loss(torch.zeros(2, D), torch.tensor([0, 5]))
    assert np.array_equal(loss.centers.numpy(), start)


def test_a_miner_may_speak_in_lists_and_euclid_knows_one_norm():
    from exprembed.losses import EuclideanDistance, MultiDomainCrossEntropy

    loss, x, y = CenterLoss(2, 2).eval(), torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    lists, tensors = ([0, 1], [2, 3], [1, 0]), tuple(map(torch.tensor, ([0, 1], [2, 3], [1, 0])))
    assert torch.equal(loss(x, y, lists), loss(x, y, tensors))
    with pytest.raises(WrongUseError, match="p=1"):
        EuclideanDistance(p=1)
    none = MultiDomainCrossEntropy.from_counts([[2, 2]])(torch.zeros(1, 0, 2), torch.empty(0, dtype=torch.long), [])
    assert float(none) == 0
