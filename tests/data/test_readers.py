"""Readers of folders, RAF-DB, CelebA and JAFFE: on generated fixtures, and on the real sets where they are."""

import itertools
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from exprembed.data import read_celeba, read_folder, read_jaffe, read_rafdb
from exprembed.data.images import open_image
from exprembed.data.readers import READERS
from exprembed.data.readers.jaffe import RATINGS, jaffe_rating_triplets
from exprembed.data.tables import FaceTable
from exprembed.errors import BadInputError, WrongUseError
from exprembed.files import Skipped


def picture(path: Path, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (4, 4), 100).save(path)


def real(name: str) -> Path:
    folder = Path(os.environ.get("EXPREMBED_DATA") or "-", name)
    if not folder.is_dir():
        pytest.skip(f"set EXPREMBED_DATA to the folder that holds {name}")
    return folder


def test_readers_are_registered():
    for name, reader in (
        ("folder", read_folder),
        ("rafdb", read_rafdb),
        ("celeba", read_celeba),
        ("jaffe", read_jaffe),
    ):
        assert READERS.get(name) is reader


# --- any folder -------------------------------------------------------------------------------------------------------


def test_class_folders_become_expressions(tmp_path):
    for name in ("Happy/2.png", "Happy/1.png", "SAD/1.png", "train/anger/9.jpg"):
        picture(tmp_path / name)
    table = read_folder(tmp_path)
    assert table["expression"].to_dict() == {
        "Happy/1.png": "happiness",
        "Happy/2.png": "happiness",
        "SAD/1.png": "sadness",
        "train/anger/9.jpg": "anger",
    }
    assert all(Path(path).is_file() for path in table["path"])
    assert set(table["dataset"]) == {tmp_path.name}
    assert "expression" not in read_folder(str(tmp_path), labels=None)


def test_albums_get_no_labels_unless_asked(tmp_path):
    for name in ("2019/a.png", "happy/b.png"):
        picture(tmp_path / name)
    assert "expression" not in read_folder(tmp_path)
    assert list(read_folder(tmp_path, labels="parent")["expression"]) == ["2019", "happiness"]
    picture(tmp_path / "loose.png")
    assert len(read_folder(tmp_path)) == 3
    with pytest.raises(BadInputError, match=r"loose\.png lies in no class folder.*labels=None"):
        read_folder(tmp_path, labels="parent")


def test_folder_errors(tmp_path):
    picture(tmp_path / "a.png")
    with pytest.raises(WrongUseError, match="unknown choice of labels 'parents'; did you mean 'parent'"):
        read_folder(tmp_path, labels="parents")
    with pytest.raises(BadInputError, match="is a file where a folder"):
        read_folder(tmp_path / "a.png")
    with pytest.raises(BadInputError, match="does not exist"):
        read_folder(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match="no image"):
        read_folder(tmp_path / "empty")
    (tmp_path / "lost.png").symlink_to("nowhere")
    skipped: list[Skipped] = []
    assert len(read_folder(tmp_path, skipped=skipped)) == 1
    assert skipped == [Skipped(str(tmp_path / "lost.png"), "dangling link")]


# --- RAF-DB -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def raf(tmp_path):
    lines = [f"train_{i:05d}.jpg {i}" for i in range(1, 8)] + ["test_0001.jpg 4", "test_0002.jpg 7"]
    labels = tmp_path / "basic/EmoLabel/list_patition_label.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text("\n".join(lines) + "\n")
    for line in lines:
        stem = line.split(".")[0]
        picture(tmp_path / f"basic/Image/aligned/{stem}_aligned.jpg")
        picture(tmp_path / f"basic/Image/original/{stem}.jpg")
    return tmp_path


def test_rafdb_layout(raf):
    table = read_rafdb(raf)
    assert table.equals(read_rafdb(raf / "basic"))
    expected = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral", "happiness", "neutral"]
    assert list(table["expression"]) == expected
    assert list(table["split"]) == ["train"] * 7 + ["test"] * 2
    assert set(table["dataset"]) == {"rafdb"}
    assert table.loc["train_00003", "path"] == str(raf / "basic/Image/aligned/train_00003_aligned.jpg")
    assert all(Path(path).is_file() for path in table["path"])
    assert list(read_rafdb(raf, split="test").index) == ["test_0001", "test_0002"]
    assert read_rafdb(raf, images="original")["path"].str.endswith("original/test_0002.jpg").iloc[-1]


