"""exprembed demo: the whole way from faces to one page, on rendered faces or on the user's own photos."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exprembed.cli._common import (
    JsonOption,
    ModelOption,
    clean_stdout,
    end,
    list_skipped,
    option_groups,
    peak_memory_mib,
    plain,
    show,
    table,
)
from exprembed.cli._faces import FaceOptions, open_model
from exprembed.cli._gallery import (
    NEIGHBOURS,
    Gallery,
    Score,
    choose_queries,
    photo_gallery,
    rendered_gallery,
    sample,
    score,
)
from exprembed.errors import BadInputError
from exprembed.files import write_json

if TYPE_CHECKING:
    import numpy as np

    from exprembed.index import AlbumSummary, SearchResult
    from exprembed.models.base import Embedder

PICTURES = 10  # of an album


@option_groups(face=FaceOptions)
def demo(
    photos: Annotated[
        Path | None,
        typer.Argument(help="A folder of your own photos. Default: rendered faces.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page and all that it was made from.")] = Path("demo"),
    size: Annotated[int, typer.Option(help="Rendered faces in the gallery.", min=50, max=5000)] = 600,
    limit: Annotated[int | None, typer.Option(help="Only the first N of your photos.", min=1)] = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
    *,
    face: FaceOptions,
) -> None:
    """Embed faces, index them, search, summarise an album, score, and write one page with pictures.

    Without PHOTOS the faces are drawn on the spot: 600 faces of 60 people, whose expressions are known exactly. With
    PHOTOS the faces of your own pictures are found and cut out; nothing leaves your machine. OUT gets index.html (one
    file, no scripts, nothing loaded), faces.index, faces.parquet, demo.json and, for rendered faces, gallery/ and
    triplets.parquet: the other verbs can be tried on these.

    Exit codes: 0 done; 1 some photos gave no face (skipped.csv in OUT says which); 2 wrong use; 3 bad input.
    """
    from exprembed.cli._demo_page import Shown, write_demo_page

    if photos is not None and not photos.exists():
        raise BadInputError(f"{photos} does not exist; give a folder of photos, or none for rendered faces")
    started = time.perf_counter()
    with clean_stdout(as_json):
        threads = face.threads or (1 if photos is None else None)  # see Gallery.step
        embedder = open_model(model, replace(face, threads=threads))
        loaded = time.perf_counter() - started
        out.mkdir(parents=True, exist_ok=True)
        if photos is None:
            gallery = rendered_gallery(embedder, out, size)
        else:
            gallery = photo_gallery(embedder, photos, face, limit, as_json)
        gallery.steps.insert(0, ("loaded torch and the model", loaded))
        queries, result = _index_and_search(gallery, embedder, model, out)
        album = sample(gallery.album)
        summary = _summarise(gallery, album)
        places = _places(gallery)
        scores = _score(gallery, embedder, out)
        skipped = list_skipped(gallery.skipped, out)
        page = out / "index.html"
        write_demo_page(
            page, Shown(gallery, embedder, model, photos, queries, result, album.index, summary, places, scores)
        )
    document: dict[str, Any] = {"page": page, "faces": len(gallery.faces), "skipped": len(gallery.skipped)}
    document |= {"skipped_list": skipped, "scores": scores, "steps": dict(gallery.steps)}
    document |= {"seconds": round(time.perf_counter() - started, 2), "peak_memory_mib": peak_memory_mib()}
    write_json(out / "demo.json", plain(document))
    rows = [(one.name, 100 * one.model, 100 * one.pixels, 100 * one.chance) for one in scores]
    tables = [table(("score, %", "model", "raw pixels", "chance"), rows)] if rows else []
    show(as_json, document, *tables, f"{len(gallery.faces):,} faces in {document['seconds']:.0f} s; open {page}")
    end(gallery.skipped)


def _index_and_search(
    gallery: Gallery, embedder: Embedder, model: str | None, out: Path
) -> tuple[list[str], SearchResult]:
    """Save the gallery as an index and as Parquet, load the index, and search it for the queries.

    Faces of the query's own person (rendered) or own photo are no answers.
    """
    from exprembed.cli._made_with import note_weights
    from exprembed.cli._vectors import write_vectors
    from exprembed.index import ExpressionIndex

    with gallery.step("built, saved and loaded the index"):
        index = ExpressionIndex(embedder.embedding_dim, embedder.metric, model=embedder)
        index.add(gallery.vectors, metadata=gallery.faces.drop(columns="landmarks", errors="ignore"))
        index.save(out / "faces.index")
        note_weights(out / "faces.index", model)
        index = ExpressionIndex.load(out / "faces.index", model=embedder)
        write_vectors(out / "faces.parquet", gallery.faces, gallery.vectors.to_numpy(), embedder)
    queries = choose_queries(gallery)
    same = gallery.faces["subject" if gallery.rendered else "path"]
    own = [same.index[same == same[name]].tolist() for name in queries]
    with gallery.step(f"searched it for {len(queries)} faces"):
        result = index.search(gallery.vectors.loc[queries], NEIGHBOURS, exclude=own)
    return queries, result


def _summarise(gallery: Gallery, album: Any) -> AlbumSummary:  # noqa: ANN401 - a table of vectors
    from exprembed.index import summarize_album

    with gallery.step(f"summarised an album of {len(album):,} faces"):
        return summarize_album(album, PICTURES)


def _places(gallery: Gallery) -> np.ndarray | None:
    """Lay the gallery out on a plane; None for a single face."""
    from exprembed.plots import project

    vectors = sample(gallery.vectors)
    if len(vectors) < 2:
        return None
    method = "tsne" if len(vectors) >= 50 else "pca"
    with gallery.step(f"laid {len(vectors):,} faces out on a map ({'t-SNE' if method == 'tsne' else 'PCA'})"):
        return project(vectors, method)


def _score(gallery: Gallery, embedder: Embedder, out: Path) -> list[Score]:
    """Score the rendered gallery against its exact truth; photos have none."""
    if not gallery.rendered:
        return []
    from exprembed.data.synthetic import synthetic_triplets
    from exprembed.data.tables import FaceTable

    with gallery.step("scored the model and raw pixels"):
        triplets = synthetic_triplets(FaceTable(gallery.faces), per_type=1000)
        triplets.write_parquet(out / "triplets.parquet")
        return score(gallery, triplets, embedder.metric)
