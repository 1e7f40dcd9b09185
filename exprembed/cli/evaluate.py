"""exprembed evaluate: score vectors on triplets, by kNN, by retrieval; run a paper's protocol."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from exprembed.cli._common import JsonOption, add_verb, show, table
from exprembed.cli._vectors import labels_of, read_vectors
from exprembed.errors import BadInputError, WrongUseError

if TYPE_CHECKING:
    import pandas as pd

evaluate_app = typer.Typer(
    no_args_is_help=True, help="Score vectors on triplets, by kNN, by retrieval; run a paper's protocol."
)

# Verb of a paper's protocol -> what it is; the module bears the same name.
PAPERS = {
    "fec": "Tables and figures of the FECNet paper",
    "cake": "Tables and figures of the CAKE paper",
    "gcnet": "Tables and figures of the GCNet paper",
    "metric-losses": "The thesis's comparison of metric losses",
    "multitask": "The thesis's multi-task networks, samplers and support vector machines",
    "emotion-gcn": "The thesis's comparison of Emotion-GCN with single-task and multi-task networks",
}

VectorsOption = Annotated[
    Path, typer.Option(help="Parquet file of 'exprembed embed'.", show_default=False, metavar="FILE")
]
LabelOption = Annotated[str, typer.Option(help="Column that holds the class of each face.")]
MetricOption = Annotated[str | None, typer.Option(help="l2, l1 or cosine. Default: that of the vectors' model.")]


def triplets(
    vectors: VectorsOption,
    triplets: Annotated[
        Path, typer.Option(help="Parquet file of a triplet table.", show_default=False, metavar="FILE")
    ],
    metric: MetricOption = None,
    agreement: Annotated[
        str, typer.Option(help="Score triplets of this agreement: strong, weak, none, or all.")
    ] = "strong",
    as_json: JsonOption = False,
) -> None:
    """Score the share of triplets whose judged pair is strictly the closest one. Chance is 33.3 %.

    Triplets with a face that has no vector are left out; the number of scored ones stands beside the number of all.

    Exit codes: 0 done; 2 wrong use; 3 bad input.
    """
    from exprembed.data.tables import AGREEMENTS, TRIPLET_TYPES, TripletTable
    from exprembed.errors import unknown_name
    from exprembed.metrics import triplet_accuracy

    if agreement not in (*AGREEMENTS, "all"):
        raise unknown_name("agreement", agreement, (*AGREEMENTS, "all"))
    file, judged = read_vectors(vectors), TripletTable.read_parquet(triplets)
    chosen: pd.DataFrame = judged
    if agreement != "all" and "agreement" in judged:
        chosen = judged[judged["agreement"] == agreement]
        if chosen.empty:
            raise BadInputError(
                f"{triplets} holds no triplet of agreement {agreement!r}; --agreement all takes every one"
            )
    found = triplet_accuracy(file.vectors, chosen, metric or file.metric)
    rows: list[tuple[str, float, int]] = [("overall", 100 * found.overall, found.n)]
    rows += [
        (name, 100 * found.by_type[name], found.n_by_type[name]) for name in TRIPLET_TYPES if name in found.by_type
    ]
    document = {"metric": metric or file.metric, "agreement": agreement, **vars(found), "chance": 1 / 3}
    note = f"{found.n:,} of {found.n_total:,} triplets scored ({agreement}, {metric or file.metric}); chance 33.3 %"
    show(as_json, document, table(("triplets", "accuracy, %", "n"), rows), note)


def knn(
    gallery: Annotated[Path, typer.Option(help="Vectors with known classes.", show_default=False, metavar="FILE")],
    queries: Annotated[
        Path | None, typer.Option(help="Vectors to classify. Default: 5 folds of the gallery.", metavar="FILE")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Neighbours.", min=1)] = 200,
    label: LabelOption = "expression",
    folds: Annotated[int, typer.Option(help="Folds of the gallery, where there are no queries.", min=2)] = 5,
    metric: MetricOption = None,
    as_json: JsonOption = False,
) -> None:
    """Classify faces by their k nearest neighbours: AUC-ROC of each class against the rest. Chance is 50 %.

    Exit codes: 0 done; 2 wrong use; 3 bad input.
    """
    from exprembed.metrics import cross_validated_knn_auc, knn_auc_roc

    file = read_vectors(gallery)
    known, truth = labels_of(file, gallery, label)
    kind = metric or file.metric
    if queries is None:
        found = cross_validated_knn_auc(known, truth, k, folds, metric=kind)
        how = f"{found.n:,} faces in {folds} folds"
    else:
        other = read_vectors(queries)
        _same_model(gallery, file.model, queries, other.model)
        asked, asked_truth = labels_of(other, queries, label)
        found = knn_auc_roc(known, truth, asked, asked_truth, k, metric=kind)
        how = f"{found.n:,} queries, {len(known):,} gallery faces"
    rows = [("mean", 100 * found.mean), *((str(name), 100 * area) for name, area in found.by_class.items())]
    document = {"metric": kind, **vars(found), "folds": None if queries else folds, "chance": 0.5}
    show(as_json, document, table((label, "AUC-ROC, %"), rows), f"{how}, k = {k}, {kind}; chance 50 %")


def svm(
    gallery: Annotated[Path, typer.Option(help="Vectors with known classes.", show_default=False, metavar="FILE")],
    queries: Annotated[
        Path | None, typer.Option(help="Vectors to classify. Default: 5 folds of the gallery.", metavar="FILE")
    ] = None,
    label: LabelOption = "expression",
    folds: Annotated[int, typer.Option(help="Folds of the gallery, where there are no queries.", min=2)] = 5,
    kernel: Annotated[str, typer.Option(help="rbf, linear, poly or sigmoid.")] = "rbf",
    weight: Annotated[float, typer.Option("-C", help="Weight of the errors.")] = 1.0,
    device: Annotated[str, typer.Option(help="cpu, or cuda with cuML.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Classify faces by a support vector machine on their vectors: the accuracy of each class, and their mean.

    Exit codes: 0 done; 2 wrong use; 3 bad input.
    """
    import numpy as np
    from sklearn.metrics import recall_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    from exprembed.index import svm_classifier

    file = read_vectors(gallery)
    known, truth = labels_of(file, gallery, label)
    machine = svm_classifier(weight, kernel, device)
    if queries is None:
        rarest = truth.value_counts().index[-1]
        if (truth == rarest).sum() < folds:
            raise BadInputError(
                f"{folds} folds need as many faces in every class; {rarest!r} has {(truth == rarest).sum()}"
            )
        dealt = StratifiedKFold(folds, shuffle=True, random_state=0)
        named, how = cross_val_predict(machine, known, truth, cv=dealt), f"{len(truth):,} faces in {folds} folds"
    else:
        other = read_vectors(queries)
        _same_model(gallery, file.model, queries, other.model)
        asked, asked_truth = labels_of(other, queries, label)
        named = machine.fit(known.to_numpy(), truth.to_numpy(str)).predict(asked.to_numpy())
        truth, how = asked_truth, f"{len(asked):,} queries, {len(known):,} gallery faces"
    classes = np.unique(truth.to_numpy(str)).tolist()
    shares = recall_score(truth.to_numpy(str), named, labels=classes, average=None)
    by_class = dict(zip(classes, shares.tolist(), strict=True))
    mean = float(np.mean(shares))
    rows = [("mean", 100 * mean), *((name, 100 * share) for name, share in by_class.items())]
    options = {"kernel": kernel, "C": weight, "folds": None if queries else folds}
    document = {"mean": mean, "by_class": by_class, "n": len(truth), **options}
    show(as_json, document, table((label, "accuracy, %"), rows), f"{how}, {kernel} kernel, C = {weight:g}")


