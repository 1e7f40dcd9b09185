"""exprembed weights: which weights are packaged, and what their cards say."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from exprembed.cli._common import JsonOption, add_verb, show, table

weights_app = typer.Typer(no_args_is_help=True, help="List the packaged weights and show their cards.")


def list_weights(as_json: JsonOption = False) -> None:
    """List the packaged weights.

    Exit codes: 0 done; 3 a card is broken.
    """
    from exprembed.models import list_weights, weights_card
    from exprembed.models.storage import DEFAULT_WEIGHTS

    keys = ("model", "embedding_dim", "metric", "parameters", "licence")
    cards = {name: weights_card(name) for name in list_weights()}
    rows = [
        (name + (" (default)" if name == DEFAULT_WEIGHTS else ""), *(card.get(key) for key in keys))
        for name, card in cards.items()
    ]
    document = {
        "default": DEFAULT_WEIGHTS,
        "weights": {name: {key: card.get(key) for key in keys} for name, card in cards.items()},
    }
    show(as_json, document, table(("name", *keys), rows) if rows else "no weights are packaged")


def show_card(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A packaged name, or a .safetensors or .onnx file. Default: the packaged model.",
            metavar="NAME|PATH",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the card of weights: licence, training data, scores, preprocessing, checksum.

    Exit codes: 0 done; 2 no such weights; 3 a missing or broken card.
    """
    from exprembed.models import weights_card

    card = weights_card(name)
    short = {key: value for key, value in card.items() if key not in ("example", "recipe")}
    show(as_json, card, table(("", ""), [(key, _text(value)) for key, value in short.items()]))


def _text(value: Any) -> str:  # noqa: ANN401 - a value of the card
    return value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)


add_verb(weights_app, list_weights, "list")
add_verb(weights_app, show_card, "show")
