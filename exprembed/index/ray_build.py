"""An index built by many workers: Ray Data embeds blocks of photos into shards on disk, FAISS puts the shards together.

A finished shard is named after what it was made of: the same build again, after whatever killed it, embeds only the
blocks whose shard is not there.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exprembed.errors import BadInputError, ExprembedError
from exprembed.files import Skipped
from exprembed.index.distributed import started_ray
from exprembed.index.engine import FaissEngine
from exprembed.index.expression_index import ExpressionIndex
from exprembed.index.items import Items
from exprembed.index.kinds import KINDS, auto_factory, lists_factory, physical_memory
from exprembed.index.shards import TRAINED, Faces, Shard, write_shard

_A_LIST, _LEAST = 64, 2**16  # vectors to train on: for each list, and at least
_TRIES = 3  # of a block whose workers die; Ray Data would try for ever

Embed = Callable[[Any], Faces]


class Block(NamedTuple):
    """Photos that become one shard.

    Attributes:
        digest: names the shard; see `exprembed.index.shards.digest_of`.
        images: their number.
        content: what the embedder takes.
        name: what messages call it.
    """

    digest: str
    images: int
    content: Any
    name: str


class Built(NamedTuple):
    """What a build gives.

    Attributes:
        made: the index; empty where no photo shows a face.
        skipped: what was left out.
        reused: images whose shard was there already.
    """

    made: ExpressionIndex
    skipped: list[Skipped]
    reused: int


def build_by_ray(
    blocks: Sequence[Block],
    embedder: Callable[[], Embed],
    work: str | Path,
    dim: int,
    metric: str = "l2",
    kind: str = "auto",
    model: Any = None,  # noqa: ANN401 - a model or its fingerprint
    cpus: float = 0.5,
    advance: Callable[[int], None] = lambda _: None,
) -> Built:
    """Embed blocks of photos by the workers of a Ray cluster and make one index of them.

    A kind of lists (IVF) is trained once, on a sample of all shards; tasks put each shard into lists of that training,
    and FAISS moves the lists together from their files, one after another. The lists that result must fit in memory
    until they are saved: FAISS's lists on disk are a second file, which a saved index does not have. To other kinds the
    shards are added in turn.

    Args:
        blocks: the photos, in the order in which the index gets them.
        embedder: makes, in each worker, what embeds a block; Ray sends it and the blocks there.
        work: folder of the shards, the same on all machines; `clear_shards` empties it when the index is saved.
        dim: d.
        metric: as in `ExpressionIndex`.
        kind: as in `ExpressionIndex`.
        model: as in `ExpressionIndex`.
        cpus: that a worker asks for; with 1 each on a machine of two, nothing else could run beside them.
        advance: called with a number of images whenever their shard is there.

    Raises:
        MissingExtraError: ray is not installed.
        WrongUseError: an unknown metric or kind.
        BadInputError: what an embedder raised, an id that two shards hold, a shard that cannot be read, workers that
            die over and over. Finished shards stay.
    """
    empty = ExpressionIndex(dim, metric, kind, model=model)  # what is wrong with these shows before the work, not after
    ray = started_ray("building an index by many workers")
    folder = Path(work).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{block.digest}.parquet" for block in blocks]
    todo = {number: block for number, block in enumerate(blocks) if not paths[number].exists()}
    reused = sum(block.images for number, block in enumerate(blocks) if number not in todo)
    if reused:
        advance(reused)
    try:
        if todo:
            for number in _embedded(ray, todo, embedder, paths, dim, cpus):
                advance(blocks[number].images)
        shards = [Shard(path) for path in paths]
        index = _put_together(ray, [shard for shard in shards if len(shard)], empty, cpus)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, ExprembedError) else error) from None
    except ray.exceptions.RayError as error:
        reason = str(error).strip().rpartition("\n")[2]
        raise BadInputError(f"Ray gave up; finished shards stay in {folder}: try again. It said: {reason}") from error
    return Built(index, [item for shard in shards for item in shard.skipped], reused)


class _Worker:
    """What an actor of Ray Data is: it holds the model and turns blocks into shards."""

    def __init__(self, embedder: Callable[[], Embed], contents: dict[int, Any], dim: int, place: str, run: str) -> None:
        self.embedder, self.contents, self.dim, self.place, self.run = embedder, contents, dim, place, run

    @cached_property
    def embed(self) -> Embed:
        os.chdir(self.place)  # so that relative paths mean what they mean to the caller
        return self.embedder()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        import ray

        problem, shard = "", Path(row["shard"])
        tries = shard.with_suffix(f".{self.run}.tries")
        try:
            if not shard.exists():  # Ray repeats a task whose worker died, perhaps after its work
                with tries.open("ab") as file:
                    file.write(b".")
                if tries.stat().st_size > _TRIES:
                    raise BadInputError(f"{_TRIES} workers died over these photos")
                write_shard(shard, self.embed(ray.get(self.contents[row["number"]])), self.dim)
                tries.unlink()
        except (
            ExprembedError,
            OSError,
        ) as error:  # of an error Ray Data would hand on the text alone, and much of its own
            problem = str(error)
        return {"number": row["number"], "problem": problem}


def _embedded(
    ray: Any,  # noqa: ANN401 - the untyped module
    todo: dict[int, Block],
    embedder: Callable[[], Embed],
    paths: list[Path],
    dim: int,
    cpus: float,
) -> Iterator[int]:
    """Have actors make the shards that are to do; yield the number of each when it is there."""
    from ray.data import ActorPoolStrategy, from_items

    contents = {number: ray.put(block.content) for number, block in todo.items()}
    actors = min(len(todo), max(1, int(ray.cluster_resources().get("CPU", 1))))
    with _quiet():
        rows = [{"number": number, "shard": str(paths[number])} for number in todo]
        done = from_items(rows, override_num_blocks=len(todo)).map(
            _Worker,
            fn_constructor_args=(embedder, contents, dim, str(Path.cwd()), uuid.uuid4().hex),
            compute=ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
            num_cpus=cpus,
        )
        for row in done.iter_rows():
            if row["problem"]:
                raise BadInputError(f"{todo[row['number']].name}: {row['problem']}")
            if not paths[row["number"]].exists():
                raise BadInputError(
                    f"a worker's shard is not in {paths[0].parent}: all machines must share that folder"
                )
            yield row["number"]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Data's own progress and reports from the terminal."""
    from ray.data import DataContext

    context, log = DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, log.level
    context.enable_progress_bars = False
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        context.enable_progress_bars = before[0]
        log.setLevel(before[1])


