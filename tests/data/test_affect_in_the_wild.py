"""read_afew_va, read_affwild2 and read_emotic in their official layouts, written here in miniature."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from exprembed.data import read_afew_va, read_affwild2, read_emotic
from exprembed.errors import BadInputError, WrongUseError

POINTS = [[float(i), 2.0 * i] for i in range(68)]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


# AFEW-VA


def clip(root, name="001", actor="A B", frames=3, **changes):
    notes = {"video_id": name, "actor": actor, "frames": {}}
    for i in range(frames):
        picture(root / name / f"{i:05d}.png")
        notes["frames"][f"{i:05d}"] = {"landmarks": POINTS, "valence": 10.0 - i, "arousal": -2.0 * i, **changes}
    (root / name / f"{name}.json").write_text(json.dumps(notes))


def test_afew_va(tmp_path):
    clip(tmp_path)
    clip(tmp_path / "AFEW-VA_12", "600", "C", 2)
    faces = read_afew_va(tmp_path)
    assert faces.index.tolist() == ["001/00000", "001/00001", "001/00002", "600/00000", "600/00001"]
    assert faces["valence"].tolist() == [1.0, 0.9, 0.8, 1.0, 0.9]
    assert faces["arousal"].tolist() == [0.0, -0.2, -0.4, 0.0, -0.2]
    assert faces["subject"].tolist() == ["A B"] * 3 + ["C"] * 2
    assert faces["frame"].tolist() == [0, 1, 2, 0, 1]
    assert faces["landmarks"].iloc[0][:6].tolist() == [0, 0, 1, 2, 2, 4]
    assert all(Path(file).is_file() for file in faces["path"])


def test_afew_va_absent_frames(tmp_path):
    clip(tmp_path)
    (tmp_path / "001/00001.png").unlink()
    with pytest.raises(BadInputError, match="1 of 3 images are absent"):
        read_afew_va(tmp_path)
    skipped = []
    assert len(read_afew_va(tmp_path, missing="skip", skipped=skipped)) == 2
    assert [Path(entry.item).name for entry in skipped] == ["00001.png"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"landmarks": POINTS[1:]}, "68 points"), ({"valence": 11}, "valence must lie"), ({"arousal": "x"}, "arousal")],
)
def test_afew_va_errors(tmp_path, changes, message):
    with pytest.raises(BadInputError, match=r"lacks 001/001\.json"):
        read_afew_va(tmp_path)
    clip(tmp_path, **changes)
    with pytest.raises(BadInputError, match=message):
        read_afew_va(tmp_path)
    with pytest.raises(WrongUseError, match="did you mean 'skip'"):
        read_afew_va(tmp_path, missing="skp")


# Aff-Wild2

CLASSES = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"


@pytest.fixture(params=["2020", "2022"])
def affwild2(tmp_path, request):
    """Films a (both tasks train), b (validated by one, trained on by the other), c (expression only, in training)."""
    base, tasks, train = {
        "2020": ("annotations", ("EXPR_Set", "VA_Set"), "Training_Set"),
        "2022": ("x/Third ABAW Annotations", ("EXPR_Classification_Challenge", "VA_Estimation_Challenge"), "Train_Set"),
    }[request.param]

    def write(task, split, name, lines):
        file = tmp_path / base / tasks[task] / split / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n")

    write(0, train, "a", [CLASSES, "0", "-1", "4", "7"])
    write(1, train, "a", ["valence,arousal", "0.5,-0.25", "0.1,0.2", "-5,-5", "1,-1"])
    write(0, "Validation_Set", "b", [CLASSES, "1", "2"])
    write(1, train, "b", ["valence,arousal", "0,0", "0.5,0.5", "0.25,0"])
    write(0, train, "c", [CLASSES, "3"])
    for name, frames in (("a", 4), ("b", 1), ("c", 1)):
        for i in range(frames):
            picture(tmp_path / "cropped_aligned" / name / f"{i + 1:05d}.jpg")
    return tmp_path, lambda *given: write(*given)


def test_affwild2(affwild2):
    skipped = []
    faces = read_affwild2(affwild2[0], skipped=skipped)
    assert faces.index.tolist() == ["a/00001", "a/00002", "a/00003", "a/00004", "b/00001", "c/00001"]
    assert faces["expression"].fillna("").tolist() == ["neutral", "", "happiness", "other", "anger", "fear"]
    assert faces["valence"].fillna(9).tolist() == [0.5, 0.1, 9, 1, 9, 9]
    assert faces["arousal"].fillna(9).tolist() == [-0.25, 0.2, 9, -1, 9, 9]
    assert faces["split"].tolist() == ["train"] * 4 + ["validation", "train"]
    assert {(Path(entry.item).name, entry.reason) for entry in skipped} == {
        ("b", "3 training labels of valence and arousal: the video validates the other task"),
        ("b", "1 labelled frames without an image"),
    }
    assert all(Path(file).is_file() for file in faces["path"])
    assert read_affwild2(affwild2[0], labels="both").index.tolist() == ["a/00001", "a/00004"]
    assert read_affwild2(affwild2[0], split="validation").index.tolist() == ["b/00001"]
    assert read_affwild2(affwild2[0], every=3).index.tolist() == ["a/00001", "a/00004", "b/00001", "c/00001"]


def test_affwild2_errors(affwild2, tmp_path_factory):
    root, write = affwild2
    with pytest.raises(WrongUseError, match="did you mean 'validation'"):
        read_affwild2(root, split="valid")
    with pytest.raises(WrongUseError, match="did you mean 'both'"):
        read_affwild2(root, labels="bot")
    with pytest.raises(WrongUseError, match="every"):
        read_affwild2(root, every=0)
    with pytest.raises(BadInputError, match="lacks cropped_aligned"):
        read_affwild2(root / "cropped_aligned")
    empty = tmp_path_factory.mktemp("empty")
    (empty / "cropped_aligned").mkdir()
    with pytest.raises(BadInputError, match="no annotations"):
        read_affwild2(empty)
    for lines, message in (
        ([CLASSES, "8"], "line 2: a number from -1 to 7"),
        (["Neutral,Angry", "0"], "'Angry'"),
        ([CLASSES, "0", "x"], "lines of numbers"),
        ([CLASSES, "0", "", "1"], "line 3: a number is missing"),
        ([CLASSES], "holds no label"),
    ):
        write(0, "Validation_Set", "b", lines)
        with pytest.raises(BadInputError, match=message):
            read_affwild2(root)
    write(0, "Validation_Set", "b", [CLASSES, "1"])
    write(1, "Validation_Set", "d", ["valence,arousal", "0,0", "0,1.5"])
    with pytest.raises(BadInputError, match="line 3: two numbers"):
        read_affwild2(root)
    picture(root / "EXPR_Set/Train_Set/z/0.jpg")
    with pytest.raises(BadInputError, match="twice"):
        read_affwild2(root)


# EMOTIC


def person(categories, felt, box=(1, 2, 3, 4)):
    """One person, as one or several annotators saw them."""
    several = isinstance(categories[0], list)
    named = [{"categories": np.array(given, dtype=object)} for given in (categories if several else [categories])]
    rated = [dict(zip(("valence", "arousal", "dominance"), row, strict=True)) for row in (felt if several else [felt])]
    return {
        "body_bbox": np.array(box, float),
        "annotations_categories": named if several else named[0],
        "annotations_continuous": rated if several else rated[0],
        "gender": "Male",
        "age": "Adult",
    }


def photo(name, people):
    return {"filename": name, "folder": "mscoco/images", "person": people}


def structures(value):
    """Return lists of dictionaries as MATLAB's arrays of structures, at every depth; savemat would write cells."""
    if isinstance(value, list):
        array = np.empty(len(value), [(name, object) for name in value[0]])
        for row, entry in enumerate(value):
            array[row] = tuple(structures(entry[name]) for name in entry)
        return array
    return {name: structures(entry) for name, entry in value.items()} if isinstance(value, dict) else value


