"""Photo -> detection -> landmarks -> similarity transform -> face crop, measured, and kept or dropped.

Coordinates are continuous pixels of the upright picture: (0, 0) is the top left corner of the top left pixel, whose
centre lies at (0.5, 0.5). "Left" and "right" are those of the picture, not of the person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import numpy as np
import pandas as pd
from PIL import Image

from exprembed.data.alignment import align_face, eye_places
from exprembed.data.images import MAX_PIXELS, find_images, open_image, to_rgb
from exprembed.data.preprocessing import Alignment
from exprembed.data.quality import MEASURES, FaceLimits, FaceQuality, measure_face
from exprembed.data.tables import BOX_COLUMNS, FaceTable
from exprembed.errors import BadInputError, unknown_name
from exprembed.files import Skipped

Picture = str | Path | Image.Image
Which = Literal["all", "largest"]
_BATCH = 16
NO_FACE = "no face found"
NOT_LARGEST = "not the largest face"


@dataclass(frozen=True)
class DetectedFace:
    """One face found in a picture.

    Attributes:
        box: left, top, right, bottom in pixels; may reach beyond the picture.
        landmarks: (5, 2) float, x and y of the left eye, right eye, nose tip, left and right corner of the mouth; or
            (68, 2) in iBUG's order, from a detector that finds them (for alignments of the kind "eye_centroids").
        score: the detector's confidence in [0, 1].
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float

    @property
    def side(self) -> float:
        """The shorter side of the box in pixels."""
        return min(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def area(self) -> float:
        """The area of the box in square pixels."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@runtime_checkable
class FaceDetector(Protocol):
    """What `crop_faces` asks of a detector; see exprembed.data.detectors for two."""

    def detect(self, image: Image.Image) -> list[DetectedFace]:
        """Return the faces of one RGB picture, none where there is none."""

    def detect_batch(self, images: Sequence[Image.Image]) -> list[list[DetectedFace]]:
        """Return the faces of each RGB picture; pictures may differ in size."""


class FaceCrop(NamedTuple):
    """One aligned face: its id, its picture, and its row of the FaceTable."""

    face_id: str
    crop: Image.Image
    row: dict[str, Any]


class FoundFace(NamedTuple):
    """One face of a picture with its measures: kept, or dropped and why.

    Attributes:
        face_id: `<name>#<k>` for the k-th largest face of a picture, from 0; `<name>` for a file that is one face.
        crop: the aligned crop; None where none could be cut, or the face was not asked for.
        quality: its measures.
        dropped: why it is left out; None where it is kept.
        detected: what the detector said; None for a file that is one face.
        eyes: (2, 2), the points of the picture that go to the eyes' places of the crop; None where they are not known.
    """

    face_id: str
    crop: Image.Image | None
    quality: FaceQuality
    dropped: str | None = None
    detected: DetectedFace | None = None
    eyes: np.ndarray | None = None

    @property
    def verdict(self) -> str:
        """Say "kept", or "dropped" with the reason."""
        return "kept" if self.dropped is None else f"dropped: {self.dropped}"


Explain = Callable[[str, Sequence[FoundFace], str], None]
"""Called once for each picture: its name, each face found, and why it gave none at all ("" otherwise)."""


class CropResult(NamedTuple):
    """All faces of a job; crop i belongs to row i of `faces`."""

    crops: list[Image.Image]
    faces: FaceTable
    skipped: list[Skipped]


def judge_faces(
    name: str,
    image: Image.Image,
    detected: Sequence[DetectedFace],
    alignment: Alignment | None = None,
    size: int = 224,
    faces: Which = "all",
    limits: FaceLimits | None = None,
) -> list[FoundFace]:
    """Cut and measure the faces that a detector found in one picture, and decide which are kept.

    Args:
        name: stands before `#k` in the face ids.
        image: the upright RGB picture.
        detected: its faces, in any order.
        alignment: place of the eyes in the crop; Alignment() where None.
        size: side of the crops in pixels, at which sharpness is measured.
        faces: with "largest", all but the face with the largest box are dropped, before and whatever the limits.
        limits: what a face must measure; FaceLimits() where None.

    Returns:
        All faces, the largest box first. A face that cannot be cut (eyes that coincide, a box beside the picture) is
        dropped for that.

    Example:
        >>> photo = Image.new("RGB", (200, 200), "gray")
        >>> points = np.array([[70, 80], [110, 80], [90, 103], [73, 124], [107, 124]])
        >>> found = judge_faces("a.png", photo, [DetectedFace((50, 40, 130, 150), points, 0.99)], size=96)
        >>> found[0].face_id, found[0].dropped, str(found[0].quality)[:50]
        ('a.png#0', None, 'score 0.99, sharpness 0, yaw +0, pitch -1, roll +0')
    """
    plan, limits, found = alignment or Alignment(), limits or FaceLimits(), []
    for number, face in enumerate(sorted(detected, key=lambda face: -face.area)):
        crop = eyes = points = dropped = None
        try:
            eyes = eye_places(face.landmarks, plan)
            points = np.asarray(face.landmarks, dtype=float)
            if faces == "largest" and number > 0:
                dropped = NOT_LARGEST
            else:
                _clipped(face.box, image.size)
                crop = align_face(image, points, plan, size)
        except BadInputError as error:
            dropped = str(error)
        quality = measure_face(None if crop is None else np.asarray(crop.convert("L")), points, face.box, face.score)
        reason = dropped or limits.reason(quality)
        found.append(FoundFace(f"{name}#{number}", crop, quality, reason, face, eyes))
    return found


def judge_whole(
    name: str,
    image: Image.Image,
    eyes: np.ndarray | None = None,
    alignment: Alignment | None = None,
    size: int = 224,
    limits: FaceLimits | None = None,
) -> FoundFace:
    """Measure a picture that is one face, without search: as it is, or cut by eye centres that are known.

    Args:
        name: the face id.
        image: the upright picture.
        eyes: (2, 2) pixels; None for a picture that is a crop already, which stays as it is.
        alignment: place of the eyes in the crop.
        size: side of the crop; a picture that stays as it is, is measured at this size.
        limits: what the face must measure; FaceLimits() where None.

    Returns:
        The face, kept or dropped.

    Raises:
        BadInputError: eyes that coincide or lie beside the picture.

    Example:
        >>> judge_whole("a.png", Image.new("RGB", (80, 80)), limits=FaceLimits(min_sharpness=50)).dropped
        'sharpness 0.0, below 50 (min_sharpness)'
    """
    crop = image if eyes is None else align_face(image, eyes, alignment, size)
    seen = crop if crop.size == (size, size) else crop.resize((size, size), Image.Resampling.BILINEAR)
    quality = measure_face(np.asarray(seen.convert("L")), eyes)
    return FoundFace(name, crop, quality, (limits or FaceLimits()).reason(quality), None, eyes)


def crop_faces(
    source: Picture | Iterable[Picture] | Mapping[str, Picture],
    detector: FaceDetector | None = None,
    alignment: Alignment | None = None,
    size: int = 224,
    faces: Which = "all",
    min_face: float = 20,
    max_pixels: int = MAX_PIXELS,
    progress: bool = False,
    limits: FaceLimits | None = None,
    explain: Explain | None = None,
) -> CropResult:
    """Find, align and crop the faces of pictures; `iter_face_crops` does the same in bounded memory.

    Args:
        source: a file, folder or glob; or several paths and Pillow pictures; or a dict from names to them.
        detector: where None, MTCNNDetector (extra `faces`), which looks for nothing smaller than the limits allow.
        alignment: place of the eyes in the crop; a model's is `model.preprocessing.alignment`.
        size: side of the crop in pixels; a model's is `model.preprocessing.size`.
        faces: "all", or only the "largest" of each picture.
        min_face: narrowest face in pixels of the picture.
        max_pixels: limit of `open_image`.
        progress: show a progress bar on standard error.
        limits: all limits at once, in place of `min_face`.
        explain: told of each picture, with every face found, kept or dropped.

    Returns:
        The crops; their FaceTable with id `<name>#<k>` (k counts from the largest face of a picture, 0), `path`, the
        box clipped to the picture, `landmarks` (x0, y0, x1, y1, ...) and the measures of `FaceQuality`; and what was
        left out: each face below a limit, each picture without a face, unreadable, or named twice.

    Raises:
        BadInputError: a path that does not exist (given alone), or no image at all.
        MissingExtraError: no detector given and facenet-pytorch is not installed.
    """
    crops, ids, rows, skipped = [], [], [], []
    stream = iter_face_crops(
        source, detector, alignment, size, faces, min_face, max_pixels, progress, limits=limits, explain=explain
    )
    for item in stream:
        if isinstance(item, Skipped):
            skipped.append(item)
        else:
            crops.append(item.crop)
            ids.append(item.face_id)
            rows.append(item.row)
    columns = ["path", *BOX_COLUMNS, "landmarks", *MEASURES]
    table = pd.DataFrame(rows, columns=columns, index=pd.Index(ids, dtype="str"))
    numbers = dict.fromkeys((*BOX_COLUMNS, *MEASURES), "float64")
    return CropResult(crops, FaceTable(table.astype(numbers)), skipped)


def iter_face_crops(
    source: Picture | Iterable[Picture] | Mapping[str, Picture],
    detector: FaceDetector | None = None,
    alignment: Alignment | None = None,
    size: int = 224,
    faces: Which = "all",
    min_face: float = 20,
    max_pixels: int = MAX_PIXELS,
    progress: bool = False,
    limits: FaceLimits | None = None,
    explain: Explain | None = None,
) -> Iterator[FaceCrop | Skipped]:
    """Yield the faces of pictures one by one, and a Skipped for each face or picture left out; see `crop_faces`.

    At most 16 pictures are in memory at a time, however many the source yields.
    """
    if faces not in get_args(Which):
        raise unknown_name("choice of faces", faces, get_args(Which))
    limits = limits or FaceLimits(min_face)
    if detector is None:
        from exprembed.data.detectors import MTCNNDetector

        detector = MTCNNDetector(min_face=max(1.0, limits.min_face))
    pictures, skipped = _named_pictures(source)
    yield from skipped
    named = iter(_shown(pictures) if progress else pictures)
    seen: set[str] = set()
    while batch := list(islice(named, _BATCH)):
        opened: list[tuple[str, Picture, Image.Image]] = []
        for name, item in batch:
            if name in seen:
                yield Skipped(name, "named twice; only the first counts")
                continue
            seen.add(name)
            try:
                image = to_rgb(item, name) if isinstance(item, Image.Image) else open_image(item, max_pixels)
            except BadInputError as error:
                if explain is not None:
                    explain(name, [], str(error))
                yield Skipped(name, str(error))
            else:
                opened.append((name, item, image))
        boxes = detector.detect_batch([image for *_, image in opened])
        for (name, item, image), detected in zip(opened, boxes, strict=True):
            path = name if isinstance(item, Image.Image) else str(item)
            found = judge_faces(name, image, detected, alignment, size, faces, limits)
            if explain is not None:
                explain(name, found, "" if found else NO_FACE)
            yield from crops_of(name, path, image, found)


def crops_of(name: str, path: str, image: Image.Image, found: Sequence[FoundFace]) -> Iterator[FaceCrop | Skipped]:
    """Yield a crop for each face kept by `judge_faces`, and a Skipped for each other one and for a picture without any.

    A face that is only not the largest was not asked for, and gives neither.
    """
    if not found:
        yield Skipped(name, NO_FACE)
    for face in found:
        if face.dropped == NOT_LARGEST:
            continue
        if face.dropped is not None or face.crop is None or face.detected is None:
            yield Skipped(face.face_id, face.dropped or "nothing was cut")
            continue
        row: dict[str, Any] = {"path": path}
        row |= zip(BOX_COLUMNS, _clipped(face.detected.box, image.size), strict=True)
        row |= {"landmarks": np.asarray(face.detected.landmarks, dtype=float).flatten().tolist()}
        yield FaceCrop(face.face_id, face.crop, row | face.quality.columns())


def _clipped(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    left, right = (min(max(x, 0.0), float(size[0])) for x in (box[0], box[2]))
    top, bottom = (min(max(y, 0.0), float(size[1])) for y in (box[1], box[3]))
    if left >= right or top >= bottom:
        raise BadInputError(
            f"the face's box {tuple(round(value, 1) for value in box)} lies beside the picture of {size}"
        )
    return left, top, right, bottom


def _named_pictures(source: Any) -> tuple[Iterable[tuple[str, Picture]], list[Skipped]]:  # noqa: ANN401 - see crop_faces
    """Return (name, path or picture) pairs: the names are unique file names where one folder was given."""
    if isinstance(source, Mapping):
        return list(source.items()), []
    if isinstance(source, Image.Image):
        return [("image_0", source)], []
    if isinstance(source, str | Path):
        paths, skipped = find_images(source)
        root = Path(source) if Path(source).is_dir() else None
        return [(path.relative_to(root).as_posix() if root else str(path), path) for path in paths], skipped
    return ((f"image_{i}" if isinstance(item, Image.Image) else str(item), item) for i, item in enumerate(source)), []


def _shown(pictures: Iterable[tuple[str, Picture]]) -> Iterator[tuple[str, Picture]]:
    from rich.console import Console
    from rich.progress import track

    total = len(pictures) if isinstance(pictures, Sequence) else None
    yield from track(pictures, "faces", total=total, console=Console(stderr=True))
