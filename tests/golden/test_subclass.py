"""SubclassLoss against a float64 NumPy transcription of thesis equations (4.3.5) to (4.3.8)."""

import numpy as np
import pytest
import torch
from _numeric import draw, norm, slope
from pytorch_metric_learning.reducers import SumReducer

from exprembed.errors import BadInputError, WrongUseError
from exprembed.losses import CenterLoss, SubclassLoss

D, ALPHA, LAMBDA = 3, 0.4, 0.6


def nearest(face, own):
    best = 0
    for k in range(1, len(own)):
        if norm(face - own[k]) < norm(face - own[best]):
            best = k
    return best


def subclass_sum(x, y, centers):
    """(4.3.5)."""
    return sum(0.5 * norm(x[i] - centers[y[i]][nearest(x[i], centers[y[i]])]) ** 2 for i in range(len(x)))


def together_sum(centers, margin):
    """(4.3.8), second term: for each class, ordered pairs of its centres."""
    total = 0.0
    for own in centers:
        for j in range(len(own)):
            for i in range(len(own)):
                if i != j:
                    total += max(norm(own[j] - own[i]) - margin, 0) ** 2
    return total


def after(x, y, centers, margin, weight):
    """(4.3.7) as the center loss's shift, plus the mean over the other centres of the gradient of a centre's pairs."""
    moved = np.zeros_like(centers)
    classes, count, dim = centers.shape
    for j in range(classes):
        for k in range(count):
            c = centers[j, k]
            numerator, faces, pull = np.zeros(dim), 0, np.zeros(dim)
            for i in range(len(x)):
                if y[i] == j and nearest(x[i], centers[j]) == k:
                    numerator += c - x[i]
                    faces += 1
            for other in range(count):
                apart = c - centers[j, other]
                if other != k:
                    pull += 2 * max(norm(apart) - margin, 0) * apart / norm(apart)
            step = numerator / (1 + faces) + (weight / (count - 1) * pull if count > 1 else 0)
            moved[j, k] = c - ALPHA * step
    return moved


def started(seed, classes=5, count=4, **options):
    loss = SubclassLoss(classes, D, num_subclasses=count, alpha=ALPHA, **options).double()
    start = np.random.default_rng(seed + 99).normal(size=(classes, count, D))
    with torch.no_grad():
        loss.centers.copy_(torch.tensor(start))
    return loss, start


# Both routes to the nearest centre, by the number of classes; few and many centres; with and without the margin.
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch", [1, 12])
@pytest.mark.parametrize(("classes", "count"), [(5, 1), (5, 4), (20, 3)])
@pytest.mark.parametrize("margin", [None, 0.0, 0.5])
@pytest.mark.parametrize("reducer", [None, SumReducer()])
def test_value_gradient_and_update(seed, batch, classes, count, margin, reducer):
    x, y, _ = draw(seed, batch, classes=classes)
    weight = 0.0 if margin is None else LAMBDA
    loss, start = started(seed, classes, count, margin=margin, lambda_margin=weight, reducer=reducer)
    tensor = torch.tensor(x, requires_grad=True)
    value = loss(tensor, torch.tensor(y))
    value.backward()
    share = 1 if reducer else 1 / batch
    terms = {"subclass": subclass_sum(x, y, start) * share, "margin": weight * together_sum(start, margin or 0.0)}
    assert float(value) == pytest.approx(sum(terms.values()), abs=1e-10)
    assert {name: float(term) for name, term in loss.breakdown.items()} == pytest.approx(terms, abs=1e-10)
    printed = np.stack([x[i] - start[y[i], nearest(x[i], start[y[i]])] for i in range(batch)])  # (4.3.6)
    assert np.abs(tensor.grad.numpy() - printed * share).max() < 1e-12
    assert np.abs(printed - slope(lambda v: subclass_sum(v, y, start), x)).max() < 1e-8
    assert np.abs(loss.centers.numpy() - after(x, y, start, margin or 0.0, weight)).max() < 1e-12
    if not weight:
        assert np.array_equal(loss.centers[[0, -1]].numpy(), start[[0, -1]])  # classes without a face


@pytest.mark.parametrize("seed", range(3))
def test_optimizer_gradient_of_the_centres(seed):
    x, y, _ = draw(seed)
    loss, start = started(seed, margin=0.5, lambda_margin=LAMBDA, update="optimizer", reducer=SumReducer())
    loss(torch.tensor(x), torch.tensor(y)).backward()
    expected = slope(lambda c: subclass_sum(x, y, c) + LAMBDA * together_sum(c, 0.5), start)
    assert np.abs(loss.centers.grad.numpy() - expected).max() < 1e-8
    assert np.array_equal(loss.centers.detach().numpy(), start)


def test_a_centre_that_no_face_chooses_stays():
    loss, _ = started(0, classes=1, count=2)
    loss.centers.copy_(torch.tensor([[[0.0] * D, [10.0] * D]]))
    value = loss(torch.ones(3, D, dtype=torch.float64), torch.zeros(3, dtype=torch.long))
    assert float(value) == pytest.approx(D / 2)
    assert torch.equal(loss.centers[0, 1], torch.full((D,), 10.0, dtype=torch.float64))
    assert loss.centers[0, 0].tolist() == pytest.approx([ALPHA * 3 / 4] * D)


