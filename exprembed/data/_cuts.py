"""Pictures made ready for a network, and candidates cut out of them, by what runs quickest on the device."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torchvision.ops import roi_align

_LEAST_HALF = 48
_GREY = 127.5


class Cuts(Protocol):
    """Squares out of pictures, less grey and divided by 128, as the networks were trained; beyond a picture is grey."""

    def __call__(self, places: Tensor, side: int) -> Tensor:
        """Sample (n, 3, side, side) squares, each out of the copy in which its side is less than twice `side`.

        Args:
            places: (n, 5) number of the picture; left, top, right, bottom in continuous pixels.
            side: of what comes out.
        """


def cuts_of(pictures: Tensor) -> Cuts:
    """Return what cuts squares out of pictures (N, H, W, 3), uint8."""
    return LoopedCuts(pictures) if pictures.device.type == "cpu" else SampledCuts(pictures)


def framed(pictures: Tensor, margin: int) -> Tensor:
    """Normalise pictures (N, 3, H, W), uint8 with channels last, and put grey pixels around them."""
    n, channels, height, width = pictures.shape
    shape = (n, height + 2 * margin, width + 2 * margin, channels)
    if pictures.device.type == "cpu":
        from exprembed.data._cut_loops import frame

        out = np.empty(shape, np.float32)
        frame(pictures.permute(0, 2, 3, 1).contiguous().numpy(), margin, out)
        return torch.from_numpy(out).permute(0, 3, 1, 2)
    level = pictures.new_zeros(shape, dtype=torch.float32).permute(0, 3, 1, 2)
    level[:, :, margin:-margin, margin:-margin] = pictures.float().sub_(_GREY).mul_(1 / 128)
    return level


class SampledCuts:
    """By torchvision's operations, on any device."""

    def __init__(self, pictures: Tensor) -> None:
        copy = pictures.permute(0, 3, 1, 2).float().sub_(_GREY).contiguous()  # beyond a picture 0 is sampled
        self.copies = [copy]
        while min(self.copies[-1].shape[2:]) > _LEAST_HALF:
            self.copies.append(avg_pool2d(self.copies[-1], 2, ceil_mode=True))

    def __call__(self, places: Tensor, side: int) -> Tensor:
        """See `Cuts`."""
        cuts = places.new_empty(len(places), 3, side, side).contiguous(memory_format=torch.channels_last)
        wanted = _copy_for(places, side, len(self.copies))
        for i, copy in enumerate(self.copies):
            here = wanted == i
            if here.any():
                cuts[here] = roi_align(copy, places[here], (side, side), spatial_scale=0.5**i, aligned=True)
        return cuts.mul_(1 / 128)


class LoopedCuts:
    """The same by compiled loops on a CPU, without a copy of the pictures in which channels lie apart."""

    def __init__(self, pictures: Tensor) -> None:
        from exprembed.data._cut_loops import halve

        self.copies = [pictures.contiguous().numpy()]
        while min(self.copies[-1].shape[1:3]) > _LEAST_HALF:
            n, height, width, channels = self.copies[-1].shape
            half = np.empty((n, (height + 1) // 2, (width + 1) // 2, channels), np.float32)
            halve(self.copies[-1], half)
            self.copies.append(half)

    def __call__(self, places: Tensor, side: int) -> Tensor:
        """See `Cuts`."""
        from exprembed.data._cut_loops import cut

        out = np.empty((len(places), side, side, 3), np.float32)
        wanted = _copy_for(places, side, len(self.copies)).numpy()
        owner, boxes = places[:, 0].long().numpy(), places[:, 1:].contiguous().numpy()
        for i, copy in enumerate(self.copies):
            rows = np.flatnonzero(wanted == i)
            cut(copy, owner[rows], boxes[rows] * np.float32(0.5**i), _GREY, rows, out)
        return torch.from_numpy(out).permute(0, 3, 1, 2).mul_(1 / 128)


def _copy_for(places: Tensor, side: int, copies: int) -> Tensor:
    return torch.log2(((places[:, 3] - places[:, 1]) / side).clamp(min=1)).floor().clamp(max=copies - 1)
