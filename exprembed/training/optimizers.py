"""Optimisers, which parameters they move how fast, and schedules: Muon beside AdamW, SGD with momentum, the inverse decay."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

import torch
from torch import Tensor, nn

from exprembed.errors import WrongUseError, unknown_name

# Coefficients of Newton and Schulz's iteration (Jordan et al., 2024): they take singular values to about [0.7, 1.2] in
# five steps, which serves as well as 1 and needs half as many.
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalized(matrix: Tensor, steps: int = 5, precision: torch.dtype = torch.bfloat16) -> Tensor:
    """Return U V^T of a matrix U S V^T, about: every direction of an update gets the same weight, (m, n) to (m, n)."""
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    x: Tensor = (wide / wide.norm().clamp(min=1e-7)).to(precision)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    x = x.to(matrix.dtype)
    return x.T if tall else x


class Muon(torch.optim.AdamW):
    r"""Muon for the weights of convolutions, AdamW for everything else.

    M <- mu M + G,  W <- (1 - eta lambda) W - eta sqrt(max(1, m / n)) orth(G + mu M),  eta = `muon_rate` * rate

    Symbols: W a convolution's weight as an (m, n) matrix, m its outputs, n inputs times kernel; G its gradient; orth as
    in `orthogonalized`; mu = `momentum`; lambda = `weight_decay`; rate the group's learning rate, so that a schedule moves
    both. torch's own Muon takes matrices only, and no AdamW beside them.

    Paper: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). A first convolution with one input
    channel stays with AdamW, as do vectors and linear layers.

    Args:
        groups: parameter groups; those with `muon` true hold weights of convolutions.
        muon_rate: eta as a multiple of the group's learning rate.
        momentum: mu.
        options: AdamW's.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        muon_rate: float = 10.0,
        momentum: float = 0.95,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(groups, **options)
        self.muon_rate, self.momentum = muon_rate, momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; gradients of Muon's weights are gone afterwards, so that AdamW leaves those weights alone."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group.get("muon"):
                for weight in group["params"]:
                    self._move(weight, group["lr"] * self.muon_rate, group["weight_decay"])
        super().step()
        return loss

    def _move(self, weight: Tensor, rate: float, decay: float) -> None:
        gradient, weight.grad = weight.grad, None
        if gradient is None:
            return
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())  # AdamW looks for it when it takes up a checkpoint
            state["momentum"] = torch.zeros_like(weight)
        state["step"] += 1
        state["momentum"].mul_(self.momentum).add_(gradient)
        update = gradient.add(state["momentum"], alpha=self.momentum).flatten(1)
        tall = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
        weight.mul_(1 - rate * decay)
        weight.add_(orthogonalized(update).view(weight.shape), alpha=-rate * tall)


def convolution_weights(module: nn.Module) -> set[int]:
    """Return the ids of the weights that Muon moves: those of convolutions of more than one input channel."""
    return {id(m.weight) for m in module.modules() if isinstance(m, nn.Conv2d) and m.weight.shape[1] > 1}


def parameter_groups(
    parameters: Mapping[str, nn.Parameter],
    rate: float,
    rates: Mapping[str, float],
    convolutions: Set[int] = frozenset(),
) -> list[dict[str, Any]]:
    """Part parameters by their learning rate, and by whether Muon moves them.

    Args:
        parameters: by name.
        rate: the learning rate.
        rates: start of a name -> factor on the rate ({"generator.decoder.": 10}); the longest start that fits counts.
        convolutions: ids of the parameters for Muon.

    Raises:
        WrongUseError: a start that no name has, or a negative factor.
    """
    for start, factor in rates.items():
        if not any(name.startswith(start) for name in parameters):
            raise unknown_name("part of the model", start, {name.partition(".")[0] + "." for name in parameters})
        if not factor >= 0:
            raise WrongUseError(f"the factor on the learning rate of {start!r} must not be negative; got {factor}")
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        fitting = [start for start in rates if name.startswith(start)]
        factor = rates[max(fitting, key=len)] if fitting else 1.0
        found.setdefault((factor, id(parameter) in convolutions), []).append(parameter)
    return [
        {"params": members, "lr": rate * factor, "muon": by_muon}
        for (factor, by_muon), members in sorted(found.items(), key=lambda entry: entry[0])
    ]


def constant(step: int, steps: int, warmup: float) -> float:
    """Return 1."""
    return 1.0


def cosine(step: int, steps: int, warmup: float) -> float:
    """Rise evenly over the first `warmup` of the steps, then fall along half a cosine to 0."""
    rise = max(1.0, warmup * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1.0, steps - rise))))


def inverse(step: int, steps: int, warmup: float, gamma: float = 1e-4, power: float = 0.75) -> float:
    """Return (1 + gamma step)^-power, Caffe's "inv" policy.

    GCNet (section IV.A) gives "a gamma term of 0.75" and no power: 0.75 is the power of Caffe's examples, whose gamma is
    1e-4; a gamma of 0.75 would leave 1 / 10,000 of the rate at its 300,000th step.

    Example:
        >>> round(inverse(10_000, 300_000, 0.0), 3)
        0.595
    """
    return float((1 + gamma * step) ** -power)


SCHEDULES: dict[str, Callable[..., float]] = {"constant": constant, "cosine": cosine, "inverse": inverse}


def make_schedule(name: str, steps: int, warmup: float, options: Mapping[str, float]) -> Callable[[int], float]:
    """Return the factor on the learning rate as a function of the step alone; wrong options raise WrongUseError."""
    try:
        rate = functools.partial(SCHEDULES[name], steps=steps, warmup=warmup, **options)
        rate(0)
    except TypeError as error:
        raise WrongUseError(f"the options of the schedule {name!r}: {error}") from error
    return rate


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "muon": Muon,
    # v <- 0.9 v + g, w <- w - rate (g + 0.9 v)
    "nesterov": functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    # v <- 0.9 v + g, w <- w - rate v
    "sgd": functools.partial(torch.optim.SGD, momentum=0.9),
}
