"""Run a frozen backbone once: its maps in a float16 memmap, keyed by weights, preprocessing and faces."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from exprembed.data.tables import FaceTable
from exprembed.files import atomic_path
from exprembed.models.base import Embedder, evaluation_mode


def cache_folder() -> Path:
    """Return where caches lie: $EXPREMBED_CACHE, else `exprembed` in the user's cache folder."""
    base = os.environ.get("EXPREMBED_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "exprembed"


def cache_features(
    model: Embedder, faces: FaceTable, folder: str | Path | None = None, advance: Callable[[int], None] | None = None
) -> np.ndarray:
    """Return the backbone's maps of every face, from the cache where they are: (n, F, h, w) float16, memory-mapped.

    The key covers the backbone's weights, the preprocessing, and each face's path, size and time of change; maps for
    another model or other files are never taken.

    Args:
        model: an embedder; only its `features` run.
        faces: paths of face crops.
        folder: where to cache; None takes `cache_folder()`.
        advance: called with the number of faces done after each batch.

    Raises:
        BadInputError: a file that cannot be read.
    """
    path = Path(folder or cache_folder()) / f"features-{_key(model, faces)[:32]}.npy"
    if not path.is_file():
        with atomic_path(path) as temporary, evaluation_mode(model), torch.inference_mode():
            maps: np.memmap | None = None
            for start in range(0, len(faces), 128):
                block = list(faces["path"].iloc[start : start + 128])
                values = model.features(model.preprocess(block)).to(torch.float16).cpu().numpy()
                if maps is None:
                    maps = np.lib.format.open_memmap(
                        temporary, mode="w+", dtype=np.float16, shape=(len(faces), *values.shape[1:])
                    )
                maps[start : start + len(block)] = values
                if advance:
                    advance(len(block))
            if maps is not None:
                maps.flush()
    elif advance:
        advance(len(faces))
    stored: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return stored


def _key(model: Embedder, faces: FaceTable) -> str:
    digest = hashlib.sha256(json.dumps(model.preprocessing.to_dict(), sort_keys=True).encode())
    for module in model.frozen_modules():
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for path in faces["path"]:
        state = Path(path).stat() if Path(path).exists() else None
        digest.update(f"{path}\0{state.st_size if state else -1}\0{state.st_mtime_ns if state else -1}\n".encode())
    return digest.hexdigest()
