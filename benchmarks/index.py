"""Time of searching and classifying by nearest neighbours, beside bare FAISS and scikit-learn.

Random unit vectors, seed 0, all threads of the machine (stated below). Contenders take turns in one process; times are
medians of wall time, ratios are those of medians. The classification protocol runs in a process of its own each time, so that memory can
be told apart: what the peak of the process rises by after imports and vectors.

    python benchmarks/index.py --out docs/results/index_speed
    python benchmarks/index.py --size 20000 --queries 512 --references 20000 --repeats 1
    python benchmarks/index.py --large 10000000 --out docs/results/index_large
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import faiss
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._measured import Measured, in_a_process, measured, show, tell
from exprembed.cli import script
from exprembed.index import ExpressionIndex, KNNClassifier
from exprembed.report import Row, Section

Work = Callable[[], Any]
STOCK, LOWERED = "stock faiss.IndexFlatL2", "faiss, its threshold lowered to 1"
SEARCHES = ((16, 10, 1.0), (16, 200, 1.0), (16, 10, 0.0), (3, 10, 1.0), (2, 10, 1.0), (512, 10, 1 / 16))
BARS = {(16, 10, 1.0): 5.0, (16, 200, 1.0): 4.0, (16, 10, 0.0): 0.95, (3, 10, 1.0): 100.0, (512, 10, 1 / 16): 0.95}
BURST = 50  # single queries in a turn
SETTLING = 120  # rounds of single queries that are not counted: from the hundredth on ours answers them another way
CLASSES, NEIGHBOURS = 8, 200


def unit(rng: np.random.Generator, n: int, d: int) -> NDArray[np.float32]:
    """Return n random unit vectors."""
    x = rng.normal(size=(n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def taking_turns(works: dict[str, Work], repeats: int) -> dict[str, float]:
    """Return the median seconds of each, after one call that does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(repeats):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def with_threshold(threshold: int, search: Work) -> Work:
    """Search with FAISS's threshold between its loop and products of matrices at another place."""

    def work() -> None:
        before = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = threshold
        try:
            search()
        finally:
            faiss.cvar.distance_compute_blas_threshold = before

    return work


def search_row(n: int, queries: int, shape: tuple[int, int, float], repeats: int, alone: bool = False) -> Row:
    """Ours beside FAISS at one size, after a look at whether both find the same.

    Args:
        n: vectors.
        queries: the most queries of a row.
        shape: d, k, and the share of the queries; none of them is one query.
        repeats: turns.
        alone: each query is a search of its own.
    """
    d, k, share = shape
    rng = np.random.default_rng(0)
    x, q = unit(rng, n, d), unit(rng, max(1, int(queries * share)), d)
    parts = np.split(q, len(q)) if alone else [q]
    ours, bare = ExpressionIndex(dim=d), faiss.IndexFlatL2(d)
    ours.add(x)
    bare.add(x)
    for part in SETTLING * parts if len(parts[0]) == 1 else ():
        ours.search(part, k=k)
    found, due = ours.search(q, k=k), bare.search(q, k)
    squared = np.square(found.distances)
    if not np.allclose(squared, due[0], rtol=1e-4, atol=2e-5):
        raise RuntimeError(f"exprembed and FAISS find different distances at {shape}")
    works: dict[str, Work] = {
        "ours": lambda: [ours.search(part, k=k) for part in parts],
        STOCK: lambda: [bare.search(part, k) for part in parts],
        LOWERED: with_threshold(1, lambda: [bare.search(part, k) for part in parts]),
    }
    median = taking_turns(works, repeats if len(q) > 1 else 50 * repeats)
    values = {
        "ours, queries/s": len(q) / median["ours"],
        "stock, queries/s": len(q) / median[STOCK],
        "lowered, queries/s": len(q) / median[LOWERED],
        "ours / stock": median[STOCK] / median["ours"],
        "bar": BARS.get((d, k, 0.0) if alone else shape),
    }
    how = "one after another" if alone else f"{len(q):,} queries" if len(q) > 1 else "one query, then the others'"
    return Row(f"{n:,} x {d}, {how}, k = {k}", values)


def searches(n: int, queries: int, repeats: int) -> Section:
    """The table of exact search."""
    columns = ("ours, queries/s", "stock, queries/s", "lowered, queries/s", "ours / stock", "bar")
    rows = [
        search_row(n, queries, shape, repeats) for shape in track(SEARCHES, "Searching", console=Console(stderr=True))
    ]
    rows.insert(3, search_row(n, BURST, (16, 10, 1.0), 3 * repeats, alone=True))
    notes = [
        "Times of ours include checks, text ids and square roots; both find the same distances.",
        f"One query, then the others': code and vectors come from memory each time. One after another: {BURST} queries in "
        "a row, a search each. Ours answers single queries past codes of a byte a number from the hundredth on; those before, "
        "which it leaves to FAISS, are not counted.",
    ]
    return Section("Exact search", "random unit vectors, seed 0", columns, rows, decimals=2, notes=notes)


