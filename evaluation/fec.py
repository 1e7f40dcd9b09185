"""The evaluation of FEC (Vemulapalli and Agarwala, CVPR 2019) on any tables: its four tables and six figures.

    python -m evaluation.fec --faces faces.parquet --triplets triplets.parquet --vectors fecnet=v.parquet --out DIR

Every table and figure is a function of `Inputs`: `table1(Inputs(vectors, faces, triplets))`; `run` makes the report.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from evaluation import fec_paper as paper
from evaluation._common import Inputs, Unavailable, Vectors, describe, faces_of
from evaluation.fec_faces import fig5, fig7, table4
from evaluation.fec_retrieval import NO_SHEET, fig6, fig8, fig9, pairs_to_judge
from evaluation.fec_triplets import fig4, rater_ceilings, table1, table2, table3
from exprembed.cli import script
from exprembed.errors import BadInputError, WrongUseError, unknown_name
from exprembed.files import Skipped, atomic_path
from exprembed.report import Report, Section

__all__ = [
    "PARTS",
    "Inputs",
    "Unavailable",
    "app",
    "fig4",
    "fig5",
    "fig6",
    "fig7",
    "fig8",
    "fig9",
    "pairs_to_judge",
    "rater_ceilings",
    "run",
    "table1",
    "table2",
    "table3",
    "table4",
]

PARTS: dict[str, Callable[[Inputs], Section]] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "fig4": fig4,
    "fig5": fig5,
    "fig6": fig6,
    "fig7": fig7,
    "table4": table4,
    "fig8": fig8,
    "fig9": fig9,
}
"""What can be made, in the order of the paper."""


def run(
    vectors: Vectors,
    faces: pd.DataFrame,
    triplets: pd.DataFrame | None = None,
    *,
    parts: Sequence[str] | None = None,
    out: str | Path | None = None,
    seeds: Sequence[int] = (),
    **more: Any,  # noqa: ANN401 - the fields of Inputs
) -> Report:
    """Make the tables and figures of the FEC paper from any tables, ours beside the paper's numbers.

    Args:
        vectors: embedding -> (n, d) DataFrame by face_id, or one for each seed; see `Inputs`.
        faces: the FaceTable.
        triplets: the TripletTable; without it what rests on triplets is left out.
        parts: names of PARTS. By default all that the data allow; what they do not is listed in `skipped`.
        out: folder for report.md, report.json and the figures; nothing is written by default.
        seeds: the training seeds that the runs of an embedding stand for, in order; named in the report.
        more: the other fields of `Inputs`: votes, gallery, queries, sweep, rank_votes, metric, seed, data.

    Returns:
        Report; `skipped` lists parts that could not be made and embeddings that lack faces of the scored triplets.

    Raises:
        WrongUseError: an unknown part, another number of seeds than runs.
        BadInputError: bad vectors or tables; also a part that was asked for by name and cannot be made.
    """
    inputs = Inputs(vectors, faces, triplets, **more)
    for name in parts or ():
        if name not in PARTS:
            raise unknown_name("part of the FEC evaluation", name, PARTS)
    counts = {name: len(runs) for name, runs in inputs.runs.items()}
    if seeds and len(seeds) != max(counts.values()):
        raise WrongUseError(f"{len(seeds)} seeds but {max(counts.values())} runs of an embedding; name one seed a run")
    report = Report(f"FEC evaluation: {paper.TITLE}", data=_data_words(inputs), seeds=tuple(seeds))
    for name in PARTS if parts is None else parts:
        try:
            section = PARTS[name](inputs)
        except Unavailable as error:
            if parts is not None:
                raise BadInputError(f"{name} cannot be made: it {error}") from error
            report.skipped.append(Skipped(name, f"it {error}"))
            continue
        report.sections.append(section)
        report.skipped += [Skipped(name, note) for note in section.notes if note.startswith(NO_SHEET)]
    report.skipped += _without_vectors(inputs)
    if out is not None:
        report.write(out)
    return report


def _data_words(inputs: Inputs) -> dict[str, str]:
    words = {"Faces": f"{len(inputs.faces):,}, {inputs.data or describe(inputs.faces)}"}
    if inputs.triplets is not None:
        words["Triplets"] = f"{len(inputs.triplets):,}"
    sizes = (f"{name} ({runs[0].shape[1]} dimensions, runs: {len(runs)})" for name, runs in inputs.runs.items())
    words["Embeddings"] = ", ".join(sizes)
    words["Sampling seed"] = str(inputs.seed)
    return words


def _without_vectors(inputs: Inputs) -> list[Skipped]:
    """List the embeddings that lack faces of the scored triplets, one line a run."""
    try:
        needed = faces_of(inputs.scored.triplets)
    except Unavailable:
        return []
    lines = []
    for name, runs in inputs.runs.items():
        for place, vectors in enumerate(runs):
            absent = needed[~needed.isin(vectors.index)]
            if len(absent):
                run_name = name if len(runs) == 1 else f"{name}, run {place + 1}"
                reason = f"no vector for {len(absent):,} of the {len(needed):,} faces of the scored triplets"
                lines.append(Skipped(run_name, f"{reason}, first {absent[0]!r}"))
    return lines


def evaluate(
    faces: Annotated[list[Path] | None, typer.Option(help="FaceTable (Parquet); several are joined.")] = None,
    vectors: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="Vectors (Parquet); one name again is one more seed.")
    ] = None,
    triplets: Annotated[Path | None, typer.Option(help="TripletTable (Parquet).")] = None,
    votes: Annotated[
        Path | None, typer.Option(help="Answers of single raters: columns triplet, rater, answer (Parquet or CSV).")
    ] = None,
    rank_votes: Annotated[
        Path | None, typer.Option(help="Votes on retrieved pairs for Fig. 6, as --write-pairs lists them.")
    ] = None,
    sweep: Annotated[
        list[str] | None, typer.Option(metavar="D=FILE", help="Vectors of a network with D output dimensions (Fig. 4).")
    ] = None,
    gallery: Annotated[str | None, typer.Option(help="A split's name or a FaceTable: the faces searched.")] = None,
    queries: Annotated[str | None, typer.Option(help="A split's name or a FaceTable: the faces looked up.")] = None,
    tables: Annotated[str | None, typer.Option(help="Only these tables: 1,2,3,4.")] = None,
    figures: Annotated[str | None, typer.Option(help="Only these figures: 4,5,6,7,8,9.")] = None,
    metric: Annotated[str, typer.Option(help="l2, l1 or cosine.")] = "l2",
    data: Annotated[str | None, typer.Option(help="Name of the data, for the report.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of simulated raters, sampling and t-SNE.")] = 0,
    seeds: Annotated[str | None, typer.Option(help="Training seeds of repeated vectors: 0,1,2.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for report.md, report.json and figures.")] = None,
    write_pairs: Annotated[
        Path | None, typer.Option(help="Only write the pairs that raters must judge for Fig. 6 (CSV).")
    ] = None,
    demo: Annotated[bool, typer.Option(help="Use rendered faces and simple embeddings; needs --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
) -> None:
    """Make the tables and figures of the FEC paper from your faces, triplets and vectors."""
    parts = _parts(tables, figures)
    given: dict[str, Any]
    if demo:
        if out is None:
            raise WrongUseError("--demo writes its rendered faces beside the report: give --out DIR")
        if faces or vectors or triplets:
            raise WrongUseError("--demo brings its own faces, triplets and vectors; leave yours out")
        from evaluation._demo import demo_inputs

        given = demo_inputs(out, seed)
    else:
        if not faces or not vectors:
            raise WrongUseError("--faces FILE and --vectors NAME=FILE are due (or --demo --out DIR)")
        given = {
            "vectors": _named_files(vectors, "--vectors"),
            "faces": _faces(faces),
            "triplets": _triplets(triplets),
            "votes": _table(votes),
            "rank_votes": _table(rank_votes),
            "sweep": _sweep(sweep),
            "gallery": _faces([Path(gallery)]) if gallery and gallery.endswith(".parquet") else gallery,
            "queries": _faces([Path(queries)]) if queries and queries.endswith(".parquet") else queries,
            "data": data,
        }
    given |= {"metric": metric, "seed": seed}
    if write_pairs is not None:
        pairs = pairs_to_judge(Inputs(**given))
        with atomic_path(write_pairs) as temporary:
            pairs.to_csv(temporary, index=False)
        typer.echo(f"{len(pairs):,} pairs to judge in {write_pairs}", err=True)
        return
    report = run(**given, parts=parts, out=out, seeds=_numbers(seeds, "--seeds") if seeds else ())
    if as_json:
        typer.echo(report.to_json())
    else:
        from rich.console import Console

        # Where no terminal sets a width, rich assumes 80 columns, too few for these tables.
        report.print(Console() if sys.stdout.isatty() else Console(width=140))
    if report.skipped:
        raise typer.Exit(1)


def _parts(tables: str | None, figures: str | None) -> list[str] | None:
    if tables is None and figures is None:
        return None
    asked = [f"table{n}" for n in _numbers(tables or "", "--tables")]
    asked += [f"fig{n}" for n in _numbers(figures or "", "--figures")]
    for name in asked:
        if name not in PARTS:
            raise unknown_name("part of the FEC evaluation", name, PARTS)
    return [name for name in PARTS if name in asked]


def _numbers(text: str, option: str) -> list[int]:
    fields = [field.strip() for field in text.split(",") if field.strip()]
    wrong = [field for field in fields if not field.isdecimal()]
    if wrong:
        raise WrongUseError(f"{option} takes whole numbers with commas between them, as 1,2,3; got {wrong[0]!r}")
    return [int(field) for field in fields]


def _named_files(entries: Sequence[str], option: str) -> dict[str, list[pd.DataFrame]]:
    from exprembed.cli._vectors import read_vectors

    found: dict[str, list[pd.DataFrame]] = {}
    for entry in entries:
        name, separator, path = entry.partition("=")
        if not separator or not name or not path:
            raise WrongUseError(f"{option} takes NAME=FILE; got {entry!r}")
        found.setdefault(name, []).append(read_vectors(Path(path)).vectors)
    return found


def _sweep(entries: Sequence[str] | None) -> Mapping[int, list[pd.DataFrame]] | None:
    if not entries:
        return None
    found = _named_files(entries, "--sweep")
    wrong = [name for name in found if not name.isdecimal()]
    if wrong:
        raise WrongUseError(f"--sweep takes D=FILE with a whole number D; got {wrong[0]!r}")
    return {int(name): runs for name, runs in found.items()}


def _table(path: Path | None) -> pd.DataFrame | None:
    if path is None:
        return None
    if not path.is_file():
        raise BadInputError(f"{path} does not exist")
    text = path.suffix.lower() == ".csv"
    names: dict[Any, Any] = dict.fromkeys(("query", "left", "right", "rater"), str)
    try:
        return pd.read_csv(path, dtype=names) if text else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        kind = "CSV" if text else "Parquet"
        raise BadInputError(f"{path} cannot be read as a {kind} table: {error}") from error


def _faces(paths: Sequence[Path]) -> pd.DataFrame:
    from exprembed.data.tables import FaceTable

    return FaceTable(pd.concat([pd.DataFrame(FaceTable.read_parquet(path)) for path in paths]))


def _triplets(path: Path | None) -> pd.DataFrame | None:
    from exprembed.data.tables import TripletTable

    found: pd.DataFrame | None = None if path is None else TripletTable.read_parquet(path)
    return found


app = script(evaluate)


if __name__ == "__main__":
    app()
