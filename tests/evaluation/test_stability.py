"""Stability: yardsticks by hand, changes that change, and a run in small."""

import numpy as np
import pytest
from PIL import Image

from evaluation.stability import CHANGES, COLUMNS, run, yardsticks
from exprembed.errors import WrongUseError
from exprembed.models import load_model


def test_yardsticks_by_hand():
    vectors = np.array([[0.0], [1.0], [4.0], [6.0]], np.float32)
    people, expressions = np.array(list("aabb"), object), np.array(list("xyxy"), object)
    assert yardsticks(vectors, people, expressions) == (1.5, 4.5)  # of 1 and 2; of 4 and 5
    with pytest.raises(WrongUseError, match="render more"):
        yardsticks(vectors, people, np.array(list("xxxx"), object))


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_changes_and_keeps_the_size(name):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(256, size=(112, 112, 3), dtype=np.uint8))
    changed = CHANGES[name](picture)
    assert (changed.size, changed.mode) == (picture.size, "RGB")
    assert np.abs(np.asarray(changed, float) - np.asarray(picture, float)).mean() > 1


def test_a_shift_moves_to_the_right():
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[50, 50] = 255
    assert np.asarray(CHANGES["shifted 5 % to the right"](Image.fromarray(pixels)))[50, 55].tolist() == [255] * 3
    assert np.asarray(CHANGES["shifted 10 % down"](Image.fromarray(pixels)))[60, 50].tolist() == [255] * 3


def test_run_in_small():
    report = run(load_model(), faces=80, people=4)
    rows = {row.name: row.ours for row in report.sections[0].rows}
    assert set(CHANGES) < set(rows)
    grey = rows["greyscale"]  # the packaged model sees grey anyway
    assert grey[COLUMNS[0]] < 0.05
    assert grey[COLUMNS[3]] > 99
    assert rows["rotated 30 degrees"][COLUMNS[0]] > rows["rotated 10 degrees"][COLUMNS[0]]
