"""CK+: 593 sequences of 123 people from neutral to peak, 327 with an emotion (Lucey et al., 2010); its 48x48 exports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from exprembed.data.readers import READERS
from exprembed.data.readers._sequences import (
    Clip,
    Frames,
    check_frames,
    clip_table,
    frames_of,
    last_frames,
)
from exprembed.data.tables import FaceTable
from exprembed.errors import BadInputError, WrongUseError
from exprembed.files import Skipped, atomic_path

EMOTIONS = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
_EXPORTED = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt")
_FOLDERS = {name: name for name in EMOTIONS} | {"happy": "happiness", "sad": "sadness", "angry": "anger"}
_SPLITS = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
_IMAGES, _LABELS, _POINTS = "cohn-kanade-images", "Emotion", "Landmarks"
_NAME = re.compile(r"(S\d{3})_(\d{3})_(\d{8})")


@READERS.register("ckplus")
def read_ckplus(
    path: str | Path,
    frames: Frames = "peak",
    peak: int = 3,
    unlabelled: bool = False,
    images: str | Path | None = None,
    skipped: list[Skipped] | None = None,
) -> FaceTable:
    """Read CK+ in its official layout, or one of its two 48x48 exports.

    Official layout: `cohn-kanade-images/S005/001/S005_001_00000001.png`, the frames of sequence 001 of subject S005, from
    neutral to peak; `Emotion/S005/001/S005_001_00000011_emotion.txt`, one number of the last frame (0 neutral, 1 anger,
    2 contempt, 3 disgust, 4 fear, 5 happiness, 6 sadness, 7 surprise), absent for 266 sequences; optionally
    `Landmarks/S005/001/S005_001_00000001_landmarks.txt`, 68 lines `x y`.

    Export as folders: `anger/S010_004_00000017.png` and so on, the last three frames of each of the 327. Export as CSV:
    columns `emotion` (0 anger, 1 disgust, 2 fear, 3 happiness, 4 sadness, 5 surprise, 6 neutral, 7 contempt), `pixels`
    (2,304 grey values) and `Usage` (Training, PublicTest, PrivateTest). Neither has references, the CSV no subjects.

    Columns of the result: `path`, `dataset`, `subject`, `sequence`, `frame` (0, 1, ...; exports: the file's number),
    `expression` ("neutral" in the first frame, the sequence's in the last `peak`, missing between), `reference` (the
    sequence's first frame) and, where there are landmarks, `landmarks` (136 numbers x0, y0, ...).

    Args:
        path: the folder that holds `cohn-kanade-images`, the folder of class folders, or the CSV.
        frames: "peak", the first and the labelled frames; "all".
        peak: how many frames at the end of a sequence bear its label; the paper does not say, three is the custom.
        unlabelled: keep sequences without an emotion too, with their last frames unlabelled (for pre-training).
        images: where a CSV's faces are written as PNG files.
        skipped: a list to which is appended what was left out: sequences without an emotion, without their labelled
            frame or with fewer than two frames, labels without images, images of another name.

    Returns:
        FaceTable, face_id = the file name without its suffix (`S005_001_00000001`).

    Raises:
        BadInputError: none of the three layouts, a malformed label or landmark file, two emotions for one sequence.
        WrongUseError: an unknown choice of frames, `peak` below 1, a CSV without `images`.
    """
    check_frames(frames, peak)
    root, left_out = Path(path), [] if skipped is None else skipped
    if root.is_file():
        return _csv(root, images)
    if not root.is_dir():
        raise BadInputError(f"{root} does not exist; the folder of CK+ or its CSV export is due")
    if not (root / _IMAGES).is_dir():
        return _exported(root, left_out)
    clips = _clips(root, peak, unlabelled, left_out)
    faces = clip_table("ckplus", root, clips, frames, left_out)
    if (root / _POINTS).is_dir():
        points = [_landmarks(root, str(face), left_out) for face in faces.index]
        faces["landmarks"] = pd.Series(points, index=faces.index, dtype=object)
    return faces


def _clips(root: Path, peak: int, unlabelled: bool, skipped: list[Skipped]) -> Iterator[Clip]:
    emotions = _emotions(root / _LABELS)
    for folder in sorted(folder for folder in (root / _IMAGES).glob("*/*") if folder.is_dir()):
        name = f"{folder.parent.name}_{folder.name}"
        files = []
        for file in frames_of(folder):
            if _NAME.fullmatch(file.stem) and file.stem.startswith(name):
                files.append(file)
            else:
                skipped.append(Skipped(str(file), f"not named like {name}_00000001.png"))
        last, label = emotions.pop(name, ("", None))
        if label is None and not unlabelled:
            skipped.append(Skipped(name, "a sequence without an emotion"))
        elif label is not None and files and files[-1].stem != last:
            skipped.append(Skipped(name, f"the frame that its emotion names, {last}, is not its last one"))
        else:
            yield Clip(name, folder.parent.name, label, files, last_frames(len(files), peak))
    skipped += [Skipped(name, "has an emotion, but no images") for name in sorted(emotions)]


def _emotions(folder: Path) -> dict[str, tuple[str, str]]:
    """Return the labelled frame and the emotion of each sequence that has one."""
    if not folder.is_dir():
        raise BadInputError(f"{folder} does not exist; CK+'s labels are due beside {_IMAGES}")
    found: dict[str, tuple[str, str]] = {}
    for file in sorted(folder.glob("*/*/*_emotion.txt")):
        frame = file.name.removesuffix("_emotion.txt")
        named = _NAME.fullmatch(frame)
        number = _numbers(file)
        if named is None or number.shape != (1, 1) or number[0, 0] not in range(len(EMOTIONS)):
            raise BadInputError(f"{file}: due are a name like S005_001_00000011_emotion.txt and one number from 0 to 7")
        name = f"{named[1]}_{named[2]}"
        if name in found:
            raise BadInputError(f"{file}: the sequence {name} has two emotions")
        found[name] = frame, EMOTIONS[int(number[0, 0])]
    return found


def _landmarks(root: Path, face: str, skipped: list[Skipped]) -> list[float] | None:
    subject, sequence, _ = face.split("_")
    file = root / _POINTS / subject / sequence / f"{face}_landmarks.txt"
    if not file.is_file():
        skipped.append(Skipped(face, "has no landmarks; the face stays"))
        return None
    points = _numbers(file)
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise BadInputError(f"{file}: 68 lines of two numbers are due; got {points.shape}")
    flat: list[float] = points.ravel().tolist()
    return flat


def _numbers(file: Path) -> np.ndarray:
    """Return the numbers of a text file, one row a line; (0, 0) where it is none."""
    try:
        rows = [[float(word) for word in line.split()] for line in file.read_text().splitlines() if line.strip()]
        return np.array(rows, dtype=float).reshape(len(rows), -1)
    except (OSError, ValueError):
        return np.empty((0, 0))


def _exported(root: Path, skipped: list[Skipped]) -> FaceTable:
    classes = sorted(folder for folder in root.iterdir() if folder.is_dir() and folder.name.lower() in _FOLDERS)
    if not classes:
        raise BadInputError(
            f"{root} is not CK+: it lacks {_IMAGES} (official) and class folders named {', '.join(EMOTIONS)} (export)"
        )
    ids, rows = [], []
    for folder in classes:
        for file in frames_of(folder):
            named = _NAME.fullmatch(file.stem)
            if named is None:
                skipped.append(Skipped(str(file), "not named like S010_004_00000017.png"))
                continue
            ids.append(file.stem)
            sequence = f"{named[1]}_{named[2]}"
            rows.append((str(file), "ckplus", named[1], sequence, int(named[3]), _FOLDERS[folder.name.lower()]))
    if not rows:
        raise BadInputError(f"{root} holds no image named like S010_004_00000017.png")
    columns = ["path", "dataset", "subject", "sequence", "frame", "expression"]
    return FaceTable(pd.DataFrame(rows, columns=columns, index=pd.Index(ids, name="face_id", dtype="str")))


def _csv(source: Path, images: str | Path | None) -> FaceTable:
    from PIL import Image

    if images is None:
        raise WrongUseError(f"{source} holds pixels, not files: say where to write them, images=FOLDER")
    try:
        rows = pd.read_csv(source, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise BadInputError(f"{source} cannot be read: {error}") from error
    if not {"emotion", "pixels", "Usage"} <= set(rows):
        raise BadInputError(f"{source}: the columns emotion, pixels and Usage are due; got {list(rows)}")
    paths = []
    for number, (emotion, pixels, usage) in enumerate(zip(rows["emotion"], rows["pixels"], rows["Usage"], strict=True)):
        values = pixels.split()
        fits = len(values) == 48 * 48 and all(value.isdigit() and int(value) < 256 for value in values)
        if not fits or usage not in _SPLITS or emotion not in map(str, range(len(_EXPORTED))):
            raise BadInputError(
                f"{source}, row {number + 2}: an emotion from 0 to 7, 2,304 grey values from 0 to 255 and a Usage of "
                f"{', '.join(_SPLITS)} are due; got {emotion!r:.20}, {len(values)} values, {usage!r:.20}"
            )
        paths.append(Path(images) / f"ckplus-{number:06d}.png")
        with atomic_path(paths[-1]) as temporary:
            Image.fromarray(np.array(values, np.uint8).reshape(48, 48)).save(temporary, format="PNG")
    columns = {
        "path": [str(file) for file in paths],
        "split": rows["Usage"].map(_SPLITS).to_list(),
        "dataset": "ckplus",
        "expression": [_EXPORTED[int(emotion)] for emotion in rows["emotion"]],
    }
    return FaceTable(pd.DataFrame(columns, index=pd.Index([file.stem for file in paths], name="face_id", dtype="str")))
