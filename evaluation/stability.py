"""How far a change of the picture moves a vector, beside how far another expression or another person does.

Rendered faces, cut as they are, each changed in one way. Distances between an image and its changed version are set beside two medians over
the unchanged images: between different expressions of one person, which a good vector keeps apart, and between two people with
the same expression, which it does not. Recall@5: how often an image is among the five nearest to its changed version.

    python -m evaluation.stability --out docs/results/stability
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from exprembed.cli import script
from exprembed.data.synthetic import render_faces
from exprembed.errors import WrongUseError
from exprembed.metrics.neighbours import nearest_rows
from exprembed.models import load_model
from exprembed.models.base import Embedder
from exprembed.models.embedding import embed_pixels
from exprembed.report import Report, Row, Section

Change = Callable[[Image.Image], Image.Image]
SEED, NEIGHBOURS = 880_000, 5  # of people whom no training ever draws
COLUMNS = ("distance", "of another expression", "of another person", "recall@5, %")


def _moved(picture: Image.Image, degrees: float = 0.0, right: float = 0.0, down: float = 0.0) -> Image.Image:
    """Turn and shift a picture; its edges are repeated, so that no change brings in a black border."""
    side = picture.width
    padded = Image.fromarray(np.pad(np.asarray(picture), ((side, side), (side, side), (0, 0)), mode="edge"))
    turned = padded.rotate(degrees, Image.Resampling.BICUBIC)
    x, y = side - round(right * side), side - round(down * side)
    return turned.crop((x, y, x + side, y + side))


def _jpeg(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


CHANGES: Mapping[str, Change] = {
    "blurred, sigma 3 % of the side": lambda p: p.filter(ImageFilter.GaussianBlur(0.03 * p.width)),
    "downscaled to 48 px": lambda p: p.resize((48, 48), Image.Resampling.BOX).resize(p.size, Image.Resampling.BILINEAR),
    "greyscale": lambda p: p.convert("L").convert("RGB"),
    "JPEG, quality 30": _jpeg,
    "rotated 10 degrees": lambda p: _moved(p, 10),
    "rotated 20 degrees": lambda p: _moved(p, 20),
    "rotated 30 degrees": lambda p: _moved(p, 30),
    "shifted 5 % to the right": lambda p: _moved(p, right=0.05),
    "shifted 10 % down": lambda p: _moved(p, down=0.1),
    "brightened by half": lambda p: ImageEnhance.Brightness(p).enhance(1.5),
}


def vectors_of(model: Embedder, pictures: list[Image.Image]) -> NDArray[np.float32]:
    """Embed pictures that are crops; a cosine model's vectors at length 1, so that L2 orders alike."""
    vectors = embed_pixels(model, model.preprocessing.pixels(pictures))
    if model.metric == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def yardsticks(
    vectors: NDArray[np.float32], people: NDArray[np.object_], expressions: NDArray[np.object_]
) -> tuple[float, float]:
    """Return the median distances of different expressions of one person, and of different people with one expression.

    Raises:
        WrongUseError: no such pair.
    """
    one, other = np.triu_indices(len(vectors), 1)
    person, expression = people[one] == people[other], expressions[one] == expressions[other]
    distances = np.linalg.norm(vectors[one] - vectors[other], axis=1)
    found = distances[person & ~expression], distances[~person & expression]
    if not all(map(len, found)):
        raise WrongUseError("faces are due that share a person but no expression, and the other way round; render more")
    return float(np.median(found[0])), float(np.median(found[1]))


def run(model: Embedder, faces: int = 800, people: int = 20) -> Report:
    """Measure one model on rendered faces."""
    images, table = render_faces(faces, people, SEED)
    pictures = [Image.fromarray(image) for image in images]
    plain = vectors_of(model, pictures)
    expression, person = yardsticks(plain, table["subject"].to_numpy(object), table["expression"].to_numpy(object))
    rows = [
        Row(
            "another expression of the person",
            {COLUMNS[0]: expression, COLUMNS[1]: 1.0, COLUMNS[2]: expression / person},
        ),
        Row("the expression on another person", {COLUMNS[0]: person, COLUMNS[1]: person / expression, COLUMNS[2]: 1.0}),
    ]
    for name, change in CHANGES.items():
        changed = vectors_of(model, [change(picture) for picture in pictures])
        moved = float(np.median(np.linalg.norm(changed - plain, axis=1)))
        near = np.concatenate([found for _, found in nearest_rows(plain, changed, NEIGHBOURS)])
        recall = 100 * float((near == np.arange(faces)[:, None]).any(axis=1).mean())
        rows.append(Row(name, dict(zip(COLUMNS, (moved, moved / expression, moved / person, recall), strict=True))))
    notes = ["Medians. A ratio below 1: the change moves a face less than what it is compared with does."]
    data = f"{faces:,} rendered faces of {people} people, seed {SEED}, cut as rendered"
    section = Section("What a change of the picture does to its vector", data, COLUMNS, rows, decimals=2, notes=notes)
    return Report(
        "Stability", [section], {"faces": "rendered by this library", "model": model.fingerprint}, seeds=[SEED]
    )


def main(
    out: Annotated[Path, typer.Option(help="Where report.md and report.json go.")],
    weights: Annotated[str | None, typer.Option(help="Weights; the packaged model where none are given.")] = None,
    faces: Annotated[int, typer.Option(help="Faces rendered.", min=40)] = 800,
    people: Annotated[int, typer.Option(help="Of so many people.", min=2)] = 20,
) -> None:
    """Measure how far changes of the picture move its vector."""
    from rich.console import Console

    report = run(load_model(weights), faces, people)
    report.write(out)
    report.print(Console())


if __name__ == "__main__":
    script(main)()
