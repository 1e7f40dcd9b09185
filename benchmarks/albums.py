"""Time and memory of complete linkage over the cosine distance, beside scipy, scikit-learn and fastcluster.

Random unit vectors of 16 numbers, ten clusters. Each run is a process of its own, on one thread; memory is what the
peak of the process rises by after imports and vectors. Contenders that need an n x n array stop at 20,000 vectors, where it
takes 3 GB.

    python benchmarks/albums.py --out docs/results/albums_speed
    python benchmarks/albums.py --size 2000 --repeats 1
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._measured import Measured, in_a_process, measured, show, tell
from exprembed.cli import script
from exprembed.report import Row, Section

SIZES, CLUSTERS, DIM, MOST = (10_000, 20_000, 50_000), 10, 16, 20_000
COLUMNS = ("wall, s", "CPU, s", "memory, MiB", "time / ours", "memory / ours", "agreement with ours")


def vectors(n: int) -> NDArray[np.float64]:
    """Return n random unit vectors."""
    x = np.random.default_rng(0).normal(size=(n, DIM))
    unit: NDArray[np.float64] = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit


def with_exprembed() -> Callable[[NDArray[np.float64]], NDArray[Any]]:
    """The chain of nearest neighbours."""
    from exprembed.index.linkage import complete_linkage

    return lambda x: complete_linkage(x, CLUSTERS)


def with_scipy() -> Callable[[NDArray[np.float64]], NDArray[Any]]:
    """All distances, then `linkage`."""
    from scipy.cluster.hierarchy import fcluster, linkage

    return lambda x: fcluster(linkage(x, "complete", "cosine"), CLUSTERS, "maxclust")


def with_scikit_learn() -> Callable[[NDArray[np.float64]], NDArray[Any]]:
    """What small albums take."""
    from sklearn.cluster import AgglomerativeClustering

    return AgglomerativeClustering(CLUSTERS, metric="cosine", linkage="complete").fit_predict


def with_fastcluster() -> Callable[[NDArray[np.float64]], NDArray[Any]]:
    """All distances, then `fastcluster.linkage`."""
    import fastcluster
    from scipy.cluster.hierarchy import fcluster

    return lambda x: fcluster(fastcluster.linkage(x, "complete", "cosine"), CLUSTERS, "maxclust")


CONTENDERS = {
    "exprembed": with_exprembed,
    "scipy": with_scipy,
    "scikit-learn": with_scikit_learn,
    "fastcluster": with_fastcluster,
}


def one(contender: str, n: int) -> Measured:
    """Measure one contender in this process."""
    work = CONTENDERS[contender]()
    x = vectors(n)
    work(x[:50])
    return measured(lambda: np.asarray(work(x)).tolist())


def section(n: int, runs: dict[str, list[Measured]]) -> Section:
    """One table a size."""
    from sklearn.metrics import adjusted_rand_score

    def middle(name: str, what: str) -> float:
        return statistics.median(getattr(run, what) for run in runs[name])

    rows = []
    for name, found in runs.items():
        values = [middle(name, what) for what in ("wall", "cpu", "memory")]
        ratios = [values[0] / middle("exprembed", "wall"), values[2] / max(middle("exprembed", "memory"), 0.1)]
        same = adjusted_rand_score(runs["exprembed"][0].result, found[0].result)
        rows.append(Row(name, dict(zip(COLUMNS, [*values, *ratios, same], strict=True))))
    return Section(f"{n:,} vectors", f"random unit vectors of {DIM} numbers, seed 0", COLUMNS, rows, decimals=2)


def main(
    out: Annotated[Path | None, typer.Option(help="Folder for report.md and report.json.")] = None,
    size: Annotated[list[int] | None, typer.Option(help="Numbers of vectors; may be repeated.")] = None,
    repeats: Annotated[int, typer.Option(help="Runs of each, in turns; the table has medians.")] = 3,
    job: Annotated[str | None, typer.Option("--one", hidden=True)] = None,
) -> None:
    """Measure, print the tables, and write them with --out."""
    if job is not None:
        show(one(*json.loads(job)))
        return
    names = list(CONTENDERS)
    try:
        import fastcluster  # noqa: F401
    except ImportError:
        names.remove("fastcluster")
    load, tables = os.getloadavg()[0], []
    for n in size or SIZES:
        those = names if n <= MOST else names[:1]
        runs: dict[str, list[Measured]] = {name: [] for name in those}
        turns = [name for _ in range(repeats if n <= MOST else 1) for name in those]
        for name in track(turns, f"{n:,} vectors", console=Console(stderr=True)):
            runs[name].append(in_a_process(__file__, [name, n]))
        tables.append(section(n, runs))
    tell("Complete linkage of albums", tables, out, load, __doc__ or "", threads=1)


if __name__ == "__main__":
    script(main)()
