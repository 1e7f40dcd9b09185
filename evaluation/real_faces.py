"""What embeddings reach on real faces: FER+ validation, RAF-DB and JAFFE, side by side.

The data sets are read in their official layouts from one folder (`ferplus`, `rafdb`, `jaffe` in it). Nothing is tuned
on what is reported here: FER+'s validation images (exact copies of training images removed) and all of RAF-DB and JAFFE
are never trained on.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from torch import nn

from evaluation.baselines import hog_pca, pixels_pca
from exprembed.cli import script
from exprembed.data import read_ferplus, read_jaffe, read_rafdb
from exprembed.data.faces import crop_faces
from exprembed.data.readers.jaffe import jaffe_rating_triplets
from exprembed.data.tables import TRIPLET_TYPES, FaceTable, TripletTable
from exprembed.data.triplets import triplets_from_votes
from exprembed.data.vectors import vector_columns
from exprembed.files import Skipped, atomic_path
from exprembed.metrics import (
    IdentityLeak,
    cross_validated_knn_auc,
    identity_leak,
    knn_auc_roc,
    rater_accuracy,
    triplet_accuracy,
)
from exprembed.models import load_model
from exprembed.models.backbones import FER_ALIGNMENT
from exprembed.models.base import Embedder
from exprembed.models.embedding import embed_pixels
from exprembed.report import Measure, Report, Row, Section
from exprembed.training.teachers import join_vectors

CROP = 96
TEN = IdentityLeak(0.15, 0.087, 213)  # what is wanted, of all ten people of JAFFE
COLUMNS = (
    "FER+ triplets",
    "one-class",
    "two-class",
    "three-class",
    "FER+ AUC",
    "RAF-DB AUC",
    "JAFFE triplets",
    "JAFFE leak",
    "leak odds",
)
LAYERS = {
    "P": "cosine",
    "F": "cosine",
    "class shares": "l2",
    "shares and odds": "l2",
}  # of a classifier, each with its distance
Vectors = dict[str, pd.DataFrame]
Maker = Callable[["RealFaces"], Vectors]


@dataclass(frozen=True)
class RealFaces:
    """The three sets, ready to be embedded and scored.

    Attributes:
        gallery: FER+ training faces.
        queries: FER+ validation faces, without exact copies of training images and of each other.
        triplets: strong triplets judged from the validation faces' votes.
        raf: RAF-DB's training part (never trained on here), official aligned crops.
        jaffe: JAFFE, cropped by this library's own face step.
        jaffe_triplets: from the human ratings; three different subjects, clear closest pair.
        images: grey crops by set, (n, CROP, CROP) uint8, in the tables' order.
        drawn: triplets drawn before those without strong agreement were left out.
        skipped: faces that could not be used.
    """

    gallery: FaceTable
    queries: FaceTable
    triplets: TripletTable
    raf: FaceTable
    jaffe: FaceTable
    jaffe_triplets: TripletTable
    images: Mapping[str, np.ndarray]
    drawn: int
    skipped: list[Skipped]


def read_real_faces(data: Path, per_type: int = 20_000, seed: int = 0) -> RealFaces:
    """Read the sets, remove duplicates, crop JAFFE, draw and judge the triplets."""
    skipped: list[Skipped] = []
    ferplus = read_ferplus(data / "ferplus", skipped=skipped)
    gallery = FaceTable(ferplus[ferplus["split"] == "train"])
    queries = FaceTable(ferplus[ferplus["split"] == "validation"])
    images = {"gallery": grey_pictures(gallery), "queries": grey_pictures(queries)}
    seen = {picture.tobytes() for picture in images["gallery"]}
    fresh = np.zeros(len(queries), bool)
    for row, picture in enumerate(images["queries"]):
        copy = picture.tobytes() in seen
        seen.add(picture.tobytes())
        fresh[row] = not copy
        if copy:
            skipped.append(Skipped(str(queries.index[row]), "exact copy of a training or an earlier validation image"))
    queries, images["queries"] = FaceTable(queries[fresh]), images["queries"][fresh]
    triplets = triplets_from_votes(queries, per_type, seed=seed, strong_only=True)
    raf = read_rafdb(data / "rafdb")
    raf = FaceTable(raf[raf["split"] == "train"])
    images["raf"] = grey_pictures(raf)
    jaffe = read_jaffe(data / "jaffe")
    found = crop_faces(
        {str(face): path for face, path in jaffe["path"].items()}, alignment=FER_ALIGNMENT, size=CROP, faces="largest"
    )
    skipped += found.skipped
    jaffe = FaceTable(jaffe.loc[[str(name).rpartition("#")[0] for name in found.faces.index]])
    images["jaffe"] = np.stack([np.asarray(crop.convert("L")) for crop in found.crops])
    return RealFaces(
        gallery, queries, triplets, raf, jaffe, jaffe_rating_triplets(jaffe), images, 3 * per_type, skipped
    )


def grey_pictures(faces: FaceTable) -> np.ndarray:
    """Return pictures as (n, h, w) uint8: those of 48 x 48 as they are, others at `CROP`."""
    from PIL import Image

    from exprembed.data.images import open_image

    pictures = (open_image(path).convert("L") for path in faces["path"])
    return np.stack(
        [np.asarray(p if p.size == (48, 48) else p.resize((CROP, CROP), Image.Resampling.BILINEAR)) for p in pictures]
    )


def embed_with(model: Embedder, cache: Path | None = None) -> Maker:
    """Return what embeds every set with a model; with `cache`, each set once for each model and its pictures."""

    def embedded(images: np.ndarray) -> np.ndarray:
        blocks = (images[i : i + 512] for i in range(0, len(images), 512))
        return np.concatenate([embed_pixels(model, model.preprocessing.pixels(list(block))) for block in blocks])

    def make(faces: RealFaces) -> Vectors:
        vectors = {}
        for name, images in faces.images.items():
            key = hashlib.sha256(model.fingerprint.encode() + images.tobytes()).hexdigest()
            stored = None if cache is None else cache / f"{key}.npy"
            if stored is not None and stored.is_file():
                values = np.load(stored, allow_pickle=False)
            else:
                values = embedded(images)
                if stored is not None:
                    with atomic_path(stored) as temporary, temporary.open("wb") as file:
                        np.save(file, values)
            vectors[name] = pd.DataFrame(values, index=getattr(faces, name).index)
        return vectors

    return make


def hidden_layer(path: Path) -> Embedder:
    """Return a FECNet whose embedding is its hidden layer: what a softmax network's layer P is, after the same training."""
    model = load_model(path)
    model.shares, model.embedding = 0.0, nn.Identity()
    return model


