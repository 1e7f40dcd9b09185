"""A folder of hostile files: each is handled or listed with its reason, nothing hangs, and the rest comes through."""

import os
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from exprembed.errors import BadInputError
from exprembed.pipeline import embed


def png_header(width, height):
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def hostile(tmp_path, rendered):
    """Every file but the last four is to be listed; the reason holds the text beside it."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    good = Path(rendered["path"].iloc[0]).read_bytes()
    bad = {
        "truncated.png": (good[: len(good) // 2], "truncated or broken"),
        "zero.jpg": (b"", "is empty (0 bytes)"),
        "zeros.png": (bytes(1000), "only zero bytes"),
        "page.jpg": (b"<!DOCTYPE html><html>404</html>", "an HTML page"),
        "pointer.jpg": (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        "bomb.png": (png_header(50_000, 50_000), "decompression bomb"),
        "large.png": (png_header(20_000, 20_000), "safety limit"),
        "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        "code.jpg": (b"import os", "looks like text"),
        "film.mp4": (b"\x00\x00\x00\x18ftypmp42", "not a film"),
    }
    for name, (content, _) in bad.items():
        (folder / name).write_bytes(content)
    reasons = {name: reason for name, (_, reason) in bad.items()}
    (folder / "dangling.jpg").symlink_to(folder / "absent.jpg")
    reasons["dangling.jpg"] = "dangling link"
    (folder / "deep").mkdir()
    (folder / "deep" / "loop").symlink_to(folder)
    (folder / "self.png").symlink_to("self.png")
    reasons["self.png"] = "dangling link"
    os.mkfifo(folder / "pipe.png")
    reasons["pipe.png"] = "not a regular file"
    (folder / "folder.jpg").mkdir()
    with open(os.fsencode(folder) + b"/name\xff.png", "wb") as file:  # noqa: PTH123 - a name that Path cannot spell
        file.write(good)
    reasons["name\\xff.png"] = "not valid Unicode"
    Image.new("RGB", (1, 1), "red").save(folder / "one.png")
    Image.new("CMYK", (60, 60)).save(folder / "print.jpg")
    Image.fromarray(np.full((60, 60), 40_000, np.uint16)).save(folder / "deep16.png")
    Image.new("P", (60, 60)).save(folder / "palette.gif")
    (folder / "fine.png").write_bytes(good)
    return folder, reasons


def test_each_hostile_file_is_handled_or_listed(model, hostile, tmp_path):
    folder, reasons = hostile
    table = embed(folder, model, tmp_path / "out" / "faces.parquet", aligned=True)
    assert sorted(Path(path).name for path in table["path"]) == [
        "deep16.png",
        "fine.png",
        "one.png",
        "palette.gif",
        "print.jpg",
    ]
    listed = pd.read_csv(tmp_path / "out" / "skipped.csv")
    found = {
        Path(item.replace("\udcff", "\\xff")).name.replace("\\udcff", "\\xff"): why for item, why in listed.to_numpy()
    }
    found.pop("folder.jpg", None)  # a folder without images, said or not
    assert sorted(found) == sorted(reasons)
    for name, reason in reasons.items():
        assert reason in found[name], f"{name}: {found[name]}"


def test_thousands_of_tiny_files(model, tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    for i in range(2000):
        (folder / f"{i:05d}.jpg").write_bytes(b"x" * (i % 3))
    Image.new("RGB", (48, 48), "red").save(folder / "face.png")
    table = embed(folder, model, tmp_path / "faces.parquet", aligned=True)
    assert len(table) == 1
    assert len(pd.read_csv(tmp_path / "skipped.csv")) == 2000


def test_a_folder_without_a_single_face_is_listed_file_by_file(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(5):
        (tmp_path / "photos" / f"{i}.png").write_bytes(b"")
    with pytest.raises(BadInputError, match="no face in 5 files"):
        embed(tmp_path / "photos", out=tmp_path / "out.parquet", aligned=True)
    listed = pd.read_csv(tmp_path / "skipped.csv")
    assert len(listed) == 5
    assert listed["reason"].str.contains("is empty").all()
    assert not (tmp_path / "out.parquet").exists()