def retrieval(
    vectors: VectorsOption,
    k: Annotated[int, typer.Option("-k", help="Faces retrieved for each query.", min=1)] = 10,
    label: LabelOption = "expression",
    queries: Annotated[
        int | None, typer.Option(help="Number of queries drawn at random. Default: every face.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = 0,
    other_subjects: Annotated[
        bool,
        typer.Option("--other-subjects", help="Faces of the query's own person (column subject) are no candidates."),
    ] = False,
    metric: MetricOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score how many of a face's k nearest faces bear its label, beside the base rate of faces drawn at random.

    Exit codes: 0 done; 2 wrong use; 3 bad input.
    """
    import numpy as np

    from exprembed.metrics import expression_retrieval_precision

    file = read_vectors(vectors)
    known, truth = labels_of(file, vectors, label)
    subjects = None
    if other_subjects:
        subjects = labels_of(file, vectors, "subject")[1].reindex(known.index)
    names = None
    if queries is not None:
        if queries > len(known):
            raise WrongUseError(
                f"{queries:,} queries were asked of {len(known):,} faces; give --queries {len(known)} at most"
            )
        names = known.index[np.sort(np.random.default_rng(seed).choice(len(known), queries, replace=False))].tolist()
    kind = metric or file.metric
    found = expression_retrieval_precision(known, truth, names, k, kind, subjects)
    rows = [("all", 100 * found.precision, 100 * found.base_rate)]
    rows += [(str(name), 100 * share, 100 * found.base_rate_by_class[name]) for name, share in found.by_class.items()]
    document = {"metric": kind, "label": label, **vars(found), "seed": seed if queries else None}
    note = f"{found.n:,} queries of {len(known):,} faces, {kind}"
    show(as_json, document, table((label, f"precision@{k}, %", "base rate, %"), rows), note)


def _protocol(name: str) -> typer.Typer:
    """Return the command of evaluation/<name>.py of the checkout that this package is part of."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "evaluation" / f"{name}.py").is_file():
        raise WrongUseError(
            f"'evaluate {name}' runs evaluation/{name}.py, which only a checkout of the project has; this is an installed package"
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    module = importlib.import_module(f"evaluation.{name}")
    if hasattr(module, "app"):
        return cast(typer.Typer, module.app)
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(module.main)
    return app


def _same_model(one: Path, first: str | None, other: Path, second: str | None) -> None:
    if first is not None and second is not None and first != second:
        raise BadInputError(f"{one} and {other} hold vectors of two different models; embed both with the same weights")


def _add_paper(verb: str, about: str) -> None:
    name = verb.replace("-", "_")

    def run(context: typer.Context) -> None:
        _protocol(name)(args=list(context.args), prog_name=f"exprembed evaluate {verb}")

    words = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    evaluate_app.command(verb, context_settings=words, help=f"{about}: evaluation/{name}.py of a checkout.")(run)


for _verb in (triplets, knn, svm, retrieval):
    add_verb(evaluate_app, _verb)
for _paper, _about in PAPERS.items():
    _add_paper(_paper, _about)