def classifier_layers(path: Path, cache: Path | None = None) -> dict[str, Maker]:
    """Return what embeds every set by a classifier's layers P and F, by its class shares, and by shares and odds.

    Class shares are the square roots of the softmax's probabilities: the distance is sqrt(2) times Hellinger's. Shares
    and odds are what `FECNet(shares=0.5)` would give before any triplet has taught it, around the mean of FER+'s training
    faces. The pictures go through the network once.
    """
    model = load_model(path)
    inner = functools.cache(lambda key: embed_with(model, cache)(known[key]))
    known: dict[int, RealFaces] = {}

    def penultimate(faces: RealFaces) -> Vectors:
        known[id(faces)] = faces
        return dict(inner(id(faces)))

    def final(faces: RealFaces) -> Vectors:
        weight, bias = (model.state_dict()[f"classifier.{name}"].numpy() for name in ("weight", "bias"))
        return {name: vectors @ weight.T + bias for name, vectors in penultimate(faces).items()}

    def roots(faces: RealFaces) -> Vectors:
        logits = {name: vectors.sub(vectors.max(axis=1), axis=0) for name, vectors in final(faces).items()}
        shares = {name: x.map(np.exp) for name, x in logits.items()}
        return {name: x.div(x.sum(axis=1), axis=0).map(np.sqrt) for name, x in shares.items()}

    def odds(faces: RealFaces) -> Vectors:
        logits = {name: vectors.sub(vectors.mean(axis=1), axis=0) for name, vectors in final(faces).items()}
        around = {name: vectors - logits["gallery"].mean() for name, vectors in logits.items()}
        units = {name: vectors.div(np.linalg.norm(vectors, axis=1), axis=0) for name, vectors in around.items()}
        shares = roots(faces)
        return {name: pd.concat([shares[name], units[name]], axis=1) * 0.5**0.5 for name in units}

    return {"P": penultimate, "F": final, "class shares": roots, "shares and odds": odds}


