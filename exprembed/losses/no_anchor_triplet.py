"""The FEC triplet loss: the similar pair must be closer to each other than either is to the odd one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from exprembed.data.tables import TRIPLET_TYPES
from exprembed.errors import BadInputError, WrongUseError, unknown_name
from exprembed.losses import LOSSES
from exprembed.losses._base import EuclideanDistance, ExpressionLoss, check_rows, full_precision, not_negative, whole
from exprembed.losses._hinges import triplet_hinges

_PAIRS = ((0, 1), (0, 2), (1, 2))  # (a, b), (a, odd), (b, odd)


@LOSSES.register("no_anchor_triplet")
class NoAnchorTripletLoss(ExpressionLoss):
    r"""Triplet loss without an anchor: both faces of the similar pair keep away from the odd one.

    l(a, b, odd) = max(0, d(a,b) - d(a,odd) + m) + max(0, d(a,b) - d(b,odd) + m),  d(x, y) = ||x - y||_2  (not squared)

    Symbols: a, b the similar pair, odd the third face; m the margin. Unit vectors give d in [0, 2] and l in
    [0, 2 (2 + m)]; the loss is invariant to translation and rotation of all embeddings. Embeddings are not normalised
    here: FECNet's are unit vectors already, which is what the paper's margins assume.

    Paper: Vemulapalli & Agarwala (CVPR 2019), equation (1); margins 0.1 for one-class, 0.2 for two- and three-class
    triplets (section 5.2). Deviation: where two embeddings coincide the gradient of d is taken as zero (the norm has
    none there). The default reducer averages over the triplets; `SumReducer()` gives the printed sum.

    Args:
        margin: m where no other is given, at least 0.
        type_margins: margins by triplet type, {"one_class": 0.1, ...}; used by `margins_of`.
        reducer: any of pytorch-metric-learning's (its default: mean over the triplets).
        distance: another of pytorch-metric-learning's; a similarity changes the sign of the differences.
        kwargs: pytorch-metric-learning's other options (`embedding_regularizer`, ...).

    Call: `loss(x, indices_tuple=(a, b, odd), margins=None)`; x (B, D); a, b, odd (T,) rows of x; margins None, a number
    or (T,). No triplet gives zero with a gradient of zero.

    Raises:
        WrongUseError: a negative margin, an unknown type, no indices_tuple.
        BadInputError: index arrays of different lengths or out of range, margins of the wrong length.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> NoAnchorTripletLoss(margin=0.2)(x, indices_tuple=([0], [1], [2])).round(decimals=4)
        tensor(0.2000)
    """

    ANY_DISTANCE = True

    def __init__(self, margin: float = 0.2, type_margins: dict[str, float] | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.margin = margin
        self.type_margins = dict(type_margins or {})
        for name in self.type_margins:
            if name not in TRIPLET_TYPES:
                raise unknown_name("triplet type", name, TRIPLET_TYPES)
        not_negative(margin=margin, **self.type_margins)
        self.add_to_recordable_attributes(list_of_names=["margin"], is_stat=False)

    def margins_of(self, types: list[str]) -> Tensor:
        """Return the margin of each triplet by its type: (T,)."""
        return torch.tensor([self.type_margins.get(name, self.margin) for name in types])

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Any = None,  # noqa: ANN401 - three index sequences or tensors
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
        margins: Any = None,  # noqa: ANN401 - None, a number or (T,)
    ) -> Tensor:
        """Return the reduced loss of the triplets in `indices_tuple`; `labels` and `ref_*` play no part."""
        if indices_tuple is None or len(indices_tuple) != 3:
            raise WrongUseError(
                "NoAnchorTripletLoss needs indices_tuple=(a, b, odd); labels do not say which pair is similar"
            )
        if embeddings.ndim != 2:
            raise BadInputError(f"embeddings must be (B, D); got {tuple(embeddings.shape)}")
        a, b, odd = (torch.as_tensor(i, dtype=torch.long, device=embeddings.device) for i in indices_tuple)
        if not (a.shape == b.shape == odd.shape and a.ndim == 1):
            raise BadInputError(
                f"a, b and odd must be (T,) each; got {tuple(a.shape)}, {tuple(b.shape)}, {tuple(odd.shape)}"
            )
        rows = torch.stack([a, b, odd])
        check_rows(rows, embeddings.shape[0], "a triplet")
        if margins is None:
            margins = self.margin
        elif not isinstance(margins, int | float):
            margins = torch.as_tensor(margins, dtype=embeddings.dtype, device=embeddings.device)
            if margins.ndim and margins.shape != rows.shape[1:]:
                raise BadInputError(f"margins must be a number or ({rows.shape[1]},); got {tuple(margins.shape)}")
        (x,) = full_precision(embeddings)
        if not rows.shape[1]:
            return self.reduced({"loss": whole(0)}, x)
        hinges = self._hinges(x, rows, margins)
        return self.reduced({"loss": {"losses": hinges, "indices": (a, b, odd), "reduction_type": "triplet"}}, x)

    def _hinges(self, x: Tensor, rows: Tensor, margins: Tensor | float) -> Tensor:
        """Return (T,) hinges."""
        distance = self.distance
        if type(distance) is EuclideanDistance and distance.power == 1:
            return triplet_hinges(distance.maybe_normalize(x), rows, margins)
        if x.shape[0] ** 2 <= 3 * rows.shape[1]:  # triplets name more pairs than there are
            every = distance(x)
            pairs = torch.stack([every[rows[i], rows[j]] for i, j in _PAIRS])
        else:
            faces = distance.maybe_normalize(x)[rows].unbind()
            pairs = torch.stack([distance.pairwise_distance(faces[i], faces[j]) for i, j in _PAIRS])
            pairs = pairs if distance.power == 1 else pairs**distance.power
        hinges: Tensor = (distance.margin(pairs[:1], pairs[1:]) + margins).relu().sum(dim=0)
        return hinges