def test_rafdb_never_loses_a_row_silently(raf):
    folder = raf / "basic/Image/aligned"
    for name in ("train_00002", "test_0001"):
        (folder / f"{name}_aligned.jpg").unlink()
    picture(folder / "train_99999_aligned.jpg")
    with pytest.raises(BadInputError, match=r"2 of 9 images .* first train_00002_aligned\.jpg; .*missing=\"skip\""):
        read_rafdb(raf)
    skipped: list[Skipped] = []
    assert len(read_rafdb(raf, missing="skip", skipped=skipped)) == 7
    assert [(Path(item).name, reason) for item, reason in skipped] == [
        ("train_00002_aligned.jpg", "named in list_patition_label.txt, but absent"),
        ("test_0001_aligned.jpg", "named in list_patition_label.txt, but absent"),
        ("train_99999_aligned.jpg", "not named in list_patition_label.txt"),
    ]
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(BadInputError, match="holds none of the 9 images"):
        read_rafdb(raf, missing="skip")


@pytest.mark.parametrize(
    "line", ["train_00008.jpg 8", "train_00008.jpg", "photo.jpg 3", "train_00008.jpg 1 2", "train_1.jpg x"]
)
def test_rafdb_malformed_labels(raf, line):
    labels = raf / "basic/EmoLabel/list_patition_label.txt"
    labels.write_text(labels.read_text() + line + "\n")
    with pytest.raises(BadInputError, match=f"line 10 is '{re.escape(line)}'"):
        read_rafdb(raf)


def test_rafdb_repeated_and_absent_labels(raf, tmp_path_factory):
    labels = raf / "basic/EmoLabel/list_patition_label.txt"
    labels.write_text(labels.read_text() + "test_0001.jpg 3\n")
    with pytest.raises(BadInputError, match="'test_0001' is repeated"):
        read_rafdb(raf)
    labels.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInputError, match="cannot be read as text"):
        read_rafdb(raf)
    with pytest.raises(BadInputError, match="is not a RAF-DB folder: it lacks"):
        read_rafdb(tmp_path_factory.mktemp("other"))
    with pytest.raises(BadInputError, match="is not a folder"):
        read_rafdb(raf / "gone")
    for option in ({"split": "validation"}, {"images": "cropped"}, {"missing": "ignore"}):
        labels.write_text("train_00001.jpg 1\n")
        with pytest.raises(WrongUseError, match="unknown"):
            read_rafdb(raf, **option)


@pytest.mark.data
def test_real_rafdb():
    table = read_rafdb(real("rafdb"))
    assert len(table) == 12_271
    counts = table["expression"].value_counts()
    assert (counts["fear"], counts["anger"], counts["happiness"]) == (281, 705, 4_772)
    assert open_image(table["path"].iloc[0]).size == (100, 100)


# --- CelebA -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def celeba(tmp_path):
    (tmp_path / "list_attr_celeba.txt").write_text(
        "3\nSmiling 5_o_Clock_Shadow Young \n000001.jpg -1  1  1\n000002.jpg  1 -1  1\n000003.jpg  1  1 -1\n"
    )
    (tmp_path / "identity_CelebA.txt").write_text("000002.jpg 7\n000001.jpg 2880\n000003.jpg 7\n")
    for i in (1, 2, 3):
        picture(tmp_path / f"img_align_celeba/{i:06d}.jpg")
    return tmp_path


def test_celeba_layout(celeba):
    table = read_celeba(celeba)
    assert list(table.index) == ["000001", "000002", "000003"]
    assert table["subject"].to_dict() == {"000001": "2880", "000002": "7", "000003": "7"}
    attributes = ["attr_Smiling", "attr_5_o_Clock_Shadow", "attr_Young"]
    assert table[attributes].to_numpy().tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    assert "split" not in table
    assert all(Path(path).is_file() for path in table["path"])
    with pytest.raises(BadInputError, match="no list_eval_partition"):
        read_celeba(celeba, split="test")


