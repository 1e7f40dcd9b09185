"""The Parquet file of vectors: a face table with the columns v00, v01, ... beside its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from exprembed.data.vectors import vector_columns, vector_columns_of
from exprembed.errors import BadInputError
from exprembed.files import atomic_path

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from exprembed.models.base import Embedder


class VectorFile(NamedTuple):
    """What a Parquet file of vectors holds.

    Attributes:
        vectors: (n, d), indexed by face_id.
        faces: the other columns, the same index.
        model: fingerprint of the model, None where the file does not say.
        metric: the model's metric, "l2" where the file does not say.
    """

    vectors: pd.DataFrame
    faces: pd.DataFrame
    model: str | None
    metric: str


def write_vectors(path: Path, faces: pd.DataFrame, vectors: np.ndarray, model: Embedder) -> None:
    """Write a face table with its vectors; the model's fingerprint and metric go into the file's metadata."""
    import pandas as pd

    columns = pd.DataFrame(vectors, index=faces.index, columns=vector_columns(vectors.shape[1]))
    both = pd.concat([pd.DataFrame(faces), columns], axis=1)
    both.attrs = {"model": model.fingerprint, "metric": model.metric}
    with atomic_path(path) as temporary:
        both.to_parquet(temporary)


def is_vector_file(path: Path) -> bool:
    """Say whether a path is taken for a Parquet file: by its name."""
    return path.suffix.lower() in (".parquet", ".pq")


def read_vectors(path: Path) -> VectorFile:
    """Read what `write_vectors` wrote, or any Parquet table of numbers indexed by face_id.

    Raises:
        BadInputError: no such file, not Parquet, no vector columns, ids that are not unique texts.
    """
    import pandas as pd

    from exprembed.metrics.checks import as_matrix

    if not path.is_file():
        raise BadInputError(f"{path} does not exist; 'exprembed embed' writes such files")
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # pyarrow raises its own errors, which derive from several built-in ones
        raise BadInputError(f"{path} cannot be read as a Parquet table: {error}") from error
    columns = vector_columns_of(table.columns)
    if not columns and len(table.columns) and all(pd.api.types.is_float_dtype(kind) for kind in table.dtypes):
        columns = list(table.columns)
    if not columns:
        raise BadInputError(f"{path} holds no vectors: columns v00, v01, ... are due; it has {_listed(table.columns)}")
    table.index = table.index.astype("str").rename("face_id")
    if table.index.has_duplicates:
        raise BadInputError(f"{path} holds the face {table.index[table.index.duplicated()][0]!r} twice")
    values = as_matrix(table[columns], str(path))
    vectors = pd.DataFrame(values, index=table.index)
    said = {key: str(value) for key, value in table.attrs.items() if isinstance(value, str)}
    return VectorFile(vectors, table.drop(columns=columns), said.get("model"), said.get("metric", "l2"))


def labels_of(file: VectorFile, path: Path, column: str) -> tuple[pd.DataFrame, Any]:
    """Return the vectors that bear a label, and the labels.

    Raises:
        BadInputError: no such column, or no face with a label.
    """
    import difflib

    if column not in file.faces.columns:
        near = difflib.get_close_matches(column, list(map(str, file.faces.columns)), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise BadInputError(f"{path} has no column {column!r}{hint} It has {_listed(file.faces.columns)}")
    kept = file.faces[column].notna()
    if not kept.any():
        raise BadInputError(f"{path}: no face has a value in the column {column!r}")
    return file.vectors[kept], file.faces.loc[kept, column]


def _listed(columns: Any) -> str:  # noqa: ANN401 - an index
    names = list(map(str, columns))
    return ", ".join(names[:30]) + (", ..." if len(names) > 30 else "") if names else "no columns"