def _put_together(ray: Any, shards: list[Shard], empty: ExpressionIndex, cpus: float) -> ExpressionIndex:  # noqa: ANN401
    """Make one index of shards, of the dimension, metric, kind and model of an empty one."""
    if not shards:
        return empty
    items, dim, metric = Items(), empty.dim, empty.metric
    for shard in shards:
        metadata = shard.metadata
        items.append(*items.prepare(metadata.index.tolist(), metadata, len(shard)))
    starts = np.cumsum([0, *map(len, shards)])
    engine = FaissEngine(dim, _factory(empty.kind, items.next_row, dim))
    if not engine.trained:
        engine.train(_sample(shards, starts, engine, metric))
    if engine.can_absorb:
        trained = shards[0].path.with_name(TRAINED)
        engine.write(trained)
        fill = ray.remote(num_cpus=cpus)(_fill)
        parts = [
            fill.remote(trained, engine.factory, shard.path, int(start), dim, metric)
            for shard, start in zip(shards, starts, strict=False)
        ]
        engine.absorb(FaissEngine.read(ray.get(part), engine.kind, engine.factory) for part in parts)
    else:
        for shard, start in zip(shards, starts, strict=False):
            engine.add(np.arange(start, start + len(shard)), shard.vectors(dim, metric))
    engine.kind = empty.kind
    return ExpressionIndex.made_of(engine, items, metric, empty.model)


def _factory(kind: str, n: int, dim: int) -> str:
    """Return the FAISS factory string of a kind for n vectors."""
    if kind == "auto":
        return auto_factory(n, dim, physical_memory())
    return lists_factory(n) if kind == "ivf" else KINDS.get(kind, kind)


def _sample(shards: list[Shard], starts: NDArray[np.int64], engine: FaissEngine, metric: str) -> NDArray[np.float32]:
    """Return vectors to train on, drawn at random from all shards."""
    effort = engine.effort()
    wanted = max(_LEAST, _A_LIST * (effort[2] if effort else 0))
    chosen = np.ones(starts[-1], dtype=bool)
    chosen[np.random.default_rng(0).permutation(starts[-1])[wanted:]] = False
    parts = np.split(chosen, starts[1:-1])
    return np.concatenate([shard.vectors(engine.dim, metric)[part] for shard, part in zip(shards, parts, strict=True)])


def _fill(trained: Path, factory: str, shard: Path, start: int, dim: int, metric: str) -> Path:
    """Put one shard into lists of the one training; return their file."""
    engine, vectors = FaissEngine.read(trained, factory, factory), Shard(shard).vectors(dim, metric)
    engine.add(np.arange(start, start + len(vectors)), vectors)
    out = shard.with_suffix(".faiss")
    engine.write(out)
    return out
