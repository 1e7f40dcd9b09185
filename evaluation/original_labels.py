"""What FER2013's own labels know that FER+'s taggers did not say, and whether a face shows it.

FER2013 labels an image by the emotion that it was searched for; FER+ asked ten taggers what they see. Where those say
neutral, the label may still tell a mild anger or fear, if the picture shows it at all: a probe on a network that has
learned from the taggers' votes alone finds out. Only training faces teach it; validation faces are scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from evaluation._common import percent
from evaluation.real_faces import grey_pictures
from exprembed.cli import script
from exprembed.data import read_ferplus
from exprembed.data.tables import EXPRESSIONS, FaceTable
from exprembed.models import load_model
from exprembed.models.base import Embedder
from exprembed.models.embedding import embed_pixels
from exprembed.report import Report, Row, Section

MILD = ("anger", "fear", "sadness")


def with_original(path: Path) -> FaceTable:
    """Read FER+ with a column `original`: FER2013's label, the one expression that gains by a further vote."""
    faces, voted = read_ferplus(path), read_ferplus(path, original_votes=1)
    added = (voted.votes - faces.votes).to_numpy()
    labels = np.where(added.any(axis=1), np.array(faces.votes.columns, dtype=object)[added.argmax(axis=1)], None)
    return FaceTable(pd.DataFrame(faces).assign(original=labels))


def counts(faces: FaceTable) -> Section:
    """Count training faces by the taggers' majority and by FER2013's label."""
    named = faces[faces["split"] == "train"].dropna(subset=["expression", "original"])
    table = pd.crosstab(named["expression"], named["original"], normalize="index")
    columns = [name for name in EXPRESSIONS if name in table]
    rows = [
        Row(name, {column: 100 * table.loc[name, column] for column in columns}, n_used=n, n_protocol=n)
        for name, n in named["expression"].value_counts().items()
    ]
    return Section(
        "What FER2013 calls them",
        f"FER+ training faces, {len(named):,} with a majority and FER2013's own label; a line is the taggers' majority",
        columns,
        rows,
        unit="% of the line's faces with this label of FER2013",
    )


def shown(faces: FaceTable, models: Sequence[Embedder]) -> Section:
    """Say how well mild expressions are told from neutral ones among the faces that taggers call neutral."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    neutral = FaceTable(faces[(faces["expression"] == "neutral") & faces["original"].isin(["neutral", *MILD])])
    pictures = grey_pictures(neutral)
    learned = (neutral["split"] == "train").to_numpy()
    taught = {picture.tobytes() for picture in pictures[learned]}
    scored = ~learned & np.array([picture.tobytes() not in taught for picture in pictures])
    vectors = [embed_pixels(model, model.preprocessing.pixels(list(pictures))) for model in models]
    rows = []
    for name in MILD:
        among = neutral["original"].isin(["neutral", name]).to_numpy()
        label = (neutral["original"] == name).to_numpy()
        asked = scored & among
        probes = []
        for found in vectors:
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000, class_weight="balanced"))
            probe.fit(found[learned & among], label[learned & among])
            probes.append(roc_auc_score(label[asked], probe.decision_function(found[asked])))
        votes = neutral.votes[name].to_numpy()
        columns = {
            "by the taggers' votes on it": 100 * roc_auc_score(label[asked], votes[asked]),
            "by a probe on the network": percent(probes),
        }
        n = int(asked.sum())
        rows.append(Row(f"{name} from neutral", columns, n_used=n, n_protocol=n))
    return Section(
        "Whether they show it",
        "FER+ validation faces that the taggers call neutral by majority, FER2013's label neutral or the line's; copies of training "
        f"faces left out; the probe learned from {int(learned.sum()):,} such training faces",
        ("by the taggers' votes on it", "by a probe on the network"),
        rows,
        unit="AUC-ROC of FER2013's label, %",
        notes=(
            "What a probe finds may in part be how pictures of one search look (their light, their age), not what their faces show.",
        ),
    )


def run(faces: FaceTable, models: Sequence[Embedder]) -> Report:
    """Make the report for networks that learned from the taggers' votes alone, one a seed."""
    data = {"FER+": "FER2013 with FER+ votes and FER2013's own labels"}
    sections = [counts(faces), shown(faces, models)]
    return Report("FER2013's own labels beside FER+'s votes", sections, data, tuple(range(len(models))))


def main(
    ferplus: Annotated[Path, typer.Option(help="FER+ with FER2013's own labels, as `read_ferplus` takes them.")],
    model: Annotated[list[Path], typer.Option(help="Networks that learned from the votes alone, one a seed.")],
    out: Annotated[Path, typer.Option(help="Where report.md and report.json go.")],
) -> None:
    """Say what FER2013's own labels add to FER+'s votes."""
    from rich.console import Console

    report = run(with_original(ferplus), [load_model(path) for path in model])
    report.write(out)
    report.print(Console())


if __name__ == "__main__":
    script(main)()
