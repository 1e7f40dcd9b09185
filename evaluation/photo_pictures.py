"""The picture of the guide on photos: a drawn group photo, as `exprembed faces show` draws it.

The faces and their points are the renderer's, so that no photo and no detector is needed.

    python -m evaluation.photo_pictures --out docs/guides/pictures
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageFilter

from exprembed.cli import script
from exprembed.cli.faces import face_sheet
from exprembed.data.faces import DetectedFace, judge_faces
from exprembed.data.landmarks import five_points
from exprembed.data.quality import FaceLimits
from exprembed.data.synthetic import render_faces
from exprembed.files import atomic_path
from exprembed.models import load_model

LIMITS = FaceLimits(min_face=40, min_sharpness=200, max_yaw=15)
# Number of a face, left, top, side and blur in the photo: two plain ones, a turned, a blurred, a small one.
PLACES = (
    (12, 40, 60, 200, 0),
    (2, 290, 30, 170, 0),
    (0, 520, 70, 190, 0),
    (15, 330, 240, 130, 4),
    (8, 620, 310, 42, 0),
)


def group_photo(seed: int = 5) -> tuple[Image.Image, list[DetectedFace]]:
    """Return a photo of five drawn faces, and what a perfect detector says of them."""
    images, table = render_faces(20, 20, seed, size=200)
    photo, found = Image.new("RGB", (760, 400), (106, 126, 143)), []
    for number, x, y, side, blur in PLACES:
        face = Image.fromarray(images[number]).resize((side, side)).filter(ImageFilter.GaussianBlur(blur))
        photo.paste(face, (x, y))
        points = np.reshape(table["landmarks"].iloc[number], (68, 2)) * side / 200 + (x, y)
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        found.append(DetectedFace((left, top, right, bottom), five_points(points), 1.0))
    return photo, found


def draw() -> Image.Image:
    """Return the picture: boxes and points on the photo, and what the packaged model sees of each face."""
    (photo, detected), plan = group_photo(), load_model().preprocessing
    found = judge_faces("photo", photo, detected, plan.alignment, plan.size, limits=LIMITS)
    return face_sheet(photo, found, plan).quantize(128)


def main(out: Annotated[Path, typer.Option(help="The folder of the picture.")] = Path("docs/guides/pictures")) -> None:
    """Draw the picture of the guide on photos."""
    with atomic_path(out / "faces_show.png") as temporary:
        draw().save(temporary, format="PNG", optimize=True)


if __name__ == "__main__":
    script(main)()
