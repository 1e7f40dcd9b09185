"""Parts between a backbone and an embedding: dense block, FEC trunk, normalised linear layer, what differs from a mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv_unit(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Return convolution ("same" size, no bias) + batch normalisation + ReLU6."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU6()
    )


class DenseBlock(nn.Module):
    """Dense block: layer i sees the concatenation of the input and of all earlier layers (Huang et al., 2017).

    x_i = ReLU6(BN(conv3x3([x_0, ..., x_{i-1}]))), each of `growth` channels; out: inputs + layers * growth channels.
    """

    def __init__(self, inputs: int, layers: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv_unit(inputs + i * growth, growth, 3) for i in range(layers))
        self.out_channels = inputs + layers * growth

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, inputs + layers * growth, h, w)."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


class FECTrunk(nn.Module):
    """The trainable part of FECNet up to its hidden layer (FEC, figure 3).

    conv 1x1 (`channels`) -> dense block (`layers` x `growth`) -> global average pool -> FC `hidden` -> dropout, each
    with batch normalisation and ReLU6. The paper pools 7x7 over a 7x7 map, which is a global average. `channels=0`
    leaves out convolution and dense block, for small backbones whose last stage is trained with it.
    """

    def __init__(self, inputs: int, channels: int, layers: int, growth: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.reduce = conv_unit(inputs, channels, 1) if channels else nn.Identity()
        self.dense = DenseBlock(channels or inputs, layers if channels else 0, growth)
        self.hidden = nn.Sequential(
            nn.Linear(self.dense.out_channels, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU6()
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, hidden)."""
        pooled = self.dense(self.reduce(maps)).mean(dim=(2, 3))
        out: Tensor = self.dropout(self.hidden(pooled))
        return out


class UnitLinear(nn.Module):
    """Linear layer followed by L2 normalisation: e = (W x + b) / ||W x + b||; (B, inputs) to (B, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs) to unit vectors (B, outputs), in float32 also under mixed precision."""
        return functional.normalize(self.linear(x).float(), dim=1)


class AroundMean(nn.Module):
    """Take off the mean of what training has shown: x - m, (B, n) to (B, n).

    m is a running mean, kept with the weights: m <- m + (mean of the batch - m) / min(t, 100) at step t, so that the
    first hundred batches count alike. Training and use take off the same m; no gradient goes through it.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.steps: Tensor
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """Return x - m, in training after m has moved."""
        if self.training:
            with torch.no_grad():
                self.steps += 1
                self.mean += (x.mean(dim=0) - self.mean) / self.steps.clamp(max=100)
        return x - self.mean


def xavier_init(*modules: nn.Module) -> None:
    """Draw every convolution's and linear layer's weight from Glorot's uniform distribution, biases zero."""
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
