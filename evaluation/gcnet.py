"""GCNet (Kim et al., 2019): Tables II to VI, Figures 4 to 6, 8, 10 and 11, and the delta of other embedders.

On rendered sequences laid out as CK+, and on CK+, MMI or Oulu-CASIA where their folders are given:

    python -m evaluation.gcnet --out docs/results/gcnet --parts tables --parts figures
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from evaluation import gcnet_figures as figures
from evaluation._kept import Kept
from evaluation.gcnet_data import cropped_jaffe, left_out, pretraining_faces, rendered_sequences, shown
from evaluation.gcnet_protocol import METHODS, Numbers, cross_validate, measures, recipe_for
from exprembed.cli import script
from exprembed.data import FaceTable
from exprembed.errors import unknown_name
from exprembed.files import Skipped
from exprembed.models.gcnet import CLASSES
from exprembed.report import Report, Row, Section
from exprembed.training import Recipe, load_recipe, train

PARTS = ("tables", "figures", "generators", "sweep", "cross", "contrast")
NAMES = ("CNN", "GCNet S0R0", "GCNet S1R0", "GCNet S0R1", "GCNet S1R1")
PAPER = {
    "Table II": dict(zip(NAMES, (96.94, 97.08, 97.83, 97.53, 97.93), strict=True)),
    "Table III": dict(zip(NAMES, (95.47, 95.74, 96.75, 96.50, 97.28), strict=True)),
    "Table IV": dict(zip(NAMES, (77.68, 76.20, 78.86, 77.00, 81.53), strict=True)),
    "Table V": dict(zip(NAMES, (83.96, 84.65, 86.39, 85.83, 86.11), strict=True)),
}
COLUMNS = ("accuracy", "identity leak", "chance of the leak")
SWEEP = (0.0001, 0.001, 0.01, 0.1, 1.0)


@dataclass
class Bench:
    """What every part works with: the recipe, the seeds, the folds, and a place for rendered faces."""

    base: Recipe
    seeds: Sequence[int]
    folds: int
    work: Path
    subjects: int = 118
    data: str = "apex"
    say: Callable[[str], None] | None = None
    kept: Kept = field(default_factory=lambda: Kept(None))

    @property
    def faces(self) -> FaceTable:
        """The rendered sequences' neutral and labelled frames."""
        return shown(rendered_sequences(self.work / "sequences", self.subjects), self.data)

    @property
    def words(self) -> str:
        """The rendered data, in words."""
        strengths = {"apex": "87 to 100", "middle": "42 to 74", "subtle": "13 to 42"}[self.data]
        return (
            f"rendered sequences of {self.subjects} people, 7 expressions each, three frames at {strengths} % of the "
            f"apex; {self.base.model['backbone']}, {self.base.steps} steps of {self.base.sampler['batch_size']} faces"
        )


def table(
    bench: Bench, name: str, faces: FaceTable, classes: Sequence[str], words: str, methods: Sequence[str]
) -> Section:
    """Tables II to V: every method on ten folds of people."""
    found: dict[str, list[Numbers]] = {method: [] for method in methods}
    for fold, method, seed in itertools.product(range(bench.folds), methods, bench.seeds):
        found[method].append(_fold(bench, faces, classes, method, seed, fold))
    minutes = sum(result["seconds"] for results in found.values() for result in results) / 60
    rows = []
    for method, results in found.items():
        n = int(sum(result["n"] for result in results)) // len(bench.seeds)
        published = PAPER[name].get(method)
        paper = {} if published is None else {"accuracy": published}
        rows.append(Row(method, dict(zip(COLUMNS, measures(results), strict=True)), paper, n, n))
    sets = {
        "Table II": "CK+, 7 classes",
        "Table III": "CK+, 8 classes",
        "Table IV": "MMI, 6",
        "Table V": "Oulu-CASIA, 6",
    }
    return Section(
        f"{name}: {len(classes)} classes, {bench.folds} folds of people",
        words,
        COLUMNS,
        rows,
        paper_data=f"{sets[name]}, pre-trained on CASIA-WebFace, 300,000 iterations at 64 pixels",
        unit=f"%, mean ± standard deviation over {bench.folds} folds"
        + (f" and {len(bench.seeds)} seeds" if len(bench.seeds) > 1 else ""),
        notes=[
            f"Its {sum(map(len, found.values()))} trainings took {minutes:.1f} minutes in all, on {bench.base.threads or 'all'} thread(s) "
            f"beside other work; code of {', '.join(sorted(bench.kept.commits))}.",
            "Identity leak: how often a test face's nearest one shows the same person with another expression.",
            "No face of a test person is in its fold's training; settings were chosen on other rendered people.",
            *_verdict(found),
        ],
    )


