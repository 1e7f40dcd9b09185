"""Faces for GCNet's protocol: rendered sequences laid out as CK+, and the folds, crops and copies of real sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from exprembed.data import read_ferplus, read_jaffe
from exprembed.data.faces import crop_faces
from exprembed.data.images import open_image
from exprembed.data.synthetic import render_faces, render_sequence, save_faces
from exprembed.data.tables import EXPRESSIONS, FaceTable
from exprembed.files import Skipped
from exprembed.models.backbones import FER_ALIGNMENT

FRAMES, SIZE = 10, 48
# Which frames of a sequence bear its label: CK+'s custom, the last three (87, 97 and 100 % of the apex's action units);
# and two harder sets, in which what a person looks like at rest weighs more (42, 58 and 74 %; 13, 26 and 42 %).
SHOWN = {"apex": (7, 8, 9), "middle": (4, 5, 6), "subtle": (2, 3, 4)}


def rendered_sequences(folder: Path, subjects: int = 118, seed: int = 920_000, size: int = SIZE) -> FaceTable:
    """Render for each person one sequence of each of the seven expressions, as files in `folder`; once.

    Columns as `render_sequence` gives them, and `sequence`; frame 0 is neutral and the reference of all ten.
    """
    stored = folder / "faces.parquet"
    if not stored.is_file():
        tables = []
        for subject in range(subjects):
            for expression in EXPRESSIONS[1:]:
                images, faces = render_sequence(expression, seed, FRAMES, subject, size)
                name = f"{faces['subject'].iloc[0]}-{expression}"
                tables.append(pd.DataFrame(save_faces(images, faces, folder)).assign(sequence=name))
        FaceTable(pd.concat(tables)).write_parquet(stored)
    return FaceTable(FaceTable.read_parquet(stored))


def shown(sequences: FaceTable, which: str) -> FaceTable:
    """Keep the neutral frames and those of `SHOWN[which]`, which bear the sequence's label."""
    frames = sequences["frame"].isin((0, *SHOWN[which])).to_numpy()
    return FaceTable(pd.DataFrame(sequences)[frames])


def pretraining_faces(folder: Path, subjects: int = 120, each: int = 20, seed: int = 950_000) -> Path:
    """Render people for pre-training, of whom no other part shows any, as files in `folder`; return their table's path."""
    stored = folder / "faces.parquet"
    if not stored.is_file():
        images, faces = render_faces(subjects * each, subjects, seed, SIZE)
        table = pd.DataFrame(save_faces(images, faces, folder)).assign(split="train")
        FaceTable(table).write_parquet(stored)
    return stored


def ferplus_validation(folder: Path, skipped: list[Skipped]) -> FaceTable:
    """Read FER+'s validation images that have a majority, without exact copies of each other."""
    faces = read_ferplus(folder)
    faces = FaceTable(faces[(faces["split"] == "validation") & faces["expression"].notna()])
    pixels = [np.asarray(open_image(path)).tobytes() for path in faces["path"]]
    fresh = ~pd.Series(pixels).duplicated().to_numpy()
    skipped += [Skipped(str(face), "exact copy of an earlier image") for face in faces.index[~fresh]]
    return FaceTable(pd.DataFrame(faces)[fresh].drop(columns="subject", errors="ignore"))


def cropped_jaffe(folder: Path, out: Path, skipped: list[Skipped]) -> FaceTable:
    """Read JAFFE and write its faces, cropped by this library, into `out`; faces that are not found are listed."""
    faces = read_jaffe(folder)
    found = crop_faces(
        {str(face): path for face, path in faces["path"].items()},
        alignment=FER_ALIGNMENT,
        size=2 * SIZE,
        faces="largest",
    )
    skipped += found.skipped
    out.mkdir(parents=True, exist_ok=True)
    names = [str(name).rpartition("#")[0] for name in found.faces.index]
    table = pd.DataFrame(faces).loc[names].assign(path=[str(out / f"{name}.png") for name in names])
    for path, crop in zip(table["path"], found.crops, strict=True):
        crop.save(path)
    return FaceTable(table[table["reference"].isin(table.index)])


def left_out(skipped: Sequence[Skipped]) -> list[str]:
    """Count what was left out, by reason: the rows themselves stay with their data set."""
    reasons = Counter(item.reason for item in skipped)
    return (
        ["Left out: " + "; ".join(f"{reason}: {count}" for reason, count in reasons.most_common())] if skipped else []
    )