def simple(method: Callable[..., pd.DataFrame]) -> Maker:
    """Return what embeds every set, at 48 x 48, with a baseline fitted on the gallery's images."""

    def make(faces: RealFaces) -> Vectors:
        from PIL import Image

        def small(picture: np.ndarray) -> np.ndarray:
            if picture.shape == (48, 48):
                return picture
            return np.asarray(Image.fromarray(picture).resize((48, 48), Image.Resampling.BILINEAR))

        owner = np.repeat(list(faces.images), [len(images) for images in faces.images.values()])
        stacked = np.stack([small(picture) for images in faces.images.values() for picture in images])
        vectors = method(stacked, [str(row) for row in range(len(stacked))], owner == "gallery")
        return {name: vectors[owner == name].set_axis(getattr(faces, name).index) for name in faces.images}

    return make


def score(faces: RealFaces, vectors: Vectors, metric: str) -> dict[str, float]:
    """Return every column's score in percent for one embedding."""
    fer = triplet_accuracy(vectors["queries"], faces.triplets, metric)
    named_gallery, named_queries = faces.gallery["expression"].dropna(), faces.queries["expression"].dropna()
    auc = knn_auc_roc(
        vectors["gallery"].loc[named_gallery.index],
        named_gallery,
        vectors["queries"].loc[named_queries.index],
        named_queries,
        k=200,
        metric=metric,
    )
    raf = cross_validated_knn_auc(vectors["raf"], faces.raf["expression"], k=50, folds=5, seed=0, metric=metric)
    jaffe = triplet_accuracy(vectors["jaffe"], faces.jaffe_triplets, metric)
    own = vectors["jaffe"]
    unit = own.div(np.linalg.norm(own, axis=1), axis=0) if metric == "cosine" else own
    leak = identity_leak(unit, faces.jaffe["subject"], faces.jaffe["expression"])
    types = [fer.by_type[name] for name in TRIPLET_TYPES]
    values = [fer.overall, *types, auc.mean, raf.mean, jaffe.overall, leak.leak, leak.odds_ratio / 100]
    return {column: 100 * value for column, value in zip(COLUMNS, values, strict=True)}


def ceilings(faces: RealFaces) -> list[Row]:
    """Return what chance, the simulated median rater and the votes themselves reach on the vote triplets."""
    counts = faces.triplets[["votes_odd_a", "votes_odd_b", "votes_odd_odd"]].to_numpy()
    rng = np.random.default_rng(0)
    # Simulated raters are exchangeable, so the counts dealt out in random order are their answers.
    answers = rng.permuted(
        np.repeat(np.tile(np.arange(3), len(counts)), counts.ravel()).reshape(len(counts), -1), axis=1
    )
    rater = rater_accuracy(answers, types=faces.triplets["type"].to_numpy())
    votes = np.sqrt(faces.queries.votes.div(faces.queries.votes.sum(axis=1), axis=0))
    exact = triplet_accuracy(votes, faces.triplets)
    leak = identity_leak(
        np.random.default_rng(0).normal(size=(len(faces.jaffe), 2)), faces.jaffe["subject"], faces.jaffe["expression"]
    )
    chance = dict.fromkeys(COLUMNS[:4], 100 / 3) | {"FER+ AUC": 50.0, "RAF-DB AUC": 50.0, "JAFFE triplets": 100 / 3}

    def by_type(overall: float, types: Mapping[str, float]) -> dict[str, float]:
        return dict(zip(COLUMNS[:4], (100 * overall, *(100 * types[name] for name in TRIPLET_TYPES)), strict=True))

    return [
        Row("chance", chance | {"JAFFE leak": 100 * leak.chance, "leak odds": 1.0}),
        Row("median simulated rater", by_type(rater.median, rater.by_type)),
        Row(
            "the votes themselves (Hellinger)",
            by_type(exact.overall, exact.by_type),
            note="what a perfect model of the votes would reach",
        ),
    ]


