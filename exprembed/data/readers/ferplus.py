"""FER+: the FER2013 images with ten vote columns from ten taggers (Barsoum et al., 2016)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from exprembed.data.readers import READERS
from exprembed.data.tables import EXPRESSIONS, FaceTable
from exprembed.errors import BadInputError, WrongUseError
from exprembed.files import Skipped

FOLDERS = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
SPLITS = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
_CSV = "fer2013new.csv"
_LABELS = "fer2013_labels.csv"
_ORIGINAL = "fer2013.csv"
# FER2013's seven classes in the order of its numbers; it has no contempt.
_FER2013 = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "neutral": "neutral",
}


@READERS.register("ferplus")
def read_ferplus(
    path: str | Path, split: str | None = None, skipped: list[Skipped] | None = None, original_votes: int = 0
) -> FaceTable:
    """Read FER+ in its official layout.

    Layout: `fer2013new.csv` (columns Usage, Image name, neutral, happiness, surprise, sadness, anger, disgust, fear,
    contempt, unknown, NF) and the folders `FER2013Train`, `FER2013Valid`, `FER2013Test` of 48x48 grey PNG. Rows and
    images are joined by **name**; the number in a name is not the row.

    Columns of the result: `path`, `split` (train, validation, test), `dataset`, `expression` (the majority among the
    eight named expressions; missing where they tie, got no vote, or lost to unknown or not-a-face), and the votes
    `votes_<expression>` of the eight; `unknown` and `nf` (not a face) keep those counts. Faces without any vote on the
    eight expressions are left out and listed, and so are rows without a name or an image, and names that occur twice
    (with the same votes: one is kept; with different ones: none).

    FER2013's own label of an image can vote too. It is the emotion by whose name the image had been searched for, so it
    tells what a mild face was to show where FER+'s taggers call it neutral. Training learns from it; a score "on FER+" leaves it out.

    Args:
        path: the folder that holds `fer2013new.csv`, and for `original_votes` also `fer2013_labels.csv` (columns Image
            name, fer2013_emotion in words, and, where known, ambiguous) or FER2013's own `fer2013.csv` (emotion 0 to 6),
            whose rows are those of `fer2013new.csv`.
        split: only this split ("train", "validation" or "test").
        skipped: a list to which each row that was left out is appended with its reason.
        original_votes: how many votes FER2013's label adds to its expression. Faces whose label is missing or ambiguous
            keep the taggers' votes alone, and so do those on which contempt, which FER2013 lacks, has most votes.

    Returns:
        FaceTable, face_id = the image name without its suffix.

    Raises:
        BadInputError: a CSV is absent, lacks a column or does not fit the other; no image is found; the split is unknown.
        WrongUseError: original_votes below 0.
    """
    if original_votes < 0:
        raise WrongUseError(f"original_votes must not be negative; got {original_votes}")
    root = Path(path)
    source = root / _CSV
    if not source.is_file():
        raise BadInputError(f"{root} is no FER+ folder: it lacks {_CSV}")
    left_out: list[Skipped] = [] if skipped is None else skipped
    rows = pd.read_csv(source)
    needed = ["Usage", "Image name", *EXPRESSIONS, "unknown", "NF"]
    missing = [column for column in needed if column not in rows.columns]
    if missing:
        raise BadInputError(
            f"{source} lacks the columns {', '.join(missing)}; it has {', '.join(map(str, rows.columns))}"
        )
    usages = set(rows["Usage"]) - set(SPLITS)
    if usages:
        raise BadInputError(f"{source}: unknown Usage {sorted(map(str, usages))[0]!r}; known: {', '.join(SPLITS)}")
    labels = _original_labels(root, rows) if original_votes else None
    if split is not None:
        if split not in SPLITS.values():
            raise BadInputError(f"FER+ has no split {split!r}; it has {', '.join(SPLITS.values())}")
        rows = rows[rows["Usage"].map(SPLITS) == split]

    def drop(mask: pd.Series, reason: str) -> None:
        nonlocal rows
        for number, name in rows.loc[mask, "Image name"].items():
            left_out.append(Skipped(f"{_CSV} row {int(str(number)) + 2} ({name})", reason))
        rows = rows[~mask]

    drop(rows["Image name"].isna(), "no image name")
    same = rows.duplicated(needed)
    drop(same, "the same row again")
    drop(rows["Image name"].duplicated(keep=False), "one name with different votes")
    files = rows["Usage"].map(FOLDERS).map(lambda folder: root / folder) / rows["Image name"]
    folders = {
        folder: {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        for folder in {f.parent for f in files}
    }
    drop(~files.map(lambda file: file.name in folders[file.parent]).astype(bool), "its image is absent")
    if rows.empty:
        raise BadInputError(f"{root}: none of the rows of {_CSV} has its image in {', '.join(FOLDERS.values())}")
    drop(rows[list(EXPRESSIONS)].sum(axis=1) == 0, "no vote on any of the eight expressions")
    if labels is not None:
        # FER2013 has no contempt, so its label says nothing against the taggers' contempt.
        own = labels.loc[rows.index].where(rows["contempt"] < rows[list(EXPRESSIONS)].max(axis=1))
        rows = rows.assign(**{name: rows[name] + original_votes * (own == name) for name in _FER2013.values()})
    return _table(rows, files.loc[rows.index])


def _original_labels(root: Path, rows: pd.DataFrame) -> pd.Series:
    """Return FER2013's label of each row of FER+'s CSV, as an expression; missing where it is not known."""
    named, numbered = root / _LABELS, root / _ORIGINAL
    if named.is_file():
        table = _read_columns(named, ["Image name", "fer2013_emotion"])
        unknown = set(table["fer2013_emotion"].dropna()) - set(_FER2013)
        if unknown:
            raise BadInputError(
                f"{named}: unknown fer2013_emotion {sorted(map(str, unknown))[0]!r}; known: {', '.join(_FER2013)}"
            )
        if "ambiguous" in table:
            table = table[table["ambiguous"] == 0]
        table = table.dropna().drop_duplicates("Image name", keep=False).set_index("Image name")
        return rows["Image name"].map(table["fer2013_emotion"]).map(_FER2013)
    if not numbered.is_file():
        raise BadInputError(
            f"original_votes asks for FER2013's own labels, and {root} has neither {_LABELS} nor {_ORIGINAL}; "
            "original_votes=0 reads the taggers' votes alone"
        )
    table = _read_columns(numbered, ["emotion", "Usage"])
    if table["Usage"].tolist() != rows["Usage"].tolist():
        raise BadInputError(
            f"{numbered} ({len(table)} rows) does not go with {_CSV} ({len(rows)} rows): row by row, their Usage must be the same"
        )
    if not table["emotion"].isin(range(len(_FER2013))).all():
        raise BadInputError(f"{numbered}: emotion must be a number from 0 to {len(_FER2013) - 1}")
    return pd.Series(np.array(list(_FER2013.values()), dtype=object)[table["emotion"]], index=rows.index)


def _read_columns(source: Path, needed: list[str]) -> pd.DataFrame:
    head = pd.read_csv(source, nrows=0).columns
    missing = [column for column in needed if column not in head]
    if missing:
        raise BadInputError(f"{source} lacks the columns {', '.join(missing)}; it has {', '.join(map(str, head))}")
    return pd.read_csv(source, usecols=lambda column: column in {*needed, "ambiguous"})  # not the pixels


def _table(rows: pd.DataFrame, files: pd.Series) -> FaceTable:
    votes = rows[list(EXPRESSIONS)].to_numpy(dtype=np.int64)
    best = votes.max(axis=1)
    clear = (votes == best[:, None]).sum(axis=1) == 1
    clear &= best >= rows[["unknown", "NF"]].max(axis=1).to_numpy()
    majority = np.where(clear, np.array(EXPRESSIONS, dtype=object)[votes.argmax(axis=1)], None)
    columns = {
        "path": files.map(str),
        "split": rows["Usage"].map(SPLITS),
        "dataset": "ferplus",
        "expression": majority,
        **{f"votes_{name}": rows[name].astype("int64") for name in EXPRESSIONS},
        "unknown": rows["unknown"].astype("int64"),
        "nf": rows["NF"].astype("int64"),
    }
    table = pd.DataFrame(columns, index=rows.index)
    table.index = pd.Index([Path(name).stem for name in rows["Image name"]], name="face_id")
    return FaceTable(table)
