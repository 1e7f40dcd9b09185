"""The ablation on a few rendered faces: every variant is a recipe that trains, and differs from the others."""

import numpy as np
import pandas as pd
import pytest

from evaluation.ablation import RECIPE, VARIANTS, run
from exprembed.data import FaceTable
from exprembed.data.synthetic import render_faces, save_faces
from exprembed.data.tables import EXPRESSIONS
from exprembed.training import load_recipe


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A FaceTable file of rendered faces with votes."""
    folder = tmp_path_factory.mktemp("faces")
    images, faces = render_faces(160, 20, 4, size=48)
    saved = pd.DataFrame(save_faces(images, faces, folder))
    for name in EXPRESSIONS:
        saved[f"votes_{name}"] = 9 * (saved["expression"] == name) + (name == "neutral")
    FaceTable(saved.assign(split="train")).to_parquet(folder / "faces.parquet")
    return folder / "faces.parquet"


def test_each_variant_differs_from_the_recipe_in_one_thing():
    plain = load_recipe(RECIPE).to_dict()
    for name, variant in VARIANTS.items():
        recipe = load_recipe(RECIPE, variant.overrides).to_dict()
        changed = {key for key in plain if recipe[key] != plain[key]}
        expected = {"AdamW": {"optimizer", "learning_rate"}, "32 pixels": {"sizes", "model"}, "the recipe": set()}
        assert len(changed) == 1 or changed == expected[name], name


def test_rows_are_measured(table):
    shared = [
        "data.dataset=table",
        "data.options={}",
        "data.holdout=0.5",
        "data.synthetic=0",
        "sampler.batch_size=16",
        "model.hidden=8",
    ]
    few = {name: VARIANTS[name] for name in ("the recipe", "AdamW", "no variation of the faces")}
    report = run(table, (0, 1), few, shared, length=0.004)
    (section,) = report.sections
    assert [row.ours["steps"] for row in section.rows] == [4, 4, 4]
    scores = [row.ours["triplets"].values for row in section.rows]
    assert all(len(pair) == 2 and 0 <= min(pair) <= max(pair) <= 100 for pair in scores)
    assert not np.allclose(scores[0], scores[1]) or not np.allclose(scores[0], scores[2])
    assert "FER+" in section.statement
