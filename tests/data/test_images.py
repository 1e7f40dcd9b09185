"""Any picture file becomes upright RGB or a named error; any mix of paths becomes a list."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from exprembed.data.images import IMAGE_SUFFIXES, describe_bytes, find_images, open_image, to_rgb
from exprembed.errors import BadInputError


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width: int = 16, height: int = 12) -> Image.Image:
    ramp = np.linspace(0, 255, width * height).reshape(height, width)
    return Image.fromarray(np.stack([ramp, ramp[::-1], 255 - ramp], axis=2).astype(np.uint8))


def test_lossless_rgb_is_returned_unchanged(tmp_path):
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        path = tmp_path / f"a.{kind.lower()}"
        gradient().save(path, kind)
        assert np.array_equal(open_image(path), gradient()), kind
        assert np.array_equal(open_image(str(path)), open_image(path.read_bytes()))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "JPEG2000"])
def test_lossy_formats_are_close(kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    smooth = Image.new("RGB", (32, 32), (200, 100, 50))
    assert np.abs(np.asarray(open_image(encoded(smooth, kind))).astype(int) - np.asarray(smooth)).max() <= 4


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "LA", "RGBA"])
def test_every_mode_becomes_rgb(mode):
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    picture = open_image(encoded(Image.new("RGB", (8, 6), (255, 255, 255)).convert(mode), kind))
    assert (picture.mode, picture.size) == ("RGB", (8, 6))
    assert np.asarray(picture).min() >= 254


def test_cmyk_keeps_its_colour():
    red = open_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert np.asarray(red)[4, 4].tolist() == pytest.approx([255, 0, 0], abs=3)


def test_palette_keeps_its_colour():
    picture = gradient().quantize(16)
    assert np.array_equal(open_image(encoded(picture, "GIF")), picture.convert("RGB"))
    assert np.array_equal(open_image(encoded(picture, "TIFF")), picture.convert("RGB"))


def test_transparency_is_laid_over_white():
    clear = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    clear.putpixel((1, 0), (10, 20, 30, 255))
    assert np.asarray(open_image(encoded(clear, "PNG")))[0].tolist() == [[255, 255, 255], [10, 20, 30]]
    half = Image.new("LA", (1, 1), (0, 128))
    assert open_image(encoded(half, "PNG")).getpixel((0, 0)) == (127, 127, 127)
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 9, 9] * 256)
    assert open_image(encoded(palette, "PNG", transparency=0)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_is_scaled_not_clipped(kind):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    picture = np.asarray(open_image(encoded(Image.fromarray(values), kind)))
    expected = np.round(values.astype(np.float64) * 255 / 65535)
    assert np.array_equal(picture, np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_is_refused_with_the_fix(dtype):
    data = encoded(Image.fromarray(np.ones((2, 2), dtype=dtype)), "TIFF")
    with pytest.raises(BadInputError, match=r"32-bit pixels .* 8 or 16 bits"):
        open_image(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_once(kind, orientation):
    quarters = np.zeros((16, 32, 3), dtype=np.uint8)
    quarters[:8, :16], quarters[:8, 16:], quarters[8:, :16] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    # How the stored array has to be read for each value of the EXIF tag 274, as the standard words it.
    stored_as = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    picture = Image.fromarray(np.ascontiguousarray(stored_as(quarters)))
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    opened = np.asarray(open_image(encoded(picture, kind, exif=exif, **options))).astype(int)
    assert opened.shape == quarters.shape
    assert np.abs(opened - quarters)[4::8, 8::16].max() < 12  # the middle of each quarter


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert open_image(data).getpixel((3, 3)) == (255, 0, 0)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(BadInputError, match=r"nowhere\.jpg does not exist"):
        open_image(tmp_path / "nowhere.jpg")
    with pytest.raises(BadInputError, match="is a folder where an image file is due"):
        open_image(tmp_path)
    with pytest.raises(BadInputError, match="cannot be read"):
        open_image("a\0b.jpg")
    with pytest.raises(BadInputError, match="cannot be read"):
        open_image("x" * 5000)


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"\n <!DOCTYPE html><html><body>404", "looks like an HTML page"),
        (b"<HTML><head>", "looks like an HTML page"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "looks like an SVG drawing"),
        (b'{"error": "gone"}', "looks like a JSON document"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"Not found, sorry", "looks like text: 'Not found, sorry'"),
        (b"%PDF-1.7 ...", "looks like a PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "looks like a PostScript"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", r"HEIC photo; install exprembed\[heic\]"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "looks like a video"),
        (b"PK\x03\x04....", "ZIP archive"),
        (b"\0" * 600, "holds only zero bytes"),
        (b"\x93\xfe\x01\x02", r"unknown kind \(first bytes 93 fe 01 02\)"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, content, looks):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=looks) as caught:
        open_image(path)
    assert str(path) in str(caught.value)


def test_heic_photos_are_read_upright_where_pillow_heif_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="the extra 'heic' is not installed")
    picture = Image.new("RGB", (64, 32), "red")
    picture.paste("blue", (0, 0, 32, 32))
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter to the right
    heif.from_pillow(picture).save(tmp_path / "photo.heic", exif=exif.tobytes())
    read = open_image(tmp_path / "photo.heic")
    assert read.mode == "RGB"
    assert read.size == (32, 64)
    assert read.getpixel((16, 8))[2] > 200  # blue, the left, is now the top
    assert read.getpixel((16, 56))[0] > 200
    (tmp_path / "cut.heic").write_bytes((tmp_path / "photo.heic").read_bytes()[:200])
    with pytest.raises(BadInputError, match=r"cut\.heic"):
        open_image(tmp_path / "cut.heic")
    assert len(find_images(tmp_path)[0]) == 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000"])
def test_truncated_files_are_errors(tmp_path, kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    for keep in (20, len(data) // 3, len(data) - len(data) // 10):
        path = tmp_path / "cut.jpg"
        path.write_bytes(data[:keep])
        with pytest.raises(BadInputError, match=r"cut\.jpg"):
            open_image(path)


def test_pixel_limit_is_checked_before_decoding(tmp_path):
    data = encoded(Image.new("L", (100, 50)), "PNG")
    assert open_image(data, max_pixels=5000).size == (100, 50)
    with pytest.raises(BadInputError, match="100 x 50 = 5,000 pixels, more than the limit of 4,999"):
        open_image(data, max_pixels=4999)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    for side, words in ((9_000, "81,000,000 pixels"), (60_000, "larger than Pillow's safety limit")):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        with pytest.raises(BadInputError, match=words):
            open_image(bomb)


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "locked.png"
    gradient().save(path)

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # the test may run as root, whom no mode stops
    with pytest.raises(BadInputError, match=r"locked\.png cannot be read: permission denied"):
        open_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(BadInputError, match="not a regular file"):
        open_image(tmp_path / "pipe.jpg")


SAMPLES = {kind: encoded(gradient(), kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP")}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_damaged_bytes_give_a_picture_or_the_named_error(kind, data):
    damaged = bytearray(SAMPLES[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = open_image(bytes(damaged), max_pixels=1_000_000)
    except BadInputError:
        return
    assert picture.mode == "RGB"


@given(st.binary(max_size=600))
def test_any_bytes_are_described(content):
    assert describe_bytes(content)


def test_to_rgb_takes_pictures_from_memory():
    exif = Image.Exif()
    exif[274] = 6
    turned = Image.open(io.BytesIO(encoded(Image.new("L", (8, 4)), "JPEG", exif=exif)))
    assert to_rgb(turned).size == (4, 8)
    with pytest.raises(BadInputError, match="frame 7 has 32-bit"):
        to_rgb(Image.new("F", (2, 2)), "frame 7")
    lazy = Image.open(io.BytesIO(encoded(gradient(200, 200), "JPEG")[:-900]))
    with pytest.raises(BadInputError, match="frame 8 is a truncated or broken JPEG file"):
        to_rgb(lazy, "frame 8")


@pytest.fixture
def album(tmp_path):
    for name in ("b.JPG", "a.png", "sub/c.webp", "sub/deep/d.tiff", "notes.txt", "README"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not opened here")
    return tmp_path


def names(root: Path, found: list[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found]


def test_folders_are_searched_in_order(album):
    found, skipped = find_images(album)
    assert names(album, found) == ["a.png", "b.JPG", "sub/c.webp", "sub/deep/d.tiff"]
    assert skipped == []
    assert find_images(str(album)) == (found, [])


def test_files_folders_and_patterns_mix_without_repeats(album):
    found, _ = find_images([album / "sub", album / "README", str(album / "*"), album / "a.png"])
    assert names(album, found) == ["sub/c.webp", "sub/deep/d.tiff", "README", "a.png", "b.JPG"]
    found, _ = find_images(str(album / "**" / "*.tiff"))
    assert names(album, found) == ["sub/deep/d.tiff"]


def test_a_name_that_exists_is_no_pattern(album):
    (album / "x[1].png").touch()
    (album / "x1.png").touch()
    assert names(album, find_images(album / "x[1].png")[0]) == ["x[1].png"]


def test_links_are_followed_but_not_in_circles(album):
    (album / "sub" / "up").symlink_to(album)
    (album / "self").symlink_to("self")
    (album / "gone.png").symlink_to("nowhere.png")
    (album / "alias").symlink_to(album / "sub")
    found, skipped = find_images(album)
    assert names(album, found) == ["a.png", "b.JPG", "sub/c.webp", "sub/deep/d.tiff"]
    assert [(Path(item).name, reason) for item, reason in skipped] == [("gone.png", "dangling link")]


def test_what_is_left_out_is_listed(album, tmp_path_factory, monkeypatch):
    empty = tmp_path_factory.mktemp("empty")
    found, skipped = find_images([album, empty])
    assert len(found) == 4
    assert skipped == [(str(empty), "folder without images")]
    listed = os.scandir

    def scandir(path: Path):
        if path.name == "deep":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found, skipped = find_images(album)
    assert len(found) == 3
    assert skipped == [(str(album / "sub/deep"), "folder cannot be read: Permission denied")]


def test_names_that_no_table_can_hold_are_listed(album):
    try:
        Path(os.fsdecode(os.fsencode(album) + b"/\xff.png")).touch()
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    found, skipped = find_images(album)
    assert len(found) == 4
    assert [reason for _, reason in skipped] == ["file name is not valid Unicode"]


def test_nothing_to_find_is_an_error(album, tmp_path):
    for wrong, words in (
        (album / "none.png", r"none\.png does not exist"),
        ([album, album / "none"], "none does not exist"),
        (str(album / "*.bmp"), r"\*\.bmp matches no file"),
        ([], "no image in an empty list"),
        ("a\0", "does not exist"),
        ("x" * 5000, "cannot be read"),
    ):
        with pytest.raises(BadInputError, match=words):
            find_images(wrong)
    (tmp_path / "bare").mkdir()
    with pytest.raises(BadInputError, match=r"no image in .*bare.*folder without images.*\.jpg"):
        find_images(tmp_path / "bare")


def test_suffixes_are_those_that_open():
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp"} <= IMAGE_SUFFIXES
    Image.init()
    assert IMAGE_SUFFIXES - {".avif"} <= set(Image.registered_extensions())


def test_images_load_without_torch():
    code = "import sys, exprembed.data.images as i; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
