"""Face detectors with five landmarks: MTCNN (facenet-pytorch, default) and YuNet (OpenCV)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from exprembed.data.faces import DetectedFace
from exprembed.errors import BadInputError, MissingExtraError, WrongUseError

_CROP_SIDE = 160
_MTCNN_SIDE = 20  # pixels of the smallest face in a picture whose long side is `max_side`
_YUNET_SIDE = 320  # with less, its landmarks follow only half of a face's roll
_BATCH_PIXELS = 500_000


class MTCNNDetector:
    """Multi-task cascaded networks (Zhang et al. 2016): facenet-pytorch's networks, whose weights its wheel holds.

    Faces may reach beyond the edge of the picture by half. Pictures of one size run together. Pictures with a short side
    below 160 pixels are taken for face crops: where no face is found, a second look follows with all thresholds at 0.5 and
    at sizes between those of the first.

    Args:
        min_face: smallest face that is looked for, in pixels of the picture: twice the size, a quarter of the first network's work. In
            small pictures the limit is three tenths of the short side at most.
        max_side: pictures with a longer side are shrunk to it; such a picture shows no face below 20 / `max_side` of
            that side.
        thresholds: scores that the three networks ask for.
        device: torch device.

    Raises:
        MissingExtraError: facenet-pytorch is not installed.
    """

    def __init__(
        self,
        min_face: float = 20,
        max_side: int = 1280,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        device: str = "cpu",
    ) -> None:
        if min_face <= 0 or max_side < _CROP_SIDE:
            raise WrongUseError(
                f"min_face must be positive and max_side at least {_CROP_SIDE}; got {min_face} and {max_side}"
            )
        try:
            from facenet_pytorch import ONet, PNet, RNet
        except ImportError as error:
            raise MissingExtraError("facenet-pytorch", "faces", "finding faces with MTCNN") from error
        from exprembed.data._cascade import Cascade

        self.min_face = min_face
        self.max_side = max_side
        self.thresholds = thresholds
        self._cascade = Cascade((PNet(), RNet(), ONet()), device)

    def detect(self, image: Image.Image) -> list[DetectedFace]:
        """Return the faces of one RGB picture, the largest first."""
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[Image.Image]) -> list[list[DetectedFace]]:
        """Return the faces of each RGB picture, the largest first."""
        found = self._pass(images, self.thresholds)
        crops = [i for i, image in enumerate(images) if not found[i] and min(image.size) < _CROP_SIDE]
        for i, again in zip(crops, self._pass([images[i] for i in crops], (0.5, 0.5, 0.5), 0.84), strict=True):
            found[i] = again
        return [sorted(faces, key=lambda face: -face.area) for faces in found]

    def _pass(
        self, images: Sequence[Image.Image], thresholds: tuple[float, float, float], factor: float = 1.0
    ) -> list[list[DetectedFace]]:
        import torch

        views = [self._shrunk(image) for image in images]
        found: list[list[DetectedFace]] = [[] for _ in images]
        for batch in _same_size(images, views):
            short, long = sorted(views[batch[0]].shape[:2])
            scale = long / max(images[batch[0]].size)
            least = max(min(self.min_face * scale, 0.3 * short), _MTCNN_SIDE * long / self.max_side)
            pixels = torch.from_numpy(np.stack([views[i] for i in batch]))
            faces = self._cascade(pixels, least * factor, thresholds)
            parts = (faces.owner, faces.boxes, faces.points, faces.scores)
            for owner, box, points, score in zip(*(part.cpu().double().numpy() for part in parts), strict=True):
                i = batch[int(owner)]
                step = np.array(images[i].size) / (views[i].shape[1], views[i].shape[0])
                left, top, right, bottom = (box.reshape(2, 2) * step).flatten().tolist()
                face = DetectedFace((left, top, right, bottom), points * step, float(score))
                if np.isfinite(face.landmarks).all() and face.side > 0:
                    found[i].append(face)
        return found

    def _shrunk(self, image: Image.Image) -> np.ndarray:
        """Return (H, W, 3) uint8 pixels, no side longer than `max_side`."""
        scale = min(1.0, self.max_side / max(image.size))
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        return np.asarray(image if scale == 1 else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


class _View(NamedTuple):
    """A picture as a detector sees it: resized, with a border; picture pixel = (seen pixel - border) / scale."""

    pixels: np.ndarray
    scale: tuple[float, float]
    border: int


def _view(image: Image.Image, max_side: int) -> _View:
    """Enlarge small pictures, shrink large ones, and add a grey border.

    Tight crops (48x48, 100x100) show faces that touch the edge; without a border the network sees them cut off, and
    misses them or misplaces their landmarks.
    """
    width, height = image.size
    scale = min(max(1.0, _YUNET_SIDE / min(width, height)), max_side / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    resized = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
    border = min(size) // 4
    pixels = np.full((size[1] + 2 * border, size[0] + 2 * border, 3), 127, dtype=np.uint8)
    pixels[border : border + size[1], border : border + size[0]] = np.asarray(resized)
    return _View(pixels, (size[0] / width, size[1] / height), border)


def _face(view: _View, box: np.ndarray, landmarks: np.ndarray, score: float) -> DetectedFace:
    """Take one detection from a view's coordinates to the picture's."""
    corners = (np.asarray(box, dtype=float).reshape(2, 2) - view.border) / view.scale
    left, top, right, bottom = corners.flatten().tolist()
    points = (np.asarray(landmarks, dtype=float).reshape(5, 2) - view.border) / view.scale
    return DetectedFace((left, top, right, bottom), points, float(score))


class YuNetDetector:
    """YuNet (Wu, Peng, Yu 2023) by OpenCV's FaceDetectorYN, from an ONNX file that the user supplies.

    Its landmarks are less exact than MTCNN's. Pictures are enlarged to a short side of 320 pixels, or shrunk to a long
    side of `max_side`, and get a grey border.

    Args:
        onnx_path: the network, as published in OpenCV's model zoo (a version with dynamic or with fixed input size).
        min_score: faces below this confidence are dropped.
        max_side: longest side that the network sees, in pixels.

    Raises:
        MissingExtraError: opencv-python(-headless) is not installed, or too old to have FaceDetectorYN.
        BadInputError: the file is missing or not such a network.
    """

    def __init__(self, onnx_path: str | Path, min_score: float = 0.6, max_side: int = 1280) -> None:
        if not 0 < min_score < 1 or max_side < _YUNET_SIDE:
            raise WrongUseError(
                f"min_score must lie in (0, 1), max_side be at least {_YUNET_SIDE}; got {min_score}, {max_side}"
            )
        try:
            from cv2 import FaceDetectorYN
        except ImportError as error:
            raise MissingExtraError("opencv-python-headless", "faces", "finding faces with YuNet") from error
        if not Path(onnx_path).is_file():
            raise BadInputError(
                f"YuNet's network {onnx_path} does not exist; it is OpenCV's face_detection_yunet ONNX file"
            )
        self.max_side = max_side
        self._lock = threading.Lock()  # the network is told the size of the picture first
        try:
            self._network = FaceDetectorYN.create(str(onnx_path), "", (_YUNET_SIDE, _YUNET_SIDE), min_score)
        except Exception as error:  # cv2.error, or another kind for other damage
            raise BadInputError(f"{onnx_path} is not a YuNet network: {error}") from error

    def detect(self, image: Image.Image) -> list[DetectedFace]:
        """Return the faces of one RGB picture, the largest first."""
        view = _view(image, self.max_side)
        height, width = view.pixels.shape[:2]
        with self._lock:
            self._network.setInputSize((width, height))
            _, rows = self._network.detect(np.ascontiguousarray(view.pixels[:, :, ::-1]))  # OpenCV: B, G, R
        found = []
        for row in [] if rows is None else np.asarray(rows, dtype=float):
            left, top, wide, high = row[:4]
            # Its points start with the person's right eye, which is the left one in the picture: our order.
            found.append(_face(view, np.array([left, top, left + wide, top + high]), row[4:14], row[14]))
        return sorted((face for face in found if face.side > 0), key=lambda face: -face.area)

    def detect_batch(self, images: Sequence[Image.Image]) -> list[list[DetectedFace]]:
        """Return the faces of each RGB picture."""
        return [self.detect(image) for image in images]


def _same_size(images: Sequence[Image.Image], views: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """Yield the numbers of views that can run as one batch: of one size, before too, and not too many pixels together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, view in enumerate(views):
        groups.setdefault((*view.shape, *images[i].size), []).append(i)
    for members in groups.values():
        step = max(1, 3 * _BATCH_PIXELS // views[members[0]].size)
        yield from (members[i : i + step] for i in range(0, len(members), step))