def _fold(bench: Bench, faces: FaceTable, classes: Sequence[str], method: str, seed: int, fold: int) -> Numbers:
    """Train and test a method on one fold, unless that was kept."""

    def tested() -> Numbers:
        start = time.monotonic()
        one = cross_validate(faces, bench.base, classes, [method], [seed], bench.folds, [fold], bench.say)
        result = next(iter(one))[-1]
        return result.numbers | {"n": len(result.faces), "seconds": time.monotonic() - start}

    people = faces[["subject", "expression", "reference"]].fillna("").astype(str)
    digest = hashlib.sha256(people.to_csv().encode()).hexdigest()
    recipe = recipe_for(bench.base, method, classes, Path("fold.parquet"), seed).to_dict()
    return bench.kept.values([recipe, digest, bench.words, bench.folds, fold], tested)


def _verdict(found: Mapping[str, list[Numbers]]) -> list[str]:
    """Say how each GCNet S1R1 compares with the CNN, fold by fold."""
    if "CNN" not in found:
        return []
    cnn, cnn_leak, chance = measures(found["CNN"])
    lines = []
    for name in (name for name in found if name.startswith("GCNet S1R1")):
        ours, leak, _ = measures(found[name])
        gains = [a - b for a, b in zip(ours.values, cnn.values, strict=True)]
        spread = float(np.std(gains, ddof=1)) if len(gains) > 1 else float("nan")
        lines.append(
            f"{name} less CNN: {np.mean(gains):+.1f} points, standard deviation over trainings {spread:.1f}; the CNN's own is "
            f"{cnn.std:.1f}. Leak of its delta {leak.mean:.1f} %, of the CNN's feature {cnn_leak.mean:.1f} %: "
            f"{leak.mean / max(cnn_leak.mean, 1e-9):.2f} of it; above chance {leak.mean - chance.mean:.1f} and {cnn_leak.mean - chance.mean:.1f} points."
        )
    return lines


def generators(bench: Bench) -> Section:
    """Figure 8 (e): S1R1 by generator on one fold, without pre-training."""
    rows, drawn = [], {}
    for method in ("GCNet S1R1", "GCNet S1R1, VAE", "GCNet S1R1, DCGAN"):
        runs = cross_validate(bench.faces, bench.base, CLASSES[7], [method], bench.seeds, bench.folds, [0], bench.say)
        results = [result for _, _, _, result in runs]
        numbers = sum(parameter.numel() for parameter in results[0].model.parameters())
        found = measures([result.numbers for result in results])
        ours = dict(zip(COLUMNS, found, strict=True)) | {"parameters": numbers}
        generator = results[0].model.config["generator"]
        rows.append(Row(generator, ours, {}, len(results[0].faces), len(results[0].faces)))
        drawn[f"fig8-{generator}"] = figures.rebuilt(results[0].model, results[0].faces, f"Figure 8: S1R1, {generator}")
    return Section(
        "Figure 8: the generator",
        f"{bench.words}; the first of {bench.folds} folds",
        (*COLUMNS, "parameters"),
        rows,
        paper_data="CK+, one fold; the autoencoder a little above the VAE, the DCGAN below; 1.7 and 9.6 million parameters",
        unit="%",
        notes=["Trained without pre-training, as in the paper. 'vae' and 'dcgan' are a quarter as wide as DCGAN's."],
        figures=drawn,
    )


def sweep(bench: Bench) -> Section:
    """Figure 11: accuracy over lambda_S, folds 1 and 2 of ten."""
    rows, points = [], []
    for weight in SWEEP:
        base = copy.deepcopy(bench.base)
        base.objectives[0].options["lambda_contrastive"] = weight
        runs = cross_validate(
            bench.faces, base, CLASSES[7], ["GCNet S1R1"], bench.seeds[:1], bench.folds, [0, 1], bench.say
        )
        results = [result for _, _, _, result in runs]
        found = measures([result.numbers for result in results])
        n = sum(len(result.faces) for result in results)
        rows.append(Row(f"lambda_S = {weight:g}", dict(zip(COLUMNS, found, strict=True)), {}, n, n))
        points.append((found[0].mean, found[0].std))
    from exprembed.plots import sweep_curve

    means, spreads = zip(*points, strict=True)
    drawn = sweep_curve({"S1R1": (list(SWEEP), list(means), list(spreads))}, "lambda_S", "Figure 11")
    return Section(
        "Figure 11: the weight of the contrastive term",
        f"{bench.words}; the first two of {bench.folds} folds",
        COLUMNS,
        rows,
        paper_data="CK+, two folds: accuracy rises with the weight up to a point",
        unit="%, mean ± standard deviation over two folds",
        figures={"fig11": drawn},
    )


