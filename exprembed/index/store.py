"""A saved index on disk: one folder whose three files are replaced together or not at all.

How a save goes, under a lock that other writers wait for:

1. the new files are written beside the old ones as `<name>.<generation>` and flushed to disk;
2. `manifest.json`, which names that generation and the files' checksums, is replaced in one step: now the save counts;
3. the new files are renamed over the old ones.

A kill before 2 leaves the old index and some litter, which the next save clears; a kill after it leaves the new index,
whose readers take `<name>.<generation>` where it still exists, and the next save completes the renames. A reader
compares the manifest before and after it has read, so that a save under way makes it start again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

from exprembed.errors import BadInputError
from exprembed.files import atomic_path, sha256_of, write_json

FORMAT = 1
MANIFEST = "manifest.json"
VECTORS = "vectors.faiss"
ITEMS = "items.parquet"
_FILES = (VECTORS, ITEMS)
_READS = 5
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "generation": int,
    "dim": int,
    "metric": str,
    "kind": str,
    "factory": str,
    "model": (str, type(None)),
    "next_row": int,
    "live": int,
    "effort": (int, type(None)),
    "recall": (float, type(None)),
    "files": dict,
}

Manifest = dict[str, Any]
T = TypeVar("T")


def save_folder(
    folder: Path,
    facts: Mapping[str, Any],
    writers: Mapping[str, Callable[[Path], None]],
    expected: Manifest | None = None,
) -> Manifest:
    """Write an index folder so that a kill at any moment leaves the old index or the new one whole.

    Args:
        folder: made if absent; files of other names in it are left alone.
        facts: what the manifest says beside generation and checksums.
        writers: what writes each file to the path that it is given.
        expected: the manifest that was last read from or written to this folder, if any.

    Returns:
        The manifest as written.

    Raises:
        BadInputError: the folder is a file, cannot be written, holds such files but no manifest, or was saved by
            another process since `expected` (whose changes this save would undo).
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder) as sync:
            before = _current(folder)
            if expected is not None and before is not None and before != expected:
                raise BadInputError(
                    f"{folder} was saved by another process since it was loaded here; load it again "
                    "and repeat the changes"
                )
            generation = before["generation"] + 1 if before else 1
            _clear(folder, before)
            files = {}
            for name, write in writers.items():
                with atomic_path(folder / f"{name}.{generation}") as path:
                    write(path)
                    files[name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
            manifest: Manifest = {"format": FORMAT, "generation": generation, **facts, "files": files}
            sync()
            write_json(folder / MANIFEST, manifest)
            sync()
            _finish(folder, generation)
            sync()
    except OSError as error:
        raise BadInputError(f"the index cannot be saved to {folder}: {error}") from error
    return manifest


def read_folder(folder: Path, read: Callable[[Manifest, dict[str, Path]], T]) -> tuple[T, Manifest]:
    """Read an index folder whole, also while another process saves to it.

    Args:
        folder: what `save_folder` wrote.
        read: makes the result from the manifest and the path of each file; it may be called more than once.

    Returns:
        The result and the manifest that it belongs to.

    Raises:
        BadInputError: no index, a damaged or missing file (which, and why), a format of a newer release.
    """
    for attempt in range(_READS):
        # Where a writer is never idle, the last attempt takes its lock and so finds the folder still.
        with _locked(folder) if attempt + 1 == _READS and folder.is_dir() else nullcontext():
            manifest = read_manifest(folder)
            paths = _located(folder, manifest)
            try:
                _check_sums(paths, manifest)
                result = read(manifest, paths)
            except (OSError, BadInputError) as error:
                if _unchanged(folder, manifest, paths):
                    if isinstance(error, BadInputError):
                        raise
                    raise BadInputError(f"the index in {folder} cannot be read: {error}") from error
            else:
                if _unchanged(folder, manifest, paths):
                    return result, manifest
    raise BadInputError(f"the index in {folder} is being saved faster than it can be read; try again")


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of an index folder."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        what = "holds no index: there is no manifest.json in it" if folder.is_dir() else "does not exist"
        raise BadInputError(f"{folder} {what}") from error
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise BadInputError(f"{path} is no manifest of an index")
    if manifest["format"] > FORMAT:
        raise BadInputError(
            f"{path} has format {manifest['format']}, of a newer release; this one reads up to {FORMAT}"
        )
    for field, kind in _FIELDS.items():
        value = manifest.get(field)
        if field not in manifest or not isinstance(value, kind) or isinstance(value, bool):
            raise BadInputError(f"{path} is damaged: the field {field!r} is {value!r}")
    return manifest


def _located(folder: Path, manifest: Manifest) -> dict[str, Path]:
    staged = {name: folder / f"{name}.{manifest['generation']}" for name in _FILES}
    return {name: path if path.exists() else folder / name for name, path in staged.items()}


def _check_sums(paths: Mapping[str, Path], manifest: Manifest) -> None:
    def is_whole(name: str) -> bool:
        facts, path = manifest["files"].get(name), paths[name]
        if not path.exists():
            raise BadInputError(f"{path} is missing")
        known = isinstance(facts, dict) and path.stat().st_size == facts.get("bytes")
        return known and sha256_of(path) == facts.get("sha256")

    with ThreadPoolExecutor(len(paths)) as pool:
        whole = list(pool.map(is_whole, paths))
    for path, right in zip(paths.values(), whole, strict=True):
        if not right:
            raise BadInputError(f"{path} does not match its checksum in {MANIFEST}: it is damaged or of another index")


def _unchanged(folder: Path, manifest: Manifest, paths: dict[str, Path]) -> bool:
    """Say whether no save has moved anything since the manifest and the paths were read."""
    return read_manifest(folder) == manifest and _located(folder, manifest) == paths


def _current(folder: Path) -> Manifest | None:
    if (folder / MANIFEST).exists():
        return read_manifest(folder)
    stray = [name for name in _FILES if (folder / name).exists()]
    if stray:
        raise BadInputError(
            f"{folder} holds {stray[0]} but no {MANIFEST}: it is no whole index; save to another folder or clear it"
        )
    return None


def _clear(folder: Path, manifest: Manifest | None) -> None:
    """Complete what a killed save had committed, and delete what it had not."""
    if manifest is not None:
        _finish(folder, manifest["generation"])
    for path in folder.iterdir():
        staged = any(path.name.startswith(f"{name}.") and path.suffix[1:].isdigit() for name in _FILES)
        temporary = any(path.name.startswith(f".{name}.") for name in (*_FILES, MANIFEST))
        if staged or temporary:
            path.unlink()


def _finish(folder: Path, generation: int) -> None:
    for name in _FILES:
        with suppress(FileNotFoundError):
            (folder / f"{name}.{generation}").replace(folder / name)


@contextmanager
def _locked(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold the folder against other writers; yield what flushes its directory entries to disk."""
    try:
        import fcntl
    except ImportError:  # Windows has neither this lock nor a way to flush a directory
        yield lambda: None
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield lambda: os.fsync(handle)
    finally:
        os.close(handle)
