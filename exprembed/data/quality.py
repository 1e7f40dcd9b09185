"""How well a face can be judged: the detector's score, sharpness, head pose and size; and limits on them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

import numpy as np

from exprembed.data.landmarks import MEAN_FACE, five_points
from exprembed.errors import BadInputError, WrongUseError

_LUMA = np.array([0.299, 0.587, 0.114])
_FROM_MEAN_FACE = np.linalg.pinv(MEAN_FACE - MEAN_FACE.mean(axis=0)).T  # (5, 3)


@dataclass(frozen=True)
class FaceQuality:
    """The measures of one face, under the names they have in a face table; NaN where one is not known.

    Attributes:
        detection_score: the detector's confidence in [0, 1].
        sharpness: variance of the Laplacian of the crop at the model's size; see `sharpness`.
        yaw: degrees, positive towards the right of the picture; see `head_pose`.
        pitch: degrees, positive downwards.
        roll: degrees, positive clockwise.
        interocular: distance of the eye centres in pixels of the photo.
        box_width: width of the detector's box in pixels of the photo; it may reach beyond the photo.
        box_height: its height.
    """

    detection_score: float = math.nan
    sharpness: float = math.nan
    yaw: float = math.nan
    pitch: float = math.nan
    roll: float = math.nan
    interocular: float = math.nan
    box_width: float = math.nan
    box_height: float = math.nan

    def columns(self) -> dict[str, float]:
        """Return the measures by their names in a face table."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the known measures in one line.

        Example:
            >>> print(FaceQuality(detection_score=0.987, yaw=-12.3, pitch=4.0, roll=0.4, interocular=43.21))
            score 0.99, yaw -12, pitch +4, roll +0, eyes 43 px apart
        """
        box = f"box {self.box_width:.0f} x {self.box_height:.0f} px" if math.isfinite(self.box_width) else ""
        known = (
            ("score {:.2f}", self.detection_score),
            ("sharpness {:.0f}", self.sharpness),
            ("yaw {:+.0f}", self.yaw),
            ("pitch {:+.0f}", self.pitch),
            ("roll {:+.0f}", self.roll),
            ("eyes {:.0f} px apart", self.interocular),
        )
        texts = [text.format(value) for text, value in known if math.isfinite(value)]
        return ", ".join([*texts, box] if box else texts)


MEASURES = tuple(field.name for field in fields(FaceQuality))
"""The columns of a face table that hold measures."""


@dataclass(frozen=True)
class FaceLimits:
    """What a face must measure to be kept; None sets no limit.

    Attributes:
        min_face: least shorter side of the box in pixels. A file taken for a face as it is has no box, and passes.
        min_score: least score of the detector, in [0, 1].
        min_sharpness: least `sharpness`.
        max_yaw: largest turn to either side, in degrees.
        max_pitch: largest turn up or down, in degrees.

    Raises:
        WrongUseError: a limit that is negative or not finite, or a score above 1.

    Example:
        >>> FaceLimits(min_face=40, max_yaw=30).reason(FaceQuality(box_width=90, box_height=120, yaw=-41.3))
        'yaw -41.3, beyond 30 (max_yaw)'
    """

    min_face: float = 20.0
    min_score: float | None = None
    min_sharpness: float | None = None
    max_yaw: float | None = None
    max_pitch: float | None = None

    def __post_init__(self) -> None:
        """Refuse limits that no face or every face meets by mistake."""
        for name, value in asdict(self).items():
            if value is not None and not 0 <= value < math.inf:
                raise WrongUseError(f"{name} is a finite number from 0 up; got {value}")
        if self.min_score is not None and self.min_score > 1:
            raise WrongUseError(f"min_score is a confidence in [0, 1]; got {self.min_score}")

    def reason(self, quality: FaceQuality) -> str | None:
        """Say which limits a face fails, with its values; None where it is kept. An unknown measure fails its limit."""
        side = min(quality.box_width, quality.box_height)
        rules = (
            ("box of {:.0f} pixels", side, self.min_face if math.isfinite(side) else None, "min_face"),
            ("score {:.2f}", quality.detection_score, self.min_score, "min_score"),
            ("sharpness {:.1f}", quality.sharpness, self.min_sharpness, "min_sharpness"),
            ("yaw {:.1f}", quality.yaw, self.max_yaw, "max_yaw"),
            ("pitch {:.1f}", quality.pitch, self.max_pitch, "max_pitch"),
        )
        failed = []
        for text, value, limit, name in rules:
            if limit is None:
                continue
            if math.isnan(value):
                failed.append(f"{name.partition('_')[2]} unknown, limit {limit:g} ({name})")
            elif value < limit if name.startswith("min") else abs(value) > limit:
                word = "below" if name.startswith("min") else "beyond"
                failed.append(f"{text.format(value)}, {word} {limit:g} ({name})")
        return "; ".join(failed) or None


def sharpness(pixels: np.ndarray) -> float:
    """Return the variance of the Laplacian of a picture: low where it is blurred, enlarged or flat.

    With luma Y = 0.299 R + 0.587 G + 0.114 B in 0..255 and
    L(x, y) = Y(x-1, y) + Y(x+1, y) + Y(x, y-1) + Y(x, y+1) - 4 Y(x, y) at the (H - 2)(W - 2) inner pixels, the measure is
    1/n sum (L - mean L)^2. It depends on the size, so that of a face is taken on its crop as cut for a model, at
    the model's size, before contrast is equalised. Noise counts as detail.

    Args:
        pixels: (H, W) or (H, W, 3) with values in 0..255, H and W at least 3.

    Returns:
        A number from 0 up; at 48 pixels, faces in clear photos have hundreds to thousands.

    Raises:
        BadInputError: another shape.

    Example:
        >>> sharpness(np.full((8, 8), 200, np.uint8)), sharpness(np.eye(3) * 90)
        (0.0, 0.0)
        >>> sharpness(np.kron([[0, 1], [1, 0]], np.full((4, 4), 255, np.uint8))) > 10_000
        True
    """
    grey = np.asarray(pixels)
    if grey.ndim == 3 and grey.shape[2] == 3:
        grey = grey @ _LUMA
    if grey.ndim != 2 or min(grey.shape) < 3:
        raise BadInputError(f"(H, W) or (H, W, 3) of at least 3 x 3 pixels is due; got {np.shape(pixels)}")
    y = grey.astype(np.float64)
    laplacian = y[:-2, 1:-1] + y[2:, 1:-1] + y[1:-1, :-2] + y[1:-1, 2:] - 4 * y[1:-1, 1:-1]
    return float(laplacian.var())


def head_pose(landmarks: np.ndarray) -> tuple[float, float, float]:
    """Estimate yaw, pitch and roll of a head in degrees from five points, by the mean face seen from afar.

    With P (5, 2) the points and M (5, 3) those of `MEAN_FACE`, both about their means, the (2, 3) matrix
    A = P^T M (M^T M)^-1 maps the mean face onto the picture in the least squares. Its rows, scaled to length 1, are the
    first two rows i, j of the head's rotation, and k = i x j / |i x j| the third (the step "POS" of DeMenthon and
    Davis 1995). As R = R_roll R_pitch R_yaw: yaw = atan2(-k_x, k_z), pitch = -asin(k_y), roll = atan2(-i_y, j_y).

    Nose and mouth differ from face to face, and mouths move: yaw is good to some degrees, pitch to some ten.
    Pitch 0 is that of the average photo, and a smile or a long nose reads as looking down.

    Args:
        landmarks: (5, 2) or (68, 2) pixels; see `five_points`.

    Returns:
        yaw, positive where the face turns to the right of the picture; pitch, positive downwards; roll, positive
        clockwise. NaN where the points lie on a line.

    Raises:
        BadInputError: another shape.

    Example:
        >>> points = np.array([[30, 40], [70, 40], [58, 63], [33, 84], [67, 84]])  # the nose is right of the middle
        >>> round(head_pose(points)[0])
        22
    """
    points = five_points(landmarks)
    first, second = (points - points.mean(axis=0)).T @ _FROM_MEAN_FACE
    third = np.cross(first, second)
    if not np.linalg.norm(third) > 1e-9 * max(first @ first, second @ second):
        return math.nan, math.nan, math.nan
    third /= np.linalg.norm(third)
    yaw, pitch = math.atan2(-third[0], third[2]), -math.asin(np.clip(third[1], -1, 1))
    roll = math.atan2(-first[1] / np.linalg.norm(first), second[1] / np.linalg.norm(second))
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def measure_face(
    pixels: np.ndarray | None = None,
    landmarks: np.ndarray | None = None,
    box: tuple[float, float, float, float] | None = None,
    score: float = math.nan,
) -> FaceQuality:
    """Return what can be measured on a face of which some things are known.

    Args:
        pixels: the crop at the model's size, (S, S) or (S, S, 3) in 0..255.
        landmarks: (5, 2) or (68, 2) pixels of the photo; or (2, 2), the eyes alone, which give roll and size.
        box: left, top, right, bottom in pixels of the photo.
        score: the detector's confidence.

    Returns:
        The measures; NaN for those that need what was not given.

    Raises:
        BadInputError: pixels or landmarks of another shape.

    Example:
        >>> measure_face(landmarks=np.array([[10, 10], [40, 50]])).interocular
        50.0
    """
    left, top, right, bottom = box or (0.0, 0.0, math.nan, math.nan)
    yaw = pitch = roll = interocular = math.nan
    if landmarks is not None:
        points = np.asarray(landmarks, dtype=float)
        eyes = points if points.shape == (2, 2) else five_points(points)[:2]
        across, down = (eyes[1] - eyes[0]).tolist()
        interocular, roll = math.hypot(across, down), math.degrees(math.atan2(down, across))
        if eyes is not points:
            yaw, pitch, roll = head_pose(points)
    sharp = math.nan if pixels is None else sharpness(pixels)
    return FaceQuality(float(score), sharp, yaw, pitch, roll, interocular, right - left, bottom - top)
