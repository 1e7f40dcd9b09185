"""What the readers of sequences share: clips from a neutral face to a peak, in; a FaceTable with references, out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import pandas as pd

from exprembed.data.images import IMAGE_SUFFIXES
from exprembed.data.tables import FaceTable
from exprembed.errors import BadInputError, WrongUseError, unknown_name
from exprembed.files import Skipped

Frames = Literal["peak", "all"]


class Clip(NamedTuple):
    """One sequence: its frames in order, the first of them neutral, and the places of those that bear its label."""

    name: str
    subject: str
    expression: str | None
    files: Sequence[Path]
    peak: Iterable[int]


def check_frames(frames: str, peak: int) -> None:
    """Raise WrongUseError for an unknown choice of frames, or fewer than one labelled frame a sequence."""
    if frames not in get_args(Frames):
        raise unknown_name("choice of frames", frames, get_args(Frames))
    if not isinstance(peak, int) or peak < 1:
        raise WrongUseError(f"peak is how many frames bear a sequence's label, at least 1; got {peak!r}")


def last_frames(count: int, peak: int) -> range:
    """Return the places of the last `peak` of `count` frames, the first frame never among them."""
    return range(max(1, count - peak), count)


def frames_of(folder: Path) -> list[Path]:
    """Return the images of a folder by name; hidden files do not count."""
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))


def clip_table(dataset: str, source: Path, clips: Iterable[Clip], frames: Frames, skipped: list[Skipped]) -> FaceTable:
    """Return the faces of some clips: path, dataset, subject, sequence, frame (from 0), expression, reference.

    A clip of fewer than two frames is left out and listed.

    Raises:
        BadInputError: no clip is left, or two faces have one id.
    """
    rows, ids = [], []
    for clip in clips:
        if len(clip.files) < 2:
            skipped.append(Skipped(clip.name, f"{len(clip.files)} frames, where a neutral one and a peak are due"))
            continue
        named = [file.stem if file.stem.startswith(clip.name) else f"{clip.name}_{file.stem}" for file in clip.files]
        labels: dict[int, str | None] = {0: "neutral", **dict.fromkeys(clip.peak, clip.expression)}
        for place in sorted(labels) if frames == "peak" else range(len(clip.files)):
            ids.append(named[place])
            label = labels.get(place)
            rows.append((str(clip.files[place]), dataset, clip.subject, clip.name, place, label, named[0]))
    if not rows:
        raise BadInputError(f"{source} holds no sequence that can be used ({len(skipped)} left out)")
    columns = ["path", "dataset", "subject", "sequence", "frame", "expression", "reference"]
    return FaceTable(pd.DataFrame(rows, columns=columns, index=pd.Index(ids, name="face_id", dtype="str")))
