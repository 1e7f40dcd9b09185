"""Points of a face: five or 68 of them, the mean face, and the similarity transform that fits points to points.

Coordinates are continuous pixels, x to the right and y down; "left" and "right" are those of the picture. Five points
are the left eye, the right eye, the nose tip, the left and the right corner of the mouth; 68 points are in iBUG's order.
"""

from __future__ import annotations

import numpy as np

from exprembed.errors import BadInputError

_LEFT_EYE, _RIGHT_EYE = slice(36, 42), slice(42, 48)  # of 68, counted from 0: the papers' 37-42 and 43-48
_NOSE_TIP, _MOUTH_LEFT, _MOUTH_RIGHT = 30, 48, 54

MEAN_FACE = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.58, 0.55], [-0.42, 1.10, 0.12], [0.42, 1.10, 0.12]])
"""(5, 3): x, y and depth of the five points in inter-ocular distances, the origin between the eyes, z to the viewer.

x and y: mean of MTCNN's points on FER+'s training pictures, each face and its mirror image brought together by
similarity transforms (Procrustes); a test repeats it. z is a choice: that of the drawn faces, rounded.
"""
MEAN_FACE.setflags(write=False)


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Return five points of a face given by five or by 68; of 68, the eyes are the centroids of their six points.

    Args:
        landmarks: (5, 2) or (68, 2) pixels.

    Returns:
        (5, 2) float: left eye, right eye, nose tip, left and right corner of the mouth.

    Raises:
        BadInputError: another shape.

    Example:
        >>> five_points(np.arange(136.0).reshape(68, 2))[2].tolist()
        [60.0, 61.0]
    """
    points = np.asarray(landmarks, dtype=float)
    if points.shape == (5, 2):
        return points
    return np.vstack([eye_centroids(points), points[[_NOSE_TIP, _MOUTH_LEFT, _MOUTH_RIGHT]]])


def eye_centroids(landmarks: np.ndarray) -> np.ndarray:
    """Return the eye centres of a face of 68 points: l = 1/6 sum of points 37-42, r = 1/6 sum of points 43-48.

    Args:
        landmarks: (68, 2) pixels.

    Returns:
        (2, 2) float, the left eye first.

    Raises:
        BadInputError: another shape.

    Example:
        >>> eye_centroids(np.arange(136.0).reshape(68, 2)).tolist()
        [[77.0, 78.0], [89.0, 90.0]]
    """
    points = np.asarray(landmarks, dtype=float)
    if points.shape != (68, 2):
        raise BadInputError(f"a face of (68, 2) points in iBUG's order is due; got {points.shape}")
    return np.stack([points[_LEFT_EYE].mean(axis=0), points[_RIGHT_EYE].mean(axis=0)])


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the similarity transform that brings points closest to others, in the least squares (Umeyama 1991).

    Minimises sum_i |s R p_i + t - q_i|^2 over scale s > 0, rotation R (no reflection) and shift t. In the plane, with
    points as complex numbers and p', q' those about their means: s R is the factor c = sum conj(p') q' / sum |p'|^2, and
    t = mean(q) - c mean(p), which is Umeyama's solution without its singular value decomposition.

    Args:
        source: (n, 2) points p, n >= 2.
        target: (n, 2) points q.

    Returns:
        (2, 3) matrix [s R | t].

    Raises:
        BadInputError: sets that do not match, points that are not finite, that coincide, or that no turn and scale
            brings any closer.

    Example:
        >>> fit_similarity(np.array([[0, 0], [2, 0]]), np.array([[5, 5], [5, 9]])).round(6).tolist()
        [[0.0, -2.0, 5.0], [2.0, 0.0, 5.0]]
    """
    both = [np.asarray(points, dtype=float) for points in (source, target)]
    if both[0].shape != both[1].shape or both[0].ndim != 2 or both[0].shape[1] != 2:
        raise BadInputError(f"two sets of (n, 2) points are due; got {both[0].shape} and {both[1].shape}")
    if not np.isfinite(both).all():
        raise BadInputError(f"finite points are due; got {np.round(both[0], 2).tolist()}")
    p, q = (points[:, 0] + 1j * points[:, 1] for points in both)
    away_p, away_q = p - p.mean(), q - q.mean()
    spread, match = np.vdot(away_p, away_p).real, np.vdot(away_p, away_q)
    if not spread > 1e-12 or not abs(match) > 1e-9 * spread:
        raise BadInputError(f"points that differ are due; got {np.round(both[0], 2).tolist()}")
    factor = match / spread
    shift = q.mean() - factor * p.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])
