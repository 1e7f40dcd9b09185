"""Layers that do on a CPU what a trained network's own do, in less time: none of its numbers changes."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class PReLUMax(nn.Module):
    """A network's PReLU and the pooling behind it, of whose time most would go into reading and writing maps twice.

    Args:
        activation: the PReLU.
        pool: maxima over windows of 2 or 3, 2 apart, the last ones cut off (`ceil_mode`).
    """

    def __init__(self, activation: nn.PReLU, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.activation, self.pool = activation, pool
        self.side = cast(int, pool.kernel_size)
        self._slopes = np.empty((0, 0), np.float32)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W), channels last, to (N, C, about H / 2, about W / 2)."""
        if x.device.type != "cpu" or x.dtype != torch.float32:
            pooled: Tensor = self.pool(self.activation(x))
            return pooled
        from exprembed.data._pool_loops import prelu_max

        maps = x.permute(0, 2, 3, 1).contiguous().numpy()
        n, *sides, channels = maps.shape
        slopes = self._slopes
        if len(slopes) < sides[1]:
            self._slopes = slopes = np.tile(self.activation.weight.detach().numpy(), (sides[1], 1))
        out = np.empty((n, *(-((self.side - length) // 2) + 1 for length in sides), channels), np.float32)
        prelu_max(maps, slopes[: sides[1]], self.side, out)
        return torch.from_numpy(out).permute(0, 3, 1, 2)


class PlaceByPlace(nn.Module):
    """A 1x1 convolution as the product of matrices that it is, which is quicker where few channels leave."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(convolution.weight.flatten(1)), convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W), channels last, to (N, C', H, W)."""
        return linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


def quickened(network: nn.Module) -> nn.Module:
    """Put `PReLUMax` in the place of each PReLU with a pooling behind it, and `PlaceByPlace` in that of 1x1 convolutions."""
    for name, layer in list(network.named_children()):
        if isinstance(layer, nn.MaxPool2d):  # pool1 stands behind prelu1, and so on
            before = name.replace("pool", "prelu")
            network.add_module(name, PReLUMax(getattr(network, before), layer))
            network.add_module(before, nn.Identity())
        elif isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            network.add_module(name, PlaceByPlace(layer))
    return network.to(memory_format=torch.channels_last)
