"""Island losses: classes gather, and their centres keep apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from exprembed.losses import LOSSES
from exprembed.losses._base import no_autocast, not_negative, per_face, whole, with_gradient
from exprembed.losses._centers import CenteredLoss


class _CentersApart(CenteredLoss):
    """Center loss plus lambda times a sum over ordered pairs of centres."""

    TERMS = ("center", "island")

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        lambda_island: float,
        alpha: float,
        update: str,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        not_negative(lambda_island=lambda_island)
        super().__init__((num_classes, embedding_dim), update, alpha, **kwargs)
        self.lambda_island = lambda_island
        self.add_to_recordable_attributes(list_of_names=["lambda_island"], is_stat=False)

    def pairs(self, centers: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum over ordered pairs of different centres, and, (C, D), the gradient of unordered ones."""
        raise NotImplementedError

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
            differences = x - centers.index_select(0, y)
            losses = differences.square().sum(dim=1) / 2
            with torch.no_grad():
                apart, push = self.pairs(centers)
            self.move(y, differences, self.lambda_island / max(1, len(centers) - 1) * push)
            island = self.lambda_island * with_gradient(apart, 2 * push, centers)
            return self.reduced({"center": per_face(losses, indices_tuple), "island": whole(island)}, x, y)


@LOSSES.register("island")
class IslandLoss(_CentersApart):
    r"""Center loss plus the cosines between class centres, so that classes gather and lie in different directions.

    L = 1/2 sum_i ||x_i - c_{y_i}||^2 + lambda sum_j sum_{k != j} (c_k . c_j / (||c_k|| ||c_j||) + 1)

    Update "paper": c_j <- c_j - alpha (sum_{y_i = j} (c_j - x_i) / (1 + n_j) + lambda / (C - 1) g_j),
    g_j = sum_{k != j} (c_k / (||c_k|| ||c_j||) - (c_k . c_j) c_j / (||c_k|| ||c_j||^3)).

    Symbols: x (B, D) embeddings, not normalised here; y (B,) class numbers in [0, C); c (C, D) centres; n_j the faces of
    class j in the batch; lambda >= 0, the weight of the second sum, over **ordered** pairs, in [0, 2 C (C - 1)].

    Paper: Cai et al. (FG 2018); Antoniadis, NTUA thesis 2021, equations (4.3.1) to (4.3.3). Deviations: (4.3.2) prints
    its last fraction outside the sum over k although it names k; it belongs inside, being the gradient of the
    cosine. The default reducer averages the first sum over the batch, `SumReducer()` gives it as printed; the second
    runs over centres, and no reducer touches it. A centre of length zero has no direction: its cosines count as 0.
    With "paper" the second sum has no gradient to x; it acts through the centres.

    Args:
        num_classes: C.
        embedding_dim: D.
        lambda_island: lambda.
        alpha: the centres' own rate, in [0, 1].
        update: "paper", the rule above at the end of each training-mode forward; "optimizer", centres are parameters.
        kwargs: pytorch-metric-learning's `reducer`, `embedding_regularizer`, ...; no other distance.

    Call: `loss(x, y, indices_tuple=None)`; `loss.breakdown` then holds "center" and "island".

    Raises:
        WrongUseError: an unknown update, a negative lambda, alpha outside [0, 1], fewer than one class or dimension.
        BadInputError: shapes that do not fit, labels that are no class numbers.

    Example:
        >>> loss = IslandLoss(num_classes=2, embedding_dim=2, lambda_island=0.5).eval()
        >>> _ = loss.centers.copy_(torch.eye(2))
        >>> loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0])), loss.breakdown["center"]
        (tensor(1.), tensor(0.))
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        lambda_island: float = 0.1,
        alpha: float = 0.5,
        update: str = "paper",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(num_classes, embedding_dim, lambda_island, alpha, update, **kwargs)

    def pairs(self, centers: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of cos + 1 and g, from the directions u_j and s_j, the sum of the others: no C x C matrix.

        The cosines add up to sum_j s_j . u_j, and g_j is (s_j - (s_j . u_j) u_j) / ||c_j||.
        """
        lengths = torch.linalg.vector_norm(centers, dim=1, keepdim=True)
        inverse = lengths.reciprocal().masked_fill_(lengths == 0, 0)
        directions = centers * inverse
        others = directions.sum(dim=0) - directions
        along = (others * directions).sum(dim=1, keepdim=True)
        return along.sum() + len(centers) * (len(centers) - 1), (others - along * directions) * inverse


