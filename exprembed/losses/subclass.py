"""Subclass loss: a class may gather at several points."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from exprembed.errors import WrongUseError
from exprembed.losses import LOSSES
from exprembed.losses._base import no_autocast, not_negative, per_face, whole
from exprembed.losses._centers import CenteredLoss

# Up to so many classes one product with every centre is quicker than gathering each face's own ones (and is smaller).
_FEW_CLASSES = 32


@LOSSES.register("subclass")
class SubclassLoss(CenteredLoss):
    r"""Center loss with K centres a class: a face is drawn to the nearest centre of its own class alone.

    L = 1/2 sum_i ||x_i - c_i||^2 + lambda sum_j sum_k sum_{l != k} max(||c_{jk} - c_{jl}|| - m, 0)^2,
    c_i = c_{y_i k}, the k of the least ||x_i - c_{y_i k}||

    Update "paper": c_{jk} <- c_{jk} - alpha (sum_{i: c_i = c_{jk}} (c_{jk} - x_i) / (1 + n_{jk}) + lambda / (K - 1) g_{jk}),
    g_{jk} = 2 sum_{l != k} max(||c_{jk} - c_{jl}|| - m, 0) (c_{jk} - c_{jl}) / ||c_{jk} - c_{jl}||.

    Symbols: x (B, D) embeddings, not normalised here; y (B,) class numbers in [0, C); c (C, K, D) centres; n_{jk} the
    faces of the batch whose nearest own-class centre is c_{jk}; m >= 0 how far centres of one class may be apart at no cost;
    lambda >= 0, over **ordered** pairs. L >= 0. A centre that no face chooses stays, but for the margin. Memory O(B K D).

    Paper: Luo et al. (2018) and Antoniadis, NTUA thesis 2021, equations (4.3.5) to (4.3.8), with K = 2, 3, 5, 10 and m = 0.5.
    Deviations: (4.3.7) calls the shift a gradient; it is the center loss's rule, the gradient divided by 1 + n. The
    thesis prints no update for the margin; ours is as in its island loss (4.3.2), the mean over the other
    centres of the gradient of the pairs of c_{jk}, each counted once. Of centres at the same distance the first is taken. The
    default reducer averages the first sum over the batch, `SumReducer()` gives it as printed; no reducer touches the second.
    With K = 1 this is CenterLoss.

    Args:
        num_classes: C.
        embedding_dim: D.
        num_subclasses: K.
        margin: m; None for the loss without it.
        lambda_margin: lambda.
        alpha: the centres' own rate, in [0, 1].
        update: "paper", the rule above at the end of each training-mode forward; "optimizer", centres are parameters.
        kwargs: pytorch-metric-learning's `reducer`, `embedding_regularizer`, ...; no other distance.

    Call: `loss(x, y, indices_tuple=None)`; `loss.breakdown` then holds "subclass" and "margin".

    Raises:
        WrongUseError: an unknown update, a negative margin or lambda, a lambda without a margin, alpha outside [0, 1], a
            number of classes, subclasses or dimensions below one.
        BadInputError: shapes that do not fit, labels that are no class numbers.

    Example:
        >>> loss = SubclassLoss(num_classes=1, embedding_dim=1, num_subclasses=2).eval()
        >>> _ = loss.centers.copy_(torch.tensor([[[0.0], [10.0]]]))
        >>> loss(torch.tensor([[1.0], [8.0]]), torch.tensor([0, 0]))
        tensor(1.2500)
    """

    TERMS = ("subclass", "margin")

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        num_subclasses: int = 10,
        margin: float | None = None,
        lambda_margin: float = 0.0,
        alpha: float = 0.5,
        update: str = "paper",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        not_negative(lambda_margin=lambda_margin, margin=margin or 0.0)
        if margin is None and lambda_margin:
            raise WrongUseError(
                f"lambda_margin={lambda_margin} weighs a margin and there is none; pass margin=0.5, say"
            )
        super().__init__((num_classes, num_subclasses, embedding_dim), update, alpha, **kwargs)
        self.margin, self.lambda_margin = margin, lambda_margin

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Any = None,  # noqa: ANN401 - a miner's output
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, then move the centres; `ref_*` play no part."""
        x, y, centers = self.check(embeddings, labels)
        with no_autocast(x):
            rows = y * centers.shape[1] + self.nearest(x, y, centers)
            differences = x - centers.flatten(0, 1).index_select(0, rows)
            terms = {"subclass": per_face(differences.square().sum(dim=1) / 2, indices_tuple), "margin": whole(0)}
            push = None
            if self.margin is not None and self.lambda_margin and centers.shape[1] > 1:
                together, push = self._together(centers)
                terms["margin"] = whole(self.lambda_margin * together)
                push = self.lambda_margin / (centers.shape[1] - 1) * push
            self.move(rows, differences, push)
            return self.reduced(terms, x, y)

    @torch.no_grad()
    def nearest(self, x: Tensor, y: Tensor, centers: Tensor) -> Tensor:
        """Return the number, (B,), of the own-class centre nearest to each face.

        Among few classes: ||x||^2 is the same for all centres of a face, so ||c||^2 / 2 - x . c orders them.
        """
        classes, count, _ = centers.shape
        if count == 1:
            return torch.zeros_like(y)
        if classes > _FEW_CLASSES:
            own = centers.index_select(0, y)  # (B, K, D)
            return torch.cdist(x[:, None], own, compute_mode="donot_use_mm_for_euclid_dist")[:, 0].argmin(dim=1)
        half = centers.square().sum(dim=2) / 2
        products = (x @ centers.flatten(0, 1).T).view(-1, classes, count)
        return (half - products)[torch.arange(len(x), device=x.device), y].argmin(dim=1)

    def _together(self, centers: Tensor) -> tuple[Tensor, Tensor]:
        """Return the margin's sum over ordered pairs, and to each centre the gradient of its own pairs, once each."""
        apart = centers[:, :, None] - centers[:, None, :]  # (C, K, K, D)
        distances = torch.linalg.vector_norm(apart, dim=3)
        excess = (distances - (self.margin or 0.0)).clamp(min=0)
        with torch.no_grad():
            weights = torch.where(distances > 0, excess / distances, 0)
            gradient = 2 * (weights.sum(dim=2, keepdim=True) * centers - torch.bmm(weights, centers))
        return excess.square().sum(), gradient
