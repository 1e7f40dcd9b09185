"""Contrast-limited adaptive histogram equalisation (CLAHE) of grey crops, as arithmetic on tensors.

Ours and not a library's, because it is a part of a model: it must run on a batch after augmentation, on a GPU and inside an
exported graph, and give the same numbers in ten years. scikit-image's and OpenCV's take one picture at a time on the
CPU, kornia's does not export; each would be a dependency of every user of such a model. The steps are OpenCV's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from exprembed.errors import BadInputError, WrongUseError

if TYPE_CHECKING:
    from torch import Tensor

_LEVELS = 256


@dataclass(frozen=True)
class GrayCLAHE:
    """Equalise the grey levels of each tile of a picture, contrast limited, and blend between tiles.

    h_t(v) = number of pixels of tile t with level v; tiles are grid x grid, of A pixels each
    c = max(1, floor(clip_limit A / 256));  E_t = sum_v max(0, h_t(v) - c)
    h'_t(v) = min(h_t(v), c) + E_t / 256, what is left of the division to levels at even steps
    T_t(v) = round(255 / A sum_{u <= v} h'_t(u))
    out(x, y) = round(bilinear interpolation of T_t(in(x, y)) between the centres of the four tiles nearest to (x, y))

    A side that `grid` does not divide is continued by reflection. Zuiderveld (Graphics Gems IV, 1994); steps and rounding
    are those of OpenCV's `createCLAHE`. GCNet (section IV.A) applies CLAHE in training and test and states no parameters.
    The defaults are the usual ones, an 8 x 8 grid and a limit of 2: with 64 x 64 pixels both OpenCV's limit of 2 and
    scikit-image's default mean c = 1.

    Attributes:
        clip_limit: bound of a level's count, as a multiple of the count in a flat histogram; above 0, and without effect
            from 256 on.
        grid: tiles along each side.

    Example:
        >>> import torch
        >>> ramp = torch.arange(100, 116, dtype=torch.uint8).repeat(16, 1)[None, None]
        >>> equalised = GrayCLAHE(clip_limit=256, grid=1)(ramp)
        >>> equalised[0, 0, 0, ::5].tolist()
        [16, 96, 175, 255]
    """

    clip_limit: float = 2.0
    grid: int = 8

    def __post_init__(self) -> None:
        """Refuse limits and grids that mean nothing."""
        if not (self.clip_limit > 0 and math.isfinite(self.clip_limit)):
            raise WrongUseError(f"clip_limit is a multiple of the mean count, above 0; got {self.clip_limit}")
        if not isinstance(self.grid, int) or isinstance(self.grid, bool) or self.grid < 1:
            raise WrongUseError(f"grid is the number of tiles along a side, at least 1; got {self.grid!r}")

    def __call__(self, pixels: Tensor) -> Tensor:
        """Equalise (N, 1, H, W): uint8, or float in [0, 1], which is rounded to 256 levels; the same type comes out.

        Raises:
            BadInputError: another shape or type, or sides below `grid`.
        """
        import torch
        from torch.nn.functional import pad

        looks = f"got {tuple(pixels.shape)} {str(pixels.dtype).removeprefix('torch.')}"
        if pixels.ndim != 4 or pixels.shape[1] != 1:
            raise BadInputError(f"{looks} where grey crops (N, 1, H, W) are due")
        if pixels.dtype != torch.uint8 and not pixels.is_floating_point():
            raise BadInputError(f"{looks} where uint8 in 0..255 or float in [0, 1] is due")
        n, height, width, grid = pixels.shape[0], pixels.shape[2], pixels.shape[3], self.grid
        if min(height, width) < grid:
            raise BadInputError(f"{looks}; {grid} x {grid} tiles need {grid} pixels a side")
        levels = pixels if pixels.dtype == torch.uint8 else (pixels.float() * 255).round().clamp(0, 255)
        # Unlike OpenCV, which adds `grid` pixels to a side that divides where the other one does not; squares agree.
        padded = pad(levels.float(), (0, -width % grid, 0, -height % grid), mode="reflect")
        tile = padded.shape[2] // grid, padded.shape[3] // grid
        tiles = padded.reshape(n, grid, tile[0], grid, tile[1]).transpose(2, 3)
        maps = self._maps(tiles.reshape(n, grid**2, tile[0] * tile[1]).long()).reshape(n, grid**2 * _LEVELS)

        level = levels.reshape(n, height, width).long()
        (top, bottom, down), (left, right, across) = (
            (torch.from_numpy(part).to(pixels.device) for part in _neighbours(side, length, grid))
            for side, length in zip((height, width), tile, strict=True)
        )

        def mapped(rows: Tensor, columns: Tensor) -> Tensor:
            places = (rows[:, None] * grid + columns) * _LEVELS + level
            return maps.gather(1, places.reshape(n, height * width)).reshape(n, height, width)

        upper = mapped(top, left) * (1 - across) + mapped(top, right) * across
        lower = mapped(bottom, left) * (1 - across) + mapped(bottom, right) * across
        blended = (upper * (1 - down[:, None]) + lower * down[:, None]).round().clamp(0, 255)[:, None]
        return blended.to(torch.uint8) if pixels.dtype == torch.uint8 else (blended / 255).to(pixels.dtype)

    def _maps(self, tiles: Tensor) -> Tensor:
        """Return T (N, tiles, 256) float of the levels (N, tiles, A)."""
        import torch

        area = tiles.shape[2]
        limit = max(1, int(self.clip_limit * area / _LEVELS))
        counts = torch.zeros((*tiles.shape[:2], _LEVELS), dtype=torch.long, device=tiles.device)
        counts = counts.scatter_add(2, tiles, torch.ones_like(tiles))
        excess = (counts - limit).clamp(min=0).sum(dim=2, keepdim=True)
        left_over = excess % _LEVELS
        step = torch.full_like(left_over, _LEVELS) // left_over.clamp(min=1)  # a number // a tensor does not export
        bins = torch.arange(_LEVELS, device=tiles.device)
        receives = (bins % step == 0) & (bins // step < left_over)
        counts = counts.clamp(max=limit) + excess // _LEVELS + receives
        return (counts.cumsum(dim=2).float() * (255 / area)).round().clamp(0, 255)


def _neighbours(side: int, tile: int, grid: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each of `side` pixels the tile before and after it, and the share of the one after, in float32."""
    place = np.arange(side, dtype=np.float32) * (np.float32(1) / np.float32(tile)) - np.float32(0.5)
    before = np.floor(place)
    share = (place - before).astype(np.float32)
    first = np.maximum(before, 0).astype(np.int64)
    return first, np.minimum(before + 1, grid - 1).astype(np.int64), share
