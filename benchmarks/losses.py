"""Time and memory of the metric-learning losses, forward + backward, beside what one would use instead.

Beside each loss stand the plain Python loop, code on `torch.cdist` as tutorials have it, and the nearest relative in
pytorch-metric-learning (PML): the quickest with the same terms, where there is one (a loss without the pairs of centres is
no relative of one with them), else the quickest. All see the same embeddings, labels and triplets, on one thread, taking
turns (a few calls each, of which the first does not count), so that whatever else the machine does falls on all of them; the numbers are medians. On a CPU the time
is the process's own CPU time, which other programs do not add to; on a GPU it is wall time between two synchronisations.
Loop and cdist must give our value first, or the run ends.

Memory is what the peak of the process rises by during one forward + backward, in a process of its own (resident memory
on Linux), after inputs and loss exist and a tiny batch has gone through the same code.

    python benchmarks/losses.py --out docs/results/losses-speed
    python benchmarks/losses.py --quick
    python benchmarks/losses.py --batch 64 --dim 512 --classes 8 --seconds 1 --no-memory
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import torch
import typer
from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._contenders import Batch, Case, Contender, Size, cases
from benchmarks._measured import MIB, measured
from exprembed.cli import script
from exprembed.report import Report, Row, Section

BATCHES, DIMS, CLASSES, SUBCLASSES, TRIPLETS = (64, 512, 4096), (16, 512, 1024), (7, 8, 1000), (1, 10), (1, 10)
MOST, LEAST, LEAST_LOOP = 300, 5, 2
SHORT = 0.005  # seconds; below, the first call of a turn only warms the caches, or who follows its like is favoured
TIMES = ("ours, ms", "PML, ms", "ours / PML", "ours / PML, fewer terms", "cdist / ours", "loop / ours")

Times = dict[str, list[float]]


def clock(device: str) -> Callable[[], float]:
    """Return a clock: this process's CPU seconds, or seconds once the GPU has finished."""
    if device == "cpu":
        return time.process_time

    def finished() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return finished


def timed(contender: Contender, now: Callable[[], float]) -> float:
    """Return the seconds of one step."""
    start = now()
    contender.step()
    return now() - start


def taking_turns(contenders: dict[str, Contender], seconds: float, device: str) -> Times:
    """Time each contender until it has had its seconds and its least number of repeats, a few calls at a time in turns."""
    now = clock(device)
    times: Times = {name: [] for name in contenders}
    for name, contender in contenders.items():
        if not name.startswith("loop"):
            contender.step()
    running = dict(contenders)
    while running:
        for name, contender in list(running.items()):
            found = [timed(contender, now)]
            if found[0] < SHORT:
                found = [timed(contender, now) for _ in range(3)]
            times[name] += found
            least = LEAST_LOOP if name.startswith("loop") else LEAST
            if len(times[name]) >= MOST or (len(times[name]) >= least and sum(times[name]) >= seconds):
                del running[name]
    return times


def same_value(case: Case, batch: Batch) -> None:
    """Raise AssertionError where loop or cdist code is not the loss that it stands beside."""
    value = case.make().forward().detach()
    for other in (case.cdist, case.loop):
        if other is not None:
            torch.testing.assert_close(other().forward().detach(), value, rtol=1e-3, atol=1e-4, msg=case.loss)


def time_size(size: Size, device: str, seconds: float, with_triplets: bool) -> list[tuple[Case, Times]]:
    """Time all contenders at one size; relatives that several losses share run once."""
    batch = Batch(size, device)
    found = cases(batch, SUBCLASSES, TRIPLETS if with_triplets else ())
    contenders: dict[str, Contender] = {}
    for case in found:
        same_value(case, batch)
        made = {"ours": case.make, "cdist": case.cdist, "loop": case.loop}
        contenders |= {f"{kind} {case.loss} {case.detail}": make() for kind, make in made.items() if make is not None}
        relatives = {**case.pml, **case.same_terms}
        contenders |= {name: make() for name, make in relatives.items() if name not in contenders}
    times = taking_turns(contenders, seconds, device)
    return [(case, times) for case in found]


