"""Why an embedding of FER+ tells JAFFE's ratings no better: what it would take to know, and what the network sees.

Nothing here chooses or trains a model that is reported elsewhere: JAFFE's people stay unseen, and what is learned from
five of them is scored on the sixth and thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer

from evaluation._common import percent
from evaluation.real_faces import RealFaces, read_real_faces
from exprembed.cli import script
from exprembed.data.readers.jaffe import RATINGS
from exprembed.data.tables import TRIPLET_TYPES, FaceTable
from exprembed.data.valence_arousal import AFFECTNET_CLASS_MEANS
from exprembed.errors import BadInputError
from exprembed.metrics import triplet_accuracy
from exprembed.models import load_model
from exprembed.models.base import Embedder
from exprembed.models.embedding import embed_pixels
from exprembed.report import Report, Row, Section

TRIPLETS, LEFT_OUT, LOST = "JAFFE triplets", "expression, person left out", 12


def posed(faces: FaceTable, places: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Place each face where its posed expression lies, with just enough noise that ties fall at random."""
    there = places.loc[faces["expression"]].to_numpy(float)
    return pd.DataFrame(there + 1e-4 * rng.normal(size=there.shape), index=faces.index)


def ratings_of_others(faces: FaceTable) -> pd.DataFrame:
    """Give each face the mean rating of its posed expression on the other people's faces."""
    found = []
    for person in faces["subject"].unique():
        own = faces[faces["subject"] == person]
        means = faces[faces["subject"] != person].groupby("expression")[list(RATINGS)].mean()
        found.append(means.loc[own["expression"]].set_axis(own.index))
    return pd.concat(found).loc[faces.index]


def learned(vectors: np.ndarray, faces: FaceTable) -> tuple[pd.DataFrame, float]:
    """Learn ratings (ridge) and expressions (logistic regression) from all people but one, in turn, and apply them there.

    Returns:
        The ratings so found, and the share of faces whose expression was.
    """
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    groups, names = faces["subject"].to_numpy(str), faces["expression"].to_numpy(str)
    apart = {"groups": groups, "cv": LeaveOneGroupOut()}
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 4, 9)))
    ratings = cross_val_predict(ridge, vectors, faces[list(RATINGS)].to_numpy(float), **apart)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    right = cross_val_predict(classifier, vectors, names, **apart) == names
    return pd.DataFrame(ratings, index=faces.index), float(right.mean())


def bounds(faces: RealFaces, vectors: Sequence[np.ndarray], hidden: Sequence[np.ndarray]) -> Section:
    """Say what knowing the posed expression would give, and what the network's numbers hold of the ratings."""
    rng = np.random.default_rng(0)
    jaffe, names = faces.jaffe, sorted(faces.jaffe["expression"].unique())
    oracles = {
        "the posed expression alone": posed(jaffe, pd.DataFrame(np.eye(len(names)), names), rng),
        "the posed expression, in its place by AffectNet's raters": posed(
            jaffe, pd.DataFrame(AFFECTNET_CLASS_MEANS).T, rng
        ),
        "the mean rating of the same expression on others": ratings_of_others(jaffe),
    }

    def told(tables: Sequence[pd.DataFrame]) -> dict[str, object]:
        return {TRIPLETS: percent(triplet_accuracy(table, faces.jaffe_triplets).overall for table in tables)}

    rows = [Row("chance", {TRIPLETS: 100 / 3, LEFT_OUT: 100 / len(names)})]
    rows += [Row(name, told([table])) for name, table in oracles.items()]
    rows.append(Row("the embedding", told([pd.DataFrame(one, index=jaffe.index) for one in vectors])))
    for name, kind in (("the embedding", vectors), ("its hidden layer", hidden)):
        found = [learned(one, jaffe) for one in kind]
        words = f"ratings learned on {name} from the other people"
        rows.append(Row(words, told([table for table, _ in found]) | {LEFT_OUT: percent(share for _, share in found)}))
    return Section(
        "What it would take",
        f"JAFFE ({len(jaffe)} faces of {jaffe['subject'].nunique()} people; {len(faces.jaffe_triplets):,} triplets from human ratings)",
        (TRIPLETS, LEFT_OUT),
        rows,
        unit="%",
        notes=(
            "The first three rows know what the network must find out. The last two were taught by JAFFE's own ratings, of all people "
            "but the one that is scored: what they do not find, the network's numbers do not hold, or five people do not teach.",
        ),
    )


