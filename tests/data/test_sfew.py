"""read_sfew in SFEW 2.0's layouts, written here in miniature."""

from pathlib import Path

import pytest
from PIL import Image

from exprembed.data import read_sfew
from exprembed.errors import BadInputError, WrongUseError

CLASSES = {"Angry": "anger", "Disgust": "disgust", "Fear": "fear", "Happy": "happiness",
           "Neutral": "neutral", "Sad": "sadness", "Surprise": "surprise"}  # fmt: skip


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


@pytest.fixture
def sfew(tmp_path):
    for i, folder in enumerate(CLASSES):
        picture(tmp_path / "Train/Train_Aligned_Faces" / folder / f"Film{i}_000045240_00000010.png")
        picture(tmp_path / "Train" / folder / f"Film{i}_000045240_00000010.png")
        picture(tmp_path / "Val/Val_Aligned_Faces_new" / folder / f"Other{i}_000000_00000001.png")
    return tmp_path


def test_layout(sfew):
    skipped = []
    faces = read_sfew(sfew, skipped=skipped)
    assert not skipped
    assert faces["split"].tolist() == ["train"] * 7 + ["validation"] * 7
    assert faces["expression"].tolist() == [*CLASSES.values()] * 2
    assert faces.index[0] == "train/Film0_000045240_00000010"
    assert faces["movie"].iloc[0] == "Film0"
    assert "Train_Aligned_Faces" in faces["path"].iloc[0]
    assert all(Path(path).is_file() for path in faces["path"])
    assert read_sfew(sfew, split="validation").index.str.startswith("validation/").all()
    whole = read_sfew(sfew, split="train", images="original")
    assert whole["path"].str.contains("Aligned").sum() == 0


def test_archives_unpacked_side_by_side(sfew, tmp_path_factory):
    flat = tmp_path_factory.mktemp("flat")
    (sfew / "Train/Train_Aligned_Faces").rename(flat / "Train_Aligned_Faces")
    (sfew / "Val/Val_Aligned_Faces_new").rename(flat / "Val_Aligned_Faces")
    assert len(read_sfew(flat)) == 14


def test_what_is_left_out_is_listed(sfew):
    folder = sfew / "Train/Train_Aligned_Faces"
    (folder / "Happy/Thumbs.db").write_text("x")
    picture(folder / "Contempt/Film9_1_1.png")
    skipped = []
    assert len(read_sfew(sfew, split="train", skipped=skipped)) == 7
    assert {(Path(item.item).name, item.reason) for item in skipped} == {
        ("Thumbs.db", "not an image"),
        ("Contempt", "not a class folder"),
    }


def test_errors(sfew, tmp_path_factory):
    with pytest.raises(WrongUseError, match="did you mean 'validation'"):
        read_sfew(sfew, split="valid")
    with pytest.raises(WrongUseError, match="did you mean 'aligned'"):
        read_sfew(sfew, images="align")
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(BadInputError, match="lacks Train/Train_Aligned_Faces"):
        read_sfew(empty)
    with pytest.raises(BadInputError, match="not a folder"):
        read_sfew(empty / "gone")
    (empty / "Train/Train_Aligned_Faces/Happy").mkdir(parents=True)
    with pytest.raises(BadInputError, match="no image"):
        read_sfew(empty, split="train")
    picture(sfew / "Train/Train_Aligned_Faces/Sad/Film0_000045240_00000010.png")
    with pytest.raises(BadInputError, match="two class folders"):
        read_sfew(sfew)
