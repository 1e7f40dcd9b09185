"""The domains on which CAKE is redone: FER+, RAF-DB and rendered faces, each with training and scored faces."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.metric_losses import synthetic_faces
from exprembed.data import FaceTable, MultiDomain, expected_valence_arousal, read_ferplus, read_rafdb
from exprembed.data.holdout import held_out, picture_digest
from exprembed.files import Skipped

RAF_SHARE = 0.2  # of RAF-DB's training part, held out by content


@dataclass(frozen=True)
class Domains:
    """Training and scored faces of all domains.

    Attributes:
        train: faces that heads are trained on; `valence` and `arousal` are missing where nothing tells them.
        test: faces that are scored, without copies of training faces and of each other.
        words: domain -> what it is, for reports.
        skipped: faces that were left out, with the reason.
    """

    train: MultiDomain
    test: MultiDomain
    words: dict[str, str]
    skipped: list[Skipped]

    @property
    def left_out(self) -> str:
        """What was left out, counted by reason."""
        counts = Counter(item.reason for item in self.skipped)
        return "; ".join(f"{reason}: {count:,}" for reason, count in counts.most_common())


def read_domains(
    folder: Path, ferplus: Path | None = None, rafdb: Path | None = None, synthetic: int = 3200
) -> Domains:
    """Read the domains that are there.

    FER+: training and validation split, majority label, valence and arousal expected from the votes. RAF-DB: of its
    training part a fifth is scored, chosen by the pictures' content, so that copies stay on one side. Rendered faces:
    each fifth subject is scored; their valence and arousal are exact.

    Args:
        folder: where rendered faces are written.
        ferplus: FER+ in its official layout; None leaves it out.
        rafdb: RAF-DB likewise.
        synthetic: number of rendered faces; 0 leaves them out.
    """
    skipped: list[Skipped] = []
    tables, words = {}, {}
    if ferplus is not None:
        tables["ferplus"] = expected_valence_arousal(read_ferplus(ferplus, skipped=skipped))
        words["ferplus"] = "FER+ (training and validation split, majority label; the test split takes no part)"
    if rafdb is not None:
        raf = read_rafdb(rafdb, split="train")
        tables["rafdb"] = FaceTable(
            pd.DataFrame(raf).assign(split=np.where(held_out(raf, RAF_SHARE), "validation", "train"))
        )
        words["rafdb"] = (
            "RAF-DB (basic set, training part only: a fifth of it scored, by content; the official test part takes no part)"
        )
    if synthetic:
        tables["synthetic"] = synthetic_faces(folder, synthetic)
        words["synthetic"] = "faces rendered by this library (each fifth subject scored; exact valence and arousal)"
    faces = MultiDomain(tables, skipped=skipped)
    table = pd.DataFrame(faces.faces)
    fresh = _fresh(faces.faces, skipped)
    train = table["split"] == "train"
    parts = {
        side: MultiDomain({name: FaceTable(_own(table[rows & (table["dataset"] == name)], name)) for name in tables})
        for side, rows in (("train", train), ("test", (table["split"] == "validation") & fresh))
    }
    return Domains(parts["train"], parts["test"], words, skipped)


def _own(rows: pd.DataFrame, domain: str) -> pd.DataFrame:
    """Return a domain's rows under their own names, without the columns that only others have."""
    return rows.set_axis(rows.index.str.removeprefix(f"{domain}/"), axis=0).dropna(axis=1, how="all")


def _fresh(faces: FaceTable, skipped: list[Skipped]) -> np.ndarray:
    """Say which scored faces are no exact copy of a training face or of an earlier scored one: (n,) bool."""
    digests = pd.Series([picture_digest(path) for path in faces["path"]], faces.index)
    scored = (faces["split"] == "validation").to_numpy()
    seen = digests.isin(set(digests[faces["split"] == "train"])) | digests.where(scored, None).duplicated()
    copies = seen.to_numpy() & scored
    skipped += [
        Skipped(str(face), "exact copy of a training or an earlier scored image") for face in faces.index[copies]
    ]
    return ~copies
