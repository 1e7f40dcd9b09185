"""Layers that do on a CPU what a trained network's own do, in less time: none of its numbers changes."""

from __future__ import annotations

from typing import Any, cast

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


class ConvolvePReLUMax(nn.Module):
    """A network's first 3x3 convolution of a picture, its PReLU and its pooling of 2 x 2: its maps are large, and read only once.

    Args:
        convolution: of three channels, without padding.
        activation: the PReLU.
        pool: maxima over windows of 2, the last ones cut off (`ceil_mode`).
    """

    def __init__(self, convolution: nn.Conv2d, activation: nn.PReLU, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.layers = nn.Sequential(convolution, activation, pool)
        self._weight, self._bias, self._slopes = (
            np.ascontiguousarray(one.detach().flatten(1).numpy() if one.ndim > 1 else one.detach().numpy())
            for one in (convolution.weight, cast(Tensor, convolution.bias), activation.weight)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W), channels last, to (N, C, about H / 2, about W / 2)."""
        if x.device.type != "cpu" or x.dtype != torch.float32:
            maps: Tensor = self.layers(x)
            return maps
        from exprembed.data._first_loops import convolve_prelu_max

        pictures = x.permute(0, 2, 3, 1).contiguous().numpy()
        n, height, width, _ = pictures.shape
        out = np.empty((n, (height - 1) // 2, (width - 1) // 2, len(self._bias)), np.float32)
        convolve_prelu_max(pictures, self._weight, self._bias, self._slopes, out)
        return torch.from_numpy(out).permute(0, 3, 1, 2)


class PlaceByPlace(nn.Module):
    """1x1 convolutions of the same maps as the one product of matrices that they are, which is quicker where few channels leave."""

    def __init__(self, *convolutions: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.cat([layer.weight.flatten(1) for layer in convolutions]))
        self.bias = nn.Parameter(torch.cat([cast(Tensor, layer.bias) for layer in convolutions]))
        self.channels = [layer.out_channels for layer in convolutions]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map (N, C, H, W), channels last, to (N, C', H, W) of each convolution."""
        maps = linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)
        return torch.split(maps, self.channels, dim=1)


class Proposals(nn.Module):
    """MTCNN's first network: what it makes of each cell, as moves of a box's sides and the shares of no face and a face.

    Args:
        network: with the layers that facenet-pytorch gives it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        layers = dict(network.named_children())
        heads = PlaceByPlace(*(cast(nn.Conv2d, layers.pop(name)) for name in ("conv4_1", "conv4_2")))
        layers.pop("softmax4_1")
        first = ConvolvePReLUMax(*(cast(Any, layers.pop(name)) for name in ("conv1", "prelu1", "pool1")))
        self.layers, self.heads = nn.Sequential(first, *layers.values()), heads

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 3, H, W) to moves (N, 4, h, w) and shares (N, 2, h, w)."""
        likely, moves = self.heads(self.layers(x))
        return moves, likely.softmax(dim=1)


def quickened(network: nn.Module) -> nn.Module:
    """Put `Proposals` in the place of the first network; in the others `PReLUMax` in that of each PReLU with a pooling behind it."""
    if hasattr(network, "conv4_2"):
        return Proposals(network).to(memory_format=torch.channels_last)
    for name, layer in list(network.named_children()):
        if isinstance(layer, nn.MaxPool2d):  # pool1 stands behind prelu1, and so on
            before = name.replace("pool", "prelu")
            network.add_module(name, PReLUMax(getattr(network, before), layer))
            network.add_module(before, nn.Identity())
    return network.to(memory_format=torch.channels_last)
