"""Thesis Tables 6.1 to 6.3: single-task, multi-task and Emotion-GCN on the same faces and batches, and its vectors and depth.

All rows train the network of `emotion-gcn-small` end to end in memory; only the graph and the objectives differ. Without a
graph the nine vectors are free parameters (`word_vectors` and `adjacency` the identity, one layer).
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
import typer

from evaluation._common import percent
from evaluation.metric_losses import Split, split_faces, synthetic_faces
from exprembed.data import FaceTable
from exprembed.data.loading import load_pixels
from exprembed.metrics import concordance_cc, mean_class_accuracy
from exprembed.models.emotion_gcn import DIMENSIONS, SEVEN, emotion_adjacency
from exprembed.report import Measure, Report, Row, Section
from exprembed.training import Recipe, fit, load_recipe
from exprembed.training.run import build_model

COLUMNS = ("accuracy", "CCC-V", "CCC-A")
FREE: Mapping[str, Any] = {"word_vectors": np.eye(9).tolist(), "adjacency": np.eye(9).tolist(), "layers": 1}


@dataclass(frozen=True)
class Trial:
    """A row: what of the recipe's model it changes, which outputs it trains, and what the thesis prints on AffectNet."""

    model: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[str] = ("logits", "valence_arousal")
    published: Mapping[str, float] = field(default_factory=dict)


TRIALS: Mapping[str, Trial] = {
    "single-task, classes": Trial(FREE, ("logits",), {"accuracy": 64.37}),
    "single-task, valence and arousal": Trial(FREE, ("valence_arousal",), {"CCC-V": 76.1, "CCC-A": 62.8}),
    "multi-task + CCC": Trial(FREE, published={"accuracy": 65.69, "CCC-V": 76.8, "CCC-A": 65.1}),
    "Emotion-GCN": Trial(published={"accuracy": 66.46, "CCC-V": 76.7, "CCC-A": 64.9}),
    "Emotion-GCN, one-hot vectors": Trial({"word_vectors": np.eye(9).tolist()}),
    "Emotion-GCN, random vectors": Trial({"word_vectors": np.random.default_rng(0).normal(size=(9, 300)).tolist()}),
    "Emotion-GCN, one layer": Trial({"layers": 1}, published={"accuracy": 53.71}),
    "Emotion-GCN, three layers": Trial({"layers": 3}, published={"accuracy": 64.74}),
}


def train_and_score(
    recipe: Recipe, trial: Trial, adjacency: np.ndarray, split: Split, pixels: np.ndarray, scored: np.ndarray
) -> dict[str, float]:
    """Train one row with the recipe's seed; return those scores that its objectives aim at, in [-1, 1].

    Args:
        recipe: the common recipe, with the row's seed.
        trial: the row.
        adjacency: the training faces' own, which a row may replace.
        split: training and scored faces.
        pixels: (n, C, S, S) uint8 crops of the training faces.
        scored: likewise of the scored faces.
    """
    own = copy.deepcopy(recipe)
    own.model = {**recipe.model, "adjacency": adjacency.tolist(), **trial.model}
    own.objectives = [plan for plan in recipe.objectives if plan.input in trial.outputs]
    torch.manual_seed(own.seed)
    model = build_model(own)
    fit(model, own, pixels, split.train)
    with torch.no_grad():
        parts = [model(model.prepare(block)) for block in torch.split(torch.from_numpy(scored), 256)]
    scores = {}
    if "logits" in trial.outputs:
        logits = torch.cat([part.logits for part in parts if part.logits is not None])
        named = np.asarray(model.classes)[logits.argmax(dim=1).numpy()]
        scores["accuracy"] = mean_class_accuracy(split.test["expression"].to_numpy(str), named)
    if "valence_arousal" in trial.outputs:
        felt = torch.cat([part.valence_arousal for part in parts if part.valence_arousal is not None]).numpy()
        for name, column, values in zip(COLUMNS[1:], DIMENSIONS, felt.T, strict=True):
            scores[name] = concordance_cc(split.test[column], values)
    return scores


