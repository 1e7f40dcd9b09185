"""Thesis Tables 3.1, 3.2 and 5.1 to 5.4: single-task and multi-task networks on the same faces and batches.

All rows train the network of `multitask-small` end to end in memory. Each trained row and seed is a cell, kept as a file
under its settings, so that a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
import typer

from evaluation._common import percent
from evaluation._kept import Kept, Values
from evaluation.emotion_gcn_bench import ferplus_split, seven_split
from evaluation.emotion_gcn_bench import rendered_split as full_split
from evaluation.gcnet_data import rendered_sequences, shown
from evaluation.metric_losses import Split
from evaluation.multitask_rows import MAIN, PRINTED_CCC, PRINTED_SINGLE, PRINTED_SVM, SINGLE, TABLES, TRIALS, Trial
from exprembed.cli import script
from exprembed.data import FaceTable
from exprembed.data.loading import load_pixels
from exprembed.errors import unknown_name
from exprembed.index import svm_classifier
from exprembed.metrics import concordance_cc, mean_class_accuracy
from exprembed.models.base import Embedder, EmbedderOutput
from exprembed.models.emotion_gcn import DIMENSIONS, SEVEN
from exprembed.plots import confusion_matrix_figure
from exprembed.report import Measure, Report, Row, Section
from exprembed.training import Recipe, fit, load_recipe
from exprembed.training.recipe import recipe_from_dict
from exprembed.training.run import build_model

COLUMNS = ("accuracy", "CCC-V", "CCC-A")
GAIN = "gain"  # in accuracy over the single task of the same seed
PICTURED = {"single task": "single-task", "CCC, classic": "ccc-classic", "Eight, concatenate": "eight-concatenate"}
SEQUENCE_SEED = 930_000
WORDS = {
    "middle": "rendered faces at 42, 58 and 74 % of an expression",
    "subtle": "rendered faces at 13, 26 and 42 % of an expression",
    "full": "rendered faces",
}


@dataclass
class Bench:
    """What all cells share: faces, the common recipe, and where cells are kept."""

    split: Split
    base: Recipe
    kept: Kept

    def __post_init__(self) -> None:
        self._pixels: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        columns = ["expression", "valence", "arousal"]
        digest = hashlib.sha256()
        for faces in (self.split.train, self.split.test):
            digest.update(pd.util.hash_pandas_object(faces[columns]).to_numpy().tobytes())
        self._faces = digest.hexdigest()

    def recipe(self, trial: Trial, seed: int) -> Recipe:
        """Return the recipe of a row and seed."""
        values = copy.deepcopy(self.base).to_dict()
        values["objectives"] = [dict(term) for term in trial.objectives]
        values["model"] |= trial.model
        values["sampler"] |= trial.sampler
        return replace(recipe_from_dict(values), seed=seed)

    def settings(self, trial: Trial, seed: int) -> list[Any]:
        """Return what a cell is a function of: its recipe and the faces, not the commit."""
        return [self.recipe(trial, seed).to_dict(), trial.svm, self._faces]

    def stored(self, trial: Trial, seeds: Sequence[int]) -> list[Values]:
        """Return the cells of a row that are kept, in the order of the seeds, up to the first that is not."""
        found = (self.kept.find(self.settings(trial, seed)) for seed in seeds)
        return [*itertools.takewhile(lambda cell: cell is not None, found)]  # type: ignore[list-item]

    def train(self, trial: Trial, seed: int) -> None:
        """Train and score a cell, and keep it; nothing is done where it is kept already."""
        self.kept.values(self.settings(trial, seed), lambda: self._train(trial, seed))

    def _train(self, trial: Trial, seed: int) -> Values:
        recipe = self.recipe(trial, seed)
        torch.manual_seed(seed)
        model = build_model(recipe)
        pixels, scored = self.pixels(model)
        fit(model, recipe, pixels, self.split.train)
        cell = scores(outputs(model, scored), model.classes, self.split.test)
        if trial.svm:
            vectors = [outputs(model, images).embedding.numpy() for images in (pixels, scored)]
            labels = [faces["expression"].to_numpy(str) for faces in (self.split.train, self.split.test)]
            machine = svm_classifier(balanced=True).fit(vectors[0], labels[0])
            cell["SVM"] = mean_class_accuracy(labels[1], machine.predict(vectors[1]))
        return cell

    def pixels(self, model: Embedder) -> tuple[np.ndarray, np.ndarray]:
        """Return training and scored faces as the model takes them."""
        key = model.preprocessing.size, model.preprocessing.channels
        if key not in self._pixels:
            self._pixels[key] = load_pixels(self.split.train, *key), load_pixels(self.split.test, *key)
        return self._pixels[key]


def outputs(model: Embedder, pixels: np.ndarray) -> EmbedderOutput:
    """Return embedding, logits and, where the model knows them, valence and arousal of all faces."""
    with torch.no_grad():
        found = [model.eval()(model.prepare(block)) for block in torch.split(torch.from_numpy(pixels), 256)]
    logits = torch.cat([one.logits for one in found if one.logits is not None])
    felt = [one.valence_arousal for one in found if one.valence_arousal is not None]
    return EmbedderOutput(torch.cat([one.embedding for one in found]), logits, torch.cat(felt) if felt else None)


def scores(output: EmbedderOutput, classes: Sequence[str], faces: FaceTable) -> Values:
    """Return mean class accuracy and CCCs in [-1, 1], and the confusion matrix, rows the truth."""
    if output.logits is None:
        raise TypeError("every row has a classifier")
    truth, guess = faces["expression"].to_numpy(str), np.asarray(classes)[output.logits.argmax(dim=1).numpy()]
    table = pd.crosstab(truth, guess).reindex(index=list(classes), columns=list(classes), fill_value=0)
    cell: Values = {"accuracy": mean_class_accuracy(truth, guess), "confusion": table.to_numpy()}
    if output.valence_arousal is not None:
        for name, column, values in zip(COLUMNS[1:], DIMENSIONS, output.valence_arousal.numpy().T, strict=True):
            cell[name] = concordance_cc(faces[column], values)
    return cell


def run(bench: Bench, seeds: Sequence[int] = (0, 1, 2), only: Iterable[str] | None = None) -> Report:
    """Train the cells that are due and not kept yet, seed by seed; report all that are kept.

    Args:
        bench: faces, recipe, kept cells.
        seeds: seeds of weights, batches and augmentation; the rows of a seed see the same batches.
        only: names of the rows to train; None for all, an empty list for none.
    """
    from rich.progress import track

    chosen = TRIALS if only is None else {name: TRIALS[name] for name in only}
    jobs = [(name, seed) for seed in seeds for name in chosen]
    for name, seed in track(jobs, "Training"):
        bench.train(chosen[name], seed)
    cells = {name: bench.stored(trial, seeds) for name, trial in TRIALS.items()}
    found = {name: _measures(own) for name, own in cells.items() if own}
    sections = [_section(bench, title, printed, found) for title, printed in TABLES.items()]
    sections.append(_svm_section(bench, found))
    figures = {
        f"confusion-{short}": confusion_matrix_figure(
            np.sum([cell["confusion"] for cell in cells[name]], axis=0), SEVEN, name
        )
        for name, short in PICTURED.items()
        if cells[name]
    }
    sections.append(
        Section(
            "Confusion matrices",
            bench.split.words,
            notes=("The seeds' matrices are added up; each row is 100 %.",),
            figures=figures,
        )
    )
    base = bench.base
    setting = (
        f"{base.model['backbone']}, {base.steps:,} steps of {base.sampler['batch_size']} faces; recipe multitask-small"
    )
    kept = [section for section in sections if section.rows or section.figures]
    facts = {"setting": setting, "protocol": "seven classes"}
    return Report("Multi-task networks", kept, facts | bench.kept.facts(), tuple(seeds))


def _measures(cells: Sequence[Values]) -> dict[str, Measure]:
    return {name: percent(cell[name] for cell in cells) for name in (*COLUMNS, "SVM") if name in cells[0]}


def _section(
    bench: Bench,
    title: str,
    printed: Mapping[str, float | None],
    found: Mapping[str, Mapping[str, Measure]],
) -> Section:
    rows, faces = [], len(bench.split.test)
    for name, accuracy in printed.items():
        if name in found:
            ours = {column: value for column, value in found[name].items() if column in COLUMNS}
            paper = {} if accuracy is None else {"accuracy": accuracy}
            if SINGLE in found and name != SINGLE:
                pairs = zip(ours["accuracy"].values, found[SINGLE]["accuracy"].values, strict=False)
                ours[GAIN] = Measure(tuple(own - single for own, single in pairs))
                paper |= {} if accuracy is None else {GAIN: accuracy - PRINTED_SINGLE}
            if name in PRINTED_CCC and title.startswith("Table 5.1"):
                paper |= dict(zip(COLUMNS[1:], PRINTED_CCC[name], strict=True))
            rows.append(Row(name, ours, paper, faces, faces, note=_seeds(ours["accuracy"])))
    return Section(
        title,
        bench.split.words,
        (*COLUMNS, GAIN),
        rows,
        paper_data="AffectNet, 7 classes, DenseNet-121 at 227 pixels",
        unit="mean class accuracy, %; CCC of valence and arousal, times 100; gain in accuracy over the single task of the same seed",
        notes=tuple(_notes(title, printed, found)),
    )


def _svm_section(bench: Bench, found: Mapping[str, Mapping[str, Measure]]) -> Section:
    rows, faces = [], len(bench.split.test)
    for name, (softmax, svm) in PRINTED_SVM.items():
        if "SVM" in found.get(name, {}):
            ours = {"softmax": found[name]["accuracy"], "SVM": found[name]["SVM"]}
            rows.append(Row(name, ours, {"softmax": softmax, "SVM": svm}, faces, faces, note=_seeds(ours["SVM"])))
    return Section(
        "Table 5.4: an SVM on the embeddings",
        bench.split.words,
        ("softmax", "SVM"),
        rows,
        paper_data="AffectNet, 7 classes, DenseNet-121 at 227 pixels",
        unit="mean class accuracy, %",
        notes=("Radial kernel, C = 1, classes weighed alike, embeddings standardised; the thesis names no kernel.",),
    )


def _seeds(measure: Measure) -> str:
    return f"{len(measure.values)} seed{'s' if len(measure.values) > 1 else ''}"


def _notes(
    title: str, printed: Mapping[str, float | None], found: Mapping[str, Mapping[str, Measure]]
) -> Iterable[str]:
    """Say what the rows are, and which of Table 5.1 stand beyond one deviation of the single task."""
    if title.startswith("Table 5.1") and SINGLE in found:
        base, apart = found[SINGLE]["accuracy"], []
        for name in printed:
            if name != SINGLE and name in found:
                ours = found[name]["accuracy"]
                deviation = np.nanmax([base.std, ours.std]) if len(ours.values) > 1 and len(base.values) > 1 else np.inf
                if abs(ours.mean - base.mean) > deviation:
                    apart.append(f"{name} ({ours.mean - base.mean:+.1f})")
        yield (
            "More than one deviation over seeds (the larger of the two) from the single task: "
            + (", ".join(apart) or "none")
            + "."
        )
        yield (
            "Where regions are classes, valence and arousal are the expectation of the regions' centres over their "
            "probabilities, which were not trained to be right in size."
        )
    if title.startswith("Table 5.2"):
        yield "Groups of age: five equal intervals. Classes of the first term, then of the second."


def rendered_split(folder: Path, which: str = "middle", subjects: int = 118) -> Split:
    """Render faces as files in `folder`: at full expression, or the neutral and some frames of sequences, which are harder.

    Contempt is none of the seven classes; the first frame of its sequence is as neutral as any other.
    """
    if which not in WORDS:
        raise unknown_name("kind of rendered faces", which, WORDS)
    if which == "full":
        return full_split(folder, 27 * subjects)
    return seven_split(shown(rendered_sequences(folder, subjects, SEQUENCE_SEED), which), WORDS[which], [])


def main(
    out: Annotated[Path, typer.Option(help="Where report.md, report.json and the pictures go.")],
    faces: Annotated[str, typer.Option(help="Faces to render, where none are given: middle, subtle, full.")] = "middle",
    ferplus: Annotated[Path | None, typer.Option(help="FER+ in its official layout.")] = None,
    table: Annotated[Path | None, typer.Option(help="A FaceTable (.parquet) with splits, valence and arousal.")] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 3,
    only: Annotated[
        list[str] | None, typer.Option(help="Rows to train; 'main' for the thesis's, 'none' to report what is kept.")
    ] = None,
    work: Annotated[Path | None, typer.Option(help="Folder that keeps rendered faces between runs.")] = None,
    cells: Annotated[Path | None, typer.Option(help="Folder of the cells; OUT/cells without it.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Overrides of the recipe, key=value.")] = None,
) -> None:
    """Redo the thesis's comparison of losses, second tasks, heads and samplers."""
    import logging

    from rich.console import Console

    from exprembed.data import read_table

    named = {"main": MAIN, "none": [], **{name: [name] for name in TRIALS}}
    for name in only or ():
        if name not in named:
            raise typer.BadParameter(str(unknown_name("row", name, named)))
    rows = None if not only else list(dict.fromkeys(row for name in only for row in named[name]))
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # it greets at each of many cells
    with tempfile.TemporaryDirectory() as folder:
        if ferplus is not None:
            split = ferplus_split(ferplus, [])
        elif table is not None:
            split = seven_split(read_table(table), table.stem, [])
        else:
            split = rendered_split(work or Path(folder), faces)
        bench = Bench(split, load_recipe("multitask-small", sets or []), Kept(cells or out / "cells"))
        report = run(bench, range(seeds), rows)
    report.write(out)
    report.print(Console())


if __name__ == "__main__":
    script(main)()
