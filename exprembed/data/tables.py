"""The two schemas that everything speaks: FaceTable (one row a face) and TripletTable (one row a judged triplet).

Both are pandas DataFrames that were checked once: `FaceTable(df)` and `TripletTable(df)` validate and return a new
frame; a wrong frame raises BadInputError with the row and the column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exprembed.errors import BadInputError
from exprembed.files import atomic_path

EXPRESSIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
TRIPLET_TYPES = ("one_class", "two_class", "three_class")
AGREEMENTS = ("strong", "weak", "none")
BOX_COLUMNS = ("left", "top", "right", "bottom")
_TEXT_COLUMNS = ("path", "split", "dataset", "subject", "reference")


class _Table(pd.DataFrame):
    """A validated DataFrame. Slices and other results of pandas are plain DataFrames: only a checked frame bears the name."""

    def __init__(self, data: Any = None, **options: Any) -> None:  # noqa: ANN401 - pandas' own signature
        super().__init__(data, **options)  # type: ignore[call-arg]  # pandas-stubs declare __new__ only
        # pandas re-enters constructors of subclasses with its own managers; ours only runs on user data.
        self._validate()

    def _validate(self) -> None:
        raise NotImplementedError

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    @classmethod
    def read_parquet(cls, path: str | Path) -> Any:  # noqa: ANN401 - Self of a DataFrame subclass
        """Read and validate a table written by `write_parquet`."""
        try:
            return cls(pd.read_parquet(path))
        except (OSError, ValueError) as error:
            if isinstance(error, BadInputError):
                raise BadInputError(f"{path}: {error}") from error
            raise BadInputError(f"{path} cannot be read as a Parquet table: {error}") from error

    def write_parquet(self, path: str | Path) -> None:
        """Write the table as Parquet, replacing `path` atomically."""
        with atomic_path(path) as temporary:
            pd.DataFrame(self).to_parquet(temporary)


class FaceTable(_Table):
    """One row a face, indexed by `face_id`.

    Index: `face_id`, str, unique, not blank. Columns (all optional but `path`): `path`, `split`, `dataset`, `subject`
    (str); `expression` (str: one of EXPRESSIONS or the dataset's own names, missing where unknown); `valence`, `arousal`
    (float in [-1, 1] or missing); `votes_<expression>` (int >= 0); `au_<NN>` (float in 0..5 or missing);
    `left top right bottom` (pixels, left < right, top < bottom); `landmarks`; `reference` (face_id of the same person's
    neutral face); `age`. Other columns pass unchecked.

    Raises:
        BadInputError: a missing column, a wrong type, a value out of range, a blank or repeated id, with row and column.

    Example:
        >>> faces = FaceTable({"path": ["a.png"], "expression": ["happiness"]}, index=["a"])
        >>> faces.loc["a", "expression"]
        'happiness'
    """

    def _validate(self) -> None:
        if "path" not in self.columns:
            raise BadInputError(f"a FaceTable needs the column 'path'; got {list(self.columns)}")
        _check_ids(self.index)
        if self.index.name != "face_id":
            self.index.name = "face_id"
        for column in self.columns:
            values = self[column]
            if column in _TEXT_COLUMNS:
                _check_text(values, blank_allowed=column != "path")
            elif column == "expression":
                _check_text(values, blank_allowed=True)
            elif column in ("valence", "arousal"):
                _check_range(values, -1, 1)
            elif isinstance(column, str) and column.startswith("votes_"):
                _check_range(values, 0, np.inf, whole=True)
            elif isinstance(column, str) and column.startswith("au_") and column[3:].isdigit():
                _check_range(values, 0, 5)
        _check_boxes(self)

    @property
    def votes(self) -> pd.DataFrame:
        """The vote columns, named by expression: (n, C) int."""
        columns = [column for column in self.columns if str(column).startswith("votes_")]
        return pd.DataFrame(self[columns]).rename(columns=lambda name: str(name).removeprefix("votes_"))


class TripletTable(_Table):
    """One row a judged triplet: `odd` is the odd one out, `a` and `b` are the similar pair; there is no anchor.

    Columns: `a`, `b`, `odd` (face ids, three different ones); `type` (one_class, two_class, three_class); `agreement`
    (strong, weak, none); `votes_odd_a`, `votes_odd_b`, `votes_odd_odd` (int >= 0: how many raters took a, b or odd for
    the odd one). All but the first three are optional.

    Raises:
        BadInputError: a missing column, an unknown type or agreement, two equal faces in a row, with row and column.

    Example:
        >>> triplets = TripletTable({"a": ["x"], "b": ["y"], "odd": ["z"], "type": ["one_class"], "agreement": ["strong"]})
        >>> len(triplets)
        1
    """

    def _validate(self) -> None:
        for column in ("a", "b", "odd"):
            if column not in self.columns:
                raise BadInputError(
                    f"a TripletTable needs the columns 'a', 'b' and 'odd'; {column!r} is missing from {list(self.columns)}"
                )
            missing = self[column].isna()
            if missing.any():
                raise _at(missing, column, "is missing")
        for first, second in (("a", "b"), ("a", "odd"), ("b", "odd")):
            same = self[first].to_numpy() == self[second].to_numpy()
            if np.any(same):
                row = self.index[int(np.argmax(same))]
                raise BadInputError(
                    f"row {row!r}: {first!r} and {second!r} are the same face, {self[first].loc[row]!r}"
                )
        for column, allowed in (("type", TRIPLET_TYPES), ("agreement", AGREEMENTS)):
            if column in self.columns:
                wrong = ~self[column].isin(allowed)
                if wrong.any():
                    raise _at(wrong, column, f"is {self[column][wrong].iloc[0]!r}, not one of {', '.join(allowed)}")
        for column in ("votes_odd_a", "votes_odd_b", "votes_odd_odd"):
            if column in self.columns:
                _check_range(self[column], 0, np.inf, whole=True)

    def present_in(self, face_ids: Sequence[str] | pd.Index) -> TripletTable:
        """Return the triplets whose three faces are all in `face_ids`."""
        known = pd.Index(face_ids)
        keep = self["a"].isin(known) & self["b"].isin(known) & self["odd"].isin(known)
        return TripletTable(pd.DataFrame(self)[keep])


def subject_folds(subjects: Sequence[str] | pd.Series, n: int = 10) -> np.ndarray:
    """Deal subjects out to `n` folds: order them by ID and give the i-th to fold i mod n.

    Digits in an ID count as a number: s2 comes before s10.

    Paper: Kim et al. (2019), section IV.B: "grouped by sampling in ID ascending order with ten even intervals".

    Args:
        subjects: (len,) the subject of each row.
        n: number of folds, at least 2 and at most the number of subjects.

    Returns:
        (len,) int, the fold of each row; all rows of a subject are in one fold.

    Raises:
        BadInputError: fewer subjects than folds, or a missing subject.

    Example:
        >>> subject_folds(["s3", "s1", "s2", "s1"], n=2).tolist()
        [0, 0, 1, 0]
    """
    column = pd.Series(list(subjects))
    if column.isna().any():
        raise _at(column.isna(), "subject", "is missing")
    names = column.astype(str)
    unique = sorted(names.unique(), key=_id_order)
    if not 2 <= n <= len(unique):
        raise BadInputError(
            f"{n} folds need at least as many subjects (and 2 folds at least); got {len(unique)} subjects"
        )
    folds: np.ndarray = names.map({name: place % n for place, name in enumerate(unique)}).to_numpy(dtype=int)
    return folds


def _id_order(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Return a key that sorts IDs with their runs of digits as numbers; the ID itself parts `s1` and `s01`."""
    parts = [part for part in re.split(r"(\d+)", name) if part]
    return [
        (not part.isdecimal(), int(part) if part.isdecimal() else 0, part if not part.isdecimal() else "")
        for part in parts
    ], name


def _at(wrong: pd.Series, column: str, what: str) -> BadInputError:
    position = int(np.argmax(wrong.to_numpy()))
    count = int(wrong.sum())
    more = f" (and {count - 1} more rows)" if count > 1 else ""
    return BadInputError(f"row {wrong.index[position]!r}, column {column!r} {what}{more}")


def _check_ids(index: pd.Index) -> None:
    for position, face_id in enumerate(index):
        if not isinstance(face_id, str):
            raise BadInputError(
                f"row {position}: face_id {face_id!r} is {type(face_id).__name__} where str is due; use index=ids of type str"
            )
        if not face_id.strip():
            raise BadInputError(f"row {position}: face_id is blank")
    repeated = index.duplicated()
    if repeated.any():
        raise BadInputError(
            f"row {int(np.argmax(repeated))}: face_id {index[repeated][0]!r} is repeated ({int(repeated.sum())} repeats in all)"
        )


def _check_text(values: pd.Series, blank_allowed: bool) -> None:
    present = values.dropna()
    wrong = ~present.map(lambda value: isinstance(value, str)).astype(bool)
    if wrong.any():
        raise _at(
            wrong,
            str(values.name),
            f"is {present[wrong].iloc[0]!r}, {type(present[wrong].iloc[0]).__name__} where str is due",
        )
    if not blank_allowed:
        blank = values.isna() | (values == "")
        if blank.any():
            raise _at(blank, str(values.name), "is blank")


def _check_range(values: pd.Series, low: float, high: float, whole: bool = False) -> None:
    if not pd.api.types.is_numeric_dtype(values):
        raise BadInputError(
            f"column {str(values.name)!r} is {values.dtype} where a number is due; first value {values.iloc[0]!r}"
        )
    numbers = values.astype(float)
    wrong = (numbers < low) | (numbers > high)
    if whole:
        wrong |= numbers.isna() | (numbers % 1 != 0)
    if wrong.any():
        kind = "a whole number" if whole else "a number"
        raise _at(wrong, str(values.name), f"is {values[wrong].iloc[0]} where {kind} in [{low}, {high}] is due")


def _check_boxes(table: pd.DataFrame) -> None:
    present = [column for column in BOX_COLUMNS if column in table.columns]
    if not present:
        return
    if len(present) < 4:
        raise BadInputError(f"a face box needs the four columns {', '.join(BOX_COLUMNS)}; got {', '.join(present)}")
    for column in BOX_COLUMNS:
        _check_range(table[column], -np.inf, np.inf)
    for low, high in (("left", "right"), ("top", "bottom")):
        wrong = table[low] >= table[high]
        if wrong.any():
            raise _at(wrong, low, f"is not below {high!r}")
