"""One piece of work in a process of its own: wall time, CPU time, and by how much it raises the peak of memory."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from exprembed.report import Report, Section

MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """What one run took: seconds of wall and CPU, MiB that the peak rose by and stood at; and what the work returned (JSON)."""

    wall: float
    cpu: float
    memory: float
    peak: float
    result: Any


def measured(work: Callable[[], Any]) -> Measured:
    """Run `work` in this process."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # the peak so far, which the imports made, must not hide a smaller one
    before, wall, cpu = high_water(), time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = high_water()
    return Measured(wall, cpu, (peak - before) / 1024, peak / 1024, result)


def high_water() -> int:
    """Return the most KiB that this process has held, since `clear_refs` where Linux has it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1])  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_a_process(script: str, job: list[Any]) -> Measured:
    """Run `python script --one JOB`, which prints what `show` gives."""
    command = [sys.executable, script, "--one", json.dumps(job)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ourselves
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def show(found: Measured) -> None:
    """Print a measurement for the process that asked."""
    print(json.dumps(found.__dict__))


def tell(title: str, tables: Sequence[Section], out: Path | None, load: float, about: str = "", **facts: Any) -> None:  # noqa: ANN401
    """Print a report, and write it to a folder if there is one; `load` is the load average at the start."""
    report = Report(title, tables, {"How": about.partition("\n\n    python")[0]} if about else {})
    report.provenance |= {**facts, "load average": f"{load:.2f} at the start, {os.getloadavg()[0]:.2f} at the end"}
    report.print(Console())
    if out is not None:
        report.write(out)
