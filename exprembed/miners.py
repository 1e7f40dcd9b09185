"""Which triplets of a batch to learn from."""

from __future__ import annotations

import torch
from pytorch_metric_learning.miners import BaseMiner
from torch import Tensor

from exprembed.errors import unknown_name

_MODES = ("all", "hard", "semihard")
# Triplets that are looked at in one go: a batch of 1,000 has 10^9, far too many for memory at once.
_CELLS = 2**24


class CategoryTripletMiner(BaseMiner):  # type: ignore[misc]  # the library is untyped
    """Category-label triplets: anchor and positive share a label, the negative has another (AFFNet-TL).

    With d the Euclidean distance, a triplet (i, j, k) with y_i = y_j, y_k != y_i is kept when

    - "all": always;
    - "hard": d_ik < d_ij;
    - "semihard": d_ij < d_ik < d_ij + margin (Schroff et al., 2015; FEC section 5.1 trains AFFNet-TL "similar to" it).

    Args:
        mode: "all", "hard" or "semihard".
        margin: the band of "semihard", the paper's 0.2.

    Call: `miner(x, y) -> (anchor, positive, negative)`, each (T,), as pytorch-metric-learning's TripletMarginLoss takes.

    Example:
        >>> miner = CategoryTripletMiner("all")
        >>> [index.tolist() for index in miner(torch.eye(3), torch.tensor([0, 0, 1]))]
        [[0, 1], [1, 0], [2, 2]]
    """

    def __init__(self, mode: str = "semihard", margin: float = 0.2) -> None:
        super().__init__()
        if mode not in _MODES:
            raise unknown_name("mode", mode, _MODES)
        self.mode = mode
        self.margin = margin

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the kept triplets; called by `forward` without gradients."""
        same = labels[:, None] == ref_labels[None, :]
        positive = same.clone()
        if ref_emb is embeddings or (ref_emb.shape == embeddings.shape and torch.equal(ref_emb, embeddings)):
            positive.fill_diagonal_(False)
        block = max(1, _CELLS // max(1, same.shape[1]) ** 2)
        found = []
        for start in range(0, len(same), block):
            part = slice(start, start + block)
            keep = positive[part, :, None] & ~same[part, None, :]  # (block, R, R): anchor, positive, negative
            if self.mode != "all":
                distances = torch.cdist(
                    embeddings[part].float(), ref_emb.float(), compute_mode="donot_use_mm_for_euclid_dist"
                )
                gap = distances[:, None, :] - distances[:, :, None]  # d_ik - d_ij
                keep &= (gap < 0) if self.mode == "hard" else (gap > 0) & (gap < self.margin)
            found.append(torch.nonzero(keep) + torch.tensor([start, 0, 0], device=keep.device))
        rows = torch.cat(found) if found else labels.new_zeros(0, 3)
        return rows[:, 0], rows[:, 1], rows[:, 2]

    def output_assertion(self, output: tuple[Tensor, Tensor, Tensor]) -> None:
        """Accept the output of `mine`; its form follows from `torch.nonzero`."""
