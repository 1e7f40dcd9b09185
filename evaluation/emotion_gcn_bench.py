"""Networks of the thesis's chapter 6: what each row trains, and what is kept of it, so that a run cut off goes on."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from evaluation._kept import Kept, Values
from evaluation.metric_losses import Split, split_faces, synthetic_faces
from exprembed.data import FaceTable, expected_valence_arousal, read_ferplus, subject_folds
from exprembed.data.holdout import held_out
from exprembed.data.loading import load_pixels
from exprembed.data.triplets import vote_distributions
from exprembed.files import Skipped
from exprembed.losses.va_histogram import VAHistogram
from exprembed.metrics import concordance_cc, mean_class_accuracy
from exprembed.models.emotion_gcn import (
    DIMENSIONS,
    SEVEN,
    GraphConvolutions,
    conditional_probabilities,
    emotion_adjacency,
    facs_vectors,
)
from exprembed.training import Recipe, fit
from exprembed.training.run import build_model

COLUMNS = ("accuracy", "CCC-V", "CCC-A")
FREE: Mapping[str, Any] = {"word_vectors": np.eye(9).tolist(), "adjacency": np.eye(9).tolist(), "layers": 1}
THESIS = {"tau": 0.1, "p": 0.7}  # of its Emotion-GCN; the recipe may have others
_FOLDS = 5  # a fifth of the training subjects is held out to choose on
_WATCHED = 1000  # training faces that are scored too
_LOST = 0.05  # a CCC below it says that nothing was learned


@dataclass(frozen=True)
class Rates:
    """A learning rate, and the factor on it for the graph's layers (without a graph: for the nine free vectors)."""

    rate: float = 1e-3
    graph: float = 1.0

    def __str__(self) -> str:
        """Name the pair, as tables do."""
        return f"{self.rate:g} x {self.graph:g}"


