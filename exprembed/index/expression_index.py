"""ExpressionIndex: who shows the same expression, with text ids, metadata filters, and a life on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from exprembed.errors import BadInputError, WrongUseError
from exprembed.index.belonging import METRICS, check_device, check_model, check_story, fingerprint_of
from exprembed.index.engine import Engine, FaissEngine, take_kept
from exprembed.index.items import Items
from exprembed.index.recall import tuned
from exprembed.index.results import SearchResult
from exprembed.index.store import ITEMS, VECTORS, Manifest, read_folder, save_folder
from exprembed.index.vectors import checked_vectors
from exprembed.index.where import select
from exprembed.metrics.checks import check_metric
from exprembed.metrics.exact import MEMORY_LIMIT
from exprembed.metrics.neighbours import check_k


class ExpressionIndex:
    """Expression vectors under text ids, searched exactly unless another kind is asked for.

    Threads may search together as long as none adds or removes meanwhile.

    Args:
        dim: d, the dimensions of every vector.
        metric: "l2" (plain L2, |q - x|) or "cosine" (1 - cos(q, x)).
        kind: "flat": exact. "auto": exact up to a million items, then IVF, of one byte a number where vectors would fill half
            of the machine's memory. "hnsw", "ivf" or a FAISS factory string:
            approximate, so that fewer and other items than the nearest may come back (see `tune`); kinds that need
            training are trained on the first batch added.
        device: "cpu", or "cuda" or "cuda:N" for exact search by torch, and search of IVF kinds by FAISS's GPU build
            (extra `gpu`), on a GPU; "cuda" shares IVF lists out among all GPUs. Saved files know nothing of it.
        model: what embedded the vectors: a model, or its fingerprint. It is saved with the index, and `load` refuses
            another model's.
        memory_limit: bytes that an exact search works in, about, beside the vectors.

    Attributes:
        recall: what `tune` measured; None before.

    Raises:
        WrongUseError: an unknown metric or kind, dim below 1, a GPU that is not there or not for this kind, a model
            of other dimensions.
        MissingExtraError: faiss is not installed.

    Example:
        >>> index = ExpressionIndex(dim=2)
        >>> index.add([[0, 1], [1, 0], [0.1, 0.9]], ids=["a", "b", "c"], metadata={"age": [7, 30, 41]})
        ['a', 'b', 'c']
        >>> index.search([0, 1], k=2, where="age > 18").hits(0)
        [('c', 0.141421377658844), ('b', 1.4142135381698608)]
        >>> index.remove(["c"])
        1
        >>> len(index), index.ids
        (2, ['a', 'b'])
    """

    def __init__(
        self,
        dim: int = 16,
        metric: str = "l2",
        kind: str = "auto",
        device: str = "cpu",
        model: Any = None,  # noqa: ANN401 - a model or its fingerprint
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        if isinstance(dim, bool) or not isinstance(dim, int | np.integer) or dim < 1:
            raise WrongUseError(f"dim must be a whole number of at least 1; got {dim!r}")
        if not isinstance(kind, str):
            raise WrongUseError(f"kind must be text; got {type(kind).__name__}")
        self.metric = check_metric(metric, METRICS)
        self.kind = kind
        self.device = "cpu"
        self.model = fingerprint_of(model)
        self._engine: Engine = FaissEngine(int(dim), kind, memory_limit)
        self.recall: float | None = None
        self._items = Items()
        self._saved: dict[Path, Manifest] = {}
        check_model(model, self.dim, self.metric, WrongUseError)
        self.to(device)

    @property
    def dim(self) -> int:
        """Dimensions of every vector."""
        return self._engine.dim

    def __len__(self) -> int:
        return self._items.n_live

    def __contains__(self, item: object) -> bool:
        return self._items.is_live(item)

    @property
    def exact(self) -> bool:
        """Whether search finds exactly the nearest."""
        return self._engine.exact

    @property
    def ids(self) -> list[str]:
        """The ids of the items that were not removed, in the order in which they were added."""
        return self._items.live_names

    @property
    def metadata(self) -> pd.DataFrame:
        """The metadata of the items that were not removed, indexed by id; missing where an item was added without."""
        return self._items.metadata()

    def item_table(self) -> pa.Table:
        """Return the ids (`id`) and metadata of the items that were not removed, as an Arrow table."""
        return self._items.table.filter(pa.array(self._items.live))

    def add(
        self,
        vectors: pd.DataFrame | ArrayLike,
        ids: Sequence[str] | None = None,
        metadata: Any = None,  # noqa: ANN401 - whatever pandas makes a table of
    ) -> list[str]:
        """Add vectors: all of them, or, if anything is wrong with one, none.

        Args:
            vectors: (n, d), or (d,) for one; a DataFrame lends its index as ids.
            ids: n texts, none ever used in this index before, removed ones included; None numbers the items on.
            metadata: DataFrame of n rows, or what pandas makes one of. Indexed by ids it is matched by id, else by
                position. Columns may differ from those of earlier items: what an item was added without is missing.

        Returns:
            The ids of the new items.

        Raises:
            BadInputError: NaN or zero vectors, the wrong d, ids that are not text, blank, repeated or used before,
                another number of ids or metadata rows than vectors, a metadata column of another type than before.
        """
        if ids is None and isinstance(vectors, pd.DataFrame) and not isinstance(vectors.index, pd.RangeIndex):
            ids = vectors.index.tolist()
        matrix = checked_vectors(vectors, "vectors", self.dim, self.metric)
        names, columns = self._items.prepare(ids, metadata, len(matrix))
        first = self._items.next_row
        self._engine.add(np.arange(first, first + len(names), dtype=np.int64), matrix)
        self._items.append(names, columns)
        return names

    def remove(self, ids: Sequence[str]) -> int:
        """Remove items: all of them, or, if one is unknown, none. Their ids are never used again.

        A flat index forgets their vectors at once, other kinds only hide them; metadata is dropped at the next save.

        Returns:
            The number of items removed.

        Raises:
            BadInputError: an id that is not in the index, was removed already, or is repeated.
        """
        rows = self._items.rows_to_remove(ids)
        self._engine.remove(rows)
        self._items.retire(rows)
        return len(rows)

    def search(
        self,
        q: pd.DataFrame | ArrayLike,
        k: int = 10,
        where: str | None = None,
        exclude: Sequence[str | Iterable[str] | None] | None = None,
    ) -> SearchResult:
        """Return the k nearest items of each query.

        Args:
            q: (Q, d) queries, or (d,) for one.
            k: neighbours; where fewer items qualify, the result is padded with None and inf.
            where: condition over metadata columns and `id`, such as "expression == 'happiness' and age >= 18"; see
                `exprembed.index.where`.
            exclude: for each query an id, or several, to leave out of its result (the query's own, say, or those of
                the same person). Ids that the index does not have are no error.

        Returns:
            SearchResult with ids (Q, k) and distances (Q, k), ascending.

        Raises:
            BadInputError: NaN or zero queries, the wrong d, another number of exclusions than queries.
            WrongUseError: k below 1, or a condition that cannot be read.
        """
        matrix = checked_vectors(q, "queries", self.dim, self.metric)
        check_k(k)
        left_out = self._exclusions(exclude, len(matrix))
        fetch = k + max(map(len, left_out), default=0)
        rows, squared = self._engine.search(matrix, fetch, self._allowed(where))
        if left_out:
            kept = rows >= 0
            for query, gone in enumerate(left_out):
                if gone:
                    kept[query] &= ~np.isin(rows[query], gone)
            rows, squared = take_kept(rows, squared, kept, k)
        found = rows >= 0
        if found.all():
            ids = self._items.names_of(rows)
        else:
            ids = np.full(rows.shape, None, dtype=object)
            ids[found] = self._items.names_of(rows[found])
        # Between unit vectors |q - x|^2 = 2 - 2 cos(q, x).
        distances: NDArray[np.float32] = np.sqrt(squared) if self.metric == "l2" else squared / np.float32(2)
        return SearchResult.made_by_a_search(ids, distances)

    def neighbours(
        self, ids: Sequence[str], k: int = 10, where: str | None = None, apart: str | None = None
    ) -> SearchResult:
        """Return the k nearest items of items, each left out of its own result.

        Args:
            ids: items to ask for.
            k: neighbours.
            where: as in `search`.
            apart: a metadata column ("subject", "clip"): items with the same value in it as the asked one are left out too.

        Raises:
            BadInputError: an id that is not in the index or was removed.
            WrongUseError: an unknown column.
        """
        rows = self._items.rows_of(ids)
        same = [[item] for item in ids] if apart is None else self._items.of_one_kind(rows, apart)
        return self.search(self._engine.vectors(rows), k, where, exclude=same)

    def vectors_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors (n, d) of items: as they were added ("l2"), or of unit length ("cosine").

        Kinds that compress (SQ8, PQ) return what they kept of them.

        Raises:
            BadInputError: an id that is not in the index or was removed.
        """
        return self._engine.vectors(self._items.rows_of(ids))

    def merge(self, other: ExpressionIndex) -> list[str]:
        """Add all items of another index, with their ids and metadata: all of them, or, if one cannot be, none.

        Returns:
            The ids of the new items.

        Raises:
            BadInputError: another dimension, metric or model; an id that was ever used here.
        """
        for what in ("dim", "metric", "model"):
            mine, theirs = getattr(self, what), getattr(other, what)
            if mine != theirs and (what != "model" or (mine and theirs)):
                raise BadInputError(f"indexes of different {what} do not mix: {mine!r} here, {theirs!r} there")
        return self.add(other.vectors_of(other.ids), other.ids, other.metadata if len(other) else None)

    def compact(self) -> int:
        """Forget the vectors of removed items, which kinds other than flat only hide; return how many those were.

        Such a kind is trained and built anew, at the default effort: `tune` again. One that compresses starts from what
        it kept.
        """
        hidden = len(self._engine) - len(self)
        if hidden:
            self._engine = self._engine.rebuilt(np.flatnonzero(self._items.live))
            self.recall = None
        return hidden

    def tune(self, recall: float = 0.99, k: int = 10, queries: int = 1000, seed: int = 0) -> float:
        """Spend just the effort on a search (IVF lists, HNSW candidates) that finds enough of the nearest.

        Recall is the share of the k nearest items, by exact search, that the index finds, measured on random items of its
        own, each left out of its own result. The least effort of a doubling series that reaches `recall` is kept,
        and saved with the index. Kinds that compress are measured against what they kept.

        Args:
            recall: wanted, in (0, 1].
            k: neighbours.
            queries: items that are asked for; all where there are fewer.
            seed: of their choice.

        Returns:
            The recall that was measured, 1 for an exact kind; less than wanted where no effort is enough.

        Raises:
            WrongUseError: recall outside (0, 1], k or queries below 1.
            BadInputError: fewer than two items.
        """
        if not 0 < recall <= 1:
            raise WrongUseError(f"recall is a share of the nearest, in (0, 1]; got {recall}")
        check_k(k)
        check_k(queries, "queries")
        if len(self) < 2:
            raise BadInputError("an index of fewer than two items cannot be tuned; add items first")
        self.recall = 1.0
        if not self._engine.exact:
            self.recall = tuned(self._engine, self._items.live, recall, k, queries, seed)
        return self.recall

    def to(self, device: str) -> ExpressionIndex:
        """Search on "cpu", "cuda" or "cuda:N" from now on; return the index itself.

        Raises:
            WrongUseError: no such GPU, a kind that stays on the CPU (HNSW), or IVF without FAISS's GPU build.
        """
        self._engine.to(check_device(device))
        self.device = device
        return self

    def save(self, folder: str | Path) -> None:
        """Save to a folder: `manifest.json`, `vectors.faiss`, `items.parquet`.

        An index that is there already is replaced in one step: a kill at any moment leaves the old one or the new one
        whole. Files of other names in the folder are left alone.

        Raises:
            BadInputError: the folder cannot be written, or another process saved to it since this index was loaded
                from it or saved to it.
        """
        place, effort = Path(folder).absolute(), self._engine.effort()
        facts = {
            "dim": self.dim,
            "metric": self.metric,
            "kind": self.kind,
            "factory": self._engine.factory,
            "model": self.model,
            "next_row": self._items.next_row,
            "live": len(self),
            "effort": None if effort is None else effort[1],
            "recall": self.recall,
        }
        writers = {VECTORS: self._engine.write, ITEMS: self._items.write}
        self._saved[place] = save_folder(place, facts, writers, self._saved.get(place))

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str = "cpu",
        model: Any = None,  # noqa: ANN401 - a model or its fingerprint
        memory_limit: int = MEMORY_LIMIT,
    ) -> ExpressionIndex:
        """Load a saved index.

        Args:
            folder: what `save` wrote.
            device: "cpu", "cuda" or "cuda:N".
            model: the model, or the fingerprint of the model, whose vectors are due; None takes any.
            memory_limit: as in the constructor; a saved index knows nothing of it.

        Raises:
            BadInputError: no index, a file that is missing or does not match its checksum, dimensions that disagree,
                another model's vectors; the message says which.

        Example:
            >>> import tempfile
            >>> index = ExpressionIndex(dim=2)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     added = index.add([[0, 1]], ids=["a"])
            ...     index.save(folder)
            ...     ExpressionIndex.load(folder).ids
            ['a']
        """
        place = Path(folder).absolute()

        def read(manifest: Manifest, paths: dict[str, Path]) -> ExpressionIndex:
            engine = FaissEngine.read(paths[VECTORS], manifest["kind"], manifest["factory"], memory_limit)
            index = cls.made_of(engine, Items.read(paths[ITEMS]), manifest["metric"], manifest["model"])
            index.recall = manifest["recall"]
            if manifest["effort"] is not None:
                index._engine.set_effort(manifest["effort"])
            return index

        index, manifest = read_folder(place, read)
        index._saved = {place: manifest}
        check_story(place, manifest, index, index._items.next_row, len(index._engine))
        wanted = fingerprint_of(model)
        if wanted is not None and wanted != index.model:
            held = f"of the model {index.model}" if index.model else "of a model that was not recorded"
            raise BadInputError(f"{place} holds vectors {held}, and {wanted} is due; embed the faces again")
        check_model(model, index.dim, index.metric, BadInputError)
        return index.to(device)

    @classmethod
    def made_of(cls, engine: FaissEngine, items: Items, metric: str, model: str | None) -> ExpressionIndex:
        """Put an index together from its two halves, as loading and building by shards do; nothing is checked."""
        index = cls.__new__(cls)
        index.metric, index.kind, index.device, index.model = metric, engine.kind, "cpu", model
        index._engine, index._items, index.recall, index._saved = engine, items, None, {}
        return index

    def info(self) -> dict[str, Any]:
        """Return what there is to know, as JSON values: sizes, metric, kind, whether search is exact, columns."""
        effort = self._engine.effort()
        return {
            "live": len(self),
            "removed": self._items.next_row - len(self),
            "next_row": self._items.next_row,
            "dim": self.dim,
            "metric": self.metric,
            "kind": self.kind,
            "factory": self._engine.factory,
            "exact": self._engine.exact,
            "effort": None if effort is None else {effort[0]: effort[1]},
            "recall": self.recall,
            "device": self.device,
            "model": self.model,
            "columns": {field.name: str(field.type) for field in self._items.columns if field.name != "id"},
        }

    def __repr__(self) -> str:
        return f"ExpressionIndex({len(self)} items, dim={self.dim}, metric={self.metric!r}, kind={self.kind!r})"

    def _allowed(self, where: str | None) -> NDArray[np.bool_] | None:
        """Return which rows may be found; None where all that the engine holds may."""
        if where is not None:
            return self._items.live & select(where, self._items.table)
        return None if len(self._engine) == len(self) else self._items.live

    def _exclusions(self, exclude: Any, n: int) -> list[list[int]]:  # noqa: ANN401 - checked here
        """Return the rows to leave out for each query; an empty list where there are none at all."""
        if exclude is None:
            return []
        if isinstance(exclude, str) or len(exclude) != n:
            got = f"the single text {exclude!r}" if isinstance(exclude, str) else f"{len(exclude)}"
            raise BadInputError(f"exclude must hold one id, or one list of ids, for each of the {n} queries; got {got}")
        lists = [
            [] if gone is None else [gone] if isinstance(gone, str) else list(dict.fromkeys(gone)) for gone in exclude
        ]
        return [self._items.known_rows(gone) for gone in lists]
