"""Optimisers that torch does not have for convolutions: Muon beside AdamW."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

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


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "muon": Muon,
}
