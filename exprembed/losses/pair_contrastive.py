"""Contrastive losses over all pairs of a batch: equal labels attract, different ones keep a margin."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning.reducers import MeanReducer, SumReducer
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_pairs
from torch import Tensor
from torch.autograd.function import once_differentiable

from exprembed.errors import BadInputError, WrongUseError
from exprembed.losses import LOSSES
from exprembed.losses._base import (
    EuclideanDistance,
    ExpressionLoss,
    Term,
    check_batch,
    full_precision,
    not_negative,
    whole,
)
from exprembed.losses._centers import class_means


@LOSSES.register("pair_contrastive")
class PairContrastiveLoss(ExpressionLoss):
    r"""Every pair of the batch: of one class, pulled together; of two, pushed to a margin.

    L = 1 / (2 |P|) sum_{i < j, y_i = y_j} ||x_i - x_j||^2 + 1 / (2 |N|) sum_{i < j, y_i != y_j} max(0, m - ||x_i - x_j||)^2

    Symbols: x (B, D) embeddings, not normalised here; y (B,) class numbers; P and N the pairs of one and of two classes;
    m >= 0 the margin, in the embeddings' own units. L >= 0; shifting or turning all embeddings leaves it as it is.

    Paper: Antoniadis, NTUA thesis 2021, equations (4.4.1) and (4.4.2). Deviations: where two embeddings coincide the
    distance has no gradient, and none is given. `MeanReducer()`, the default, is what is printed (|P| and |N| are in
    it); `SumReducer()` leaves out the division by |P| and |N|.

    Without `indices_tuple`, with those two reducers and the plain L2 distance, no list of pairs is made: the first sum is
    sum_c n_c sum_{y_i = c} ||x_i - mean_c||^2, and the second keeps one (B, B) array for the backward pass. Anything
    else goes pair by pair, as in pytorch-metric-learning.

    Args:
        margin: m.
        positive: include the first sum.
        negative: include the second.
        kwargs: pytorch-metric-learning's `reducer`, `distance`, `embedding_regularizer`, ...

    Call: `loss(x, y, indices_tuple=None, ref_emb=None, ref_labels=None)`; `loss.breakdown` holds "positive" and
    "negative". With `ref_emb` the pairs are those of a row of x and a row of ref_emb (CrossBatchMemory).

    Raises:
        WrongUseError: a negative margin, both sums left out, an inverted distance (a similarity).
        BadInputError: shapes that do not fit, labels that are no class numbers.

    Example:
        >>> loss = PairContrastiveLoss(margin=2.0)
        >>> loss(torch.tensor([[0.0], [1.0], [2.5]]), torch.tensor([0, 0, 1])).round(decimals=4), loss.breakdown["positive"]
        (tensor(0.5625), tensor(0.5000))
    """

    TERMS = ("positive", "negative")
    ANY_DISTANCE = True

    def __init__(
        self,
        margin: float = 1.0,
        positive: bool = True,
        negative: bool = True,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        not_negative(margin=margin)
        if not positive and not negative:
            raise WrongUseError("positive and negative are both off: nothing is left of the loss")
        super().__init__(**kwargs)
        if self.distance.is_inverted:
            raise WrongUseError(f"a margin of distances needs a distance, not a similarity; got {self.distance}")
        self.margin, self.positive, self.negative = margin, positive, negative
        self.add_to_recordable_attributes(list_of_names=["margin"], is_stat=False)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Any = None,  # noqa: ANN401 - a miner's output
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the reduced loss."""
        if labels is None and indices_tuple is not None:
            y = torch.zeros(len(embeddings), dtype=torch.long, device=embeddings.device)  # the pairs say it all
        else:
            y = check_batch(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            if indices_tuple is None and ref_emb is None and self._direct:
                (x,) = full_precision(embeddings)
                terms = self._all_pairs(x, y)
            else:
                x, reference = full_precision(embeddings, embeddings if ref_emb is None else ref_emb)
                terms = self._listed_pairs(x, y, indices_tuple, reference, y if ref_labels is None else ref_labels)
            return self.reduced(terms, x, y)

    @property
    def _direct(self) -> bool:
        """Whether a sum or a mean of the plain distances is all that is wanted."""
        plain = type(self.distance) is EuclideanDistance and not self.distance.normalize_embeddings
        plain = plain and self.distance.power == 1 and self.distance.p == 2
        return plain and all(type(self.reducer_of(name)) in (MeanReducer, SumReducer) for name in self.TERMS)

    def _all_pairs(self, x: Tensor, y: Tensor) -> dict[str, Term]:
        terms = {"positive": whole(0), "negative": whole(0)}
        if len(x) < 2:
            return terms
        _, rows, counts = torch.unique(y, return_inverse=True, return_counts=True)
        same = int((counts * (counts - 1)).sum()) // 2
        other = len(x) * (len(x) - 1) // 2 - same
        if self.positive and same:
            means, _ = class_means(x, rows)
            spread = (x - means[rows]).square().sum(dim=1) @ counts[rows].to(x.dtype)
            terms["positive"] = whole(spread / (2 * self._divisor("positive", same)))
        if self.negative and other:
            hinges = _NegativeHinges.apply(x, rows, self.margin)
            terms["negative"] = whole(hinges / (2 * self._divisor("negative", other)))
        return terms

    def _divisor(self, name: str, pairs: int) -> int:
        return 1 if type(self.reducer_of(name)) is SumReducer else pairs

    def _listed_pairs(self, x: Tensor, y: Tensor, pairs: Any, reference: Tensor, ref_labels: Tensor) -> dict[str, Term]:  # noqa: ANN401
        a, p, b, n = convert_to_pairs(pairs, y, torch.as_tensor(ref_labels, device=x.device))
        if pairs is None and reference is x:  # the library lists each pair from both ends
            (a, p), (b, n) = (a[a < p], p[a < p]), (b[b < n], n[b < n])
        if len(a) and int(torch.stack([a, p]).max()) >= max(len(x), len(reference)):
            raise BadInputError("indices_tuple names a row that is not in the batch")
        normal, ref_normal = self.distance.maybe_normalize(x), self.distance.maybe_normalize(reference)
        terms = {"positive": whole(0), "negative": whole(0)}
        if self.positive and len(a):
            losses = self._distances(normal[a], ref_normal[p]).square() / 2
            terms["positive"] = {"losses": losses, "indices": (a, p), "reduction_type": "pos_pair"}
        if self.negative and len(b):
            losses = (self.margin - self._distances(normal[b], ref_normal[n])).clamp(min=0).square() / 2
            terms["negative"] = {"losses": losses, "indices": (b, n), "reduction_type": "neg_pair"}
        return terms

    def _distances(self, x: Tensor, reference: Tensor) -> Tensor:
        distances: Tensor = self.distance.pairwise_distance(x, reference) ** self.distance.power
        return distances


class _NegativeHinges(torch.autograd.Function):
    """sum_{i < j, y_i != y_j} max(0, m - ||x_i - x_j||)^2, with one (B, B) array kept for the gradient.

    With w_ij = max(0, m - d_ij) / d_ij for pairs of two classes, the gradient to x_i is -2 sum_j w_ij (x_i - x_j).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, margin: float) -> Tensor:  # noqa: ANN401
        centred = x - x.mean(dim=0)  # the products then lose less
        squares = centred.square().sum(dim=1)
        apart = torch.addmm(squares[:, None] + squares, centred, centred.T, alpha=-2)
        rounding = 8 * torch.finfo(x.dtype).eps * squares.max()  # what is nearer than this coincides
        distances = apart.masked_fill_(apart <= rounding, 0).sqrt_()
        hinges = (margin - distances).clamp_(min=0).masked_fill_(rows[:, None] == rows, 0)
        total: Tensor = torch.linalg.vector_norm(hinges).square() / 2
        weights = hinges.div_(distances).masked_fill_(distances == 0, 0)
        ctx.save_for_backward(centred, weights)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        x, weights = ctx.saved_tensors
        return -2 * gradients[0] * (weights.sum(dim=1, keepdim=True) * x - weights @ x), None, None
