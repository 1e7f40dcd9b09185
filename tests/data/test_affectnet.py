"""read_affectnet in both official layouts, written here in miniature, with everything that can be wrong in them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from exprembed.data import read_affectnet
from exprembed.errors import BadInputError, WrongUseError

COLUMNS = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
POINTS = ";".join(str(i) for i in range(136))


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (90, 90, 90)).save(path)


def line(name, expression, valence, arousal, box="10,20,100,120", points=POINTS):
    return f"{name},{box},{points},{expression},{valence},{arousal}"


@pytest.fixture
def manual(tmp_path):
    """The manually annotated set: a training list with its header, a validation list without."""
    lists = tmp_path / "Manually_Annotated_file_lists"
    lists.mkdir()
    train = [
        line("1/a.jpg", 0, 0.0, 0.0),
        line("1/b.jpg", 7, -0.5, 0.25),
        line("2/c.jpg", 10, -2, -2),
        line("2/d.JPG", 4, -2, 0.5),
        line("2/e.jpg", 9, -2, -2),
    ]
    (lists / "training.csv").write_text("\n".join([COLUMNS, *train]) + "\n")
    (lists / "validation.csv").write_text(line("3/f.jpg", 1, 0.9, 0.1) + "\n")
    for name in ("1/a.jpg", "1/b.jpg", "2/c.jpg", "2/d.JPG", "2/e.jpg", "3/f.jpg"):
        picture(tmp_path / "Manually_Annotated/Manually_Annotated_Images" / name)
    return tmp_path


def rewrite(root, old, new, name="training.csv"):
    file = root / "Manually_Annotated_file_lists" / name
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_manual_layout(manual):
    skipped = []
    faces = read_affectnet(manual, skipped=skipped)
    assert faces.index.tolist() == ["1/a", "1/b", "2/d", "3/f"]
    assert faces["expression"].tolist() == ["neutral", "contempt", "fear", "happiness"]
    assert faces["split"].tolist() == ["train", "train", "train", "validation"]
    assert faces.loc["1/b", ["valence", "arousal"]].tolist() == [-0.5, 0.25]
    assert np.isnan(faces.loc["2/d", "valence"])
    assert faces.loc["2/d", "arousal"] == 0.5
    assert faces.loc["1/a", ["left", "top", "right", "bottom"]].tolist() == [10, 20, 110, 140]
    assert faces.loc["1/a", "landmarks"].tolist() == list(range(136))
    assert all(Path(path).is_file() for path in faces["path"])
    assert set(faces["dataset"]) == {"affectnet"}
    assert [(item.item, item.reason) for item in skipped] == [
        ("training.csv line 4 (2/c.jpg)", "expression No-Face"),
        ("training.csv line 6 (2/e.jpg)", "expression Uncertain"),
    ]
    assert read_affectnet(manual, split="validation").index.tolist() == ["3/f"]


def test_lists_and_photos_beside_each_other(manual):
    lists = manual / "Manually_Annotated_file_lists"
    for file in list(lists.iterdir()):
        file.rename(manual / file.name)
    lists.rmdir()
    (manual / "Manually_Annotated/Manually_Annotated_Images").rename(manual / "Manually_Annotated_Images")
    assert len(read_affectnet(manual)) == 4


def test_crops_stand_in_for_photos(manual, tmp_path_factory):
    crops = tmp_path_factory.mktemp("crops")
    for name in ("1/a.jpg", "1/b.jpg", "2/d.JPG", "3/f.jpg"):
        picture(crops / name)
    faces = read_affectnet(manual, crops=crops)
    assert faces["path"].iloc[0] == str(crops / "1/a.jpg")
    assert not {"left", "landmarks"} & set(faces)
    (crops / "1/a.jpg").unlink()
    with pytest.raises(BadInputError, match="1 of 4 images are absent"):
        read_affectnet(manual, crops=crops)


def test_absent_photos(manual):
    (manual / "Manually_Annotated/Manually_Annotated_Images/1/b.jpg").unlink()
    with pytest.raises(BadInputError, match=r'1 of 4 images are absent.*missing="skip"'):
        read_affectnet(manual)
    skipped = []
    assert read_affectnet(manual, missing="skip", skipped=skipped).index.tolist() == ["1/a", "2/d", "3/f"]
    assert skipped[-1].reason == "its image is absent"


def test_repeated_names(manual):
    rewrite(manual, line("2/e.jpg", 9, -2, -2), line("1/a.jpg", 0, 0.0, 0.0))
    skipped = []
    assert read_affectnet(manual, skipped=skipped).index.tolist().count("1/a") == 1
    assert ("1/a", "the same image again") in skipped
    rewrite(manual, line("2/d.JPG", 4, -2, 0.5), line("1/b.jpg", 6, -0.5, 0.25))
    skipped = []
    assert read_affectnet(manual, skipped=skipped).index.tolist() == ["1/a", "3/f"]
    assert skipped.count(("1/b", "one image with different labels")) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (COLUMNS, COLUMNS.replace("valence", "valenz"), "lacks the columns valence"),
        ("1/a.jpg,", ",", "line 2: the image has no name"),
        ("1/b.jpg", "1/b.jpg,1", "cannot be read|number|landmarks"),
        (f"{POINTS},7,", f"{POINTS},seven,", "expression is 'seven' where a number is due"),
        (f"{POINTS},7,", f"{POINTS},11,", "expression 11 is none of 0 to 10"),
        (f"{POINTS},7,-0.5", f"{POINTS},7,", "valence is 'nan' where a number is due"),
        (f"{POINTS},7,-0.5", f"{POINTS},7,-1.5", "valence"),
        (f"120,{POINTS},7", "120,1;2;3,7", "landmarks of 1/b.jpg"),
        (f"120,{POINTS},7", "120,x;y,7", "landmarks of 1/b.jpg"),
        (f"10,20,100,120,{POINTS},7", f"10,20,0,120,{POINTS},7", "left"),
        (f"10,20,100,120,{POINTS},7", f"10,?,100,120,{POINTS},7", "face_y is '\\?'"),
    ],
)
def test_bad_lists(manual, old, new, message):
    rewrite(manual, old, new)
    with pytest.raises(BadInputError, match=message):
        read_affectnet(manual)


def test_wrong_use(manual, tmp_path_factory):
    with pytest.raises(WrongUseError, match="did you mean 'train'"):
        read_affectnet(manual, split="training")
    with pytest.raises(WrongUseError, match="missing"):
        read_affectnet(manual, missing="ignore")
    with pytest.raises(BadInputError, match="no AffectNet folder"):
        read_affectnet(tmp_path_factory.mktemp("nothing"))
    with pytest.raises(BadInputError, match="not a folder"):
        read_affectnet(manual / "gone")
    (manual / "Manually_Annotated_file_lists/validation.csv").unlink()
    assert len(read_affectnet(manual, split="train")) == 3
    with pytest.raises(BadInputError, match=r"there is no .*validation\.csv"):
        read_affectnet(manual)


@pytest.fixture
def eight(tmp_path):
    """AffectNet-8: one small array a label, as text or as a number."""
    rows = {"train_set": {"0": (0, 0.1, -0.2), "12": (7, -0.3, 0.4)}, "val_set": {"0": (1, 0.8, 0.0), "3": (6, -2, -2)}}
    for folder, faces in rows.items():
        (tmp_path / folder / "annotations").mkdir(parents=True)
        for number, (expression, valence, arousal) in faces.items():
            picture(tmp_path / folder / "images" / f"{number}.jpg")
            stem = tmp_path / folder / "annotations" / number
            np.save(f"{stem}_exp.npy", np.array(str(expression)) if number == "0" else np.array(expression))
            np.save(f"{stem}_val.npy", np.array(str(valence)) if number == "0" else np.array([valence], float))
            np.save(f"{stem}_aro.npy", np.array(str(arousal)))
            np.save(f"{stem}_lnd.npy", np.zeros(136))
    return tmp_path


def test_eight_layout(eight):
    faces = read_affectnet(eight)
    assert faces.index.tolist() == ["train/0", "train/12", "validation/0", "validation/3"]
    assert faces["expression"].tolist() == ["neutral", "contempt", "happiness", "anger"]
    assert faces.loc["train/12", ["valence", "arousal"]].tolist() == [-0.3, 0.4]
    assert faces.loc["validation/3", ["valence", "arousal"]].isna().all()
    assert read_affectnet(eight, split="train").index.tolist() == ["train/0", "train/12"]
    picture(eight / "train_set/images/77.jpg")
    skipped = []
    read_affectnet(eight, skipped=skipped)
    assert [(Path(item.item).name, item.reason) for item in skipped] == [("77.jpg", "no annotation")]


def test_eight_are_crops_already(eight):
    with pytest.raises(WrongUseError, match="crops already"):
        read_affectnet(eight, crops=eight)


def test_eight_never_unpickles(eight):
    np.save(eight / "train_set/annotations/0_exp.npy", np.array({"a": 1}, dtype=object), allow_pickle=True)
    with pytest.raises(BadInputError, match="does not hold one number"):
        read_affectnet(eight)


@pytest.mark.parametrize("value", [np.array("happy"), np.array([1.0, 2.0]), np.array("nan")])
def test_eight_bad_numbers(eight, value):
    np.save(eight / "train_set/annotations/0_val.npy", value)
    with pytest.raises(BadInputError, match="number"):
        read_affectnet(eight)


def test_eight_absent_files(eight):
    (eight / "val_set/annotations/0_aro.npy").unlink()
    with pytest.raises(BadInputError, match="0_aro"):
        read_affectnet(eight)
    (eight / "train_set/images/0.jpg").unlink()
    assert read_affectnet(eight, split="train", missing="skip").index.tolist() == ["train/12"]
    (eight / "train_set/images/12.jpg").unlink()
    with pytest.raises(BadInputError, match="none of the 2 images"):
        read_affectnet(eight, split="train", missing="skip")
    (eight / "train_set/annotations/0_exp.npy").write_bytes(b"")
    with pytest.raises(BadInputError, match="does not hold one number"):
        read_affectnet(eight, split="train")


def test_seven_class_protocol_drops_contempt(manual):
    from exprembed.data import MultiDomain

    skipped = []
    seven = MultiDomain({"affectnet": read_affectnet(manual)}, skipped=skipped)
    assert "contempt" not in set(seven.faces["expression"])
    assert skipped == [("affectnet/1/b", "contempt is none of its domain's classes")]
    eight = MultiDomain({"affectnet": read_affectnet(manual)}, {"affectnet": 8})
    assert isinstance(eight.faces, pd.DataFrame)
    assert "contempt" in set(eight.faces["expression"])
