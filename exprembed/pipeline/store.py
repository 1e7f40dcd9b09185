"""A job's results on disk: parts as they come, so that a killed job goes on; one Parquet file in the end."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from exprembed.data.quality import FaceQuality
from exprembed.data.tables import BOX_COLUMNS
from exprembed.files import Skipped, atomic_path
from exprembed.pipeline.stream import Chunk

_SOURCES, _SETTINGS, _RUN, _ATTRS = b"exprembed.sources", b"exprembed.settings", b"exprembed.run", b"PANDAS_ATTRS"
_ROWS, _FILES, _SECONDS = 4096, 512, 20.0  # a part is written after so many faces, files or seconds
_NUMBER, _NUMBERS, _TEXT = pa.float64(), pa.list_(pa.float64()), pa.string()
COLUMNS = {
    "face_id": _TEXT,
    "path": _TEXT,
    **dict.fromkeys(BOX_COLUMNS, _NUMBER),
    "landmarks": _NUMBERS,
    "eyes": _NUMBERS,
    **dict.fromkeys((entry.name for entry in fields(FaceQuality)), _NUMBER),
    "frame": pa.int64(),
    "time": _NUMBER,
    "track": pa.int64(),
    "crop": _TEXT,
}
"""What a job tells of a face, beside what a data set tells; columns that stay empty are left out of the file."""


class Done(NamedTuple):
    """A file that is finished: its size and modification time (ns), and what was left out of it."""

    state: tuple[int, int]
    skipped: list[Skipped]


def state_of(path: str | Path) -> tuple[int, int]:
    """Return a file's size and modification time (ns), by which it is known again; (-1, -1) where it cannot be asked."""
    try:
        status = Path(path).stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def digest_of(*facts: object) -> str:
    """Return a digest of all that the faces and vectors of a file depend on beside the file."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()


class ResultStore:
    """The Parquet file of a job, and what there is of it before it is whole.

    While the job runs, `<name>.parts` beside the file holds parts, each with the files that it finishes. In the end they
    become the file, in one step, and `<stem>.sources.parquet` says which files it is of, in which state, so that the next
    job embeds only what is new or changed.

    Args:
        path: the file.
        settings: digest of what the vectors depend on; what was made with others is not taken up.
        vectors: names of the vector columns.
        known: columns that a data set tells, by face_id.
        attrs: what pandas finds in `attrs` of the whole.
    """

    def __init__(
        self,
        path: str | Path,
        settings: str,
        vectors: Sequence[str],
        known: pd.DataFrame | None = None,
        attrs: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self._settings, self._attrs = Path(path), settings, dict(attrs or {})
        self._parts = self.path.with_name(f"{self.path.name}.parts")
        self._sources = self.path.with_name(f"{self.path.stem}.sources.parquet")
        self._known = None if known is None else known.drop(columns=[c for c in known.columns if c in COLUMNS])
        told = [] if self._known is None else list(pa.Schema.from_pandas(self._known, preserve_index=False))
        own = [pa.field(name, kind) for name, kind in COLUMNS.items()]
        self._schema = pa.schema([*own, *told, *(pa.field(name, pa.float32()) for name in vectors)])
        self._vectors = list(vectors)
        self._done: dict[str, Done] = {}
        self._where: dict[str, str] = {}  # the run that finished a file; what other runs have of it is not whole

    def take_up(self, paths: Sequence[Path]) -> list[Path]:
        """Find what an earlier run left of these files; return those that are still to do."""
        for file in [*([self.path] if self._sources.is_file() else []), *sorted(self._parts.glob("*.parquet"))]:
            if not file.is_file() or _metadata(file).get(_SETTINGS, b"").decode() != self._settings:
                continue
            listed, run = _metadata(file).get(_SOURCES), _run_of(file)
            rows = pq.read_table(self._sources).to_pylist() if listed is None else json.loads(listed)
            for row in rows:
                self._done[row["path"]] = Done(
                    (row["size"], row["mtime_ns"]), [Skipped(*item) for item in row["skipped"]]
                )
                self._where[row["path"]] = run
        asked = {str(path) for path in paths}
        for path in [path for path in self._done if path not in asked or self._done[path].state != state_of(path)]:
            del self._done[path], self._where[path]
        return [path for path in paths if str(path) not in self._done]

    def add(self, chunks: Iterable[Chunk], paths: Sequence[Path]) -> None:
        """Write chunks as parts, each a moment's work at most; `paths` are the files that the chunks count."""
        self._parts.mkdir(parents=True, exist_ok=True)
        states = [state_of(path) for path in paths]  # as they were before they were read
        waiting: list[Chunk] = []
        self._run = uuid.uuid4().hex
        number, since = (
            1 + max((int(part.stem) for part in self._parts.glob("*.parquet")), default=-1),
            time.monotonic(),
        )
        for chunk in chunks:
            waiting.append(chunk)
            sizes = sum(len(one.faces) for one in waiting), sum(len(one.skipped) for one in waiting)
            if sizes[0] >= _ROWS or sizes[1] >= _FILES or time.monotonic() - since >= _SECONDS:
                self._write_part(self._parts / f"{number:08d}.parquet", waiting, paths, states)
                number, since, waiting = number + 1, time.monotonic(), []
        if waiting:
            self._write_part(self._parts / f"{number:08d}.parquet", waiting, paths, states)

    def finish(self) -> tuple[int, list[Skipped]]:
        """Put the parts together and replace the file; return the number of faces and what was left out.

        Without a single face the file is not written.
        """
        skipped = [item for path in self._done for item in self._done[path].skipped]
        runs = set(self._where.values())
        files = [self.path] if "" in runs else []
        files += [part for part in sorted(self._parts.glob("*.parquet")) if _run_of(part) in runs]
        filled: set[str] = set()
        count = 0
        for table in self._kept(files):
            count += table.num_rows
            filled |= {name for name in table.column_names if table[name].null_count < table.num_rows}
        if not count:
            shutil.rmtree(self._parts, ignore_errors=True)
            return 0, skipped
        schema = pa.schema([field for field in self._schema if field.name in filled])
        sample = schema.empty_table().to_pandas().set_index("face_id")
        described = {_SETTINGS: self._settings, _ATTRS: json.dumps(self._attrs)}
        described[b"pandas"] = pa.Schema.from_pandas(sample).metadata[b"pandas"]
        with atomic_path(self.path) as temporary, pq.ParquetWriter(temporary, schema.with_metadata(described)) as out:
            for table in self._kept(files):
                out.write_table(table.select(schema.names).replace_schema_metadata(described))
        with atomic_path(self._sources) as temporary:
            pq.write_table(pa.Table.from_pylist(_listed(self._done), _LISTED), temporary)
        shutil.rmtree(self._parts, ignore_errors=True)
        return count, skipped

    def _kept(self, files: Sequence[Path]) -> Iterator[pa.Table]:
        """Yield the faces of finished files, a row group at a time, with all columns."""
        for file in files:
            wrote = _run_of(file)
            mine = pa.array([path for path, run in self._where.items() if run == wrote], _TEXT)
            opened = pq.ParquetFile(file)
            for group in range(opened.num_row_groups):
                table = opened.read_row_group(group)
                table = table.filter(pc.is_in(table["path"], mine))
                columns = [
                    table[field.name].cast(field.type)
                    if field.name in table.column_names
                    else pa.nulls(len(table), field.type)
                    for field in self._schema
                ]
                yield pa.table(columns, schema=self._schema)

    def _write_part(
        self, part: Path, chunks: list[Chunk], paths: Sequence[Path], states: list[tuple[int, int]]
    ) -> None:
        ended = {str(paths[i]): Done(states[i], left) for one in chunks for i, left in one.skipped.items()}
        described = {_SOURCES: json.dumps(_listed(ended)), _SETTINGS: self._settings, _RUN: self._run}
        table = pa.concat_tables([self._table(chunk) for chunk in chunks])
        with atomic_path(part) as temporary:
            pq.write_table(table.replace_schema_metadata(described), temporary)
        self._done |= ended
        self._where |= dict.fromkeys(ended, self._run)

    def _table(self, chunk: Chunk) -> pa.Table:
        faces = chunk.faces.rename_axis("face_id").reset_index()
        told = self._schema.empty_table().to_pandas() if self._known is None else self._known.reindex(chunk.faces.index)
        columns = {}
        for field in self._schema:
            if field.name in self._vectors:
                values = pa.array(chunk.vectors[:, self._vectors.index(field.name)], pa.float32())
            elif field.name in faces:
                values = pa.array(faces[field.name], field.type, from_pandas=True)
            elif field.name in told and len(told) == len(faces):
                values = pa.array(told[field.name], field.type, from_pandas=True)
            else:
                values = pa.nulls(len(faces), field.type)
            columns[field.name] = values
        return pa.table(columns, schema=self._schema)


_LISTED = pa.schema(
    [("path", _TEXT), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("skipped", pa.list_(pa.list_(_TEXT)))]
)


def _listed(files: Mapping[str, Done]) -> list[dict[str, object]]:
    """Return files as rows that JSON and Parquet take."""
    return [
        {
            "path": path,
            "size": done.state[0],
            "mtime_ns": done.state[1],
            "skipped": [list(item) for item in done.skipped],
        }
        for path, done in files.items()
    ]


def _run_of(file: Path) -> str:
    """Return the run that wrote a part; the empty one for a file that is whole."""
    return _metadata(file).get(_RUN, b"").decode()


def _metadata(file: Path) -> dict[bytes, bytes]:
    return dict(pq.read_schema(file).metadata or {})
