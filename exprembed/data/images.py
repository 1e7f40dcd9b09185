"""Images in: any picture file as 8-bit RGB, upright; any mix of files, folders and globs as a list of paths."""

from __future__ import annotations

import glob
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from exprembed.errors import BadInputError
from exprembed.files import Skipped

_PHOTOS = (
    ".avif",
    ".gif",
    ".heic",
    ".heif",
    ".jfif",
    ".jp2",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".mpo",
    ".png",
    ".tif",
    ".tiff",
    ".webp",
)
_BITMAPS = (".bmp", ".pbm", ".pgm", ".pnm", ".ppm")
IMAGE_SUFFIXES = frozenset((*_PHOTOS, *_BITMAPS))
"""File name endings (lower case) that a folder search takes for images."""

MAX_PIXELS = 64_000_000
# Only decoders that read pixels: Pillow's EPS plugin, for one, would run an interpreter on the file.
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_HEIC = rb".{4}ftyp(hei|hev|mif1|msf1)"
_SIGNATURES = (
    (rb"\s*<(!doctype\s+html|html|head|body)", "an HTML page (a download that answered with an error page?)"),
    (rb"\s*(<\?xml[^>]*>\s*)?<svg", "an SVG drawing; export it as PNG"),
    (rb"\s*<\?xml", "an XML document"),
    (rb"\s*[{\[]\s*[\"{\[]", "a JSON document"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself; run 'git lfs pull'"),
    (rb"%PDF", "a PDF document; export its pages as PNG"),
    (rb"%!PS", "a PostScript document; export it as PNG"),
    (rb"PK\x03\x04", "a ZIP archive; unpack it"),
    (rb"\x1f\x8b", "a gzip archive; unpack it"),
    (_HEIC, "an HEIC photo; install exprembed[heic] to read it, or convert it to JPEG or PNG"),
    (rb".{4}ftyp", "a video; extract its frames as PNG or JPEG"),
)


def open_image(source: str | Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open one picture as upright 8-bit RGB, fully decoded.

    EXIF rotation is applied. Grey, 1-bit, palette, CMYK and YCbCr pictures become RGB (embedded colour profiles are
    ignored); transparent pixels are laid over white; 16-bit pixels are scaled by 255 / 65535, never clipped; of an
    animation or a multi-page file the first frame counts. 32-bit integer and float pictures are refused: their files
    do not say which value is white.

    Args:
        source: path of a file, or the bytes of one. AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TIFF and
            WebP are known, and HEIC where pillow-heif is installed (extra `heic`).
        max_pixels: largest width x height that is decoded; the check precedes the decoding.

    Returns:
        Picture of mode RGB, size (width, height).

    Raises:
        BadInputError: missing, empty, unreadable, truncated, not an image, or larger than `max_pixels`; the message
            names the file and says what it looks like.

    Example:
        >>> buffer = io.BytesIO()
        >>> Image.new("L", (4, 3), 200).save(buffer, "PNG")
        >>> picture = open_image(buffer.getvalue())
        >>> picture.mode, picture.size, picture.getpixel((0, 0))
        ('RGB', (4, 3), (200, 200, 200))
    """
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), f"image data of {len(source)} bytes", max_pixels)
    name = str(source)
    try:
        path = Path(source)
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise BadInputError(f"{name} is a folder where an image file is due")
        if not stat.S_ISREG(mode):  # reading a pipe or a device could wait for ever
            raise BadInputError(f"{name} is not a regular file")
        with path.open("rb") as file:
            return _decode(file, name, max_pixels)
    except FileNotFoundError as error:
        raise BadInputError(f"{name} does not exist") from error
    except PermissionError as error:
        raise BadInputError(f"{name} cannot be read: permission denied") from error
    except (OSError, ValueError) as error:
        if isinstance(error, BadInputError):
            raise
        raise BadInputError(f"{name} cannot be read: {error}") from error


def to_rgb(image: Image.Image, name: str = "the image") -> Image.Image:
    """Bring a Pillow picture of any mode to upright 8-bit RGB by the rules of `open_image`.

    Raises:
        BadInputError: 32-bit pixels, whose range is unknown; a lazily opened file that cannot be decoded. `name` stands
            for the picture in the message.

    Example:
        >>> to_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    try:
        image.load()
        return _converted(image, name)
    except BadInputError:
        raise
    except Exception as error:  # on broken files the decoders raise nearly anything
        raise BadInputError(f"{name} is a truncated or broken {image.format or 'image'} file: {error}") from error


def find_images(
    paths: str | Path | Iterable[str | Path], suffixes: frozenset[str] = IMAGE_SUFFIXES
) -> tuple[list[Path], list[Skipped]]:
    """List the image files named by files, folders and glob patterns.

    A file given by name is taken whatever its suffix; folders (searched to any depth, links followed, each real folder
    once) and patterns give the files with one of the `suffixes`, sorted. A path given twice comes once. Nothing is
    opened here: a file that turns out not to be an image fails in `open_image`.

    Args:
        paths: one path or several. A name that exists is never read as a pattern.
        suffixes: file name endings (lower case) that folders and patterns give.

    Returns:
        The files, and what was left out: folders that cannot be read or hold no image, dangling links, names that
        are not valid Unicode (no table can store them).

    Raises:
        BadInputError: a path that does not exist, a pattern without a match, or no image at all.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (2, 2)).save(folder / "b.png")
        >>> (folder / "notes.txt").touch()
        >>> [path.name for path in find_images(folder)[0]]
        ['b.png']
    """
    asked = [paths] if isinstance(paths, str | Path) else list(paths)
    skipped: list[Skipped] = []
    found: dict[Path, None] = {}
    visited: set[tuple[int, int]] = set()
    for item in asked:
        for path in _matches(item):
            if path.is_dir():
                before = len(visited)
                inside = list(_walk(path, visited, skipped, suffixes))
                if not inside and len(visited) > before:
                    skipped.append(Skipped(str(path), "folder without images"))
                found |= dict.fromkeys(inside)
            elif path == Path(item) or path.suffix.lower() in suffixes:
                found[path] = None
    named = [path for path in found if _is_unicode(path)]
    skipped += [Skipped(str(path), "file name is not valid Unicode") for path in found if not _is_unicode(path)]
    if not named:
        where = ", ".join(map(str, asked)) or "an empty list"
        why = f" ({skipped[0].item}: {skipped[0].reason})" if skipped else ""
        raise BadInputError(f"no image in {where:.300}{why}; suffixes looked for: {' '.join(sorted(suffixes))}")
    return named, skipped


def describe_bytes(head: bytes) -> str:
    """Say what the first bytes of a file look like, for an error message.

    Example:
        >>> describe_bytes(b"%PDF-1.7")
        'looks like a PDF document; export its pages as PNG'
    """
    if not head:
        return "is empty (0 bytes)"
    for pattern, what in _SIGNATURES:
        if re.match(pattern, head, re.IGNORECASE | re.DOTALL):
            return f"looks like {what}"
    try:
        text = head[:64].decode("utf-8", errors="strict")
    except UnicodeDecodeError:
        text = ""
    if text and all(character.isprintable() or character.isspace() for character in text):
        return f"looks like text: {text.strip()[:40]!r}"
    if not any(head):
        return "holds only zero bytes"
    return f"is of an unknown kind (first bytes {head[:8].hex(' ')})"


def _decode(file: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    head = file.read(512)
    file.seek(0)
    if not head:
        raise BadInputError(f"{name} {describe_bytes(head)}")
    Image.init()
    if re.match(_HEIC, head, re.DOTALL):
        _read_heic()
    try:
        image: Image.Image = Image.open(file, formats=[known for known in _FORMATS if known in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise BadInputError(f"{name} is larger than Pillow's safety limit: {error}") from error
    except UnidentifiedImageError as error:
        raise BadInputError(f"{name} is not an image that can be read: it {describe_bytes(head)}") from error
    except Exception as error:  # on broken headers the decoders raise nearly anything
        raise BadInputError(f"{name} is a broken image: {error}") from error
    width, height = image.size
    if width * height > max_pixels:
        limit = f"the limit of {max_pixels:,} pixels (max_pixels); scale it down or raise the limit"
        raise BadInputError(f"{name} has {width} x {height} = {width * height:,} pixels, more than {limit}")
    return to_rgb(image, name)


def _read_heic() -> None:
    """Make Pillow read HEIC where pillow-heif is installed; where it is not, the file is named as what it is."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return
    if "HEIF" not in Image.OPEN:
        register_heif_opener()


def _converted(image: Image.Image, name: str) -> Image.Image:
    sixteen_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    image = ImageOps.exif_transpose(image)
    if sixteen_bit:
        # Pillow opens 16-bit PPM (and older ones PNG) as "I"; convert("RGB") would clip all above 255 to white.
        scaled = (np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535
        return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise BadInputError(f"{name} has 32-bit pixels whose range is unknown; save it with 8 or 16 bits")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _matches(item: str | Path) -> list[Path]:
    """Return what one argument stands for: itself when it exists, else the matches of its pattern."""
    path = Path(item)
    try:
        if path.exists():
            return [path]
    except (OSError, ValueError) as error:
        raise BadInputError(f"{item!s:.200} cannot be read: {error}") from error
    if not glob.has_magic(str(item)):
        raise BadInputError(f"{item} does not exist")
    matches = [Path(match) for match in sorted(glob.glob(str(item), recursive=True))]  # noqa: PTH207 - absolute patterns too
    if not matches:
        raise BadInputError(f"the pattern {item} matches no file")
    return matches


def _walk(
    folder: Path, visited: set[tuple[int, int]], skipped: list[Skipped], suffixes: frozenset[str]
) -> Iterator[Path]:
    """Yield the image files of a folder and its sub-folders in sorted order, each real folder once."""
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in visited:
            return
        visited.add((status.st_dev, status.st_ino))
        # Links last, so that a folder goes by its own name where it has one.
        entries = sorted(os.scandir(folder), key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError as error:
        skipped.append(Skipped(str(folder), f"folder cannot be read: {error.strerror}"))
        return
    for entry in entries:
        path = folder / entry.name
        if path.is_dir():  # unlike entry.is_dir(), False for a link to itself
            yield from _walk(path, visited, skipped, suffixes)
        elif path.suffix.lower() in suffixes:
            if path.exists():
                yield path
            else:
                skipped.append(Skipped(str(path), "dangling link"))


def _is_unicode(path: Path) -> bool:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
