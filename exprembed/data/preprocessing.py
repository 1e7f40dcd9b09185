"""Preprocessing: what a model demands of its input, stored with its weights, and the check of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from exprembed.data.clahe import GrayCLAHE
from exprembed.data.landmarks import MEAN_FACE
from exprembed.errors import BadInputError, WrongUseError, unknown_name

if TYPE_CHECKING:
    import torch
    from PIL import Image

_LAYOUTS = ("HWC", "CHW")


AlignmentKind = Literal["eyes", "eye_centroids", "five_points"]


@dataclass(frozen=True)
class Alignment:
    """Where the eyes stand in a face crop, and by which points a face is brought there: roll removed, a stated scale.

    All kinds are similarity transforms (a turn, one scale, a shift), and cut the mean face alike:

    - "eyes": the two eye centres of a detector go exactly to their places (FEC paper, section 4.1).
    - "eye_centroids": the same with the centroids of the six points of each eye in a face of 68 points, by which the
      crop is turned and scaled (Antoniadis 2021, equations 3.1.1 and 3.1.2; the angle by atan2).
    - "five_points": eyes, nose tip and corners of the mouth go as close as they can, in the least squares, to `template`
      (Umeyama 1991); noise in one eye tilts the crop less, a turned head shifts it.

    Attributes:
        interocular: distance of the eye centres as a fraction of the crop's side (FEC: 55 of 224 pixels).
        eye_height: height of the eye line from the top as a fraction of the side.
        kind: the points that place the face.

    Raises:
        WrongUseError: a fraction outside (0, 1), or an unknown kind.

    Example:
        >>> Alignment(interocular=0.4, eye_height=0.35, kind="five_points").template.round(2).tolist()
        [[0.3, 0.35], [0.7, 0.35], [0.5, 0.58], [0.33, 0.79], [0.67, 0.79]]
    """

    interocular: float = 55 / 224
    eye_height: float = 0.42
    kind: AlignmentKind = "eyes"

    def __post_init__(self) -> None:
        """Refuse fractions outside (0, 1) and unknown kinds."""
        for name, value in (("interocular", self.interocular), ("eye_height", self.eye_height)):
            if not 0 < value < 1:
                raise WrongUseError(f"{name} is a fraction of the crop's side in (0, 1); got {value}")
        if self.kind not in get_args(AlignmentKind):
            raise unknown_name("kind of alignment", self.kind, get_args(AlignmentKind))

    @property
    def template(self) -> np.ndarray:
        """(5, 2) places of eyes, nose tip and corners of the mouth in the crop, as fractions of its side.

        q = (1/2, eye_height) + interocular m, with m the points of the mean face `exprembed.data.landmarks.MEAN_FACE`.
        """
        places: np.ndarray = np.array([0.5, self.eye_height]) + self.interocular * MEAN_FACE[:, :2]
        return places

    def to_dict(self) -> dict[str, Any]:
        """Return the definition as JSON-ready values; without the default kind, as models knew it before there were kinds.

        Their fingerprints, which saved vectors and indexes carry, thus stand.
        """
        return {name: value for name, value in asdict(self).items() if (name, value) != ("kind", "eyes")}


@dataclass(frozen=True)
class Preprocessing:
    """Turn face crops into the tensor a model takes, and refuse everything else.

    pixel p in 0..255 -> v = low + p / 255 (high - low) -> (v - mean) / std, after resizing to size x size with
    anti-aliasing. Grey models (channels 1) see the luma 0.299 R + 0.587 G + 0.114 B, equalised where `clahe` says so;
    colour models see RGB.

    Attributes:
        size: side of the square input in pixels.
        channels: 3 (RGB) or 1 (grey).
        value_range: (low, high) before normalisation.
        mean: one number a channel.
        std: one number a channel, above 0.
        alignment: the eyes' place in the crop that the model was trained on; None where it has none.
        clahe: contrast-limited equalisation of the grey levels of each crop; None for none.

    Example:
        >>> grey = Preprocessing(size=4, channels=1, mean=(0.5,), std=(0.25,))
        >>> grey(np.full((8, 8, 3), 255, np.uint8)).flatten()[:2].tolist()
        [2.0, 2.0]
    """

    size: int = 224
    channels: int = 3
    value_range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    alignment: Alignment | None = Alignment()
    clahe: GrayCLAHE | None = None

    def __post_init__(self) -> None:
        """Refuse a definition that contradicts itself."""
        if self.channels not in (1, 3):
            raise WrongUseError(f"channels must be 1 (grey) or 3 (RGB); got {self.channels}")
        if len(self.mean) != self.channels or len(self.std) != self.channels or min(self.std) <= 0:
            raise WrongUseError(
                f"mean and std need {self.channels} numbers each, std above 0; got {self.mean} and {self.std}"
            )
        if self.size < 1 or self.value_range[0] >= self.value_range[1]:
            raise WrongUseError(f"size must be positive and value_range rising; got {self.size} and {self.value_range}")
        if self.clahe is not None and (self.channels != 1 or self.size < self.clahe.grid):
            raise WrongUseError(
                f"clahe takes grey crops (channels=1) of at least {self.clahe.grid} pixels a side, one a tile; got "
                f"channels={self.channels} and size={self.size}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the definition as JSON-ready values; `clahe` only where there is one.

        A step that came later must not change how a model without it is written down: fingerprints hash this.
        """
        values = asdict(self) | {"alignment": None if self.alignment is None else self.alignment.to_dict()}
        if self.clahe is None:
            del values["clahe"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """Build from `to_dict`'s values; an unknown or a missing key raises BadInputError."""
        names = {field.name for field in fields(cls)}
        if set(values) | {"clahe"} != names:
            needed = sorted(names - {"clahe"})
            raise BadInputError(f"a preprocessing needs exactly {needed}, and clahe or not; got {sorted(values)}")
        known: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        for key, kind in (("alignment", Alignment), ("clahe", GrayCLAHE)):
            if known.get(key) is not None:
                try:
                    known[key] = kind(**known[key])
                except TypeError as error:
                    raise BadInputError(f"the preprocessing's {key} is {known[key]!r}: {error}") from error
        return cls(**known)

    def __call__(self, images: Any, layout: str = "HWC") -> torch.Tensor:  # noqa: ANN401 - one image or many, of three kinds
        """Return the normalised (N, channels, size, size) float32 tensor of face crops.

        Args:
            images: a path, a PIL image, or an HWC (or HW grey) uint8 RGB array; or a list of them; or an NHWC uint8 array.
            layout: "HWC", or "CHW" for arrays whose channels come first.

        Raises:
            BadInputError: another dtype or shape, an unreadable file; the message says what would work.
        """
        import torch

        return self.normalize(torch.from_numpy(self.pixels(images, layout)))

    def pixels(self, images: Any, layout: str = "HWC") -> np.ndarray:  # noqa: ANN401 - as in __call__
        """Return the resized crops before equalisation and normalisation: (N, channels, size, size) uint8."""
        if layout not in _LAYOUTS:
            raise WrongUseError(f"layout must be one of {', '.join(_LAYOUTS)}; got {layout!r}")
        several = isinstance(images, Sequence) and not isinstance(images, str)
        if isinstance(images, np.ndarray) and images.ndim == 4:
            several = True
        if several and len(images) == 0:
            raise BadInputError("no image was given")
        return np.stack([self._one(image, layout) for image in (images if several else [images])])

    def _one(self, image: Any, layout: str) -> np.ndarray:  # noqa: ANN401
        from PIL import Image

        from exprembed.data.images import open_image, to_rgb

        if isinstance(image, str | Path):
            picture = open_image(image)
        elif isinstance(image, Image.Image):
            picture = to_rgb(image, "a PIL image")
        elif isinstance(image, np.ndarray):
            picture = _from_array(image, layout)
        else:
            looks = f"{type(image).__name__}{tuple(getattr(image, 'shape', ()))}"
            raise BadInputError(f"got {looks} where a path, a PIL image or an HWC uint8 array is due")
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        if picture.size != (self.size, self.size):
            picture = picture.resize(
                (self.size, self.size), Image.Resampling.BILINEAR
            )  # PIL's bilinear is anti-aliased
        pixels = np.asarray(picture)
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Equalise where `clahe` says so, and normalise (N, channels, H, W): uint8 in 0..255, or float in [0, 1]."""
        import torch

        if self.clahe is not None:
            pixels = self.clahe(pixels)
        low, high = self.value_range
        values = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        mean = torch.tensor(self.mean, device=pixels.device, dtype=values.dtype).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=pixels.device, dtype=values.dtype).view(1, -1, 1, 1)
        return (low + values * (high - low) - mean) / std

    def check(self, images: Any) -> None:  # noqa: ANN401 - whatever a user passes to a model
        """Raise BadInputError unless `images` is what `__call__` returns: the layout, dtype, size and range due.

        A tensor that was never normalised is told by its values: all in [0, 1] with a wide spread, or above any value
        that normalisation can give. The order of the channels cannot be seen in the values, which is why arrays and
        files go through `preprocess`, where it is stated.
        """
        import torch

        low, high = ((bound - np.asarray(self.mean)) / np.asarray(self.std) for bound in self.value_range)
        due = f"(N, {self.channels}, {self.size}, {self.size}) float"
        if not isinstance(images, torch.Tensor):
            shape = tuple(getattr(images, "shape", ()))
            looks = f"{shape} {getattr(images, 'dtype', '')}".strip() if shape else type(images).__name__
            raise BadInputError(
                f'got {looks} where {due} is due; pass it through model.preprocess(x, layout="HWC") first'
            )
        looks = f"got {tuple(images.shape)} {str(images.dtype).removeprefix('torch.')} where {due} is due"
        if images.ndim == 3:
            raise BadInputError(f"{looks}; a batch has four axes: use images[None], or model.preprocess on the picture")
        if images.ndim == 4 and images.shape[1] != self.channels and images.shape[-1] in (1, 3):
            raise BadInputError(
                f'{looks}; channels come last here: pass layout="HWC" to model.preprocess (do not reshape)'
            )
        if images.ndim != 4 or tuple(images.shape[1:]) != (self.channels, self.size, self.size):
            raise BadInputError(f"{looks}; model.preprocess resizes and converts face crops")
        if not images.is_floating_point():
            raise BadInputError(f"{looks}; model.preprocess scales and normalises 0..255 pixels")
        if images.numel() == 0 or torch.compiler.is_compiling():
            return
        smallest, largest = (float(value) for value in torch.aminmax(images.detach()))
        if not np.isfinite([smallest, largest]).all():
            raise BadInputError(f"{looks}; it holds NaN or infinite values")
        slack = 0.05 * float(max(high) - min(low))
        if largest > max(high) + slack or smallest < min(low) - slack:
            what = "0..255 pixels" if smallest >= 0 and largest > 2 else "another normalisation"
            raise BadInputError(
                f"{looks}; values run from {smallest:.3g} to {largest:.3g} where {min(low):.3g} to {max(high):.3g} is "
                f"possible: this looks like {what}; use model.preprocess"
            )
        unnormalised = smallest >= 0 and largest <= 1 and largest - smallest > 0.5
        if unnormalised and (min(low) < -0.5 or max(high) > 1.5):
            raise BadInputError(
                f"{looks}; all values lie in [{smallest:.2f}, {largest:.2f}]: this looks like pixels in 0..1 that were "
                f"never normalised; use model.preprocess"
            )


def _from_array(array: np.ndarray, layout: str) -> Image.Image:
    from PIL import Image

    looks = f"got {array.shape} {array.dtype}"
    if array.dtype != np.uint8:
        scale = " (multiply values in 0..1 by 255)" if np.issubdtype(array.dtype, np.floating) else ""
        raise BadInputError(
            f"{looks} where an HWC uint8 array in 0..255 is due; convert it with .astype(np.uint8){scale}"
        )
    if array.ndim == 2:
        return Image.fromarray(array)
    if array.ndim == 3 and layout == "CHW" and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    elif array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        raise BadInputError(f'{looks} where HWC is due: channels come first here; pass layout="CHW"')
    if array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
        raise BadInputError(f"{looks} where (H, W, 3) RGB or (H, W) grey uint8 is due")
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array))
