"""P(class | valence, arousal), estimated by counting in square bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from exprembed.data.tables import FaceTable
from exprembed.errors import BadInputError, WrongUseError
from exprembed.losses._base import Constant, check_va


class VAHistogram:
    """How often each class occurs in each square of the valence-arousal plane: the targets of SoftLabelLoss and LogitLoss.

    P(c | bin) = n_{bin, c} / sum_k n_{bin, k}

    Symbols: n_{bin, c} the training faces of class c whose (valence, arousal), in [-1, 1]^2, lies in the bin; `bins`
    equal intervals on each axis, closed below, the last one closed above too. A bin without a face gives the shares of
    the classes in the whole training set. The table is `probabilities`, (bins, bins, C) float64, valence first.

    Paper: Antoniadis, NTUA thesis 2021, section 3.4 and Table 3.2 (5 bins with the soft loss, 10 with the logit loss); it does
    not say what an empty bin means.

    Args:
        valence_arousal: (N, 2) of the training faces.
        labels: (N,) their class numbers in [0, C).
        num_classes: C; the largest label plus one where it is left out.
        bins: intervals on each axis.

    Call: `histogram(valence_arousal=(B, 2)) -> (B, C)`, rows summing to one.

    Raises:
        WrongUseError: fewer than one bin.
        BadInputError: no face, shapes that do not fit, values outside [-1, 1], labels outside [0, C).

    Example:
        >>> histogram = VAHistogram([[0.5, 0.5], [0.6, 0.4], [-0.5, 0.1]], [0, 1, 1], bins=2)
        >>> histogram(torch.tensor([[0.9, 0.9], [-0.9, -0.9]])).round(decimals=3)
        tensor([[0.5000, 0.5000],
                [0.3330, 0.6670]])
    """

    def __init__(
        self,
        valence_arousal: Tensor | np.ndarray | Sequence[Sequence[float]],
        labels: Tensor | np.ndarray | Sequence[int],
        num_classes: int | None = None,
        bins: int = 10,
    ) -> None:
        if bins < 1:
            raise WrongUseError(f"bins must be at least 1; got {bins}")
        va = torch.as_tensor(np.asarray(valence_arousal, dtype=np.float64))
        y = np.asarray(labels)
        if va.ndim != 2 or va.shape[1] != 2 or y.shape != (len(va),) or not len(va):
            raise BadInputError(
                f"valence_arousal must be (N, 2) and labels (N,), N >= 1; got {tuple(va.shape)} and {tuple(y.shape)}"
            )
        if not np.issubdtype(y.dtype, np.integer):
            raise BadInputError(f"labels must be class numbers, an integer type; got {y.dtype}")
        classes = int(y.max()) + 1 if num_classes is None else num_classes
        if int(y.min()) < 0 or int(y.max()) >= classes:
            raise BadInputError(f"labels must lie in 0..{classes - 1}; got {int(y.min())}..{int(y.max())}")
        cells = _cells(va, bins) * classes + torch.as_tensor(y).long()
        counts = torch.bincount(cells, minlength=bins * bins * classes).view(-1, classes).double()
        totals = counts.sum(dim=1, keepdim=True)
        shares = torch.where(totals > 0, counts / totals.clamp(min=1), counts.sum(dim=0) / len(y))
        self.bins = bins
        self._table = Constant(shares)

    @property
    def probabilities(self) -> Tensor:
        """P(class | bin), (bins, bins, C) float64."""
        return self._table.exact.view(self.bins, self.bins, -1)

    @classmethod
    def from_faces(cls, faces: FaceTable, classes: Sequence[str] | None = None, bins: int = 10) -> VAHistogram:
        """Count the faces of a table that carry expression, valence and arousal; the others do not take part.

        Args:
            faces: with columns expression, valence, arousal.
            classes: class names in the order of the logits; the names in the table, sorted, where left out.
            bins: intervals on each axis.

        Raises:
            BadInputError: a column is missing, or no face carries all three.
        """
        for column in ("expression", "valence", "arousal"):
            if column not in faces:
                raise BadInputError(f"the histogram needs the column {column!r} and the table has none")
        whole = faces[["expression", "valence", "arousal"]].dropna()
        names = sorted(whole["expression"].astype(str).unique()) if classes is None else list(classes)
        whole = whole[whole["expression"].isin(names)]
        if whole.empty:
            raise BadInputError("no face of the table carries expression, valence and arousal together")
        numbers = whole["expression"].astype(str).map({name: i for i, name in enumerate(names)}).to_numpy(int)
        return cls(whole[["valence", "arousal"]].to_numpy(float), numbers, len(names), bins)

    def __call__(self, valence_arousal: Tensor) -> Tensor:
        """Return the class distribution of each face's bin, (B, C)."""
        shape = tuple(valence_arousal.shape)
        if len(shape) != 2 or shape[1] != 2 or not valence_arousal.is_floating_point():
            raise BadInputError(f"valence_arousal must be (B, 2) float; got {shape} {valence_arousal.dtype}")
        return self._table.like(valence_arousal)[_cells(valence_arousal, self.bins)]


def _cells(va: Tensor, bins: int) -> Tensor:
    check_va(va)
    steps = ((va.double() + 1) / 2 * bins).floor().clamp(0, bins - 1).long()
    return steps[:, 0] * bins + steps[:, 1]
