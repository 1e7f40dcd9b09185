"""The main job as a user runs it: index CelebA's aligned photos, search them, and count smiles among the nearest.

Runs the launcher in processes of its own, so that time and memory are the whole job's: start, reading, cropping,
embedding, building and saving.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from exprembed.cli import script
from exprembed.data import read_celeba
from exprembed.errors import BadInputError
from exprembed.report import Report, Row, Section

LAUNCHER = Path(__file__).resolve().parents[1] / "tools" / "index.py"


def launch(*words: str) -> dict[str, Any]:
    """Run tools/index.py with --json and return its document; exit code 1 (items skipped) is an answer too."""
    done = subprocess.run(  # noqa: S603 - our own launcher, no shell
        [sys.executable, str(LAUNCHER), *words, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        raise BadInputError(f"tools/index.py {words[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return dict(json.loads(done.stdout))


def run(
    data: Path, attribute: str = "Smiling", queries: int = 500, k: int = 10, seed: int = 0, threads: int = 2
) -> Report:
    """Build the index in a temporary folder, search it for random items, and score the attribute among their nearest."""
    faces = read_celeba(data)
    column = f"attr_{attribute}"
    if column not in faces:
        raise BadInputError(f"{data} has no attribute {attribute!r}")
    with tempfile.TemporaryDirectory() as place:
        index = str(Path(place) / "celeba.index")
        built = launch("build", str(data), "--dataset", "celeba", "--out", index, "--threads", str(threads))
        chosen = np.random.default_rng(seed).choice(faces.index.to_numpy(), queries, replace=False)
        found = launch("search", index, *map(str, chosen), "-k", str(k), "--threads", str(threads))
    truth = faces[column].astype(bool)
    hits = {one["query"]: [truth[hit["id"]] for hit in one["hits"]] for one in found["results"]}
    smiling = [share for name, share in hits.items() if truth[name]]
    serious = [[not value for value in share] for name, share in hits.items() if not truth[name]]
    rate = float(truth.mean())
    job = Section(
        f"tools/index.py build over CelebA, {threads} threads",
        f"CelebA, the first {len(faces):,} aligned images at half size (89 x 109)",
        ("wall time, s", "with start, s", "images a second", "peak memory, MiB"),
        [
            Row(
                "crop by shared eye centres, embed, build, save",
                {
                    "wall time, s": built["seconds"],
                    "with start, s": built["seconds_with_start"],
                    "images a second": built["images_per_second"],
                    "peak memory, MiB": built["peak_memory_mib"],
                },
                n_used=built["items"],
                n_protocol=len(faces),
            )
        ],
    )
    columns = (f"precision@{k}, %", "base rate, %")
    rows = [
        Row(
            f"{attribute}: queries that do",
            {columns[0]: 100 * float(np.mean(smiling)), columns[1]: 100 * rate},
            n_used=len(smiling),
            n_protocol=int(truth.sum()),
        ),
        Row(
            f"{attribute}: queries that do not",
            {columns[0]: 100 * float(np.mean(serious)), columns[1]: 100 * (1 - rate)},
            n_used=len(serious),
            n_protocol=int((~truth).sum()),
        ),
    ]
    search = Section(
        f"Share of the {k} nearest that agree with the query on {attribute}",
        f"the same index; {queries} queries drawn with seed {seed}, each left out of its own result",
        columns,
        rows,
        notes=(f"Model: {built['model']}.", "CelebA was not trained on."),
    )
    return Report("An index of CelebA", [job, search], {"CelebA": "aligned images, half size"}, (seed,))


def main(
    data: Annotated[Path, typer.Option(help="CelebA in its official layout.")],
    out: Annotated[Path, typer.Option(help="Where report.md and report.json go.")],
    queries: Annotated[int, typer.Option(help="Queries drawn at random.")] = 500,
    threads: Annotated[int, typer.Option(help="CPU threads of the model.")] = 2,
) -> None:
    """Index CelebA with tools/index.py and count smiles among the nearest."""
    from rich.console import Console

    report = run(data, queries=queries, threads=threads)
    report.write(out)
    report.print(Console())


if __name__ == "__main__":
    script(main)()