# Classification -----------------------------------------------------------------------------------------------------


def ours_proba(x: NDArray[np.float32], y: NDArray[np.int64], q: NDArray[np.float32]) -> NDArray[np.float64]:
    """Shares of the classes among 200 neighbours."""
    return KNNClassifier(NEIGHBOURS).fit(x, y).predict_proba(q)


def sklearn_proba(x: NDArray[np.float32], y: NDArray[np.int64], q: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same by scikit-learn's own classifier, by brute force, on all threads."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(NEIGHBOURS, algorithm="brute", n_jobs=-1).fit(x, y).predict_proba(q)


def pml_proba(x: NDArray[np.float32], y: NDArray[np.int64], q: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same from the neighbours of pytorch-metric-learning's FaissKNN, which its AccuracyCalculator takes."""
    import torch
    from pytorch_metric_learning.utils.inference import FaissKNN

    _, rows = FaissKNN()(torch.from_numpy(q), NEIGHBOURS, torch.from_numpy(x))
    votes = y[rows.numpy()]
    return np.stack([(votes == code).mean(axis=1) for code in range(CLASSES)], axis=1)


PROTOCOL = {"exprembed": ours_proba, "scikit-learn": sklearn_proba, "pytorch-metric-learning": pml_proba}


def one(name: str, references: int, queries: int) -> Measured:
    """Run the protocol once in this process; return the AUC."""
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    x, q = unit(rng, references, 16), unit(rng, queries, 16)
    y, truth = (
        np.argmax(points[:, :CLASSES] + 0.2 * rng.normal(size=(len(points), CLASSES)), axis=1) for points in (x, q)
    )
    PROTOCOL[name](x[:20_000], y[:20_000], q[:500])  # loads what is loaded late
    return measured(lambda: float(roc_auc_score(truth, PROTOCOL[name](x, y, q), multi_class="ovr")))


def classification(references: int, queries: int, repeats: int) -> Section:
    """The table of the classification protocol."""
    runs: dict[str, list[Measured]] = {name: [] for name in PROTOCOL}
    for name in track([n for _ in range(repeats) for n in PROTOCOL], "Classifying", console=Console(stderr=True)):
        runs[name].append(in_a_process(__file__, [name, references, queries]))

    def middle(name: str, what: str) -> float:
        return statistics.median(getattr(run, what) for run in runs[name])

    columns = ("wall, s", "memory, MiB", "time / ours", "memory / ours", "AUC, %")
    rows = []
    for name, found in runs.items():
        wall, memory = middle(name, "wall"), middle(name, "memory")
        ratios = (wall / middle("exprembed", "wall"), memory / max(middle("exprembed", "memory"), 0.1))
        rows.append(Row(name, dict(zip(columns, (wall, memory, *ratios, 100 * found[0].result), strict=True))))
    title = f"Classes of {queries:,} queries by {NEIGHBOURS} of {references:,} neighbours, and the AUC"
    data = f"random unit vectors of 16 numbers, seed 0; class = largest of the first {CLASSES} with noise"
    return Section(title, data, columns, rows, decimals=2)


# Life ---------------------------------------------------------------------------------------------------------------


OURS, BARE = "from exprembed import ExpressionIndex", "import faiss"


def importing(statement: str) -> Work:
    """Run an import in a fresh process."""
    return lambda: subprocess.run([sys.executable, "-c", statement], check=True)  # noqa: S603 - ourselves


def life(n: int, queries: int, repeats: int) -> Section:
    """Building, saving, loading: what text ids, metadata and checksums cost over bare FAISS."""
    rng = np.random.default_rng(0)
    x, q = unit(rng, n, 16), unit(rng, queries, 16)
    names = [f"face{i:07d}.jpg" for i in range(n)]

    def built() -> ExpressionIndex:
        index = ExpressionIndex(dim=16)
        index.add(x, ids=names)
        return index

    def bare() -> Any:  # noqa: ANN401 - untyped
        index = faiss.IndexFlatL2(16)
        index.add(x)
        return index

    with tempfile.TemporaryDirectory() as folder:
        place, file = Path(folder) / "ours", str(Path(folder) / "bare.faiss")
        ours, theirs = built(), bare()
        ours.save(place)
        faiss.write_index(theirs, file)
        pairs: dict[str, tuple[Work, Work]] = {
            "build": (built, bare),
            "save": (lambda: ours.save(place), lambda: faiss.write_index(theirs, file)),
            "load": (lambda: ExpressionIndex.load(place), lambda: faiss.read_index(file)),
            "search": (lambda: ours.search(q), lambda: theirs.search(q, 10)),
        }
        found = {"import": taking_turns({"ours": importing(OURS), "faiss": importing(BARE)}, repeats)}
        for step, (mine, other) in pairs.items():
            found[step] = taking_turns({"ours": mine, "faiss": other}, repeats)
        found["together"] = {who: sum(step[who] for step in found.values()) for who in ("ours", "faiss")}
        rows = []
        for step, median in found.items():
            ratio = median["ours"] / median["faiss"]
            rows.append(Row(step, {"ours, s": median["ours"], "FAISS, s": median["faiss"], "ours / FAISS": ratio}))
    notes = [
        "FAISS alone keeps no ids, no metadata, no checksums, and may leave half a file behind.",
        f"Import: a process that runs `{OURS}`, and one that runs `{BARE}`; the interpreter's own start is in both.",
        f"Search: {queries:,} queries, k = 10.",
    ]
    return Section(
        f"A life of {n:,} x 16",
        "random unit vectors, text ids",
        ("ours, s", "FAISS, s", "ours / FAISS"),
        rows,
        decimals=3,
        notes=notes,
    )


# Ten million ---------------------------------------------------------------------------------------------------------


def falling(rng: np.random.Generator, n: int, d: int = 16) -> NDArray[np.float32]:
    """Return n unit vectors whose numbers vary less and less, as those of a trained embedding do."""
    x = rng.standard_normal((n, d), dtype=np.float32) / np.arange(1, d + 1, dtype=np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


TUNED = 0.995  # on items of its own, so that other queries find 99 %


def large(n: int, queries: int) -> Section:
    """An approximate index of many vectors, tuned to a recall, beside the flat one of FAISS."""
    rng = np.random.default_rng(0)
    x, q = falling(rng, n), falling(rng, queries)
    bare = faiss.IndexFlatL2(16)
    bare.add(x)
    lists = 2 ** round(np.log2(2.6 * np.sqrt(n)))
    index = ExpressionIndex(dim=16, kind=f"IVF{lists},Flat")
    seconds = {}

    def timed(step: str, work: Work) -> Any:  # noqa: ANN401
        start = time.perf_counter()
        result = work()
        seconds[step] = time.perf_counter() - start
        return result

    timed("build", lambda: index.add(x))
    timed("tune", lambda: index.tune(TUNED))
    some = q[: max(1, queries // 4)]
    due = timed("flat", lambda: bare.search(some, 10))[1]
    found = timed("ours", lambda: index.search(q, k=10)).ids[: len(some)].astype(np.int64)
    recall = np.mean([len(np.intersect1d(*pair)) / 10 for pair in zip(due, found, strict=True)])
    with tempfile.TemporaryDirectory() as folder:
        timed("save", lambda: index.save(folder))
        timed("open", lambda: ExpressionIndex.load(folder))
        sizes = {name: (Path(folder) / name).stat().st_size / n for name in ("vectors.faiss", "items.parquet")}
        flat = ExpressionIndex(dim=16, kind="flat")
        flat.add(x)
        flat.save(Path(folder) / "flat")
        timed("open, flat", lambda: ExpressionIndex.load(Path(folder) / "flat"))
    rates = {"ours": len(q) / seconds.pop("ours"), "flat": len(some) / seconds.pop("flat")}
    rows = [
        Row("queries/s, stock faiss.IndexFlatL2", {"value": rates["flat"]}),
        Row("queries/s, ours", {"value": rates["ours"]}, note=f"IVF{lists},Flat; {index.info()['effort']}"),
        Row("ours / stock", {"value": rates["ours"] / rates["flat"]}, note="bar 15"),
        Row("recall of own items, tuned to 99.5 %", {"value": 100 * float(index.recall or 0)}),
        Row("recall of other queries, %", {"value": 100 * recall}, note=f"{len(some):,} queries"),
        *(Row(f"{step}, s", {"value": value}) for step, value in seconds.items()),
        *(Row(f"{name}, bytes a face", {"value": value}) for name, value in sizes.items()),
    ]
    data = "unit vectors of 16 normal numbers with deviations 1, 1/2, ... 1/16, seed 0"
    return Section(f"{n:,} x 16, k = 10", data, ("value",), rows, decimals=2)


def main(
    out: Annotated[Path | None, typer.Option(help="Folder for report.md and report.json.")] = None,
    size: Annotated[int, typer.Option(help="References of the searches.")] = 200_000,
    queries: Annotated[int, typer.Option(help="Queries of the searches.")] = 4096,
    references: Annotated[int, typer.Option(help="References of the classification.")] = 288_000,
    repeats: Annotated[int, typer.Option(help="Runs of each; the tables have medians.")] = 5,
    many: Annotated[
        int | None, typer.Option("--large", help="Instead: so many vectors in an approximate index.")
    ] = None,
    job: Annotated[str | None, typer.Option("--one", hidden=True)] = None,
) -> None:
    """Measure, print the tables, and write them with --out."""
    if job is not None:
        show(one(*json.loads(job)))
        return
    load = os.getloadavg()[0]
    if many is not None:
        tables = [large(many, queries)]
    else:
        tables = [
            searches(size, queries, repeats),
            classification(references, queries, min(3, repeats)),
            life(size, queries, repeats),
        ]
    threads = faiss.omp_get_max_threads()
    tell("Speed of the index", tables, out, load, __doc__ or "", faiss=faiss.__version__, threads=threads)


if __name__ == "__main__":
    script(main)()
