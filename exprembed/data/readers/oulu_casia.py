"""Oulu-CASIA: 80 people showing six expressions from neutral to peak, under three lights (Zhao et al., 2011)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from exprembed.data.readers import READERS
from exprembed.data.readers._sequences import Clip, Frames, check_frames, clip_table, frames_of, last_frames
from exprembed.data.tables import FaceTable
from exprembed.errors import BadInputError, unknown_name
from exprembed.files import Skipped

EXPRESSION_OF = {
    "Anger": "anger",
    "Disgust": "disgust",
    "Fear": "fear",
    "Happiness": "happiness",
    "Sadness": "sadness",
    "Surprise": "surprise",
}
CAMERAS, LIGHTS = ("VL", "NI"), ("Strong", "Weak", "Dark")


@READERS.register("oulu_casia")
def read_oulu_casia(
    path: str | Path,
    camera: str = "VL",
    light: str = "Strong",
    frames: Frames = "peak",
    peak: int = 3,
    skipped: list[Skipped] | None = None,
) -> FaceTable:
    """Read Oulu-CASIA NIR&VIS in its official layout.

    Layout: `VL/Strong/P001/Anger/000.jpeg`, that is camera (VL visible light, NI near infrared), light (Strong, Weak,
    Dark), subject, expression (Anger, Disgust, Fear, Happiness, Sadness, Surprise) and frames from neutral to peak. The
    paper takes VL/Strong: 480 sequences of 80 people.

    Columns of the result: `path`, `dataset`, `subject`, `sequence`, `frame` (from 0), `expression` ("neutral" in the first
    frame, the sequence's in the last `peak`, missing between), `reference` (the sequence's first frame).

    Args:
        path: the folder that holds `VL` and `NI`.
        camera: "VL" or "NI".
        light: "Strong", "Weak" or "Dark".
        frames: "peak", the first and the labelled frames; "all".
        peak: how many frames at the end of a sequence bear its label; the paper does not say, three is the custom.
        skipped: a list to which is appended what was left out: folders of another name, people who lack an expression
            (their other sequences stay), sequences of fewer than two frames.

    Returns:
        FaceTable, face_id like `P001_Anger_000`.

    Raises:
        BadInputError: the folder of camera and light is absent or holds no sequence.
        WrongUseError: an unknown camera, light or choice of frames, `peak` below 1.
    """
    check_frames(frames, peak)
    for kind, value, known in (("camera", camera, CAMERAS), ("light", light, LIGHTS)):
        if value not in known:
            raise unknown_name(kind, value, known)
    folder, left_out = Path(path) / camera / light, [] if skipped is None else skipped
    if not folder.is_dir():
        raise BadInputError(f"{folder} does not exist; the folder that holds {camera}/{light}/P001 is due")
    return clip_table("oulu_casia", folder, _clips(folder, peak, left_out), frames, left_out)


def _clips(folder: Path, peak: int, skipped: list[Skipped]) -> Iterator[Clip]:
    for person in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        if not re.fullmatch(r"P\d{3}", person.name):
            skipped.append(Skipped(str(person), "not named like P001"))
            continue
        there = sorted(entry for entry in person.iterdir() if entry.is_dir())
        for entry in there:
            if entry.name not in EXPRESSION_OF:
                skipped.append(Skipped(str(entry), f"none of {', '.join(EXPRESSION_OF)}"))
                continue
            files = frames_of(entry)
            label = EXPRESSION_OF[entry.name]
            yield Clip(f"{person.name}_{entry.name}", person.name, label, files, last_frames(len(files), peak))
        lacking = [name for name in EXPRESSION_OF if name not in {entry.name for entry in there}]
        skipped += [Skipped(f"{person.name}_{name}", "the sequence is absent") for name in lacking]
