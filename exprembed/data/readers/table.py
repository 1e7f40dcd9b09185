"""A FaceTable of your own, from a Parquet file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from exprembed.data.readers import READERS
from exprembed.data.tables import FaceTable
from exprembed.errors import BadInputError


@READERS.register("table")
def read_table(path: str | Path) -> FaceTable:
    """Read a FaceTable that was written with `faces.to_parquet`, for data in a layout that no other reader knows.

    Image paths that are not absolute count from the folder that the file lies in.

    Args:
        path: the .parquet file.

    Raises:
        BadInputError: no such file, no Parquet in it, or a table that is no FaceTable, with row and column.
    """
    file = Path(path)
    if not file.is_file():
        raise BadInputError(f"{file} is not a file; the .parquet file of a FaceTable is due")
    faces = pd.DataFrame(FaceTable.read_parquet(file))
    faces["path"] = [str(file.parent / entry) for entry in faces["path"]]
    return FaceTable(faces)
