"""GCNetLoss against a float64 NumPy transcription of GCNet equations (4) to (9)."""

import math

import numpy as np
import pytest
import torch
from _numeric import norm, slope
from pytorch_metric_learning.reducers import SumReducer

from exprembed.errors import BadInputError, WrongUseError
from exprembed.losses import GCNetLoss

C, PIXELS, CODE, MARGIN, NEUTRAL = 4, (1, 2, 2), (2, 2), 2.5, 2
WEIGHTS = {"lambda_generation": 0.9, "lambda_contrastive": 0.7, "lambda_reconstruction": (0.3, 0.2)}
NAMES = ("classification", "generation", "contrastive", "reconstruction_image", "reconstruction_reference")


def terms_of(parts, y, y_r, weights=(1.0, 0.9, 0.7, 0.3, 0.2)):
    """The five printed sums over the batch, weights included."""
    total = dict.fromkeys(NAMES, 0.0)
    for i in range(len(y)):
        logits, image, reference, generated, code, code_g, rebuilt, rebuilt_r = (part[i].ravel() for part in parts)
        total["classification"] -= math.log(math.exp(logits[y[i]]) / sum(math.exp(number) for number in logits))
        total["generation"] += 0.5 * norm(reference - generated) ** 2  # (5)
        s = norm(code - code_g)
        alpha = 1 if y[i] != y_r[i] else 0
        total["contrastive"] += alpha * 0.5 * max(0, MARGIN - s) ** 2 + (1 - alpha) * 0.5 * s**2  # (6)
        total["reconstruction_image"] += 0.5 * norm(image - rebuilt) ** 2  # (8)
        total["reconstruction_reference"] += 0.5 * norm(reference - rebuilt_r) ** 2  # (9)
    return {name: weight * total[name] for name, weight in zip(NAMES, weights, strict=True)}  # (4), (7)


def draw(seed, batch):
    rng = np.random.default_rng([seed, batch])
    shapes = [(C,), PIXELS, PIXELS, PIXELS, CODE, CODE, PIXELS, PIXELS]
    parts = [rng.normal(size=(batch, *shape)) for shape in shapes]
    return parts, rng.integers(0, C, batch), rng


def call(loss, parts, y, **more):
    z, image, reference, generated, code, code_g, rebuilt, rebuilt_r = parts
    pictures = {"images": image, "references": reference, "generated": generated}
    return loss(z, y, **pictures, codes=(code, code_g), reconstructions=(rebuilt, rebuilt_r), **more)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("reducer", [None, SumReducer()])
@pytest.mark.parametrize("given", [False, True])
def test_values_and_gradients(seed, batch, reducer, given):
    parts, y, rng = draw(seed, batch)
    y_r = rng.integers(0, C, batch) if given else np.full(batch, NEUTRAL)
    loss = GCNetLoss(margin=MARGIN, neutral=NEUTRAL, reducer=reducer, **WEIGHTS)
    tensors = [torch.tensor(part, requires_grad=True) for part in parts]
    value = call(loss, tensors, torch.tensor(y), **({"reference_labels": torch.tensor(y_r)} if given else {}))
    value.backward()
    share = 1 if reducer else 1 / batch
    expected = {name: term * share for name, term in terms_of(parts, y, y_r).items()}
    assert float(value) == pytest.approx(sum(expected.values()), abs=1e-11)
    assert {name: float(term) for name, term in loss.breakdown.items()} == pytest.approx(expected, abs=1e-11)
    for place, tensor in enumerate(tensors):

        def total(part, place=place):
            return sum(terms_of([*parts[:place], part, *parts[place + 1 :]], y, y_r).values()) * share

        assert np.abs(tensor.grad.numpy() - slope(total, parts[place])).max() < 1e-8


def test_the_papers_weights_are_the_default():
    parts, y, _ = draw(0, 5)
    loss = GCNetLoss(margin=MARGIN)
    value = call(loss, [torch.tensor(part) for part in parts], torch.tensor(y))
    expected = terms_of(parts, y, np.zeros(5), (1, 1, 1, 0.25, 0.25))
    assert float(value) == pytest.approx(sum(expected.values()) / 5, abs=1e-11)


