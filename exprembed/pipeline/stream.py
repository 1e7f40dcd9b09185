"""From photos and films to faces and vectors: decoding, finding faces and embedding at the same time, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from exprembed.data.faces import FaceCrop
from exprembed.data.images import open_image
from exprembed.data.tables import BOX_COLUMNS
from exprembed.errors import BadInputError, WrongUseError
from exprembed.files import Skipped
from exprembed.pipeline.flow import in_background, in_order
from exprembed.pipeline.tracks import Smoother, Tracker
from exprembed.pipeline.video import VIDEO_SUFFIXES, read_frames

if TYPE_CHECKING:
    from exprembed.models.base import Embedder

_PICTURES = 16  # pictures in which faces are looked for together
_PIXELS = 2_000_000  # of such pictures: with more, threads wait for each other's last ones


class Picture(NamedTuple):
    """One picture on its way: what it is called, where it comes from, and its pixels or why there are none.

    Attributes:
        source: number of the file.
        name: what its faces are named after.
        path: the file.
        image: upright RGB; None where it could not be read, and at the end of a film.
        reason: why it could not be read.
        facts: columns that its faces get (`frame` and `time` in a film).
        last: nothing more comes of this file.
    """

    source: int
    name: str
    path: str
    image: Image.Image | None
    reason: str | None = None
    facts: dict[str, Any] = {}  # noqa: RUF012 - never changed
    last: bool = True


class Cut(Protocol):
    """Finds and cuts out the faces of pictures."""

    def __call__(self, pictures: Sequence[Picture]) -> list[list[FaceCrop | Skipped]]:
        """Return the faces of each picture, and what was left out of it; some have a reason in place of an image."""


class Chunk(NamedTuple):
    """Some faces of a job, in order.

    Attributes:
        faces: rows of a face table, indexed by face_id.
        vectors: (n, d) float32.
        skipped: for each file that is finished, by number, what was left out of it.
    """

    faces: pd.DataFrame
    vectors: NDArray[np.float32]
    skipped: dict[int, list[Skipped]]


@dataclass(frozen=True)
class Flow:
    """How a job runs.

    Attributes:
        batch: faces embedded together.
        threads: that decode, as many that find faces, and as many that embed, each alone with some pictures: several
            threads in one small product of matrices would wait for each other most of the time.
        fps: frames taken of a film a second; None takes all.
        smooth: seconds over which the vectors of a track are smoothed; None leaves them.
        track: makes what says which faces of a film are one.

    Raises:
        WrongUseError: a batch or threads below 1, fps or smooth not above 0.
    """

    batch: int = 64
    threads: int = field(default_factory=lambda: min(8, os.cpu_count() or 1))
    fps: float | None = None
    smooth: float | None = None
    track: Callable[[], Tracker] = field(default=Tracker)

    def __post_init__(self) -> None:
        """Refuse what no job can do, whether a film is among the files or not."""
        for name, least in (("batch", 1), ("threads", 1)):
            if getattr(self, name) < least:
                raise WrongUseError(f"{name} must be at least {least}; got {getattr(self, name)}")
        for name in ("fps", "smooth"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise WrongUseError(f"{name} must be above 0; got {value}")


def stream(
    model: Embedder,
    paths: Sequence[Path],
    cut: Cut,
    flow: Flow | None = None,
    advance: Callable[[int], None] | None = None,
) -> Iterator[Chunk]:
    """Embed the faces of photos and films.

    Three stages overlap, each some items ahead of the next: photos are decoded, faces are found and cut out, faces are
    embedded. However many files there are and however long a film is, a few batches are in memory. Until it ends,
    torch works with one thread wherever it is called, and the model is in evaluation mode.

    Args:
        model: the embedder.
        paths: photos, and films by the ending of their names.
        cut: finds the faces.
        flow: how the job runs.
        advance: called with 1 as each file is finished.

    Yields:
        The faces in the order of the files and of time; a film's carry `frame`, `time` (seconds) and `track`.
    """
    from exprembed.models.base import evaluation_mode

    flow = flow or Flow()
    smooth = _Smoothing(flow.smooth)
    with evaluation_mode(model), _one_thread_in_torch():
        events = in_background(_found(_pictures(paths, flow), cut, flow), ahead=2 * flow.batch)
        try:
            batches = _batches(events, flow.batch)
            embedded = in_order(
                lambda batch: (batch, _vectors(model, batch.faces)), batches, flow.threads, ahead=flow.threads
            )
            for batch, vectors in embedded:
                if advance is not None and batch.ended:
                    advance(len(batch.ended))
                yield _chunk(batch, vectors, smooth)
        finally:
            events.close()  # type: ignore[attr-defined]  # a generator


@contextmanager
def _one_thread_in_torch() -> Iterator[None]:
    """Give this thread, and those that start meanwhile, one thread in torch."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Batch(NamedTuple):
    """Faces that are embedded together, and what was left out of the files that are finished with them."""

    faces: list[FaceCrop]
    ended: dict[int, list[Skipped]]


def _batches(events: Iterable[FaceCrop | _End], size: int) -> Iterator[_Batch]:
    batch = _Batch([], {})
    for event in events:
        if isinstance(event, FaceCrop):
            batch.faces.append(event)
        else:
            batch.ended[event.source] = event.skipped
        if len(batch.faces) >= size or len(batch.ended) >= 8 * size:
            yield batch
            batch = _Batch([], {})
    if batch.faces or batch.ended:
        yield batch


class _End(NamedTuple):
    source: int
    skipped: list[Skipped]


