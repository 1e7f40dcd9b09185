"""VACenterLoss against a float64 NumPy transcription of thesis equations (4.5.1) to (4.5.3)."""

import numpy as np
import pytest
import torch
from _numeric import draw, slope
from pytorch_metric_learning.reducers import SumReducer

from exprembed.errors import BadInputError, WrongUseError
from exprembed.losses import VACenterLoss

C, D, ALPHA = 5, 3, 0.3
USES = ("both", "valence", "arousal")


def weight(face, mean, use):
    """(4.5.3); a coordinate that is not used differs by zero."""
    dv = face[0] - mean[0] if use != "arousal" else 0.0
    da = face[1] - mean[1] if use != "valence" else 0.0
    return (2 * np.sqrt(2) - np.sqrt(dv**2 + da**2)) ** 2 / 4


def means_of(values, y):
    """(4.5.2), and (4.2.4) for embeddings: class -> mean over the batch."""
    found = {}
    for j in set(y.tolist()):
        rows = [values[i] for i in range(len(values)) if y[i] == j]
        found[j] = sum(rows) / len(rows)
    return found


def printed_sum(x, y, va, centers, va_means, use):
    """(4.5.1)."""
    total = 0.0
    for i in range(len(x)):
        total += 0.5 * weight(va[i], va_means[y[i]], use) * np.sum((x[i] - centers[y[i]]) ** 2)
    return total


def after(x, y, centers):
    """(4.2.2): each face counts once."""
    moved = centers.copy()
    for j in range(len(centers)):
        own = [centers[j] - x[i] for i in range(len(x)) if y[i] == j]
        if own:
            moved[j] = centers[j] - ALPHA * sum(own) / (1 + len(own))
    return moved


def sample(seed, batch=9):
    x, y, rng = draw(seed, batch)
    return x, y, rng.uniform(-1, 1, size=(batch, 2))


def started(seed, **options):
    loss = VACenterLoss(C, D, alpha=ALPHA, **options).double()
    start = np.random.default_rng(seed + 99).normal(size=(C, D))
    with torch.no_grad():
        loss.centers.copy_(torch.tensor(start))
    return loss, start


def call(loss, x, y, va, *rest):
    x = x if isinstance(x, torch.Tensor) else torch.tensor(x)
    return loss(x, torch.tensor(y), *rest, valence_arousal=torch.tensor(va))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("reducer", [None, SumReducer()])
def test_local_value_and_gradient(seed, batch, use, reducer):
    x, y, va = sample(seed, batch)
    tensor = torch.tensor(x, requires_grad=True)
    loss = VACenterLoss(local=True, use=use, reducer=reducer)
    value = call(loss, tensor, y, va)
    value.backward()
    share = 1 if reducer else 1 / batch

    def printed(v):  # the gradient goes through the centres, which are means of v
        return printed_sum(v, y, va, means_of(v, y), means_of(va, y), use)

    assert float(value) == pytest.approx(printed(x) * share, abs=1e-12)
    assert np.abs(tensor.grad.numpy() - slope(printed, x) * share).max() < 1e-10
    assert not loss.state_dict()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("reducer", [None, SumReducer()])
def test_learned_centres_and_running_means_over_several_batches(seed, use, reducer):
    loss, centers = started(seed, use=use, reducer=reducer)
    seen_va, seen_y = np.zeros((0, 2)), np.zeros(0, dtype=int)
    for step, batch in enumerate((9, 1, 4, 12)):
        x, y, va = sample(10 * seed + step, batch)
        before = means_of(seen_va, seen_y)
        va_means = {j: before.get(j, mean) for j, mean in means_of(va, y).items()}  # the batch's where none is known
        tensor = torch.tensor(x, requires_grad=True)
        value = call(loss, tensor, y, va)
        value.backward()
        share = 1 if reducer else 1 / batch
        assert float(value) == pytest.approx(printed_sum(x, y, va, centers, va_means, use) * share, abs=1e-11)
        expected = slope(lambda v, c=centers, m=va_means, y=y, va=va: printed_sum(v, y, va, c, m, use), x)
        assert np.abs(tensor.grad.numpy() - expected * share).max() < 1e-10
        centers = after(x, y, centers)
        assert np.abs(loss.centers.numpy() - centers).max() < 1e-12
        seen_va, seen_y = np.vstack([seen_va, va]), np.concatenate([seen_y, y])
        for j in range(C):
            assert float(loss.va_counts[j]) == (seen_y == j).sum()
            mean = seen_va[seen_y == j].mean(axis=0) if (seen_y == j).any() else np.zeros(2)
            assert np.abs(loss.va_means[j].numpy() - mean).max() < 1e-12


@pytest.mark.parametrize("use", USES)
def test_given_class_means(use):
    x, y, va = sample(4)
    given = np.random.default_rng(4).uniform(-1, 1, (C, 2))
    loss, start = started(4, use=use, class_va=given)
    for _ in range(2):  # the second batch finds other centres and the same means
        assert float(call(loss, x, y, va)) == pytest.approx(printed_sum(x, y, va, start, given, use) / 9, abs=1e-12)
        start = after(x, y, start)
    assert not loss.va_counts.any()


@pytest.mark.parametrize("seed", range(2))
def test_optimizer_gradient_of_the_centres(seed):
    x, y, va = sample(seed)
    loss, start = started(seed, update="optimizer", reducer=SumReducer())
    call(loss, x, y, va).backward()
    expected = slope(lambda c: printed_sum(x, y, va, c, means_of(va, y), "both"), start)
    assert np.abs(loss.centers.grad.numpy() - expected).max() < 1e-10
    assert np.array_equal(loss.centers.detach().numpy(), start)
    assert float(loss.va_counts.sum()) == 9  # the means still run


