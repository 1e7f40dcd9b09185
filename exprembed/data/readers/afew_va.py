"""AFEW-VA: 600 clips of feature films with valence, arousal and 68 points a frame (Kossaifi et al., 2017)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exprembed.data.readers import READERS
from exprembed.data.readers._files import Missing, check_missing, drop_absent
from exprembed.data.tables import FaceTable
from exprembed.errors import BadInputError
from exprembed.files import Skipped

_STEPS = 10  # annotators chose whole numbers from -10 to 10


@READERS.register("afew_va")
def read_afew_va(path: str | Path, missing: Missing = "raise", skipped: list[Skipped] | None = None) -> FaceTable:
    """Read AFEW-VA in its official layout.

    Layout: a folder for each clip, `001` to `600` (together or in the folders of the archives), with the frames
    `00000.png`, `00001.png`, ... and `001.json`: `actor`, and for each of the `frames` its `landmarks` (68 points x, y),
    `valence` and `arousal`, whole numbers from -10 to 10, which are divided by 10 here.

    The data set has no split. Clips share actors: split by `subject`. Its clips come from AFEW, as SFEW's images do.

    Columns of the result: `path`, `dataset`, `subject` (the actor), `sequence` (the clip), `frame`, `valence`, `arousal`,
    `landmarks` (x, y, x, y ... in pixels of the frame, which shows the whole scene: crop before training).

    Args:
        path: the folder that holds the clips.
        missing: what to do with a frame whose image is absent: "raise", or "skip" (leave it out and list it).
        skipped: a list to which each frame that was left out is appended with its reason.

    Returns:
        FaceTable, face_id = clip and frame (`001/00000`).

    Raises:
        BadInputError: no clip is there; JSON that cannot be read, or lacks what is due; images are absent.
        WrongUseError: an unknown `missing`.
    """
    check_missing(missing)
    root = Path(path)
    if not root.is_dir():
        raise BadInputError(f"{root} is not a folder; the folder of AFEW-VA's clips is due")
    clips = sorted(file for file in root.rglob("[0-9][0-9][0-9].json") if file.parent.name == file.stem)
    if not clips:
        raise BadInputError(f"{root} is no AFEW-VA folder: it lacks 001/001.json")
    rows = pd.concat([_clip(file) for file in clips])
    return FaceTable(drop_absent(rows, root, missing, [] if skipped is None else skipped))


def _clip(file: Path) -> pd.DataFrame:
    """Read the frames of one clip."""
    try:
        notes = json.loads(file.read_text(encoding="utf-8"))
        frames, actor = notes["frames"], str(notes["actor"])
        points = [_points(entry) for entry in frames.values()]
        felt = {
            name: np.array([float(entry[name]) for entry in frames.values()]) / _STEPS
            for name in ("valence", "arousal")
        }
        numbers = [int(name) for name in frames]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"{file}: frames with landmarks (68 points), valence and arousal, and an actor are due; {error!r}"
        ) from error
    wrong = [name for name, values in felt.items() if not (np.abs(values) <= 1).all()]
    if wrong:
        raise BadInputError(f"{file}: {' and '.join(wrong)} must lie in [-{_STEPS}, {_STEPS}]")
    return pd.DataFrame(
        {
            "path": [str(file.with_name(f"{name}.png")) for name in frames],
            "dataset": "afew_va",
            "subject": actor,
            "sequence": file.stem,
            "frame": numbers,
            **felt,
            "landmarks": points,
        },
        index=pd.Index([f"{file.stem}/{name}" for name in frames], name="face_id", dtype="str"),
    )


def _points(entry: dict[str, Any]) -> np.ndarray:
    points = np.asarray(entry["landmarks"], float)
    if points.shape != (68, 2):
        raise ValueError(f"landmarks {points.shape}")
    return points.ravel()
