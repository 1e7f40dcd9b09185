"""How far something long has come: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(what: str, total: int | None = None, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Yield `advance(n)`: a bar on a terminal, a line now and then elsewhere (both on stderr), nothing when quiet."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=total)
            yield lambda n: bar.advance(task, n)
    else:
        lines = _Lines(what, total)
        yield lines.advance
        lines.end()


class _Lines:
    """Progress as plain lines, one every ten seconds and one at the end."""

    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.total, self.done = what, total, 0
        self.start = self.last = time.monotonic()

    def advance(self, n: int) -> None:
        self.done += n
        if time.monotonic() - self.last >= _SECONDS_BETWEEN_LINES:
            self._print()

    def end(self) -> None:
        self._print()

    def _print(self) -> None:
        self.last = time.monotonic()
        of = f" of {self.total:,}" if self.total is not None else ""
        rate = self.done / max(self.last - self.start, 1e-9)
        typer.echo(f"{self.what}: {self.done:,}{of} in {self.last - self.start:.0f} s ({rate:,.0f} a second)", err=True)
