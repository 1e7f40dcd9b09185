"""EMOTIC: people in photos with 26 emotions, valence, arousal and dominance (Kosti, Alvarez, Recasens, Lapedriza, 2017)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exprembed.data.readers import READERS
from exprembed.data.readers._files import Missing, check_missing, drop_absent, first_folder
from exprembed.data.tables import FaceTable
from exprembed.errors import BadInputError, unknown_name
from exprembed.files import Skipped

EMOTIONS = (
    "Affection",
    "Anger",
    "Annoyance",
    "Anticipation",
    "Aversion",
    "Confidence",
    "Disapproval",
    "Disconnection",
    "Disquietment",
    "Doubt/Confusion",
    "Embarrassment",
    "Engagement",
    "Esteem",
    "Excitement",
    "Fatigue",
    "Fear",
    "Happiness",
    "Pain",
    "Peace",
    "Pleasure",
    "Sadness",
    "Sensitivity",
    "Suffering",
    "Surprise",
    "Sympathy",
    "Yearning",
)
_SPLITS = {"train": "train", "validation": "val", "test": "test"}
_FELT = ("valence", "arousal", "dominance")
_BOX = ("body_left", "body_top", "body_right", "body_bottom")


@READERS.register("emotic")
def read_emotic(
    path: str | Path, split: str | None = None, missing: Missing = "raise", skipped: list[Skipped] | None = None
) -> FaceTable:
    """Read EMOTIC in its official layout: one row a person.

    Layout: `Annotations/Annotations.mat` (or `Annotations.mat` in the folder itself) with `train`, `val` and `test`, for
    each photo its `filename`, `folder` and the `person`s with `body_bbox` (x1 y1 x2 y2), `annotations_categories`,
    `annotations_continuous` (1 to 10), `gender` and `age`; photos in `emotic/<folder>` (or in `<folder>`). One annotator saw
    a photo of the training set, several one of the others.

    Columns of the result: `path`, `split` (train, validation, test), `dataset`; `body_left`, `body_top`, `body_right`,
    `body_bottom` (pixels: the box is the body's, in which a face has to be found, and not everyone shows one);
    `votes_<emotion>`, how many annotators named it (each may name several; `votes_doubt_confusion`), and `annotators`;
    `valence`, `arousal`, `dominance`, the annotators' mean x as (x - 5.5) / 4.5, missing where nobody gave one; `gender` and
    `age_group` in the data set's words.

    Args:
        path: the folder of the data set.
        split: only this split.
        missing: what to do with a person whose photo is absent: "raise", or "skip" (leave out and list).
        skipped: a list to which each person that was left out is appended with the reason.

    Returns:
        FaceTable, face_id = split, photo and number of the person in it (`train/mscoco/images/COCO_val2014_000000562243/0`).

    Raises:
        BadInputError: no annotations, or annotations of another form; an emotion that EMOTIC does not have; a number out
            of range; photos are absent.
        WrongUseError: an unknown `split` or `missing`.
    """
    if split is not None and split not in _SPLITS:
        raise unknown_name("EMOTIC split", split, _SPLITS)
    check_missing(missing)
    source = first_folder(path, ["Annotations/Annotations.mat", "Annotations.mat"], "the folder of EMOTIC")
    root = Path(path)
    photos = root / "emotic" if (root / "emotic").is_dir() else root
    entries = _loaded(source)
    rows: list[dict[str, Any]] = []
    for name in [split] if split else list(_SPLITS):
        if _SPLITS[name] not in entries:
            raise BadInputError(f"{source} lacks {_SPLITS[name]!r}; it holds {', '.join(sorted(entries))}")
        rows += _people(entries[_SPLITS[name]], name, photos, source)
    if not rows:
        raise BadInputError(f"{source} names no person")
    table = pd.DataFrame(rows).set_index("face_id")
    return FaceTable(drop_absent(table, root, missing, [] if skipped is None else skipped))


def _loaded(source: Path) -> dict[str, Any]:
    """Return the file's variables, MATLAB's structures as dictionaries."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found: dict[str, Any] = loadmat(source, simplify_cells=True)
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise BadInputError(f"{source} cannot be read as a MATLAB file: {error}") from error
    return {name: value for name, value in found.items() if not name.startswith("__")}


def _people(photos: Any, split: str, folder: Path, source: Path) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - MATLAB's
    """Yield a row for each person of a split."""
    seen: Counter[str] = Counter()
    for number, photo in enumerate(_several(photos)):
        try:
            name = f"{photo['folder']}/{photo['filename']}"
            people = [_person(person) for person in _several(photo["person"])]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BadInputError(
                f"{source}, {_SPLITS[split]}({number + 1}) is not as EMOTIC writes it: {error}"
            ) from error
        for person in people:
            stem = f"{split}/{Path(name).with_suffix('')}"
            yield {
                "face_id": f"{stem}/{seen[stem]}",
                "path": str(folder / name),
                "split": split,
                "dataset": "emotic",
                **person,
            }
            seen[stem] += 1


def _person(person: dict[str, Any]) -> dict[str, Any]:
    box = np.asarray(person["body_bbox"], float)
    if box.shape != (4,):
        raise ValueError(f"body_bbox has {box.size} numbers")
    judged = _several(person["annotations_categories"])
    chosen = Counter(name for entry in judged for name in {str(one) for one in _several(entry["categories"])})
    foreign = [name for name in chosen if name not in EMOTIONS]
    if foreign:
        raise ValueError(f"{foreign[0]!r} is none of EMOTIC's emotions")
    given = np.array(
        [[_number(entry[name]) for name in _FELT] for entry in _several(person["annotations_continuous"])], float
    ).reshape(-1, 3)
    if not ((given >= 1) & (given <= 10) | np.isnan(given)).all():
        raise ValueError(
            f"valence, arousal and dominance lie in [1, 10]; got {np.nanmin(given):g} to {np.nanmax(given):g}"
        )
    counts = (~np.isnan(given)).sum(axis=0)
    means = np.where(counts, np.nansum(given, axis=0) / np.maximum(counts, 1), np.nan)
    return {
        **dict(zip(_BOX, box.tolist(), strict=True)),
        **{"votes_" + re.sub(r"\W", "_", name.lower()): chosen[name] for name in EMOTIONS},
        "annotators": len(judged),
        **dict(zip(_FELT, ((means - 5.5) / 4.5).tolist(), strict=True)),
        "gender": str(person["gender"]).lower(),
        "age_group": str(person["age"]).lower(),
    }


def _several(value: Any) -> list[Any]:  # noqa: ANN401 - MATLAB's
    """Return a structure or an array of structures as a list: an array of one is stored as its element."""
    return list(value) if isinstance(value, list | np.ndarray) else [value]


def _number(value: Any) -> float:  # noqa: ANN401 - a number, or an empty array for none
    return float(value) if np.size(value) else float("nan")
