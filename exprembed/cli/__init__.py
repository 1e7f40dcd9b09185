"""The `exprembed` command: one file per verb. Importing it loads no torch: each verb imports what it needs when it runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from exprembed.cli import album, demo, embed, evaluate, export, faces, fec, index, train, weights
from exprembed.cli._common import Commands, add_verb
from exprembed.cli._common import script as script

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Facial-expression embeddings: short vectors whose distances mean how alike two expressions look to people.",
)
for _verb in (demo.demo, embed.embed, album.album, train.train, train.features):
    add_verb(app, _verb)
app.add_typer(index.index_app, name="index")
app.add_typer(evaluate.evaluate_app, name="evaluate")
app.add_typer(weights.weights_app, name="weights")
app.add_typer(faces.faces_app, name="faces")
app.add_typer(fec.fec_app, name="fec")
app.add_typer(export.export_app, name="export")


def _version(asked: bool) -> None:
    if asked:
        from exprembed import __version__

        typer.echo(f"exprembed {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


def main(*words: str) -> None:
    """Run the command line; `words` stand before the user's arguments (`main("index")` is `exprembed index`)."""
    app(args=[*words, *sys.argv[1:]] if words else None)
