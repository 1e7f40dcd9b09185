"""The evaluation on rendered faces: every table and figure, without any real face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.baselines import hog_pca, pixels_pca
from exprembed.data import FaceTable
from exprembed.data.synthetic import perceived_expression, render_faces, save_faces, synthetic_triplets
from exprembed.models import load_model
from exprembed.models.embedding import embed_faces


def demo_inputs(folder: Path, seed: int = 0, n: int = 400, subjects: int = 10) -> dict[str, Any]:
    """Render faces into `folder`/faces and embed them with the packaged model and in three simple ways.

    Returns:
        The keyword arguments of `evaluation.fec.run`: the packaged model, the exact expression with noise, HOG + PCA-16,
        pixels + PCA-16.
    """
    images, faces = render_faces(n, subjects, seed)
    faces = save_faces(images, faces, folder / "faces")
    grey = images.mean(axis=-1).astype(np.uint8)[:, ::2, ::2]
    train = (faces["split"] == "train").to_numpy()
    exact = perceived_expression(faces).astype(np.float32)
    noise = np.random.default_rng(seed).normal(scale=0.15, size=exact.shape).astype(np.float32)
    return {
        "vectors": {
            "FECNet-16d (packaged)": embed_faces(load_model(), faces)[0],
            "exact expression with noise": pd.DataFrame(exact.to_numpy() + noise, index=faces.index),
            "HOG + PCA-16": hog_pca(grey, faces.index, train),
            "raw pixels + PCA-16": pixels_pca(grey, faces.index, train),
        },
        "faces": faces,
        "triplets": synthetic_triplets(FaceTable(faces[~train]), per_type=300, seed=seed),
        "data": "rendered faces",
    }
