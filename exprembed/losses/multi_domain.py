"""One classifier a data set, one embedding for all: cross entropy over several domains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from exprembed.errors import BadInputError
from exprembed.losses import LOSSES
from exprembed.losses._base import Constant, ExpressionLoss, check_batch, full_precision, per_face


@LOSSES.register("multi_domain_cross_entropy")
class MultiDomainCrossEntropy(ExpressionLoss):
    r"""Cross entropy of each face under the classifier of its own data set, weighted by class and by data set.

    L = 1/B sum_i sum_j w_class^{ij} w_dataset^{ij} E(y_i, z_i^j),
    w_class^{ij} = N_j / (N_{j, y_i} C),  w_dataset^{ij} = 1 / log N_j if face i is of data set j, else 0

    Symbols: z (J, B, C) logits of the J classifiers, y (B,) class numbers, E the softmax cross entropy, N_j the training
    faces of data set j, N_{jc} those of them of class c; log natural. L >= 0. The other classifiers of a face have no
    part in it and no gradient from it.

    Paper: Kervadec et al. (CAKE, BMVC Workshops 2018), equations (1) and (2). Deviation: none with the default reducer, the
    mean over the batch.

    Args:
        class_weights: (J, C) w_class; `from_counts` computes them.
        domain_sizes: (J,) N_j, each at least 2 (log 1 is zero).
        kwargs: pytorch-metric-learning's `reducer`, ...

    Call: `loss(z, y, domains)`; domains (B,) the data set number of each face.

    Raises:
        BadInputError: shapes that do not fit, numbers of classes or data sets out of range, a data set of fewer than 2 faces.

    Example:
        >>> loss = MultiDomainCrossEntropy.from_counts([[10, 30], [5, 5]])
        >>> loss(torch.zeros(2, 1, 2), torch.tensor([0]), torch.tensor([0])).round(decimals=4)
        tensor(0.3758)
    """

    def __init__(self, class_weights: Any, domain_sizes: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        weights = torch.as_tensor(class_weights, dtype=torch.float64)
        sizes = torch.as_tensor(domain_sizes, dtype=torch.float64)
        if weights.ndim != 2 or sizes.shape != weights.shape[:1]:
            raise BadInputError(
                f"class_weights must be (J, C) and domain_sizes (J,); got {tuple(weights.shape)} and {tuple(sizes.shape)}"
            )
        if not bool((weights >= 0).all() and weights.isfinite().all()):
            raise BadInputError("class_weights must be finite and not negative")
        if not bool((sizes >= 2).all()):
            raise BadInputError(f"1 / log N needs a data set of at least 2 faces; got domain_sizes {sizes.tolist()}")
        self._weights = Constant(weights / sizes.log()[:, None])

    @classmethod
    def from_counts(cls, counts: Any, **kwargs: Any) -> MultiDomainCrossEntropy:  # noqa: ANN401
        """Compute the weights from (J, C) numbers of training faces; a class that a data set lacks weighs 0 there."""
        return cls(*domain_weights(counts), **kwargs)

    def forward(self, logits: Tensor, labels: Tensor, domains: Tensor | Sequence[int]) -> Tensor:
        """Return the reduced loss."""
        number, classes = self._weights.exact.shape
        if logits.ndim != 3 or len(logits) != number or logits.shape[2] != classes:
            raise BadInputError(f"logits must be ({number}, B, {classes}); got {tuple(logits.shape)}")
        y = check_batch(logits[0], labels, classes, name="logits")
        try:
            j = check_batch(
                logits[0], torch.as_tensor(domains, dtype=None if len(domains) else torch.long), number, name="logits"
            )
        except BadInputError as error:
            raise BadInputError(f"domains: {error}") from error
        (z,) = full_precision(logits[j, torch.arange(len(j), device=logits.device)])
        losses = self._weights.like(z)[j, y] * functional.cross_entropy(z, y, reduction="none")
        return self.reduced({"loss": per_face(losses)}, z, y)


def domain_weights(counts: Any, num_classes: Any = None) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Return class weights N_j / (N_jc C_j) (J, C) and sizes N_j (J,) from numbers of training faces (J, C).

    Args:
        counts: training faces; a class that a data set lacks weighs 0 there.
        num_classes: (J,) C_j, where data sets have fewer classes than C; None takes C for all.

    Raises:
        BadInputError: not (J, C), or a negative number.

    Example:
        >>> domain_weights([[10, 30, 0]], num_classes=[2])[0].round(decimals=4).tolist()
        [[2.0, 0.6667, 0.0]]
    """
    table = torch.as_tensor(counts, dtype=torch.float64)
    if table.ndim != 2 or not bool((table >= 0).all()):
        raise BadInputError(f"counts must be (J, C), none negative; got {tuple(table.shape)}")
    own = torch.full((len(table),), table.shape[1]) if num_classes is None else torch.as_tensor(num_classes)
    sizes = table.sum(dim=1)
    return torch.where(table > 0, sizes[:, None] / (table.clamp(min=1) * own[:, None]), 0), sizes
