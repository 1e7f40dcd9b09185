"""exprembed index: build, extend, shrink, merge, search and describe an expression index on disk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exprembed.cli._common import (
    JsonOption,
    ModelOption,
    add_verb,
    clean_stdout,
    end,
    list_skipped,
    option_groups,
    peak_memory_mib,
    show,
    table,
)
from exprembed.cli._faces import Embedded, FaceOptions, SourceOptions, embed_photos, find_photos, open_model
from exprembed.cli._made_with import check_model, made_with, note_weights
from exprembed.cli._sharded import SHARD, build_sharded, shards_folder
from exprembed.cli._vectors import is_vector_file, read_vectors
from exprembed.errors import BadInputError, WrongUseError, unknown_name
from exprembed.files import Skipped

if TYPE_CHECKING:
    from exprembed.index import ExpressionIndex
    from exprembed.models.base import Embedder

index_app = typer.Typer(no_args_is_help=True, help="Build, extend, shrink, search and describe an expression index.")

IndexArgument = Annotated[Path, typer.Argument(help="Folder of the index.", show_default=False, metavar="INDEX")]
PathsArgument = Annotated[
    list[Path],
    typer.Argument(
        help="Photos, folders or patterns; one folder of a data set; or one Parquet file of 'exprembed embed'.",
        show_default=False,
        metavar="PATH...",
    ),
]


@option_groups(face=FaceOptions, source=SourceOptions)
def build(
    paths: PathsArgument,
    out: Annotated[Path, typer.Option(help="Folder to write the index to.", show_default=False)],
    kind: Annotated[str, typer.Option(help="auto, flat (exact), ivf, hnsw, or a FAISS factory string.")] = "auto",
    metric: Annotated[str | None, typer.Option(help="l2 or cosine. Default: the model's.")] = None,
    recall: Annotated[
        float | None,
        typer.Option(help="Tune an approximate kind to find this share of the 10 nearest.", min=0.01, max=1),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Build anew where there is an index already.")] = False,
    engine: Annotated[str, typer.Option(help="Who embeds: local, or ray (the workers of a Ray cluster).")] = "local",
    shard: Annotated[int | None, typer.Option(help=f"Files of a shard, for ray. Default: {SHARD:,}.", min=1)] = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
    *,
    face: FaceOptions,
    source: SourceOptions,
) -> None:
    """Embed photos and write an index of their faces.

    Items are named by the path as given, and #k for the k-th largest face of the photo; in a data set by its own ids.
    What is known of a face (path, box, the data set's labels and attributes) becomes columns that 'search --where' can
    ask for. With --dataset celeba, faces are cut by the eye centres that all its aligned files share, without search;
    --detector searches instead.

    With --engine ray the files are embedded in shards, which lie in OUT.shards until the index is saved. The same
    command again, after whatever stopped it, embeds only what no finished shard holds.

    Exit codes: 0 done; 1 some files were skipped (skipped.csv beside the index says which); 2 wrong use; 3 bad input.
    """
    from exprembed.index import ExpressionIndex
    from exprembed.index.distributed import ENGINES
    from exprembed.index.shards import clear_shards

    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if shard is not None and engine != "ray":
        raise WrongUseError("--shard goes with --engine ray")
    with clean_stdout(as_json):
        if (out / "manifest.json").exists() and not replace:
            raise WrongUseError(
                f"{out} holds an index already; extend it with 'index add', or build anew with --replace"
            )
        started = time.perf_counter()
        if engine == "ray":
            index, faces = build_sharded(paths, out, kind, metric, model, face, source, shard or SHARD, as_json)
        else:
            faces, fingerprint, default = _faces_and_vectors(paths, model, face, source, as_json)
            index = ExpressionIndex(faces.vectors.shape[1], metric or default, kind, model=fingerprint)
            _add(index, faces)
        if recall is not None:
            index.tune(recall)
        index.save(out)
        note_weights(out, model)
        skipped = list_skipped(faces.skipped, out.parent)
        if engine == "ray":
            clear_shards(shards_folder(out))
        seconds = time.perf_counter() - started
    _tell(as_json, "built", out, index, faces, skipped, seconds)


@option_groups(face=FaceOptions, source=SourceOptions)
def add(
    index: IndexArgument,
    paths: PathsArgument,
    model: ModelOption = None,
    as_json: JsonOption = False,
    *,
    face: FaceOptions,
    source: SourceOptions,
) -> None:
    """Embed more photos and add their faces to an index; files that are in it already are skipped and listed.

    Exit codes: 0 done; 1 some files were skipped; 2 wrong use; 3 bad input.
    """
    from exprembed.index import ExpressionIndex

    with clean_stdout(as_json):
        started = time.perf_counter()
        held = ExpressionIndex.load(index)
        there = set(held.metadata["path"].dropna()) if "path" in held.metadata else set()
        faces, fingerprint, _ = _faces_and_vectors(paths, model or made_with(index), face, source, as_json, there)
        check_model(index, held, fingerprint)
        if len(faces.faces):
            _add(held, faces)
            held.save(index)
        skipped = list_skipped(faces.skipped, index.parent)
        seconds = time.perf_counter() - started
    _tell(as_json, "added to", index, held, faces, skipped, seconds)


def remove(
    index: IndexArgument,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of items.", show_default=False, metavar="ID...")] = None,
    where: Annotated[
        str | None, typer.Option(help="Remove the items that meet a condition, like \"path == 'a.jpg'\".")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Remove items by id or by a condition: all of them, or none where one is unknown. Ids are never used again.

    Exit codes: 0 done; 2 wrong use; 3 bad input (an unknown id).
    """
    from exprembed.index import ExpressionIndex

    if bool(ids) == (where is not None):
        raise WrongUseError("say what to remove: either ids or --where CONDITION")
    held = ExpressionIndex.load(index)
    chosen = list(ids or []) if where is None else _selected(held, where)
    removed = held.remove(chosen)
    if removed:
        held.save(index)
    show(
        as_json,
        {"index": index, "removed": removed, "items": len(held)},
        f"removed {removed:,}; {len(held):,} left: {index}",
    )


def merge(
    index: IndexArgument,
    others: Annotated[list[Path], typer.Argument(help="Indexes to take in.", show_default=False, metavar="OTHER...")],
    as_json: JsonOption = False,
) -> None:
    """Take all items of other indexes into one, ids and metadata included: all of them, or none where an id is taken.

    Exit codes: 0 done; 2 wrong use; 3 bad input (an id that was ever used, another model, metric or dimension).
    """
    from exprembed.index import ExpressionIndex

    held = ExpressionIndex.load(index)
    added = sum(len(held.merge(ExpressionIndex.load(other))) for other in others)
    held.save(index)
    document = {"index": index, "added": added, "items": len(held)}
    show(as_json, document, f"took in {added:,}; {len(held):,} items: {index}")


def compact(
    index: IndexArgument,
    recall: Annotated[
        float | None, typer.Option(help="Then tune it to find this share of the 10 nearest.", min=0.01, max=1)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build an index anew without the removed items that kinds other than flat only hide.

    Exit codes: 0 done; 2 wrong use; 3 no index there, or a damaged one.
    """
    from exprembed.index import ExpressionIndex

    held = ExpressionIndex.load(index)
    dropped = held.compact()
    if recall is not None:
        held.tune(recall)
    held.save(index)
    document = {"index": index, "dropped": dropped, "items": len(held), "recall": held.recall}
    show(as_json, document, f"dropped {dropped:,} hidden vectors; {len(held):,} items: {index}")


def export(
    index: IndexArgument,
    out: Annotated[Path, typer.Argument(help="A .parquet file or a .lance folder.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Write ids, vectors and metadata of an index as one table for other tools, a vector database say.

    Exit codes: 0 done; 2 wrong use; 3 no index there, or a damaged one.
    """
    from exprembed.index import ExpressionIndex
    from exprembed.index.export import export_index

    count = export_index(ExpressionIndex.load(index), out)
    show(as_json, {"index": index, "out": out, "items": count}, f"wrote {count:,} items: {out}")


@option_groups(face=FaceOptions)
def search(
    index: IndexArgument,
    queries: Annotated[
        list[str], typer.Argument(help="Photos, or ids of items.", show_default=False, metavar="QUERY...")
    ],
    k: Annotated[int, typer.Option("-k", help="Neighbours of each query.", min=1)] = 5,
    where: Annotated[
        str | None, typer.Option(help='Only items that meet a condition, like "attr_Smiling == 1".')
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with the pictures.")] = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
    *,
    face: FaceOptions,
) -> None:
    """Find the faces with the most similar expression.

    A query is a photo (each of its faces is asked for), or the id of an item, which is then left out of its own result.
    The condition compares columns with numbers, 'texts', true, false and null by == != < <= > >= and in [...], joined
    by and, or, not.

    Exit codes: 0 done; 1 some queries were skipped; 2 wrong use; 3 bad input.
    """
    from exprembed.index import ExpressionIndex

    with clean_stdout(as_json):
        held = ExpressionIndex.load(index)
        items = [query for query in queries if query in held]
        files = [Path(query) for query in queries if query not in held]
        asked, embedder = _queries(held, index, items, files, model, face, as_json)
        skipped = list(asked.skipped)
        result = held.search(
            asked.vectors, k, where, exclude=[name if name in items else None for name in asked.faces.index]
        )
        if html is not None:
            from exprembed.cli._search_page import write_search_page

            skipped += write_search_page(html, index, held, asked.faces, result, embedder.preprocessing, where)
        listed = list_skipped(skipped, (html or index).parent) if skipped else None
    found = [
        {"query": name, "hits": [{"id": item, "distance": round(distance, 6)} for item, distance in result.hits(row)]}
        for row, name in enumerate(asked.faces.index)
    ]
    rows = [
        (one["query"], rank, hit["id"], hit["distance"]) for one in found for rank, hit in enumerate(one["hits"], 1)
    ]
    document = {"index": index, "k": k, "where": where, "results": found, "html": html, "skipped_list": listed}
    show(as_json, document, table(("query", "rank", "id", "distance"), rows))
    end(skipped)


def info(index: IndexArgument, as_json: JsonOption = False) -> None:
    """Describe an index, after checking that its files are whole.

    Exit codes: 0 done; 3 no index there, or a damaged one.
    """
    from exprembed.index import ExpressionIndex

    facts = {"index": str(index), **ExpressionIndex.load(index).info(), "weights": made_with(index)}
    rows = [(name, value) for name, value in facts.items() if name != "columns"]
    columns = [(name, kind) for name, kind in facts["columns"].items()]
    show(
        as_json, facts, table(("", ""), rows), table(("column", "type"), columns) if columns else "no metadata columns"
    )


def _faces_and_vectors(
    paths: list[Path],
    model: str | None,
    face: FaceOptions,
    source: SourceOptions,
    quiet: bool,
    there: set[str] | None = None,
) -> tuple[Embedded, str | None, str]:
    """Read a Parquet file of vectors, or embed photos; also the model's fingerprint and metric."""
    if any(is_vector_file(path) for path in paths):
        if len(paths) > 1 or source != SourceOptions():
            raise WrongUseError("a Parquet file of vectors comes alone, without --dataset, --split and --limit")
        file = read_vectors(paths[0])
        return Embedded(file.faces, file.vectors.to_numpy(), [], len(file.vectors), 0.0), file.model, file.metric
    photos = find_photos(paths, source)
    if there:
        known = [str(path) in there for path in photos.paths]
        photos.skipped.extend(
            Skipped(str(path), "is in the index already") for path, old in zip(photos.paths, known, strict=True) if old
        )
        fresh = [path for path, old in zip(photos.paths, known, strict=True) if not old]
        table_of = photos.known if photos.known is None else photos.known[[not old for old in known]]
        photos = type(photos)(fresh, table_of, photos.dataset, photos.skipped)
    embedder = open_model(model, face)
    if not photos.paths:
        import numpy as np
        import pandas as pd

        return (
            Embedded(pd.DataFrame(), np.empty((0, embedder.embedding_dim)), photos.skipped, 0, 0.0),
            embedder.fingerprint,
            embedder.metric,
        )
    return embed_photos(embedder, photos, face, quiet=quiet), embedder.fingerprint, embedder.metric


def _add(index: ExpressionIndex, faces: Embedded) -> None:
    index.add(faces.vectors, faces.faces.index.tolist(), faces.metadata)


def _queries(
    held: ExpressionIndex,
    place: Path,
    items: list[str],
    files: list[Path],
    model: str | None,
    face: FaceOptions,
    quiet: bool,
) -> tuple[Embedded, Embedder]:
    """Return the queries with their vectors, items first, and the model that embedded them."""
    import numpy as np
    import pandas as pd

    for path in files:
        if not path.exists() and not any(sign in str(path) for sign in "*?["):
            raise BadInputError(f"the query {str(path)!r} is neither an item of {place} nor a file")
    embedder = open_model(model or made_with(place), face)
    check_model(place, held, embedder.fingerprint)
    done = []
    if items:
        done.append(Embedded(held.metadata.loc[items], held.vectors_of(items), [], len(items), 0.0))
    if files:
        done.append(embed_photos(embedder, find_photos(files), face, quiet=quiet))
    faces, vectors = pd.concat([part.faces for part in done]), np.concatenate([part.vectors for part in done])
    skipped = [item for part in done for item in part.skipped]
    return Embedded(faces, vectors, skipped, len(items) + len(files), 0.0), embedder


def _selected(held: ExpressionIndex, where: str) -> list[str]:
    import pyarrow as pa

    from exprembed.index.where import select

    chosen = select(where, pa.Table.from_pandas(held.metadata.reset_index(), preserve_index=False))
    return [name for name, wanted in zip(held.ids, chosen, strict=True) if wanted]


def _tell(
    as_json: bool, verb: str, place: Path, index: ExpressionIndex, faces: Embedded, skipped: Path | None, seconds: float
) -> None:
    document: dict[str, Any] = {"index": place, "items": len(index), **faces.speed(), "skipped_list": skipped}
    document |= {
        "seconds_with_start": round(seconds, 3),
        "peak_memory_mib": peak_memory_mib(),
        "dim": index.dim,
        "metric": index.metric,
    }
    document |= {"kind": index.kind, "model": index.model, "recall": index.recall, "images_reused": faces.reused}
    fresh = faces.images - faces.reused
    speed = f", {fresh / faces.seconds:,.0f} files a second" if faces.seconds else ""
    speed += f", {faces.reused:,} files from an earlier run" if faces.reused else ""
    show(
        as_json,
        document,
        f"{verb} {place}: {len(faces.faces):,} faces of {faces.images:,} files{speed}; {len(index):,} items",
    )
    end(faces.skipped)


for _verb in (build, add, remove, search, info, merge, compact, export):
    add_verb(index_app, _verb)