@dataclass(frozen=True)
class Trial:
    """A row: what of the common recipe it changes, and what the thesis prints for it on AffectNet.

    Attributes:
        model: arguments of the model.
        edges: arguments of `Bench.adjacency`; a row whose model has an adjacency of its own takes none.
        outputs: the outputs that it trains.
        regression: the loss of valence and arousal.
        rates: learning rates.
        published: column -> the thesis's number, in %.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    edges: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[str] = ("logits", "valence_arousal")
    regression: str = "ccc"
    rates: Rates = field(default_factory=Rates)
    published: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """What is kept of a trained network.

    Attributes:
        scores: by column, in [-1, 1]; "seen" is the accuracy on training faces, as they are.
        counts: (C, C) scored faces by class (rows) and by answer; zeros without classes.
        weights: (C + 2, D) classifiers and regressors.
        embedding: (n, D) of the scored faces.
    """

    scores: dict[str, float]
    counts: np.ndarray
    weights: np.ndarray
    embedding: np.ndarray


@dataclass(frozen=True)
class Bench:
    """Training and scored faces in memory, and the recipe that all rows share.

    Attributes:
        recipe: the common recipe.
        split: training and scored faces.
        pixels: (n, C, S, S) uint8 crops of the training faces.
        scored: likewise of the scored faces.
        kept: what was trained, by all that it depends on.
    """

    recipe: Recipe
    split: Split
    pixels: np.ndarray
    scored: np.ndarray
    kept: Kept = field(default_factory=lambda: Kept(None))

    @classmethod
    def of(cls, recipe: Recipe, split: Split, cache: Path | None = None) -> Bench:
        """Read the crops."""
        size, channels = (getattr(build_model(recipe).preprocessing, name) for name in ("size", "channels"))
        pixels, scored = (load_pixels(faces, size, channels) for faces in (split.train, split.test))
        return cls(recipe, split, pixels, scored, Kept(cache))

    def inner(self) -> Bench:
        """Return a bench that scores training faces of held-out subjects (without subjects: by content), to choose on."""
        faces = self.split.train
        held = subject_folds(faces["subject"], _FOLDS) == 0 if "subject" in faces else held_out(faces, 1 / _FOLDS)
        words = f"{int((~held).sum()):,} training faces, {int(held.sum()):,} others held out of them to choose on"
        split = Split("held out", words, FaceTable(faces[~held]), FaceTable(faces[held]), None)
        return Bench(self.recipe, split, self.pixels[~held], self.pixels[held], self.kept)

    def adjacency(self, between_classes: bool = False, **edges: Any) -> np.ndarray:  # noqa: ANN401
        """Return the training faces' adjacency, with the thesis's tau and p where `edges` name no others."""
        given = self.conditionals if between_classes else None
        return emotion_adjacency(self.split.train, conditionals=given, **{**THESIS, **edges})

    @cached_property
    def conditionals(self) -> np.ndarray:
        """How probable a class is given another: by votes, else by the soft labels of the thesis's section 3.4."""
        faces = self.split.train
        if any(str(column).startswith("votes_") for column in faces.columns):
            return conditional_probabilities(vote_distributions(faces)[list(SEVEN)])
        felt = faces[list(DIMENSIONS)].to_numpy(float)
        labels = faces["expression"].map({name: i for i, name in enumerate(SEVEN)}).to_numpy(int)
        return conditional_probabilities(VAHistogram(felt, labels, len(SEVEN))(torch.from_numpy(felt)).numpy())

    @cached_property
    def digest(self) -> str:
        """SHA-256 over crops and labels of both sides."""
        found = hashlib.sha256()
        for pixels, faces in ((self.pixels, self.split.train), (self.scored, self.split.test)):
            found.update(pixels.tobytes())
            found.update("\n".join(faces["expression"].astype(str)).encode())
            found.update(faces[list(DIMENSIONS)].to_numpy(float).tobytes())
        return found.hexdigest()

    def recipe_of(self, trial: Trial, seed: int, steps: int | None = None) -> Recipe:
        """Return the recipe of a row and seed; rows of a seed see the same batches."""
        own = copy.deepcopy(self.recipe)
        own.seed, own.steps = seed, steps or own.steps
        own.learning_rate, own.learning_rates = trial.rates.rate, {"graph.": trial.rates.graph}
        own.model = {**own.model, **THESIS, "adjacency": self.adjacency(**trial.edges).tolist(), **trial.model}
        own.objectives = [plan for plan in own.objectives if plan.input in trial.outputs]
        for plan in own.objectives:
            plan.loss = trial.regression if plan.input == "valence_arousal" else plan.loss
        return own

    def trained(self, trial: Trial, seed: int, steps: int | None = None) -> Trained:
        """Train a row with a seed and score it, unless that was kept."""
        recipe = self.recipe_of(trial, seed, steps)
        values = self.kept.values([recipe.to_dict(), self.digest], lambda: self._train(recipe))
        arrays = {name: values.pop(name) for name in ("counts", "weights", "embedding")}
        return Trained(values, **arrays)

    def _train(self, recipe: Recipe) -> Values:
        torch.manual_seed(recipe.seed)
        model = build_model(recipe)
        fit(model, recipe, self.pixels, self.split.train)
        classes, outputs = np.asarray(model.classes), {plan.input for plan in recipe.objectives}
        with torch.no_grad():
            weights = model.graph.weights().numpy()  # type: ignore[union-attr, operator]
        embedding = _embedded(model, self.scored)
        answers = embedding @ weights.T
        scores, counts = {}, np.zeros((len(classes), len(classes)), int)
        if "logits" in outputs:
            truth = self.split.test["expression"].to_numpy(str)
            named = classes[answers[:, :-2].argmax(axis=1)]
            scores["accuracy"] = mean_class_accuracy(truth, named)
            order = {name: i for i, name in enumerate(model.classes)}
            np.add.at(counts, tuple([order[name] for name in side] for side in (truth, named)), 1)
            some = np.linspace(0, len(self.pixels) - 1, min(_WATCHED, len(self.pixels))).astype(int)
            seen = classes[(_embedded(model, self.pixels[some]) @ weights[:-2].T).argmax(axis=1)]
            scores["seen"] = mean_class_accuracy(self.split.train["expression"].to_numpy(str)[some], seen)
        if "valence_arousal" in outputs:
            for name, column, values in zip(COLUMNS[1:], DIMENSIONS, answers[:, -2:].T, strict=True):
                scores[name] = concordance_cc(self.split.test[column], values)
        return {**scores, "counts": counts, "weights": weights, "embedding": embedding.astype(np.float16)}


