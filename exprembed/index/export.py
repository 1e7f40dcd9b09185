"""An index as a table for other tools: ids, vectors and metadata as Parquet, or as Lance for a vector database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from exprembed.errors import BadInputError, MissingExtraError, WrongUseError
from exprembed.files import atomic_path

if TYPE_CHECKING:
    from exprembed.index.expression_index import ExpressionIndex

_BLOCK = 2**16


def export_index(index: ExpressionIndex, path: str | Path) -> int:
    """Write all items as one table; return their number.

    Columns: `id`, `vector` (a list of d float32), and the metadata. The schema's own metadata says dimension, metric and model.

    Args:
        index: what to write.
        path: `.parquet`, one file, replaced in one step; or `.lance`, a folder, which must not be there.

    Raises:
        WrongUseError: another suffix.
        BadInputError: the folder is there already.
        MissingExtraError: pylance is not installed.

    Example:
        >>> import tempfile
        >>> from exprembed.index import ExpressionIndex
        >>> index = ExpressionIndex(dim=2)
        >>> added = index.add([[0, 1]], ids=["a"], metadata={"age": [7]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     count = export_index(index, f"{folder}/faces.parquet")
        ...     pq.read_table(f"{folder}/faces.parquet").to_pylist()
        [{'id': 'a', 'vector': [0.0, 1.0], 'age': 7}]
    """
    place = Path(path)
    schema, blocks = _table_of(index)
    if place.suffix == ".parquet":
        with atomic_path(place) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            for block in blocks:
                writer.write_batch(block)
    elif place.suffix == ".lance":
        _write_lance(place, schema, blocks)
    else:
        raise WrongUseError(f"an index is exported as .parquet or .lance; got {place.name!r}")
    return len(index)


def _table_of(index: ExpressionIndex) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    table = index.item_table()
    facts = {"dim": str(index.dim), "metric": index.metric, "model": index.model or ""}
    fields = [table.schema.field("id"), pa.field("vector", pa.list_(pa.float32(), index.dim))]
    fields += [field for field in table.schema if field.name != "id"]
    if "vector" in table.schema.names:
        raise BadInputError("a metadata column is called 'vector', which is the name of the vectors' own; rename it")
    schema = pa.schema(fields, metadata=facts)

    def blocks() -> Iterator[pa.RecordBatch]:
        ids = table["id"].to_pylist()
        vectors = index.vectors_of(ids) if ids else np.empty((0, index.dim), dtype=np.float32)
        for start in range(0, len(ids), _BLOCK):
            some = table.slice(start, _BLOCK).combine_chunks()
            flat = pa.array(vectors[start : start + _BLOCK].ravel())
            columns = [
                some["id"],
                pa.FixedSizeListArray.from_arrays(flat, index.dim),
                *(some[field.name] for field in fields[2:]),
            ]
            yield from pa.Table.from_arrays(columns, schema=schema).to_batches()

    return schema, blocks()


def _write_lance(place: Path, schema: pa.Schema, blocks: Iterator[pa.RecordBatch]) -> None:
    try:
        import lance
    except ImportError as error:
        raise MissingExtraError("pylance", "scale", "exporting as Lance") from error
    if place.exists():
        raise BadInputError(f"{place} is there already; remove it, or choose another name")
    try:
        lance.write_dataset(pa.RecordBatchReader.from_batches(schema, blocks), str(place))
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
