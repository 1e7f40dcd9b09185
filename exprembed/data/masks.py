"""Masks of eyes and mouth from 68 landmarks: what a network that looks there should colour in."""

from __future__ import annotations

from typing import Any

import numpy as np

from exprembed.data.images import open_image
from exprembed.data.tables import FaceTable
from exprembed.errors import BadInputError

# Of 68 points, counted from 0: both eyes and the outer line of the lips. Points 61-68, the inner line, lie within it.
_OUTLINES = (slice(36, 42), slice(42, 48), slice(48, 60))


def eye_mouth_mask(landmarks: Any, size: int) -> np.ndarray:  # noqa: ANN401 - anything that an array is made of
    """Return the binary mask of both eyes and the mouth: 1 where a pixel's centre lies within an outline, 0 elsewhere.

    m = union of the polygons of points 37-42 (eye), 43-48 (eye) and 49-60 (mouth, with 61-68 inside it)

    Within is by the even-odd rule. What lies beyond the picture is cut off; an eye that is shut may hold no pixel.

    Paper: Antoniadis, NTUA thesis 2021, section 5.1.2. Deviation: none.

    Args:
        landmarks: (68, 2) in iBUG's order, x and y in pixels of a picture of `size` x `size`; pixel i spans [i, i + 1).
        size: side of the mask in pixels.

    Returns:
        (size, size) uint8 of 0 and 1.

    Raises:
        BadInputError: another shape, or points that are not finite.

    Example:
        >>> points = np.zeros((68, 2))
        >>> points[48:60] = [[2, 6], [2, 6], [2, 6], [6, 6], [6, 6], [6, 6], [6, 9], [6, 9], [6, 9], [2, 9], [2, 9], [2, 9]]
        >>> eye_mouth_mask(points, 10)[7].tolist()
        [0, 0, 1, 1, 1, 1, 0, 0, 0, 0]
    """
    points = np.asarray(landmarks, dtype=float)
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise BadInputError(f"(68, 2) finite points in iBUG's order are due; got {points.shape}")
    mask = np.zeros((size, size), np.uint8)
    for outline in _OUTLINES:
        mask[_filled(points[outline], size)] = 1
    return mask


def _filled(polygon: np.ndarray, size: int) -> np.ndarray:
    """Return which pixel centres lie within a polygon (k, 2), by counting the edges to their left: (size, size) bool."""
    centres, following = np.arange(size) + 0.5, np.roll(polygon, -1, axis=0)
    crossed = (polygon[:, None, 1] <= centres) != (following[:, None, 1] <= centres)
    edge, row = np.nonzero(crossed)
    (x, y), (dx, dy) = polygon[edge].T, (following - polygon)[edge].T
    at = x + (centres[row] - y) / dy * dx
    turns = np.zeros((size, size + 1), int)
    np.add.at(turns, (row, np.clip(np.ceil(at - 0.5), 0, size).astype(int)), 1)
    inside: np.ndarray = turns.cumsum(axis=1)[:, :size] % 2 == 1
    return inside


def relative_landmarks(faces: FaceTable) -> np.ndarray:
    """Return the faces' 68 points in fractions of the width and the height of their pictures.

    Crops are resized to a model's input as they are, so that fractions hold in it too.

    Args:
        faces: with `landmarks`, 136 numbers x0, y0, x1, y1 ... or (68, 2), in pixels of the file that `path` names; missing
            where unknown.

    Returns:
        (n, 68, 2) float32, NaN for a face without landmarks.

    Raises:
        BadInputError: no such column, no face with landmarks, landmarks of another number of points, an unreadable picture.
    """
    if "landmarks" not in faces or faces["landmarks"].isna().all():
        raise BadInputError("masks of eyes and mouth need the faces' column 'landmarks' (68 points in pixels)")
    table = np.full((len(faces), 68, 2), np.nan, np.float32)
    for row in np.flatnonzero(faces["landmarks"].notna()).tolist():
        points = np.asarray(list(faces["landmarks"].iloc[row]), dtype=float)
        if points.size != 136:
            raise BadInputError(
                f"face {faces.index[row]!r} has landmarks of {points.shape}; (68, 2) or 136 numbers are due"
            )
        table[row] = points.reshape(68, 2) / open_image(faces["path"].iloc[row]).size
    return table
