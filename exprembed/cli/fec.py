"""exprembed fec: Google's facial expression comparisons: fetch the faces, count the triplets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from exprembed.cli._common import JsonOption, clean_stdout, end, list_skipped, show, table
from exprembed.errors import WrongUseError
from exprembed.files import Skipped
from exprembed.progress import progress

fec_app = typer.Typer(
    no_args_is_help=True, help="Google's facial expression comparisons (FEC): fetch faces, count triplets."
)

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}

CsvArgument = Annotated[
    Path, typer.Argument(help="Google's CSV, or the folder with its train and test CSV.", show_default=False)
]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out and list them, instead of ending.")]


@fec_app.command()
def download(
    csv: CsvArgument,
    out: Annotated[Path, typer.Option(help="Folder for crops, lists and tables; a second run goes on in it.")],
    workers: Annotated[int, typer.Option(help="Photos under way at a time.")] = 16,
    rate: Annotated[float, typer.Option(help="Requests a second to one host.")] = 20.0,
    timeout: Annotated[float, typer.Option(help="Seconds for a connection and for each wait for data.")] = 20.0,
    total_timeout: Annotated[float, typer.Option(help="Seconds for one whole answer.")] = 120.0,
    retries: Annotated[int, typer.Option(help="Further tries after a timeout, a broken answer, 429 or 5xx.")] = 3,
    max_bytes: Annotated[str, typer.Option(help="Largest photo file, like 20MB or 5MiB.")] = "20MB",
    max_pixels: Annotated[int, typer.Option(help="Largest photo, width x height.")] = 40_000_000,
    margin: Annotated[float, typer.Option(help="Share of the box's size added on each side of a crop.")] = 0.0,
    skip_bad: SkipBadOption = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check the crops' sha256; mend damaged ones.")] = False,
    retry_dead: Annotated[bool, typer.Option("--retry-dead", help="Ask links that failed for good again.")] = False,
    allow_private: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="A host that may have a private address (repeatable); for your own mirror."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch every photo once, cut its faces out, and list the dead links.

    OUT gets crops/, photos.jsonl (the state), dead_links.csv, skipped.csv, and the tables faces.parquet (the faces that
    are there) and triplets.parquet (all triplets). Photos come straight from their hosts, without a proxy.

    Exit codes: 0 all faces are there; 1 some are not (skipped.csv says which and why); 2 wrong use; 3 bad input.
    """
    from exprembed.data.download import download_faces, present_faces
    from exprembed.data.fetch import FetchLimits
    from exprembed.data.readers.fec import read_fec

    limits = FetchLimits(
        rate=rate,
        timeout=timeout,
        total_timeout=total_timeout,
        retries=retries,
        max_bytes=parse_size(max_bytes),
        allow_hosts=frozenset(allow_private or ()),
    )
    skipped: list[Skipped] = []
    with clean_stdout(as_json):
        faces, triplets = read_fec(csv, out, skip_bad, skipped)
        n_bad = len(skipped)
        with progress("photos", faces["url"].nunique(), as_json) as advance:
            report = download_faces(
                faces,
                out,
                limits,
                workers=workers,
                max_pixels=max_pixels,
                margin=margin,
                verify=verify,
                retry_dead=retry_dead,
                progress=advance,
            )
        present = present_faces(faces, out)
        present.write_parquet(out / "faces.parquet")
        triplets.write_parquet(out / "triplets.parquet")
        skipped += report.skipped
        listed = list_skipped(skipped, out)
    n_complete = len(triplets.present_in(present.index))
    document = report.to_dict() | {"n_triplets": len(triplets), "n_triplets_present": n_complete, "n_bad_rows": n_bad}
    lines = [
        f"faces: {report.n_present:,} of {report.n_faces:,} present",
        f"triplets: {n_complete:,} of {len(triplets):,} with all three faces present",
        f"photos: {report.n_done:,} of {report.n_photos:,} complete, {report.n_fetched:,} fetched now",
        *(f"  gave nothing, {reason}: {n:,}" for reason, n in report.reasons.items()),
    ]
    if report.n_same_bytes:
        lines.append(f"{report.n_same_bytes:,} photos are the same file as another link's: look for placeholders")
    if report.changed:
        lines.append(f"{len(report.changed):,} photos are not the file of an earlier run")
    show(as_json, document | {"out": out, "skipped_list": listed}, *lines)
    end(skipped)


@fec_app.command()
def counts(csv: CsvArgument, skip_bad: SkipBadOption = False, as_json: JsonOption = False) -> None:
    """Count triplets by type and agreement, and faces: Table 1 of the paper.

    Exit codes: 0 done; 1 bad rows were left out; 2 wrong use; 3 bad input.
    """
    from exprembed.data.readers.fec import fec_counts, read_fec

    skipped: list[Skipped] = []
    rows = fec_counts(read_fec(csv, None, skip_bad, skipped)[1]).reset_index()
    document = {"counts": rows.to_dict("records"), "skipped": [item._asdict() for item in skipped]}
    shown = table(list(rows.columns), rows.to_numpy().tolist(), "FEC triplets, as in Table 1 of the paper")
    show(as_json, document, shown, *(f"left out: {item}: {reason}" for item, reason in skipped))
    end(skipped)


def parse_size(text: str) -> int:
    """Read a number of bytes: 500000, 20MB (10^6), 5MiB (2^20).

    Raises:
        WrongUseError: anything else.

    Example:
        >>> parse_size("20MB"), parse_size("1.5 KiB"), parse_size("300")
        (20000000, 1536, 300)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]I?|)B?\s*", text.upper())
    if match is None:
        raise WrongUseError(f"{text!r} is no size in bytes; write it like 500000, 20MB or 5MiB")
    return int(float(match[1]) * _UNITS[match[2]])
