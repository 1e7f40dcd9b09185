"""Center loss: faces of a class gather at one point."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from exprembed.losses import LOSSES
from exprembed.losses._base import ExpressionLoss, check_batch, full_precision, per_face
from exprembed.losses._centers import CenteredLoss, class_means


@LOSSES.register("center")
class CenterLoss(CenteredLoss):
    r"""Half the squared distance of each face to the learned centre of its class.

    L = 1/2 sum_i ||x_i - c_{y_i}||^2;  c_j <- c_j - alpha * sum_{y_i = j} (c_j - x_i) / (1 + n_j)

    Symbols: x (B, D) embeddings, any real numbers, **not** normalised here; y (B,) class numbers in [0, C); c (C, D)
    centres; n_j the faces of class j in the batch; alpha in [0, 1]. L >= 0, and 0 where each face lies on its centre;
    the gradient to x_i is x_i - c_{y_i} (printed sum). Memory O(B D + C D).

    Paper: Wen et al. (ECCV 2016); Antoniadis, NTUA thesis 2021, equations (4.2.1) and (4.2.2). Deviation: the default
    reducer averages over the batch; `SumReducer()` gives the printed sum. The shift of the centres does not depend on it.

    Args:
        num_classes: C.
        embedding_dim: D.
        alpha: the centres' own rate.
        update: "paper", the rule above at the end of each training-mode forward; "optimizer", centres are parameters.
        kwargs: pytorch-metric-learning's `reducer`, `embedding_regularizer`, ...; no other distance.

    Call: `loss(x, y, indices_tuple=None)`; a miner's tuples weigh each face by how often they name it.

    Raises:
        WrongUseError: an unknown update, alpha outside [0, 1], a number of classes or dimensions below one.
        BadInputError: shapes that do not fit, labels that are no class numbers.

    Example:
        >>> loss = CenterLoss(num_classes=2, embedding_dim=2, alpha=0.5)
        >>> _ = loss.centers.zero_()
        >>> loss(torch.tensor([[3.0, 4.0]]), torch.tensor([1]))
        tensor(12.5000)
        >>> loss.centers
        tensor([[0.0000, 0.0000],
                [0.7500, 1.0000]])
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        alpha: float = 0.5,
        update: str = "paper",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__((num_classes, embedding_dim), update, alpha, **kwargs)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Any = None,  # noqa: ANN401 - a miner's output
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the reduced loss, then move the centres; `ref_*` play no part."""
        x, y, centers = self.check(embeddings, labels)
        differences = x - centers.index_select(0, y)
        losses = differences.square().sum(dim=1) / 2
        self.move(y, differences)
        return self.reduced({"loss": per_face(losses, indices_tuple)}, x, y)


@LOSSES.register("center_local")
class CenterLocalLoss(ExpressionLoss):
    r"""Center loss whose centres are the class means of the batch itself: nothing is learned or kept.

    L = 1/2 sum_i ||x_i - m_{y_i}||^2,  m_j = 1/n_j sum_{y_i = j} x_i

    Symbols: x (B, D) embeddings, not normalised here; y (B,) class numbers; n_j the faces of class j in the batch. L >= 0,
    0 where a class has one face. The gradient to x_i is x_i - m_{y_i} (printed sum), whether the mean counts as a
    function of x or as a constant: what comes through it cancels.

    Paper: Hayale et al. (FG 2019); Antoniadis, NTUA thesis 2021, equation (4.2.4). Deviation: the default reducer
    averages over the batch; `SumReducer()` gives the printed sum. Each process of a parallel run takes its own means.

    Args:
        kwargs: pytorch-metric-learning's `reducer`, `embedding_regularizer`, ...; no other distance.

    Call: `loss(x, y, indices_tuple=None)`; a miner's tuples weigh each face by how often they name it.

    Raises:
        BadInputError: shapes that do not fit, labels that are no class numbers.

    Example:
        >>> CenterLocalLoss()(torch.tensor([[0.0], [2.0], [5.0]]), torch.tensor([0, 0, 1])).round(decimals=4)
        tensor(0.3333)
    """

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Any = None,  # noqa: ANN401 - a miner's output
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the reduced loss; `ref_*` play no part."""
        y = check_batch(embeddings, labels)
        (x,) = full_precision(embeddings)
        means, rows = class_means(x, y)
        losses = (x - means.index_select(0, rows)).square().sum(dim=1) / 2
        return self.reduced({"loss": per_face(losses, indices_tuple)}, x, y)
