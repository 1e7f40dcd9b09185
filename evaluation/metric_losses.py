"""Thesis Table 4.1 and Figures 4.2.2 to 4.3.3: weighted cross entropy alone, and with each metric loss beside it.

One recipe (`metric-losses-small`) trains a head on the cached maps of a trunk; the loss under test is added with
weight lambda to the head's penultimate layer. Everything else, the batches included, is the same in all rows of a seed.
"""

from __future__ import annotations

import copy
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer

from evaluation._common import percent
from exprembed.cli import script
from exprembed.data import FaceTable, TripletTable
from exprembed.data.images import open_image
from exprembed.data.synthetic import render_faces, save_faces
from exprembed.data.triplets import triplets_from_votes
from exprembed.errors import BadInputError
from exprembed.files import Skipped
from exprembed.index import KNNClassifier
from exprembed.metrics import mean_class_accuracy, triplet_accuracy
from exprembed.models.base import Embedder
from exprembed.plots import embedding_map
from exprembed.progress import progress
from exprembed.report import Report, Row, Section
from exprembed.training import Recipe, TrainingResult, cache_features, load_recipe, train
from exprembed.training.recipe import ObjectivePlan

COLUMNS = ("softmax", "kNN", "linear SVM", "softmax, plain accuracy", "triplets")
NEIGHBOURS = 20
SVM_FACES = 5_000


@dataclass(frozen=True)
class Trial:
    """A row of the table: a loss, its arguments, and what the thesis reports for it on AffectNet."""

    loss: str | None
    options: Mapping[str, Any]
    published: float | None = None
    pictured: bool = False

    @property
    def wants_va(self) -> bool:
        """Whether it needs valence and arousal."""
        return self.loss == "va_center"


def _subclasses(count: int, published: float, pictured: bool = False) -> Trial:
    options = {"num_subclasses": count, "margin": 0.5, "lambda_margin": 0.1}
    return Trial("subclass", options, published, pictured)


TRIALS: Mapping[str, Trial] = {
    "weighted cross entropy": Trial(None, {}, 64.37, True),
    "+ center": Trial("center", {}, 64.37, True),
    "+ center local": Trial("center_local", {}, 64.77, True),
    "+ island": Trial("island", {}, 65.11, True),
    "+ Euclidean island, m = 2": Trial("euclidean_island", {"margin": 2.0}, 65.05, True),
    "+ Euclidean island, m = 5": Trial("euclidean_island", {"margin": 5.0}, 65.06),
    "+ subclass, K = 10": Trial("subclass", {"num_subclasses": 10}, None, True),
    "+ subclass with margin, K = 2": _subclasses(2, 64.43),
    "+ subclass with margin, K = 3": _subclasses(3, 64.43),
    "+ subclass with margin, K = 5": _subclasses(5, 65.26),
    "+ subclass with margin, K = 10": _subclasses(10, 65.29, True),
    "+ pair contrastive, m = 1": Trial("pair_contrastive", {"margin": 1.0}),
    "+ VA center local, valence": Trial("va_center", {"local": True, "use": "valence"}, 64.11),
    "+ VA center local, arousal": Trial("va_center", {"local": True, "use": "arousal"}, 64.6),
    "+ VA center local, both": Trial("va_center", {"local": True}, 64.91),
    "+ VA center, learned": Trial("va_center", {}),
}


@dataclass(frozen=True)
class Split:
    """Faces to train on and faces to score on, none of them twice."""

    name: str
    words: str
    train: FaceTable
    test: FaceTable
    triplets: TripletTable | None

    @property
    def has_va(self) -> bool:
        """Whether every training face carries valence and arousal."""
        return {"valence", "arousal"} <= set(self.train) and bool(
            self.train[["valence", "arousal"]].notna().all(axis=None)
        )