def test_celeba_partition_and_official_folders(celeba):
    (celeba / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n")
    table = read_celeba(celeba)
    assert list(table["split"]) == ["train", "validation", "test"]
    for name, place in (
        ("img_align_celeba", "Img"),
        ("list_attr_celeba.txt", "Anno"),
        ("identity_CelebA.txt", "Anno"),
        ("list_eval_partition.txt", "Eval"),
    ):
        (celeba / place).mkdir(exist_ok=True)
        (celeba / name).rename(celeba / place / name)
    assert read_celeba(celeba).drop(columns="path").equals(table.drop(columns="path"))
    skipped: list[Skipped] = []
    assert list(read_celeba(celeba, split="validation", skipped=skipped).index) == ["000002"]
    assert skipped == []
    with pytest.raises(WrongUseError, match="unknown CelebA split 'val'; did you mean 'validation'"):
        read_celeba(celeba, split="val")
    (celeba / "Eval/list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 1\n000003.jpg 3\n")
    with pytest.raises(BadInputError, match="the partition 3"):
        read_celeba(celeba)


def test_celeba_never_loses_a_row_silently(celeba):
    (celeba / "img_align_celeba/000002.jpg").unlink()
    picture(celeba / "img_align_celeba/000009.jpg")
    with pytest.raises(BadInputError, match=r"1 of 3 images .* first 000002\.jpg"):
        read_celeba(celeba)
    skipped: list[Skipped] = []
    assert list(read_celeba(celeba, missing="skip", skipped=skipped).index) == ["000001", "000003"]
    assert [Path(item).name for item, _ in skipped] == ["000002.jpg", "000009.jpg"]


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("list_attr_celeba.txt", "3\nSmiling", "4\nSmiling", "announces 4 images and lists 3: truncated"),
        ("list_attr_celeba.txt", "000002.jpg  1", "000002.jpg  0", r"000002\.jpg: Smiling is 0 where -1 or 1 is due"),
        ("list_attr_celeba.txt", "000002.jpg  1", "000002.jpg  x", r"000002\.jpg: Smiling is x where -1 or 1 is due"),
        ("list_attr_celeba.txt", " 1 -1\n", " 1\n", r"000003\.jpg: Young is nan"),
        ("list_attr_celeba.txt", " 1 -1\n", " 1 -1 1 1\n", "cannot be read: .*line"),
        ("list_attr_celeba.txt", "3\nSmiling", "Smiling", "due are the number of images"),
        ("list_attr_celeba.txt", "000003.jpg", "000002.jpg", "'000002' is repeated"),
        ("identity_CelebA.txt", "000003.jpg 7\n", "", r"lacks 1 of 3 images, first 000003\.jpg"),
        ("identity_CelebA.txt", "000003.jpg 7", "000003.jpg seven", "line 3, is '000003.jpg seven'"),
    ],
)
def test_celeba_contradictions(celeba, name, old, new, words):
    text = (celeba / name).read_text()
    assert old in text
    (celeba / name).write_text(text.replace(old, new))
    with pytest.raises(BadInputError, match=words):
        read_celeba(celeba)


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "identity_CelebA.txt", "img_align_celeba"])
def test_celeba_lacks_a_part(celeba, name):
    (celeba / name).rename(celeba / "elsewhere")
    with pytest.raises(BadInputError, match=f"it lacks {name}"):
        read_celeba(celeba)


@pytest.mark.data
def test_real_celeba():
    table = read_celeba(real("celeba"))
    assert len(table) == 10_000
    assert table.columns.str.startswith("attr_").sum() == 40
    assert table["attr_Smiling"].mean() == pytest.approx(0.482, abs=5e-4)
    assert table["attr_Mouth_Slightly_Open"].mean() == pytest.approx(0.481, abs=5e-4)
    assert table.loc["000001", "subject"] == "2880"


# --- JAFFE ------------------------------------------------------------------------------------------------------------

HEADER = "# HAP SAD SUR ANG DIS FEA PIC"


@pytest.fixture
def jaffe(tmp_path):
    for name in ("KA.NE2.27", "KA.NE1.26", "KA.HA1.29", "NA.AN1.39", "NA.SU3.40"):
        picture(tmp_path / f"{name}.tiff", "P" if name.startswith("KA.H") else "L")
    (tmp_path / "semantic_ratings.txt").write_text(
        f"{HEADER}\n1 2.87 2.52 2.10 1.97 1.97 2.06 KA-NE1\n2 4.90 1.13 1.26 1.10 1.03 1.10 KA-HA1\n"
        "3 1.45 2.84 1.68 4.06 3.87 1.90 NA-AN1\n4 1.4 2.8 1.6 4.0 3.8 1.9 KM-AN1\n5 2.5 2.4 1.6 1.8 1.8 1.8 KA-NE2\n"
    )
    return tmp_path


