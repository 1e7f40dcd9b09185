"""pytorch-metric-learning's memory of past batches, for our losses on pairs too."""

from __future__ import annotations

from pytorch_metric_learning.losses import CrossBatchMemory as _CrossBatchMemory


class CrossBatchMemory(_CrossBatchMemory):  # type: ignore[misc]  # the library is untyped
    """Pairs each batch with the embeddings of the batches before it (Wang et al., CVPR 2020).

    The library's own class with `PairContrastiveLoss` added to the losses that it accepts by name: the others either
    keep class centres, which remember already, or name triplets of one batch.

    Example:
        >>> memory = CrossBatchMemory(PairContrastiveLoss(margin=1.0), embedding_size=2, memory_size=8)
        >>> memory(torch.eye(2), torch.tensor([0, 1])).shape
        torch.Size([])
    """

    @staticmethod
    def supported_losses() -> list[str]:
        """Return the names of the losses on pairs and triplets that take reference embeddings."""
        return [*_CrossBatchMemory.supported_losses(), "PairContrastiveLoss"]