def run(faces: RealFaces, embeddings: Mapping[str, tuple[str, Sequence[Maker]]], seeds: Sequence[int] = ()) -> Report:
    """Score named embeddings, each with its metric and one maker a seed, and write them into one table."""
    rows = ceilings(faces)
    chance = identity_leak(np.zeros((len(faces.jaffe), 1)), faces.jaffe["subject"], faces.jaffe["expression"]).chance
    for name, (metric, makers) in embeddings.items():
        scores = [score(faces, maker(faces), metric) for maker in makers]
        columns = {column: Measure(tuple(entry[column] for entry in scores)) for column in COLUMNS}
        rows.append(Row(name, columns, note=f"{metric}, {len(makers)} seed{'s' if len(makers) > 1 else ''}"))
    reasons = Counter(item.reason for item in faces.skipped)  # the rows themselves stay with the data sets
    section = Section(
        "Embeddings on faces that none of them was trained on",
        f"FER+ validation ({len(faces.queries):,} faces, {len(faces.triplets):,} strong of {faces.drawn:,} drawn triplets, six "
        f"simulated raters; kNN k = 200 on {int(faces.gallery['expression'].notna().sum()):,} training faces), RAF-DB training part "
        f"({len(faces.raf):,} faces, official aligned crops, 5-fold kNN, k = 50), JAFFE ({len(faces.jaffe)} faces of "
        f"{faces.jaffe['subject'].nunique()} subjects, cropped by this library; {len(faces.jaffe_triplets):,} triplets from human ratings)",
        COLUMNS,
        rows,
        unit="%; AUC: mean AUC-ROC over classes; leak: lower is better; leak odds: those of the leak over those of chance",
        notes=(
            "FER+ triplets are judged by simulated raters from the votes on single faces, so they reward modelling the votes; "
            "RAF-DB's labels and JAFFE's ratings come from other people, cameras and continents.",
            "A leak depends on how many people there are to choose from, its odds over those of chance hardly do: 15 % among the ten of "
            f"JAFFE, where chance gives 8.7 %, are {TEN.odds_ratio:.2f} times those of chance, and so are "
            f"{100 * TEN.among(chance):.1f} % among the {faces.jaffe['subject'].nunique()} here.",
            "Left out: " + "; ".join(f"{reason}: {count}" for reason, count in reasons.most_common()) + ".",
        ),
    )
    data = {
        "FER+": "FER2013 with FER+ votes",
        "RAF-DB": "basic set, training part",
        "JAFFE": "six subjects with semantic ratings",
    }
    return Report("Embeddings on real faces", [section], data, tuple(seeds))


def joined(makers: Sequence[Maker], dim: int = 16) -> Maker:
    """Return what embeds every set with several networks joined to `dim` numbers, turned as the gallery's faces say."""

    def make(faces: RealFaces) -> Vectors:
        tables = []
        for maker in makers:
            sets = maker(faces)
            tables.append(pd.concat([sets[name].add_prefix(f"{name}/", axis=0) for name in faces.images]))
        both = join_vectors(tables, dim, [name for name in tables[0].index if name.startswith("gallery/")])
        owner = np.repeat(list(faces.images), [len(images) for images in faces.images.values()])
        return {name: both[owner == name].set_axis(getattr(faces, name).index) for name in faces.images}

    return make