def split_faces(faces: FaceTable, name: str, skipped: list[Skipped] | None = None) -> Split:
    """Part a table by its column `split`; scored faces that copy a training face, or each other, are left out.

    Raises:
        BadInputError: no `split` or `expression` column, or no face of a split.
    """
    for column in ("split", "expression"):
        if column not in faces:
            raise BadInputError(f"the table needs the column {column!r} (train and validation or test)")
    labelled = pd.DataFrame(faces[faces["expression"].notna()])
    train_rows = labelled[labelled["split"] == "train"]
    test_rows = labelled[labelled["split"].isin(["validation", "test"])]
    if train_rows.empty or test_rows.empty:
        raise BadInputError(f"the table needs training and validation faces; its splits: {set(faces['split'])}")
    seen = {_pixels(path) for path in train_rows["path"]}
    fresh = []
    for face, path in test_rows["path"].items():
        key = _pixels(path)
        fresh.append(key not in seen)
        if key in seen and skipped is not None:
            skipped.append(Skipped(str(face), "exact copy of a training or an earlier image"))
        seen.add(key)
    test = FaceTable(test_rows[np.asarray(fresh)])
    votes = [column for column in test.columns if str(column).startswith("votes_")]
    triplets = triplets_from_votes(test, 5000, seed=0, strong_only=True) if votes else None
    words = f"{name}: {len(train_rows):,} training faces, {len(test):,} scored"
    if skipped:  # counts alone: the rows stay with the data set
        reasons = Counter(item.reason for item in skipped)
        words += "; left out: " + ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
    return Split(name, words, FaceTable(train_rows), test, triplets)


def _pixels(path: str) -> bytes:
    return np.asarray(open_image(path)).tobytes()


