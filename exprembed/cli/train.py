"""exprembed train and exprembed features: run a recipe; run its frozen backbone once."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exprembed.cli._common import JsonOption, ModelOption, clean_stdout, peak_memory_mib, show, table
from exprembed.errors import WrongUseError
from exprembed.progress import progress

if TYPE_CHECKING:
    from exprembed.data.tables import FaceTable
    from exprembed.models.base import Embedder

_SECONDS_BETWEEN_LINES = 30.0

RecipeArgument = Annotated[
    str | None, typer.Argument(help="A packaged recipe, or a YAML file.", show_default=False, metavar="RECIPE")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change a key of the recipe, like data.path=DIR or steps=500 (repeatable).", metavar="KEY=VALUE"
    ),
]


def train(
    recipe: RecipeArgument = None,
    changes: SetOption = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/<recipe>.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the packaged recipes and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model as a recipe says.

    The run's folder gets recipe.json, logs, checkpoints and the weights with their card. A resumed run gives the same
    weights as one that was never cut off.

    Exit codes: 0 done; 2 wrong use; 3 bad input.
    """
    from exprembed.training import list_recipes, load_recipe

    if listing:
        known = list_recipes()
        show(as_json, {"recipes": known}, table(("recipe", "about"), list(known.items())))
        return
    if recipe is None:
        raise WrongUseError("say which recipe to run; 'exprembed train --list' shows the packaged ones")
    plan = load_recipe(recipe, changes or ())
    folder = out or Path("runs") / plan.name
    if not resume and (folder / "checkpoints" / "last.ckpt").is_file():
        raise WrongUseError(f"{folder} holds a run already; go on with --resume, or choose another folder with --out")
    started = time.perf_counter()
    from exprembed.training import train as run

    bar = sys.stderr.isatty() and not as_json
    with clean_stdout(True), _lines(folder, plan.steps, quiet=bar or as_json):
        result = run(plan, folder, resume, progress=bar)
    document = {"weights": result.weights, "out": folder, "faces": result.faces, "watched": result.watched}
    document |= {"seconds": round(time.perf_counter() - started, 1), "peak_memory_mib": peak_memory_mib()}
    watched = "" if result.watched is None else f"; triplet accuracy on held-out faces {100 * result.watched:.1f} %"
    show(
        as_json,
        document,
        f"trained on {result.faces:,} faces in {document['seconds']:,.0f} s{watched}: {result.weights}",
    )


def features(
    recipe: RecipeArgument = None,
    changes: SetOption = None,
    model: ModelOption = None,
    faces: Annotated[
        Path | None, typer.Option(help="Instead of a recipe: a folder of face crops, or a Parquet face table.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the cache. Default: the user's cache.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a backbone once over face crops and cache its maps (float16), so that heads train from them.

    With a recipe: its model and its faces; a training run with that recipe finds the maps there. Else --faces with the
    packaged model or --model. The cache is keyed by weights, preprocessing and files: stale maps are never taken.

    Exit codes: 0 done; 2 wrong use; 3 bad input.
    """
    from exprembed.training import cache_features

    if (recipe is None) == (faces is None):
        raise WrongUseError("say whose features: either a RECIPE, or --faces DIR|FILE (with --model)")
    if recipe is not None and model is not None:
        raise WrongUseError("--model goes with --faces; a recipe names its own model (--set model.name=...)")
    with clean_stdout(as_json):
        if recipe is not None:
            from exprembed.training import load_recipe
            from exprembed.training.run import build_model, read_faces

            plan = load_recipe(recipe, changes or ())
            embedder = build_model(plan)
            crops, _ = read_faces(plan.data)
        else:
            embedder, crops = _model_and_crops(model, faces)
        with progress("features", len(crops), as_json) as advance:
            maps = cache_features(embedder, crops, out, advance)
    path = getattr(maps, "filename", None)
    document = {"path": path, "shape": maps.shape, "dtype": str(maps.dtype), "bytes": maps.nbytes}
    show(as_json, document, f"{' x '.join(map(str, maps.shape))} {maps.dtype}, {maps.nbytes / 2**20:,.1f} MiB: {path}")


def _model_and_crops(model: str | None, faces: Path | None) -> tuple[Embedder, FaceTable]:
    from exprembed.data.readers import READERS
    from exprembed.data.tables import FaceTable
    from exprembed.models import load_model

    path = Path(str(faces))
    table = FaceTable.read_parquet(path) if path.is_file() else READERS.get("folder")(path)
    return load_model(model), table


@contextmanager
def _lines(folder: Path, steps: int, quiet: bool) -> Iterator[None]:
    """Print how far a run is, now and then: the last line of the log that it writes."""
    if quiet:
        yield
        return
    stop = threading.Event()

    def watch() -> None:
        last, log = "", folder / "logs" / "metrics.csv"
        while not stop.wait(_SECONDS_BETWEEN_LINES):
            found = _last_line(log)
            if found and found != last:
                last = found
                typer.echo(f"training, {steps:,} steps: {found}", err=True)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _last_line(log: Path) -> str:
    """Return the newest row of a CSV log as `name value, ...`; blank where there is none."""
    try:
        head, *rows = log.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    if not rows:
        return ""
    values = zip(head.split(","), rows[-1].split(","), strict=False)
    return ", ".join(f"{name} {value[:7]}" for name, value in values if value)
