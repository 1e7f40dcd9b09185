"""Time of drawing faces: seconds of one core for a thousand, at several sizes.

python benchmarks/drawn_faces.py --out docs/results/drawn_faces
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_NUM_THREADS", "1")

import typer
from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._measured import tell
from exprembed.cli import script
from exprembed.data.synthetic import render_faces
from exprembed.report import Row, Section

SIZES = (48, 112, 224)


def main(
    out: Annotated[Path | None, typer.Option(help="Folder for report.md and report.json.")] = None,
    faces: Annotated[int, typer.Option(help="Faces drawn at a time.")] = 1000,
    repeats: Annotated[int, typer.Option(help="Runs at each size, in turns; the table has medians.")] = 5,
) -> None:
    """Draw, print the table, and write it with --out."""
    render_faces(5, subjects=2, seed=0)
    times: dict[int, list[tuple[float, float]]] = {size: [] for size in SIZES}
    load = os.getloadavg()[0]
    for size in track([size for _ in range(repeats) for size in SIZES], "Drawing", console=Console(stderr=True)):
        wall, cpu = time.perf_counter(), time.process_time()
        render_faces(faces, subjects=max(1, faces // 10), seed=0, size=size)
        times[size].append((time.perf_counter() - wall, time.process_time() - cpu))
    columns = ("wall, s", "CPU, s", "bar, s")
    rows = []
    for size, found in times.items():
        wall, cpu = (statistics.median(run[place] for run in found) for place in (0, 1))
        rows.append(Row(f"{size} x {size}", {"wall, s": wall, "CPU, s": cpu, "bar, s": 5.0 if size == 112 else None}))
    section = Section(
        f"Drawing {faces:,} faces", f"{max(1, faces // 10):,} subjects, seed 0", columns, rows, decimals=2
    )
    tell("Speed of drawing faces", [section], out, load, threads=1)


if __name__ == "__main__":
    script(main)()
