"""Objectives on class scores: weights against imbalance, focus on hard faces, targets that are distributions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from exprembed.errors import BadInputError
from exprembed.losses import LOSSES
from exprembed.losses._base import Constant, ExpressionLoss, check_batch, full_precision, not_negative, per_face


@LOSSES.register("weighted_cross_entropy")
class WeightedCrossEntropy(ExpressionLoss):
    r"""Cross entropy that weighs each class by its rarity.

    L = -1/B sum_i w_{y_i} log softmax(z_i)_{y_i},  w_c = f_min / f_c

    Symbols: z (B, C) logits, y (B,) class numbers, f_c > 0 the number of training faces of class c, f_min the least of
    them; so w lies in (0, 1] and the rarest class has 1. L >= 0. `loss.weights` shows w, (C,) float64.

    Paper: Antoniadis, NTUA thesis 2021, equations (3.3.3) and (3.3.4). Deviations: (3.3.4) prints f_c / f_min, while its
    sentence says that faces of rare classes weigh **more**: the sentence wins. The default reducer averages over the
    batch (torch's own weighted mean divides by the sum of the weights instead); `SumReducer()` gives the printed sum.

    Args:
        class_counts: (C,) f, the training faces of each class, all positive.
        kwargs: pytorch-metric-learning's `reducer`, ...

    Call: `loss(z, y, indices_tuple=None)`.

    Raises:
        BadInputError: a class without a face, shapes that do not fit, labels that are no class numbers.

    Example:
        >>> loss = WeightedCrossEntropy([10, 40])
        >>> loss.weights, loss(torch.zeros(1, 2), torch.tensor([1])).round(decimals=4)
        (tensor([1.0000, 0.2500], dtype=torch.float64), tensor(0.1733))
    """

    def __init__(self, class_counts: Any, **kwargs: Any) -> None:  # noqa: ANN401 - any sequence of numbers
        super().__init__(**kwargs)
        counts = torch.as_tensor(class_counts, dtype=torch.float64)
        if counts.ndim != 1 or not len(counts):
            raise BadInputError(f"class_counts must be (C,), one number a class; got {tuple(counts.shape)}")
        if not bool((counts > 0).all()):
            missing = int(torch.argmin((counts > 0).int()))
            raise BadInputError(
                f"class {missing} has {counts[missing]:g} faces; a weight needs at least one: leave the class out"
            )
        self._weights = Constant(counts.min() / counts)

    @property
    def weights(self) -> Tensor:
        """w, (C,) float64."""
        return self._weights.exact

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Any = None,  # noqa: ANN401 - a miner's output
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the reduced loss of (B, C) logits; `ref_*` play no part."""
        y = check_batch(embeddings, labels, len(self.weights), len(self.weights), "logits")
        (z,) = full_precision(embeddings)
        losses = functional.cross_entropy(z, y, weight=self._weights.like(z), reduction="none")
        return self.reduced({"loss": per_face(losses, indices_tuple)}, z, y)


@LOSSES.register("focal")
class FocalLoss(ExpressionLoss):
    r"""Cross entropy that turns away from faces already classified well.

    L = -1/B sum_i w_{y_i} (1 - p_i)^gamma log p_i,  p_i = softmax(z_i)_{y_i}

    Symbols: z (B, C) logits, y (B,) class numbers, gamma >= 0 (0 is cross entropy), w (C,) weights, 1 where none are given.
    L >= 0. The gradient is finite everywhere, also where p is 1 to rounding.

    Paper: Lin et al. (ICCV 2017), used in Antoniadis, NTUA thesis 2021, section 5. Deviation: none; the weighted form
    divides by B, not by the sum of the weights.

    Args:
        gamma: the focus.
        weight: (C,) class weights, or None.
        kwargs: pytorch-metric-learning's `reducer`, ...

    Call: `loss(z, y, indices_tuple=None)`.

    Raises:
        WrongUseError: a negative gamma.
        BadInputError: shapes that do not fit, labels that are no class numbers, weights that are negative or not finite.

    Example:
        >>> FocalLoss(gamma=2.0)(torch.zeros(1, 2), torch.tensor([0])).round(decimals=4)
        tensor(0.1733)
    """

    def __init__(self, gamma: float = 2.0, weight: Any = None, **kwargs: Any) -> None:  # noqa: ANN401
        not_negative(gamma=gamma)
        super().__init__(**kwargs)
        self.gamma = gamma
        given = None if weight is None else torch.as_tensor(weight, dtype=torch.float64)
        if given is not None and (given.ndim != 1 or not bool((given >= 0).all() and given.isfinite().all())):
            raise BadInputError(f"weight must be (C,), finite and not negative; got {given.tolist()}")
        self._weight = None if given is None else Constant(given)

    @property
    def weight(self) -> Tensor | None:
        """w, (C,) float64, where weights were given."""
        return None if self._weight is None else self._weight.exact

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Any = None,  # noqa: ANN401 - a miner's output
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the reduced loss of (B, C) logits; `ref_*` play no part."""
        classes = embeddings.shape[-1] if self._weight is None else len(self._weight.exact)
        y = check_batch(embeddings, labels, classes, classes, "logits")
        (z,) = full_precision(embeddings)
        logs = functional.log_softmax(z, dim=1)
        log_p = logs.gather(1, y[:, None]).squeeze(1)
        # 1 - p as the sum of the other classes' shares: no cancellation, and no 0^gamma with an infinite slope.
        others = functional.one_hot(y, classes).bool()
        log_rest = logs.masked_fill(others, -torch.inf).logsumexp(dim=1)
        losses = -torch.exp(self.gamma * log_rest) * log_p if self.gamma and classes > 1 else -log_p
        if self._weight is not None:
            losses = losses * self._weight.like(z)[y]
        return self.reduced({"loss": per_face(losses, indices_tuple)}, z, y)


class _DistributionLoss(ExpressionLoss):
    """A loss of logits against a target distribution a face."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the reduced loss; an empty batch gives zero."""
        if logits.shape != target.shape or logits.ndim != 2:
            raise BadInputError(
                f"logits and target must both be (B, C); got {tuple(logits.shape)} and {tuple(target.shape)}"
            )
        sums = target.sum(dim=1, dtype=torch.promote_types(target.dtype, torch.float32))
        if not torch.allclose(
            sums, torch.ones_like(sums), atol=1e-2 if target.dtype == torch.bfloat16 else 1e-3
        ) or bool((target < 0).any()):
            raise BadInputError("each target row must be a distribution: no negative number, sum one")
        (z,) = full_precision(logits)
        return self.reduced({"loss": per_face(self.losses(z, target.to(z.dtype)))}, z)

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each face, (B,)."""
        raise NotImplementedError


@LOSSES.register("soft_label")
class SoftLabelLoss(_DistributionLoss):
    """Cross entropy against a target distribution, such as the votes of several annotators.

    L = -1/B sum_i sum_c q_ic log softmax(z_i)_c

    Symbols: z (B, C) logits, q (B, C) target distribution, rows summing to one. L is at least the mean entropy of q
    and reaches it where softmax(z) = q.

    Paper: Antoniadis, NTUA thesis 2021, equation (3.4.1), with q = P(c | valence-arousal bin), which `VAHistogram`
    estimates. Deviation: the default reducer averages over the batch; `SumReducer()` gives the sum.

    Args:
        kwargs: pytorch-metric-learning's `reducer`, ...

    Call: `loss(z, q)`.

    Raises:
        BadInputError: shapes that differ, or a target row that is no distribution.

    Example:
        >>> SoftLabelLoss()(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]])).round(decimals=4)
        tensor(0.6931)
    """

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return -sum_c q_ic log softmax(z_i)_c, (B,)."""
        return -(target * functional.log_softmax(logits, dim=1)).sum(dim=1)


@LOSSES.register("logit")
class LogitLoss(_DistributionLoss):
    """Half the squared distance between predicted and target distribution.

    L = 1/(2B) sum_i sum_c (softmax(z_i)_c - q_ic)^2

    Symbols: z (B, C) logits, q (B, C) target distribution, rows summing to one. L lies in [0, 1] and is 0 where
    softmax(z) = q.

    Paper: Antoniadis, NTUA thesis 2021, equation (3.4.2), with q = P(c | valence-arousal bin), which `VAHistogram`
    estimates. Deviation: the name speaks of logits while the sentence below the equation calls p_ic "the probability
    that sample i belongs to class c": probabilities they are. The default reducer averages over the batch;
    `SumReducer()` gives the sum.

    Args:
        kwargs: pytorch-metric-learning's `reducer`, ...

    Call: `loss(z, q)`.

    Raises:
        BadInputError: shapes that differ, or a target row that is no distribution.

    Example:
        >>> LogitLoss()(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
        tensor(0.2500)
    """

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return 1/2 sum_c (softmax(z_i)_c - q_ic)^2, (B,)."""
        return (logits.softmax(dim=1) - target).square().sum(dim=1) / 2
