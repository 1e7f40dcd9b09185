"""What a loss of sharpness, another crop, roll or light does to an embedding: triplet accuracy under each change.

The triplets stay the same and only the pictures change, so that every drop is the change's. Used to show what the
training augmentation buys: give weights trained with and without it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from PIL import Image, ImageEnhance, ImageFilter

from exprembed.cli import script
from exprembed.data import read_ferplus
from exprembed.data.images import open_image
from exprembed.data.tables import FaceTable, TripletTable
from exprembed.data.triplets import triplets_from_votes
from exprembed.errors import WrongUseError
from exprembed.metrics import triplet_accuracy
from exprembed.models import load_model
from exprembed.models.base import Embedder
from exprembed.models.embedding import embed_pixels
from exprembed.report import Report, Row, Section

Change = Callable[[Image.Image], Image.Image]


def _zoom(factor: float) -> Change:
    def change(picture: Image.Image) -> Image.Image:
        side = picture.width
        rest = side * (1 - 1 / factor) / 2
        matrix = (1 / factor, 0, rest, 0, 1 / factor, rest)
        return _padded(picture).transform(
            (side, side), Image.Transform.AFFINE, _inside(matrix, side), Image.Resampling.BICUBIC
        )

    return change


def _roll(degrees: float) -> Change:
    def change(picture: Image.Image) -> Image.Image:
        side = picture.width
        turned = _padded(picture).rotate(degrees, Image.Resampling.BICUBIC)
        return turned.crop((side, side, 2 * side, 2 * side))

    return change


def _padded(picture: Image.Image) -> Image.Image:
    """Replicate the edges, one side's length all round, so that no change brings in a black border."""
    return Image.fromarray(np.pad(np.asarray(picture), picture.width, mode="edge"))


def _inside(matrix: tuple[float, ...], side: int) -> tuple[float, ...]:
    a, b, c, d, e, f = matrix
    return (a, b, c + side, d, e, f + side)


def _small(side: int) -> Change:
    return lambda picture: picture.resize((side, side), Image.Resampling.BOX).resize(
        picture.size, Image.Resampling.BILINEAR
    )


def _jpeg(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=20)
    return Image.open(buffer).convert("L")


def _gamma(value: float) -> Change:
    return lambda picture: picture.point([round(255 * (i / 255) ** value) for i in range(256)])


CHANGES: Mapping[str, Change] = {
    "as it is": lambda picture: picture,
    "blur, sigma 1.5 px of 48": lambda picture: picture.filter(ImageFilter.GaussianBlur(1.5 * picture.width / 48)),
    "24 px and back": _small(24),
    "JPEG quality 20": _jpeg,
    "roll 15 degrees": _roll(15),
    "zoom 0.8": _zoom(0.8),
    "zoom 1.25": _zoom(1.25),
    "gamma 2": _gamma(2),
    "gamma 0.5": _gamma(0.5),
    "contrast halved": lambda picture: ImageEnhance.Contrast(picture).enhance(0.5),
}


def accuracy_under(
    model: Embedder, pictures: Mapping[str, Image.Image], triplets: TripletTable, change: Change
) -> float:
    """Return the triplet accuracy in percent when every picture is changed."""
    pixels = model.preprocessing.pixels([change(picture) for picture in pictures.values()])
    vectors = pd.DataFrame(embed_pixels(model, pixels), index=list(pictures))
    return 100 * triplet_accuracy(vectors, triplets, model.metric).overall


def run(
    models: Mapping[str, Embedder], pictures: Mapping[str, Image.Image], triplets: TripletTable, data: str
) -> Report:
    """Score every model under every change; grey pictures by face id."""
    rows = [
        Row(
            name,
            {key: accuracy_under(model, pictures, triplets, change) for key, model in models.items()},
            n_used=len(triplets),
            n_protocol=len(triplets),
        )
        for name, change in CHANGES.items()
    ]
    section = Section(
        "Triplet accuracy when every picture is changed",
        data,
        tuple(models),
        rows,
        unit="triplet accuracy, %",
        notes=("The triplets are the same in all rows; chance is 33.3.",),
    )
    return Report("Robustness", [section], {"FER+": "FER2013 with FER+ votes, validation split"})


def main(
    data: Annotated[Path, typer.Option(help="FER+ in its official layout.")],
    weights: Annotated[list[str], typer.Option(help="Weights as NAME=FILE; two or more are set side by side.")],
    out: Annotated[Path, typer.Option(help="Where report.md and report.json go.")],
    per_type: Annotated[int, typer.Option(help="Triplets drawn of each type.")] = 3000,
    faces: Annotated[int, typer.Option(help="Validation faces, the first N.")] = 1200,
) -> None:
    """Score weights on FER+ validation triplets under blur, small size, JPEG, roll, zoom and light."""
    from rich.console import Console

    wrong = [entry for entry in weights if "=" not in entry]
    if wrong:
        raise WrongUseError(f"weights are given as NAME=FILE; got {wrong[0]!r}")
    models = {entry.partition("=")[0]: load_model(entry.partition("=")[2]) for entry in weights}
    table = FaceTable(pd.DataFrame(read_ferplus(data, split="validation")).iloc[:faces])
    triplets = triplets_from_votes(table, per_type, seed=0, strong_only=True)
    pictures = {str(face): open_image(path).convert("L") for face, path in table["path"].items()}
    words = f"FER+ validation, {len(table):,} faces, {len(triplets):,} strong triplets judged by six simulated raters from votes"
    report = run(models, pictures, triplets, words)
    report.write(out)
    report.print(Console())


if __name__ == "__main__":
    script(main)()
