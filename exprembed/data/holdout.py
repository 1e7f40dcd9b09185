"""Faces held out by their picture, so that copies stay on one side."""

from __future__ import annotations

import hashlib

import numpy as np

from exprembed.data.images import open_image
from exprembed.data.tables import FaceTable
from exprembed.errors import WrongUseError


def held_out(faces: FaceTable, share: float) -> np.ndarray:
    """Say which faces a share of all holds out: (n,) bool, a function of each face's pixels alone.

    Exact copies of a picture stay together, two stages of a method hold out the same faces, and a larger share holds out
    the same and more.

    Raises:
        WrongUseError: a share outside [0, 1].
        BadInputError: a picture that cannot be read.
    """
    if not 0 <= share <= 1:
        raise WrongUseError(f"share must be in [0, 1]; got {share}")
    if share == 0:
        return np.zeros(len(faces), bool)
    digests = (picture_digest(path) for path in faces["path"])
    return np.asarray([int.from_bytes(digest[:4]) / 2**32 for digest in digests]) < share


def picture_digest(path: str) -> bytes:
    """Return the SHA-256 of a picture's pixels as upright RGB; equal for exact copies in whatever file format."""
    return hashlib.sha256(np.asarray(open_image(path)).tobytes()).digest()
