"""Learned class centres: where they are kept, and how they move."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from exprembed.errors import WrongUseError, unknown_name
from exprembed.losses._base import ExpressionLoss, check_batch

_UPDATES = ("paper", "optimizer")


class CenteredLoss(ExpressionLoss):
    """A loss with centres, `centers` in the state dict.

    They start as normal numbers of deviation 1 / sqrt(embedding_dim), hence of length about one, like unit embeddings.

    Args:
        shape: of the centres, the dimension of the embeddings last; None for a loss that keeps none.
        update: "paper", buffers that `move` shifts at the end of a training-mode forward; "optimizer", parameters.
        alpha: the paper's rate, in [0, 1].
        kwargs: pytorch-metric-learning's own options.
    """

    centers: Tensor

    def __init__(self, shape: tuple[int, ...] | None, update: str, alpha: float, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        if update not in _UPDATES:
            raise unknown_name("update", update, _UPDATES)
        if shape is not None and min(shape) < 1:
            raise WrongUseError(f"classes, subclasses and dimensions must be positive; got {shape}")
        if not 0 <= alpha <= 1:
            raise WrongUseError(f"alpha must lie in [0, 1]; got {alpha}")
        self.update, self.alpha = update, alpha
        start = None if shape is None else torch.randn(shape) / shape[-1] ** 0.5
        if update == "paper" or start is None:
            self.register_buffer("centers", start)
        else:
            self.centers = nn.Parameter(start)
        self._alike = False

    def check(self, embeddings: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return embeddings, labels and centres, checked and of one type, at least the centres' own."""
        classes, dim = self.centers.shape[0], self.centers.shape[-1]
        labels = check_batch(embeddings, labels, classes, dim)
        if self.moves:
            self._start_alike()
        dtype = torch.promote_types(embeddings.dtype, self.centers.dtype)
        return embeddings.to(dtype), labels, self.centers.to(dtype)

    @property
    def moves(self) -> bool:
        """Whether this forward ends with the paper's shift."""
        return self.training and self.update == "paper"

    @torch.no_grad()
    def move(self, rows: Tensor, differences: Tensor, push: Tensor | None = None) -> None:
        """Shift the centres by the paper's rule, c <- c - alpha (sum_i (c - x_i) / (1 + n) + push).

        Sums and counts run over all processes, so that N of them end with the centres of one.

        Args:
            rows: (B,) centre of each face, counted along all leading dimensions of `centers`.
            differences: (B, D) x_i - c of its own centre, before the shift.
            push: gradient of what keeps centres apart or together, of the centres' shape.
        """
        if not self.moves:
            return
        flat = self.centers.view(-1, self.centers.shape[-1])
        differences = differences.to(flat.dtype)
        counts = torch.bincount(rows, minlength=len(flat)).to(flat.dtype)
        if push is not None:
            push = push.reshape(flat.shape).to(flat.dtype)
        if len(flat) > len(rows) and not parallel():  # most centres have no face: leave them alone
            shares = self.alpha / (1 + counts.index_select(0, rows))
            flat.index_add_(0, rows, differences * shares[:, None])
        else:
            sums, counts = all_reduced(torch.zeros_like(flat).index_add_(0, rows, differences), counts)
            flat.addcdiv_(sums, (1 + counts)[:, None], value=self.alpha)
        if push is not None:
            flat.sub_(push, alpha=self.alpha)

    def _start_alike(self) -> None:
        """Give every process the first one's centres, once: each may have drawn its own."""
        if not self._alike and parallel():
            dist.broadcast(self.centers, src=0)
        self._alike = True


def parallel() -> bool:
    """Say whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_reduced(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the sums over all processes."""
    if parallel():
        for tensor in tensors:
            dist.all_reduce(tensor)
    return tensors


def class_sums(values: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the sum of each class's rows, (C, D), and their number, (C,); differentiable."""
    sums = values.new_zeros(classes, values.shape[1]).index_add(0, labels, values)
    return sums, torch.bincount(labels, minlength=classes).to(values.dtype)


def renumbered(labels: Tensor) -> tuple[Tensor, int]:
    """Return the labels as numbers 0, 1, ... of the classes that occur, and how many do."""
    occurring, rows = torch.unique(labels, return_inverse=True)
    return rows, len(occurring)


def class_means(values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of each class that occurs, (C', D), and the row of it for each face, (B,); differentiable."""
    rows, classes = renumbered(labels)
    sums, counts = class_sums(values, rows, classes)
    return sums / counts[:, None], rows