def _embedded(model: Any, pixels: np.ndarray) -> np.ndarray:  # noqa: ANN401 - an Embedder
    blocks = torch.split(torch.from_numpy(pixels), 256)
    return np.concatenate([model.embed(model.prepare(block)).numpy() for block in blocks])


def seven_split(faces: FaceTable, name: str, skipped: list[Skipped]) -> Split:
    """Return training and scored faces of the seven classes; contempt is none of them."""
    return split_faces(FaceTable(pd.DataFrame(faces[faces["expression"].isin(SEVEN)])), name, skipped)


def rendered_split(folder: Path, n: int) -> Split:
    """Render n faces as files in `folder`."""
    return seven_split(synthetic_faces(folder, n), "rendered faces", [])


def ferplus_split(path: Path, skipped: list[Skipped]) -> Split:
    """Read FER+'s training and validation faces, valence and arousal expected from votes."""
    faces = pd.DataFrame(expected_valence_arousal(read_ferplus(path, skipped=skipped)))
    kept = faces["split"].isin(["train", "validation"])
    return seven_split(FaceTable(faces[kept]), "FER+ (training and validation split)", skipped)


def aim(scores: Mapping[str, float]) -> float:
    """Return what rates are chosen by: the mean of the accuracy and of the mean CCC, or the one that a row has.

    Example:
        >>> aim({"accuracy": 0.9, "CCC-V": 0.6, "CCC-A": 0.8}), aim({"accuracy": 0.9})
        (0.8, 0.9)
    """
    felt = [scores[name] for name in COLUMNS[1:] if name in scores]
    parts = [scores[name] for name in COLUMNS[:1] if name in scores] + ([float(np.mean(felt))] if felt else [])
    return float(np.mean(parts))


def cosines(weights: np.ndarray) -> np.ndarray:
    """Return the cosine similarity of vectors: (n, D) to (n, n)."""
    unit = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    table: np.ndarray = unit @ unit.T
    return table


def lost(runs: Mapping[str, Sequence[Trained]]) -> Iterator[str]:
    """Say which networks learned nothing of valence or arousal, and how far off their predictions lie."""
    for name, own in runs.items():
        for one in own:
            for row, column in enumerate(COLUMNS[1:], start=-2):
                if one.scores.get(column, 1.0) < _LOST:
                    guess = one.embedding.astype(np.float64) @ one.weights[row]
                    yield f"{name}, {column[-1]}: mean {guess.mean():.1f}, deviation {guess.std():.1f}"


def far_off(runs: Mapping[str, Sequence[Trained]]) -> Iterator[str]:
    """Say in one sentence what `lost` finds, and why that happens; nothing where nothing was lost."""
    if found := list(lost(runs)):
        yield (
            f"Lost, a CCC of about 0 ({'; '.join(found)}): predictions far outside [-1, 1]. Where predictions run against the truth, "
            "moving all of them away from it lowers the CCC loss, and far off hardly anything moves them (docs/losses/ccc.md)."
        )


def likeness(
    adjacency: np.ndarray, hidden: int, nodes: np.ndarray | None = None, width: int = 256, draws: int = 20
) -> float:
    """Return the mean cosine between classifiers of two classes as two layers start out from node vectors (None: built in).

    Example:
        >>> likeness(np.eye(9), 128) < likeness(np.full((9, 9), 1 / 9), 128)
        True
    """
    vectors = facs_vectors() if nodes is None else nodes
    pairs = np.triu_indices(len(SEVEN), 1)
    found = []
    for seed in range(draws):
        torch.manual_seed(seed)
        with torch.no_grad():
            found.append(cosines(GraphConvolutions(vectors, adjacency, [hidden, width])().numpy())[pairs].mean())
    return float(np.mean(found))
