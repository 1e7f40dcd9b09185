"""Regression of valence and arousal by concordance."""

from __future__ import annotations

import torch
from torch import Tensor

from exprembed.errors import BadInputError
from exprembed.losses import LOSSES
from exprembed.losses._base import ExpressionLoss, full_precision, whole


@LOSSES.register("ccc")
class CCCLoss(ExpressionLoss):
    r"""One minus the mean concordance correlation coefficient of the columns.

    L = 1 - 1/K sum_k CCC_k,  CCC = 2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2)

    Symbols: x (B, K) predictions and y (B, K) targets (K = 2: valence, arousal), m their means and s their **biased**
    moments (divided by B) throughout: mixing both kinds gives another number on small batches. L lies in [0, 2]; 0 where
    x = y; 1 where a column of x or y is constant, as for a batch of one, with a gradient of zero or towards the
    target's mean, never infinite. Where both are constant and equal nothing is wrong: CCC counts as 1.

    Paper: Lin (1989); Antoniadis, NTUA thesis 2021, equation (5.2.1) and after it, 1 - (CCC_v + CCC_a) / 2. Deviation: none.
    The loss is one number of the whole batch, so that reducers do not touch it.

    Call: `loss(x, y)`.

    Raises:
        BadInputError: shapes that differ or are not (B, K).

    Example:
        >>> CCCLoss()(torch.tensor([[0.0], [0.5]]), torch.tensor([[0.0], [1.0]])).round(decimals=4)
        tensor(0.3333)
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss; an empty batch gives zero."""
        if prediction.shape != target.shape or prediction.ndim != 2 or not prediction.is_floating_point():
            raise BadInputError(
                f"prediction and target must both be (B, K), the prediction float; got {tuple(prediction.shape)} "
                f"{prediction.dtype} and {tuple(target.shape)}"
            )
        if not prediction.numel():
            return self.reduced({"loss": whole(0)}, prediction)
        x, y = full_precision(prediction, target)
        y = y.to(x.dtype)
        m_x, m_y = x.mean(dim=0), y.mean(dim=0)
        off_x, off_y = x - m_x, y - m_y
        covariance = (off_x * off_y).mean(dim=0)
        scale = off_x.square().mean(dim=0) + off_y.square().mean(dim=0) + (m_x - m_y).square()
        equal = scale < torch.finfo(scale.dtype).tiny  # below it 1 / scale overflows; NaN is not below
        agreement = torch.where(equal, 1, 2 * covariance / torch.where(equal, 1, scale))
        return self.reduced({"loss": whole(1 - agreement.mean())}, x)
