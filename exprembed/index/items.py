"""The items of an index: their ids, which of them live, and their metadata, one row each for ever."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from exprembed.errors import BadInputError, unknown_name

RESERVED = ("id", "_live")
# Of more names than these, fewer than an eighth are looked up one by one; else all become Python's own, once.
_MANY, _FEW = 2**20, 8
_NULLABLE = {
    pa.bool_(): pd.BooleanDtype(),
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
}


class Items:
    """Ids and metadata by row number. A row is given out once: that of a removed item stays, retired, with its id.

    The table written to disk has the columns `id`, `_live` and the metadata; the row number is the position. A retired
    row keeps its id, so that it is never given again, and nothing else. Of a table on disk only `_live` is read at once:
    the rest, and the rows of ids, when something asks for them.
    """

    def __init__(self) -> None:
        self._live, self._n_live = bytearray(), 0
        self._unread: pq.ParquetFile | None = None
        self._chunks: list[pa.Table] = []
        self._schema = pa.schema([("id", pa.large_string())])
        self._lookup: dict[str, int] | None = None
        self._names: NDArray[np.object_] | None = None

    @property
    def next_row(self) -> int:
        """The row that the next item gets: the number of items ever added."""
        return len(self._live)

    @property
    def live(self) -> NDArray[np.bool_]:
        """(next_row,) bool, false for removed items."""
        return np.frombuffer(self._live, dtype=bool).copy()  # a view would keep the bytes from growing

    @property
    def n_live(self) -> int:
        """Number of items that were not removed."""
        return self._n_live

    @property
    def live_names(self) -> list[str]:
        """Ids of the items that were not removed, by row."""
        names: list[str] = self.table["id"].filter(pa.array(self.live)).to_pylist()
        return names

    def names_of(self, rows: NDArray[np.int64]) -> NDArray[np.object_]:
        """Return the ids of rows, removed ones included."""
        if self._names is None or len(self._names) < self.next_row:
            if self.next_row > _MANY and rows.size * _FEW < self.next_row:
                found: NDArray[np.object_] = self.table["id"].take(pa.array(rows.ravel())).to_numpy()
                return found.reshape(rows.shape)
            self._names = self.table["id"].to_numpy()
        return self._names[rows]

    @property
    def table(self) -> pa.Table:
        """`id` and the metadata of every row; columns that some items were added without are null there."""
        if self._unread is not None:
            self._chunks.insert(0, self._unread.read(self._schema.names))
            self._unread = None
        if len(self._chunks) != 1:
            chunks = [self._schema.empty_table(), *self._chunks]
            self._chunks = [pa.concat_tables(chunks, promote_options="permissive").combine_chunks()]
        return self._chunks[0]

    @property
    def columns(self) -> pa.Schema:
        """Names and types of `id` and the metadata."""
        return self._schema

    @property
    def _rows(self) -> dict[str, int]:
        """The row of each id."""
        if self._lookup is None:
            self._lookup = {item: row for row, item in enumerate(self.table["id"].to_pylist())}
            if len(self._lookup) < self.next_row:
                raise BadInputError("the saved items hold an id twice: the index is damaged; build it anew")
        return self._lookup

    def is_live(self, item: object) -> bool:
        """Say whether an id is in the index and not removed."""
        row = self._rows.get(item) if isinstance(item, str) else None
        return row is not None and bool(self._live[row])

    def known_rows(self, ids: Sequence[str]) -> list[int]:
        """Return the rows of those ids that live."""
        return [self._rows[item] for item in ids if self.is_live(item)]

    def prepare(self, ids: Sequence[Any] | None, metadata: Any, n: int) -> tuple[list[str], pa.Table]:  # noqa: ANN401
        """Check n new items and return their ids and columns, changing nothing.

        Raises:
            BadInputError: as `ExpressionIndex.add` says.
        """
        names = [str(row) for row in range(self.next_row, self.next_row + n)] if ids is None else _as_ids(ids)
        if len(names) != n:
            raise BadInputError(f"{len(names)} ids were given for {n} vectors")
        seen: set[str] = set()
        for item in names:
            if item in seen:
                raise BadInputError(f"the id {item!r} is repeated")
            if item in self._rows:
                state = (
                    "is already in the index"
                    if self._live[self._rows[item]]
                    else "was removed, and no id is used twice"
                )
                raise BadInputError(f"the id {item!r} {state}; give the new item another")
            seen.add(item)
        return names, self._columns(names, metadata)

    def _columns(self, names: list[str], metadata: Any) -> pa.Table:  # noqa: ANN401
        table = pa.table({"id": pa.array(names, pa.large_string())})
        if metadata is not None:
            for name, column in _metadata_columns(names, metadata).items():
                table = table.append_column(name, column)
        try:
            self._merged(table)
        except pa.ArrowException as error:
            raise BadInputError(f"metadata of another type than before: {error}") from error
        return table

    def _merged(self, table: pa.Table) -> pa.Schema:
        return pa.unify_schemas([self._schema, table.schema], promote_options="permissive")

    def append(self, names: list[str], table: pa.Table) -> None:
        """Take in what `prepare` returned."""
        self._rows.update(zip(names, range(self.next_row, self.next_row + len(names)), strict=True))
        self._live.extend(b"\1" * len(names))
        self._n_live += len(names)
        self._chunks.append(table)
        self._schema = self._merged(table)

    def rows_of(self, ids: Sequence[Any]) -> NDArray[np.int64]:
        """Return the rows of ids; an unknown or removed one raises BadInputError."""
        names = _as_ids(ids)
        for item in names:
            if item not in self._rows:
                raise BadInputError(f"the id {item!r} is not in the index")
            if not self.is_live(item):
                raise BadInputError(f"the id {item!r} was already removed")
        return np.array([self._rows[item] for item in names], dtype=np.int64)

    def of_one_kind(self, rows: NDArray[np.int64], column: str) -> list[list[str]]:
        """Return for each row the ids of live items that share its value in a column, its own always among them.

        Raises:
            WrongUseError: an unknown column.
        """
        known = [name for name in self.columns.names if name != "id"]
        if column not in known:
            raise unknown_name("metadata column", column, known)
        frame = self.table.select(["id", column]).to_pandas()[self.live]
        groups = frame.groupby(column, observed=True)["id"].agg(list)
        values = self.table[column].take(pa.array(rows)).to_pandas()
        own = self.names_of(rows).tolist()
        return [
            groups.get(value, [item]) if pd.notna(value) else [item] for value, item in zip(values, own, strict=True)
        ]

    def rows_to_remove(self, ids: Sequence[Any]) -> NDArray[np.int64]:
        """Return the rows of ids that are to be removed; an unknown, removed or repeated one raises BadInputError."""
        rows = self.rows_of(ids)
        seen, counts = np.unique(rows, return_counts=True)
        if (counts > 1).any():
            twice = self.names_of(seen[counts > 1][:1])[0]
            raise BadInputError(f"the id {twice!r} is repeated")
        return rows

    def retire(self, rows: NDArray[np.int64]) -> None:
        """Mark rows as removed."""
        for row in rows.tolist():
            self._live[row] = 0
        self._n_live -= len(rows)

    def metadata(self) -> pd.DataFrame:
        """Return the metadata of live items, indexed by id, with pandas' nullable types for whole numbers and truth."""
        return frame_of(self.table.filter(pa.array(self.live)))

    def write(self, path: Path) -> None:
        """Write the table as Parquet; of removed items only the id."""
        live, table = self.live, self.table
        rows = pa.array(np.arange(len(live)), mask=~live)  # null takes null
        out = pa.table({"id": table["id"], "_live": pa.array(live)})
        for name in table.column_names[1:]:
            out = out.append_column(name, table[name].take(rows))
        pq.write_table(out, path)

    @classmethod
    def read(cls, path: Path) -> Items:
        """Open what `write` wrote; anything else raises BadInputError."""
        try:
            file = pq.ParquetFile(path, memory_map=True)
            names = file.schema_arrow.names
            live = file.read(["_live"])["_live"] if set(RESERVED) <= set(names) else None
        except (pa.ArrowException, OSError) as error:
            raise BadInputError(f"{path} cannot be read as Parquet: {error}") from error
        if live is None or not pa.types.is_large_string(file.schema_arrow.field("id").type):
            raise BadInputError(
                f"{path} lacks the columns {', '.join(RESERVED)}, or its ids are no texts; it has {', '.join(names)}"
            )
        items = cls()
        items._unread = file
        items._schema = pa.schema([field for field in file.schema_arrow if field.name != "_live"])
        items._live = bytearray(live.to_numpy().astype(np.uint8).tobytes())
        items._n_live = items._live.count(1)
        return items


