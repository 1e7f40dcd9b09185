"""Multi-task networks against the thesis's chapter 5, number by number in float64: every head and task, with gradients."""

import math

import numpy as np
import pytest
import torch
from _numeric import slope

from exprembed.losses import CCCLoss
from exprembed.models.multitask import HEADS, TASKS, MultiTask
from exprembed.training.recipe import load_recipe

WIDTH = 256  # of vgg8_grey48; only the first FEW features are not zero, so that numeric slopes stay quick
FEW = 5


def model_of(task, head):
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(3)
    try:
        return MultiTask("vgg8_grey48", second_task=task, head=head, classes=["joy", "fear", "anger"])
    finally:
        torch.set_default_dtype(torch.float32)


def softmax(row):
    top = [math.exp(value - max(row)) for value in row]
    return [value / sum(top) for value in top]


def centre(sector, count):
    """The centre of gravity of a sector of the unit disc, by the integral of r^2 cos t and r^2 sin t."""
    low, high = 2 * math.pi * sector / count, 2 * math.pi * (sector + 1) / count
    area = (high - low) / 2
    return [(math.sin(high) - math.sin(low)) / 3 / area, (math.cos(low) - math.cos(high)) / 3 / area]


def transcribed(x, task, head, weights):
    """Return logits, scores, valence and arousal of one embedding."""
    separate, shared = [x, x], x
    if head == "separate":
        separate = [np.maximum(weights[f"layers.{i}.weight"] @ x + weights[f"layers.{i}.bias"], 0) for i in (0, 1)]
    scores = [float(row @ separate[1]) for row in weights["second.weight"]]
    if task == "valence_arousal":
        said, point = scores, scores
    elif task == "half":
        said = [1 / (1 + math.exp(-score)) for score in scores]
        point = [share * 4 / (3 * math.pi) - (1 - share) * 4 / (3 * math.pi) for share in said]
    else:
        said, count = softmax(scores), len(scores)
        point = [sum(said[k] * centre(k, count)[axis] for k in range(count)) for axis in (0, 1)]
    seen = np.concatenate([shared, said]) if head == "concatenate" else separate[0]
    return [float(row @ seen) for row in weights["classifier.weight"]], scores, point


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("task", TASKS)
def test_forward_and_gradients(task, head):
    rng, model = np.random.default_rng(1), model_of(task, head).eval()
    for (
        layer
    ) in model.layers:  # each unit well on one side of the ReLU's bend, which no step of the numeric slope crosses
        layer.bias = torch.nn.Parameter(torch.tensor(rng.choice([-3.0, 3.0], WIDTH)))
    weights = {
        name: value.detach().numpy() for name, value in model.named_parameters() if not name.startswith("backbone.")
    }
    few = rng.uniform(0, 2, (2, FEW))

    def whole(rows):
        return np.concatenate([rows, np.zeros((len(rows), WIDTH - FEW))], axis=1)

    maps = torch.tensor(whole(few))[:, :, None, None].requires_grad_()
    output = model.from_features(maps)
    expected = [transcribed(row, task, head, weights) for row in whole(few)]
    assert np.abs(output.embedding.detach().numpy() - whole(few)).max() == 0
    assert np.abs(output.logits.detach().numpy() - [row[0] for row in expected]).max() < 1e-8
    assert np.abs(output.valence_arousal.detach().numpy() - [row[2] for row in expected]).max() < 1e-8
    if task != "valence_arousal":
        assert np.abs(output.parts["va_regions"].detach().numpy() - [row[1] for row in expected]).max() < 1e-8

    factors = rng.normal(size=(2, 5))
    both = torch.cat([output.logits, output.valence_arousal], dim=1)
    (torch.tensor(factors) * both).sum().backward()

    def total(rows):
        found = [transcribed(row, task, head, weights) for row in whole(rows)]
        return float(sum(f @ np.concatenate([row[0], row[2]]) for f, row in zip(factors, found, strict=True)))

    assert np.abs(maps.grad[:, :FEW, 0, 0].numpy() - slope(total, few)).max() < 1e-8


def test_embedding_is_the_maximum_over_places():
    model = model_of("eight", "classic").eval()
    maps = torch.tensor(np.random.default_rng(2).normal(size=(2, WIDTH, 3, 3)))
    expected = [[max(maps[b, d].flatten().tolist()) for d in range(WIDTH)] for b in range(2)]
    assert model.from_features(maps).embedding.tolist() == expected


def test_the_two_regression_losses_are_the_printed_ones():
    """(5.1.5) averaged over the batch is torch's MSELoss, and (5.2.2) is CCCLoss, with both columns' own moments."""
    rng = np.random.default_rng(3)
    guess, truth = rng.normal(size=(2, 8, 2))
    printed = np.mean([0.5 * (p[0] - t[0]) ** 2 + 0.5 * (p[1] - t[1]) ** 2 for p, t in zip(guess, truth, strict=True)])
    assert torch.nn.MSELoss()(torch.tensor(guess), torch.tensor(truth)).item() == pytest.approx(printed, abs=1e-12)
    rho = []
    for p, t in zip(guess.T, truth.T, strict=True):
        s = np.cov(p, t, bias=True)
        rho.append(2 * s[0, 1] / (s[0, 0] + s[1, 1] + (p.mean() - t.mean()) ** 2))
    found = CCCLoss()(torch.tensor(guess), torch.tensor(truth)).item()
    assert found == pytest.approx(1 - (rho[0] + rho[1]) / 2, abs=1e-12)
    assert [plan.loss for plan in load_recipe("multitask-small").objectives] == ["weighted_cross_entropy", "ccc"]