def write_tables(faces: RealFaces, embeddings: Mapping[str, tuple[str, Sequence[Maker]]], folder: Path) -> None:
    """Write FER+'s faces, the triplets of its validation faces and their vectors as `exprembed evaluate fec` takes them.

    The triplets are those of the report and the weak ones, which the report leaves out; vectors go into NAME-SEED.parquet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = FaceTable(pd.concat([faces.gallery, faces.queries]))
    known.write_parquet(folder / "faces.parquet")
    triplets_from_votes(faces.queries, faces.drawn // len(TRIPLET_TYPES)).write_parquet(folder / "triplets.parquet")
    for name, (_, makers) in embeddings.items():
        for seed, maker in enumerate(makers):
            vectors = pd.concat([(made := maker(faces))["gallery"], made["queries"]])
            vectors.columns = vector_columns(vectors.shape[1])
            with atomic_path(folder / f"{name.replace(' ', '-')}-{seed}.parquet") as temporary:
                vectors.to_parquet(temporary)


def main(
    data: Annotated[Path, typer.Option(help="Folder that holds ferplus, rafdb and jaffe.")],
    out: Annotated[Path, typer.Option(help="Where report.md and report.json go.")],
    softmax: Annotated[list[Path] | None, typer.Option(help="AFFNet-CL weights, one a seed.")] = None,
    facs: Annotated[list[Path] | None, typer.Option(help="FACSNet-CL weights, one a seed.")] = None,
    labels: Annotated[list[Path] | None, typer.Option(help="AFFNet-TL weights, one a seed.")] = None,
    fecnet: Annotated[list[Path] | None, typer.Option(help="FECNet weights, one a seed.")] = None,
    more: Annotated[
        list[str] | None, typer.Option(help="Further weights as NAME=FILE; files of one name are its seeds.")
    ] = None,
    baselines: Annotated[bool, typer.Option(help="Score raw pixels and HOG too.")] = True,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps embeddings between runs.")] = None,
    per_type: Annotated[int, typer.Option(help="FER+ triplets drawn of each type.")] = 20_000,
    together: Annotated[
        bool, typer.Option(help="Score all FECNets and softmax networks' class shares joined to 16 numbers too.")
    ] = False,
    tables: Annotated[
        Path | None, typer.Option(help="Folder for FER+'s faces, triplets and vectors, for 'exprembed evaluate fec'.")
    ] = None,
) -> None:
    """Score embeddings on FER+ validation, RAF-DB and JAFFE and write the report."""
    from rich.console import Console

    faces = read_real_faces(data, per_type)
    embeddings: dict[str, tuple[str, Sequence[Maker]]] = {}
    if baselines:
        embeddings["raw pixels + PCA-16"] = ("l2", [simple(pixels_pca)])
        embeddings["HOG + PCA-16"] = ("l2", [simple(hog_pca)])
    for kind, paths, wanted in (("softmax network", softmax, LAYERS), ("FACSNet-CL", facs, ("P", "F"))):
        layers = [classifier_layers(path, cache) for path in paths or []]
        embeddings |= {f"{kind} {layer}": (LAYERS[layer], [makers[layer] for makers in layers]) for layer in wanted}
    embeddings["label-triplet network"] = ("l2", [embed_with(load_model(path), cache) for path in labels or []])
    if fecnet:
        plain = load_model(fecnet[0]).with_mirror(False)
        embeddings["hidden layer of FECNet (256-d)"] = ("cosine", [embed_with(hidden_layer(fecnet[0]), cache)])
        embeddings["FECNet-16d, without mirror image"] = ("l2", [embed_with(plain, cache)])
        embeddings["FECNet-16d"] = ("l2", [embed_with(load_model(path).with_mirror(), cache) for path in fecnet])
    if together:
        parts = [*embeddings["FECNet-16d"][1], *embeddings["softmax network class shares"][1]]
        embeddings[f"{len(parts)} networks joined to 16-d"] = ("l2", [joined(parts)])
    for entry in more or []:
        name, _, path = entry.partition("=")
        model = load_model(path)
        metric, makers = embeddings.setdefault(name, (model.metric, []))
        embeddings[name] = (metric, [*makers, embed_with(model, cache)])
    embeddings = {name: value for name, value in embeddings.items() if value[1]}
    report = run(faces, embeddings, range(len(fecnet or [])))
    report.write(out)
    if tables is not None:
        write_tables(faces, embeddings, tables)
    report.print(Console())


if __name__ == "__main__":
    script(main)()
