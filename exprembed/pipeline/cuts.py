"""How faces come out of pictures: by a detector, or without search from files that are faces already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from exprembed.data.alignment import eye_places
from exprembed.data.faces import (
    NO_FACE,
    Explain,
    FaceCrop,
    FaceDetector,
    FoundFace,
    Which,
    crops_of,
    judge_faces,
    judge_whole,
)
from exprembed.data.preprocessing import Alignment
from exprembed.data.quality import FaceLimits
from exprembed.errors import BadInputError
from exprembed.files import Skipped
from exprembed.pipeline.stream import Picture


@dataclass(frozen=True)
class SearchedFaces:
    """Looks for faces, and cuts each out by its eyes.

    Attributes:
        detector: finds them, in pictures of one size together.
        alignment: where the eyes go.
        size: side of the crops in pixels.
        faces: "all", or the "largest" of each picture.
        limits: what a face must measure.
        explain: told of each picture and its faces.
    """

    detector: FaceDetector
    alignment: Alignment = field(default_factory=Alignment)
    size: int = 224
    faces: Which = "all"
    limits: FaceLimits = field(default_factory=FaceLimits)
    explain: Explain | None = None

    def __call__(self, pictures: Sequence[Picture]) -> list[list[FaceCrop | Skipped]]:
        """Return the faces of each picture, the largest first, and what was left out of it."""
        boxes = iter(self.detector.detect_batch([picture.image for picture in pictures if picture.image is not None]))
        result: list[list[FaceCrop | Skipped]] = []
        for picture in pictures:
            image = picture.image
            if image is None:
                result.append([_unread(picture, self.explain)])
                continue
            detected = next(boxes)
            found = judge_faces(picture.name, image, detected, self.alignment, self.size, self.faces, self.limits)
            if self.explain is not None:
                self.explain(picture.name, found, "" if found else NO_FACE)
            items = list(crops_of(picture.name, picture.path, image, found))
            for item in items:
                if isinstance(item, FaceCrop):
                    points = np.reshape(item.row["landmarks"], (-1, 2))
                    item.row["eyes"] = eye_places(points, self.alignment).flatten().tolist()
            result.append(items)
        return result


@dataclass(frozen=True)
class WholeFaces:
    """Takes each picture for one face: as it is, or cut by eye centres that all pictures share.

    Attributes:
        eyes: left x, left y, right x, right y as fractions of width and height; None leaves pictures whole.
        alignment, size, limits, explain: as in `SearchedFaces`.
    """

    eyes: tuple[float, ...] | None = None
    alignment: Alignment = field(default_factory=Alignment)
    size: int = 224
    limits: FaceLimits = field(default_factory=FaceLimits)
    explain: Explain | None = None

    def __call__(self, pictures: Sequence[Picture]) -> list[list[FaceCrop | Skipped]]:
        """Return each picture as one face, or why it was left out."""
        return [[self._one(picture)] for picture in pictures]

    def _one(self, picture: Picture) -> FaceCrop | Skipped:
        image = picture.image
        if image is None:
            return _unread(picture, self.explain)
        points = None if self.eyes is None else np.array(self.eyes).reshape(2, 2) * image.size
        try:
            found = judge_whole(picture.name, image, points, self.alignment, self.size, self.limits)
        except BadInputError as error:
            self._explain(picture.name, [], str(error))
            return Skipped(picture.name, str(error))
        self._explain(picture.name, [found], "")
        if found.dropped is not None or found.crop is None:
            return Skipped(picture.name, found.dropped or "nothing was cut")
        row = {"path": picture.path} | ({} if points is None else {"eyes": points.flatten().tolist()})
        return FaceCrop(picture.name, found.crop, row | found.quality.columns())

    def _explain(self, name: str, found: Sequence[FoundFace], reason: str) -> None:
        if self.explain is not None:
            self.explain(name, found, reason)


def _unread(picture: Picture, explain: Explain | None) -> Skipped:
    reason = picture.reason or "no picture"
    if explain is not None:
        explain(picture.name, [], reason)
    return Skipped(picture.name, reason)


@dataclass(frozen=True)
class NamedFaces:
    """Gives the faces of another cut the names that a data set has for its files.

    Attributes:
        cut: finds the faces.
        ids: the face_id of each path.
        keep: called with each face, which it may give columns: it saves the crop, say.
    """

    cut: SearchedFaces | WholeFaces
    ids: Mapping[str, str] | None = None
    keep: Callable[[FaceCrop], None] | None = None

    def __call__(self, pictures: Sequence[Picture]) -> list[list[FaceCrop | Skipped]]:
        """Return what the other cut returns, renamed."""
        return [[self._named(item) for item in items] for items in self.cut(pictures)]

    def _named(self, item: FaceCrop | Skipped) -> FaceCrop | Skipped:
        if isinstance(item, Skipped):
            return Skipped(item.item, item.reason.removeprefix(f"{item.item} "))
        if self.ids is not None:
            item = item._replace(face_id=self.ids[str(item.row["path"])])
        if self.keep is not None:
            self.keep(item)
        return item
