"""FER+ in its official layout, with the traps of the real file, on images made here."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exprembed.data import read_ferplus
from exprembed.errors import BadInputError, WrongUseError

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"


@pytest.fixture
def folder(tmp_path):
    rows = [
        "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0",  # neutral
        "Training,fer0000001.png,0,5,5,0,0,0,0,0,0,0",  # a tie
        "Training,,0,0,0,0,0,0,0,0,0,10",  # no name
        "PublicTest,fer0000007.png,1,1,1,1,0,0,0,0,6,0",  # unknown wins
        "PublicTest,fer0000008.png,0,0,0,0,0,0,9,1,0,0",  # fear
        "Training,fer0000009.png,0,0,0,0,0,0,0,0,10,0",  # no vote on an expression
        "Training,fer0000010.png,10,0,0,0,0,0,0,0,0,0",  # twice, with different votes
        "Training,fer0000010.png,0,10,0,0,0,0,0,0,0,0",
        "Training,fer0000011.png,0,10,0,0,0,0,0,0,0,0",  # twice, the same
        "Training,fer0000011.png,0,10,0,0,0,0,0,0,0,0",
        "Training,fer0000012.png,0,10,0,0,0,0,0,0,0,0",  # image absent
        "PrivateTest,fer0000013.png,0,10,0,0,0,0,0,0,0,0",  # folder absent
    ]
    (tmp_path / "fer2013new.csv").write_text(HEADER + "\n".join(rows) + "\n")
    for name, numbers in (("FER2013Train", (0, 1, 9, 10, 11)), ("FER2013Valid", (7, 8))):
        (tmp_path / name).mkdir()
        for number in numbers:
            Image.fromarray(np.full((48, 48), number, np.uint8)).save(tmp_path / name / f"fer{number:07d}.png")
    return tmp_path


def test_joined_by_name_and_nothing_lost_in_silence(folder):
    skipped = []
    faces = read_ferplus(folder, skipped=skipped)
    assert faces.index.tolist() == ["fer0000000", "fer0000001", "fer0000007", "fer0000008", "fer0000011"]
    assert faces["expression"].fillna("?").tolist() == ["neutral", "?", "?", "fear", "happiness"]
    assert faces["split"].tolist() == ["train", "train", "validation", "validation", "train"]
    assert faces.loc["fer0000008", "votes_fear"] == 9
    assert "votes_unknown" not in faces
    reasons = sorted(entry.reason for entry in skipped)
    assert len(faces) + len(skipped) == 12
    assert reasons.count("one name with different votes") == 2
    assert reasons.count("its image is absent") == 2
    assert {"no image name", "the same row again", "no vote on any of the eight expressions"} <= set(reasons)
    assert np.asarray(Image.open(faces.loc["fer0000008", "path"]))[0, 0] == 8


def test_split_and_refusals(folder):
    assert read_ferplus(folder, split="validation").index.tolist() == ["fer0000007", "fer0000008"]
    with pytest.raises(BadInputError, match="no split 'dev'"):
        read_ferplus(folder, split="dev")
    with pytest.raises(BadInputError, match=r"lacks fer2013new\.csv"):
        read_ferplus(folder / "FER2013Train")
    (folder / "fer2013new.csv").write_text(HEADER.replace("anger", "rage"))
    with pytest.raises(BadInputError, match="lacks the columns anger"):
        read_ferplus(folder)


LABELS = "Usage,Image name,fer2013_emotion,ambiguous\n"


def test_fer2013s_own_label_votes_too(folder):
    rows = [
        "Training,fer0000000.png,angry,0",
        "Training,fer0000001.png,surprised,1",  # ambiguous: not used
        "PublicTest,fer0000007.png,sad,0",
        "Training,fer0000010.png,angry,0",
    ]  # fer0000008 and fer0000011 have no label
    (folder / "fer2013_labels.csv").write_text(LABELS + "\n".join(rows) + "\n")
    plain, faces = read_ferplus(folder), read_ferplus(folder, original_votes=3)
    assert faces.index.equals(plain.index)
    added = (faces.votes - plain.votes).stack()
    assert added[added != 0].to_dict() == {("fer0000000", "anger"): 3, ("fer0000007", "sadness"): 3}
    assert faces["expression"].fillna("?").tolist() == ["anger", "?", "?", "fear", "happiness"]
    assert read_ferplus(folder, split="validation", original_votes=3).loc["fer0000007", "votes_sadness"] == 4


def test_fer2013_has_no_say_against_contempt(folder):
    csv = folder / "fer2013new.csv"
    csv.write_text(csv.read_text().replace("fer0000000.png,4,0,0,1,3,2,0,0,0,0", "fer0000000.png,4,0,0,1,1,0,0,4,0,0"))
    (folder / "fer2013_labels.csv").write_text(LABELS + "Training,fer0000000.png,angry,0\n")
    assert read_ferplus(folder, original_votes=3).votes.equals(read_ferplus(folder).votes)


def test_fer2013s_own_csv_gives_the_same_labels(folder):
    usages = [line.split(",")[0] for line in (folder / "fer2013new.csv").read_text().splitlines()[1:]]
    numbers = [0, 5, 6, 4, 2, 6, 0, 1, 3, 3, 3, 3]
    rows = [f"{number},0 1 2,{usage}" for number, usage in zip(numbers, usages, strict=True)]
    (folder / "fer2013.csv").write_text("emotion,pixels,Usage\n" + "\n".join(rows) + "\n")
    faces = read_ferplus(folder, original_votes=2)
    plain = read_ferplus(folder)
    found = (faces.votes - plain.votes).idxmax(axis=1)
    assert found.tolist() == ["anger", "surprise", "sadness", "fear", "happiness"]
    (folder / "fer2013.csv").write_text("emotion,pixels,Usage\n" + "\n".join(rows[:-1]) + "\n")
    with pytest.raises(BadInputError, match=r"\(11 rows\) does not go with fer2013new\.csv \(12 rows\)"):
        read_ferplus(folder, original_votes=2)
    (folder / "fer2013.csv").write_text("emotion,pixels,Usage\n" + "\n".join(["7" + rows[0][1:], *rows[1:]]) + "\n")
    with pytest.raises(BadInputError, match="emotion must be a number from 0 to 6"):
        read_ferplus(folder, original_votes=2)


def test_original_votes_are_refused_where_they_cannot_be(folder):
    with pytest.raises(WrongUseError, match="must not be negative; got -1"):
        read_ferplus(folder, original_votes=-1)
    with pytest.raises(BadInputError, match=r"neither fer2013_labels\.csv nor fer2013\.csv; original_votes=0"):
        read_ferplus(folder, original_votes=1)
    (folder / "fer2013_labels.csv").write_text("Usage,Image name,emotion\n")
    with pytest.raises(BadInputError, match="lacks the columns fer2013_emotion"):
        read_ferplus(folder, original_votes=1)
    (folder / "fer2013_labels.csv").write_text(LABELS + "Training,fer0000000.png,furious,0\n")
    with pytest.raises(BadInputError, match="unknown fer2013_emotion 'furious'; known: angry"):
        read_ferplus(folder, original_votes=1)


@pytest.mark.data
@pytest.mark.skipif("EXPREMBED_DATA" not in os.environ, reason="EXPREMBED_DATA is not set")
def test_the_real_set():
    root = Path(os.environ["EXPREMBED_DATA"]) / "ferplus"
    if not root.is_dir():
        pytest.skip(f"{root} is absent")
    skipped = []
    faces = read_ferplus(root, skipped=skipped)
    assert faces["split"].value_counts().to_dict() == {"train": 28556, "validation": 3579}
    assert len(skipped) == 163
