"""The picture of the guide on photos: drawn by the script, shown on the page."""

from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.photo_pictures import LIMITS, draw, group_photo
from exprembed.data.faces import judge_faces
from exprembed.models import load_model

GUIDES = Path(__file__).parents[2] / "docs/guides"


def test_the_page_shows_what_the_script_draws():
    assert "](pictures/faces_show.png)" in (GUIDES / "photos.md").read_text()
    with Image.open(GUIDES / "pictures/faces_show.png") as stored:
        assert stored.format == "PNG"
        drawn = draw()
        assert stored.size == drawn.size
        pair = [np.asarray(picture.convert("RGB")).astype(float) for picture in (stored, drawn)]
    assert np.abs(pair[0] - pair[1]).mean() < 3  # another version of Pillow sets letters a little differently


def test_each_limit_drops_one_face():
    (photo, detected), plan = group_photo(), load_model().preprocessing
    reasons = [one.dropped for one in judge_faces("a", photo, detected, plan.alignment, plan.size, limits=LIMITS)]
    assert reasons.count(None) == 2
    for name in ("min_face", "min_sharpness", "max_yaw"):
        assert sum(f"({name})" in (reason or "") for reason in reasons) == 1
