"""VA-weighted center loss: a face of its class's usual valence and arousal is drawn in, an unusual one is let be."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from exprembed.errors import BadInputError, WrongUseError, unknown_name
from exprembed.losses import LOSSES
from exprembed.losses._base import Constant, check_batch, check_va, full_precision, per_face
from exprembed.losses._centers import CenteredLoss, all_reduced, class_sums, renumbered

_USES = {"both": slice(0, 2), "valence": slice(0, 1), "arousal": slice(1, 2)}
_FARTHEST = 2 * math.sqrt(2)


@LOSSES.register("va_center")
class VACenterLoss(CenteredLoss):
    r"""Center loss that weighs each face by how near its valence and arousal are to its class's mean.

    L = 1/2 sum_i w_i ||x_i - c_{y_i}||^2,  w_i = (2 sqrt(2) - d_i)^2 / 4,  d_i = ||(v_i, a_i) - (v, a)_{y_i}||

    Symbols: x (B, D) embeddings, not normalised here; y (B,) class numbers; (v_i, a_i) valence and arousal in [-1, 1], so
    that d_i lies in [0, 2 sqrt(2)] and w_i in [0, 2]; (v, a)_j the mean valence and arousal of class j.

    - `local=True`: c_j and (v, a)_j are means over the batch; nothing is kept. The gradient goes through c_j.
    - `local=False`: c_j are learned centres, moved as in CenterLoss (each face counts once, whatever its weight); (v, a)_j is
      the mean over all training faces seen **before** this batch, in the buffers `va_means` and `va_counts`, or over the
      batch for a class not seen yet. Give `class_va` to use the training set's own instead.

    `use="valence"` or `"arousal"` sets the other coordinate's difference to zero; 2 sqrt(2) stays as printed.

    Paper: Antoniadis, NTUA thesis 2021, equations (4.5.1) to (4.5.3). Deviation: the default reducer averages over the
    batch; `SumReducer()` gives the printed sum.

    Args:
        num_classes: C; not needed when local.
        embedding_dim: D; not needed when local.
        local: means of the batch instead of learned centres.
        use: "both", "valence" or "arousal".
        class_va: (C, 2) mean valence and arousal of each class in the training set; None, running means.
        alpha: the centres' own rate, in [0, 1].
        update: "paper", centres move at the end of each training-mode forward; "optimizer", they are parameters.
        kwargs: pytorch-metric-learning's `reducer`, `embedding_regularizer`, ...; no other distance.

    Call: `loss(x, y, indices_tuple=None, valence_arousal=(B, 2))`.

    Raises:
        WrongUseError: an unknown use or update, no valence_arousal, no num_classes or embedding_dim where they are needed.
        BadInputError: shapes that do not fit, labels that are no class numbers, valence or arousal outside [-1, 1] or NaN.

    Example:
        >>> x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([0, 0])
        >>> VACenterLoss(local=True)(x, y, valence_arousal=torch.zeros(2, 2))
        tensor(1.0000)
    """

    va_means: Tensor
    va_counts: Tensor

    def __init__(
        self,
        num_classes: int | None = None,
        embedding_dim: int | None = None,
        local: bool = False,
        use: str = "both",
        class_va: Any = None,  # noqa: ANN401 - an array, a tensor or nested lists
        alpha: float = 0.5,
        update: str = "paper",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        if use not in _USES:
            raise unknown_name("use", use, _USES)
        if not local and (num_classes is None or embedding_dim is None):
            raise WrongUseError("learned centres need num_classes and embedding_dim; or pass local=True")
        if local and class_va is not None:
            raise WrongUseError("local=True takes the batch's own means; leave class_va out")
        super().__init__(None if local else (num_classes or 0, embedding_dim or 0), update, alpha, **kwargs)
        self.local, self.use = local, use
        self._given = None if class_va is None else Constant(torch.as_tensor(class_va, dtype=torch.float64))
        if local:
            return
        shape = (len(self.centers), 2)
        if self._given is not None:
            if self._given.exact.shape != shape:
                raise BadInputError(f"class_va must be {shape}; got {tuple(self._given.exact.shape)}")
            check_va(self._given.exact)
        self.register_buffer("va_means", torch.zeros(shape))
        self.register_buffer("va_counts", torch.zeros(shape[0]))

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Any = None,  # noqa: ANN401 - a miner's output
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
        valence_arousal: Tensor | None = None,
    ) -> Tensor:
        """Return the reduced loss, then move centres and means; `ref_*` play no part."""
        if valence_arousal is None:
            raise WrongUseError("VACenterLoss needs valence_arousal=(B, 2)")
        x, y, centers = self._checked(embeddings, labels)
        va = torch.as_tensor(valence_arousal, device=x.device).to(x.dtype)
        if va.shape != (len(x), 2):
            raise BadInputError(f"valence_arousal must be ({len(x)}, 2); got {tuple(va.shape)}")
        check_va(va)
        rows, classes = renumbered(y) if centers is None else (y, len(centers))
        with torch.no_grad():
            sums, counts = class_sums(va, rows, classes)
            usual = self._usual(sums, counts)
        away = (va - usual.index_select(0, rows))[:, _USES[self.use]]
        halves = (_FARTHEST - torch.linalg.vector_norm(away, dim=1)).square() / 8  # of the weights
        if centers is None:
            means = class_sums(x, rows, classes)[0] / counts[:, None]
            differences = x - means.index_select(0, rows)
        else:
            differences = x - centers.index_select(0, y)
            self.move(y, differences)
            self._count(sums, counts)
        losses = halves * differences.square().sum(dim=1)
        return self.reduced({"loss": per_face(losses, indices_tuple)}, x, y)

    def _checked(self, embeddings: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        if not self.local:
            return self.check(embeddings, labels)
        return full_precision(embeddings)[0], check_batch(embeddings, labels), None

    def _usual(self, sums: Tensor, counts: Tensor) -> Tensor:
        """Return, (C, 2), the mean valence and arousal of each class that occurs, from the sums over the batch."""
        if self._given is not None:
            return self._given.like(sums)
        of_batch = sums / counts[:, None]
        if self.local:
            return of_batch
        return torch.where(self.va_counts[:, None] > 0, self.va_means.to(sums.dtype), of_batch)

    @torch.no_grad()
    def _count(self, sums: Tensor, counts: Tensor) -> None:
        """Take the batch's sums into the running means."""
        if not self.training or self._given is not None:
            return
        sums, counts = all_reduced(sums, counts)
        self.va_counts.add_(counts)
        self.va_means.add_((sums - counts[:, None] * self.va_means) / self.va_counts.clamp(min=1)[:, None])
