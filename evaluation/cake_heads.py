"""Heads of CAKE and AVk on cached features: trained by their recipes, many in a row, and what each predicts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from evaluation.cake_domains import Domains
from exprembed.data import FaceTable, MultiDomain
from exprembed.metrics import macro_f1, mean_class_accuracy
from exprembed.models.base import Embedder
from exprembed.models.cake import AVK
from exprembed.progress import progress
from exprembed.report import Measure
from exprembed.training import Recipe, cache_features, fit
from exprembed.training.run import build_model


@dataclass(frozen=True)
class Head:
    """One trained head on the scored faces.

    Attributes:
        model: CAKE or AVK.
        embedding: (n, d) of the scored faces.
        predictions: (J, n) class names, one row for the classifier of each domain.
    """

    model: Any
    embedding: np.ndarray
    predictions: np.ndarray


Runs = dict[str, list[Head]]
SHOWN = {"ferplus": "FER+", "rafdb": "RAF-DB", "synthetic": "rendered"}


@dataclass(frozen=True)
class Bench:
    """The domains, their features, and the recipes by which heads are trained on them.

    Attributes:
        domains: the faces.
        train: (n, F, 1, 1) float16 features of the training faces.
        test: likewise of the scored faces.
        cake: recipe of a CAKE.
        avk: recipe of an AVK.
        regressor: recipe of its first stage.
    """

    domains: Domains
    train: np.ndarray
    test: np.ndarray
    cake: Recipe
    avk: Recipe
    regressor: Recipe

    @classmethod
    def of(cls, domains: Domains, cake: Recipe, avk: Recipe, regressor: Recipe, cache: Path | None = None) -> Bench:
        """Run the frozen backbone once over all faces, one cache a domain, and fit the recipes to the domains."""
        names = {name: list(own) for name, own in domains.train.domains.items()}
        felt = [
            name
            for name in names
            if {"valence", "arousal"} <= set(_rows(domains.train, name).dropna(axis=1, how="all"))
        ]
        plans = [copy.deepcopy(recipe) for recipe in (cake, avk, regressor)]
        for plan, own in zip(plans, (list(names), list(names), felt), strict=True):
            plan.model["domains"] = {name: names[name] for name in own}
        model = build_model(plans[0])
        sides = (domains.train, domains.test)
        with progress("features", sum(len(side.faces) for side in sides)) as advance:
            maps = [
                np.concatenate(
                    [
                        np.array(cache_features(model, FaceTable(_rows(side, name)), cache, advance))
                        for name in side.domains
                    ]
                )
                for side in sides
            ]
        return cls(domains, maps[0], maps[1], *plans)

    @cached_property
    def fitted_regressor(self) -> dict[str, torch.Tensor]:
        """The weights of arousal and valence, trained once; every AVK has them, frozen."""
        faces = self.domains.train.faces
        own = faces["dataset"].isin(list(self.regressor.model["domains"])).to_numpy()
        model = seeded(self.regressor, 0)
        fit(model, self.regressor, self.train[own], FaceTable(pd.DataFrame(faces)[own]))
        return dict(model.get_submodule("regressor").state_dict())

    @property
    def words(self) -> str:
        """Say what the domains are, and how many faces train and are scored."""
        sizes = self.domains.train.counts.sum(axis=1), self.domains.test.counts.sum(axis=1)
        return "; ".join(
            f"{words}: {sizes[0][d]:,} faces trained, {sizes[1][d]:,} scored" for d, words in self.domains.words.items()
        )

    def head(self, seed: int, start: str | None = None, **options: Any) -> Head:  # noqa: ANN401 - the model's own arguments
        """Train one CAKE (`embedding_dim=`, `normalize=`) or AVK (`extra_dims=`), from another start if one is named."""
        recipe = copy.deepcopy(self.avk if "extra_dims" in options else self.cake)
        recipe.seed, recipe.start = seed, start or recipe.start
        recipe.model.update(options)
        model = seeded(recipe, seed)
        if isinstance(model, AVK):
            model.regressor.load_state_dict(self.fitted_regressor)
        fit(model, recipe, self.train, self.domains.train.faces)
        return predicted(model, self.test)

    def with_true_values(self, extra_dims: int, seed: int, domain: str) -> Head:
        """Train an AVK whose arousal and valence are the labels themselves (CAKE, section 2.1), on one domain.

        The labels ride behind the features, and the frozen regressor reads them off: nothing else differs from AVK.
        """
        train, test = (FaceTable(_rows(side, domain)) for side in (self.domains.train, self.domains.test))
        recipe = copy.deepcopy(self.avk)
        recipe.seed = seed
        recipe.model |= {"extra_dims": extra_dims, "domains": {domain: self.avk.model["domains"][domain]}}
        model: Any = seeded(recipe, seed)
        width = self.train.shape[1]
        model.width = width + 2
        model.regressor = nn.Linear(width + 2, 2).requires_grad_(False)
        nn.init.zeros_(model.regressor.bias)
        model.regressor.weight.copy_(torch.eye(2, width + 2).roll(width, dims=1))
        if extra_dims:
            model.projection = nn.Linear(width + 2, extra_dims)
        wide = [
            np.concatenate([maps[(side.faces["dataset"] == domain).to_numpy()], _felt(faces)], axis=1)
            for maps, side, faces in (
                (self.train, self.domains.train, train),
                (self.test, self.domains.test, test),
            )
        ]
        fit(model, recipe, wide[0], train)
        return predicted(model, wide[1])

    def truth(self, domain: str) -> tuple[np.ndarray, np.ndarray]:
        """Return which scored faces are of a domain (n,), and their classes."""
        faces = self.domains.test.faces
        own = (faces["dataset"] == domain).to_numpy()
        return own, faces["expression"].to_numpy(str)[own]

    def scores(self, head: Head, classifier: str, domain: str) -> dict[str, float]:
        """Return F1, recall and accuracy of one classifier on one domain, in percent."""
        own, truth = self.truth(domain)
        guess = head.predictions[list(self.domains.test.domains).index(classifier), own]
        return scores(truth, guess, self.domains.test.domains[domain])

    def multi_domain_f1(self, head: Head) -> float:
        """Return the domains' F1, each by its own classifier, averaged by the number of scored faces, in percent."""
        sizes = self.domains.test.counts.sum(axis=1)
        values = [self.scores(head, name, name)["F1"] for name in sizes.index]
        return float(np.average(values, weights=sizes))