@LOSSES.register("euclidean_island")
class EuclideanIslandLoss(_CentersApart):
    r"""Center loss plus a margin between class centres, measured as the center loss measures: in plain distance.

    L = 1/2 sum_i ||x_i - c_{y_i}||^2 + lambda sum_j sum_{k != j} max(m - ||c_k - c_j||, 0)^2

    Update "paper": c_j <- c_j - alpha (sum_{y_i = j} (c_j - x_i) / (1 + n_j) + lambda / (C - 1) g_j),
    g_j = -2 sum_{k != j} max(m - ||c_j - c_k||, 0) (c_j - c_k) / ||c_j - c_k||.

    Symbols: x (B, D) embeddings, not normalised here; y (B,) class numbers in [0, C); c (C, D) centres; n_j the faces of
    class j in the batch; m >= 0 the margin, in the embeddings' own units; lambda >= 0, over **ordered** pairs. L >= 0; the
    second sum is 0 where all centres are m apart, and does not change when everything is shifted or turned.

    Paper: Antoniadis, NTUA thesis 2021, equation (4.3.4), with m = 2 and 5. Deviations: the thesis prints no update for
    the second sum; ours is that of its island loss (4.3.2), the mean over the other centres of the gradient of
    the pairs of c_j, each counted once. Centres that coincide do not push each other: their distance has no
    gradient. The default reducer averages the first sum over the batch, `SumReducer()` gives it as printed; no reducer
    touches the second.

    Args:
        num_classes: C.
        embedding_dim: D.
        margin: m.
        lambda_island: lambda.
        alpha: the centres' own rate, in [0, 1].
        update: "paper", the rule above at the end of each training-mode forward; "optimizer", centres are parameters.
        kwargs: pytorch-metric-learning's `reducer`, `embedding_regularizer`, ...; no other distance.

    Call: `loss(x, y, indices_tuple=None)`; `loss.breakdown` then holds "center" and "island".

    Raises:
        WrongUseError: an unknown update, a negative margin or lambda, alpha outside [0, 1], fewer than one class.
        BadInputError: shapes that do not fit, labels that are no class numbers.

    Example:
        >>> loss = EuclideanIslandLoss(num_classes=2, embedding_dim=1, margin=2.0, lambda_island=0.5).eval()
        >>> _ = loss.centers.copy_(torch.tensor([[0.0], [1.0]]))
        >>> loss(torch.tensor([[0.0]]), torch.tensor([0]))
        tensor(1.)
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        margin: float = 2.0,
        lambda_island: float = 0.1,
        alpha: float = 0.5,
        update: str = "paper",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        not_negative(margin=margin)
        super().__init__(num_classes, embedding_dim, lambda_island, alpha, update, **kwargs)
        self.margin = margin
        self.add_to_recordable_attributes(list_of_names=["margin"], is_stat=False)

    def pairs(self, centers: Tensor) -> tuple[Tensor, Tensor]:
        """Return twice the squared hinges over j < k, and g.

        g is a row sum of pair weights times c_j, less the weighted sum of the others: no (C, C, D) array.
        """
        distances = torch.nn.functional.pdist(centers)
        hinges = (self.margin - distances).clamp_(min=0)
        weights = centers.new_zeros(len(centers), len(centers))
        above = torch.ones_like(weights, dtype=torch.bool).triu_(diagonal=1)
        weights.masked_scatter_(above, (hinges / distances).masked_fill_(distances == 0, 0))
        weights = weights + weights.T
        return 2 * hinges.square().sum(), 2 * (weights @ centers - weights.sum(dim=1, keepdim=True) * centers)