def emotic(root, train):
    picture(root / "emotic/mscoco/images/a.jpg")
    picture(root / "emotic/mscoco/images/b.jpg")
    folder = root / "Annotations"
    folder.mkdir(exist_ok=True)
    several = person([["Peace"], ["Peace", "Doubt/Confusion"]], [(1, 10, 5), (10, 10, np.nan)])
    test = photo("b.jpg", person(["Fear"], (np.nan, np.nan, np.nan)))
    sets = {"train": train, "val": photo("b.jpg", several), "test": test}
    savemat(folder / "Annotations.mat", structures(sets))
    return root


def test_emotic(tmp_path):
    """Two photos, one person or two, one emotion or two: MATLAB drops arrays of one."""
    first = photo("a.jpg", [person(["Happiness", "Pleasure"], (10, 1, 5.5)), person(["Anger"], (5.5, 5.5, 5.5))])
    faces = read_emotic(emotic(tmp_path, [first, photo("b.jpg", person(["Sadness"], (1, 1, 1)))]))
    stem = "mscoco/images"
    assert faces.index.tolist() == [
        f"train/{stem}/a/0", f"train/{stem}/a/1", f"train/{stem}/b/0", f"validation/{stem}/b/0", f"test/{stem}/b/0"
    ]  # fmt: skip
    assert faces["valence"].fillna(9).tolist() == pytest.approx([1, 0, -1, 0, 9])
    assert faces["arousal"].fillna(9).tolist() == pytest.approx([-1, 0, -1, 1, 9])
    assert faces["dominance"].iloc[3] == pytest.approx(-0.5 / 4.5)
    assert faces["votes_happiness"].tolist() == [1, 0, 0, 0, 0]
    assert faces["votes_peace"].iloc[3] == 2
    assert faces["votes_doubt_confusion"].iloc[3] == 1
    assert faces["annotators"].tolist() == [1, 1, 1, 2, 1]
    assert len(faces.votes.columns) == 26
    assert faces.iloc[0][["body_left", "body_top", "body_right", "body_bottom"]].tolist() == [1, 2, 3, 4]
    assert faces["age_group"].iloc[0] == "adult"
    assert read_emotic(tmp_path, split="validation").index.tolist() == [f"validation/{stem}/b/0"]