def over(heads: Sequence[Head], measured: Callable[[Head], float]) -> Measure:
    """Measure each run's head."""
    return Measure(tuple(measured(head) for head in heads))


def scores(truth: np.ndarray, guess: np.ndarray, classes: tuple[str, ...]) -> dict[str, float]:
    """Return macro F1 over all of a domain's classes, mean per-class recall and accuracy, in percent."""
    return {
        "F1": 100 * macro_f1(truth, guess, classes),
        "recall": 100 * mean_class_accuracy(truth, guess),
        "accuracy": 100 * float((truth == guess).mean()),
    }


def seeded(recipe: Recipe, seed: int) -> Embedder:
    """Build a recipe's model, its new layers drawn from a seed."""
    torch.manual_seed(seed)
    return build_model(recipe)


def predicted(model: Any, maps: np.ndarray) -> Head:  # noqa: ANN401 - CAKE or AVK
    """Embed and classify pooled features (n, F, 1, 1)."""
    with torch.inference_mode():
        output = model.from_features(torch.from_numpy(maps.astype(np.float32)))
    return Head(model, output.embedding.numpy(), np.asarray(model.classes)[output.logits.argmax(dim=2).numpy()])


def _rows(side: MultiDomain, domain: str) -> pd.DataFrame:
    return pd.DataFrame(side.faces)[side.faces["dataset"] == domain]


def _felt(faces: Mapping[str, Any]) -> np.ndarray:
    """Return valence and arousal in the shape of maps: (n, 2, 1, 1)."""
    values = np.stack([faces[name].to_numpy(np.float32) for name in ("valence", "arousal")], axis=1)
    return values[:, :, None, None]
