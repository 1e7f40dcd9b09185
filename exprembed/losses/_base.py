"""What the losses share: reducers with a breakdown, plain distances, checks of what comes in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from typing import Any

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import BaseMetricLossFunction
from pytorch_metric_learning.reducers import DoNothingReducer, MeanReducer, MultipleReducers
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_weights
from torch import Tensor
from torch.autograd.function import once_differentiable

from exprembed.errors import BadInputError, WrongUseError

Term = dict[str, Any]


class EuclideanDistance(LpDistance):  # type: ignore[misc]  # the library is untyped
    """Plain L2 distance, ||x - y||_2: embeddings as they are, no constant inside the norm, gradient 0 where x = y.

    pytorch-metric-learning's own LpDistance normalises by default and adds 1e-6 to every difference.
    """

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - the library's own options
        if kwargs.get("p", 2) != 2:
            raise WrongUseError(f"EuclideanDistance is the L2 norm, p=2; got p={kwargs['p']}: take LpDistance")
        super().__init__(**{"normalize_embeddings": False, **kwargs})

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor | None) -> Tensor:
        """Return (B, R) distances, each exact: no ||x||^2 + ||y||^2 - 2 xy, which loses the small ones."""
        reference = query_emb if ref_emb is None else ref_emb
        return torch.cdist(query_emb, reference, compute_mode="donot_use_mm_for_euclid_dist")

    def pairwise_distance(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """Return (T,) distances of rows."""
        distances: Tensor = torch.linalg.vector_norm(query_emb - ref_emb, dim=-1)
        return distances


class ExpressionLoss(BaseMetricLossFunction):  # type: ignore[misc]  # the library is untyped
    """A loss of one or several named terms, called and reduced as in pytorch-metric-learning.

    Attributes:
        breakdown: the terms of the last call by name, detached, weights included: they add up to what it returned.
    """

    # The names of the terms; more than one gives each its own copy of the reducer.
    TERMS: tuple[str, ...] = ("loss",)
    # Whether another distance than the plain L2 makes sense; the losses on squared L2 have their minimum at a mean.
    ANY_DISTANCE = False

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - the library's own options
        if kwargs.get("distance") is not None and not self.ANY_DISTANCE:
            raise WrongUseError(
                f"{type(self).__name__} is defined without a choice of distance; got {kwargs['distance']}"
            )
        super().__init__(**kwargs)
        self.breakdown: dict[str, Tensor] = {}

    def get_default_distance(self) -> EuclideanDistance:
        """Return the papers' distance."""
        return EuclideanDistance()

    def _sub_loss_names(self) -> list[str]:
        return list(self.TERMS)

    def reducer_of(self, name: str) -> Any:  # noqa: ANN401 - one of the library's
        """Return the reducer of a term."""
        reducer = self.reducer
        if not isinstance(reducer, MultipleReducers):
            return reducer
        if name in reducer.reducers:
            return reducer.reducers[name]
        return reducer.default_reducer

    def reduced(self, terms: dict[str, Term], embeddings: Tensor, labels: Tensor | None = None) -> Tensor:
        """Reduce each term and add them up; an empty term is zero with a gradient of zero."""
        reducer = self.reducer
        if len(terms) == 1 and _plain_mean(reducer) and not self.collect_stats and self.embedding_regularizer is None:
            ((name, term),) = terms.items()
            if torch.is_tensor(term["losses"]):  # as below, in a tenth of a small batch's time less
                mean: Tensor = term["losses"].mean()
                self.breakdown = {name: mean.detach()}
                return mean
        self.reset_stats()
        if len(embeddings):  # the mean over no embedding would be NaN
            self.add_embedding_regularization_to_loss_dict(terms, embeddings)
        if isinstance(reducer, DoNothingReducer):
            return reducer(terms, embeddings, labels)  # type: ignore[no-any-return]  # the terms themselves
        values: dict[str, Tensor] = {}
        for name in sorted(terms, key=lambda name: not torch.is_tensor(terms[name]["losses"])):  # empty terms last
            losses, empty = terms[name]["losses"], not torch.is_tensor(terms[name]["losses"])
            if not empty and terms[name]["reduction_type"] == "already_reduced":
                values[name] = losses
            elif empty and len(embeddings) and any(value.requires_grad for value in values.values()):
                values[name] = embeddings.new_zeros(())  # the library's zero runs over the whole batch for its gradient
            else:
                values[name] = self._reduced_term(name, terms[name], embeddings, labels)
        self.breakdown = {name: values[name].detach() for name in terms}
        total: Tensor = reduce(torch.add, values.values())
        return total

    def _reduced_term(self, name: str, term: Term, embeddings: Tensor, labels: Tensor | None) -> Tensor:
        reducer = self.reducer_of(name)
        value: Tensor
        if _plain_mean(reducer) and torch.is_tensor(term["losses"]):
            value = term["losses"].mean()
        else:
            value = reducer({name: term}, embeddings, labels)
        return value