def test_eval_mode_moves_nothing():
    x, y, va = sample(1)
    loss, start = started(1)
    call(loss, x, y, va)
    centers, means, counts = (tensor.clone() for tensor in (loss.centers, loss.va_means, loss.va_counts))
    other_x, other_y, other_va = sample(2)
    value = float(call(loss.eval(), other_x, other_y, other_va))
    known = {j: means[j].numpy() if counts[j] else mean for j, mean in means_of(other_va, other_y).items()}
    assert value == pytest.approx(printed_sum(other_x, other_y, other_va, centers.numpy(), known, "both") / 9)
    assert torch.equal(loss.centers, centers)
    assert torch.equal(loss.va_means, means)
    assert torch.equal(loss.va_counts, counts)
    assert not np.array_equal(centers.numpy(), start)


def test_the_state_dict_holds_centres_and_means():
    x, y, va = sample(1)
    loss, other = VACenterLoss(C, D).double(), VACenterLoss(C, D).double()
    call(loss, x, y, va)
    assert list(loss.state_dict()) == ["centers", "va_means", "va_counts"]
    other.load_state_dict(loss.state_dict())
    assert float(call(other, x, y, va)) == pytest.approx(float(call(loss, x, y, va)))
    assert [name for name, _ in VACenterLoss(C, D, update="optimizer").named_parameters()] == ["centers"]


def test_bounds_of_the_weight():
    x, y = np.array([[1.0], [-1.0]]), np.array([0, 0])
    at_the_mean = call(VACenterLoss(local=True, reducer=SumReducer()), x, y, np.full((2, 2), 0.5))
    assert float(at_the_mean) == pytest.approx(2.0)  # w = 2
    loss = VACenterLoss(1, 1, class_va=[[-1.0, -1.0]]).double().eval()
    loss.centers.zero_()
    assert float(call(loss, x, y, np.ones((2, 2)))) == pytest.approx(0, abs=1e-12)  # opposite corners: w = 0


@pytest.mark.parametrize("local", [True, False])
def test_empty_batch(local):
    loss = (VACenterLoss(local=True) if local else VACenterLoss(C, D)).double()
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    x = torch.zeros(0, D, dtype=torch.float64, requires_grad=True)
    value = loss(x, torch.zeros(0, dtype=torch.long), valence_arousal=torch.zeros(0, 2))
    value.backward()
    assert float(value) == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in loss.state_dict().items())


def test_a_miner_weighs_the_faces_and_not_the_centres():
    x, y, va = sample(4, batch=4)
    loss, start = started(4)
    value = call(loss, x, y, va, tuple(torch.tensor(column) for column in ([0], [1], [0], [2])))
    means, expected = means_of(va, y), 0.0
    for i, share in enumerate((1, 0.5, 0.5, 0)):
        expected += share * printed_sum(x[i : i + 1], y[i : i + 1], va[i : i + 1], start, means, "both") / 4
    assert float(value) == pytest.approx(expected, abs=1e-12)
    assert np.abs(loss.centers.numpy() - after(x, y, start)).max() < 1e-12


def test_wrong_use():
    with pytest.raises(WrongUseError, match=r"'valance'.*did you mean 'valence'"):
        VACenterLoss(C, D, use="valance")
    for options in ({}, {"num_classes": C}, {"embedding_dim": D}):
        with pytest.raises(WrongUseError, match="need num_classes and embedding_dim; or pass local=True"):
            VACenterLoss(**options)
    with pytest.raises(WrongUseError, match="must be positive"):
        VACenterLoss(0, D)
    with pytest.raises(WrongUseError, match="leave class_va out"):
        VACenterLoss(local=True, class_va=[[0.0, 0.0]])
    with pytest.raises(BadInputError, match=r"class_va must be \(5, 2\); got \(4, 2\)"):
        VACenterLoss(C, D, class_va=np.zeros((4, 2)))
    with pytest.raises(BadInputError, match=r"lie in \[-1, 1\]; row 2"):
        VACenterLoss(C, D, class_va=[[0, 0], [0, 0], [0, float("nan")], [0, 0], [0, 0]])


@pytest.mark.parametrize("local", [True, False])
def test_bad_input_moves_nothing(local):
    loss = VACenterLoss(local=True) if local else VACenterLoss(C, D)
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    x, y, va = torch.ones(2, D), torch.tensor([0, 1]), torch.zeros(2, 2)
    with pytest.raises(WrongUseError, match=r"valence_arousal=\(B, 2\)"):
        loss(x, y)
    with pytest.raises(WrongUseError, match="needs labels"):
        loss(x, valence_arousal=va)
    with pytest.raises(BadInputError, match=r"valence_arousal must be \(2, 2\); got \(2, 3\)"):
        loss(x, y, valence_arousal=torch.zeros(2, 3))
    with pytest.raises(BadInputError, match=r"row 1 is \[0.0, nan\]"):
        loss(x, y, valence_arousal=torch.tensor([[0, 0], [0, float("nan")]]))
    with pytest.raises(BadInputError, match=r"row 0 is \[-7.0, 0.0\].*divide AFEW-VA's -10..10 by 10"):
        loss(x, y, valence_arousal=torch.tensor([[-7.0, 0], [0, 0]]))
    with pytest.raises(BadInputError, match="integer type"):
        loss(x, y.float(), valence_arousal=va)
    if not local:
        with pytest.raises(BadInputError, match=r"0..4; got 9"):
            loss(x, torch.tensor([0, 9]), valence_arousal=va)
    assert all(torch.equal(before[name], tensor) for name, tensor in loss.state_dict().items())
