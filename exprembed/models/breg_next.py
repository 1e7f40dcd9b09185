"""BReG-NeXt: a residual network whose shortcuts are bounded functions with learned shape instead of the identity."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from exprembed.data.preprocessing import Preprocessing
from exprembed.models import BACKBONES
from exprembed.models.backbones import Backbone

# (layers, channels) of each stage; the first layer of the second and third has stride 2.
STAGES = ((7, 32), (9, 64), (8, 128))


class BoundedShortcut(nn.Module):
    r"""h(x) = atan(a x / sqrt(c^2 + 1)) / (a sqrt(c^2 + 1)), of any shape; a and c are learned and start at 1.

    h lies in (-pi / 2, pi / 2) / (|a| sqrt(c^2 + 1)), its derivative 1 / (c^2 + 1 + a^2 x^2) in (0, 1 / (c^2 + 1)]. It is
    even in a, so that the limit x / (c^2 + 1) at a = 0 has the derivative 0 in a: |a| below 1e-4 counts as 1e-4.

    Paper: Hasani, Negi, Mahoor, IEEE Transactions on Affective Computing 2020.

    Example:
        >>> BoundedShortcut()(torch.tensor([0.0, 1.0, 1e9])).detach()
        tensor([0.0000, 0.4352, 1.1107])
    """

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(()))
        self.c = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Map x to h(x)."""
        a = torch.where(self.a.abs() < 1e-4, 1e-4, self.a)
        root = (self.c.square() + 1).sqrt()
        return torch.atan(a / root * x) / (a * root)


class BRegLayer(nn.Module):
    """F(x) + h(x): F = twice BN, ELU, 3x3 convolution; h the bounded shortcut, pooled and filled up with zero channels.

    Args:
        inputs: channels of x.
        outputs: channels that leave, at least as many.
        stride: of the first convolution, and of the average pool in the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ELU(),
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ELU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        )
        self.shortcut = BoundedShortcut()
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.added = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride), rounded up."""
        kept = functional.pad(self.pool(self.shortcut(x)), (0, 0, 0, 0, 0, self.added))
        out: Tensor = self.residual(x) + kept
        return out


@BACKBONES.register("breg_next")
def breg_next() -> Backbone:
    """BReG-NeXt-50, 64x64 colour: (B, 3, 64, 64) to (B, 128, 16, 16); a head pools its maps.

    3x3 convolution to 32 channels; 7 layers of 32, 9 of 64 (the first with stride 2), 8 of 128 (likewise), each with two
    convolutions; BN, ELU. Paper: see `BoundedShortcut`. It says nothing of biases before normalisation: there are none.
    """
    layers: list[nn.Module] = [nn.Conv2d(3, STAGES[0][1], 3, padding=1, bias=False)]
    inputs = STAGES[0][1]
    for stage, (count, outputs) in enumerate(STAGES):
        for number in range(count):
            layers.append(BRegLayer(inputs, outputs, 2 if stage and not number else 1))
            inputs = outputs
    layers += [nn.BatchNorm2d(inputs), nn.ELU()]
    return Backbone(nn.Sequential(*layers), inputs, Preprocessing(size=64))
