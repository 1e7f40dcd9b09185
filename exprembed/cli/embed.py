"""exprembed embed: photos and films in, one Parquet file of faces and their vectors out."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from exprembed.cli._common import (
    JsonOption,
    ModelOption,
    clean_stdout,
    end,
    list_skipped,
    option_groups,
    peak_memory_mib,
    show,
)
from exprembed.cli._faces import FaceOptions, SourceOptions, embed_into, find_photos, open_model
from exprembed.cli.export import with_engine


@option_groups(face=FaceOptions, source=SourceOptions)
def embed(
    paths: Annotated[list[Path], typer.Argument(help="Photos, films, folders or patterns.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")] = Path("faces.parquet"),
    crops: Annotated[Path | None, typer.Option(help="Also write every face crop as PNG into this folder.")] = None,
    model: ModelOption = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="What runs the model: torch, or onnx (onnxruntime; weights are exported once, into a cache). Default: "
            "what the model's file is made for.",
            metavar="torch|onnx",
        ),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames taken of a film a second. Default: all.", show_default=False)
    ] = None,
    smooth: Annotated[
        float | None,
        typer.Option(help="Smooth the vectors of a film along each track, over so many seconds.", show_default=False),
    ] = None,
    replace_all: Annotated[
        bool, typer.Option("--replace", help="Embed all files anew, also those whose faces are in OUT already.")
    ] = False,
    as_json: JsonOption = False,
    *,
    face: FaceOptions,
    source: SourceOptions,
) -> None:
    """Find the faces of photos and films, cut them out, and embed them.

    OUT is a face table, one row a face: face_id (the path as given, @n for the n-th frame of a film, and #k for the k-th
    largest face of the picture), path, of a film frame, time (seconds) and track (which faces are one by their place),
    box, landmarks, eyes, the measures detection_score, sharpness, yaw, pitch, roll (degrees), interocular, box_width and
    box_height (pixels), what the data set tells, and the vector in the columns v00, v01, ... Faces that could not be used
    or fail a limit are listed in skipped.csv beside it.

    A job that was killed goes on where it was when it is started again; of files whose faces are in OUT already, under the
    same model and options, only those that changed are embedded anew.

    Exit codes: 0 done; 1 some files were skipped; 2 wrong use; 3 bad input.
    """
    with clean_stdout(as_json):
        photos = find_photos(paths, source, films=True)
        embedder = with_engine(open_model(model, face), model, engine)
        started, flow = time.perf_counter(), replace(face.flow, fps=fps, smooth=smooth)
        done = embed_into(out, embedder, photos, face, flow, crops, replace_all, quiet=as_json)
        seconds = time.perf_counter() - started
        skipped = list_skipped(done.skipped, out.parent)
    images = len(photos.paths)
    document = {"out": out, "images": images, "reused": done.reused, "faces": done.faces, "skipped": len(done.skipped)}
    document |= {
        "seconds": round(seconds, 3),
        "images_per_second": round((images - done.reused) / max(seconds, 1e-9), 1),
    }
    document |= {"skipped_list": skipped, "dim": embedder.embedding_dim}
    document |= {"model": embedder.fingerprint, "metric": embedder.metric, "peak_memory_mib": peak_memory_mib()}
    show(
        as_json,
        document,
        f"{done.faces:,} faces of {images:,} files, {embedder.embedding_dim} numbers each: {out}",
    )
    end(done.skipped)
