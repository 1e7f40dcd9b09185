"""Time and memory from photos and films to vectors, beside the loop that one writes by hand.

By hand: one picture after the other is opened by Pillow, goes through facenet-pytorch's MTCNN (made once, its own defaults),
is cut by the eyes that it found, and embedded alone. The detector's three networks, their weights and thresholds, the smallest
face (20 pixels), cut and model are the same on both sides. Each run is a process of its own, with as many threads as stated for
torch and for decoding; memory is what the peak of the process rises by after imports and a first picture (films: of all).

    python benchmarks/embed.py --celeba DIR --out docs/results/embed_speed
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._measured import Measured, in_a_process, measured, show, tell
from exprembed.cli import script
from exprembed.report import Row, Section

EYES = (0.393, 0.514, 0.612, 0.514)  # of CelebA's aligned files
TILES = (3, 2)
BAR = 3.0


def celeba(folder: str) -> list[Path]:
    """Return the aligned files in order."""
    return sorted(Path(folder).rglob("img_align_celeba/*.jpg"))


def compose(files: Sequence[Path], folder: Path, n: int) -> None:
    """Write n group photos of six faces each, twice as large: 1068 x 872 pixels."""
    stream = iter(files)
    for number in range(n):
        faces = [
            Image.open(path).resize((356, 436), Image.Resampling.BICUBIC)
            for path in islice(stream, TILES[0] * TILES[1])
        ]
        photo = Image.new("RGB", (356 * TILES[0], 436 * TILES[1]))
        for place, face in enumerate(faces):
            photo.paste(face, (356 * (place % TILES[0]), 436 * (place // TILES[0])))
        photo.save(folder / f"{number:05d}.jpg", quality=92)


def film(files: Sequence[Path], path: Path, minutes: float, rate: int = 25) -> None:
    """Write a film of one face that drifts over 320 x 240 pixels, another face each second."""
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, "yuv420p", 600_000
        for i in range(int(minutes * 60 * rate)):
            if i % rate == 0:
                face = Image.open(files[i // rate % len(files)])
            frame = Image.new("RGB", (320, 240), "gray")
            frame.paste(face, (60 + i % 80, 10))
            out.mux(stream.encode(av.VideoFrame.from_image(frame)))
        out.mux(stream.encode())


# The jobs, each in a process of its own -------------------------------------------------------------------------------


def by_hand(paths: Sequence[Path]) -> int:
    """The loop."""
    from facenet_pytorch import MTCNN

    from exprembed import load_model
    from exprembed.data.alignment import align_face

    model, detector = load_model(), MTCNN(keep_all=True)
    plan, vectors = model.preprocessing, []
    for path in paths:
        image = Image.open(path).convert("RGB")
        _, _, points = detector.detect(image, landmarks=True)
        for face in [] if points is None else points:
            vectors.append(model.embed(model.preprocess(align_face(image, face, plan.alignment, plan.size))))
    return len(vectors)


def by_exprembed(paths: Sequence[Path], threads: int) -> int:
    """The same in one call."""
    from exprembed import embed

    return len(embed(paths, threads=threads))


def stages(paths: Sequence[Path], threads: int) -> dict[str, float]:
    """Return the pictures a second that each stage does alone, and that all do together."""
    import torch

    from exprembed import load_model
    from exprembed.data.detectors import MTCNNDetector
    from exprembed.data.faces import judge_faces
    from exprembed.data.images import open_image
    from exprembed.models.embedding import embed_pixels
    from exprembed.pipeline.flow import in_order

    model, detector = load_model(), MTCNNDetector()
    plan = model.preprocessing
    rates = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - the stage's own
        start = time.perf_counter()
        result = work()
        rates[stage] = len(paths) / (time.perf_counter() - start)
        return result

    def each(work: Callable[[Any], Any], items: Sequence[Any], size: int) -> list[Any]:
        """Do the work of a stage as the pipeline does: each thread alone with some."""
        batches = [items[at : at + size] for at in range(0, len(items), size)]
        return [one for some in in_order(work, batches, threads) for one in some]

    torch.set_num_threads(1)
    images = timed("decode", lambda: list(in_order(open_image, paths, threads)))
    found = timed("find faces", lambda: each(detector.detect_batch, images, 16))
    pairs = list(zip(images, found, strict=True))

    def cut(some: Sequence[Any]) -> list[Any]:
        return [face for image, faces in some for face in judge_faces("x", image, faces, plan.alignment, plan.size)]

    crops = timed("cut and measure", lambda: each(cut, pairs, 16))
    pixels = np.concatenate([plan.pixels(face.crop) for face in crops if face.crop is not None])
    timed("embed", lambda: each(lambda some: embed_pixels(model, some, len(some)), pixels, 64))
    timed("together", lambda: by_exprembed(paths, threads))
    return rates


def streamed(paths: Sequence[Path], threads: int, fps: float | None) -> int:
    """Into a file: photos cut by the eyes that all share, films searched."""
    from exprembed import load_model
    from exprembed.data.detectors import MTCNNDetector
    from exprembed.pipeline import Flow, NamedFaces, SearchedFaces, WholeFaces, write

    model = load_model()
    plan = model.preprocessing
    cut: Any = WholeFaces(EYES, plan.alignment, plan.size)
    if fps is not None:
        cut = SearchedFaces(MTCNNDetector(), plan.alignment, plan.size)
    with tempfile.TemporaryDirectory() as folder:
        return write(model, paths, NamedFaces(cut), Flow(threads=threads, fps=fps), Path(folder) / "out.parquet", "x")[
            0
        ]


def one(job: str, folder: str, n: int, threads: int) -> Measured:
    """Run a job once in this process."""
    import torch

    torch.set_num_threads(threads)
    source = Path(folder)
    paths = [source] if source.is_file() else (celeba(folder) or sorted(source.glob("*.jpg")))[:n]
    works: dict[str, Callable[[Sequence[Path]], Any]] = {
        "by hand": by_hand,
        "exprembed": lambda some: by_exprembed(some, threads),
        "stages": lambda some: stages(some, threads),
        "photos": lambda some: streamed(some, threads, None),
        "film": lambda some: streamed(some, threads, 5.0),
    }
    if not source.is_file():
        works[job](paths[:2])  # loads what is loaded late
    return measured(lambda: works[job](paths))


# The tables -----------------------------------------------------------------------------------------------------------


def runs(turns: Sequence[tuple[Any, ...]], repeats: int, what: str) -> dict[tuple[Any, ...], list[Measured]]:
    """Run jobs in turns."""
    found: dict[tuple[Any, ...], list[Measured]] = {turn: [] for turn in turns}
    for turn in track([turn for _ in range(repeats) for turn in turns], what, console=Console(stderr=True)):
        found[turn].append(in_a_process(__file__, list(turn)))
    return found


def middle(found: Sequence[Measured], what: str) -> float:
    """Return the median of a measure."""
    return statistics.median(getattr(one, what) for one in found)


def beside_the_loop(sets: dict[str, tuple[str, int]], repeats: int) -> Iterator[Section]:
    """One table for each set of photos."""
    for name, (folder, n) in sets.items():
        turns = [(who, folder, n, threads) for threads in (1, 2) for who in ("exprembed", "by hand")]
        found = runs(turns, repeats, name)
        rows = []
        for who, _, _, threads in turns:
            mine = found[(who, folder, n, threads)]
            wall = middle(mine, "wall")
            ratio = middle(found[("by hand", folder, n, threads)], "wall") / wall
            values = {"faces": mine[0].result, "faces/s": mine[0].result / wall, "memory, MiB": middle(mine, "memory")}
            note = f"bar {BAR:g}" if who == "exprembed" else ""
            rows.append(Row(f"{who}, {threads} threads", {**values, "times as fast as by hand": ratio}, note=note))
        columns = ("faces", "faces/s", "times as fast as by hand", "memory, MiB")
        yield Section(f"{name}: {n:,} files", f"{name}, the first {n:,} in order", columns, rows, decimals=1)


def stage_table(sets: dict[str, tuple[str, int]]) -> Section:
    """What each stage does alone, and what bounds the whole."""
    rows = []
    for name, (folder, n) in sets.items():
        for threads in (1, 2):
            rates = in_a_process(__file__, ["stages", folder, n, threads]).result
            alone = {stage: rate for stage, rate in rates.items() if stage != "together"}
            slowest = min(alone, key=lambda stage: alone[stage])
            share = 100 * rates["together"] / alone[slowest]
            note = f"bounded by: {slowest}; together {share:.0f} % of what it does alone"
            rows.append(Row(f"{name}, {threads} threads", rates, note=note))
    columns = ("decode", "find faces", "cut and measure", "embed", "together")
    return Section("Files a second of each stage alone", "as above", columns, rows, decimals=1)


def flat_memory(jobs: Sequence[tuple[str, str, str, int]]) -> Section:
    """Peaks of small and large jobs."""
    rows = []
    for name, job, folder, n in jobs:
        found = in_a_process(__file__, [job, folder, n, 2])
        memory = {"peak, MiB": found.peak, "of it above the start, MiB": found.memory}
        rows.append(Row(name, {"faces": found.result, "wall, s": found.wall, **memory}))
    columns = ("faces", "wall, s", "peak, MiB", "of it above the start, MiB")
    return Section("Memory of small and large jobs", "written to a file", columns, rows, decimals=1)


def main(
    celeba_folder: Annotated[Path, typer.Option("--celeba", help="Folder of CelebA.", show_default=False)] = Path(
        "celeba"
    ),
    out: Annotated[Path | None, typer.Option(help="Folder for report.md and report.json.")] = None,
    files: Annotated[int, typer.Option(help="CelebA files of the comparison; group photos are a sixth of them.")] = 300,
    many: Annotated[int, typer.Option(help="Files of the large job.")] = 10_000,
    minutes: Annotated[float, typer.Option(help="Length of the long film.")] = 30,
    repeats: Annotated[int, typer.Option(help="Runs of each, in turns; the tables have medians.")] = 3,
    job: Annotated[str | None, typer.Option("--one", hidden=True)] = None,
) -> None:
    """Measure, print the tables, and write them with --out."""
    if job is not None:
        show(one(*json.loads(job)))
        return
    paths, load = celeba(str(celeba_folder)), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        (place / "groups").mkdir()
        compose(paths, place / "groups", files // 6)
        film(paths, place / "short.mp4", minutes / 30)
        film(paths, place / "long.mp4", minutes)
        sets = {
            "CelebA, 178 x 218": (str(celeba_folder), files),
            "groups of six CelebA faces, 1068 x 872": (str(place / "groups"), files // 6),
        }
        tables = [
            *beside_the_loop(sets, repeats),
            stage_table(sets),
            flat_memory(
                [
                    (f"{many // 10:,} photos", "photos", str(celeba_folder), many // 10),
                    (f"{many:,} photos", "photos", str(celeba_folder), many),
                    (f"film of {minutes / 30:g} min, five frames a second", "film", str(place / "short.mp4"), 1),
                    (f"film of {minutes:g} min, five frames a second", "film", str(place / "long.mp4"), 1),
                ]
            ),
        ]
    tell("From photos and films to vectors", tables, out, load, __doc__ or "")


if __name__ == "__main__":
    script(main)()
