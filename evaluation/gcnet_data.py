"""Faces for GCNet's protocol: rendered sequences laid out as CK+, and the folds, crops and copies of real sets."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from exprembed.data.synthetic import render_sequence, save_faces
from exprembed.data.tables import EXPRESSIONS, FaceTable

FRAMES, SIZE = 10, 48
# Which frames of a sequence bear its label: CK+'s custom, the last three (87, 97 and 100 % of the apex's action units);
# and a harder set, in which what a person looks like at rest weighs more than the expression (13, 26 and 42 %).
SHOWN = {"apex": (7, 8, 9), "subtle": (2, 3, 4)}


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
