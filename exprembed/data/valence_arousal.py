"""Valence and arousal where only votes on expressions are known: their expectation over the classes' means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from exprembed.data.tables import FaceTable
from exprembed.data.triplets import vote_distributions
from exprembed.errors import BadInputError

# Means over the 20,000 ratings (25 raters) of the 800 images of AffectNet that were drawn at random:
# `class_means_of_ratings(folder)` gives them, to three digits.
AFFECTNET_CLASS_MEANS: Mapping[str, tuple[float, float]] = {
    "neutral": (0.021, -0.392),
    "happiness": (0.386, -0.041),
    "sadness": (-0.519, 0.114),
    "surprise": (-0.093, 0.273),
    "fear": (-0.47, 0.258),
    "disgust": (-0.459, 0.153),
    "anger": (-0.429, 0.169),
    "contempt": (-0.151, -0.214),
}
_RATED = ("happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt", "neutral")


def expected_valence_arousal(
    faces: FaceTable, means: Mapping[str, tuple[float, float]] = AFFECTNET_CLASS_MEANS
) -> FaceTable:
    """Give each face the valence and arousal that its votes let expect: v = sum_c p(c) v_c, a = sum_c p(c) a_c.

    p(c) is the face's share of votes on class c, (v_c, a_c) the mean of the ratings that raters of AffectNet gave together
    with class c. This is no rating of the face: two faces with the same votes get the same numbers.

    Args:
        faces: with votes.
        means: class -> (valence, arousal), for every class with a vote column.

    Returns:
        The faces with `valence` and `arousal`.

    Raises:
        BadInputError: no votes, a face without any, or votes on a class without a mean.

    Example:
        >>> faces = FaceTable({"path": ["a.png"], "votes_happiness": [5], "votes_neutral": [5]}, index=["a"])
        >>> expected_valence_arousal(faces)["valence"].round(4).tolist()
        [0.2035]
    """
    shares = vote_distributions(faces)
    lacking = [str(name) for name in shares.columns if name not in means]
    if lacking:
        raise BadInputError(f"there is no mean valence and arousal for {', '.join(lacking)}; pass means that have them")
    table = np.array([means[str(name)] for name in shares.columns])
    felt = shares.to_numpy(float) @ table
    return FaceTable(pd.DataFrame(faces).assign(valence=felt[:, 0], arousal=felt[:, 1]))


def class_means_of_ratings(path: str | Path, number: int = 2) -> pd.DataFrame:
    """Average the valence and arousal that AffectNet's 25 raters gave together with each class.

    Layout (AffectNet-C25): `expression_set2_C25.csv`, `valence_set2_C25.csv`, `arousal_set2_C25.csv`, each with the columns
    index, filename, participant0 ... participant24; expressions 0 happiness, 1 sadness, 2 surprise, 3 fear, 4 disgust,
    5 anger, 6 contempt, 7 neutral. Set 1 holds images that were picked as confusing, set 2 images drawn at random. The
    files are joined by filename.

    Args:
        path: the folder of the files.
        number: of the set, 1 or 2.

    Returns:
        (8, 2): valence and arousal by expression.

    Raises:
        BadInputError: a file or column is absent, a name is blank or repeated, the files rate different images or in
            different columns, or a value is out of range.
    """
    kinds = {
        kind: _ratings(Path(path) / f"{kind}_set{number}_C25.csv") for kind in ("expression", "valence", "arousal")
    }
    chosen = kinds["expression"]
    for kind, table in kinds.items():
        if set(table.index) != set(chosen.index) or list(table.columns) != list(chosen.columns):
            raise BadInputError(f"{path}: {kind} and expression rate different images, or by different raters")
    codes = chosen.to_numpy().ravel()
    if not np.isin(codes, np.arange(len(_RATED))).all():
        raise BadInputError(f"{path}: an expression is none of 0 to {len(_RATED) - 1}")
    flat = {kind: kinds[kind].loc[chosen.index].to_numpy(float).ravel() for kind in ("valence", "arousal")}
    if any((np.abs(values) > 1).any() or np.isnan(values).any() for values in flat.values()):
        raise BadInputError(f"{path}: valence and arousal run from -1 to 1")
    means = pd.DataFrame(flat).groupby(np.array(_RATED)[codes.astype(int)]).mean()
    return means.reindex(_RATED)


def _ratings(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise BadInputError(f"there is no {file}")
    table = pd.read_csv(file)
    raters = [column for column in table.columns if str(column).startswith("participant")]
    if "filename" not in table or not raters:
        raise BadInputError(
            f"{file} needs the columns filename and participant0, ...; it has {', '.join(table.columns)}"
        )
    if table["filename"].isna().any() or table["filename"].duplicated().any():
        raise BadInputError(f"{file}: a filename is blank or repeated")
    values = table.set_index("filename")[raters]
    if not all(pd.api.types.is_numeric_dtype(kind) for kind in values.dtypes):
        raise BadInputError(f"{file}: a rating is not a number")
    return values
