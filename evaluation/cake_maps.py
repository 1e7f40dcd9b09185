"""CAKE's figure 5: emotion maps, which classes neighbour which, and what the start of training has to do with it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.cake_heads import SHOWN, Bench, Head, Runs, over
from exprembed.plots import emotion_globe, emotion_grid, emotion_map
from exprembed.report import Measure, Row, Section
from exprembed.training.recipe import STARTS


def figure_5(bench: Bench, runs: Runs, resolution: int = 300) -> tuple[Section, dict[str, Any]]:
    """Maps of the first seed; how far those of two domains agree over all seeds; and CAKE-3-Norm's globes."""
    names, rows, figures, globes = list(bench.domains.test.domains), [], {}, {}
    longest: dict[str, list[float]] = {}
    for kind in ("CAKE-3-Norm", "AV", "CAKE-2"):
        found: dict[str, dict[str, list[float]]] = {}
        for seed, head in enumerate(runs[kind]):
            grids = {d: emotion_grid(head.model, d, head.embedding, resolution) for d in names}
            for d, grid in grids.items():
                key = f"{kind}, {SHOWN[d]}"
                longest.setdefault(key, []).append(grid.borders(by_faces=True).sum().idxmax() == "neutral")
            for by_faces in (False, True):
                touching = {d: grid.neighbours(by_faces=by_faces) for d, grid in grids.items()}
                values = found.setdefault(f"{kind}, by faces" if by_faces else kind, {})
                for d, e in itertools.combinations(names, 2):
                    shared, either = touching[d] & touching[e], touching[d] | touching[e]
                    values.setdefault(f"{SHOWN[d]} / {SHOWN[e]}", []).append(100 * len(shared) / max(1, len(either)))
                for d in names:
                    own, most = _neutral(touching[d])
                    values.setdefault(f"neutral most, {SHOWN[d]}", []).append(100.0 * (own == most))
                    values.setdefault(f"neutral's, {SHOWN[d]}", []).append(own)
            if seed == 0:
                for d in names:
                    own, truth = bench.truth(d)
                    title, axes = f"{kind}: {SHOWN[d]}", ("arousal", "valence") if kind == "AV" else None
                    key = f"figure_5_{kind.lower()}_{d}".replace("-", "_")
                    figures[key] = emotion_map(head.model, d, head.embedding[own], truth, resolution, title, axes)
                    if kind == "CAKE-3-Norm":
                        globes[f"globe_{d}"] = emotion_globe(head.model, d, head.embedding[own], truth, title=title)
        rows += [
            Row(name, {column: Measure(tuple(own)) for column, own in values.items()}) for name, values in found.items()
        ]
    section = Section(
        "Figure 5: which classes neighbour which",
        bench.words,
        list(rows[0].ours),
        rows,
        unit="overlap of two domains' pairs of neighbours (intersection over union), %; share of the seeds in which neutral touches "
        "the most classes (alone or with others), %; how many classes neutral touches (of six)",
        notes=[
            "Two classes are neighbours where their border is at least 1 % of all borders of the map. A map covers the range of all "
            "scored faces, places without a face included, or the whole sphere. By faces: a piece of border counts as often as faces "
            "lie about it (nearer than a twentieth of the range).",
            "Share of the seeds in which neutral has more of the borders, by faces, than any other class: "
            + "; ".join(f"{key} {100 * np.mean(values):.0f} %" for key, values in longest.items())
            + ".",
            "The pictures are those of the first seed. Points are scored faces, in the colour of their label.",
        ],
        figures=figures,
    )
    return section, globes


def starts(bench: Bench, runs: Runs, seeds: Sequence[int], resolution: int = 300) -> Section:
    """The heads as their recipe starts them, and from the other start."""
    from rich.progress import track

    kinds: dict[str, dict[str, Any]] = {
        "CAKE-2": {"embedding_dim": 2},
        "CAKE-3-Norm": {"embedding_dim": 3, "normalize": True},
        "CAKE-3": {"embedding_dim": 3},
    }
    names, rows = list(bench.domains.test.domains), []
    (other,) = set(STARTS) - {bench.cake.start}
    for name, options in track(kinds.items(), f"{other} starts"):
        others = [bench.head(seed, start=other, **options) for seed in seeds]
        for start, heads in ((bench.cake.start, runs[name]), (other, others)):
            ours = {f"{SHOWN[d]} F1": over(heads, lambda one, d=d: bench.scores(one, d, d)["F1"]) for d in names}
            if name != "CAKE-3":  # three dimensions without a length have no map
                ours |= {
                    f"neutral most, {SHOWN[d]}": over(heads, lambda one, d=d: _neutral_most(one, d, resolution))
                    for d in names
                }
            rows.append(Row(f"{name}, {start}", ours))
    return Section(
        "How the head starts: from linear classifiers squeezed into it, or drawn",
        bench.words,
        list(rows[0].ours),
        rows,
        unit="macro F1; share of the seeds in which neutral touches the most classes, %",
        notes=[
            "Linear: each domain's logistic regression on all features, squeezed to k numbers, then trained as the drawn one."
        ],
    )


def _neutral(pairs: set[tuple[str, str]]) -> tuple[int, int]:
    """Return how many classes neutral touches, and how many the class touches that touches the most."""
    touched = Counter(itertools.chain.from_iterable(pairs))
    return touched["neutral"], max(touched.values(), default=0)


def _neutral_most(head: Head, domain: str, resolution: int) -> float:
    own, most = _neutral(emotion_grid(head.model, domain, head.embedding, resolution).neighbours())
    return 100.0 * (own == most)