def _plain_mean(reducer: Any) -> bool:  # noqa: ANN401 - one of the library's
    """Whether a reducer does nothing but take the mean; its checks and statistics cost more than that."""
    return type(reducer) is MeanReducer and not reducer.collect_stats


class Constant:
    """Numbers that a loss was given, kept in float64 and handed out as the batch needs them.

    A float32 buffer would round them before a float64 batch ever comes, and a float64 one cannot live on every device.
    """

    def __init__(self, values: Tensor) -> None:
        self.exact = values.detach().cpu().double()
        self._last = self.exact

    def like(self, other: Tensor) -> Tensor:
        """Return the numbers with the type and device of `other`."""
        if self._last.dtype != other.dtype or self._last.device != other.device:
            self._last = self.exact.to(other)
        return self._last


def per_face(values: Tensor, indices_tuple: Any = None) -> Term:  # noqa: ANN401
    """Make a term of one value a face; a miner's tuples weigh each face by how often they name it, as the library does."""
    if not len(values):
        return whole(0)
    if indices_tuple is not None:
        named = tuple(torch.as_tensor(rows, dtype=torch.long, device=values.device) for rows in indices_tuple)
        values = values * convert_to_weights(named, values, dtype=values.dtype)
    return {"losses": values, "indices": torch.arange(len(values), device=values.device), "reduction_type": "element"}


def whole(value: Tensor | int) -> Term:
    """Make a term that no reducer touches: it does not run over the batch."""
    return {"losses": value, "indices": None, "reduction_type": "already_reduced"}


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gradient: Tensor, variable: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:  # noqa: ANN401
        return None, None, gradients[0] * ctx.saved_tensors[0]


def with_gradient(value: Tensor, gradient: Tensor, variable: Tensor) -> Tensor:
    """Return a number made without autograd, of which the gradient to `variable` is known; differentiable once."""
    if not (variable.requires_grad and torch.is_grad_enabled()):
        return value
    result: Tensor = _WithGradient.apply(value, gradient, variable)
    return result


def no_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context without autocast, for matrix products that half precision would spoil; free where there is none."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()


def full_precision(*tensors: Tensor) -> list[Tensor]:
    """Raise half-precision tensors to float32 and leave the others: sums of squares overflow and cancel in float16."""
    return [x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in tensors]


def check_batch(
    values: Tensor, labels: Tensor | None, classes: int | None = None, dim: int | None = None, name: str = "embeddings"
) -> Tensor:
    """Check (B, D) values and their (B,) class numbers; return the class numbers on the values' device.

    Raises:
        BadInputError: a wrong shape or type, or a class number outside [0, classes).
        WrongUseError: no labels.
    """
    if values.ndim != 2 or not values.is_floating_point():
        raise BadInputError(f"{name} must be (B, D) float; got {tuple(values.shape)} {values.dtype}")
    if dim is not None and values.shape[1] != dim:
        raise BadInputError(f"{name} have {values.shape[1]} dimensions and the loss was made for {dim}")
    if labels is None:
        raise WrongUseError("this loss needs labels, the (B,) class numbers")
    labels = torch.as_tensor(labels, device=values.device)
    if labels.shape != (len(values),):
        raise BadInputError(f"labels must be ({len(values)},), one a row of {name}; got {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise BadInputError(f"labels must be class numbers, an integer type; got {labels.dtype}")
    if classes is not None and len(labels):
        low, high = map(int, torch.aminmax(labels))
        if low < 0 or high >= classes:
            raise BadInputError(
                f"labels must lie in 0..{classes - 1}; got {low if low < 0 else high}"
                + (" (leave faces without a class out)" if low < 0 else "")
            )
    return labels.long()


def check_rows(rows: Tensor, count: int, name: str) -> None:
    """Raise BadInputError where a row number lies outside [0, count); -1 would be the last row otherwise."""
    if rows.numel():
        low, high = map(int, torch.aminmax(rows))
        if low < 0 or high >= count:
            raise BadInputError(f"{name} names row {low if low < 0 else high} of {count} embeddings")


def not_negative(**numbers: float) -> None:
    """Raise WrongUseError where a margin or weight is negative."""
    for name, value in numbers.items():
        if not value >= 0:
            raise WrongUseError(f"{name} must not be negative; got {value}")


def check_va(values: Tensor) -> None:
    """Raise BadInputError where (N, 2) valence and arousal leave [-1, 1] or are NaN."""
    if len(values) and not float(values.abs().amax()) <= 1 + 1e-6:  # NaN is the largest of all
        row = int(torch.argmin((values.abs() <= 1 + 1e-6).all(dim=1).int()))
        raise BadInputError(
            f"valence and arousal lie in [-1, 1]; row {row} is {values[row].tolist()} (leave unlabelled faces out; divide "
            "AFEW-VA's -10..10 by 10)"
        )