@pytest.mark.parametrize("classes", [2, 20])
def test_of_equally_near_centres_the_first_is_taken(classes):
    loss, _ = started(0, classes=classes, count=3)
    loss.centers.zero_()
    loss.centers[1] = torch.tensor([[2.0, 0, 0], [-1.0, 0, 0], [1.0, 0, 0]])
    loss(torch.zeros(1, D, dtype=torch.float64), torch.tensor([1]))
    assert loss.centers[1, :, 0].tolist() == pytest.approx([2.0, -1 + ALPHA / 2, 1.0])


def test_one_subclass_is_the_center_loss():
    x, y, _ = draw(2)
    loss, start = started(2, count=1, margin=0.5, lambda_margin=LAMBDA)
    center = CenterLoss(5, D, alpha=ALPHA).double()
    center.centers.copy_(torch.tensor(start[:, 0]))
    values = [float(one(torch.tensor(x), torch.tensor(y))) for one in (loss, center)]
    assert values[0] == pytest.approx(values[1], abs=1e-14)
    assert torch.allclose(loss.centers[:, 0], center.centers, atol=1e-14)


def test_coinciding_centres_have_a_finite_gradient():
    loss, _ = started(0, margin=0.0, lambda_margin=1.0, update="optimizer")
    with torch.no_grad():
        loss.centers.fill_(1.0)
    loss(torch.zeros(1, D, dtype=torch.float64), torch.tensor([0])).backward()
    assert torch.isfinite(loss.centers.grad).all()
    assert not loss.centers.grad[1:].any()


def test_eval_mode_moves_nothing_and_the_state_dict_holds_the_centres():
    x, y, _ = draw(1)
    loss, start = started(1, margin=0.5, lambda_margin=LAMBDA)
    value = float(loss.eval()(torch.tensor(x), torch.tensor(y)))
    assert value == pytest.approx(subclass_sum(x, y, start) / len(x) + LAMBDA * together_sum(start, 0.5))
    assert np.array_equal(loss.centers.numpy(), start)
    assert list(loss.state_dict()) == ["centers"]
    assert not list(loss.parameters())
    assert [name for name, _ in SubclassLoss(2, D, update="optimizer").named_parameters()] == ["centers"]
    other, _ = started(7)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.centers, loss.centers)


@pytest.mark.parametrize("classes", [5, 20])
def test_empty_batch(classes):
    loss, start = started(0, classes=classes, margin=0.5, lambda_margin=LAMBDA)
    x = torch.zeros(0, D, dtype=torch.float64, requires_grad=True)
    value = loss(x, torch.zeros(0, dtype=torch.long))
    value.backward()
    assert float(value) == pytest.approx(LAMBDA * together_sum(start, 0.5))
    assert np.abs(loss.centers.numpy() - after(np.zeros((0, D)), [], start, 0.5, LAMBDA)).max() < 1e-12


def test_a_miner_weighs_the_faces_alone():
    x, y, _ = draw(4, batch=4)
    loss, start = started(4)
    value = loss(torch.tensor(x), torch.tensor(y), tuple(torch.tensor(column) for column in ([0], [1], [0], [2])))
    expected = sum(w * subclass_sum(x[i : i + 1], y[i : i + 1], start) for i, w in enumerate((1, 0.5, 0.5, 0))) / 4
    assert float(value) == pytest.approx(expected, abs=1e-12)
    assert np.abs(loss.centers.numpy() - after(x, y, start, 0.0, 0.0)).max() < 1e-12


def test_wrong_use():
    with pytest.raises(WrongUseError, match="weighs a margin and there is none"):
        SubclassLoss(2, D, lambda_margin=0.1)
    with pytest.raises(WrongUseError, match=r"margin must not be negative; got -0\.5"):
        SubclassLoss(2, D, margin=-0.5)
    with pytest.raises(WrongUseError, match="lambda_margin must not be negative"):
        SubclassLoss(2, D, margin=0.5, lambda_margin=-1)
    with pytest.raises(WrongUseError, match=r"must be positive; got \(2, 0, 3\)"):
        SubclassLoss(2, D, num_subclasses=0)
    with pytest.raises(WrongUseError, match="alpha"):
        SubclassLoss(2, D, alpha=-1)
    with pytest.raises(WrongUseError, match="update"):
        SubclassLoss(2, D, update="adam")
    loss = SubclassLoss(2, D)
    with pytest.raises(WrongUseError, match="needs labels"):
        loss(torch.zeros(1, D))
    with pytest.raises(BadInputError, match=r"0..1; got 2"):
        loss(torch.zeros(1, D), torch.tensor([2]))
    with pytest.raises(BadInputError, match="integer type"):
        loss(torch.zeros(1, D), torch.tensor([1.0]))
    with pytest.raises(BadInputError, match="made for 3"):
        loss(torch.zeros(1, 2), torch.tensor([1]))
