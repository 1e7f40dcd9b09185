"""SFEW 2.0: frames of films with one of seven expressions (Dhall et al., 2011 and 2015)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from exprembed.data.images import IMAGE_SUFFIXES
from exprembed.data.readers import READERS
from exprembed.data.tables import FaceTable
from exprembed.errors import BadInputError, unknown_name
from exprembed.files import Skipped

EXPRESSION_OF = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "sad": "sadness",
    "surprise": "surprise",
}
# The folders of each split, the first that is there: the archives unpack with or without a folder around them.
_FACES = {"train": ("Train_Aligned_Faces",), "validation": ("Val_Aligned_Faces_new", "Val_Aligned_Faces")}
_PARTS = {"train": "Train", "validation": "Val"}


@READERS.register("sfew")
def read_sfew(
    path: str | Path, split: str | None = None, images: str = "aligned", skipped: list[Skipped] | None = None
) -> FaceTable:
    """Read the labelled parts of SFEW 2.0 in its official layout.

    Layout: `Train/Train_Aligned_Faces/Angry/<movie>_<time>_<number>.png` and `Val/Val_Aligned_Faces_new/...` (also
    without `_new`, and without `Train/` and `Val/` around them), 143x181 faces in the folders Angry, Disgust, Fear, Happy,
    Neutral, Sad and Surprise; `Train/Angry/...` and `Val/Angry/...` hold the whole frames. The test part has no public labels
    and is not read.

    Columns of the result: `path`, `split` (train, validation), `dataset`, `expression` and `movie` (the name's first part).
    Train and validation share no movie in the official split.

    Args:
        path: the folder that holds `Train` and `Val`, or the two folders of aligned faces.
        split: only this split, "train" or "validation".
        images: "aligned" (faces) or "original" (frames).
        skipped: a list to which each file that is no image, and each folder that is no class, is appended.

    Returns:
        FaceTable, face_id = `<split>/<file name without its suffix>`, sorted.

    Raises:
        BadInputError: no such folder, no image in it, or one name in two classes of a split.
        WrongUseError: an unknown `split` or `images`.
    """
    if split is not None and split not in _PARTS:
        raise unknown_name("SFEW split", split, _PARTS)
    if images not in ("aligned", "original"):
        raise unknown_name("kind of SFEW images", images, ("aligned", "original"))
    root = Path(path)
    if not root.is_dir():
        raise BadInputError(f"{root} is not a folder; the folder of SFEW is due")
    left_out: list[Skipped] = [] if skipped is None else skipped
    ids, rows = [], []
    for part in [split] if split else list(_PARTS):
        folder = _folder(root, part, images)
        for file, expression in _pictures(folder, left_out):
            ids.append(f"{part}/{file.stem}")
            rows.append((str(file), part, "sfew", expression, file.name.partition("_")[0]))
    if not rows:
        raise BadInputError(f"{root} holds no image in a class folder ({', '.join(EXPRESSION_OF)})")
    index = pd.Index(ids, name="face_id", dtype="str")
    if index.has_duplicates:
        raise BadInputError(f"{root}: {index[index.duplicated()][0]} is in two class folders; a picture has one class")
    return FaceTable(pd.DataFrame(rows, columns=["path", "split", "dataset", "expression", "movie"], index=index))


def _folder(root: Path, part: str, images: str) -> Path:
    names = [""] if images == "original" else _FACES[part]
    candidates = [root / _PARTS[part] / name for name in names]
    candidates += [root / name for name in names if name]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise BadInputError(
        f"{root} is no SFEW folder: it lacks {' or '.join(str(c.relative_to(root)) for c in candidates)}"
    )


def _pictures(folder: Path, left_out: list[Skipped]) -> list[tuple[Path, str]]:
    found = []
    for entry in sorted(folder.iterdir()):
        expression = EXPRESSION_OF.get(entry.name.lower())
        if not entry.is_dir() or expression is None:
            if not any(entry.name in names for names in _FACES.values()):
                left_out.append(Skipped(str(entry), "not a class folder"))
            continue
        for file in sorted(entry.iterdir()):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                found.append((file, expression))
            else:
                left_out.append(Skipped(str(file), "not an image"))
    return found
