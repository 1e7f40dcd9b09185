"""Time and memory of reading a FEC file of the published size, beside what one would use instead.

A file is generated first: 500,000 rows of 6 raters (1 % have more), 156,000 faces in 130,000 photos. Each reading runs
in a process of its own; the time is that of the call, without imports.

    python benchmarks/read_fec.py --out docs/results/read_fec
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._measured import Measured, in_a_process, measured, show, tell
from exprembed.cli import script
from exprembed.report import Row, Section

TYPES = ("ONE_CLASS_TRIPLET", "TWO_CLASS_TRIPLET", "THREE_CLASS_TRIPLET")


def generate(path: Path, rows: int, n_faces: int, seed: int = 0) -> None:
    """Write a file with the field lengths of the real one: photo URLs, six decimals, raters numbered to forty."""
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.random((n_faces, 2, 2)), axis=2) * 0.99 + [0.0, 0.01]
    photo = rng.integers(n_faces * 5 // 6, size=n_faces).tolist()
    faces = []
    for k, ((left, right), (top, bottom)) in zip(photo, edges.tolist(), strict=True):
        name = f"{k % 8999 + 1000}/{k * 31337 % 10**10:010d}_{k * 2654435761 % 2**40:010x}_b.jpg"
        faces.append(f"http://farm{k % 9 + 1}.staticflickr.com/{name},{left:.6g},{right:.6g},{top:.6g},{bottom:.6g}")
    first = rng.integers(n_faces, size=rows)
    triples = np.column_stack(
        [first, first + 1 + rng.integers(1000, size=rows), first - 1 - rng.integers(1000, size=rows)]
    )
    raters = np.where(rng.random(rows) < 0.01, 8, 6).tolist()
    pairs = [[f"rater_{rater},{answer}" for answer in (1, 2, 3)] for rater in range(40)]
    who, answers = rng.integers(40, size=(rows, 8)).tolist(), rng.integers(3, size=(rows, 8)).tolist()
    kinds = rng.integers(3, size=rows).tolist()
    with path.open("w") as out:
        for row, triple in enumerate((triples % n_faces).tolist()):
            votes = [pairs[w][a] for w, a in zip(who[row][: raters[row]], answers[row][: raters[row]], strict=True)]
            out.write(",".join([*(faces[face] for face in triple), TYPES[kinds[row]], *votes]) + "\n")


def with_exprembed(path: Path) -> int:
    """Faces and triplets, checked."""
    from exprembed.data.readers.fec import read_fec

    return len(read_fec(path)[0])


def votes_with_exprembed(path: Path) -> int:
    """The single answers."""
    from exprembed.data.readers.fec import read_fec_votes

    return len(read_fec_votes(path))


def with_csv_module(path: Path) -> int:
    """The plain loop: faces by (URL, box), votes counted, nothing checked, no table built."""
    faces: dict[tuple[str, ...], int] = {}
    triplets = []
    with path.open(newline="") as source:
        for row in csv.reader(source):
            triple = [faces.setdefault(tuple(row[k : k + 5]), len(faces)) for k in (0, 5, 10)]
            answers = row[17::2]
            triplets.append((*triple, row[15], *(answers.count(answer) for answer in "123")))
    return len(faces)


def with_pandas(path: Path) -> int:
    """Only the parsing, into 32 columns; faces and votes are still to be made of it."""
    import pandas as pd

    return len(pd.read_csv(path, header=None, names=range(32)))


READINGS: dict[str, Callable[[Path], int]] = {
    "exprembed.read_fec": with_exprembed,
    "exprembed.read_fec_votes": votes_with_exprembed,
    "csv module loop (unchecked)": with_csv_module,
    "pandas.read_csv (parsing only)": with_pandas,
}


def one(name: str, path: str) -> Measured:
    """Run one reading in this process."""
    import pandas  # noqa: F401 - imports are not what is timed

    import exprembed.data.readers.fec  # noqa: F401

    return measured(lambda: READINGS[name](Path(path)))


def main(
    out: Annotated[Path | None, typer.Option(help="Folder for report.md and report.json.")] = None,
    rows: Annotated[int, typer.Option(help="Triplets in the file.")] = 500_000,
    faces: Annotated[int, typer.Option(help="Faces in the file.")] = 156_000,
    repeats: Annotated[int, typer.Option(help="Runs of each, in turns; the table has medians.")] = 3,
    job: Annotated[str | None, typer.Option("--one", hidden=True)] = None,
) -> None:
    """Generate the file, measure every reading, print the table, and write it with --out."""
    if job is not None:
        show(one(*json.loads(job)))
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generated.csv"
        generate(path, rows, faces)
        runs: dict[str, list[Measured]] = {name: [] for name in READINGS}
        for name in track([name for _ in range(repeats) for name in READINGS], "Reading", console=Console(stderr=True)):
            runs[name].append(in_a_process(__file__, [name, str(path)]))
        size = path.stat().st_size / 1e6
    columns = ("wall, s", "CPU, s", "memory, MiB")
    lines = []
    for name, found in runs.items():
        values = [statistics.median(getattr(run, what) for run in found) for what in ("wall", "cpu", "memory")]
        lines.append(Row(name, dict(zip(columns, values, strict=True))))
    data = f"a generated file of {rows:,} rows and {faces:,} faces, {size:.0f} MB, as long as the published one"
    notes = ["Bars for read_fec: 10 s, 2 GB.", "Memory is what the peak rises by after imports."]
    tell("Reading FEC's CSV", [Section("Reading", data, columns, lines, decimals=2, notes=notes)], out, load)


if __name__ == "__main__":
    script(main)()
