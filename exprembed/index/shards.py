"""Shards: what became of a block of photos, in one Parquet file that is whole or absent and named after its making."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from exprembed.errors import BadInputError
from exprembed.files import Skipped, atomic_path
from exprembed.index.items import Items, frame_of
from exprembed.index.vectors import checked_vectors

TRAINED = "trained.faiss"
_VECTOR = "_vector"
_OURS = re.compile(rf"\.?([0-9a-f]{{64}}\.(parquet|faiss|[0-9a-f]+\.tries)|{re.escape(TRAINED)}).*")


class Faces(NamedTuple):
    """What became of a block of photos: n faces, and the photos without any.

    Attributes:
        ids: n texts.
        vectors: (n, d).
        metadata: n rows, as `ExpressionIndex.add` takes them.
        skipped: what was left out.
    """

    ids: list[str]
    vectors: NDArray[np.float32]
    metadata: pd.DataFrame | None
    skipped: list[Skipped]


class Shard:
    """A finished shard.

    Args:
        path: of its file.

    Raises:
        BadInputError: it cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_shard(Path(folder) / "shard", Faces(["a"], np.ones((1, 2)), None, [Skipped("b", "no face")]), dim=2)
        ...     shard = Shard(Path(folder) / "shard")
        ...     len(shard), shard.skipped, shard.vectors(2, "l2").tolist()
        (1, [Skipped(item='b', reason='no face')], [[1.0, 1.0]])
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as file:
            self._rows, self._schema = int(file.metadata.num_rows), file.schema_arrow

    def __len__(self) -> int:
        return self._rows

    @property
    def skipped(self) -> list[Skipped]:
        """What was left out."""
        return [Skipped(*item) for item in json.loads(self._schema.metadata[b"skipped"])]

    @property
    def metadata(self) -> pd.DataFrame:
        """The metadata, indexed by id."""
        with self._opened() as file:
            return frame_of(file.read([name for name in self._schema.names if name != _VECTOR]))

    def vectors(self, dim: int, metric: str) -> NDArray[np.float32]:
        """Return the vectors (n, d) as an index of that metric takes them."""
        with self._opened() as file:
            flat = file.read([_VECTOR])[_VECTOR].combine_chunks().flatten().to_numpy()
        return checked_vectors(flat.reshape(-1, dim), "vectors", dim, metric)

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        """Open the file for once: of many shards not all can be open."""
        try:
            with pq.ParquetFile(self.path) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            raise BadInputError(f"the shard {self.path} cannot be read: {error}; delete it and try again") from error


def write_shard(path: Path, faces: Faces, dim: int) -> None:
    """Write a shard of d dimensions; what an index would refuse raises BadInputError here."""
    vectors = checked_vectors(faces.vectors, "vectors", dim, "l2")
    _, table = Items().prepare(faces.ids, faces.metadata, len(vectors))
    if _VECTOR in table.column_names:
        raise BadInputError(f"the metadata column name {_VECTOR!r} is reserved; rename it")
    table = table.append_column(_VECTOR, pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim))
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata({"skipped": json.dumps(faces.skipped)}), temporary)


def digest_of(files: Iterable[Path], *facts: object) -> str:
    """Return 64 hexadecimal digits that change with the files (path, size, time of change) and with the facts.

    Example:
        >>> digest_of([], "model a") == digest_of([], "model b")
        False
    """
    parts = [repr(fact) for fact in facts]
    for path in files:
        try:
            status = path.stat()
        except OSError:  # whoever embeds it will say so
            parts.append(f"{path} absent")
        else:
            parts.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()


def clear_shards(folder: Path) -> None:
    """Delete the shards in a folder, whatever they were made of, and the folder if nothing else is in it."""
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
