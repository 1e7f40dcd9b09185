"""One search over many indexes: in this process, or each held by a Ray actor on some machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from exprembed.errors import BadInputError, MissingExtraError, WrongUseError, unknown_name
from exprembed.index.expression_index import ExpressionIndex
from exprembed.index.results import SearchResult

ENGINES = ("local", "ray")


class ShardedIndex:
    """Several saved indexes searched as one: each finds its own k nearest, the k nearest of those are the answer.

    So the answer of exact shards is exact. Ids are those of the shards; an item that two shards hold comes from the first.

    Args:
        folders: saved indexes of one dimension, metric and model; at least one.
        engine: "local": loaded here, searched one after another. "ray": each held by an actor of a Ray cluster
            (`ray.init` is called where nobody has), loaded from a path that its machine can read, searched at the same time.
        cpus: of a machine that an actor asks for; with 1 each on a machine of two, nothing else could run beside them.

    Raises:
        BadInputError: no folder, one given twice, shards that do not belong together, or what `ExpressionIndex.load` raises.
        WrongUseError: an unknown engine.
        MissingExtraError: ray is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, vector in {"a": [0, 1], "b": [1, 0]}.items():
        ...         index = ExpressionIndex(dim=2)
        ...         added = index.add([vector], ids=[name])
        ...         index.save(f"{folder}/{name}")
        ...     shards = ShardedIndex([f"{folder}/a", f"{folder}/b"])
        ...     (len(shards), shards.search([0.1, 1], k=2).ids.tolist())
        (2, [['a', 'b']])
    """

    def __init__(self, folders: Sequence[str | Path], engine: str = "local", cpus: float = 0.5) -> None:
        if engine not in ENGINES:
            raise unknown_name("engine", engine, ENGINES)
        if isinstance(folders, str | Path) or not len(folders):
            raise WrongUseError("folders must be a list of at least one saved index")
        self.engine = engine
        places = [str(Path(folder).absolute()) for folder in folders]
        if len(set(places)) < len(places):
            raise BadInputError(
                f"the shard {next(place for place in places if places.count(place) > 1)} is given twice"
            )
        self._shards: list[Any] = [_Shard() for _ in places] if engine == "local" else _actors(len(places), cpus)
        infos = self._each("open", places)
        for what in ("dim", "metric", "model"):
            found = {info[what]: place for info, place in zip(infos, places, strict=True)}
            if len(found) > 1:
                pairs = ", ".join(f"{value} in {place}" for value, place in found.items())
                raise BadInputError(f"shards of different {what} do not belong together: {pairs}")
        self.dim, self.metric = infos[0]["dim"], infos[0]["metric"]
        self._live: int = sum(info["live"] for info in infos)

    def __len__(self) -> int:
        return self._live

    def search(
        self,
        q: pd.DataFrame | ArrayLike,
        k: int = 10,
        where: str | None = None,
        exclude: Sequence[str | Iterable[str] | None] | None = None,
    ) -> SearchResult:
        """Return the k nearest items of each query over all shards; arguments and errors as in `ExpressionIndex.search`."""
        asked = (q, k, where, exclude)
        if self.engine == "ray":
            import ray

            asked = ray.put(asked)  # once, not for each shard
        found = self._each("search", [asked] * len(self._shards))
        ids, distances = (np.concatenate([part[place] for part in found], axis=1) for place in (0, 1))
        order = np.argsort(distances, axis=1, kind="stable")
        ids, distances = np.take_along_axis(ids, order, axis=1), np.take_along_axis(distances, order, axis=1)
        return SearchResult.made_by_a_search(*_first(ids, distances, int(k)))

    def _each(self, verb: str, arguments: Sequence[Any]) -> list[Any]:
        """Have every shard do something; what a shard raises is raised here."""
        if self.engine == "local":
            return [getattr(shard, verb)(given) for shard, given in zip(self._shards, arguments, strict=True)]
        import ray

        calls = [getattr(shard, verb).remote(given) for shard, given in zip(self._shards, arguments, strict=True)]
        try:
            return list(ray.get(calls))
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, BadInputError | WrongUseError) else error) from None


class _Shard:
    """A shard; a Ray actor is one of these on another machine."""

    _index: ExpressionIndex

    def open(self, folder: str) -> dict[str, Any]:
        self._index = ExpressionIndex.load(folder)
        return self._index.info()

    def search(self, asked: tuple[Any, int, str | None, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        result = self._index.search(*asked)
        return result.ids, result.distances


def _actors(count: int, cpus: float) -> list[Any]:
    actor = started_ray("an index over several machines").remote(num_cpus=cpus)(_Shard)
    return [actor.remote() for _ in range(count)]


def started_ray(purpose: str) -> Any:  # noqa: ANN401 - the untyped module
    """Return the ray module, started on this machine, or joined to the cluster of RAY_ADDRESS, where nobody has yet."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "scale", purpose) from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    return ray


def _first(
    ids: NDArray[np.object_], distances: NDArray[np.float32], k: int
) -> tuple[NDArray[np.object_], NDArray[np.float32]]:
    """Return the first k different ids of each row, nearest first as given, padded with None and inf."""
    out = np.full((len(ids), k), None, dtype=object), np.full((len(ids), k), np.inf, dtype=np.float32)
    for query, row in enumerate(ids):
        places = list({item: place for place, item in reversed(list(enumerate(row))) if item is not None}.values())
        places = sorted(places)[:k]
        out[0][query, : len(places)], out[1][query, : len(places)] = row[places], distances[query, places]
    return out