def _pictures(paths: Sequence[Path], flow: Flow) -> Iterator[Picture]:
    """Yield the pictures of all files in order, photos decoded by several threads."""
    start = 0
    while start < len(paths):
        if paths[start].suffix.lower() in VIDEO_SUFFIXES:
            yield from in_background(_film(start, paths[start], flow.fps), ahead=_PICTURES)
            start += 1
            continue
        stop = next((i for i in range(start, len(paths)) if paths[i].suffix.lower() in VIDEO_SUFFIXES), len(paths))
        yield from in_order(lambda i: _photo(i, paths[i]), range(start, stop), flow.threads, ahead=_PICTURES)
        start = stop


def _photo(source: int, path: Path) -> Picture:
    name = str(path)
    try:
        return Picture(source, name, name, open_image(path))
    except BadInputError as error:
        return Picture(source, name, name, None, str(error))


def _film(source: int, path: Path, fps: float | None) -> Iterator[Picture]:
    try:
        for frame in read_frames(path, fps):
            facts = {"frame": frame.number, "time": frame.time}
            yield Picture(source, f"{path}@{frame.number}", str(path), frame.image, None, facts, last=False)
        yield Picture(source, str(path), str(path), None)
    except BadInputError as error:
        yield Picture(source, str(path), str(path), None, str(error))


def _together(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """Yield pictures in which faces are looked for together: some, or fewer where they are large."""
    batch: list[Picture] = []
    pixels = 0
    for picture in pictures:
        batch.append(picture)
        pixels += 0 if picture.image is None else picture.image.width * picture.image.height
        if len(batch) == _PICTURES or pixels >= _PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _found(pictures: Iterable[Picture], cut: Cut, flow: Flow) -> Iterator[FaceCrop | _End]:
    """Yield the faces of pictures, and the end of each file."""
    stages = iter(pictures)
    skipped: list[Skipped] = []
    frames = _Frames(flow)

    def some(batch: list[Picture]) -> list[tuple[Picture, list[FaceCrop | Skipped]]]:
        there = [picture.image is not None or picture.reason is not None for picture in batch]
        found = iter(cut([picture for picture, one in zip(batch, there, strict=True) if one]))
        # Nothing is found at the end of a film.
        return [(picture, next(found) if one else []) for picture, one in zip(batch, there, strict=True)]

    try:
        for batch in in_order(some, _together(stages), flow.threads, ahead=flow.threads):
            for picture, items in batch:
                faces = [item for item in items if isinstance(item, FaceCrop)]
                left_out = [item for item in items if isinstance(item, Skipped)]
                if picture.facts:
                    frames.add(picture, faces, left_out)
                else:
                    skipped += left_out
                yield from faces
                if picture.last:
                    yield _End(picture.source, skipped + frames.ended(picture.path))
                    skipped = []
    finally:
        stages.close()  # type: ignore[attr-defined]  # a generator


class _Frames:
    """What is kept of a film from frame to frame: its tracks, and how many frames gave no face."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._tracker, self._seen, self._without = flow.track(), 0, 0
        self._first = ""

    def add(self, picture: Picture, faces: list[FaceCrop], left_out: list[Skipped]) -> None:
        """Give the faces of a frame their columns."""
        self._seen += 1
        if not faces:
            self._without += 1
            if left_out and not self._first:
                self._first = f"; the first, at {picture.facts['time']:.3f} s: {left_out[0].reason}"
        # A frame that is one whole face has no box, and then the film is one track.
        boxes = [
            [face.row.get(side, edge) for side, edge in zip(BOX_COLUMNS, (0, 0, 1, 1), strict=True)] for face in faces
        ]
        for face, track in zip(faces, self._tracker(picture.facts["time"], boxes), strict=True):
            face.row.update(picture.facts, track=track)

    def ended(self, path: str) -> list[Skipped]:
        """Say what was left out of the film that ends here, in one line; begin the next."""
        seen, without, first = self._seen, self._without, self._first
        self.__init__(self._flow)  # type: ignore[misc]  # anew
        return [Skipped(path, f"no usable face in {without:,} of {seen:,} frames{first}")] if without else []


class _Smoothing:
    """Smooths the vectors of films, one film after the other."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._path = ""
        self._smoother: Smoother | None = None

    def __call__(self, rows: Sequence[dict[str, Any]], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vectors of rows, smoothed where they are of a film."""
        if self._seconds is None:
            return vectors
        for place, row in enumerate(rows):
            if "track" in row:
                if row["path"] != self._path or self._smoother is None:
                    unit = bool(np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3))
                    self._path, self._smoother = row["path"], Smoother(self._seconds, unit)
                vectors[place] = self._smoother(row["track"], row["time"], vectors[place])
        return vectors


def _vectors(model: Embedder, faces: Sequence[FaceCrop]) -> NDArray[np.float32]:
    from exprembed.models.embedding import embed_pixels

    if not faces:
        return np.empty((0, model.embedding_dim), np.float32)
    return embed_pixels(model, np.concatenate([model.preprocessing.pixels(face.crop) for face in faces]), len(faces))


def _chunk(batch: _Batch, vectors: NDArray[np.float32], smooth: _Smoothing) -> Chunk:
    index = pd.Index([face.face_id for face in batch.faces], name="face_id", dtype="str")
    rows = [face.row for face in batch.faces]
    table = pd.DataFrame(rows, index=index) if rows else pd.DataFrame(index=index)
    return Chunk(table, smooth(rows, vectors), batch.ended)