def test_jaffe_layout(jaffe):
    skipped: list[Skipped] = []
    table = read_jaffe(jaffe, skipped=skipped)
    assert list(table.index) == ["KA.HA1.29", "KA.NE1.26", "KA.NE2.27", "NA.AN1.39", "NA.SU3.40"]
    assert list(table["expression"]) == ["happiness", "neutral", "neutral", "anger", "surprise"]
    assert list(table["subject"]) == ["KA"] * 3 + ["NA"] * 2  # a subject, not a missing value
    assert table["reference"].iloc[:3].tolist() == ["KA.NE1.26"] * 3
    assert table["reference"].iloc[3:].isna().all()
    assert table.loc["KA.HA1.29", list(RATINGS)].tolist() == [4.90, 1.13, 1.26, 1.10, 1.03, 1.10]
    assert table.loc["NA.AN1.39", "rating_anger"] == 4.06
    assert table.loc["NA.SU3.40", list(RATINGS)].isna().all()
    assert skipped == [Skipped("semantic_ratings.txt KM-AN1", "rated, but the picture is absent")]
    assert open_image(table.loc["KA.HA1.29", "path"]).size == (4, 4)


def test_jaffe_columns_follow_the_header(jaffe):
    ratings = jaffe / "semantic_ratings.txt"
    ratings.write_text("# SAD HAP SUR ANG DIS FEA PIC\n---------\n1 1 2 3 4 5 1.5 KA-HA1\n")
    row = read_jaffe(jaffe).loc["KA.HA1.29"]
    assert (row["rating_happiness"], row["rating_sadness"], row["rating_fear"]) == (2, 1, 1.5)


def test_jaffe_other_files_are_listed(jaffe):
    picture(jaffe / "montage.tiff")
    skipped: list[Skipped] = []
    assert len(read_jaffe(jaffe, skipped=skipped)) == 5
    assert (Path(skipped[0].item).name, skipped[0].reason) == ("montage.tiff", "not named like KA.AN1.39.tiff")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the first line is '# HAP SAD"),
        ("# HAP SAD PIC\n", "the first line is '# HAP SAD"),
        (f"{HEADER}\n1 1 2 3 4 5 KA-HA1\n", "line 2: .* does not fit its header"),
        (f"{HEADER}\n1 1 2 3 4 5 high KA-HA1\n", "line 2: .* does not fit its header"),
        (f"{HEADER}\n1 1 2 3 4 5 6 KA-HA1\n", "line 2: ratings run from 1 to 5"),
        (f"{HEADER}\n1 1 2 3 4 5 nan KA-HA1\n", "line 2: ratings run from 1 to 5"),
        (f"{HEADER}\n1 1 2 3 4 5 5 KA-HA1\n2 1 2 3 4 5 5 KA-HA1\n", "line 3: KA-HA1 is rated twice"),
    ],
)
def test_jaffe_malformed_ratings(jaffe, text, words):
    (jaffe / "semantic_ratings.txt").write_text(text)
    with pytest.raises(BadInputError, match=words):
        read_jaffe(jaffe)


def test_jaffe_errors(jaffe, tmp_path_factory):
    with pytest.raises(BadInputError, match=r"holds no picture named like KA\.AN1\.39"):
        read_jaffe(tmp_path_factory.mktemp("empty"))
    with pytest.raises(BadInputError, match="is not a folder"):
        read_jaffe(jaffe / "gone")
    picture(jaffe / "KA.HA1.30.tiff")
    with pytest.raises(BadInputError, match="two pictures are KA-HA1"):
        read_jaffe(jaffe)
    (jaffe / "KA.HA1.30.tiff").rename(jaffe / "KA.XX1.30.tiff")
    with pytest.raises(BadInputError, match="unknown expression code 'XX'"):
        read_jaffe(jaffe)
    (jaffe / "KA.XX1.30.tiff").unlink()
    (jaffe / "semantic_ratings.txt").unlink()
    with pytest.raises(BadInputError, match=r"semantic_ratings\.txt does not exist"):
        read_jaffe(jaffe)


def rated_faces(n: int, subjects: int, seed: int) -> FaceTable:
    rng = np.random.default_rng(seed)
    columns = {
        "path": [f"{i}.png" for i in range(n)],
        "subject": [f"s{i}" for i in rng.integers(subjects, size=n)],
        "expression": rng.choice(["fear", "anger", "neutral"], size=n),
    }
    ratings = dict(zip(RATINGS, np.round(rng.uniform(1, 5, (6, n)), 1), strict=True))
    return FaceTable(columns | ratings, index=[f"f{i}" for i in range(n)])