def frame_of(table: pa.Table) -> pd.DataFrame:
    """Return metadata indexed by the column `id`, with pandas' nullable types for whole numbers and truth."""
    frame: pd.DataFrame = table.to_pandas(types_mapper=_NULLABLE.get).set_index("id")
    return frame


def _as_ids(ids: Sequence[Any]) -> list[str]:
    if isinstance(ids, str):
        raise BadInputError(f"ids must be a list of texts; got the single text {ids!r}; use [{ids!r}]")
    names = ids.tolist() if isinstance(ids, np.ndarray | pd.Index | pd.Series) else list(ids)
    for place, item in enumerate(names):
        if not isinstance(item, str):
            raise BadInputError(f"id {place} is {item!r}, {type(item).__name__} where str is due; use str({item!r})")
        if not item.strip():
            raise BadInputError(f"id {place} is blank")
    return names


def _metadata_columns(names: list[str], metadata: Any) -> dict[str, pa.Array]:  # noqa: ANN401 - a frame or what makes one
    try:
        frame = pd.DataFrame(metadata)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"metadata cannot be read as a table: {error}") from error
    if len(frame) != len(names):
        raise BadInputError(f"metadata has {len(frame)} rows for {len(names)} items")
    frame = _in_order(frame, names)
    columns: dict[str, pa.Array] = {}
    for place, name in enumerate(frame.columns):
        if not isinstance(name, str) or name in RESERVED or name in columns:
            problem = "is reserved" if name in RESERVED else "is there twice" if name in columns else "is not a text"
            raise BadInputError(f"the metadata column name {name!r} {problem}; rename it")
        values = frame.iloc[:, place]
        values = values.astype(object) if isinstance(values.dtype, pd.CategoricalDtype) else values
        try:
            array = pa.Array.from_pandas(values)
        except (pa.ArrowException, OverflowError) as error:
            raise BadInputError(
                f"the metadata column {name!r} mixes types or holds what cannot be stored: {error}"
            ) from error
        array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        # A column without any value, whatever type pandas gave it, says nothing on the type of later ones.
        columns[name] = pa.nulls(len(array)) if array.null_count == len(array) else array
    return columns


def _in_order(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Return metadata in the order of the items: a frame indexed by texts is matched by id, any other by position."""
    texts = len(frame) > 0 and all(isinstance(label, str) for label in frame.index)
    if not texts or frame.index.tolist() == names:
        return frame
    if set(frame.index) != set(names):
        stray = min(set(frame.index) ^ set(names))
        raise BadInputError(
            f"metadata is indexed by other ids than the items: {stray!r} is only in one of them; "
            "reset_index() goes by position"
        )
    if frame.index.has_duplicates:
        raise BadInputError("metadata repeats an id")
    return frame.loc[names]