def run(split: Split, base: Recipe, seeds: Sequence[int] = (0, 1, 2), trials: Mapping[str, Trial] = TRIALS) -> Report:
    """Train and score every row with every seed; the rows of a seed see the same batches."""
    from rich.progress import track

    size, channels = (getattr(build_model(base).preprocessing, name) for name in ("size", "channels"))
    pixels, scored = (load_pixels(faces, size, channels) for faces in (split.train, split.test))
    adjacency = emotion_adjacency(split.train, base.model["tau"], base.model["p"])
    found: dict[str, list[dict[str, float]]] = {name: [] for name in trials}
    for seed, name in track([(seed, name) for seed in seeds for name in trials], "Training"):
        recipe = copy.deepcopy(base)
        recipe.seed = seed
        found[name].append(train_and_score(recipe, trials[name], adjacency, split, pixels, scored))
    measures = {name: _measures(entries) for name, entries in found.items()}
    faces = len(split.test)
    rows = [Row(name, measures[name], trial.published, faces, faces) for name, trial in trials.items()]
    section = Section(
        "Tables 6.1 to 6.3: single-task, multi-task, Emotion-GCN",
        split.words,
        COLUMNS,
        rows,
        paper_data="AffectNet, 7 classes, DenseNet-121 at 227 pixels",
        unit="mean class accuracy, %; CCC of valence and arousal, times 100",
        notes=(
            *_beaten(measures),
            "The adjacency is that of the training faces. One-hot and random vectors replace the built-in ones; random: 300 "
            "standard normal numbers a node, the same in all seeds.",
        ),
    )
    setting = f"{base.model['backbone']}, {base.steps:,} steps of {base.sampler['batch_size']} faces; recipe emotion-gcn-small"
    return Report("Emotion-GCN", [section], {"setting": setting, "protocol": "seven classes"}, tuple(seeds))


def _measures(entries: Sequence[Mapping[str, float]]) -> dict[str, Measure]:
    return {column: percent(entry[column] for entry in entries) for column in entries[0]}


def _beaten(measures: Mapping[str, Mapping[str, Measure]]) -> Iterable[str]:
    """Say by how much the multi-task rows differ from the single task in accuracy, beside the deviation over seeds."""
    single = measures.get("single-task, classes", {}).get("accuracy")
    for name in ("multi-task + CCC", "Emotion-GCN"):
        ours = measures.get(name, {}).get("accuracy")
        if single is not None and ours is not None:
            gain, deviation = ours.mean - single.mean, max(ours.std, single.std)
            verdict = "more than" if abs(gain) > deviation else "not more than"
            yield (
                f"{name} stands {abs(gain):.1f} points of accuracy {'above' if gain > 0 else 'below'} the single task: {verdict} "
                f"one deviation over seeds ({deviation:.1f})."
            )


def rendered_split(folder: Path, n: int) -> Split:
    """Render n faces as files in `folder`; contempt, which is none of the seven classes, is left out."""
    faces = synthetic_faces(folder, n)
    return split_faces(FaceTable(pd.DataFrame(faces[faces["expression"].isin(SEVEN)])), "rendered faces", [])


def main(
    out: Annotated[Path, typer.Option(help="Where report.md and report.json go.")],
    table: Annotated[Path | None, typer.Option(help="A FaceTable (.parquet) with splits, valence and arousal.")] = None,
    synthetic: Annotated[int, typer.Option(help="Rendered faces, where no table is given.")] = 3200,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 3,
    only: Annotated[list[str] | None, typer.Option(help="Rows to run; all without it.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Overrides of the recipe, key=value.")] = None,
) -> None:
    """Redo the thesis's comparison of single-task, multi-task and Emotion-GCN networks."""
    from rich.console import Console

    from exprembed.data import read_table
    from exprembed.errors import unknown_name

    for name in only or ():
        if name not in TRIALS:
            raise typer.BadParameter(str(unknown_name("row", name, TRIALS)))
    trials = {name: trial for name, trial in TRIALS.items() if not only or name in only}
    with tempfile.TemporaryDirectory() as folder:
        if table is None:
            split = rendered_split(Path(folder), synthetic)
        else:
            split = split_faces(read_table(table), table.stem, [])
        report = run(split, load_recipe("emotion-gcn-small", sets or []), range(seeds), trials)
    report.write(out)
    report.print(Console())


if __name__ == "__main__":
    typer.run(main)