def test_a_variant_leaves_terms_out():
    parts, y, _ = draw(1, 5)
    z, image, reference, generated, code, code_g, rebuilt, rebuilt_r = (torch.tensor(part) for part in parts)
    expected = {name: term / 5 for name, term in terms_of(parts, y, np.full(5, NEUTRAL)).items()}
    loss = GCNetLoss(margin=MARGIN, neutral=NEUTRAL, **WEIGHTS)
    for s in (False, True):
        for r in (False, True):
            value = loss(
                z,
                torch.tensor(y),
                image,
                reference,
                generated,
                codes=(code, code_g) if s else None,
                reconstructions=(rebuilt, rebuilt_r) if r else None,
            )
            left = dict(zip(NAMES, (True, True, s, r, r), strict=True))
            assert float(value) == pytest.approx(sum(expected[name] for name in NAMES if left[name]), abs=1e-11)
            assert {name: bool(term) for name, term in loss.breakdown.items()} == left


@pytest.mark.parametrize("label", [0, 1])
def test_coinciding_codes_have_no_gradient(label):
    code = torch.ones(1, 4, requires_grad=True)
    face = torch.zeros(1, *PIXELS)
    loss = GCNetLoss(margin=MARGIN)
    loss(torch.zeros(1, C), torch.tensor([label]), face, face, face, codes=(code, torch.ones(1, 4))).backward()
    assert torch.equal(code.grad, torch.zeros(1, 4))
    assert float(loss.breakdown["contrastive"]) == pytest.approx(label * MARGIN**2 / 2)


def test_a_neutral_face_is_drawn_to_its_reference_and_another_pushed_away():
    code, face = torch.tensor([[1.0, 0.0]]), torch.zeros(1, *PIXELS)
    slopes = []
    for label in (0, 1):
        own = code.clone().requires_grad_()
        GCNetLoss(MARGIN)(torch.zeros(1, C), torch.tensor([label]), face, face, face, (own, 0 * code)).backward()
        slopes.append(float(own.grad[0, 0]))
    assert slopes[0] == pytest.approx(1.0)
    assert slopes[1] == pytest.approx(-(MARGIN - 1))


def test_empty_batch():
    parts = [torch.zeros(0, *part.shape[1:], requires_grad=True) for part in draw(0, 1)[0]]
    value = call(GCNetLoss(), parts, torch.zeros(0, dtype=torch.long))
    value.backward()
    assert float(value) == 0
    assert parts[0].grad.shape == (0, C)


def test_wrong_use():
    for name in ("margin", "lambda_generation", "lambda_contrastive", "lambda_reconstruction"):
        with pytest.raises(WrongUseError, match=f"{name} must not be negative"):
            GCNetLoss(**{name: -1.0})
    with pytest.raises(WrongUseError, match=r"lambda_reconstruction must not be negative; got -0\.5"):
        GCNetLoss(lambda_reconstruction=(0.1, -0.5))
    z, y, face = torch.zeros(2, C), torch.tensor([0, 3]), torch.zeros(2, *PIXELS)
    other, loss = torch.zeros(2, 1, 3, 3), GCNetLoss()
    with pytest.raises(WrongUseError, match="needs labels"):
        loss(z, None, face, face, face)
    with pytest.raises(BadInputError, match=r"labels must lie in 0..3; got 4"):
        loss(z, torch.tensor([0, 4]), face, face, face)
    with pytest.raises(BadInputError, match="integer type"):
        loss(z, y.float(), face, face, face)
    with pytest.raises(BadInputError, match=r"references must be as images, \(2, 1, 2, 2\); got \(2, 1, 3, 3\)"):
        loss(z, y, face, other, face)
    with pytest.raises(BadInputError, match="generated must be as images"):
        loss(z, y, face, face, other)
    with pytest.raises(BadInputError, match="images must be of 2 faces, as the logits; got 3"):
        loss(z, y, *(torch.zeros(3, *PIXELS) for _ in range(3)))
    with pytest.raises(BadInputError, match=r"the two codes must be of one shape, \(2, ...\)"):
        loss(z, y, face, face, face, codes=(torch.zeros(2, 3), torch.zeros(2, 4)))
    with pytest.raises(BadInputError, match=r"the two codes must be of one shape, \(2, ...\)"):
        loss(z, y, face, face, face, codes=(torch.zeros(1, 3), torch.zeros(1, 3)))
    with pytest.raises(BadInputError, match="a rebuilt image must be as its target"):
        loss(z, y, face, face, face, reconstructions=(face, other))
    codes = (torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(BadInputError, match=r"reference_labels must be \(2,\); got \(1,\)"):
        loss(z, y, face, face, face, codes=codes, reference_labels=torch.tensor([0]))
