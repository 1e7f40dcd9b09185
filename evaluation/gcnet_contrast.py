"""The delta of any embedder against any reference: what it does to identity, and what is left of the expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from evaluation.gcnet_data import rendered_sequences, shown
from evaluation.gcnet_protocol import recipe_for, trained
from exprembed import ContrastiveEmbedder
from exprembed.data import FaceTable, subject_folds
from exprembed.data.images import open_image
from exprembed.index import KNNClassifier
from exprembed.metrics import identity_leak
from exprembed.models import load_model
from exprembed.models.base import Embedder
from exprembed.models.gcnet import CLASSES, GCNet, contrastive_delta
from exprembed.report import Row, Section

if TYPE_CHECKING:
    from evaluation.gcnet import Bench

PEOPLE, SEED, NEIGHBOURS = 30, 960_000, 10
COLUMNS = ("accuracy by neighbours", "identity leak", "chance of the leak")


def scores(vectors: np.ndarray, faces: pd.DataFrame) -> dict[str, float]:
    """Return the accuracy of 10 nearest neighbours among other people (five folds), and the identity leak, in percent."""
    labels, place = faces["expression"].to_numpy(str), subject_folds(faces["subject"], 5)
    predicted = np.empty(len(labels), labels.dtype)
    for fold in range(5):
        rest = place != fold
        knn = KNNClassifier(n_neighbors=NEIGHBOURS).fit(vectors[rest], labels[rest])
        predicted[~rest] = knn.predict(vectors[~rest])
    found = identity_leak(vectors, faces["subject"].to_numpy(), labels)
    values = (float((predicted == labels).mean()), found.leak, found.chance)
    return {name: 100 * value for name, value in zip(COLUMNS, values, strict=True)}


def deltas(base: Embedder, faces: pd.DataFrame, generator: GCNet) -> dict[str, np.ndarray]:
    """Return a model's vectors of the faces that are not neutral, and their deltas against each kind of reference."""
    shows = faces[faces["expression"] != "neutral"]
    images = base.preprocess([open_image(path) for path in shows["path"]])
    neutral = base.preprocess([open_image(faces.loc[face, "path"]) for face in shows["reference"]])
    vectors = base.represent(images)
    own = None if isinstance(base, GCNet) else generator
    found = {
        "itself": torch.nn.functional.normalize(vectors, dim=1),
        "real neutral face": contrastive_delta(vectors, base.represent(neutral)),
        "mean of the person": ContrastiveEmbedder(base, "subject_mean").embed(images, subjects=list(shows["subject"])),
        "generated face": ContrastiveEmbedder(base, "generated", own).embed(images),
    }
    return {name: values.numpy() for name, values in found.items()}


def contrast(bench: Bench, jaffe: FaceTable | None = None) -> list[Section]:
    """Measure identity leak and expression accuracy of the packaged model, and of GCNet, against each reference."""
    store = bench.work / "all.parquet"
    labelled = bench.faces[bench.faces["expression"].notna()]
    FaceTable(pd.DataFrame(labelled).assign(split="train")).write_parquet(store)
    gcnet = trained(recipe_for(bench.base, "GCNet S1R1", CLASSES[7], store, bench.seeds[0]))
    if not isinstance(gcnet, GCNet):
        raise TypeError("the recipe's model is no GCNet")
    subtle = shown(rendered_sequences(bench.work / "contrast", PEOPLE, SEED), "subtle")
    words = f"rendered sequences of {PEOPLE} other people, frames at 13 to 42 % of the apex"
    sets = {words: subtle} | ({} if jaffe is None else {"six people of JAFFE, cropped by this library": jaffe})
    return [_section(name, pd.DataFrame(faces), gcnet, bench) for name, faces in sets.items()]


def _section(words: str, faces: pd.DataFrame, gcnet: GCNet, bench: Bench) -> Section:
    shows, rows = faces[faces["expression"] != "neutral"], []
    for name, base in (("FECNet-16d, packaged", load_model()), ("GCNet S1R1, code", gcnet)):
        for kind, vectors in deltas(base, faces, gcnet).items():
            against = kind if kind == "itself" else f"delta against the {kind}"
            rows.append(Row(f"{name}: {against}", scores(vectors, shows), {}, len(shows), len(shows)))
    return Section(
        f"The delta of any embedder: {words.partition(',')[0]}",
        f"{words}; GCNet was trained on {bench.words}",
        COLUMNS,
        rows,
        unit="%",
        notes=[
            "Not in the paper. Neighbours are of other people only; the leak counts a nearest face of the same person with another expression.",
            "The mean of a person is over that person's faces in the test, as an album gives them, without their labels.",
            "The generated face comes from GCNet S1R1 of this run: grey, equalised, 32 pixels, which FECNet was not trained on.",
        ],
    )
