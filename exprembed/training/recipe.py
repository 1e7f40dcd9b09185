"""Recipes: everything a training run depends on, in one YAML file whose keys are all checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from exprembed.errors import BadInputError, WrongUseError, unknown_name

# The names alone: reading a recipe loads no torch.
OPTIMIZERS = ("adam", "adamw", "muon", "nesterov", "sgd")
SCHEDULES = ("constant", "cosine", "inverse")
STARTS = ("drawn", "linear")
SAMPLERS = ("balanced", "triplets", "vote_triplets")
TARGETS = (
    "triplets",
    "labels",
    "votes",
    "valence_arousal",
    "va_histogram",
    "va_regions",
    "masks",
    "vectors",
    "action_units",
)


@dataclass
class DataPlan:
    """Which faces train.

    Attributes:
        dataset: a reader's name ("ferplus"), or "synthetic".
        path: the data set's folder; the packaged recipes leave it to `--set data.path=DIR`.
        options: further arguments of the reader (`{images: DIR}` for FEC's downloaded crops).
        missing: "error", or "skip" to train without the faces whose file is absent (dead links) and count them.
        split: rows of this split only; None takes all.
        triplets: a TripletTable (.parquet) for the sampler "triplets"; readers that give one need none.
        label: the column that names a face's class. For another than "expression" the model's classes are the column's
            values, unless the recipe names them.
        references: give each face its reference face (column `reference`) beside it; faces without one do not train.
        synthetic: rendered faces added to the others, with votes drawn from their expression.
        holdout: share of the faces, by content, kept out to watch progress on; exact copies of an image stay together.
    """

    dataset: str = "ferplus"
    path: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    missing: str = "error"
    split: str | None = "train"
    triplets: str | None = None
    label: str = "expression"
    references: bool = False
    synthetic: int = 0
    holdout: float = 0.04


@dataclass
class ObjectivePlan:
    """One term of the loss: which loss, on which output, against which target.

    Attributes:
        loss: a registered loss, or the name of a loss of pytorch-metric-learning ("TripletMarginLoss") or of torch
            ("MSELoss").
        input: "embedding", "logits", "valence_arousal", or the name of another output that the model gives in `parts`.
        target: "triplets" (a, b, odd), "labels" (class numbers, with valence and arousal for losses that take them),
            "votes" (distributions), "valence_arousal", "va_histogram" (the class distribution of the face's bin
            among the training faces), "va_regions" (the region of the plane, as the model divides it), "masks" (the
            share of eye and mouth in each cell of the input), "vectors" (a teacher's: the table's columns v00, v01, ...),
            or "action_units" (1 where the column au_NN of a class N of the model is above 2 of 5, else 0). Faces without the
            target take no part in the term.
        weight: factor of the term.
        options: the loss's arguments; `num_classes`, `class_counts` (both of the regions where they are the target),
            `embedding_dim` and, for models with domains, `class_weights` and `domain_sizes` fill themselves in.
        miner: options of a CategoryTripletMiner for losses on labels; None for none.
        bins: intervals of va_histogram on each axis.
    """

    loss: str
    input: str = "embedding"
    target: str = "triplets"
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    miner: dict[str, Any] | None = None
    bins: int = 10


@dataclass
class Recipe:
    """A training run.

    Attributes:
        name: of the run and of its folder.
        about: one sentence for listings.
        model: `name` and arguments of a registered model.
        objectives: the terms of the loss.
        init: weights that the model starts from; None starts from scratch.
        init_parts: what it takes of them, by the start of their names.
        start: how new layers start: "drawn", or "linear" (`Embedder.start`, from the maps of a frozen backbone).
        data: which faces train.
        sampler: `kind` (balanced, triplets, vote_triplets) and its arguments; "balanced" also takes `by`, the column whose
            values it balances (the classes' own unless given), and `bins` for a column of numbers (see `column_groups`).
        augmentation: arguments of `Augmentation`; empty for its defaults; None for no variation.
        sizes: {share of the steps done: input size}: small inputs first make early steps cheap. Empty: always the
            model's own size. The last must be the model's.
        optimizer: "adam", "adamw", "muon" (Muon for convolutions, at ten times the learning rate, AdamW for the rest),
            "nesterov" (SGD with Nesterov's momentum of 0.9) or "sgd" (SGD with momentum 0.9).
        learning_rate: the peak.
        learning_rates: factors on it by the start of a parameter's name ({"generator.decoder.": 10}).
        weight_decay: of the optimizer; AdamW and Muon shrink weights by it, the others add it to the gradient.
        schedule: "constant", "cosine" (linear warm-up over `warmup` of the steps, then a half cosine to 0), or "inverse",
            (1 + gamma step)^-power.
        schedule_options: gamma and power of "inverse".
        warmup: share of the steps.
        steps: optimiser steps.
        seed: of everything drawn: weights, batches, augmentation, dropout.
        threads: CPU threads; None leaves torch's choice.
        workers: processes that prepare batches.
        check_every: steps between two measurements on the held-out faces, and between checkpoints.
        trainer: further arguments of Lightning's Trainer (precision, devices, strategy, num_nodes, ...).
    """

    name: str
    model: dict[str, Any]
    objectives: list[ObjectivePlan]
    about: str = ""
    init: str | None = None
    init_parts: list[str] = field(default_factory=lambda: ["backbone.", "trunk.", "regressor."])
    start: str = "drawn"
    data: DataPlan = field(default_factory=DataPlan)
    sampler: dict[str, Any] = field(default_factory=lambda: {"kind": "balanced", "batch_size": 96})
    augmentation: dict[str, Any] | None = field(default_factory=dict)
    sizes: dict[float, int] = field(default_factory=dict)
    optimizer: str = "adam"
    learning_rate: float = 5e-4
    learning_rates: dict[str, float] = field(default_factory=dict)
    weight_decay: float = 0.0
    schedule: str = "constant"
    schedule_options: dict[str, float] = field(default_factory=dict)
    warmup: float = 0.1
    steps: int = 1000
    seed: int = 0
    threads: int | None = None
    workers: int = 0
    check_every: int = 500
    trainer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse names and numbers that no run could use."""
        choices: list[tuple[str, Any, tuple[str, ...]]] = [
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("start", self.start, STARTS),
        ]
        choices += [("sampler", self.sampler.get("kind"), SAMPLERS), ("missing", self.data.missing, ("error", "skip"))]
        for plan in self.objectives:
            choices.append(("target", plan.target, TARGETS))
        for kind, value, known in choices:
            if value not in known:
                raise unknown_name(kind, value, known)
        if not self.objectives:
            raise WrongUseError("a recipe needs at least one objective")
        if self.steps < 1 or self.learning_rate <= 0 or not 0 <= self.data.holdout < 1:
            raise WrongUseError(
                f"steps and learning_rate must be positive and holdout in [0, 1); got {self.steps}, {self.learning_rate}, {self.data.holdout}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON and YAML."""
        return asdict(self)


def list_recipes() -> dict[str, str]:
    """Return the packaged recipes: name -> what it is about."""
    folder = resources.files("exprembed.training") / "recipes"
    found = {}
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".yaml"):
            found[entry.name.removesuffix(".yaml")] = str(
                yaml.safe_load(entry.read_text(encoding="utf-8")).get("about", "")
            )
    return found


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a packaged recipe or a YAML file, and apply `key=value` overrides (dotted keys reach inside).

    Raises:
        WrongUseError: an unknown recipe or key (with the nearest valid one), or an override without "=".
        BadInputError: the file is no YAML mapping.

    Example:
        >>> load_recipe("ferplus-triplets-small", ["steps=10", "data.path=faces"]).data.path
        'faces'
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise BadInputError(f"there is no recipe file {path}")
        text = path.read_text(encoding="utf-8")
    else:
        known = list_recipes()
        if str(name_or_path) not in known:
            raise unknown_name("recipe", name_or_path, known)
        text = (resources.files("exprembed.training") / "recipes" / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInputError(f"the recipe {name_or_path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise BadInputError(f"the recipe {name_or_path} must be a mapping of keys; got {type(values).__name__}")
    for override in overrides:
        _override(values, override)
    return recipe_from_dict(values)


def recipe_from_dict(values: dict[str, Any]) -> Recipe:
    """Build a recipe from plain values; every unknown key raises with the nearest valid one."""
    filled = dict(values)
    if isinstance(filled.get("objectives"), list):
        filled["objectives"] = [_build(ObjectivePlan, plan, "objective key") for plan in filled["objectives"]]
    if isinstance(filled.get("data"), dict):
        filled["data"] = _build(DataPlan, filled["data"], "data key")
    recipe: Recipe = _build(Recipe, filled, "recipe key")
    return recipe


def _build(cls: Any, values: dict[str, Any], kind: str) -> Any:  # noqa: ANN401 - one of three dataclasses
    names = {entry.name for entry in fields(cls)}
    for key in values:
        if key not in names:
            raise unknown_name(kind, key, names)
    try:
        return cls(**values)
    except TypeError as error:
        raise WrongUseError(f"the recipe is incomplete: {error}") from error


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise WrongUseError(f"an override reads key=value; got {override!r}")
    *parents, last = key.split(".")
    place: Any = values
    for parent in parents:
        place = place.setdefault(parent, {}) if isinstance(place, dict) else place[int(parent)]
        if place is None:
            raise WrongUseError(f"{override!r}: {parent} is empty, so nothing inside it can be set")
    if isinstance(place, list):
        place[int(last)] = yaml.safe_load(text)
    else:
        place[last] = yaml.safe_load(text)
