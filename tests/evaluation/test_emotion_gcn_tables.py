"""Thesis Tables 6.1 to 6.3 on a few rendered faces: every row trains what it says and is scored on that."""

import math

import pytest

from evaluation.emotion_gcn import FREE, TRIALS, _beaten, rendered_split, run
from exprembed.models import create_model
from exprembed.report import Measure
from exprembed.training import load_recipe


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return rendered_split(tmp_path_factory.mktemp("faces"), 160)


def test_every_row_trains_and_is_scored(split):
    base = load_recipe("emotion-gcn-small", ["steps=2", "sampler.batch_size=16", "model.hidden=8"])
    report = run(split, base, seeds=(0, 1))
    (section,) = report.sections
    assert "contempt" not in set(split.train["expression"])
    assert [row.name for row in section.rows] == list(TRIALS)
    scored = [set(row.ours) for row in section.rows]
    assert scored[:3] == [{"accuracy"}, {"CCC-V", "CCC-A"}, {"accuracy", "CCC-V", "CCC-A"}]
    for row in section.rows:
        assert all(-100 <= value.mean <= 100 and len(value.values) == 2 for value in row.ours.values())
        assert row.n_used == len(split.test)
    assert base.model["layers"] == 2  # rows do not leak into the common recipe
    assert len({tuple(value.mean for value in row.ours.values()) for row in section.rows}) > 4
    assert not section.same_data
    assert "Emotion-GCN stands " in " ".join(section.notes)


def test_what_the_report_says_of_a_gain():
    def rows(single, multi):
        return {
            "single-task, classes": {"accuracy": Measure(single)},
            "multi-task + CCC": {"accuracy": Measure(multi)},
        }

    (beaten,) = _beaten(rows((70.0, 72.0), (80.0, 81.0)))
    assert "9.5 points of accuracy above the single task: more than one deviation over seeds (1.4)" in beaten
    (worse,) = _beaten(rows((70.0, 72.0), (60.0, 61.0)))
    assert "10.5 points of accuracy below the single task: more than" in worse
    (even,) = _beaten(rows((70.0, 72.0), (71.0, 72.0)))
    assert "not more than" in even
    assert not list(_beaten({}))
    (alone,) = _beaten(rows((70.0,), (80.0,)))
    assert "not more than" in alone
    assert math.isnan(Measure((1.0,)).std)


def test_rows_without_a_graph_are_free_vectors():
    model = create_model("emotion_gcn", backbone="vgg8_grey48", **FREE)
    assert [tuple(layer.weight.shape) for layer in model.graph.layers] == [(256, 9)]
