"""exprembed export onnx: a model and its preprocessing as one file for onnxruntime."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exprembed.cli._common import JsonOption, add_verb, clean_stdout, show
from exprembed.errors import WrongUseError, unknown_name

if TYPE_CHECKING:
    from exprembed.models.base import Embedder

ENGINES = ("torch", "onnx")

export_app = typer.Typer(no_args_is_help=True, help="Write models in other formats.")


def onnx(
    weights: Annotated[
        str | None,
        typer.Argument(
            help="Packaged weights by name, or a .safetensors file. Default: the packaged model.",
            metavar="WEIGHTS",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")] = Path("model.onnx"),
    as_json: JsonOption = False,
) -> None:
    """Write a model as one ONNX file, preprocessing inside, and check it against torch.

    The file takes aligned face crops, uint8 RGB (N, size, size, 3), as 'faces', and gives 'embeddings' (N, d). Its
    metadata hold preprocessing, metric, dimension, fingerprint, licence and intended use as JSON under the key
    'exprembed', so that it needs no other file; it goes wherever weights go (--model model.onnx), and an index built
    with either takes queries of the other. A file that differs from torch by more than 1e-4 on rendered faces is not
    written. Needs the extra 'onnx'.

    Exit codes: 0 done; 2 wrong use; 3 bad weights, or a model that cannot be exported.
    """
    from exprembed.models import export_onnx, load_model, weights_card
    from exprembed.models.onnx import CHECKED_FACES, TOLERANCE

    started = time.perf_counter()
    with clean_stdout(as_json):
        model = load_model(weights)
        difference = export_onnx(model, out, weights_card(weights))
    side, dim = model.preprocessing.size, model.embedding_dim
    document = {"out": out, "bytes": out.stat().st_size, "difference": difference, "tolerance": TOLERANCE}
    document |= {"faces": CHECKED_FACES, "size": side, "dim": dim, "metric": model.metric, "model": model.fingerprint}
    document |= {"seconds": round(time.perf_counter() - started, 2)}
    show(
        as_json,
        document,
        f"{out}: (N, {side}, {side}, 3) uint8 to (N, {dim}); differs from torch by at most {difference:.1e} on "
        f"{CHECKED_FACES} rendered faces",
    )


def with_engine(model: Embedder, name: str | None, engine: str | None) -> Embedder:
    """Return the loaded model as an engine runs it: "torch", "onnx", or None for what its file is made for.

    For "onnx", weights are exported once, into the user's cache folder.
    """
    if engine is None:
        return model
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    from exprembed.models.onnx import FORMAT, OnnxEmbedder, export_onnx

    if isinstance(model, OnnxEmbedder):
        if engine == "torch":
            raise WrongUseError(f"--engine torch needs weights that torch can load; {name} is an ONNX model")
        return model
    if engine == "torch":
        return model
    from exprembed.models import load_model, weights_card
    from exprembed.training.features import cache_folder

    path = cache_folder() / f"onnx-{FORMAT}-{model.fingerprint[:32]}.onnx"
    if not path.is_file():
        typer.echo(f"exporting the model to {path}, once", err=True)
        export_onnx(model, path, weights_card(name))
    exported: Embedder = load_model(path)
    return exported


add_verb(export_app, onnx)
