"""exprembed album: a few pictures that tell the expressions of an album."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exprembed.cli._common import JsonOption, ModelOption, clean_stdout, end, list_skipped, option_groups, show, table
from exprembed.cli._faces import Embedded, FaceOptions, SourceOptions, embed_photos, find_photos, open_model, recut
from exprembed.cli._vectors import is_vector_file, read_vectors
from exprembed.errors import BadInputError, WrongUseError, unknown_name
from exprembed.files import Skipped

if TYPE_CHECKING:
    from exprembed.data.preprocessing import Preprocessing
    from exprembed.index import AlbumSummary


@option_groups(face=FaceOptions, source=SourceOptions)
def album(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Photos or folders, or one Parquet file of 'exprembed embed'.", show_default=False, metavar="PATH..."
        ),
    ],
    summary: Annotated[int, typer.Option(help="Pictures wanted.", min=1)] = 10,
    out: Annotated[Path | None, typer.Option(help="Also write a page with the pictures.")] = None,
    per_person: Annotated[
        bool, typer.Option("--per-person", help="Factor out who a face shows; needs a column 'subject'.")
    ] = False,
    best_of: Annotated[
        str | None,
        typer.Option(help="'burst': of photos taken within seconds of each other, take one.", metavar="burst"),
    ] = None,
    gap: Annotated[float, typer.Option(help="Seconds between photos of one burst.", min=0)] = 3.0,
    model: ModelOption = None,
    as_json: JsonOption = False,
    *,
    face: FaceOptions,
    source: SourceOptions,
) -> None:
    """Group the faces of an album by expression and name the face nearest to the centre of each group.

    With --best-of burst, photos go by the time their camera wrote into them; of each burst the one with the most faces, and the most
    typical ones, is kept, and photos without a time are all kept.

    Complete linkage over the cosine distance, the largest group first. An album of 50,000 faces takes a minute or two.

    Exit codes: 0 done; 1 some photos were skipped; 2 wrong use; 3 bad input.
    """
    import pandas as pd

    from exprembed.index import summarize_album

    with clean_stdout(as_json):
        if best_of not in (None, "burst"):
            raise unknown_name("--best-of", str(best_of), ["burst"])
        done, preprocessing = _faces(paths, model, face, source, as_json, pictures=out is not None)
        bursts = None
        if best_of is not None:
            done, bursts = _best_of_bursts(done, gap)
        if per_person and "subject" not in done.faces:
            raise WrongUseError(
                "--per-person needs to know who a face shows: a column 'subject', which only some data sets have"
            )
        subjects = done.faces["subject"].tolist() if per_person else None
        found = summarize_album(pd.DataFrame(done.vectors, index=done.faces.index), summary, subjects)
        skipped = list(done.skipped)
        if out is not None and preprocessing is not None:
            skipped += write_album_page(out, done, found, preprocessing)
        folder = out.parent if out is not None else Path()
        listed = list_skipped(skipped, folder) if skipped or out is not None else None
    names = [str(name) for name in found.representatives]
    paths_of = done.faces["path"] if "path" in done.faces else dict.fromkeys(names)
    rows = [(rank, size, name) for rank, (name, size) in enumerate(zip(names, found.sizes, strict=True), 1)]
    groups = [{"representative": name, "path": paths_of[name], "size": size} for _, size, name in rows]
    labels = {str(name): int(label) + 1 for name, label in zip(done.faces.index, found.labels, strict=True)}
    document = {
        "faces": len(done.faces),
        "bursts": bursts,
        "groups": groups,
        "group_of": labels,
        "page": out,
        "skipped_list": listed,
    }
    show(as_json, document, table(("group", "faces", "representative"), rows))
    end(skipped)


def write_album_page(path: Path, done: Embedded, found: AlbumSummary, preprocessing: Preprocessing) -> list[Skipped]:
    """Write a page with one picture a group; return the pictures that could not be shown."""
    from exprembed.cli import _page

    skipped: list[Skipped] = []
    tiles = []
    for number, (name, size) in enumerate(zip(found.representatives, found.sizes, strict=True), 1):
        file = Path(str(done.faces.loc[name].get("path", name))).name
        try:
            img = _page.picture(recut(done.faces.loc[name], preprocessing, 2 * _page.SIDE), f"group {number}: {file}")
        except (BadInputError, KeyError) as error:
            skipped.append(Skipped(str(name), f"its picture cannot be shown: {error}"))
            img = '<span class="soft">no picture</span>'
        faces = "1 face" if size == 1 else f"{size:,} faces"
        tiles.append(f"<li>{_page.figure(img, f'<b>{_page.text(file)}</b><small>stands for {faces}</small>')}</li>")
    lead = f"{len(done.faces):,} faces, grouped by expression; each group is shown by the face nearest to its centre."
    header = f'<h1>The album in {len(tiles)} pictures</h1><p class="lead">{_page.text(lead)}</p>'
    _page.write_page(path, _page.page("Album", header, [f'<ol class="album">{"".join(tiles)}</ol>']))
    return skipped


def _best_of_bursts(done: Embedded, gap: float) -> tuple[Embedded, dict[str, int]]:
    """Keep the faces of one photo of each burst; also count photos, those without a time, and bursts."""
    from exprembed.data.photo_time import taken_at
    from exprembed.index import best_of_bursts

    if "path" not in done.faces:
        raise WrongUseError("--best-of burst needs the photos: a column 'path', which this file lacks")
    paths = done.faces["path"].astype(str)
    times = {path: taken_at(path) for path in paths.unique()}
    best = best_of_bursts(done.vectors, paths.tolist(), [times[path] for path in paths], gap)
    kept = paths.isin(best).to_numpy()
    counts = {"photos": len(times), "without_time": sum(time is None for time in times.values()), "kept": len(best)}
    return replace(done, faces=done.faces[kept], vectors=done.vectors[kept]), counts


def _faces(
    paths: list[Path], model: str | None, face: FaceOptions, source: SourceOptions, quiet: bool, pictures: bool
) -> tuple[Embedded, Preprocessing | None]:
    """Return the album's faces from photos or from a file, and the preprocessing by which pictures are cut."""
    if not any(is_vector_file(path) for path in paths):
        embedder = open_model(model, face)
        return embed_photos(embedder, find_photos(paths, source), face, quiet=quiet), embedder.preprocessing
    if len(paths) > 1 or source != SourceOptions():
        raise WrongUseError("a Parquet file of vectors comes alone, without --dataset, --split and --limit")
    file = read_vectors(paths[0])
    done = Embedded(file.faces, file.vectors.to_numpy(), [], len(file.vectors), 0.0)
    return done, open_model(model, face).preprocessing if pictures else None
