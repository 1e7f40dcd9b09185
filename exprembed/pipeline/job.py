"""`exprembed.embed`: photos and films in, a face table with vectors out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from exprembed.data.faces import FaceDetector, Which
from exprembed.data.images import IMAGE_SUFFIXES, find_images
from exprembed.data.preprocessing import Alignment
from exprembed.data.quality import FaceLimits
from exprembed.data.tables import FaceTable
from exprembed.data.vectors import vector_columns
from exprembed.errors import BadInputError, WrongUseError
from exprembed.files import Skipped, write_skipped
from exprembed.models import load_model
from exprembed.models.base import Embedder
from exprembed.pipeline.cuts import NamedFaces, SearchedFaces, WholeFaces
from exprembed.pipeline.store import ResultStore, digest_of
from exprembed.pipeline.stream import Cut, Flow, stream
from exprembed.pipeline.video import VIDEO_SUFFIXES

SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES


@dataclass(frozen=True)
class Results:
    """What a job in memory gives: row i of `faces` belongs to row i of `vectors`.

    Attributes:
        faces: rows of a face table, indexed by face_id.
        vectors: (n, d) float32.
        skipped: what was left out.
    """

    faces: pd.DataFrame
    vectors: NDArray[np.float32]
    skipped: list[Skipped] = field(default_factory=list)


class Written(NamedTuple):
    """What a job into a file gives.

    Attributes:
        faces: in the file.
        reused: files whose faces were there already.
        skipped: what was left out.
    """

    faces: int
    reused: int
    skipped: list[Skipped]


def embed(
    paths: str | Path | Iterable[str | Path],
    model: Embedder | str | Path | None = None,
    out: str | Path | None = None,
    *,
    faces: Which = "all",
    aligned: bool = False,
    detector: FaceDetector | None = None,
    limits: FaceLimits | None = None,
    batch: int = 64,
    threads: int | None = None,
    fps: float | None = None,
    smooth: float | None = None,
) -> FaceTable:
    """Find the faces of photos and films, cut them out, and embed them.

    Decoding, finding faces and embedding overlap, and memory does not grow with the length of a film. With `out`, results
    go to that Parquet file as they come: a job that was killed goes on where it was, and of a later one only files that
    are new or changed are embedded (known by path, size and modification time, under the same model and options).

    Args:
        paths: files, folders (to any depth) and glob patterns.
        model: an embedder, or what `load_model` takes; the packaged one where None.
        out: a Parquet file; `skipped.csv` beside it lists what was left out.
        faces: "all", or the "largest" of each picture.
        aligned: the pictures are face crops already: no face is searched for.
        detector: MTCNN where None, which looks for nothing smaller than the limits allow.
        limits: what a face must measure.
        batch: faces embedded together.
        threads: of each stage; one a core where None, eight at most. See `Flow`.
        fps: frames taken of a film a second; None takes all.
        smooth: seconds over which a film's vectors are smoothed along each track; see `Smoother`.

    Returns:
        FaceTable with one row a face, in order of files and time: `path`, box, `landmarks`, `eyes`, the measures of
        `FaceQuality`, of a film `frame`, `time` (seconds) and `track`, and the vector v00, v01, ... `attrs` has the model's
        fingerprint (`model`), its `metric`, and what was left out (`skipped`: pairs of item and reason).

    Raises:
        BadInputError: a path that does not exist, or not a single face.
        MissingExtraError: no detector given and facenet-pytorch is not installed; a film without PyAV.

    Example:
        >>> import tempfile
        >>> from exprembed.data.synthetic import render_faces, save_faces
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = save_faces(*render_faces(3, subjects=1, seed=0, size=96), folder)
        >>> embed(folder, aligned=True).filter(regex="^v").shape
        (3, 16)
    """
    embedder = model if isinstance(model, Embedder) else load_model(model)
    found, left_out = find_images(paths, SUFFIXES)
    alignment, size = embedder.preprocessing.alignment or Alignment(), embedder.preprocessing.size
    cut: SearchedFaces | WholeFaces
    if aligned:
        if detector is not None:
            raise WrongUseError("aligned=True says that there is nothing to find, and a detector searches")
        cut = WholeFaces(None, alignment, size, limits or FaceLimits())
    else:
        from exprembed.data.detectors import MTCNNDetector

        limits = limits or FaceLimits()
        detector = detector or MTCNNDetector(min_face=max(1.0, limits.min_face))
        cut = SearchedFaces(detector, alignment, size, faces, limits)
    flow = Flow(batch, fps=fps, smooth=smooth) if threads is None else Flow(batch, threads, fps, smooth)
    if out is None:
        done = collect(embedder, found, NamedFaces(cut), flow)
        if not len(done.faces):
            raise no_face(len(found), [*left_out, *done.skipped])
        table = with_vectors(done)
        skipped = [*left_out, *done.skipped]
    else:
        settings = settings_of(embedder, cut, flow)
        skipped = write(embedder, found, NamedFaces(cut), flow, out, settings, left_out).skipped
        write_skipped(Path(out).parent / "skipped.csv", skipped)
        table = pd.read_parquet(out)
    table = FaceTable(table)
    table.attrs.update(attrs_of(embedder), skipped=[list(item) for item in skipped])
    return table


def collect(
    model: Embedder, paths: Sequence[Path], cut: Cut, flow: Flow, advance: Callable[[int], None] | None = None
) -> Results:
    """Embed files and keep everything in memory; no face is no error."""
    chunks = list(stream(model, paths, cut, flow, advance))
    skipped = [item for chunk in chunks for number in chunk.skipped for item in chunk.skipped[number]]
    tables = [chunk.faces for chunk in chunks if len(chunk.faces)]
    if not tables:
        return Results(pd.DataFrame(), np.empty((0, model.embedding_dim), np.float32), skipped)
    vectors = np.concatenate([chunk.vectors for chunk in chunks])
    return Results(pd.concat(tables).dropna(axis=1, how="all"), vectors, skipped)


def write(
    model: Embedder,
    paths: Sequence[Path],
    cut: Cut,
    flow: Flow,
    out: str | Path,
    settings: str,
    left_out: Sequence[Skipped] = (),
    known: pd.DataFrame | None = None,
    advance: Callable[[int], None] | None = None,
    anew: bool = False,
) -> Written:
    """Embed files into a Parquet file, taking up what an earlier run left.

    Args:
        model: as in `stream`, like `paths`, `cut`, `flow` and `advance`.
        paths: photos and films.
        cut: finds the faces.
        flow: how the job runs.
        out: the file.
        settings: digest of all that faces and vectors depend on beside the files.
        left_out: what was left out before.
        known: columns that a data set tells, by face_id.
        advance: called with the number of files that are finished.
        anew: embed all files, whatever an earlier run left.

    Raises:
        BadInputError: not a single face; an earlier `out` stays as it is, and `skipped.csv` beside it lists why.
    """
    store = ResultStore(out, settings, vector_columns(model.embedding_dim), known, attrs_of(model))
    todo = list(paths) if anew else store.take_up(paths)
    if advance is not None:
        advance(len(paths) - len(todo))
    store.add(stream(model, todo, cut, flow, advance), todo)
    count, skipped = store.finish()
    skipped = [*left_out, *skipped]
    if not count:
        write_skipped(Path(out).parent / "skipped.csv", skipped)
        raise no_face(len(paths), skipped)
    return Written(count, len(paths) - len(todo), skipped)


def settings_of(model: Embedder, cut: SearchedFaces | WholeFaces, flow: Flow, *more: object) -> str:
    """Return a digest of what the faces and vectors of a file depend on beside the file: model, cut, frames taken."""
    facts: list[object] = [
        *more,
        model.fingerprint,
        type(cut).__name__,
        cut.alignment,
        cut.size,
        cut.limits,
        flow.fps,
        flow.smooth,
    ]
    if isinstance(cut, SearchedFaces):
        # A detector's settings are its public attributes; what it learned has no shorter name than its class.
        told = {name: value for name, value in vars(cut.detector).items() if not name.startswith("_")}
        facts += [cut.faces, type(cut.detector).__name__, sorted(told.items())]
    else:
        facts.append(cut.eyes)
    return digest_of(*facts)


def with_vectors(done: Results) -> pd.DataFrame:
    """Return the faces with their vectors in the columns v00, v01, ..."""
    columns = vector_columns(done.vectors.shape[1])
    return pd.concat([done.faces, pd.DataFrame(done.vectors, index=done.faces.index, columns=columns)], axis=1)


def attrs_of(model: Embedder) -> dict[str, Any]:
    """Return what a file of vectors says of its model."""
    return {"model": model.fingerprint, "metric": model.metric}


def no_face(files: int, skipped: Sequence[Skipped]) -> BadInputError:
    """Build the error for a job without a single face, with the reason for the first file."""
    first = f"; the first: {skipped[0].item}: {skipped[0].reason}" if skipped else ""
    return BadInputError(f"no face in {files:,} {'file' if files == 1 else 'files'}{first}")
