"""Where vectors lie and are searched: FAISS behind five verbs, the seam at which other engines can be put in."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from exprembed.errors import BadInputError, MissingExtraError, WrongUseError
from exprembed.index.flat import FlatSearch
from exprembed.index.kinds import KINDS, auto_factory, lists_factory, physical_memory
from exprembed.metrics.exact import MEMORY_LIMIT, Found

_BLOCK = 2**18  # vectors that move from one kind to another at a time
_GPU_MOST = 2048  # neighbours that FAISS finds on a GPU
_A_LIST = 64  # vectors a list that lists are trained on


_MAPPED = re.compile(r"Flat|IVF\d+,(Flat|SQ8)")  # kinds that can stay in their file


class Engine(Protocol):
    """What an index asks of the thing that holds its vectors; rows are numbers >= 0 that never come twice."""

    dim: int
    factory: str
    exact: bool

    def __len__(self) -> int: ...

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Take in vectors (n, d) under their rows."""

    def remove(self, rows: NDArray[np.int64]) -> None:
        """Forget the vectors of these rows, or do nothing where the kind cannot: `search` is told what is allowed."""

    def search(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None) -> Found:
        """Return rows (Q, k), -1 where there are no more, and ascending squared L2 distances (Q, k), inf there."""

    def to(self, device: str) -> None:
        """Search on another device from now on."""

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors (n, d) of rows, as the kind keeps them."""

    def rebuilt(self, rows: NDArray[np.int64]) -> Engine:
        """Return an engine of the same kind that holds only these rows."""

    def effort(self) -> tuple[str, int, int] | None:
        """Return the name, value and largest useful value of the one number that trades speed for recall, if any."""

    def set_effort(self, value: int) -> None:
        """Set that number."""

    def write(self, path: Path) -> None:
        """Write everything to one file."""


def import_faiss() -> Any:  # noqa: ANN401 - the untyped module
    """Return the faiss module; where it is not installed, raise MissingExtraError."""
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise MissingExtraError("faiss-cpu", "cpu", "the expression index") from error


class FaissEngine:
    """A FAISS index under an ID map, always by L2: cosine is L2 between unit vectors.

    Flat search is exact (see `FlatSearch`); other kinds are approximate.

    Args:
        dim: d.
        kind: "flat" (exact), "auto" (flat up to a million vectors, then IVF lists, of one byte a number where vectors
            would fill half of the machine's memory), "hnsw", "ivf" (lists sized by the first batch added), or a FAISS
            factory string. Kinds that need training are trained on the first batch added, and their
            distances are FAISS's approximations.
        memory_limit: bytes that an exact search works in, about.

    Raises:
        MissingExtraError: faiss is not installed.
        WrongUseError: a kind that FAISS does not know.
    """

    factory: str
    _inner: Any
    _flat: FlatSearch | None
    _on_gpu: Any
    device = "cpu"
    _rows: NDArray[np.int64]

    def __init__(self, dim: int, kind: str = "auto", memory_limit: int = MEMORY_LIMIT) -> None:
        self.dim = dim
        self.kind = kind
        self.memory_limit = memory_limit
        self._borrowed = False
        self._faiss = import_faiss()
        self._index = self._mapped(KINDS.get(kind, kind))

    @classmethod
    def read(cls, path: Path, kind: str, factory: str, memory_limit: int = MEMORY_LIMIT) -> FaissEngine:
        """Read what `write` wrote; a file that FAISS cannot read raises BadInputError."""
        engine = cls.__new__(cls)
        engine._faiss = import_faiss()
        # Vectors and lists stay in the file, which may be replaced under that name but not written to.
        engine._borrowed = _MAPPED.fullmatch(factory) is not None and hasattr(engine._faiss, "IO_FLAG_MMAP_IFC")
        try:
            engine._index = engine._faiss.read_index(
                str(path), engine._faiss.IO_FLAG_MMAP_IFC if engine._borrowed else 0
            )
        except RuntimeError as error:
            raise BadInputError(f"{path} is not a FAISS index: {_reason(error)}") from error
        engine.dim, engine.kind, engine.factory = engine._index.d, kind, factory
        engine.memory_limit = memory_limit
        engine._learn()
        return engine

    def write(self, path: Path) -> None:
        """Write the FAISS index to one file."""
        try:
            self._faiss.write_index(self._index, str(path))
        except RuntimeError as error:
            raise BadInputError(f"FAISS cannot write {path}: {_reason(error)}") from error

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Take in vectors (n, d) under their rows; the first batch also trains kinds that need it."""
        if not len(rows):
            return
        if self.kind == "ivf" and not len(self):
            self._index = self._mapped(lists_factory(len(rows)))
        self._own()
        try:
            if not self._inner.is_trained:
                self._inner.train(vectors)
            self._flat = self._on_gpu = None
            self._index.add_with_ids(vectors, rows)
            if self.kind == "auto" and self.device == "cpu":
                self._grow()
        except RuntimeError as error:
            raise self._cannot_start(len(rows), error) from error

    @property
    def trained(self) -> bool:
        """Whether vectors can be added without training."""
        return bool(self._inner.is_trained)

    def train(self, sample: NDArray[np.float32]) -> None:
        """Train on a sample (n, d) of the vectors that are to come; nothing is added."""
        try:
            self._inner.train(sample)
        except RuntimeError as error:
            raise self._cannot_start(len(sample), error) from error

    def _cannot_start(self, n: int, error: Exception) -> BadInputError:
        return BadInputError(
            f"an index of kind {self.kind!r} cannot start from {n} vectors, on which it is trained: {_reason(error)}"
        )

    @property
    def can_absorb(self) -> bool:
        """Whether the kind is lists, perhaps behind a transform: lists of one training can be put together."""
        before = isinstance(self._inner, self._faiss.IndexPreTransform)
        lists = self._faiss.downcast_index(self._inner.index) if before else self._inner
        return isinstance(lists, self._faiss.IndexIVF) and not isinstance(lists, self._faiss.IndexIVFPQR)

    def absorb(self, parts: Iterable[FaissEngine]) -> None:
        """Move in the lists of engines that were read from this one's trained file and filled with later rows each."""
        rows = [self._faiss.vector_to_array(self._index.id_map)]
        for part in parts:
            part._own()
            rows.append(self._faiss.vector_to_array(part._index.id_map))
            self._faiss.merge_into(self._inner, part._inner, True)  # numbers what it moves on from what is here
        self._faiss.copy_array_to_vector(np.concatenate(rows), self._index.id_map)
        self._index.ntotal = self._inner.ntotal
        self._flat = self._on_gpu = None

    def _own(self) -> None:
        """Copy vectors or lists that lie in a file, which FAISS cannot change."""
        if not self._borrowed:
            return
        self._borrowed = False
        lists = self._faiss.try_extract_index_ivf(self._inner)
        if lists is None:
            held = self._faiss.vector_to_array(self._index.id_map)
            vectors = self.vectors(held)
            self._index = self._mapped(self.factory)
            self._index.add_with_ids(vectors, held)
        else:
            copy = self._faiss.ArrayInvertedLists(lists.nlist, lists.code_size)
            every = self._faiss.InvertedLists.SUBSET_TYPE_ID_RANGE
            lists.invlists.copy_subset_to(copy, every, 0, np.iinfo(np.int64).max)
            lists.replace_invlists(copy, True)
            copy.this.disown()  # the index has it now

    def _grow(self) -> None:
        """Become what kind "auto" is with as many vectors; lists that are there stay until memory asks for bytes."""
        due = auto_factory(len(self), self.dim, physical_memory())
        if due == "Flat" or not (self.exact or (due.endswith("SQ8") and self.factory.endswith("Flat"))):
            return
        grown, held = FaissEngine(self.dim, due), self._faiss.vector_to_array(self._index.id_map)
        sample = np.random.default_rng(0).permutation(len(held))[: _A_LIST * grown.effort()[2]]  # type: ignore[index]
        grown._inner.train(self.vectors(held[np.sort(sample)]))
        for start in range(0, len(held), _BLOCK):
            part = held[start : start + _BLOCK]
            grown.add(part, self.vectors(part))
        self.factory, self._index = grown.factory, grown._index
        self._learn()

    def remove(self, rows: NDArray[np.int64]) -> None:
        """Delete the vectors of these rows from flat kinds; others, which FAISS would misnumber, keep them unseen."""
        if self.exact and len(rows):
            self._own()
            self._flat = None
            self._index.remove_ids(rows)

    def search(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None) -> Found:
        """Return the k nearest allowed rows of each query and their squared distances.

        Args:
            queries: (Q, d).
            k: neighbours.
            allowed: (next row,) bool, by row; None allows all that it holds.
        """
        open_rows = len(self) if allowed is None else int(np.count_nonzero(allowed))
        fetch = min(k, open_rows)
        if fetch == 0 or not len(queries):
            found = np.full((len(queries), k), -1, dtype=np.int64), np.full((len(queries), k), np.inf, dtype=np.float32)
            return found
        found = self._exactly(queries, fetch, allowed) if self.exact else self._overfetched(queries, fetch, allowed)
        return take_kept(*found, found[0] >= 0, k)

    def _exactly(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None) -> Found:
        if self._flat is None:
            rows = self._faiss.vector_to_array(self._index.id_map)
            self._flat = FlatSearch(self._faiss, self._inner, rows, self.device, self.memory_limit)
        return self._flat(queries, k, allowed)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors (n, d) of rows; lossy kinds return what they kept of them."""
        places = self._places(rows)
        if self.exact:
            flat = self._faiss.rev_swig_ptr(self._inner.get_xb(), len(self) * self.dim).reshape(-1, self.dim)
            return np.array(flat[places])
        lists = self._faiss.try_extract_index_ivf(self._inner)
        if lists is not None:
            lists.make_direct_map(True)
        try:
            found: NDArray[np.float32] = self._inner.reconstruct_batch(places)
        finally:
            if lists is not None:
                lists.make_direct_map(False)  # 8 bytes a vector that nothing else needs
        return found

    def to(self, device: str) -> None:
        """Search on another device from now on: flat kinds by torch, IVF kinds by FAISS's GPU build.

        "cuda" takes all GPUs for IVF, with the lists shared out among them, and the first for flat kinds.

        Raises:
            WrongUseError: another kind, or a FAISS without GPU support.
        """
        if device != "cpu" and not self.exact:
            if self._faiss.try_extract_index_ivf(self._inner) is None:
                raise WrongUseError(
                    f"kind {self.kind!r} is searched on the CPU; only flat and IVF indexes go to {device!r}"
                )
            if not hasattr(self._faiss, "StandardGpuResources"):
                raise WrongUseError(
                    f"IVF indexes go to {device!r} with FAISS's GPU build: pip install 'exprembed[gpu]'"
                )
        self.device, self._flat, self._on_gpu = device, None, None

    def _approximately(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return squared distances and rows as FAISS finds them, by a copy on the GPU where one is wanted."""
        if self.device == "cpu" or k > _GPU_MOST:
            squared, rows = self._index.search(queries, k)
            return squared, rows
        if self._on_gpu is None:
            number = self.device.partition(":")[2]
            if number:
                self._resources = self._faiss.StandardGpuResources()
                self._on_gpu = self._faiss.index_cpu_to_gpu(self._resources, int(number), self._inner)
            else:
                options = self._faiss.GpuMultipleClonerOptions()
                options.shard = True
                self._on_gpu = self._faiss.index_cpu_to_all_gpus(self._inner, options)
            self._rows = self._faiss.vector_to_array(self._index.id_map)
        squared, places = self._on_gpu.search(queries, k)
        return squared, np.where(places >= 0, self._rows[places], -1)

    def _places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        held = self._faiss.vector_to_array(self._index.id_map)  # ascending: rows are given out in order
        return np.searchsorted(held, rows)

    def rebuilt(self, rows: NDArray[np.int64]) -> FaissEngine:
        """Return an engine of the same kind, trained anew, that holds only these rows."""
        fresh = FaissEngine(self.dim, self.kind, self.memory_limit)
        fresh.device = self.device
        fresh.add(rows, self.vectors(rows))
        return fresh

    def effort(self) -> tuple[str, int, int] | None:
        """Return nprobe and the number of lists, or efSearch and the number of vectors; None where neither exists."""
        lists = self._faiss.try_extract_index_ivf(self._inner)
        if lists is not None:
            return "nprobe", int(lists.nprobe), int(lists.nlist)
        graph = getattr(self._inner, "hnsw", None)
        return None if graph is None else ("efSearch", int(graph.efSearch), max(16, len(self)))

    def set_effort(self, value: int) -> None:
        """Set nprobe or efSearch."""
        lists = self._faiss.try_extract_index_ivf(self._inner)
        if lists is not None:
            lists.nprobe = value
            self._on_gpu = None
        elif hasattr(self._inner, "hnsw"):
            self._inner.hnsw.efSearch = value

    def _overfetched(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None) -> Found:
        """Fetch ever more until each query has k allowed rows or the kind finds no more."""
        fetch = k
        while True:
            squared, rows = self._approximately(queries, min(fetch, len(self)))
            kept = rows >= 0 if allowed is None else (rows >= 0) & allowed[rows]
            lacking = kept.sum(axis=1) < k
            if fetch >= len(self) or not (lacking & (rows[:, -1] >= 0)).any():
                return take_kept(rows, squared, kept, k)
            fetch *= 4

    def _mapped(self, factory: str) -> Any:  # noqa: ANN401 - untyped
        if factory.startswith("IDMap"):
            raise WrongUseError(f"kind {factory!r}: the index maps ids itself; leave 'IDMap' out")
        try:
            inner = self._faiss.index_factory(self.dim, factory, self._faiss.METRIC_L2)
        except RuntimeError as error:
            known = ", ".join(["auto", "flat", "hnsw", "ivf"])
            raise WrongUseError(
                f"kind {self.kind!r} is none of {known}, nor a FAISS factory string: {_reason(error)}"
            ) from error
        self.factory, self._index = factory, self._faiss.IndexIDMap(inner)
        self._learn()
        return self._index

    def _learn(self) -> None:
        """Look into the ID map: what it holds, and whether that is exact."""
        self._flat = self._on_gpu = None  # look at the vectors where FAISS keeps them, until they change
        self._inner = self._faiss.downcast_index(self._index.index)
        self.exact = isinstance(self._inner, self._faiss.IndexFlat)
        effort = self.effort()
        if effort is not None and effort[0] == "nprobe":
            self.set_effort(max(1, effort[2] // 8))  # FAISS's own default of one list loses half


def take_kept(rows: NDArray[np.int64], squared: NDArray[np.float32], kept: NDArray[np.bool_], k: int) -> Found:
    """Close the gaps of neighbours that are not kept; return the first k of each row, padded with -1 and inf.

    Example:
        >>> rows, squared = np.array([[4, 7]]), np.array([[0.5, 1.0]], dtype=np.float32)
        >>> take_kept(rows, squared, np.array([[False, True]]), k=2)
        (array([[ 7, -1]]), array([[ 1., inf]], dtype=float32))
    """
    if not kept.all():
        order = np.argsort(~kept, axis=1, kind="stable")
        kept = np.take_along_axis(kept, order, axis=1)
        rows = np.where(kept, np.take_along_axis(rows, order, axis=1), -1)
        squared = np.where(kept, np.take_along_axis(squared, order, axis=1), np.float32(np.inf))
    if rows.shape[1] == k:
        return rows, squared
    padding = ((0, 0), (0, max(0, k - rows.shape[1])))
    rows = np.pad(rows[:, :k], padding, constant_values=-1)
    return rows, np.pad(squared[:, :k], padding, constant_values=np.inf)


def _reason(error: Exception) -> str:
    """Return what FAISS says without where in its sources it says so."""
    return re.sub(r"^Error in .* at \S+:\d+: ", "", " ".join(str(error).split()))
