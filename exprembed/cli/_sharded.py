"""exprembed index build --engine ray: photos in blocks, embedded by the workers of a Ray cluster."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from exprembed import __version__
from exprembed.cli._faces import (
    Embedded,
    FaceOptions,
    Photos,
    SourceOptions,
    embed_some,
    find_photos,
    open_model,
)
from exprembed.cli._vectors import is_vector_file
from exprembed.errors import BadInputError, WrongUseError
from exprembed.progress import progress

if TYPE_CHECKING:
    from exprembed.index import ExpressionIndex
    from exprembed.index.shards import Faces

SHARD = 10_000


def shards_folder(out: Path) -> Path:
    """Return the folder beside an index that keeps its shards until it is saved."""
    place = out.resolve()
    return place.with_name(f"{place.name}.shards")


def build_sharded(
    paths: list[Path],
    out: Path,
    kind: str,
    metric: str | None,
    model: str | None,
    face: FaceOptions,
    source: SourceOptions,
    images: int,
    quiet: bool,
) -> tuple[ExpressionIndex, Embedded]:
    """Embed photos by Ray, a shard for so many images; return the index and what there is to tell of its making.

    Raises:
        MissingExtraError: ray is not installed.
        WrongUseError: a file of vectors, which holds nothing to embed.
        BadInputError: not a single face was embedded.
    """
    import numpy as np
    import pandas as pd

    from exprembed.index.ray_build import Block, build_by_ray
    from exprembed.index.shards import digest_of

    if any(is_vector_file(path) for path in paths):
        raise WrongUseError("--engine ray embeds photos; vectors that are there already take --engine local")
    if face.explain:
        raise WrongUseError("--explain prints what is found here; with --engine ray it would be found elsewhere")
    photos, started = find_photos(paths, source), time.perf_counter()
    embedder = open_model(model, face)
    if not face.aligned and face.eyes(photos.dataset) is None:
        face.make_detector()  # what is missing for that shows here, not in each worker
    blocks = []
    for start in range(0, len(photos.paths), images):
        part = _part(photos, slice(start, start + images))
        known = "" if part.known is None else part.known.drop(columns="landmarks", errors="ignore").to_csv()
        facts = (
            embedder.fingerprint,
            __version__,
            replace(face, batch=1, threads=None, device="cpu"),
            part.dataset,
            known,
        )
        files = [*part.paths, face.detector_model] if face.detector_model else part.paths
        name = f"photos from {part.paths[0]} to {part.paths[-1]}"
        blocks.append(Block(digest_of(files, *facts), len(part.paths), part, name))
    with progress("embedding", len(photos.paths), quiet) as advance:
        built = build_by_ray(
            blocks,
            partial(PhotoEmbedder, model, face, embedder.fingerprint),
            shards_folder(out),
            embedder.embedding_dim,
            metric or embedder.metric,
            kind,
            embedder.fingerprint,
            advance=advance,
        )
    index, skipped, seconds = built.made, [*photos.skipped, *built.skipped], time.perf_counter() - started
    if not len(index):
        from exprembed.pipeline import no_face

        raise no_face(len(photos.paths), skipped)
    faces = pd.DataFrame(index=index.ids)  # all else is in the index
    return index, Embedded(faces, np.empty((0, index.dim)), skipped, len(photos.paths), seconds, built.reused)


class PhotoEmbedder:
    """What a worker holds: the model, and how faces are found."""

    def __init__(self, model: str | None, face: FaceOptions, fingerprint: str) -> None:
        self.model, self.face = open_model(model, face), face
        if self.model.fingerprint != fingerprint:
            raise BadInputError(f"the weights {model or 'packaged'} on a worker's machine are not those given here")

    def __call__(self, photos: Photos) -> Faces:
        """Embed a block of photos."""
        from exprembed.index.shards import Faces

        done = embed_some(self.model, photos, self.face)
        return Faces(done.faces.index.tolist(), done.vectors, done.metadata, done.skipped)


def _part(photos: Photos, rows: slice) -> Photos:
    return Photos(photos.paths[rows], None if photos.known is None else photos.known.iloc[rows], photos.dataset)
