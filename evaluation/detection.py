"""How often a face is found in each data set, and where its eyes lie in pictures that were cropped by others.

A model trained on FER+ expects its eyes where FER+ has them; here is where that is. Interocular distance and eye height are shares of
the picture's width and height. The largest face of a picture counts.

    python -m evaluation.detection --ferplus FER --rafdb RAF --jaffe JAFFE --celeba CELEBA --out docs/results/detection
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from exprembed.cli import script
from exprembed.data import read_celeba, read_ferplus, read_jaffe, read_rafdb
from exprembed.data.detectors import MTCNNDetector, YuNetDetector
from exprembed.data.faces import FaceDetector
from exprembed.data.images import open_image, to_rgb
from exprembed.data.tables import FaceTable
from exprembed.errors import WrongUseError
from exprembed.report import Report, Row, Section

COLUMNS = ("found, %", "one face, %", "interocular", "± of it", "eye height", "± of that", "± of roll, degrees")
READERS = {"FER+ validation": read_ferplus, "RAF-DB aligned": read_rafdb, "JAFFE": read_jaffe, "CelebA": read_celeba}
_BATCH = 32


def measures(detector: FaceDetector, pictures: list[Image.Image]) -> dict[str, float]:
    """Return the values of one row: shares in percent, and means and deviations of the eyes of the largest faces."""
    counts, eyes = [], []
    for start in range(0, len(pictures), _BATCH):
        some = pictures[start : start + _BATCH]
        for picture, faces in zip(some, detector.detect_batch(some), strict=True):
            counts.append(len(faces))
            if faces:
                left, right = max(faces, key=lambda face: face.area).landmarks[:2]
                apart, middle = right - left, (left + right) / 2
                width, height = picture.size
                roll = math.degrees(math.atan2(apart[1], apart[0]))
                eyes.append((math.hypot(*apart) / width, middle[1] / height, roll))
    found = np.array(counts)
    values = {COLUMNS[0]: 100 * float((found > 0).mean()), COLUMNS[1]: 100 * float((found == 1).mean())}
    if eyes:
        mean, spread = np.mean(eyes, axis=0), np.std(eyes, axis=0)
        numbers = (mean[0], spread[0], mean[1], spread[1], spread[2])
        values |= dict(zip(COLUMNS[2:], map(float, numbers), strict=True))
    return values


def run(detectors: Mapping[str, FaceDetector], tables: Mapping[str, FaceTable], n: int, seed: int = 0) -> Report:
    """Measure each detector on n random pictures of each table."""
    sections = []
    for name, detector in detectors.items():
        rows = []
        for data, table in tables.items():
            chosen = np.random.default_rng(seed).permutation(len(table))[:n]
            pictures = [to_rgb(open_image(table["path"].iloc[row])) for row in sorted(chosen)]
            rows.append(Row(data, measures(detector, pictures), n_used=len(pictures), n_protocol=len(table)))
        title = f"Faces found by {name}, and where their eyes lie"
        sections.append(
            Section(title, f"{n:,} random pictures of each data set, seed {seed}", COLUMNS, rows, decimals=3)
        )
    return Report("Detection", sections, dict.fromkeys(tables, "as distributed, no crop of ours"))


def main(
    out: Annotated[Path, typer.Option(help="Where report.md and report.json go.")],
    ferplus: Annotated[Path | None, typer.Option(help="FER+ in its official layout.")] = None,
    rafdb: Annotated[Path | None, typer.Option(help="RAF-DB in its official layout.")] = None,
    jaffe: Annotated[Path | None, typer.Option(help="JAFFE in its official layout.")] = None,
    celeba: Annotated[Path | None, typer.Option(help="CelebA in its official layout.")] = None,
    yunet: Annotated[Path | None, typer.Option(help="YuNet's ONNX file, to measure it as well.")] = None,
    n: Annotated[int, typer.Option(help="Pictures of each data set.")] = 500,
) -> None:
    """Count faces found and measure where their eyes lie."""
    from rich.console import Console

    given = dict(zip(READERS, (ferplus, rafdb, jaffe, celeba), strict=True))
    if not any(given.values()):
        raise WrongUseError("give at least one data set: --ferplus, --rafdb, --jaffe or --celeba")
    options = {"FER+ validation": {"split": "validation"}}
    tables = {name: READERS[name](path, **options.get(name, {})) for name, path in given.items() if path is not None}
    detectors: dict[str, FaceDetector] = {"MTCNN": MTCNNDetector()}
    if yunet is not None:
        detectors["YuNet"] = YuNetDetector(yunet)
    report = run(detectors, tables, n)
    report.write(out)
    report.print(Console())


if __name__ == "__main__":
    script(main)()