def test_emotic_errors(tmp_path):
    good = photo("a.jpg", person(["Anger"], (5, 5, 5)))
    with pytest.raises(BadInputError, match=r"lacks Annotations/Annotations\.mat"):
        read_emotic(tmp_path)
    with pytest.raises(WrongUseError, match="did you mean 'validation'"):
        read_emotic(emotic(tmp_path, good), split="valid")
    for entry, message in (
        (photo("a.jpg", person(["Angry"], (5, 5, 5))), "'Angry' is none"),
        (photo("a.jpg", person(["Anger"], (0, 5, 5))), "lie in"),
        (photo("a.jpg", person(["Anger"], (5, 5, 5), box=(1, 2, 3))), "3 numbers"),
        ({"filename": "a.jpg"}, "folder"),
    ):
        with pytest.raises(BadInputError, match=message):
            read_emotic(emotic(tmp_path, entry))
    emotic(tmp_path, good)
    (tmp_path / "emotic/mscoco/images/a.jpg").unlink()
    with pytest.raises(BadInputError, match="1 of 3 images are absent"):
        read_emotic(tmp_path)
    skipped = []
    assert len(read_emotic(tmp_path, missing="skip", skipped=skipped)) == 2
    assert len(skipped) == 1
    (tmp_path / "Annotations/Annotations.mat").write_text("no")
    with pytest.raises(BadInputError, match="cannot be read as a MATLAB file"):
        read_emotic(tmp_path)