def seen(faces: RealFaces, shares: Sequence[dict[str, np.ndarray]], classes: Sequence[str]) -> Section:
    """Say what the network's classifier takes faces for: JAFFE's by the posed expression, FER+'s by the majority of votes."""
    rows = []
    for name, words, table in (("queries", "FER+ validation", faces.queries), ("jaffe", "JAFFE", faces.jaffe)):
        labels = table["expression"].to_numpy(object)
        for expression in sorted(faces.jaffe["expression"].unique()):
            chosen = labels == expression
            means = [one[name][chosen].mean(axis=0) for one in shares]
            columns = {label: percent(mean[i] for mean in means) for i, label in enumerate(classes)}
            rows.append(Row(f"{words}, {expression}", columns, n_used=int(chosen.sum()), n_protocol=int(chosen.sum())))
    return Section(
        "What the network takes them for",
        "FER+ validation by the majority of votes, JAFFE by the expression that was posed",
        classes,
        rows,
        unit="mean probability by the network's own classifier, %",
    )


def lost(faces: RealFaces, vectors: Sequence[np.ndarray]) -> Section:
    """List the triplets that cost most, by the expressions of the similar pair and of the odd face."""
    table, label = faces.jaffe_triplets, faces.jaffe["expression"]
    rights = []
    for one in vectors:
        place = pd.Series(range(len(one)), faces.jaffe.index)
        a, b, odd = (one[place.loc[table[column]]] for column in ("a", "b", "odd"))
        near = np.linalg.norm(a - b, axis=1)
        rights.append((near < np.linalg.norm(a - odd, axis=1)) & (near < np.linalg.norm(b - odd, axis=1)))
    pairs = np.sort(np.stack([label.loc[table[column]].to_numpy(str) for column in ("a", "b")]), axis=0)
    names = pd.Series(pairs[0] + " and " + pairs[1] + ", odd: " + label.loc[table["odd"]].to_numpy(str))
    counts = names.value_counts()
    missed = pd.DataFrame({i: names[~right].value_counts() for i, right in enumerate(rights)}).reindex(counts.index)
    missed = missed.fillna(0).loc[lambda found: found.mean(axis=1).sort_values(ascending=False).index]
    rows = [
        Row(
            name,
            {
                "told right": percent(1 - missed.loc[name] / counts[name]),
                "of the triplets": 100 * counts[name] / len(table),
                "of the lost": percent(missed.loc[name] / missed.sum()),
            },
        )
        for name in missed.index[:LOST]
    ]
    return Section(
        "Where triplets are lost",
        f"JAFFE, the {LOST} of {len(counts)} kinds that cost most",
        ("told right", "of the triplets", "of the lost"),
        rows,
        unit="%",
    )


def run(faces: RealFaces, models: Sequence[Embedder]) -> Report:
    """Make the report for networks with a classifier, one a seed."""
    vectors, hidden, shares = [], [], []
    for model in models:
        if not model.classes:
            raise BadInputError("the network has no classifier, whose guesses are due; train it with classes")
        vectors.append(embed_pixels(model, model.preprocessing.pixels(list(faces.images["jaffe"]))))
        inner = {name: _inside(model, faces.images[name]) for name in ("jaffe", "queries")}
        hidden.append(inner["jaffe"][0])
        shares.append({name: found for name, (_, found) in inner.items()})
    sections = [bounds(faces, vectors, hidden), seen(faces, shares, models[0].classes), lost(faces, vectors)]
    data = {"FER+": "FER2013 with FER+ votes", "JAFFE": "six subjects with semantic ratings"}
    return Report("What limits JAFFE's triplets", sections, data, tuple(range(len(models))))


def _inside(model: Embedder, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hidden layer and the class probabilities of pictures."""
    layers, probabilities = [], []
    with torch.no_grad():
        for block in torch.split(torch.from_numpy(model.preprocessing.pixels(list(images))), 512):
            inputs = model.prepare(block)
            layers.append(model.trunk(model.features(inputs)))
            probabilities.append(torch.softmax(model(inputs).logits, dim=1))
    return torch.cat(layers).numpy(), torch.cat(probabilities).numpy()


def main(
    data: Annotated[Path, typer.Option(help="Folder that holds ferplus, rafdb and jaffe.")],
    out: Annotated[Path, typer.Option(help="Where report.md and report.json go.")],
    model: Annotated[
        list[Path] | None, typer.Option(help="FECNets with classes, one a seed; the packaged one without it.")
    ] = None,
) -> None:
    """Say what limits the triplets of JAFFE's human ratings."""
    from rich.console import Console

    models = [load_model(path) for path in model] if model else [load_model()]
    report = run(read_real_faces(data, per_type=len(TRIPLET_TYPES)), models)
    report.write(out)
    report.print(Console())


if __name__ == "__main__":
    script(main)()
