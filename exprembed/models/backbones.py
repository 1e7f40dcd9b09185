"""Backbones by name: images in, feature maps out. torchvision's, timm's, and a small ResNet for 48-pixel faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from exprembed.data.preprocessing import Alignment, Preprocessing
from exprembed.errors import MissingExtraError
from exprembed.models import BACKBONES

# The mean place of the eyes in FER2013's crops, as MTCNN finds them on 1,500 training images (deviation 0.07 each).
FER_ALIGNMENT = Alignment(interocular=0.373, eye_height=0.379)


class Backbone(nn.Module):
    """A network that maps (B, C, S, S) to (B, out_channels, h, w).

    Attributes:
        out_channels: channels of the map.
        preprocessing: the input it expects.
    """

    def __init__(self, body: nn.Module, out_channels: int, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.body = body
        self.out_channels = out_channels
        self.preprocessing = preprocessing

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, C, S, S) to (B, out_channels, h, w)."""
        maps: Tensor = self.body(images)
        return maps


BackboneFactory = Callable[[], Backbone]


def create_backbone(name: str) -> Backbone:
    """Build a backbone by its registered name, or `timm:<model>` when timm is installed (without weights).

    Raises:
        WrongUseError: an unknown name; the nearest valid one is in the message.
        MissingExtraError: `timm:` without timm.
    """
    if name.startswith("timm:"):
        return _timm_backbone(name.removeprefix("timm:"))
    return BACKBONES.get(name)()


class ImageStandardize(nn.Module):
    """Shift and scale each image to mean 0 and deviation 1: x -> (x - mean) / (std + 0.05).

    Light and contrast of a photo say little of the expression; the constant keeps blank images finite.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        centred = images - images.mean(dim=(1, 2, 3), keepdim=True)
        return centred / (centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 0.05)


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions; a stride is an average pool in the shortcut (ResNet-D)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            pool: nn.Module = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()
            self.shortcut = nn.Sequential(pool, nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


def small_resnet(widths: Sequence[int], blocks: Sequence[int], size: int) -> Backbone:
    """Return a ResNet for small grey faces: 5x5 stem of stride 2, then stages of basic blocks, each halving the map."""
    layers: list[nn.Module] = [ImageStandardize(), nn.Conv2d(1, widths[0], 5, 2, 2, bias=False)]
    layers += [nn.BatchNorm2d(widths[0]), nn.ReLU()]
    inputs = widths[0]
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for i in range(count):
            layers.append(BasicBlock(inputs, width, 2 if stage and not i else 1))
            inputs = width
    return _grey(layers, inputs, size)


@BACKBONES.register("resnet10_grey48")
def resnet10_grey48() -> Backbone:
    """Ten layers, 48x48 grey, for two cores without a GPU: (B, 1, 48, 48) to (B, 320, 3, 3)."""
    return small_resnet((40, 80, 160, 320), (1, 1, 1, 1), 48)


def small_vgg(widths: Sequence[int], convolutions: Sequence[int], size: int) -> Backbone:
    """Return a VGG for small grey faces: stages of 3x3 convolutions at full resolution first, a 2x2 maximum between.

    At the same seconds on a CPU it learns faster than `small_resnet`: lines a pixel wide (a frown, a lid) pass through a
    few thin layers before anything is thrown away.
    """
    layers: list[nn.Module] = [ImageStandardize()]
    inputs = 1
    for stage, (width, count) in enumerate(zip(widths, convolutions, strict=True)):
        if stage:
            layers.append(nn.MaxPool2d(2))
        for _ in range(count):
            layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            inputs = width
    return _grey(layers, inputs, size)


def _grey(layers: Sequence[nn.Module], out_channels: int, size: int) -> Backbone:
    preprocessing = Preprocessing(size=size, channels=1, mean=(0.5,), std=(0.25,), alignment=FER_ALIGNMENT)
    return Backbone(nn.Sequential(*layers), out_channels, preprocessing)


@BACKBONES.register("vgg8_grey48")
def vgg8_grey48() -> Backbone:
    """Eight convolutions, 48x48 grey: (B, 1, 48, 48) to (B, 256, 3, 3); 0.6 million numbers."""
    return small_vgg((16, 32, 64, 128, 256), (1, 2, 2, 2, 1), 48)


@BACKBONES.register("vgg8_grey48_wide")
def vgg8_grey48_wide() -> Backbone:
    """Eight convolutions, half as wide again, the packaged model's: (B, 1, 48, 48) to (B, 384, 3, 3); 1.3 million numbers."""
    return small_vgg((16, 48, 96, 192, 384), (1, 2, 2, 2, 1), 48)


def _torchvision(builder: str, out_channels: int, cut: Callable[[Any], nn.Module]) -> Backbone:
    from torchvision import models

    return Backbone(cut(getattr(models, builder)(weights=None)), out_channels, Preprocessing())


@BACKBONES.register("resnet18")
def resnet18() -> Backbone:
    """Torchvision's ResNet-18 up to its last stage: (B, 3, 224, 224) to (B, 512, 7, 7)."""
    return _torchvision("resnet18", 512, lambda net: nn.Sequential(*list(net.children())[:-2]))


@BACKBONES.register("resnet50")
def resnet50() -> Backbone:
    """Torchvision's ResNet-50 up to its last stage: (B, 3, 224, 224) to (B, 2048, 7, 7)."""
    return _torchvision("resnet50", 2048, lambda net: nn.Sequential(*list(net.children())[:-2]))


@BACKBONES.register("densenet121")
def densenet121() -> Backbone:
    """Torchvision's DenseNet-121 features with the closing ReLU: (B, 3, 224, 224) to (B, 1024, 7, 7)."""
    return _torchvision("densenet121", 1024, lambda net: nn.Sequential(net.features, nn.ReLU()))


@BACKBONES.register("mobilenet_v3_small")
def mobilenet_v3_small() -> Backbone:
    """Torchvision's MobileNetV3-Small features: (B, 3, 224, 224) to (B, 576, 7, 7)."""
    return _torchvision("mobilenet_v3_small", 576, lambda net: cast(nn.Module, net.features))


def _timm_backbone(model: str) -> Backbone:
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError("timm", "cpu", f"the backbone 'timm:{model}'") from error
    net = timm.create_model(model, pretrained=False, num_classes=0, global_pool="")
    data = timm.data.resolve_model_data_config(net)
    preprocessing = replace(
        Preprocessing(), size=data["input_size"][-1], mean=tuple(data["mean"]), std=tuple(data["std"])
    )
    with torch.no_grad():
        net.eval()
        shape = net(torch.zeros(1, 3, preprocessing.size, preprocessing.size)).shape
        net.train()
    if len(shape) != 4:
        net = nn.Sequential(net, TokensToMap())
    return Backbone(net, net.num_features if len(shape) == 4 else shape[-1], preprocessing)


class TokensToMap(nn.Module):
    """View a transformer's tokens (B, T, F) as a map (B, F, T, 1), so that pooling heads take them."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T, F) to (B, F, T, 1)."""
        return tokens.transpose(1, 2).unsqueeze(-1)
