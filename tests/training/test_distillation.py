"""A student is taught by the vectors of others: it comes near them, and what it was not told leaves it alone."""

import numpy as np
import pandas as pd
import pytest

from exprembed.data import FaceTable
from exprembed.data.synthetic import render_faces, save_faces
from exprembed.data.tables import EXPRESSIONS
from exprembed.data.vectors import vector_columns_of
from exprembed.errors import BadInputError, WrongUseError
from exprembed.models.embedding import embed_faces
from exprembed.training import load_recipe, run, train
from exprembed.training.run import build_model, make_steps, read_faces
from exprembed.training.teachers import join_vectors


@pytest.fixture(scope="module")
def voted(tmp_path_factory):
    """A table of rendered faces with votes."""
    folder = tmp_path_factory.mktemp("faces")
    images, faces = render_faces(120, 8, 5, size=48)
    table = pd.DataFrame(save_faces(images, faces, folder)).assign(split="train")
    for name in EXPRESSIONS:
        table[f"votes_{name}"] = 8 * (table["expression"] == name) + 1
    FaceTable(table).write_parquet(folder / "voted.parquet")
    return folder / "voted.parquet"


@pytest.fixture(scope="module")
def taught(voted):
    """The same with a teacher's vectors, as `exprembed embed` writes them."""
    faces = pd.DataFrame(FaceTable.read_parquet(voted))
    one_hot = pd.get_dummies(faces["expression"]).to_numpy(float)
    vectors = join_vectors([pd.DataFrame(one_hot + 0.1, index=faces.index)], 6)
    pd.concat([faces, vectors], axis=1).to_parquet(voted.parent / "taught.parquet")
    return voted.parent / "taught.parquet"


def distilled(path, *more):
    settings = [f"data.path={path}", "data.holdout=0", "model.hidden=32", "model.embedding_dim=6", "threads=null"]
    sampler = ["sampler.pool=24", "sampler.per_type=40", "sizes={0.0: 32, 0.5: 48}", "augmentation={erase: 0.0}"]
    return load_recipe("ferplus-distilled-small", [*settings, *sampler, "data.synthetic=0", *more])


def test_a_student_comes_near_its_teacher(taught, tmp_path):
    table = FaceTable.read_parquet(taught)

    def distance(model):
        vectors, _ = embed_faces(model, table)
        return float(np.linalg.norm(vectors - table[vector_columns_of(table)].to_numpy(), axis=1).mean())

    untaught, recipe = distilled(taught, "steps=1"), distilled(taught, "steps=60")
    before = distance(train(untaught, tmp_path / "before", progress=False).model)
    assert distance(train(recipe, tmp_path / "after", progress=False).model) < 0.7 * before


def test_rendered_faces_are_not_taught(taught, tmp_path):
    recipe = distilled(taught, "data.synthetic=16", "steps=2")
    assert train(recipe, tmp_path / "run", progress=False).faces == len(FaceTable.read_parquet(taught)) + 16
    faces, _ = read_faces(recipe.data)
    both = run._with_synthetic(faces, 16, tmp_path / "rendered")
    steps = make_steps(recipe, build_model(recipe), np.zeros((len(both), 1), np.uint8), both)
    assert np.isfinite(steps.vectors[:-16]).all()
    assert np.isnan(steps.vectors[-16:]).all()


def test_a_teacher_that_does_not_fit(taught, voted, tmp_path):
    with pytest.raises(WrongUseError, match="'embedding' has 5 numbers a face and the teacher's vectors have 6"):
        train(distilled(taught, "model.embedding_dim=5", "steps=1"), tmp_path / "run", progress=False)
    untaught = distilled(voted, "steps=1")
    with pytest.raises(BadInputError, match="columns v00, v01"):
        train(untaught, tmp_path / "run", progress=False)
