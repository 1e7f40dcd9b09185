"""AffectNet: photos from the web with expression, valence and arousal (Mollahosseini, Hasani, Mahoor, 2017)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exprembed.data.readers import READERS
from exprembed.data.readers._files import Missing, check_missing, drop_absent
from exprembed.data.tables import EXPRESSIONS, FaceTable
from exprembed.errors import BadInputError, WrongUseError, unknown_name
from exprembed.files import Skipped

EXPRESSION_OF = dict(enumerate(("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")))
_NOT_FACES = {8: "None", 9: "Uncertain", 10: "No-Face"}
_COLUMNS = [
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
]
_LISTS = {"train": "training.csv", "validation": "validation.csv"}
_SETS = {"train": "train_set", "validation": "val_set"}
_FOLDERS = ("Manually_Annotated/Manually_Annotated_Images", "Manually_Annotated_Images", "")
_UNKNOWN = -2  # valence and arousal of what shows no face, or of an expression that is not known


@READERS.register("affectnet")
def read_affectnet(
    path: str | Path,
    split: str | None = None,
    crops: str | Path | None = None,
    missing: Missing = "raise",
    skipped: list[Skipped] | None = None,
) -> FaceTable:
    """Read AffectNet in either of its official layouts; which one is found by its files.

    The manually annotated set: `training.csv` and `validation.csv` (in `Manually_Annotated_file_lists` or in the folder
    itself) with the columns subDirectory_filePath, face_x, face_y, face_width, face_height, facial_landmarks
    (x;y;x;y ... of 68 points), expression, valence, arousal; validation.csv may lack the header line. Photos lie under
    `Manually_Annotated/Manually_Annotated_Images` (or `Manually_Annotated_Images`, or beside the lists). They are whole
    photos: the columns `left top right bottom` say where the face is; crop before training, and name the `crops`.

    AffectNet-8: `train_set` and `val_set`, each with `images/<n>.jpg` (224x224 crops) and `annotations/<n>_exp.npy`,
    `<n>_val.npy`, `<n>_aro.npy`, one number each, stored as a number or as its text.

    Expressions: 0 neutral, 1 happiness, 2 sadness, 3 surprise, 4 fear, 5 disgust, 6 anger, 7 contempt. Rows that show
    None, Uncertain or No-Face (8, 9, 10) are left out and listed, and so are images named twice (with the same labels: one
    row is kept; with different ones: none). Valence and arousal of -2 are missing.

    Columns of the result: `path`, `split` (train, validation), `dataset`, `expression`, `valence`, `arousal`, and the box and
    `landmarks` where the layout has them.

    Args:
        path: the folder of the data set.
        split: only this split, "train" or "validation".
        crops: folder of crops of your own under the photos' names (`12/abc.jpg`), which `path` then names instead of the
            photos; without boxes and landmarks, which are places in the photos. Not for AffectNet-8, whose images are crops.
        missing: what to do with a row whose image is absent: "raise", or "skip" (leave it out and list it).
        skipped: a list to which each row that was left out is appended with its reason.

    Returns:
        FaceTable, face_id = the image's path without its suffix (`12/abc`), or `train/<n>` for AffectNet-8.

    Raises:
        BadInputError: neither layout is there; a column is absent, a blank name, a value that is no number or out of
            range; images are absent.
        WrongUseError: an unknown `split` or `missing`; `crops` for AffectNet-8.
    """
    if split is not None and split not in _LISTS:
        raise unknown_name("AffectNet split", split, _LISTS)
    check_missing(missing)
    root = Path(path)
    if not root.is_dir():
        raise BadInputError(f"{root} is not a folder; the folder of AffectNet is due")
    left_out: list[Skipped] = [] if skipped is None else skipped
    splits = [split] if split else list(_LISTS)
    lists = root / "Manually_Annotated_file_lists"
    lists = lists if lists.is_dir() else root
    if any((lists / name).is_file() for name in _LISTS.values()):
        rows = pd.concat([_listed(lists / _LISTS[name], root, name, crops, left_out) for name in splits])
    elif any((root / name).is_dir() for name in _SETS.values()):
        if crops is not None:
            raise WrongUseError("AffectNet-8's images are crops already; leave out `crops`")
        rows = pd.concat([_annotated(root / _SETS[name], name, left_out) for name in splits])
    else:
        raise BadInputError(f"{root} is no AffectNet folder: it lacks {_LISTS['train']} and {_SETS['train']}")
    return FaceTable(drop_absent(_once(rows, left_out), root, missing, left_out))


def _once(rows: pd.DataFrame, left_out: list[Skipped]) -> pd.DataFrame:
    """Keep one row of each name: the first of several with equal labels, none of several with different ones."""
    facts = rows[["expression", "valence", "arousal"]].assign(name=rows.index)
    same = facts.duplicated().to_numpy()
    left_out += [Skipped(str(name), "the same image again") for name in rows.index[same]]
    rows = rows[~same]
    differ = rows.index.duplicated(keep=False)
    left_out += [Skipped(str(name), "one image with different labels") for name in rows.index[differ]]
    return rows[~differ]


def _listed(source: Path, root: Path, split: str, crops: str | Path | None, left_out: list[Skipped]) -> pd.DataFrame:
    """Read one list of the manually annotated set."""
    if not source.is_file():
        raise BadInputError(f"there is no {source}")
    with source.open(encoding="utf-8", errors="replace") as file:
        headed = file.readline().startswith(_COLUMNS[0])
    try:
        table = pd.read_csv(source, header=0 if headed else None, names=None if headed else _COLUMNS)
    except (ValueError, pd.errors.ParserError) as error:
        raise BadInputError(f"{source} cannot be read as CSV: {error}") from error
    lacking = [column for column in _COLUMNS if column not in table.columns]
    if lacking:
        raise BadInputError(
            f"{source} lacks the columns {', '.join(lacking)}; it has {', '.join(map(str, table.columns))}"
        )
    names = table["subDirectory_filePath"]
    blank = (names.fillna("").astype(str).str.strip() == "").to_numpy()
    if blank.any():
        raise BadInputError(f"{source}, line {int(np.argmax(blank)) + 1 + headed}: the image has no name")
    places = [f"{source.name} line {number + 1 + headed} ({name})" for number, name in enumerate(names)]
    kept, columns = _labels(table["expression"], table["valence"], table["arousal"], places, source, left_out)
    table, names = table[kept], names[kept]
    photos = next((root / name for name in _FOLDERS if (root / name).is_dir()), root)
    folder = photos if crops is None else Path(crops)
    sides = {}
    for column, start, extent in (("left", "face_x", None), ("right", "face_x", "face_width"),
                                  ("top", "face_y", None), ("bottom", "face_y", "face_height")):  # fmt: skip
        low = _numbers(table[start], start, source)
        sides[column] = low if extent is None else low + _numbers(table[extent], extent, source)
    points = [_points(text, name, source) for text, name in zip(table["facial_landmarks"], names, strict=True)]
    columns = {"path": [str(folder / name) for name in names], "split": split, "dataset": "affectnet", **columns}
    index = pd.Index([str(Path(name).with_suffix("")) for name in names], name="face_id", dtype="str")
    return pd.DataFrame(columns | ({**sides, "landmarks": points} if crops is None else {}), index=index)


def _points(text: object, name: object, source: Path) -> np.ndarray:
    try:
        points = np.array([float(number) for number in str(text).split(";")])
    except ValueError:
        points = np.empty(0)
    if len(points) != 136:
        raise BadInputError(f"{source}: the landmarks of {name} are not 68 points x;y;x;y ...")
    return points


def _annotated(folder: Path, split: str, left_out: list[Skipped]) -> pd.DataFrame:
    """Read one set of AffectNet-8."""
    notes = folder / "annotations"
    numbers = sorted(file.name.removesuffix("_exp.npy") for file in notes.glob("*_exp.npy")) if notes.is_dir() else []
    if not numbers:
        raise BadInputError(f"{folder} holds no annotations/<n>_exp.npy")
    for file in sorted((folder / "images").glob("*.jpg")) if (folder / "images").is_dir() else []:
        if not (notes / f"{file.stem}_exp.npy").is_file():
            left_out.append(Skipped(str(file), "no annotation"))
    given = [[_number(notes / f"{number}_{kind}.npy") for kind in ("exp", "val", "aro")] for number in numbers]
    table = pd.DataFrame(given, columns=["expression", "valence", "arousal"])
    places = [str(notes / f"{number}_exp.npy") for number in numbers]
    kept, columns = _labels(table["expression"], table["valence"], table["arousal"], places, folder, left_out)
    chosen = [number for number, keep in zip(numbers, kept, strict=True) if keep]
    columns = {
        "path": [str(folder / "images" / f"{number}.jpg") for number in chosen],
        "split": split,
        "dataset": "affectnet",
        **columns,
    }
    return pd.DataFrame(
        columns, index=pd.Index([f"{split}/{number}" for number in chosen], name="face_id", dtype="str")
    )


def _number(file: Path) -> float:
    try:
        value = np.load(file, allow_pickle=False)
        return float(str(value.reshape(()) if value.size == 1 else value))
    except FileNotFoundError as error:
        raise BadInputError(f"there is no {file}") from error
    except (ValueError, OSError, EOFError) as error:
        raise BadInputError(f"{file} does not hold one number: {error}") from error


def _labels(
    expressions: pd.Series,
    valence: pd.Series,
    arousal: pd.Series,
    places: list[str],
    source: Path,
    left_out: list[Skipped],
) -> tuple[np.ndarray, dict[str, Any]]:
    """Check the labels; return which rows show a known expression, and their columns."""
    codes = _numbers(expressions, "expression", source)
    unknown = ~np.isin(codes, [*EXPRESSION_OF, *_NOT_FACES])
    if unknown.any():
        row = int(np.argmax(unknown))
        raise BadInputError(f"{source}, {places[row]}: expression {codes[row]:g} is none of 0 to 10")
    kept = codes < len(EXPRESSIONS)
    left_out += [
        Skipped(place, f"expression {_NOT_FACES[int(code)]}")
        for place, code, keep in zip(places, codes, kept, strict=True)
        if not keep
    ]
    columns: dict[str, Any] = {"expression": [EXPRESSION_OF[int(code)] for code in codes[kept]]}
    for name, values in (("valence", valence), ("arousal", arousal)):
        numbers = _numbers(values, name, source)[kept]
        numbers[numbers == _UNKNOWN] = np.nan
        columns[name] = numbers
    return kept, columns


def _numbers(values: pd.Series, name: str, source: Path) -> np.ndarray:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(float).copy()
    if np.isnan(numbers).any():
        row = int(np.argmax(np.isnan(numbers)))
        raise BadInputError(f"{source}: {name} is '{values.iloc[row]}' where a number is due (row {row + 1})")
    return numbers
