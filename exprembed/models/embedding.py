"""From a FaceTable to vectors: read the crops, embed them in batches, count what could not be read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from exprembed.data.tables import FaceTable
from exprembed.errors import BadInputError
from exprembed.files import Skipped
from exprembed.models.base import Embedder


def embed_faces(
    model: Embedder, faces: FaceTable, batch_size: int = 256, advance: Callable[[int], None] | None = None
) -> tuple[pd.DataFrame, list[Skipped]]:
    """Embed the face crops of a table.

    Args:
        model: a trained embedder.
        faces: the crops are the files in the column `path`, whole: no box is cut here.
        batch_size: faces read and embedded at once, which bounds memory.
        advance: called with the number of faces done after each batch, for a progress bar.

    Returns:
        (n, d) float32 vectors indexed by face_id, and the faces whose file could not be read, with the reason.

    Raises:
        BadInputError: none of the files could be read.
    """
    vectors, ids, skipped = [], [], []
    for start in range(0, len(faces), batch_size):
        block = faces.iloc[start : start + batch_size]
        pixels = []
        for face_id, path in zip(block.index, block["path"], strict=True):
            try:
                pixels.append(model.preprocessing.pixels(path))
            except BadInputError as error:
                skipped.append(Skipped(str(path), str(error)))
                continue
            ids.append(face_id)
        if pixels:
            vectors.append(embed_pixels(model, np.concatenate(pixels), batch_size))
        if advance:
            advance(len(block))
    if not vectors:
        first = f"; the first: {skipped[0].reason}" if skipped else ""
        raise BadInputError(f"none of the {len(faces)} faces could be read{first}")
    return pd.DataFrame(np.concatenate(vectors), index=pd.Index(ids, name="face_id")), skipped


def embed_pixels(model: Embedder, pixels: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Embed (N, C, S, S) uint8 crops as `Preprocessing.pixels` gives them; (N, d) float32."""
    blocks = torch.split(torch.from_numpy(pixels), batch_size)
    parts = [model.embed(model.prepare(block), batch_size).cpu().numpy() for block in blocks]
    return np.concatenate(parts) if parts else np.empty((0, model.embedding_dim), np.float32)
