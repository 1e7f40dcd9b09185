"""Random variation of face batches: geometry, resolution, light, tone, noise, occlusion; one draw a face.

torchvision's transforms draw one set of parameters a call, hence one a batch when they run on tensors; a training step
wants one a face, on the whole batch at once and on the batch's device, which is what this module does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from exprembed.errors import BadInputError


@dataclass(frozen=True)
class Augmentation:
    """How far a face may vary in training; all draws are independent and uniform unless said otherwise.

    Attributes:
        flip: probability of a mirror image.
        rotation: largest roll either way, in degrees.
        scale: smallest and largest magnification, log-uniform (crop jitter).
        shift: largest shift either way, as a fraction of the side (crop jitter).
        stretch: largest change of the aspect ratio, log-uniform in [1 / (1 + stretch), 1 + stretch].
        blur: probability of a loss of resolution: a Gaussian of sigma 0.02 or 0.04 of the side at most.
        tone: strength of gamma (2^±tone), contrast (1 ± tone / 2) and brightness (± tone / 4).
        colour: strength of the change of single channels (gain 1 ± colour); no effect on one channel.
        noise: largest standard deviation of Gaussian noise, as a fraction of the value range.
        erase: probability of a blank rectangle, which lies within the image and takes its mean.
        erase_sides: smallest and largest width and height of that rectangle, as fractions of the side. Two equal numbers
            make it cutout's square (DeVries and Taylor, 2017).
    """

    flip: float = 0.5
    rotation: float = 15.0
    scale: tuple[float, float] = (0.8, 1.2)
    shift: float = 0.08
    stretch: float = 0.08
    blur: float = 0.3
    tone: float = 0.5
    colour: float = 0.2
    noise: float = 0.04
    erase: float = 0.3
    erase_sides: tuple[float, float] = (0.2, 0.5)

    @classmethod
    def none(cls) -> Augmentation:
        """Return the augmentation that changes nothing."""
        return cls(0.0, 0.0, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

    def __call__(self, images: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Vary a batch and bring it to the network's input size.

        Args:
            images: (N, C, H, W) float in [0, 1].
            size: side of the output in pixels.
            generator: source of every draw, on the CPU, so that a step is a function of its seed on any device.

        Returns:
            (N, C, size, size) float in [0, 1].
        """
        if images.ndim != 4 or not images.is_floating_point():
            raise BadInputError(
                f"augmentation takes (N, C, H, W) float in [0, 1]; got {tuple(images.shape)} {images.dtype}"
            )
        varied = self.geometry(images, size, generator)
        varied = self._resolution(varied, generator)
        varied = self._tone(varied, generator)
        return self._erase(varied, generator)

    def geometry(self, images: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Move a batch as `__call__` does and change nothing else: mirror image, turn, scale, stretch, shift.

        With a generator of the same seed a mask goes where its face goes. Args and result as for `__call__`.
        """
        n = len(images)

        def draw() -> Tensor:
            return torch.rand(n, generator=generator) * 2 - 1

        angle = draw() * math.radians(self.rotation)
        low, high = (math.log(bound) for bound in self.scale)
        zoom = torch.exp(-((low + high) / 2 + draw() * (high - low) / 2))
        stretch = torch.exp(draw() * math.log1p(self.stretch))
        mirror = torch.where(torch.rand(n, generator=generator) < self.flip, -1.0, 1.0)
        cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        # Each row maps an output place to the place in the input that it shows; 2 is the width in grid units.
        theta = torch.stack(
            [
                torch.stack([cosine * stretch * mirror, -sine, draw() * 2 * self.shift], dim=1),
                torch.stack([sine * stretch * mirror, cosine, draw() * 2 * self.shift], dim=1),
            ],
            dim=1,
        ).to(images.device, images.dtype)
        shrink = images.shape[-1] // size
        if shrink >= 2:  # bilinear sampling reads 2x2 pixels: average first, or fine detail turns into noise
            images = functional.avg_pool2d(images, shrink)
        grid = functional.affine_grid(theta, [n, images.shape[1], size, size], align_corners=False)
        return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _resolution(self, images: Tensor, generator: torch.Generator) -> Tensor:
        level = torch.rand(len(images), generator=generator)
        blurred = images
        for part, share in ((0, 0.02), (1, 0.04)):
            chosen = torch.nonzero((level >= self.blur * part / 2) & (level < self.blur * (part + 1) / 2)).flatten()
            if len(chosen):
                sigma = (0.3 + 0.7 * float(torch.rand(1, generator=generator))) * share * images.shape[-1]
                chosen = chosen.to(images.device)
                blurred = blurred.index_copy(0, chosen, gaussian_blur(images[chosen], sigma))
        return blurred

    def _tone(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n, channels = images.shape[:2]

        def draw(*shape: int) -> Tensor:
            values = torch.rand(*shape, generator=generator) * 2 - 1
            return values.to(images.device, images.dtype)

        toned = images.clamp(0, 1) ** torch.exp2(draw(n, 1, 1, 1) * self.tone)
        mean = toned.mean(dim=(1, 2, 3), keepdim=True)
        toned = (toned - mean) * (1 + draw(n, 1, 1, 1) * self.tone / 2) + mean + draw(n, 1, 1, 1) * self.tone / 4
        if channels > 1:
            toned = toned * (1 + draw(n, channels, 1, 1) * self.colour)
        if self.noise:
            spread = draw(n, 1, 1, 1).clamp(min=0) * self.noise
            toned = toned + torch.randn(toned.shape, generator=generator).to(images) * spread
        return toned.clamp(0, 1)

    def _erase(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if not self.erase:
            return images
        n, side = len(images), images.shape[-1]
        hit = torch.rand(n, generator=generator) < self.erase
        low, high = self.erase_sides
        extent = (low + (high - low) * torch.rand(n, 2, generator=generator)) * side
        corner = torch.rand(n, 2, generator=generator) * (side - extent)
        places = torch.arange(side)
        inside = (places >= corner[..., None]) & (places < (corner + extent)[..., None])  # (n, 2, side)
        blank = (inside[:, 0, :, None] & inside[:, 1, None, :] & hit[:, None, None])[:, None].to(images.device)
        return torch.where(blank, images.mean(dim=(1, 2, 3), keepdim=True), images)


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blur (N, C, H, W) with a Gaussian of `sigma` pixels, cut at 3 sigma, edges replicated."""
    radius = max(1, math.ceil(3 * sigma))
    places = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = kernel / kernel.sum()
    n, channels, height, width = images.shape
    flat = functional.pad(images.reshape(n * channels, 1, height, width), (radius,) * 4, mode="replicate")
    flat = functional.conv2d(flat, kernel.view(1, 1, 1, -1))
    return functional.conv2d(flat, kernel.view(1, 1, -1, 1)).reshape(n, channels, height, width)
