"""FACSNet-CL is trained on the action units of a table's faces: those above 2 of 5 are shown, the others are not."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from exprembed.data import FaceTable
from exprembed.data.loading import shown_units
from exprembed.data.synthetic import render_faces, save_faces
from exprembed.errors import WrongUseError
from exprembed.models import load_model
from exprembed.models.embedding import embed_faces
from exprembed.training import load_recipe, train

SMALL = (
    "model.backbone=resnet10_grey48",
    "sizes={}",
    "model.image_size=32",
    "sampler.batch_size=48",
    "data.split=null",
)
UNITS = ["1", "4", "12", "26"]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred rendered faces with their action units."""
    folder = tmp_path_factory.mktemp("faces")
    images, faces = render_faces(200, subjects=20, seed=3, size=48)
    save_faces(images, faces, folder / "faces").write_parquet(folder / "faces.parquet")
    return folder / "faces.parquet"


def test_an_intensity_above_two_is_shown() -> None:
    faces = FaceTable(
        {"path": list("abcd"), "au_01": [0.0, 2.0, 2.1, np.nan], "au_12": [5, 0, 1, 3]}, index=list("abcd")
    )
    found = shown_units(faces, ["12", "1"])
    assert np.array_equal(found, np.array([[1, 0], [0, 0], [0, 1], [1, np.nan]], np.float32), equal_nan=True)
    assert shown_units(faces, []).shape == (4, 0)


def test_it_learns_which_units_a_face_shows(rendered: Path, tmp_path: Path) -> None:
    """Each logit stands for the unit of its class: it tells the unit better than its frequency does."""
    given = [
        f"data.path={rendered}",
        f"model.classes={UNITS}",
        "steps=120",
        "model.layer=F",
        "augmentation=null",
        *SMALL,
    ]
    train(load_recipe("facsnet-small", given), tmp_path, progress=False)
    model = load_model(tmp_path / "facsnet-small.safetensors")
    faces = FaceTable.read_parquet(rendered)
    logits, _ = embed_faces(model, faces)
    truth = shown_units(faces, UNITS)
    guess = logits.loc[faces.index].to_numpy() > 0
    often = np.maximum(truth.mean(axis=0), 1 - truth.mean(axis=0))
    assert ((guess == truth).mean(axis=0) >= often).all()
    assert (guess == truth).mean() > often.mean() + 0.05


def test_faces_without_a_unit_train_no_network(rendered: Path, tmp_path: Path) -> None:
    recipe = load_recipe("facsnet-small", [f"data.path={rendered}", "model.classes=['1', '3']", "steps=1", *SMALL])
    with pytest.raises(WrongUseError, match="no intensities of '3'"):
        train(recipe, tmp_path, progress=False)


def test_unknown_intensities_take_no_part(rendered: Path, tmp_path: Path) -> None:
    """A face whose units nobody coded leaves the loss finite."""
    faces = pd.DataFrame(FaceTable.read_parquet(rendered))
    faces.loc[faces.index[::2], "au_12"] = np.nan
    FaceTable(faces).write_parquet(tmp_path / "some.parquet")
    given = [f"data.path={tmp_path / 'some.parquet'}", f"model.classes={UNITS}", "steps=2", *SMALL]
    train(load_recipe("facsnet-small", given), tmp_path / "run", progress=False)
    model = load_model(tmp_path / "run" / "facsnet-small.safetensors")
    assert all(np.isfinite(values.numpy()).all() for values in model.state_dict().values())
