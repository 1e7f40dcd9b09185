"""Table VI, across data sets: trained on rendered faces, tested on FER+, and on JAFFE's people one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from evaluation.gcnet_data import cropped_jaffe, ferplus_validation, left_out
from evaluation.gcnet_protocol import Tested, cross_validate, measures, recipe_for, score, trained
from exprembed.data import FaceTable
from exprembed.data.tables import EXPRESSIONS
from exprembed.files import Skipped
from exprembed.report import Measure, Row, Section

if TYPE_CHECKING:
    from evaluation.gcnet import Bench

# Neutral and the six: what JAFFE, FER+ and the rendered faces share (the paper's seven across data sets).
SHARED = (*EXPRESSIONS[:7],)


def across(bench: Bench, data: Path | None) -> list[Section]:
    """Table VI: trained on rendered faces, tested on FER+ validation; JAFFE one person left out, fine-tuned on the others."""
    if data is None:
        return []
    store = bench.work / "all.parquet"
    labelled = bench.faces[bench.faces["expression"].notna()]
    FaceTable(pd.DataFrame(labelled).assign(split="train")).write_parquet(store)
    no_face: list[Skipped] = []
    copies: list[Skipped] = []
    ferplus = ferplus_validation(data / "ferplus", copies)
    jaffe = cropped_jaffe(data / "jaffe", bench.work / "jaffe", no_face)
    wild, people = [], []
    for method in ("CNN", "GCNet S1R1"):
        first, tuned = [], []
        for seed in bench.seeds:
            recipe = recipe_for(bench.base, method, SHARED, store, seed)
            model = trained(recipe)
            first.append(score(model, ferplus))
            path = model.save(bench.work / f"{method}-{seed}.safetensors".replace(" ", "-"))
            recipe.init, recipe.init_parts, recipe.learning_rate, recipe.steps = (
                str(path),
                [""],
                recipe.learning_rate / 10,
                100,
            )
            recipe.check_every = 100
            held = [
                result
                for _, _, _, result in cross_validate(
                    jaffe, recipe, SHARED, [method], [seed], jaffe["subject"].nunique(), done=bench.say
                )
            ]
            tuned += held
        paper = {"accuracy": 45.43} if method == "GCNet S1R1" else {}
        wild.append(
            Row(
                method,
                _accuracy(first),
                paper,
                len(first[0].faces),
                len(ferplus),
            )
        )
        n = sum(len(result.faces) for result in tuned) // len(bench.seeds)
        people.append(
            Row(
                method,
                _accuracy(tuned),
                {},
                n,
                len(jaffe),
            )
        )
    return [
        Section(
            "Table VI: across data sets",
            f"trained on {bench.words}; tested on FER+ validation, majority of the votes, 7 classes",
            ("accuracy",),
            wild,
            paper_data="trained on CK+, MMI and Oulu-CASIA, tested on FER2013",
            unit="accuracy, %, over seeds",
            notes=[
                "Faces without a majority, or of contempt, take no part. Nothing was trained or tuned on FER+.",
                *left_out(copies),
            ],
        ),
        Section(
            "JAFFE, one person left out",
            "six people of JAFFE, cropped by this library; trained on rendered faces, fine-tuned on five, tested on the sixth",
            ("accuracy",),
            people,
            unit="accuracy, %, mean ± standard deviation over people (and seeds)",
            notes=[
                "A face's reference is its person's first neutral picture; 100 steps at a tenth of the rate, fixed beforehand.",
                *left_out(no_face),
            ],
        ),
    ]


def _accuracy(results: Sequence[Tested]) -> dict[str, Measure]:
    return {"accuracy": measures([result.numbers for result in results])[0]}
