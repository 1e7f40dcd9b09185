"""When a photo was taken, by what its camera wrote into it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

_DATE_TIME, _EXIF = 0x0132, 0x8769
_ORIGINAL, _SUBSEC_ORIGINAL = 0x9003, 0x9291


def taken_at(path: str | Path) -> float | None:
    """Return when a photo was taken, in seconds by the camera's own clock, to be compared with others of that clock.

    EXIF `DateTimeOriginal` with its fraction of a second, else `DateTime`; None where neither is there or can be read. Time zones are
    not looked at. The file's own dates tell when it was copied, and are not taken.
    """
    try:
        with Image.open(path) as picture:
            exif = picture.getexif()
            details = exif.get_ifd(_EXIF)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    fraction = str(details.get(_SUBSEC_ORIGINAL, "")).strip().strip("\0")
    for text, rest in ((details.get(_ORIGINAL), fraction), (exif.get(_DATE_TIME), "")):
        try:
            moment = datetime.strptime(str(text).strip().strip("\0"), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
        except ValueError:
            continue
        return moment.timestamp() + (float(f"0.{rest}") if rest.isdecimal() and rest.isascii() else 0.0)
    return None