def row(case: Case, size: Size, times: Times) -> Row:
    """One line of a table; the note names the relative that counts, and says where ours is slower.

    Nearest is the quickest with all the terms of the loss, where there is one; else the quickest of what there is.
    """
    median = {name: statistics.median(values) for name, values in times.items()}
    ours = median[f"ours {case.loss} {case.detail}"]
    nearest = min(case.same_terms or case.pml, key=lambda name: median[name])
    values = {TIMES[0]: 1e3 * ours, TIMES[1]: 1e3 * median[nearest], TIMES[2]: ours / median[nearest]}
    if case.same_terms:
        values[TIMES[3]] = ours / min(median[name] for name in case.pml)
    values[TIMES[4]] = median[f"cdist {case.loss} {case.detail}"] / ours
    if case.loop is not None:
        values[TIMES[5]] = median[f"loop {case.loss} {case.detail}"] / ours
    notes = [f"PML: {nearest}"]
    notes += ["**slower than PML**"] if values[TIMES[2]] > 1 else []
    notes += ["slower than cdist code"] if values[TIMES[4]] < 1 else []
    notes += ["loop skipped"] if case.loop is None else []
    classes = "" if case.loss == "NoAnchorTripletLoss" else f", C {size.classes}"
    detail = f", {case.detail}" if case.detail else ""
    name = f"{case.loss}: B {size.batch}, D {size.dim}{classes}{detail}"
    return Row(name, values, note="; ".join(notes).replace("**", ""))


def sections_of(rows: Sequence[Row], device: str) -> list[Section]:
    """One table of where ours is slower, then one a loss."""
    data = "random unit vectors, seed 0"
    slower = sorted((line for line in rows if _number(line, TIMES[2]) > 1), key=lambda line: -_number(line, TIMES[2]))
    names = list(dict.fromkeys(line.name.partition(":")[0] for line in rows))
    groups = {name: [line for line in rows if line.name.startswith(f"{name}:")] for name in names}
    notes = []
    for name, lines in groups.items():
        ratios = [_number(line, TIMES[2]) for line in lines]
        count = sum(ratio > 1 for ratio in ratios)
        middle, most = statistics.median(ratios), max(ratios)
        notes.append(
            f"{name}: slower at {count} of {len(lines)} sizes; ours / PML median {middle:.2f}, most {most:.2f}."
        )
    first = Section(f"Where exprembed is slower than PML, {device}", data, TIMES, slower, decimals=2, notes=notes)
    return [first, *(Section(f"{name}, {device}", data, TIMES, lines, decimals=2) for name, lines in groups.items())]


def _number(line: Row, column: str) -> float:
    value = line.ours[column]
    return float(value) if isinstance(value, int | float) else float("nan")


# Memory -------------------------------------------------------------------------------------------------------------

# Where the array that must not be there would stand out: loss, detail, size, limit in MiB, and why so much.
BARS = (
    (
        "CenterLoss",
        "",
        Size(4096, 16, 10_000),
        12 * (4096 + 10_000) * 16 * 4 / MIB,
        "12 (B D + C D) floats; B C is 156",
    ),
    ("SubclassLoss", "K = 10", Size(4096, 16, 1000), 12 * 4096 * 10 * 16 * 4 / MIB, "12 B K D floats; B C K is 156"),
    ("SubclassLoss", "K = 10", Size(4096, 16, 8), 12 * 4096 * 10 * 16 * 4 / MIB, "12 B K D floats"),
    ("PairContrastiveLoss", "", Size(4096, 16, 8), 1e9 / MIB, "1 GB"),
    ("PairContrastiveLoss", "", Size(4096, 1024, 8), 1e9 / MIB, "1 GB"),
)


def peak(loss: str, detail: str, kind: str, size: Size) -> float:
    """Return by how many MiB the peak of this process rises in one forward + backward."""

    def ready(at: Size) -> Contender:
        triplets = TRIPLETS if loss == "NoAnchorTripletLoss" else ()
        case = next(
            case for case in cases(Batch(at, "cpu"), SUBCLASSES, triplets) if (case.loss, case.detail) == (loss, detail)
        )
        return {"ours": case.make, "cdist": case.cdist, "pml": next(iter(case.pml.values()))}[kind]()

    ready(Size(8, 4, 40)).step()
    ready(Size(8, 4, 3)).step()
    contender = ready(size)
    return measured(contender.step).memory


