"""Readers of sequences (CK+, MMI, Oulu-CASIA) on small folders in their official layouts, with what goes wrong in them."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from exprembed.data import read_ckplus, read_mmi, read_oulu_casia
from exprembed.data.images import open_image
from exprembed.data.readers import READERS
from exprembed.data.readers.ckplus import EMOTIONS
from exprembed.errors import BadInputError, WrongUseError


def picture(path, level=100, size=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (size, size), level).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def reasons(skipped):
    return {item.item.rpartition("/")[2]: item.reason for item in skipped}


def test_readers_are_registered():
    for name, reader in (("ckplus", read_ckplus), ("mmi", read_mmi), ("oulu_casia", read_oulu_casia)):
        assert READERS.get(name) is reader


# --- CK+ --------------------------------------------------------------------------------------------------------------


def sequence(root, subject, number, frames, emotion=None, landmarks=True):
    name = f"{subject}_{number}"
    for frame in range(1, frames + 1):
        picture(root / f"cohn-kanade-images/{subject}/{number}/{name}_{frame:08d}.png", 10 * frame)
        if landmarks:
            points = "\n".join(f"   {x}.5e+00   {frame}.0" for x in range(68))
            write(root / f"Landmarks/{subject}/{number}/{name}_{frame:08d}_landmarks.txt", points)
    if emotion is not None:
        write(root / f"Emotion/{subject}/{number}/{name}_{frames:08d}_emotion.txt", f"   {emotion}.0000000e+00\n")


@pytest.fixture
def ckplus(tmp_path):
    sequence(tmp_path, "S005", "001", 11, 3)
    sequence(tmp_path, "S010", "001", 5)
    sequence(tmp_path, "S010", "002", 2, 7)
    (tmp_path / "Emotion/S010/001").mkdir()  # as in the real set: a folder without a file
    write(tmp_path / "cohn-kanade-images/S010/.DS_Store", "")
    return tmp_path


def test_ckplus_layout(ckplus):
    skipped = []
    faces = read_ckplus(ckplus, skipped=skipped)
    assert faces.index.tolist() == [f"S005_001_{frame:08d}" for frame in (1, 9, 10, 11)] + [
        "S010_002_00000001",
        "S010_002_00000002",
    ]
    assert faces["expression"].tolist() == ["neutral", *["disgust"] * 3, "neutral", "surprise"]
    assert faces["reference"].tolist() == ["S005_001_00000001"] * 4 + ["S010_002_00000001"] * 2
    assert faces["subject"].tolist() == ["S005"] * 4 + ["S010"] * 2
    assert faces["frame"].tolist() == [0, 8, 9, 10, 0, 1]
    assert set(faces["sequence"]) == {"S005_001", "S010_002"}
    assert np.asarray(open_image(faces["path"].iloc[3]))[0, 0, 0] == 110
    assert len(faces["landmarks"].iloc[0]) == 136
    assert faces["landmarks"].iloc[2][:4] == [0.5, 10.0, 1.5, 10.0]
    assert reasons(skipped) == {"S010_001": "a sequence without an emotion"}


def test_ckplus_all_frames_and_unlabelled_sequences(ckplus):
    faces = read_ckplus(ckplus, frames="all", peak=2, unlabelled=True)
    assert len(faces) == 11 + 5 + 2
    assert faces["expression"].isna().sum() == 8 + 4
    assert (faces["expression"] == "disgust").sum() == 2
    assert faces.loc["S010_001_00000001", "expression"] == "neutral"


def test_ckplus_numbers_of_emotions(tmp_path):
    for number in range(1, 8):
        sequence(tmp_path, "S001", f"{number:03d}", 2, number, landmarks=False)
    faces = read_ckplus(tmp_path)
    assert faces["expression"].tolist()[1::2] == list(EMOTIONS[1:])
    assert EMOTIONS == ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
    assert "landmarks" not in faces


def test_ckplus_327_of_593(tmp_path):
    for row in range(593):
        sequence(tmp_path, f"S{row // 5:03d}", f"{row % 5 + 1:03d}", 2, 1 + row % 7 if row < 327 else None, False)
    skipped = []
    faces = read_ckplus(tmp_path, peak=1, skipped=skipped)
    assert faces["sequence"].nunique() == 327
    assert len(faces) == 654
    assert len(skipped) == 266


def test_ckplus_missing_files_are_listed(ckplus):
    images = ckplus / "cohn-kanade-images"
    sequence(ckplus, "S011", "001", 4, 1)
    sequence(ckplus, "S011", "002", 1, 1)
    (images / "S011/001/S011_001_00000004.png").unlink()
    shutil.rmtree(images / "S010/002")
    (ckplus / "Landmarks/S005/001/S005_001_00000010_landmarks.txt").unlink()
    picture(images / "S005/001/S099_001_00000001.png")
    skipped = []
    faces = read_ckplus(ckplus, skipped=skipped)
    assert set(faces["sequence"]) == {"S005_001"}
    assert faces["landmarks"].isna().tolist() == [False, False, True, False]
    assert reasons(skipped) == {
        "S010_001": "a sequence without an emotion",
        "S011_001": "the frame that its emotion names, S011_001_00000004, is not its last one",
        "S011_002": "1 frames, where a neutral one and a peak are due",
        "S010_002": "has an emotion, but no images",
        "S005_001_00000010": "has no landmarks; the face stays",
        "S099_001_00000001.png": "not named like S005_001_00000001.png",
    }


@pytest.mark.parametrize("text", ["8.0", "2.5", "-1", "", "happy", "1 2", "nan"])
def test_ckplus_wrong_emotions(ckplus, text):
    write(ckplus / "Emotion/S005/001/S005_001_00000011_emotion.txt", text)
    with pytest.raises(BadInputError, match="one number from 0 to 7"):
        read_ckplus(ckplus)


def test_ckplus_contradictions(ckplus, tmp_path_factory):
    write(ckplus / "Emotion/S005/001/S005_001_00000010_emotion.txt", "1")
    with pytest.raises(BadInputError, match="S005_001 has two emotions"):
        read_ckplus(ckplus)
    (ckplus / "Emotion/S005/001/S005_001_00000010_emotion.txt").unlink()
    picture(ckplus / "cohn-kanade-images/S005/001/S005_001_00000011.jpg")
    with pytest.raises(BadInputError, match="repeated"):
        read_ckplus(ckplus)
    (ckplus / "cohn-kanade-images/S005/001/S005_001_00000011.jpg").unlink()
    write(ckplus / "Landmarks/S005/001/S005_001_00000011_landmarks.txt", "1 2\n3 4\n")
    with pytest.raises(BadInputError, match="68 lines of two numbers are due; got \\(2, 2\\)"):
        read_ckplus(ckplus)
    shutil.rmtree(ckplus / "Emotion")
    with pytest.raises(BadInputError, match="Emotion does not exist"):
        read_ckplus(ckplus)
    with pytest.raises(BadInputError, match="is not CK"):
        read_ckplus(tmp_path_factory.mktemp("empty"))
    with pytest.raises(BadInputError, match="does not exist"):
        read_ckplus(ckplus / "nowhere")
    with pytest.raises(WrongUseError, match="did you mean 'peak'"):
        read_ckplus(ckplus, frames="peaks")
    with pytest.raises(WrongUseError, match="at least 1"):
        read_ckplus(ckplus, peak=0)


def test_ckplus_without_a_usable_sequence(tmp_path):
    sequence(tmp_path, "S005", "001", 3)
    (tmp_path / "Emotion").mkdir()
    with pytest.raises(BadInputError, match=r"no sequence that can be used \(1 left out\)"):
        read_ckplus(tmp_path)


def test_ckplus_exported_folders(tmp_path):
    for name in ("S010_004_00000017", "S010_004_00000018", "S011_001_00000011"):
        picture(tmp_path / "happy" / f"{name}.png", size=48)
    picture(tmp_path / "contempt/S138_008_00000007.png", size=48)
    picture(tmp_path / "contempt/again.png")
    skipped = []
    faces = read_ckplus(tmp_path, skipped=skipped)
    assert faces["expression"].to_dict() == {
        "S138_008_00000007": "contempt",
        "S010_004_00000017": "happiness",
        "S010_004_00000018": "happiness",
        "S011_001_00000011": "happiness",
    }
    assert faces.loc["S010_004_00000018", ["subject", "sequence", "frame"]].tolist() == ["S010", "S010_004", 18]
    assert "reference" not in faces
    assert reasons(skipped) == {"again.png": "not named like S010_004_00000017.png"}
    picture(tmp_path / "anger/S011_001_00000011.png")
    with pytest.raises(BadInputError, match="repeated"):
        read_ckplus(tmp_path)


def test_ckplus_exported_csv(tmp_path):
    levels = [np.full(2304, level) for level in (0, 255, 7)]
    rows = [
        f"{e},{' '.join(map(str, p))},{u}"
        for e, p, u in zip((0, 7, 6), levels, ("Training", "PublicTest", "PrivateTest"), strict=True)
    ]
    source = tmp_path / "ckextended.csv"
    source.write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n")
    with pytest.raises(WrongUseError, match="images=FOLDER"):
        read_ckplus(source)
    faces = read_ckplus(source, images=tmp_path / "png")
    assert faces["expression"].tolist() == ["anger", "contempt", "neutral"]
    assert faces["split"].tolist() == ["train", "validation", "test"]
    assert [np.asarray(open_image(path)).shape for path in faces["path"]] == [(48, 48, 3)] * 3
    assert int(np.asarray(open_image(faces["path"].iloc[2])).max()) == 7
    for bad in ("8," + rows[0][2:], rows[0].replace("0 0", "0", 1), rows[0].replace(" 0", " 300", 1), rows[0] + "ing"):
        source.write_text("\n".join(["emotion,pixels,Usage", rows[1], bad]) + "\n")
        with pytest.raises(BadInputError, match="row 3"):
            read_ckplus(source, images=tmp_path / "png")
    source.write_text("label,pixels\n")
    with pytest.raises(BadInputError, match="columns emotion, pixels and Usage"):
        read_ckplus(source, images=tmp_path / "png")


# --- Oulu-CASIA -------------------------------------------------------------------------------------------------------


@pytest.fixture
def oulu(tmp_path):
    for person, expression, frames in (("P001", "Anger", 6), ("P001", "Surprise", 3), ("P080", "Happiness", 1)):
        for frame in range(frames):
            picture(tmp_path / f"VL/Strong/{person}/{expression}/{frame:03d}.jpeg")
    return tmp_path


def test_oulu_layout(oulu):
    picture(oulu / "VL/Strong/P001/Boredom/000.jpeg")
    (oulu / "VL/Strong/notes").mkdir()
    skipped = []
    faces = read_oulu_casia(oulu, skipped=skipped)
    assert faces.index.tolist() == [
        *(f"P001_Anger_{frame:03d}" for frame in (0, 3, 4, 5)),
        *(f"P001_Surprise_{frame:03d}" for frame in (0, 1, 2)),
    ]
    assert faces["expression"].tolist() == ["neutral", *["anger"] * 3, "neutral", "surprise", "surprise"]
    assert faces["reference"].tolist() == ["P001_Anger_000"] * 4 + ["P001_Surprise_000"] * 3
    found = reasons(skipped)
    assert found["Boredom"].startswith("none of Anger")
    assert found["notes"] == "not named like P001"
    assert found["P080_Happiness"] == "1 frames, where a neutral one and a peak are due"
    assert sum(reason == "the sequence is absent" for reason in found.values()) == 4 + 5
    assert len(read_oulu_casia(oulu, frames="all")) == 9


def test_oulu_errors(oulu):
    with pytest.raises(BadInputError, match="VL/Dark does not exist"):
        read_oulu_casia(oulu, light="Dark")
    with pytest.raises(WrongUseError, match="did you mean 'Strong'"):
        read_oulu_casia(oulu, light="strong")
    with pytest.raises(WrongUseError, match="unknown camera"):
        read_oulu_casia(oulu, camera="UV")


# --- MMI --------------------------------------------------------------------------------------------------------------


def session(root, number, clip, emotion, frames=7, view="0"):
    folder = root / "Sessions" / str(number)
    write(
        folder / "session.xml", f'<session sessionId="{number}"><track view="{view}" filename="{clip}.avi"/></session>'
    )
    tag = "" if emotion is None else f'<Metatag Name="Emotion" Value="{emotion}"/>'
    write(folder / f"{clip}.xml", f'<Annotation><Metatag Name="Subject" Value="1"/>{tag}</Annotation>')
    for frame in range(1, frames + 1):
        picture(folder / clip / f"{frame:04d}.png")


@pytest.fixture
def mmi(tmp_path):
    session(tmp_path, 1767, "S001-100", 4)
    session(tmp_path, 20, "S001-101", 1, frames=2)
    session(tmp_path, 21, "S002-101", 6, view="2")
    session(tmp_path, 22, "S002-102", 9)
    session(tmp_path, 23, "S002-103", None)
    session(tmp_path, 24, "S002-104", 2, frames=0)
    (tmp_path / "Sessions/25").mkdir()
    return tmp_path


def test_mmi_layout(mmi):
    skipped = []
    faces = read_mmi(mmi, skipped=skipped)
    assert faces.index.tolist() == [
        "S001-101_0001",
        "S001-101_0002",
        *(f"S001-100_000{frame}" for frame in (1, 3, 4, 5)),
    ]
    assert faces["expression"].tolist() == ["neutral", "anger", "neutral", *["happiness"] * 3]
    assert set(faces["subject"]) == {"S001"}
    assert faces["reference"].iloc[-1] == "S001-100_0001"
    found = reasons(skipped)
    assert found["21"].startswith("the view is ['2']")
    assert found["S002-102"] == "its emotion is ['9'], none of 1 to 6"
    assert found["S002-103"] == "its emotion is [], none of 1 to 6"
    assert found["S002-104"].startswith("has no frames")
    assert found["25"] == "has no session.xml"
    assert len(read_mmi(mmi / "Sessions", frames="all")) == 9


def test_mmi_peaks_by_hand(mmi):
    table = mmi / "peaks.csv"
    table.write_text("sequence,frame\nS001-100,6\nS002-101,3\n")
    skipped = []
    faces = read_mmi(mmi, peaks=table, skipped=skipped)
    assert faces["frame"].tolist() == [0, 4, 5, 6]
    found = reasons(skipped)
    assert found["S001-101"] == "the table of peaks does not name it"
    assert found["S002-101"] == "has a peak, but is no sequence in front view"
    for text, words in (
        ("sequence,frame\nS001-100,7\n", "frame 7, where 1 to 6"),
        ("sequence,frame\nS001-100,1.5\n", "whole numbers"),
        ("clip,frame\nS001-100,1\n", "columns sequence and frame"),
        ("sequence,frame\nS001-100,1\nS001-100,2\n", "row 3: S001-100 is there twice"),
    ):
        table.write_text(text)
        with pytest.raises(BadInputError, match=words):
            read_mmi(mmi, peaks=table)


def test_mmi_errors(mmi):
    write(mmi / "Sessions/1767/session.xml", "<session>")
    with pytest.raises(BadInputError, match="cannot be read as XML"):
        read_mmi(mmi)
    with pytest.raises(BadInputError, match="does not exist"):
        read_mmi(mmi / "nowhere")
    (mmi / "empty").mkdir()
    with pytest.raises(BadInputError, match="no sequence that can be used"):
        read_mmi(mmi / "empty")


def test_references_lie_in_the_same_table(ckplus):
    faces = pd.DataFrame(read_ckplus(ckplus))
    assert faces["reference"].isin(faces.index).all()
    assert (faces.loc[faces["reference"], "expression"] == "neutral").all()
