"""Aff-Wild2: films from the web, of every frame an expression, or valence and arousal (Kollias and Zafeiriou, 2019)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from exprembed.data.readers import READERS
from exprembed.data.tables import FaceTable
from exprembed.errors import BadInputError, WrongUseError, unknown_name
from exprembed.files import Skipped

Labels = Literal["any", "both"]
EXPRESSIONS_OF = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
_TASKS = {
    "expression": ("EXPR_Set", "EXPR_Classification_Challenge"),
    "valence and arousal": ("VA_Set", "VA_Estimation_Challenge"),
}
_SETS = {"train": ("Train_Set", "Training_Set"), "validation": ("Validation_Set",)}
_UNLABELLED = -5  # of valence and arousal; -1 of expressions
_FELT = ("valence", "arousal")


@READERS.register("affwild2")
def read_affwild2(
    path: str | Path,
    split: str | None = None,
    labels: Labels = "any",
    every: int = 1,
    skipped: list[Skipped] | None = None,
) -> FaceTable:
    """Read Aff-Wild2's cropped and aligned frames with their labels, in the layouts of the ABAW competitions.

    Layout: `cropped_aligned/<video>/00001.jpg`, and the annotations in the folder itself or up to two levels below:
    `EXPR_Set` (later `EXPR_Classification_Challenge`) and `VA_Set` (later `VA_Estimation_Challenge`), each with `Train_Set`
    (first `Training_Set`) and `Validation_Set`, a text file for each video. Its first line names the classes, or valence and
    arousal; line n after it belongs to frame n. An expression of -1, and valence or arousal of -5, is no label. One of
    both tasks suffices.

    A frame without a face has no image: it is left out and counted by video. A video that one task trains on and the
    other validates on counts as validation, and its training labels are left out and listed, so that no face is in both.
    Presence of action units is not read (`au_<NN>` are intensities), nor the lists of the multi-task challenge.

    Columns of the result: `path`, `split`, `dataset`, `sequence` (the video; `_left` and `_right` name two people of one
    film), `frame` (from 1), and of the tasks that are there `expression` (Other is "other"), `valence`, `arousal`.

    Args:
        path: the folder that holds all this.
        split: only this split, "train" or "validation".
        labels: "any", frames with a label of either task; "both", those with both, as the thesis took them (section 6.4).
        every: only each n-th frame of a video; neighbours are nearly alike.
        skipped: a list to which is appended what was left out, by video.

    Returns:
        FaceTable, face_id = video and frame (`10-60-1280x720/00001`).

    Raises:
        BadInputError: no frames, no annotations, a task in two places, a line that is no label.
        WrongUseError: an unknown `split` or `labels`; `every` below 1.
    """
    if split is not None and split not in _SETS:
        raise unknown_name("Aff-Wild2 split", split, _SETS)
    if labels not in get_args(Labels):
        raise unknown_name("choice of labels", labels, get_args(Labels))
    if not isinstance(every, int) or every < 1:
        raise WrongUseError(f"every must be a whole number of at least 1; got {every!r}")
    root = Path(path)
    frames = root / "cropped_aligned"
    if not frames.is_dir():
        raise BadInputError(f"{root} is no folder of Aff-Wild2: it lacks cropped_aligned")
    left_out: list[Skipped] = [] if skipped is None else skipped
    parts = []
    for task, read in (("expression", _expressions), ("valence and arousal", _felt)):
        folder = _found(root, task)
        if folder is not None:
            parts.append(_read(folder, read))
    if not parts:
        raise BadInputError(
            f"{root} holds no annotations: {' or '.join(n for names in _TASKS.values() for n in names)}"
        )
    rows = _joined(parts, left_out)
    if labels == "both":
        lacking = [name for name in ("expression", *_FELT) if name not in rows]
        if lacking:
            raise BadInputError(f'labels="both" needs annotations of both tasks; {root} lacks {", ".join(lacking)}')
        rows = rows[rows["expression"].notna() & rows["valence"].notna()]
    if split is not None:
        rows = rows[rows["split"] == split]
    rows = _pictured(rows[(rows["frame"] - 1) % every == 0], frames, left_out)
    if rows.empty:
        raise BadInputError(f"{root}: no labelled frame is there ({len(left_out)} entries left out)")
    index = rows["sequence"] + "/" + rows["frame"].map("{:05d}".format)
    columns = [name for name in ("path", "split", "dataset", "sequence", "frame", "expression", *_FELT) if name in rows]
    return FaceTable(rows[columns].set_axis(pd.Index(index, name="face_id", dtype="str")))


def _found(root: Path, task: str) -> Path | None:
    """Return the folder of a task; None where there is none."""
    levels = ("", "*/", "*/*/")
    places = [place for level in levels for name in _TASKS[task] for place in root.glob(level + name) if place.is_dir()]
    if len(places) > 1:
        raise BadInputError(f"{root} holds the annotations of {task} twice, {places[0]} and {places[1]}; keep one")
    return places[0] if places else None


def _read(folder: Path, read: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
    """Read all videos of a task: split, sequence, frame and its labels."""
    found = []
    for split, names in _SETS.items():
        for file in sorted(file for name in names for file in (folder / name).glob("*.txt")):
            values = read(file)
            found.append(
                values.assign(split=split, sequence=file.stem, frame=np.arange(1, len(values) + 1)).dropna(
                    subset=list(values)
                )
            )
    if not found:
        raise BadInputError(f"{folder} holds no video's annotations; due is Train_Set/<video>.txt")
    return pd.concat(found)


def _expressions(file: Path) -> pd.DataFrame:
    header, values = _numbers(file)
    unknown = [name for name in header if name not in EXPRESSIONS_OF]
    if unknown:
        raise BadInputError(
            f"{file}: the first line must name classes among {', '.join(EXPRESSIONS_OF)}; got {unknown[0]!r}"
        )
    codes = values[:, 0]
    wrong = ~np.isin(codes, np.arange(-1, len(header)))
    if values.shape[1] != 1 or wrong.any():
        row = int(np.argmax(wrong))
        raise BadInputError(f"{file}, line {row + 2}: a number from -1 to {len(header) - 1} is due; got {values[row]}")
    names = np.array([*(name.lower() for name in header), None], dtype=object)
    return pd.DataFrame({"expression": names[codes.astype(int)]})


def _felt(file: Path) -> pd.DataFrame:
    header, values = _numbers(file)
    if [name.lower() for name in header] != list(_FELT):
        raise BadInputError(f"{file}: the first line must be valence,arousal; got {','.join(header)!r}")
    unlabelled = (values == _UNLABELLED).any(axis=1)
    wrong = ~unlabelled & ~(np.abs(values) <= 1).all(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise BadInputError(f"{file}, line {row + 2}: two numbers in [-1, 1], or -5, are due; got {values[row]}")
    return pd.DataFrame(np.where(unlabelled[:, None], np.nan, values), columns=list(_FELT))


def _numbers(file: Path) -> tuple[list[str], np.ndarray]:
    """Return the names of the first line and the (n, m) numbers of the others."""
    try:
        with file.open(encoding="utf-8") as lines:
            header = [name.strip() for name in lines.readline().split(",")]
            values = pd.read_csv(lines, header=None, dtype=float, skip_blank_lines=False).to_numpy()
    except pd.errors.EmptyDataError:
        raise BadInputError(f"{file} holds no label") from None
    except (OSError, ValueError) as error:
        raise BadInputError(f"{file} cannot be read as lines of numbers: {error}") from error
    if np.isnan(values).any():
        raise BadInputError(f"{file}, line {int(np.argmax(np.isnan(values).any(axis=1))) + 2}: a number is missing")
    return header, values


def _joined(parts: list[pd.DataFrame], skipped: list[Skipped]) -> pd.DataFrame:
    """Join the tasks by video and frame; no video stays in two splits."""
    validated = set().union(*(part.loc[part["split"] == "validation", "sequence"].unique() for part in parts))
    kept = []
    for part in parts:
        leaking = (part["split"] == "train") & part["sequence"].isin(validated)
        for name, count in part.loc[leaking, "sequence"].value_counts(sort=False).items():
            labels = "expression" if "expression" in part else "valence and arousal"
            skipped.append(
                Skipped(str(name), f"{count} training labels of {labels}: the video validates the other task")
            )
        kept.append(part[~leaking])
    keys = ["split", "sequence", "frame"]
    return kept[0] if len(kept) == 1 else kept[0].merge(kept[1], how="outer", on=keys, validate="one_to_one")


def _pictured(rows: pd.DataFrame, frames: Path, skipped: list[Skipped]) -> pd.DataFrame:
    """Keep the frames whose image is there, and say where it lies. A video's folder is listed once."""
    found = []
    for name, part in rows.groupby("sequence"):
        folder = frames / str(name)
        there = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
        files = part["frame"].map("{:05d}.jpg".format)
        present = files.isin(there)
        if not present.all():
            skipped.append(Skipped(str(folder), f"{int((~present).sum())} labelled frames without an image"))
        found.append(part.assign(path=str(folder) + "/" + files, dataset="affwild2")[present])
    return pd.concat(found) if found else rows
