"""GCNet's figures: what is generated and rebuilt (4, 8, 10), and maps of pixels, features and deltas (5, 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from evaluation._common import balanced
from evaluation.gcnet_protocol import cross_validate, outputs, recipe_for, trained
from exprembed.data import FaceTable, subject_folds
from exprembed.data.images import open_image
from exprembed.models.base import Embedder, evaluation_mode
from exprembed.models.gcnet import CLASSES, GCNet
from exprembed.plots import embedding_map, face_rows
from exprembed.report import Section

if TYPE_CHECKING:
    from evaluation.gcnet import Bench

SHOWN = 8


def rebuilt(model: Embedder, faces: pd.DataFrame, title: str, n: int = SHOWN) -> Any:  # noqa: ANN401 - a Figure
    """Draw input, generated reference and, with R1, what Decoder2 rebuilds of both (Figures 4, 8, 10)."""
    chosen = faces.loc[balanced(faces.index, faces["expression"], n, 0)]
    images = model.preprocess([open_image(path) for path in chosen["path"]])
    generator: Any = model.generator
    with evaluation_mode(model), torch.inference_mode():
        rows = {"input": images, "generated reference": generator(images)[0]}
    if isinstance(model, GCNet) and model.decoders:
        own, reference = model.reconstructions(images)
        rows |= {"rebuilt reference": reference, "rebuilt input": own}
    pictures = {name: generator.pixels(row).permute(0, 2, 3, 1).numpy() for name, row in rows.items()}
    return face_rows({name: row[..., 0] if row.shape[-1] == 1 else row for name, row in pictures.items()}, title)


def _alone(bench: Bench, faces: pd.DataFrame) -> Embedder:
    """Train a generator with nothing but its own term, on some people (Figure 10)."""
    store = bench.work / "alone.parquet"
    FaceTable(faces.assign(split="train")).write_parquet(store)
    recipe = recipe_for(bench.base, "metric-learning CNN", CLASSES[7], store, bench.seeds[0])
    recipe.model["name"] = "gcnet_pretraining"
    return trained(recipe)


def section(bench: Bench, sequences: FaceTable) -> Section:
    """Figures 4, 5, 6 and 10 on the first fold's test people: S1R1 beside the CNN, and the generator alone."""
    drawn, names = {}, ("CNN", "GCNet S1R1")
    found = {
        method: result
        for method, _, _, result in cross_validate(
            bench.faces, bench.base, CLASSES[7], names, bench.seeds[:1], bench.folds, [0], bench.say
        )
    }
    ours = found["GCNet S1R1"]
    drawn["fig4"] = rebuilt(ours.model, ours.faces, "Figure 4: faces of people never seen in training")
    labels = ours.faces["expression"]
    pixels = np.stack([np.asarray(open_image(path).convert("L")).ravel() / 255 for path in ours.faces["path"]])
    drawn["fig5-pixels"] = embedding_map(pixels, labels, "tsne", 0, "Figure 5 (a): pixels")
    for key, (name, result) in zip(("cnn", "delta"), found.items(), strict=True):
        drawn[f"fig5-{key}"] = embedding_map(result.vectors, labels, "tsne", 0, f"Figure 5: {name}")
    everyone = pd.DataFrame(sequences)
    people = everyone[subject_folds(everyone["subject"], bench.folds) == 0]
    for key, (name, result) in zip(("cnn", "delta"), found.items(), strict=True):
        vectors, _ = outputs(result.model, people)
        drawn[f"fig6-{key}"] = embedding_map(
            vectors, people["expression"], "tsne", 0, f"Figure 6: whole sequences, {name}"
        )
    others = bench.faces[~bench.faces["subject"].isin(ours.faces["subject"])]
    drawn["fig10"] = rebuilt(
        _alone(bench, others), ours.faces, "Figure 10: the generator with the generation term alone"
    )
    return Section(
        "Figures 4, 5, 6 and 10",
        f"{bench.words}; the test people of the first of {bench.folds} folds",
        notes=[
            "Figure 4, from above: input, generated reference, what Decoder2 rebuilds of the reference and of the input.",
            "Figure 5: pixels, the CNN's first FC layer, the delta; t-SNE. Figure 6: all ten frames of each sequence.",
            "Figure 10: a generator trained with its own term alone.",
        ],
        figures=drawn,
    )
