"""GCNet's protocol: ten folds of people, each method trained on nine of them with the same batches and tested on the tenth."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from exprembed.data import FaceTable, subject_folds
from exprembed.data.images import open_image
from exprembed.errors import BadInputError
from exprembed.metrics import identity_leak
from exprembed.models.base import Embedder, evaluation_mode
from exprembed.report import Measure
from exprembed.training import Recipe, train
from exprembed.training.recipe import ObjectivePlan

# Method -> model and its own arguments; the paper's rows, its two baselines, and its best row with the other generators.
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "CNN": ("baseline_cnn", {}),
    "metric-learning CNN": ("metric_cnn", {}),
    "GCNet S0R0": ("gcnet", {"variant": "S0R0"}),
    "GCNet S1R0": ("gcnet", {"variant": "S1R0"}),
    "GCNet S0R1": ("gcnet", {"variant": "S0R1"}),
    "GCNet S1R1": ("gcnet", {"variant": "S1R1"}),
    "GCNet S1R1, VAE": ("gcnet", {"variant": "S1R1", "generator": "vae", "generator_width": 16}),
    "GCNet S1R1, DCGAN": ("gcnet", {"variant": "S1R1", "generator": "dcgan", "generator_width": 16}),
}
_MEASURED = ("accuracy", "leak", "chance")
Numbers = dict[str, float]
_GCNET_ALONE = ("variant", "generator", "generator_width", "latent")


@dataclass(frozen=True)
class Tested:
    """What one trained model gave for the faces of its test fold.

    Attributes:
        accuracy: share of right classes, in [0, 1].
        leak: share of faces whose nearest test face, by the model's vectors, is of the same person with another
            expression; `chance` is its expectation for vectors that know nothing.
        faces: the test faces, `vectors` (n, d) theirs, `predicted` (n,) their classes.
        model: the trained model.
    """

    accuracy: float
    leak: float
    chance: float
    faces: pd.DataFrame
    vectors: np.ndarray
    predicted: np.ndarray
    model: Embedder

    @property
    def numbers(self) -> Numbers:
        """Accuracy, leak and its chance."""
        return {name: getattr(self, name) for name in _MEASURED}


def measures(results: Sequence[Numbers]) -> list[Measure]:
    """Return accuracy, leak and its chance over folds and seeds, in %."""
    return [Measure(tuple(100 * result[name] for result in results)) for name in _MEASURED]


def recipe_for(base: Recipe, method: str, classes: Sequence[str], table: Path, seed: int) -> Recipe:
    """Return the recipe of one method: the base, on the training faces of a table.

    Every method reads the same batches, references included; the baseline CNN's loss alone has no use for them. The
    faster classifier is for the delta, whose numbers are small; a code's are not.

    Args:
        base: `gcnet-small` or another recipe for GCNet.
        method: one of METHODS.
        classes: the classes, in order.
        table: a FaceTable (.parquet) with the split "train".
        seed: of everything that is drawn.
    """
    name, arguments = METHODS[method]
    recipe = copy.deepcopy(base)
    kept = {key: value for key, value in recipe.model.items() if key not in ("name", "num_classes", *_GCNET_ALONE)}
    own = {key: recipe.model[key] for key in _GCNET_ALONE if key in recipe.model} | arguments
    recipe.model = {"name": name, **kept, "classes": list(classes), **(own if arguments else {})}
    if not arguments:
        recipe.learning_rates = {}
    if name == "baseline_cnn":
        recipe.objectives = [ObjectivePlan("focal", "logits", "labels", options={"gamma": 0.0})]
    recipe.seed = seed
    recipe.data.dataset, recipe.data.path, recipe.data.split = "table", str(table), "train"
    return recipe


def trained(recipe: Recipe) -> Embedder:
    """Train in a folder that is thrown away."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        return train(recipe, folder, progress=False).model


def outputs(model: Embedder, faces: pd.DataFrame, batch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors (n, d) and class scores (n, C) of the faces' files."""
    vectors, scores = [], []
    with evaluation_mode(model), torch.inference_mode():
        for start in range(0, len(faces), batch_size):
            images = model.preprocess([open_image(path) for path in faces["path"].iloc[start : start + batch_size]])
            output = model(images)
            vectors.append(output.embedding)
            scores.append(output.logits)
    return torch.cat(vectors).numpy(), torch.cat(scores).numpy()


def score(model: Embedder, faces: pd.DataFrame) -> Tested:
    """Score a model on the faces of its classes."""
    known = faces[faces["expression"].isin(model.classes)]
    if known.empty:
        raise BadInputError(f"none of the {len(faces)} faces has one of the classes {', '.join(model.classes)}")
    vectors, scores = outputs(model, known)
    predicted = np.asarray(model.classes)[scores.argmax(axis=1)]
    right = float((predicted == known["expression"].to_numpy(str)).mean())
    leak = chance = float("nan")
    if "subject" in known and len(set(known["subject"])) > 1:
        found = identity_leak(vectors, known["subject"].to_numpy(), known["expression"].to_numpy())
        leak, chance = found.leak, found.chance
    return Tested(right, leak, chance, known, vectors, predicted, model)


def cross_validate(
    faces: FaceTable,
    base: Recipe,
    classes: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int] = (0,),
    folds: int = 10,
    only: Sequence[int] | None = None,
    done: Callable[[str], None] | None = None,
) -> Iterator[tuple[str, int, int, Tested]]:
    """Train and test each method on each fold of people; yields method, seed, fold and result.

    Folds are `subject_folds` (section IV.B); each fold is also written as a table that holds its training people alone,
    so that no test person is ever read by what trains on it.

    Args:
        faces: with `subject`, `expression` and `reference`.
        base: see `recipe_for`.
        classes: the classes; faces of no class serve as references alone.
        methods: some of METHODS.
        seeds: each trains everything anew.
        folds: how many.
        only: these folds alone; None for all.
        done: called with a line of text after each training.
    """
    labelled = pd.DataFrame(faces[faces["expression"].notna()])
    place = subject_folds(labelled["subject"], folds)
    with tempfile.TemporaryDirectory() as folder:
        for fold in range(folds) if only is None else only:
            table = Path(folder) / f"{fold}.parquet"
            FaceTable(labelled[place != fold].assign(split="train")).write_parquet(table)
            for method in methods:
                for seed in seeds:
                    model = trained(recipe_for(base, method, classes, table, seed))
                    result = score(model, labelled[place == fold])
                    if done:
                        done(
                            f"{method}, fold {fold}, seed {seed}: {100 * result.accuracy:.1f} %, leak {100 * result.leak:.1f} %"
                        )
                    yield method, seed, fold, result
