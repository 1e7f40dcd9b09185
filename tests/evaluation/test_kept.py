"""What trainings gave is kept under all that it depends on."""

import numpy as np
import pytest

from evaluation._kept import Kept


def test_numbers_and_arrays_come_back(tmp_path):
    made = {"accuracy": 0.1, "steps": 3, "confusion": np.arange(4).reshape(2, 2), "few": np.array([0.5], np.float16)}
    Kept(tmp_path).values(["recipe", 1], lambda: made)
    found = Kept(tmp_path).values(["recipe", 1], lambda: pytest.fail("made again"))
    assert found.keys() == made.keys()
    assert found["accuracy"] == 0.1
    assert found["steps"] == 3
    for name in ("confusion", "few"):
        np.testing.assert_array_equal(found[name], made[name])
        assert found[name].dtype == made[name].dtype


def test_other_settings_are_made(tmp_path):
    kept = Kept(tmp_path)
    kept.values({"a": 1, "b": 2}, lambda: {"x": 1.0})
    assert kept.find({"b": 2, "a": 1}) == {"x": 1.0}
    assert kept.find({"a": 1, "b": 3}) is None
    assert kept.values({"a": 1, "b": 3}, lambda: {"x": 2.0}) == {"x": 2.0}
    assert len(list(tmp_path.iterdir())) == 2


def test_the_commits_of_what_was_asked_for_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluation._kept.provenance", lambda: {"commit": "first"})
    Kept(tmp_path).values(1, lambda: {"x": 1.0})
    monkeypatch.setattr("evaluation._kept.provenance", lambda: {"commit": "second"})
    kept = Kept(tmp_path)
    assert kept.commits == set()
    kept.values(1, dict)
    kept.values(2, dict)
    assert kept.commits == {"first", "second"}
    assert kept.facts() == {"trained by the code of": "first, second"}
    own = Kept(tmp_path)
    own.values(2, dict)
    assert own.facts() == {}


def test_what_another_format_kept_is_made_anew(tmp_path):
    kept = Kept(tmp_path)
    np.savez(kept.path(1), scores=[0.5], commit="older")
    assert kept.find(1) is None
    assert kept.values(1, lambda: {"x": 1.0}) == {"x": 1.0}
    assert Kept(tmp_path).find(1) == {"x": 1.0}


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = Kept(None)
    assert kept.values(1, lambda: {"x": 1.0}) == {"x": 1.0}
    assert kept.find(1) is None
    assert list(tmp_path.iterdir()) == []


def test_a_making_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Kept(tmp_path).values(1, lambda: {"x": 1 / 0})
    assert list(tmp_path.iterdir()) == []
