"""When a photo was taken: EXIF as cameras write it, and as they should not."""

import pytest
from PIL import Image

from exprembed.data.photo_time import taken_at


def photo(path, original=None, fraction=None, changed=None):
    exif = Image.Exif()
    details = exif.get_ifd(0x8769)
    if original:
        details[0x9003] = original
    if fraction:
        details[0x9291] = fraction
    if changed:
        exif[0x0132] = changed
    Image.new("RGB", (8, 8)).save(path, exif=exif)
    return path


def test_original_time_and_fraction(tmp_path):
    first = taken_at(photo(tmp_path / "a.jpg", "2024:05:01 12:00:59", changed="2025:01:01 00:00:00"))
    second = taken_at(photo(tmp_path / "b.jpg", "2024:05:01 12:01:00", "25"))
    assert second - first == pytest.approx(1.25)
    assert taken_at(photo(tmp_path / "c.jpg", changed="2024:05:01 12:01:00")) - first == pytest.approx(1)


@pytest.mark.parametrize(
    "original", [None, "0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", "2024:13:40 99:00:00"]
)
def test_no_time(tmp_path, original):
    assert taken_at(photo(tmp_path / "a.jpg", original)) is None


def test_what_is_no_photo_has_no_time(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"not a photo")
    assert taken_at(tmp_path / "a.jpg") is None
    assert taken_at(tmp_path / "absent.jpg") is None
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    assert taken_at(tmp_path / "b.png") is None
    odd = photo(tmp_path / "c.jpg", "2024:05:01 12:00:59", "abc")
    assert taken_at(odd) == int(taken_at(odd))
