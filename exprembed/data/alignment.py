"""A face cut out upright and to scale, by the similarity transform that puts its eyes in their places.

Coordinates are continuous pixels of the upright picture: (0, 0) is the top left corner of the top left pixel, whose
centre lies at (0.5, 0.5). "Left" and "right" are those of the picture, not of the person.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from exprembed.data.landmarks import eye_centroids, fit_similarity
from exprembed.data.preprocessing import Alignment
from exprembed.errors import BadInputError, WrongUseError

_POINTS_OF = {"eyes": (2, 5), "eye_centroids": (2, 68), "five_points": (2, 5)}


def align_face(
    image: Image.Image, landmarks: np.ndarray, alignment: Alignment | None = None, size: int = 224
) -> Image.Image:
    """Cut out one face upright and to scale, by the similarity transform that puts the eyes where `alignment` says.

    With eye centres l and r (see `eye_places`), d = r - l and side s: the transform turns by -atan2(d_y, d_x), scales by
    s * interocular / |d|, and moves (l + r) / 2 to (s / 2, s * eye_height). A face that shrinks is first resized with
    anti-aliasing to its final scale, then turned with bicubic interpolation. Beyond the picture the edge pixels repeat.

    Args:
        image: the upright picture; its mode (RGB or L) is that of the crop.
        landmarks: (5, 2) or (2, 2) pixel coordinates, the left eye first, then the right eye; (68, 2) for an alignment of
            the kind "eye_centroids".
        alignment: place of the eyes; Alignment() where None, the geometry of the FEC paper (section 4.1).
        size: side s of the square crop in pixels.

    Returns:
        Picture of size (size, size).

    Raises:
        BadInputError: landmarks of another shape than the alignment takes, not finite, with coinciding eyes, or a face
            beside the picture.

    Example:
        >>> photo = Image.new("RGB", (300, 200), "gray")
        >>> align_face(photo, np.array([[120.0, 90.0], [180.0, 90.0]]), size=96).size
        (96, 96)
    """
    if size < 1:
        raise WrongUseError(f"size is the side of the crop in pixels, at least 1; got {size}")
    plan = alignment or Alignment()
    eyes = eye_places(landmarks, plan)
    to_source = _crop_to_source(eyes, plan, size)
    corners = to_source @ np.array([[0, size, 0, size], [0, 0, size, size], [1, 1, 1, 1]], dtype=float)
    low, high = np.floor(corners.min(axis=1)), np.ceil(corners.max(axis=1))
    start = np.maximum(low, 0).astype(int)
    stop = np.minimum(high, image.size).astype(int)
    if (start >= stop).any():
        raise BadInputError(
            f"the face lies beside the picture: eyes at {np.round(eyes, 1).tolist()}, size {image.size}"
        )
    shrink = max(1.0, math.hypot(to_source[0, 0], to_source[1, 0]))
    scaled = np.maximum(1, np.round((stop - start) / shrink)).astype(int)
    part = image.resize((scaled[0], scaled[1]), Image.Resampling.BICUBIC, box=(*start, *stop))
    factor = (stop - start) / scaled
    # A margin of four pixels keeps the bicubic window inside; the repeated edge costs memory at the final scale only.
    before = np.ceil((start - low) / factor).astype(int) + 4
    after = np.ceil((high - stop) / factor).astype(int) + 4
    pixels = np.asarray(part)
    sides = ((before[1], after[1]), (before[0], after[0]), (0, 0))[: pixels.ndim]
    padded = Image.fromarray(np.pad(pixels, sides, mode="edge"))
    matrix = (to_source - np.array([[0, 0, start[0]], [0, 0, start[1]]])) / factor[:, None]
    matrix[:, 2] += before
    return padded.transform((size, size), Image.Transform.AFFINE, matrix.flatten().tolist(), Image.Resampling.BICUBIC)


def eye_places(landmarks: np.ndarray, alignment: Alignment) -> np.ndarray:
    """Return the two points of the picture that an alignment puts in the eyes' places of the crop.

    "eyes": the first two points. "eye_centroids": the centroids of points 37-42 and 43-48. "five_points": the inverse of
    `fit_similarity(landmarks, alignment.template)`, applied to the template's eyes. Two points are the eye centres
    themselves, whatever the kind; so a crop cut once is cut again by its eye places alone.

    Args:
        landmarks: (2, 2); or (5, 2), and (68, 2) for "eye_centroids".
        alignment: says which points count.

    Returns:
        (2, 2) float pixels, the left eye first.

    Raises:
        BadInputError: another shape, points that are not finite, or coinciding eyes.

    Example:
        >>> eye_places(np.arange(10).reshape(5, 2), Alignment()).tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    points = np.asarray(landmarks, dtype=float)
    takes = _POINTS_OF[alignment.kind]
    if points.ndim != 2 or points.shape[1] != 2 or len(points) not in takes:
        raise BadInputError(
            f"landmarks for the alignment {alignment.kind!r} are {' or '.join(f'({n}, 2)' for n in takes)}, left eye and "
            f"right eye first in fewer than 68; got {points.shape}"
        )
    eyes = points[:2]
    if len(points) == 68:
        eyes = eye_centroids(points)
    elif len(points) == 5 and alignment.kind == "five_points":
        template = alignment.template
        to_crop = fit_similarity(points, template)
        eyes = np.linalg.solve(to_crop[:, :2], (template[:2] - to_crop[:, 2]).T).T
    if not np.isfinite(eyes).all() or math.dist(*eyes) < 1e-6:
        raise BadInputError(f"two different finite eye centres are due; got {' and '.join(map(str, eyes.tolist()))}")
    return eyes


def _crop_to_source(eyes: np.ndarray, alignment: Alignment, size: int) -> np.ndarray:
    """Return the (2, 3) affine matrix that takes crop coordinates to picture coordinates."""
    left, right = eyes
    a, b = (right - left) / (size * alignment.interocular)  # cosine and sine times picture pixels a crop pixel
    linear = np.array([[a, -b], [b, a]])
    middle = np.array([size / 2, size * alignment.eye_height])
    return np.column_stack([linear, (left + right) / 2 - linear @ middle])
