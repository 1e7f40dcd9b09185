"""Video in: frames as upright pictures with their times, one after the other, however long the film is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from exprembed.data.images import MAX_PIXELS
from exprembed.errors import BadInputError, MissingExtraError, WrongUseError

VIDEO_SUFFIXES = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"))
"""File name endings (lower case) that are taken for films."""


class Frame(NamedTuple):
    """One picture of a film: its number among all frames, its time in seconds from the start, and itself."""

    number: int
    time: float
    image: Image.Image


def read_frames(path: str | Path, fps: float | None = None, max_pixels: int = MAX_PIXELS) -> Iterator[Frame]:
    """Yield the frames of a film in order; only a few are in memory at a time.

    Args:
        path: the film; whatever PyAV's FFmpeg reads.
        fps: frames taken a second: of each interval of 1 / fps seconds the first frame. None takes all.
        max_pixels: largest width x height that is taken.

    Yields:
        Frames as upright 8-bit RGB. Times begin at 0 whatever the file's clock says; a frame without a time of its own
        gets that of the frame before, plus one by the stream's rate.

    Raises:
        BadInputError: missing, no film, without pictures, or too large; a film that breaks off raises after the frames before.
        WrongUseError: fps that is not positive.
        MissingExtraError: PyAV is not installed.
    """
    if fps is not None and not fps > 0:
        raise WrongUseError(f"fps is the number of frames taken a second, above 0; got {fps}")
    if not Path(path).is_file():
        raise BadInputError(f"{path} does not exist")
    av = import_av()
    try:
        with av.open(str(path), mode="r") as film:
            if not film.streams.video:
                raise BadInputError(f"{path} has no pictures in it, only {len(film.streams)} other streams")
            stream = film.streams.video[0]
            if stream.width * stream.height > max_pixels:
                raise BadInputError(
                    f"{path} has frames of {stream.width} x {stream.height} pixels, more than the limit of {max_pixels:,}"
                )
            stream.thread_type = "AUTO"
            yield from _taken(film.decode(stream), float(stream.average_rate or 25), fps)
    except BadInputError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadInputError(f"{path} is not a film that can be read, or breaks off: {error}") from error


def import_av() -> Any:  # noqa: ANN401 - untyped
    """Return PyAV; where it is not installed, raise MissingExtraError."""
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("av", "video", "reading films") from error
    return av


def _taken(frames: Iterator[Any], rate: float, fps: float | None) -> Iterator[Frame]:
    first: float | None = None
    time, wanted = -1 / rate, 0
    for number, frame in enumerate(frames):
        if frame.time is None:
            time += 1 / rate
        else:
            first = float(frame.time) if first is None else first
            time = float(frame.time) - first
        if fps is not None:
            interval = int(time * fps + 1e-6)
            if interval < wanted:
                continue
            wanted = interval + 1
        image: Image.Image = frame.to_image()
        turn = int(getattr(frame, "rotation", 0)) % 360
        yield Frame(number, time, image.rotate(turn, expand=True) if turn else image)