def brute_force(faces: FaceTable, max_ratio: float) -> set[tuple[str, str, str, str]]:
    """Transcribe the rule one triplet at a time."""
    found = set()
    ratings = {face: np.array(row) for face, row in zip(faces.index, faces[list(RATINGS)].to_numpy(), strict=True)}
    subject, expression = faces["subject"].to_dict(), faces["expression"].to_dict()
    for trio in itertools.combinations(faces.index, 3):
        if len({subject[face] for face in trio}) < 3:
            continue
        pairs = [(a, b, next(iter(set(trio) - {a, b}))) for a, b in itertools.combinations(trio, 2)]
        sides = sorted((float(np.sqrt(((ratings[a] - ratings[b]) ** 2).sum())), a, b, odd) for a, b, odd in pairs)
        if sides[0][0] < max_ratio * sides[1][0]:
            kinds = len({expression[face] for face in trio})
            found.add((*sides[0][1:], ("one_class", "two_class", "three_class")[kinds - 1]))
    return found


@pytest.mark.parametrize(("seed", "max_ratio"), [(0, 0.6), (1, 0.9), (2, 1.0)])
def test_rating_triplets_against_brute_force(seed, max_ratio):
    faces = rated_faces(18, 5, seed)
    triplets = jaffe_rating_triplets(faces, max_ratio)
    rows = list(triplets[["a", "b", "odd", "type"]].itertuples(index=False, name=None))
    assert len(set(rows)) == len(rows) > 0
    assert set(rows) == brute_force(faces, max_ratio)
    assert set(triplets["agreement"]) == {"strong"}
    assert triplets.equals(jaffe_rating_triplets(faces, max_ratio))


def test_rating_triplets_leave_out_unrated_faces_and_ties():
    faces = pd.DataFrame(rated_faces(3, 100, 3))
    faces["subject"] = list("abc")
    faces[list(RATINGS)] = np.repeat([[1.0], [2.0], [3.0]], 6, axis=1)  # two pairs at one distance: nothing is odd
    assert len(jaffe_rating_triplets(FaceTable(faces), 1.0)) == 0
    faces.loc["f2", list(RATINGS)] = 5.0
    assert len(jaffe_rating_triplets(FaceTable(faces))) == 1
    faces.loc["f2", "rating_fear"] = np.nan
    assert len(jaffe_rating_triplets(FaceTable(faces))) == 0


def test_rating_triplets_errors():
    faces = rated_faces(5, 5, 0)
    for wrong in (0, 1.1, float("nan")):
        with pytest.raises(WrongUseError, match="max_ratio"):
            jaffe_rating_triplets(faces, wrong)
    with pytest.raises(BadInputError, match="missing: subject, rating_fear"):
        jaffe_rating_triplets(FaceTable(faces.drop(columns=["subject", "rating_fear"])))
    with pytest.raises(BadInputError, match="row 'f1' has ratings but no subject"):
        jaffe_rating_triplets(FaceTable(faces.assign(subject=["a", None, "c", "d", "e"])))


@pytest.mark.data
def test_real_jaffe():
    skipped: list[Skipped] = []
    faces = read_jaffe(real("jaffe"), skipped=skipped)
    assert sorted(faces["subject"].unique()) == ["KA", "KL", "KM", "KR", "MK", "NA"]
    assert len(faces) == 129
    assert faces[list(RATINGS)].notna().all(axis=None)
    assert len(skipped) == 4  # rated, but not distributed
    assert {open_image(path).size for path in faces["path"]} == {(256, 256)}
    triplets = jaffe_rating_triplets(faces)
    assert triplets["type"].value_counts().to_dict() == {"two_class": 55_721, "three_class": 40_011, "one_class": 1_509}
    subject = faces["subject"]
    for one, other in (("a", "b"), ("a", "odd"), ("b", "odd")):
        assert (subject.loc[triplets[one]].to_numpy() != subject.loc[triplets[other]].to_numpy()).all()


def test_a_table_of_ones_own(tmp_path):
    from exprembed.data import read_table

    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    FaceTable({"path": ["a.png"], "expression": ["anger"]}, index=["a"]).to_parquet(tmp_path / "faces.parquet")
    faces = read_table(tmp_path / "faces.parquet")
    assert faces.loc["a", "path"] == str(tmp_path / "a.png")
    assert faces.loc["a", "expression"] == "anger"
    with pytest.raises(BadInputError, match=r"\.parquet file of a FaceTable is due"):
        read_table(tmp_path)
    (tmp_path / "no.parquet").write_text("no")
    with pytest.raises(BadInputError):
        read_table(tmp_path / "no.parquet")
