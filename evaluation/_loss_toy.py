"""What the pictures of the losses are made from: the toy, gradient descent on it, panels and PNG files."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from exprembed.plots.losses import Plane
from exprembed.plots.style import expression_color

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Objective = Callable[[Tensor], Tensor]

CLASSES = ("happiness", "sadness", "disgust")
COLORS = tuple(expression_color(name) for name in CLASSES)
SHADES = "coolwarm"
LIMITS = (-2.2, 4.0, -2.2, 3.4)
DPI = 100


def descend(
    objective: Objective, start: Tensor, spring: float = 0.3, rate: float = 0.08, steps: int = 200
) -> np.ndarray:
    """Move points down the gradient of objective(x) + spring / 2 sum ||x - start||^2."""
    x = start.clone()
    for _ in range(steps):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(objective(x) + spring / 2 * (x - start).square().sum(), x)
        x = x.detach() - rate * gradient
    return x.numpy()


def toy(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return 96 points of three classes, each in two lumps that overlap with those of the others, and their classes."""
    lumps = np.array([[[1.2, 2.9], [3.6, 2.5]], [[1.0, 1.2], [2.6, 0.7]], [[2.3, 2.1], [4.0, 1.0]]])
    points = lumps.repeat(16, axis=1) + np.random.default_rng(seed).normal(0, 0.5, (3, 32, 2))
    return torch.tensor(points.reshape(-1, 2)), torch.arange(3).repeat_interleave(32)


def means(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean of each class."""
    return torch.stack([x[y == c].mean(dim=0) for c in range(int(y.max()) + 1)])


def centered(loss: Any, start: Tensor) -> Any:  # noqa: ANN401 - one of ours
    """Return a loss whose centres begin at `start`, in float64."""
    loss.centers = start.double().clone()
    return loss


def called(loss: Any, *given: Any, weight: float = 1, **options: Any) -> Objective:  # noqa: ANN401 - one of ours
    """Return weight * loss(x, *given, **options) as a function of x."""
    return lambda x: weight * loss(x, *given, **options)


def fitted(objective: Objective, x: Tensor, outputs: int) -> Callable[[Tensor], Tensor]:
    """Fit linear scores, W x + b, to an objective; return what gives them."""
    from scipy.optimize import minimize

    def scores(points: Tensor, weights: Tensor) -> Tensor:
        return functional.pad(points, (0, 1), value=1.0) @ weights

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.tensor(flat.reshape(3, outputs), requires_grad=True)
        value = objective(scores(x, weights)) + 1e-3 * weights.square().sum()
        (gradient,) = torch.autograd.grad(value, weights)
        return float(value.detach()), gradient.numpy().ravel()

    found = minimize(value_and_gradient, np.zeros(3 * outputs), jac=True, method="L-BFGS-B")
    best = torch.tensor(found.x.reshape(3, outputs))
    return lambda points: scores(points, best)


def border(scores: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Return the two ends, at the bottom and the top of the panel, of the line where two linear scores are equal."""
    corner, right, up = scores(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).double()).diff(dim=1)[:, 0].tolist()
    heights = np.array(LIMITS[2:])
    return np.stack([-(corner + (up - corner) * heights) / (right - corner), heights], axis=1)


def regions(scores: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Return the colour of the class of the highest score at each place of the panel."""
    left, right, bottom, top = LIMITS
    columns, rows = np.meshgrid(np.linspace(left, right, 240), np.linspace(bottom, top, 240))
    found = scores(torch.tensor(np.stack([columns.ravel(), rows.ravel()], axis=1))).argmax(dim=1)
    filled: np.ndarray = np.array(COLORS)[found.numpy()].reshape(columns.shape)
    return filled


def recalls(scores: Tensor, y: Tensor) -> list[float]:
    """Return the recall of each class in percent."""
    right = (scores.argmax(dim=1) == y).double()
    return [100 * float(right[y == c].mean()) for c in range(int(y.max()) + 1)]


def shades(values: np.ndarray) -> list[str]:
    """Return the colour of numbers in [-1, 1]."""
    import matplotlib
    from matplotlib.colors import to_hex

    return [to_hex(color) for color in matplotlib.colormaps[SHADES]((values + 1) / 2)]


def plane(title: str, x: Any, y: Tensor, **options: Any) -> Plane:  # noqa: ANN401 - arrays or tensors
    """Return a panel of points in their classes' colours; so are `centers`, (C, 2) or (C, K, 2), where given."""
    if options.get("centers") is not None:
        flat = np.array(options["centers"])
        options["center_colors"] = np.repeat(COLORS[: len(flat)], flat.size // len(flat) // 2).tolist()
        options["centers"] = flat.reshape(-1, 2)
    return Plane(title, np.asarray(x), [COLORS[label] for label in y], **options)


def pulls(loss: Any, p: np.ndarray, target: Tensor) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401 - one of ours
    """Return a loss of two classes, and minus its slope in the first score, where that class has probability p."""
    z = torch.tensor(np.stack([np.log(p / (1 - p)), np.zeros_like(p)], axis=1), requires_grad=True)
    values = loss(z, target)["loss"]["losses"]
    (slope,) = torch.autograd.grad(values.sum(), z)
    return values.detach().numpy(), -slope[:, 0].numpy()


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG of at most 256 colours that does not say what made it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(DPI)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    out = io.BytesIO()
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()