def synthetic_faces(folder: Path, n: int = 3200, seed: int = 910_000) -> FaceTable:
    """Render faces of n / 8 subjects as files in `folder`: their valence and arousal are known exactly."""
    images, faces = render_faces(n, max(1, n // 8), seed, size=96)
    return save_faces(images, faces, folder)


def recipe_of(base: Recipe, trial: Trial, weight: float, seed: int, table: Path) -> Recipe:
    """Return the recipe of one row and seed: the base, on the table's training faces, with the loss added."""
    recipe = copy.deepcopy(base)
    recipe.seed = seed
    recipe.data.dataset, recipe.data.path, recipe.data.split = "table", str(table), "train"
    if trial.loss is not None:
        recipe.objectives.append(ObjectivePlan(trial.loss, "embedding", "labels", weight, dict(trial.options)))
    return recipe


def outputs(model: Embedder, faces: FaceTable) -> tuple[np.ndarray, np.ndarray]:
    """Return penultimate layer (n, d) and logits (n, C), from the cached maps of the trunk."""
    with progress("features", len(faces)) as advance:
        maps = cache_features(model, faces, advance=advance)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(maps), 512):
            block = torch.from_numpy(np.array(maps[start : start + 512], np.float32))
            parts.append(model.eval().from_features(block))
    embeddings = torch.cat([part.embedding for part in parts]).numpy()
    return embeddings, torch.cat([part.logits for part in parts if part.logits is not None]).numpy()


def score(model: Embedder, split: Split) -> tuple[dict[str, float], np.ndarray]:
    """Return each column's share in [0, 1] for one trained head, and the scored faces' embeddings."""
    from sklearn.svm import LinearSVC

    gallery, _ = outputs(model, split.train)
    queries, logits = outputs(model, split.test)
    known, truth = split.train["expression"].to_numpy(str), split.test["expression"].to_numpy(str)
    few = np.random.default_rng(0).permutation(len(gallery))[:SVM_FACES]
    svm = LinearSVC(class_weight="balanced", dual=False, C=0.1).fit(gallery[few], known[few])
    knn = KNNClassifier(n_neighbors=min(NEIGHBOURS, len(gallery))).fit(gallery, known)
    softmax = np.asarray(model.classes)[logits.argmax(axis=1)]
    values = {
        "softmax": mean_class_accuracy(truth, softmax),
        "kNN": mean_class_accuracy(truth, knn.predict(queries)),
        "linear SVM": mean_class_accuracy(truth, svm.predict(queries)),
        "softmax, plain accuracy": float((truth == softmax).mean()),
    }
    if split.triplets is not None:
        values["triplets"] = triplet_accuracy(
            pd.DataFrame(queries, index=split.test.index), split.triplets, "cosine"
        ).overall
    return values, queries


def picture(result: TrainingResult, queries: np.ndarray, split: Split, title: str) -> Any:  # noqa: ANN401 - a Figure
    """Draw the scored faces by UMAP, learned centres as squares (thesis, Figures 4.2.2 to 4.3.3)."""
    found = [term.loss.centers for term in result.objectives if getattr(term.loss, "centers", None) is not None]
    centers = None
    if found:
        points = found[0].detach().float().cpu().numpy()
        per_class = int(np.prod(points.shape[:-1])) // len(result.model.classes)
        centers = points.reshape(-1, points.shape[-1]), list(np.repeat(result.model.classes, per_class))
    return embedding_map(queries, split.test["expression"], "umap", 0, title, 1500, centers)


def run(
    splits: Iterable[Split],
    base: Recipe,
    seeds: Sequence[int] = (0, 1, 2),
    weight: float = 0.1,
    trials: Mapping[str, Trial] = TRIALS,
    pictures: bool = True,
) -> Report:
    """Train and score every trial on every split with every seed."""
    from rich.progress import track

    sections = []
    for split in splits:
        chosen = {name: trial for name, trial in trials.items() if split.has_va or not trial.wants_va}
        scores: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
        figures = {}
        with tempfile.TemporaryDirectory() as work:
            table = Path(work) / "train.parquet"
            rows = pd.DataFrame(split.train)
            rows["path"] = [str(Path(path).resolve()) for path in rows["path"]]
            FaceTable(rows).to_parquet(table)
            jobs = [(name, seed) for seed in seeds for name in chosen]
            for name, seed in track(jobs, f"{split.name}: training heads"):
                recipe = recipe_of(base, chosen[name], weight, seed, table)
                result = train(recipe, Path(work) / "run", progress=False)
                values, queries = score(result.model, split)
                scores[name].append(values)
                if pictures and seed == seeds[0] and chosen[name].pictured:
                    key = "".join(c if c.isalnum() else "-" for c in f"{split.name}-{name}".lower())
                    figures[key] = picture(result, queries, split, f"{split.name}: {name}")
        sections.append(_section(split, chosen, scores, weight, figures))
    steps, batch = base.steps, base.sampler.get("batch_size")
    note = f"{steps:,} steps of {batch} faces a head; lambda {weight}; trunk {Path(base.init).name if base.init else 'untrained'}"
    return Report("Metric losses beside weighted cross entropy", sections, {"setting": note}, tuple(seeds))


def _section(
    split: Split,
    trials: Mapping[str, Trial],
    scores: Mapping[str, list[dict[str, float]]],
    weight: float,
    figures: Mapping[str, Any],
) -> Section:
    rows = []
    for name, trial in trials.items():
        ours = {key: percent(entry[key] for entry in scores[name]) for key in scores[name][0]}
        paper = {} if trial.published is None else {"softmax": trial.published}
        rows.append(Row(name, ours, paper, len(split.test), len(split.test)))
    return Section(
        f"Table 4.1 on {split.name}",
        split.words + "; a trained head on the maps of a frozen 48-pixel trunk",
        COLUMNS if split.triplets is not None else COLUMNS[:-1],
        rows,
        paper_data="AffectNet, 7 classes, DenseNet-121 trained as a whole",
        unit="mean class accuracy, % (plain accuracy and triplet accuracy, %, where said)",
        notes=(
            f"The loss acts on the penultimate layer with lambda {weight}; the rows of a seed see the same batches.",
            f"kNN with k = {NEIGHBOURS}; the SVM is fitted on {min(SVM_FACES, len(split.train)):,} training faces, classes balanced.",
        ),
        figures=figures,
    )


def main(
    out: Annotated[Path, typer.Option(help="Where report.md, report.json and the pictures go.")],
    trunk: Annotated[Path, typer.Option(help="Softmax weights whose backbone gives the maps.")],
    ferplus: Annotated[Path | None, typer.Option(help="FER+ in its official layout.")] = None,
    table: Annotated[Path | None, typer.Option(help="A FaceTable (.parquet) with splits of your own.")] = None,
    synthetic: Annotated[int, typer.Option(help="Rendered faces; 0 leaves them out.")] = 3200,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 3,
    weight: Annotated[float, typer.Option(help="lambda, the weight of the loss under test.")] = 0.1,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Overrides of the recipe, key=value.")] = None,
    pictures: Annotated[bool, typer.Option(help="Draw the UMAP pictures of the first seed.")] = True,
) -> None:
    """Redo thesis Table 4.1 on FER+, on rendered faces, or on a table of your own."""
    from rich.console import Console

    from exprembed.data import read_ferplus, read_table
    from exprembed.models import weights_card

    backbone = weights_card(trunk)["config"]["backbone"]
    base = load_recipe("metric-losses-small", [f"init={trunk}", f"model.backbone={backbone}", *(sets or [])])
    with tempfile.TemporaryDirectory() as folder:
        splits = []
        if ferplus is not None:
            skipped: list[Skipped] = []
            splits.append(split_faces(read_ferplus(ferplus, skipped=skipped), "FER+", skipped))
        if table is not None:
            splits.append(split_faces(read_table(table), table.stem, []))
        if synthetic:
            splits.append(split_faces(synthetic_faces(Path(folder), synthetic), "rendered faces", []))
        report = run(splits, base, range(seeds), weight, pictures=pictures)
    report.write(out)
    report.print(Console())


if __name__ == "__main__":
    script(main)()
