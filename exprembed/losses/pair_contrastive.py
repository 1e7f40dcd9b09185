"""Contrastive losses over all pairs of a batch: equal labels attract, different ones keep a margin."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning.reducers import MeanReducer, SumReducer
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_pairs
from torch import Tensor

from exprembed.errors import WrongUseError
from exprembed.losses import LOSSES
from exprembed.losses._base import (
    EuclideanDistance,
    ExpressionLoss,
    Term,
    check_batch,
    check_rows,
    full_precision,
    no_autocast,
    not_negative,
    whole,
    with_gradient,
)
from exprembed.losses._centers import class_sums

# Up to so many numbers, B times those of the batch, compiled loops are quicker than products of matrices.
_LOOPED = 2**22


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
    sum_c n_c sum_{y_i = c} ||x_i - mean_c||^2, and the second makes (B, B) arrays of which none outlives the call. Anything
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
        BadInputError: shapes that do not fit, labels that are no class numbers, a pair that names a row that is not there.

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
        named = indices_tuple is not None
        y = _labels_of(embeddings, labels, named)
        with no_autocast(embeddings):
            (x,) = full_precision(embeddings)
            if not named and ref_emb is None and self._direct:
                terms = self._all_pairs(x, y)
            elif ref_emb is None:
                terms = self._listed_pairs(x, y, indices_tuple, x, y)
            else:
                of_reference = _labels_of(ref_emb, ref_labels, named, x.shape[1], "ref_emb")
                terms = self._listed_pairs(x, y, indices_tuple, full_precision(ref_emb)[0], of_reference)
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
        if x.device.type == "cpu" and x.numel() * len(x) <= _LOOPED:
            return self._looped_pairs(x, y)
        _, rows, counts = torch.unique(y, return_inverse=True, return_counts=True)
        same = (int(counts.square().sum()) - len(x)) // 2
        other = len(x) * (len(x) - 1) // 2 - same
        if self.positive and same:
            terms["positive"] = whole(_positive(x, rows, len(counts), self._divisor("positive", same)))
        if self.negative and other:
            terms["negative"] = whole(_negative(x, rows, self.margin, self._divisor("negative", other)))
        return terms

    def _looped_pairs(self, x: Tensor, y: Tensor) -> dict[str, Term]:
        from exprembed.losses import _loops

        faces, margin = x.detach().contiguous(), x.new_tensor([self.margin])
        near, far = faces.new_zeros(2, len(x), len(x))
        of_one, of_two, same = _loops.pairs(*(part.numpy() for part in (faces, y, margin, near, far)))
        found = {"positive": (of_one, near, same), "negative": (of_two, far, len(x) * (len(x) - 1) // 2 - same)}
        centred = faces - faces.mean(dim=0)  # the products then lose less
        terms = {"positive": whole(0), "negative": whole(0)}
        for name, (total, pulls, count) in found.items():
            if getattr(self, name) and count:
                divisor = self._divisor(name, count)
                pulls.div_(divisor)
                gradient = torch.addmm(pulls.sum(dim=1, keepdim=True) * centred, pulls, centred, alpha=-1)
                terms[name] = whole(with_gradient(x.new_tensor(total / divisor), gradient, x))
        return terms

    def _divisor(self, name: str, pairs: int) -> int:
        return 1 if type(self.reducer_of(name)) is SumReducer else pairs

    def _listed_pairs(self, x: Tensor, y: Tensor, pairs: Any, reference: Tensor, ref_labels: Tensor) -> dict[str, Term]:  # noqa: ANN401
        a, p, b, n = convert_to_pairs(pairs, y, ref_labels)
        if pairs is None and reference is x:  # the library lists each pair from both ends
            (a, p), (b, n) = (a[a < p], p[a < p]), (b[b < n], n[b < n])
        if pairs is not None:
            check_rows(torch.cat([a, b]), len(x), "indices_tuple")
            check_rows(torch.cat([p, n]), len(reference), "indices_tuple")
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


def _labels_of(
    embeddings: Tensor, labels: Tensor | None, named: bool, dim: int | None = None, name: str = "embeddings"
) -> Tensor:
    """Return checked labels; zeros where there are none and the pairs are named: then they say it all."""
    if labels is None and named:
        labels = torch.zeros(len(embeddings), dtype=torch.long, device=embeddings.device)
    return check_batch(embeddings, labels, dim=dim, name=name)


def _positive(x: Tensor, rows: Tensor, classes: int, divisor: int) -> Tensor:
    """Return sum_c n_c sum_{y_i = c} ||x_i - mean_c||^2 / (2 P).

    The gradient to x_i is n_c (x_i - mean_c) / P: what comes through the mean cancels.
    """
    with torch.no_grad():
        sums, counts = class_sums(x, rows, classes)
        away = x - (sums / counts[:, None]).index_select(0, rows)
        weights = (counts / divisor).index_select(0, rows)
        value = away.square().sum(dim=1) @ weights / 2
    return with_gradient(value, away.mul_(weights[:, None]), x)


def _negative(x: Tensor, rows: Tensor, margin: float, divisor: int) -> Tensor:
    """Return sum_{i < j, y_i != y_j} max(0, m - ||x_i - x_j||)^2 / (2 N).

    With w_ij = max(0, m - d_ij) / d_ij for pairs of two classes, the gradient to x_i is -sum_j w_ij (x_i - x_j) / N.
    """
    training = x.requires_grad and torch.is_grad_enabled()
    with torch.no_grad():
        centred = x - x.mean(dim=0)  # the products then lose less
        squares = centred.square().sum(dim=1)
        apart = torch.addmm(squares, centred, centred.T, alpha=-2).add_(squares[:, None])
        # What is nearer than this coincides. Such rows are of one length: a far face must not swallow the near ones.
        near = apart <= 16 * torch.finfo(x.dtype).eps * squares[:, None]
        distances = apart.masked_fill_(near, 0).sqrt_()
        hinges = (margin - distances).clamp_(min=0).masked_fill_(rows[:, None] == rows, 0)
        value: Tensor = torch.linalg.vector_norm(hinges).square() / (4 * divisor)  # each pair is there twice
        if not training:
            return value
        weights = hinges.div_(distances).masked_fill_(near, 0)
        gradient = weights @ centred - weights.sum(dim=1, keepdim=True) * centred
    return with_gradient(value, gradient.div_(divisor), x)
