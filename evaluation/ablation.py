"""What the training of the packaged model owes to each of its choices: one changed at a time, at about the same CPU time.

Short runs of `ferplus-softmax-small` with one override each, watched on the faces that a recipe holds out from its training
faces; FER+'s validation faces play no part, so that choosing by this table tunes nothing that is reported elsewhere.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_NUM_THREADS", "1")

import typer

from evaluation._common import percent
from exprembed.cli import script
from exprembed.report import Report, Row, Section
from exprembed.training import load_recipe, train

RECIPE = "ferplus-softmax-small"
COLUMNS = ("triplets", "steps", "CPU seconds")


@dataclass(frozen=True)
class Variant:
    """A row: overrides of the recipe, and as many steps as take about as long as the recipe's own."""

    overrides: Sequence[str]
    steps: int


VARIANTS: Mapping[str, Variant] = {
    "the recipe": Variant((), 1000),
    "AdamW": Variant(("optimizer=adamw", "learning_rate=0.003"), 1080),
    "float32": Variant(("trainer={precision: 32-true}",), 560),
    "ResNet of ten layers": Variant(("model.backbone=resnet10_grey48",), 910),
    "a third narrower": Variant(("model.backbone=vgg8_grey48",), 1470),
    "48 pixels from the start": Variant(("sizes={}",), 800),
    "32 pixels": Variant(("sizes={}", "model.image_size=32"), 1800),
    "no variation of the faces": Variant(
        (
            "augmentation={flip: 0, rotation: 0, scale: [1, 1], shift: 0, stretch: 0, blur: 0, tone: 0, noise: 0, erase: 0}",
        ),
        1100,
    ),
    "no rendered faces": Variant(("data.synthetic=0",), 1000),
}


def run(
    ferplus: Path,
    seeds: Sequence[int],
    variants: Mapping[str, Variant] = VARIANTS,
    shared: Sequence[str] = (),
    length: float = 1.0,
) -> Report:
    """Train every variant with every seed; `length` multiplies the steps, `shared` overrides all recipes alike."""
    from rich.progress import track

    scores: dict[str, list[float]] = {name: [] for name in variants}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    steps = {name: max(1, round(length * variant.steps)) for name, variant in variants.items()}
    faces = 0
    for seed, name in track([(seed, name) for seed in seeds for name in variants], "Training"):
        given = [f"data.path={ferplus}", f"seed={seed}", f"steps={steps[name]}", f"check_every={steps[name]}"]
        recipe = load_recipe(RECIPE, [*given, *variants[name].overrides, *shared])
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            result = train(recipe, folder, progress=False)
        seconds[name].append(time.process_time() - start)
        scores[name].append(float("nan") if result.watched is None else result.watched)
        faces = result.faces
    rows = [
        Row(
            name,
            {
                "triplets": percent(scores[name]),
                "steps": steps[name],
                "CPU seconds": sum(seconds[name]) / len(seconds[name]),
            },
        )
        for name in variants
    ]
    section = Section(
        "One choice changed at a time",
        f"FER+ training split: {faces:,} faces train, those held out by the recipe are scored",
        COLUMNS,
        rows,
        unit="triplet accuracy of the penultimate layer, cosine, %; CPU seconds with reading the data and scoring",
        notes=("Short runs: they favour what learns fast, and variation of the faces pays only in long ones.",),
    )
    return Report("Ablation of the training recipe", [section], {"recipe": RECIPE}, tuple(seeds))


def main(
    ferplus: Annotated[Path, typer.Option(help="FER+ in its official layout.")],
    out: Annotated[Path, typer.Option(help="Where report.md and report.json go.")],
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 1,
    length: Annotated[float, typer.Option(help="Factor on the steps of all rows.")] = 1.0,
    only: Annotated[list[str] | None, typer.Option(help="Rows to run; all without it.")] = None,
) -> None:
    """Train the recipe's variants for two minutes each and print what each choice is worth."""
    from rich.console import Console

    from exprembed.errors import unknown_name

    for name in only or ():
        if name not in VARIANTS:
            raise typer.BadParameter(str(unknown_name("row", name, VARIANTS)))
    chosen = {name: variant for name, variant in VARIANTS.items() if not only or name in only}
    report = run(ferplus, range(seeds), chosen, (), length)
    report.write(out)
    report.print(Console())


if __name__ == "__main__":
    script(main)()