def memory_section(progress: Callable[[Iterable[tuple[str, ...]]], Iterable[tuple[str, ...]]]) -> Section:
    """Measure each bar's loss, its cdist code and its relative, each in a fresh process."""
    jobs = [(str(place), kind) for place in range(len(BARS)) for kind in ("ours", "cdist", "pml")]
    found: dict[tuple[str, ...], float] = {}
    for place, kind in progress(jobs):
        loss, detail, size, _, _ = BARS[int(place)]
        job = json.dumps([loss, detail, kind, size.batch, size.dim, size.classes])
        done = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, __file__, "--one", job], check=True, capture_output=True, text=True
        )
        found[place, kind] = float(done.stdout)
    columns = ("ours, MiB", "limit, MiB", "cdist, MiB", "PML, MiB")
    rows = []
    for place, (loss, detail, size, limit, why) in enumerate(BARS):
        ours, cdist, pml = (found[str(place), kind] for kind in ("ours", "cdist", "pml"))
        name = f"{loss}: B {size.batch}, D {size.dim}, C {size.classes}" + (f", {detail}" if detail else "")
        note = f"{'within' if ours <= limit else 'OVER'} the limit, {why}"
        rows.append(Row(name, dict(zip(columns, (ours, limit, cdist, pml), strict=True)), note=note))
    return Section("Memory that forward + backward add, CPU", "random unit vectors", columns, rows)


# ---------------------------------------------------------------------------------------------------------------------


def main(
    out: Annotated[Path | None, typer.Option(help="Folder for report.md and report.json.")] = None,
    quick: Annotated[bool, typer.Option(help="A small grid and few repeats.")] = False,
    batch: Annotated[list[int] | None, typer.Option(help="Sizes B; may be repeated.")] = None,
    dim: Annotated[list[int] | None, typer.Option(help="Sizes D; may be repeated.")] = None,
    classes: Annotated[list[int] | None, typer.Option(help="Numbers C of classes; may be repeated.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Time for each contender at each size.")] = None,
    memory: Annotated[bool, typer.Option(help="Measure memory as well.")] = True,
    one: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Time the losses and measure their memory; print the tables, and write them with --out."""
    torch.set_num_threads(1)
    if one is not None:
        loss, detail, kind, *size = json.loads(one)
        print(peak(loss, detail, kind, Size(*size)))
        return
    share = seconds or (0.03 if quick else 0.1)
    bs, ds, cs = batch or (BATCHES[:2] if quick else BATCHES), dim or (DIMS[:2] if quick else DIMS), classes or CLASSES
    cs = classes or ((8,) if quick else CLASSES)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    grid = list(product(devices, bs, ds, cs))
    console, progress_console = Console(), Console(stderr=True)
    rows: dict[str, list[Row]] = {device: [] for device in devices}
    load, repeats = os.getloadavg()[0], []
    for device, b, d, c in track(grid, "Timing", console=progress_console):
        size = Size(b, d, c)
        for case, times in time_size(size, device, share, with_triplets=c == cs[0]):
            rows[device].append(row(case, size, times))
            repeats.append(len(times[f"ours {case.loss} {case.detail}"]))
    tables = [section for device in devices for section in sections_of(rows[device], device)]
    if memory:
        tables.append(memory_section(lambda jobs: track(list(jobs), "Memory", console=progress_console)))
    report = Report("Speed and memory of the losses", tables, {"Times": (__doc__ or "").partition("\n\n    python")[0]})
    report.provenance |= {
        "pytorch-metric-learning": metadata.version("pytorch-metric-learning"),
        "threads": torch.get_num_threads(),
        "repeats of ours": f"{min(repeats)} to {max(repeats)}",
        "seconds for each contender and size": share,
        "load average": f"{load:.2f} at the start, {os.getloadavg()[0]:.2f} at the end",
    }
    report.print(console)
    if out is not None:
        report.write(out)


if __name__ == "__main__":
    script(main)()
