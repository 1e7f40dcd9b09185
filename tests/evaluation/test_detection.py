"""Detection rates and places of eyes, by a detector that knows what it finds."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation.detection import measures, run
from exprembed.data.faces import DetectedFace
from exprembed.data.tables import FaceTable


class Known:
    """Finds as many faces as the red of the first pixel says; eyes at a tenth and half of the width, a quarter down."""

    def detect(self, image):
        width, height = image.size
        eyes = np.array([[0.1 * width, 0.25 * height], [0.5 * width, 0.25 * height], [0, 0], [0, 0], [0, 0]])
        count = image.getpixel((0, 0))[0]
        return [DetectedFace((0, 0, width / (i + 1), height / (i + 1)), eyes * (1 + i), 0.9) for i in range(count)]

    def detect_batch(self, images):
        return [self.detect(image) for image in images]


def picture(count):
    return Image.new("RGB", (40, 80), (count, 0, 0))


def test_counts_and_eyes_of_the_largest():
    found = measures(Known(), [picture(count) for count in (0, 1, 1, 2)])
    assert (found["found, %"], found["one face, %"]) == (75, 50)
    assert found["interocular"] == pytest.approx(0.4)
    assert found["eye height"] == pytest.approx(0.25)
    assert found["± of roll, degrees"] == pytest.approx(0)
    assert "interocular" not in measures(Known(), [picture(0)])


def test_a_report_of_random_pictures(tmp_path):
    for place in range(6):
        picture(place % 2).save(tmp_path / f"{place}.png")
    paths = [str(tmp_path / f"{place}.png") for place in range(6)]
    table = FaceTable(pd.DataFrame({"path": paths}, index=[f"f{place}" for place in range(6)]))
    report = run({"Known": Known()}, {"six": table, "again": table}, n=4)
    first, second = report.sections[0].rows
    assert (first.n_used, first.n_protocol) == (4, 6)
    assert first.ours == second.ours
    assert run({"Known": Known()}, {"six": table}, n=10).sections[0].rows[0].ours["found, %"] == 50
