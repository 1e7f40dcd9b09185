"""MMI: sequences from neutral to peak and back, 205 of them in front view with one of six expressions (Valstar, Pantic)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from exprembed.data.readers import READERS
from exprembed.data.readers._sequences import Clip, Frames, check_frames, clip_table, frames_of
from exprembed.data.tables import FaceTable
from exprembed.errors import BadInputError
from exprembed.files import Skipped

EXPRESSION_OF = dict(zip("123456", ("anger", "disgust", "fear", "happiness", "sadness", "surprise"), strict=True))
FRONT = "0"
_CLIP = re.compile(r"(S\d{3})-(\d{3})")


@READERS.register("mmi")
def read_mmi(
    path: str | Path,
    frames: Frames = "peak",
    peak: int = 3,
    peaks: str | Path | None = None,
    skipped: list[Skipped] | None = None,
) -> FaceTable:
    """Read the emotion sequences of MMI, their frames taken out of the films.

    Layout: `Sessions/<number>/` with `session.xml` (its `<track view="0">` is a front view), the film
    `S001-100.avi` (subject S001), and `S001-100.xml`, whose `<Metatag Name="Emotion" Value="4"/>` is 1 anger, 2 disgust,
    3 fear, 4 happiness, 5 sadness or 6 surprise. The frames are due as images in a folder named as the film,
    `Sessions/<number>/S001-100/0001.png` (`ffmpeg -i S001-100.avi S001-100/%04d.png`).

    A sequence returns to neutral at its end. The paper chose the peak frames by hand and did not publish them: yours go
    into a CSV; without it the `peak` frames in the middle of a sequence bear its label.

    Columns of the result: `path`, `dataset`, `subject`, `sequence`, `frame` (from 0), `expression` ("neutral" in the first
    frame, the sequence's around the peak, else missing), `reference` (the sequence's first frame).

    Args:
        path: the folder that holds `Sessions`, or `Sessions` itself.
        frames: "peak", the first and the labelled frames; "all".
        peak: how many frames around the peak bear the label.
        peaks: a CSV with the columns `sequence` (S001-100) and `frame` (from 0), the peak of each sequence.
        skipped: a list to which is appended what was left out: other views, sessions without an emotion of the six or
            without frames, sequences that `peaks` does not name, peaks without a sequence.

    Returns:
        FaceTable, face_id like `S001-100_0001`.

    Raises:
        BadInputError: no session, XML that cannot be read, a malformed table of peaks, a peak outside its sequence.
        WrongUseError: an unknown choice of frames, `peak` below 1.
    """
    check_frames(frames, peak)
    root = Path(path)
    folder = root / "Sessions" if (root / "Sessions").is_dir() else root
    left_out: list[Skipped] = [] if skipped is None else skipped
    if not folder.is_dir():
        raise BadInputError(f"{folder} does not exist; the folder of MMI's sessions is due")
    clips = _clips(folder, peak, None if peaks is None else _peaks(Path(peaks)), left_out)
    return clip_table("mmi", folder, clips, frames, left_out)


def _clips(folder: Path, peak: int, peaks: dict[str, int] | None, skipped: list[Skipped]) -> Iterator[Clip]:
    unused = dict(peaks or {})
    for session in sorted(
        (entry for entry in folder.iterdir() if entry.is_dir()), key=lambda entry: entry.name.zfill(9)
    ):
        if not (session / "session.xml").is_file():
            skipped.append(Skipped(str(session), "has no session.xml"))
            continue
        views = {track.get("view") for track in _parsed(session / "session.xml").iter("track")}
        described = sorted(file for file in session.glob("*.xml") if _CLIP.fullmatch(file.stem))
        if views != {FRONT}:
            skipped.append(Skipped(str(session), f"the view is {sorted(map(str, views))}, not the front one, {FRONT}"))
            continue
        if not described:
            skipped.append(Skipped(str(session), "has no description named like S001-100.xml"))
        for file in described:
            tags = [tag.get("Value") for tag in _parsed(file).iter("Metatag") if tag.get("Name") == "Emotion"]
            images = frames_of(session / file.stem) if (session / file.stem).is_dir() else []
            label = EXPRESSION_OF.get(str(tags[0])) if len(tags) == 1 else None
            at = len(images) // 2 if peaks is None else unused.pop(file.stem, None)
            if label is None:
                skipped.append(Skipped(file.stem, f"its emotion is {tags}, none of 1 to 6"))
            elif not images:
                skipped.append(Skipped(file.stem, f"has no frames; due is a folder {session / file.stem}"))
            elif at is None:
                skipped.append(Skipped(file.stem, "the table of peaks does not name it"))
            else:
                if not 0 < at < max(2, len(images)):
                    raise BadInputError(
                        f"the peak of {file.stem} is frame {at}, where 1 to {len(images) - 1} are there"
                    )
                first = max(1, min(at - peak // 2, len(images) - peak))
                around = range(first, min(first + peak, len(images)))
                yield Clip(file.stem, file.stem[:4], label, images, around)
    skipped += [Skipped(name, "has a peak, but is no sequence in front view") for name in sorted(unused)]


def _parsed(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(file).getroot()  # noqa: S314 - expat refuses entities that explode
    except (OSError, ElementTree.ParseError) as error:
        raise BadInputError(f"{file} cannot be read as XML: {error}") from error


def _peaks(source: Path) -> dict[str, int]:
    try:
        rows = pd.read_csv(source, dtype={"sequence": str})
    except (OSError, ValueError) as error:
        raise BadInputError(f"{source} cannot be read: {error}") from error
    if not {"sequence", "frame"} <= set(rows) or not pd.api.types.is_integer_dtype(rows["frame"]):
        raise BadInputError(f"{source}: the columns sequence and frame (whole numbers) are due; got {list(rows)}")
    repeated = rows["sequence"].duplicated()
    if repeated.any():
        raise BadInputError(
            f"{source}, row {int(np.argmax(repeated)) + 2}: {rows['sequence'][repeated].iloc[0]} is there twice"
        )
    return dict(zip(rows["sequence"], rows["frame"].astype(int), strict=True))
