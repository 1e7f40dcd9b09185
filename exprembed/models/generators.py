"""GCNet's encoder and decoders, and the three generators that make a reference face from a face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from exprembed.data.clahe import GrayCLAHE
from exprembed.data.preprocessing import Alignment, Preprocessing
from exprembed.errors import BadInputError, WrongUseError
from exprembed.models import BACKBONES
from exprembed.models.backbones import FER_ALIGNMENT, Backbone

WIDTHS = (32, 64, 96)
KERNELS = (5, 3, 3)
# What the last, scale-free batch norm of a decoder is laid out by: about the mean and the deviation of grey faces in [0, 1].
LEVEL, SPREAD = 0.5, 0.25

Switches = list[tuple[Tensor, torch.Size]]


class ConvEncoder(nn.Module):
    """Three times convolution, batch norm, ReLU and 2x2 max pool (GCNet, Table I); a convolution bears no bias.

    (B, channels, H, W) to (B, widths[-1], H // 8, W // 8). Any side of at least 8 will do: a pool drops the last row
    or column of an odd side, and its switches remember the size.
    """

    def __init__(self, channels: int = 1, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.widths = tuple(widths)
        inputs = (channels, *widths[:-1])
        self.units = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, k, padding=k // 2, bias=False), nn.BatchNorm2d(o), nn.ReLU())
            for i, o, k in zip(inputs, widths, KERNELS, strict=True)
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Switches]:
        """Return the last maps, and the switches: where each pool found its maxima, with the size it had before it."""
        least = 2 ** len(self.units)
        if min(images.shape[-2:]) < least:
            raise BadInputError(
                f"got {tuple(images.shape)}; {len(self.units)} max pools need at least {least} pixels a side"
            )
        x, switches = images, []
        for unit in self.units:
            maps = unit(x)
            x, places = functional.max_pool2d(maps, 2, return_indices=True)
            switches.append((places, maps.shape[-2:]))
        return x, switches

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, widths[-1], H // 8, W // 8)."""
        return self.encode(images)[0]


class UnpoolDecoder(nn.Module):
    """ConvEncoder mirrored: three times max-unpooling by switches, transposed convolution, batch norm, ReLU (Table I).

    Output in [0, inf), grey levels or colours of about [0, 1], of the very size that the encoder was given. A transposed
    convolution of stride 1 is a convolution by the turned kernel, and is written as one: the same network, and faster
    on a CPU by a third of a training step. Deviation: the
    last batch norm learns no scale and no shift (Caffe's never does); its output is laid out by the mean and the
    deviation of grey faces. Losses sum over all pixels, and two numbers that move all pixels at once diverge at the
    paper's learning rate.
    """

    def __init__(self, channels: int = 1, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        outputs = (channels, *widths[:-1])
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, k, padding=k // 2, bias=False)
            for i, o, k in reversed(list(zip(widths, outputs, KERNELS, strict=True)))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for o in reversed(outputs[1:]))
        self.last = nn.BatchNorm2d(channels, affine=False)

    def forward(self, maps: Tensor, switches: Switches) -> Tensor:
        """Map (B, widths[-1], h, w) and the switches of an encoder to (B, channels, H, W).

        Raises:
            BadInputError: the maps are not those of the switches, so that no size can be restored.
        """
        if len(switches) != len(self.convolutions) or maps.shape != switches[-1][0].shape:
            due = [tuple(places.shape) for places, _ in switches]
            raise BadInputError(
                f"cannot unpool maps {tuple(maps.shape)}: {len(self.convolutions)} switches of one encoding are due, the "
                f"last of them as the maps; got {due}"
            )
        x = maps
        for i, (convolution, (places, size)) in enumerate(zip(self.convolutions, reversed(switches), strict=True)):
            x = convolution(functional.max_unpool2d(x, places, [2, 2], output_size=size))
            x = self.norms[i](x).relu() if i < len(self.norms) else (LEVEL + SPREAD * self.last(x)).relu()
        return x


class UpsamplingDecoder(nn.Module):
    """The decoder for backbones that keep no switches: nearest-neighbour steps to `size` in place of unpooling.

    (B, inputs, h, w) to (B, channels, size, size); not in the paper, whose encoder is always ConvEncoder.
    """

    def __init__(self, inputs: int, channels: int, size: int) -> None:
        super().__init__()
        widths = (inputs, 64, 32, channels)
        self.sizes = [-(-size // 4), -(-size // 2), size]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, k, padding=k // 2, bias=False)
            for i, o, k in zip(widths, widths[1:], reversed(KERNELS), strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for o in widths[1:-1])
        self.last = nn.BatchNorm2d(channels, affine=False)

    def forward(self, maps: Tensor, switches: Switches) -> Tensor:
        """Map (B, inputs, h, w) to (B, channels, size, size); there are no switches to use."""
        x = maps
        for i, (convolution, size) in enumerate(zip(self.convolutions, self.sizes, strict=True)):
            x = convolution(functional.interpolate(x, (size, size)))
            x = self.norms[i](x).relu() if i < len(self.norms) else (LEVEL + SPREAD * self.last(x)).relu()
        return x


def encode_with(backbone: Backbone, images: Tensor) -> tuple[Tensor, Switches]:
    """Return a backbone's maps, and its switches where it keeps them."""
    if isinstance(backbone.body, ConvEncoder):
        return backbone.body.encode(images)
    return backbone(images), []


def decoder_for(backbone: Backbone, size: int) -> UnpoolDecoder | UpsamplingDecoder:
    """Build the decoder that mirrors a backbone."""
    channels = backbone.preprocessing.channels
    if isinstance(backbone.body, ConvEncoder):
        return UnpoolDecoder(channels, backbone.body.widths)
    return UpsamplingDecoder(backbone.out_channels, channels, size)


def _gcnet_backbone(widths: Sequence[int], preprocessing: Preprocessing) -> Backbone:
    return Backbone(ConvEncoder(preprocessing.channels, widths), widths[-1], preprocessing)


@BACKBONES.register("gcnet_cnn")
def gcnet_cnn() -> Backbone:
    """GCNet's three convolutions (Table I), 64x64 grey with CLAHE, five-point aligned: (B, 1, 64, 64) to (B, 96, 8, 8)."""
    alignment = Alignment(FER_ALIGNMENT.interocular, FER_ALIGNMENT.eye_height, "five_points")
    plan = Preprocessing(64, 1, mean=(0.0,), std=(1.0,), alignment=alignment, clahe=GrayCLAHE())
    return _gcnet_backbone(WIDTHS, plan)


@BACKBONES.register("gcnet_cnn_small")
def gcnet_cnn_small() -> Backbone:
    """`gcnet_cnn` of half the width at 32 pixels, CLAHE on a 4 x 4 grid: (B, 1, 32, 32) to (B, 48, 4, 4)."""
    plan = Preprocessing(32, 1, mean=(0.0,), std=(1.0,), alignment=FER_ALIGNMENT, clahe=GrayCLAHE(grid=4))
    return _gcnet_backbone((16, 32, 48), plan)


class Generator(nn.Module):
    """Base of the generators: X (B, C, S, S) as a model's preprocessing gives it, to G(X) of the same shape and range.

    A subclass makes pixels in about [0, 1] from pixels in [0, 1]; the base converts both ways.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        low, high = preprocessing.value_range
        shape = (1, preprocessing.channels, 1, 1)
        std = torch.tensor(preprocessing.std).view(shape)
        self.register_buffer("offset", (low - torch.tensor(preprocessing.mean).view(shape)) / std, persistent=False)
        self.register_buffer("gain", (high - low) / std, persistent=False)
        self.channels, self.size = preprocessing.channels, preprocessing.size

    offset: Tensor
    gain: Tensor

    def normalized(self, pixels: Tensor) -> Tensor:
        """Return pixels of [0, 1] in the range of the model's input."""
        return self.offset + self.gain * pixels

    def pixels(self, images: Tensor) -> Tensor:
        """Return the model's input as pixels of [0, 1]."""
        return (images - self.offset) / self.gain

    def forward(self, images: Tensor, references: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return G(X), and in training the generator's own terms of the loss, each a mean over the batch."""
        raise NotImplementedError


class AutoencoderGenerator(Generator):
    """Conv.AEs: G(X) = De(En(X; psi_e); psi_d), encoder and max-unpooling decoder of Table I (equation 3)."""

    def __init__(self, preprocessing: Preprocessing, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__(preprocessing)
        self.encoder = ConvEncoder(self.channels, widths)
        self.decoder = UnpoolDecoder(self.channels, widths)

    def forward(self, images: Tensor, references: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return G(X); the autoencoder has no terms of its own."""
        return self.normalized(self.decoder(*self.encoder.encode(self.pixels(images)))), {}


class _Deep(Generator):
    """What the DCGAN and the VAE share: layers of 4x4 kernels and stride 2 between `size` and `size` / 16."""

    def __init__(self, preprocessing: Preprocessing, width: int, latent: int) -> None:
        super().__init__(preprocessing)
        if self.size % 16:
            raise WrongUseError(f"the generators 'vae' and 'dcgan' need sides divisible by 16; got {self.size}")
        self.latent, base = latent, self.size // 16
        widths = [width * 2**i for i in range(4)]
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent, widths[-1], base, bias=False)]
        for inputs, outputs in zip(widths[::-1], widths[-2::-1], strict=False):
            layers += [nn.BatchNorm2d(inputs), nn.ReLU(), nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.ConvTranspose2d(width, self.channels, 4, 2, 1, bias=False)]
        self.decoder = nn.Sequential(*layers, nn.Tanh())
        self.widths, self.base = widths, base

    def down(self, outputs: int) -> nn.Sequential:
        """Return DCGAN's discriminator with `outputs` numbers at its end: (B, C, size, size) to (B, outputs)."""
        layers: list[nn.Module] = []
        for i, outside in enumerate(self.widths):
            inputs = self.widths[i - 1] if i else self.channels
            layers += [nn.Conv2d(inputs, outside, 4, 2, 1, bias=False)]
            layers += [*([nn.BatchNorm2d(outside)] if i else []), nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers, nn.Conv2d(self.widths[-1], outputs, self.base, bias=False), nn.Flatten())

    def decoded(self, codes: Tensor) -> Tensor:
        """Map codes (B, latent) to images in the model's range; tanh's [-1, 1] is [0, 1] in pixels."""
        return self.normalized((self.decoder(codes[:, :, None, None]) + 1) / 2)

    def start(self) -> None:
        """Draw convolutions from N(0, 0.02) and the norms' scales from N(1, 0.02), as the DCGAN paper does."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, 0, 0.02)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1, 0.02)


class VAEGenerator(_Deep):
    """Conv.VAEs: DCGAN's discriminator encodes to mu and log sigma^2, its generator decodes (GCNet, section IV.E).

    z = mu + sigma eps in training, mu else; own term KL = -1/2 sum(1 + log sigma^2 - mu^2 - sigma^2) (Kingma, Welling).
    The paper states no latent size; `latent` is DCGAN's 100.
    """

    def __init__(self, preprocessing: Preprocessing, width: int = 64, latent: int = 100) -> None:
        super().__init__(preprocessing, width, latent)
        self.encoder = self.down(2 * latent)
        self.start()

    def forward(self, images: Tensor, references: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return G(X), and in training the divergence from N(0, 1)."""
        mean, log_variance = self.encoder(2 * self.pixels(images) - 1).chunk(2, dim=1)
        if not self.training:
            return self.decoded(mean), {}
        code = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1)
        return self.decoded(code), {"divergence": divergence.mean()}


class DCGANGenerator(_Deep):
    """DCGANs with an encoder: a random projection that is never trained, DCGAN's generator, and its discriminator.

    Own term: mean softplus(-D(Xr)) + mean softplus(D(G(X))), which the discriminator lowers and the generator raises.
    Deviation: both move in one step, by a reversed gradient between them (Ganin and Lempitsky, 2015), where DCGAN takes
    turns; one optimiser and one loop then serve every generator.
    """

    projection: Tensor

    def __init__(self, preprocessing: Preprocessing, width: int = 64, latent: int = 100) -> None:
        super().__init__(preprocessing, width, latent)
        pixels = self.channels * self.size**2
        self.register_buffer("projection", torch.randn(latent, pixels) / pixels**0.5)
        self.discriminator = self.down(1)
        self.start()

    def forward(self, images: Tensor, references: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return G(X), and in training beside real references the adversarial term."""
        codes = (2 * self.pixels(images) - 1).flatten(1) @ self.projection.T
        generated = self.decoded(codes)
        if references is None or not self.training:
            return generated, {}
        real = self.discriminator(2 * self.pixels(references) - 1)
        fake = self.discriminator(2 * self.pixels(_Reversed.apply(generated)) - 1)
        return generated, {"adversarial": functional.softplus(-real).mean() + functional.softplus(fake).mean()}


class _Reversed(torch.autograd.Function):
    """The identity, whose gradient changes sign."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        return -gradients[0]


GENERATORS: dict[str, Callable[..., Generator]] = {
    "autoencoder": AutoencoderGenerator,
    "vae": VAEGenerator,
    "dcgan": DCGANGenerator,
}