def run(
    bench: Bench,
    parts: Sequence[str],
    data: Path | None = None,
    real: Mapping[str, Path] | None = None,
    methods: Sequence[str] = tuple(METHODS),
) -> Report:
    """Make the chosen parts; `real` maps "ckplus", "mmi" and "oulu_casia" to their folders, `data` holds ferplus and jaffe."""
    for part in parts:
        if part not in PARTS:
            raise unknown_name("part", part, PARTS)
    from evaluation.gcnet_across import across
    from evaluation.gcnet_contrast import contrast

    sections: list[Section] = []
    if "tables" in parts:
        sections.append(table(bench, "Table II", bench.faces, CLASSES[7], bench.words, methods))
        sections += [_real(bench, name, path, methods) for name, path in (real or {}).items()]
    if "figures" in parts:
        sections.append(figures.section(bench, rendered_sequences(bench.work / "sequences", bench.subjects)))
    if "generators" in parts:
        sections.append(generators(bench))
    if "sweep" in parts:
        sections.append(sweep(bench))
    if "cross" in parts:
        sections += across(bench, data)
    if "contrast" in parts:
        faces = None if data is None else cropped_jaffe(data / "jaffe", bench.work / "jaffe", [])
        sections += contrast(bench, faces)
    setting = (
        f"optimiser {bench.base.optimizer}, rate {bench.base.learning_rate:g}, loss {bench.base.objectives[0].options}"
    )
    start = "other rendered people" if bench.base.init else "random weights"
    return Report(
        "GCNet: the contrastive delta",
        sections,
        {"setting": setting, "started from": start},
        tuple(bench.seeds),
    )


def _real(bench: Bench, name: str, path: Path, methods: Sequence[str]) -> Section:
    from exprembed.data.readers import READERS

    places = {
        "ckplus": ("Table II", 7),
        "ckplus8": ("Table III", 8),
        "mmi": ("Table IV", 6),
        "oulu_casia": ("Table V", 6),
    }
    where, count = places[name]
    skipped: list[Skipped] = []
    faces = READERS.get(name.removesuffix("8"))(path, skipped=skipped)
    words = f"{name}: {faces['sequence'].nunique()} sequences of {faces['subject'].nunique()} people, their last three frames"
    words += "".join(f". {line}" for line in left_out(skipped))
    return table(bench, where, faces, CLASSES[count], words, methods)


def pretrained(work: Path, base: Recipe) -> Path:
    """Train what GCNet starts from on rendered people whom no other part shows, once; return its weights."""
    name = "gcnet-pretrain-small"
    weights = work / "pretraining" / f"{name}.safetensors"
    if not weights.is_file():
        faces = pretraining_faces(work / "people")
        recipe = load_recipe(
            name, [f"data.path={faces}", "data.dataset=table", "data.split=train", f"threads={base.threads or 'null'}"]
        )
        recipe.model["backbone"] = base.model["backbone"]
        train(recipe, weights.parent, progress=False)
    return weights


def main(
    out: Annotated[Path, typer.Option(help="Where report.md, report.json and the pictures go.")],
    parts: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(PARTS)}; default: all.")] = None,
    recipe: Annotated[str, typer.Option(help="The recipe of S1R1; the others follow from it.")] = "gcnet-small",
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 1,
    folds: Annotated[int, typer.Option(help="Folds of people.")] = 10,
    subjects: Annotated[int, typer.Option(help="Rendered people.")] = 118,
    shows: Annotated[str, typer.Option(help="Labelled frames: apex, middle or subtle.")] = "middle",
    methods: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(METHODS)}; default: all.")] = None,
    work: Annotated[Path | None, typer.Option(help="Where rendered faces and finished folds are kept.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with ferplus and jaffe, for the part cross.")] = None,
    ckplus: Annotated[Path | None, typer.Option(help="CK+ in its official layout: Tables II and III on it.")] = None,
    mmi: Annotated[Path | None, typer.Option(help="MMI: Table IV.")] = None,
    oulu_casia: Annotated[Path | None, typer.Option(help="Oulu-CASIA: Table V.")] = None,
    pretrain: Annotated[bool, typer.Option(help="Start from pre-training on other rendered people.")] = False,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Overrides of the recipe, key=value.")] = None,
) -> None:
    """Redo GCNet's tables and figures."""
    from rich.console import Console

    console = Console()
    for method in methods or ():
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
    given: dict[str, Any] = {"ckplus": ckplus, "ckplus8": ckplus, "mmi": mmi, "oulu_casia": oulu_casia}
    real = {name: path for name, path in given.items() if path is not None}
    with tempfile.TemporaryDirectory() as folder:
        place = work or Path(folder)
        base = load_recipe(recipe, ["init=null", *(sets or [])])
        if pretrain:
            base.init = str(pretrained(place, base))
        bench = Bench(
            base,
            range(seeds),
            folds,
            place,
            subjects,
            shows,
            lambda line: console.print(line, highlight=False),
            Kept(work and work / "kept"),
        )
        report = run(bench, parts or PARTS, data, real, methods or tuple(METHODS))
    report.write(out)
    report.print(console)


if __name__ == "__main__":
    script(main)()
