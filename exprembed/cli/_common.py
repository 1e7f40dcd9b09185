"""What all verbs share: exit codes, JSON output, progress, the list of skipped items, groups of options."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from exprembed.errors import ExprembedError, MissingExtraError, WrongUseError
from exprembed.files import Skipped, write_skipped

if TYPE_CHECKING:
    from rich.console import RenderableType

DONE, SOME_SKIPPED, WRONG_USE, BAD_INPUT = 0, 1, 2, 3
SKIPPED = "skipped.csv"

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
ModelOption = Annotated[
    str | None,
    typer.Option(
        help="Packaged weights by name, or a .safetensors or .onnx file. Default: the packaged model.",
        metavar="NAME|PATH",
    ),
]


class _OneLineErrors:
    """Turns the library's errors into one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - the context type moved between typer's releases
        """Run what was asked for."""
        try:
            return super().invoke(ctx)  # type: ignore[misc]
        except ExprembedError as error:
            fail(str(error), WRONG_USE if isinstance(error, WrongUseError | MissingExtraError) else BAD_INPUT)
        except BrokenPipeError:
            raise  # `| head` closed the pipe: typer ends quietly
        except OSError as error:
            name = f"{error.filename}: " if error.filename is not None else ""
            fail(f"{name}{error.strerror or error}", BAD_INPUT)


class Commands(_OneLineErrors, TyperGroup):
    """The root of all verbs."""


class _Script(_OneLineErrors, TyperCommand):
    """A script of one verb."""


def script(command: Callable[..., None]) -> typer.Typer:
    """Make a function a command line of its own (`script(main)()`), whose errors end as those of the verbs do."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(cls=_Script)(command)
    return app


def fail(message: str, code: int) -> NoReturn:
    """Print one line on stderr and end with an exit code."""
    typer.secho("error: ", err=True, nl=False, fg="red", bold=True)
    typer.echo(message, err=True)
    raise typer.Exit(code)


def option_groups(**groups: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:  # noqa: ANN401 - dataclasses
    """Give a command the fields of dataclasses as options, and each filled dataclass as one keyword argument.

    Options that several verbs share are thus declared once. Each field needs a default and an
    `Annotated[type, typer.Option(...)]`.
    """

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command)
        hints = get_type_hints(command, include_extras=True)
        taken = [p.replace(annotation=hints[name]) for name, p in own.parameters.items() if name not in groups]
        fields: dict[str, list[str]] = {}
        for name, cls in groups.items():
            types = get_type_hints(cls, include_extras=True)
            fields[name] = [field.name for field in dataclasses.fields(cls)]
            for field in dataclasses.fields(cls):
                kind = inspect.Parameter.KEYWORD_ONLY
                taken.append(inspect.Parameter(field.name, kind, default=field.default, annotation=types[field.name]))

        @functools.wraps(command)
        def run(**values: Any) -> None:  # noqa: ANN401 - what typer parsed
            filled = {name: groups[name](**{key: values.pop(key) for key in keys}) for name, keys in fields.items()}
            command(**values, **filled)

        last = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in taken]
        run.__signature__ = own.replace(parameters=last)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in last}
        return run

    return wrap


def show(as_json: bool, document: Mapping[str, Any], *parts: RenderableType) -> None:
    """Print the one JSON document, or the parts made for people (text, rich tables)."""
    if as_json:
        typer.echo(json.dumps(plain(document), indent=2, allow_nan=False))
        return
    from rich.console import Console

    console = Console(soft_wrap=True) if not sys.stdout.isatty() else Console()
    for part in parts:
        console.print(part, markup=False, highlight=False)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> RenderableType:
    """Return a rich table; numbers are set to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[place], int | float) or row[place] is None for row in rows)
        made.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(_cell(value)) for value in row))
    return made


def _cell(value: Any) -> str:  # noqa: ANN401 - any value of a table
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def plain(value: Any) -> Any:  # noqa: ANN401 - any value of a result
    """Turn a value into what JSON can hold; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


@contextmanager
def clean_stdout(as_json: bool) -> Iterator[None]:
    """Send what other libraries print on stdout to stderr while a JSON document is due there."""
    if not as_json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def list_skipped(skipped: Sequence[Skipped], folder: Path) -> Path | None:
    """Write `skipped.csv` into a folder and say so on stderr; with nothing skipped, remove the list of an earlier run."""
    path = folder / SKIPPED
    if not skipped:
        if path.is_file() and path.open(encoding="utf-8", errors="replace").readline().strip() == ",".join(
            Skipped._fields
        ):
            path.unlink()
        return None
    write_skipped(path, skipped)
    first = f"{skipped[0].item}: {skipped[0].reason}"
    typer.echo(f"{len(skipped):,} skipped, listed in {path} (first: {first})", err=True)
    return path


def end(skipped: Sequence[Skipped]) -> None:
    """End with exit code 1 where something was skipped."""
    if skipped:
        raise typer.Exit(SOME_SKIPPED)


def peak_memory_mib() -> float | None:
    """Return the most memory that this process has held, in MiB; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def add_verb(app: typer.Typer, command: Callable[..., None], name: str | None = None) -> None:
    """File a command under its function's name; its docstring is the help text, paragraphs flowing."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    app.command(name, help="\n\n".join(" ".join(part.split()) for part in paragraphs))(command)
