"""Faces held out by their picture, so that copies stay on one side."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from exprembed.data.images import open_image
from exprembed.data.tables import FaceTable
from exprembed.errors import WrongUseError


def held_out(faces: FaceTable, share: float, advance: Callable[[int], None] = lambda _: None) -> np.ndarray:
    """Say which faces a share of all holds out: (n,) bool, a function of each face's pixels alone.

    Exact copies of a picture stay together, two stages of a method hold out the same faces, and a larger share holds out
    the same and more.

    Args:
        faces: paths of pictures.
        share: in [0, 1].
        advance: called with 1 as each picture has been looked at.

    Raises:
        WrongUseError: a share outside [0, 1].
        BadInputError: a picture that cannot be read.
    """
    if not 0 <= share <= 1:
        raise WrongUseError(f"share must be in [0, 1]; got {share}")
    if share == 0:
        return np.zeros(len(faces), bool)
    places = np.empty(len(faces))
    for row, path in enumerate(faces["path"]):
        places[row] = int.from_bytes(picture_digest(path)[:4]) / 2**32
        advance(1)
    held: np.ndarray = places < share
    return held


def picture_digest(path: str) -> bytes:
    """Return the SHA-256 of a picture's pixels as upright RGB; equal for exact copies in whatever file format."""
    return hashlib.sha256(np.asarray(open_image(path)).tobytes()).digest()
