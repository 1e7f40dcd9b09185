"""Layers that do on a CPU what a trained network's own do, in less time: none of its numbers changes."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

_FIRST = ("conv", "prelu", "pool")


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
    """A network's first 3x3 convolution, its PReLU and its pooling: maps as large as its are best not written.

    Args:
        convolution: of three channels, without padding.
        activation: the PReLU.
        pool: maxima over windows of 2 or 3, 2 apart, the last ones cut off (`ceil_mode`); of 3 only over an even height.
    """

    def __init__(self, convolution: nn.Conv2d, activation: nn.PReLU, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.layers = nn.Sequential(convolution, activation, pool)
        self.side = cast(int, pool.kernel_size)
        self._weight, self._bias, self._slopes = (
            np.ascontiguousarray(one.detach().flatten(1).numpy() if one.ndim > 1 else one.detach().numpy())
            for one in (convolution.weight, cast(Tensor, convolution.bias), activation.weight)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W), channels last, to (N, C, about H / 2, about W / 2)."""
        if x.device.type != "cpu" or x.dtype != torch.float32:
            maps: Tensor = self.layers(x)
            return maps
        from exprembed.data import _first_loops as loops

        pictures = x.permute(0, 2, 3, 1).contiguous().numpy()
        n, *sides, _ = pictures.shape
        out = np.empty((n, *((length - self.side + 1) // 2 for length in sides), len(self._bias)), np.float32)
        write = {2: loops.convolve_prelu_max, 3: loops.convolve_prelu_max_of_three}[self.side]
        write(pictures, self._weight, self._bias, self._slopes, out)
        return torch.from_numpy(out).permute(0, 3, 1, 2)


class PReLUInPlace(nn.Module):
    """A network's PReLU, which writes where it reads.

    Args:
        activation: the PReLU.
    """

    def __init__(self, activation: nn.PReLU) -> None:
        super().__init__()
        self.activation = activation
        self._slopes = activation.weight.detach().numpy().copy()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W), channels last, which is changed."""
        if x.device.type != "cpu" or x.dtype != torch.float32:
            values: Tensor = self.activation(x)
            return values
        from exprembed.data._pool_loops import prelu

        x = x.contiguous(memory_format=torch.channels_last)
        prelu(x.permute(0, 2, 3, 1).view(-1, x.shape[1]).numpy(), self._slopes)
        return x


class SharesAndMoves(nn.Module):
    """The first network's last PReLU and the 1x1 convolutions behind it in one pass; products of matrices but on a CPU.

    Args:
        activation: the PReLU.
        shares: the convolution to two channels.
        moves: that to four.
    """

    def __init__(self, activation: nn.PReLU, shares: nn.Conv2d, moves: nn.Conv2d) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.cat([layer.weight.flatten(1) for layer in (shares, moves)]))
        self.bias = nn.Parameter(torch.cat([cast(Tensor, layer.bias) for layer in (shares, moves)]))
        self._slopes, self._weight, self._bias = (
            one.detach().numpy().copy() for one in (activation.weight, self.weight, self.bias)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, C, H, W), channels last, to (N, 2, H, W) and (N, 4, H, W)."""
        places = x.permute(0, 2, 3, 1)
        if x.device.type != "cpu" or x.dtype != torch.float32:
            maps = linear(self.activation(x).permute(0, 2, 3, 1), self.weight, self.bias)
        else:
            from exprembed.data._pool_loops import six_of_prelu

            out = np.empty((*places.shape[:3], 6), np.float32)
            flat = places.reshape(-1, x.shape[1]).numpy()
            six_of_prelu(flat, self._slopes, self._weight, self._bias, out.reshape(-1, 6))
            maps = torch.from_numpy(out)
        shares, moves = torch.split(maps.permute(0, 3, 1, 2), [2, 4], dim=1)
        return shares, moves


class Proposals(nn.Module):
    """MTCNN's first network: what it makes of each cell, as moves of a box's sides and the shares of no face and a face.

    Args:
        network: with the layers that facenet-pytorch gives it.
    """

    def __init__(self, network: Any) -> None:  # noqa: ANN401 - its layers are not known to the type checker
        super().__init__()
        first = ConvolvePReLUMax(network.conv1, network.prelu1, network.pool1)
        self.layers = nn.Sequential(first, network.conv2, PReLUInPlace(network.prelu2), network.conv3)
        self.heads = SharesAndMoves(network.prelu3, network.conv4_1, network.conv4_2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 3, H, W) to moves (N, 4, h, w) and shares (N, 2, h, w)."""
        likely, moves = self.heads(self.layers(x))
        return moves, likely.softmax(dim=1)


def quickened(network: nn.Module) -> nn.Module:
    """Put `Proposals` in the place of the first network; in the others one pass in that of a PReLU and the layers about it."""
    if hasattr(network, "conv4_2"):
        return Proposals(network).to(memory_format=torch.channels_last)
    network.add_module("conv1", ConvolvePReLUMax(*(cast(Any, getattr(network, f"{name}1")) for name in _FIRST)))
    for name in _FIRST[1:]:
        network.add_module(f"{name}1", nn.Identity())
    for name, layer in list(network.named_children()):
        if isinstance(layer, nn.MaxPool2d):  # pool2 stands behind prelu2, and so on
            before = name.replace("pool", "prelu")
            network.add_module(name, PReLUMax(getattr(network, before), layer))
            network.add_module(before, nn.Identity())
    return network.to(memory_format=torch.channels_last)
