"""What several readers share: label files in, and the rows whose image is absent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from exprembed.data.images import IMAGE_SUFFIXES
from exprembed.errors import BadInputError, unknown_name
from exprembed.files import Skipped

Missing = Literal["raise", "skip"]


def fields_of(path: Path) -> list[list[str]]:
    """Return the blank-separated fields of each line of a text file that is not blank."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadInputError(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read as text: {error}") from error
    return [fields for line in text.splitlines() if (fields := line.split())]


def first_folder(path: str | Path, candidates: Sequence[str], what: str) -> Path:
    """Return `path`/c for the first c of `candidates` that exists; raise BadInputError where none does."""
    root = Path(path)
    if not root.is_dir():
        raise BadInputError(f"{root} is not a folder; {what} is due")
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    raise BadInputError(f"{root} is not {what}: it lacks {' or '.join(candidates)}")


def present(
    folder: Path,
    names: Sequence[str],
    listed: Sequence[str],
    source: Path,
    missing: Missing,
    skipped: list[Skipped] | None,
) -> np.ndarray:
    """Say which of the images exist: (n,) bool. The folder is listed once, which is fast for 200,000 files.

    Args:
        folder: where the images lie.
        names: file name of the image of each row.
        listed: all names that the label file lists; an image beside them is appended to `skipped`.
        source: the label file, for the messages.
        missing: "raise" where an image is absent, or "skip" its row.
        skipped: a list to which each absent image is appended, and each that no label names.

    Raises:
        BadInputError: an image is absent and `missing` is "raise"; no image is there at all.
    """
    check_missing(missing)
    there = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
    absent = [name for name in names if name not in there]
    if absent and missing == "raise":
        some = f"{len(absent)} of {len(names)} images that {source} names are absent from {folder}, first {absent[0]}"
        raise BadInputError(f'{some}; complete the folder, or pass missing="skip" to leave their rows out')
    if len(absent) == len(names):
        raise BadInputError(f"{folder} holds none of the {len(names)} images that {source} names")
    if skipped is not None:
        skipped.extend(Skipped(str(folder / name), f"named in {source.name}, but absent") for name in absent)
        extra = sorted(name for name in there.difference(listed) if Path(name).suffix.lower() in IMAGE_SUFFIXES)
        skipped.extend(Skipped(str(folder / name), f"not named in {source.name}") for name in extra)
    return np.array([name in there for name in names], dtype=bool)


def check_missing(missing: str) -> None:
    """Raise WrongUseError for an unknown choice of `missing`."""
    if missing not in get_args(Missing):
        raise unknown_name("choice of missing", missing, get_args(Missing))


def drop_absent(rows: pd.DataFrame, source: Path, missing: Missing, skipped: list[Skipped]) -> pd.DataFrame:
    """Return the rows whose image (column `path`) is there; the others are appended to `skipped`.

    Raises:
        BadInputError: an image is absent and `missing` is "raise"; no image is there at all.
    """
    there = np.array([Path(file).is_file() for file in rows["path"]], bool)
    absent = rows["path"][~there]
    if len(absent) and missing == "raise":
        raise BadInputError(
            f"{len(absent)} of {len(rows)} images are absent, first {absent.iloc[0]}; complete the folder, or pass "
            'missing="skip" to leave their rows out'
        )
    skipped += [Skipped(str(file), "its image is absent") for file in absent]
    if not there.any():
        raise BadInputError(f"{source} holds none of the {len(rows)} images that its lists name")
    return rows[there]
