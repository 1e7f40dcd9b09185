"""Run a recipe: data in, Lightning's Trainer, weights and card out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from exprembed.data.holdout import held_out
from exprembed.data.loading import StepDataset, load_pixels
from exprembed.data.readers import READERS
from exprembed.data.samplers import BalancedSampler, Sampler, TripletSampler, VoteTripletSampler, column_groups
from exprembed.data.tables import FaceTable, TripletTable
from exprembed.data.triplets import triplets_from_votes
from exprembed.data.vectors import vector_columns_of
from exprembed.errors import BadInputError, MissingExtraError, WrongUseError, unknown_name
from exprembed.files import write_json
from exprembed.models import create_model
from exprembed.models.base import Embedder
from exprembed.models.storage import load_matching
from exprembed.progress import progress as shown_progress
from exprembed.training.recipe import DataPlan, Recipe

if TYPE_CHECKING:
    from exprembed.training.objectives import Objective


@dataclass(frozen=True)
class TrainingResult:
    """What a run leaves behind.

    Attributes:
        model: the trained model, in evaluation mode.
        weights: its file in the run's folder.
        faces: number of faces that trained.
        watched: last triplet accuracy on the held-out faces; None without them.
        objectives: the terms of the loss, with what they learned (centres).
    """

    model: Embedder
    weights: Path
    faces: int
    watched: float | None
    objectives: Sequence[Objective] = ()


def train(recipe: Recipe, out: str | Path, resume: bool = False, progress: bool = True) -> TrainingResult:
    """Train a model as a recipe says.

    Every random number is a function of (recipe.seed, step), so a run that was cut off and resumed gives the same
    weights as one that was not (on the same machine and number of threads).

    Args:
        recipe: see `load_recipe`.
        out: the run's folder: recipe.json, logs, checkpoints/last.ckpt, <name>.safetensors + .json.
        resume: continue from checkpoints/last.ckpt; without one, WrongUseError.
        progress: show how far reading, rendering and caching have come, and Lightning's bar.

    Raises:
        BadInputError: the data cannot be read or do not fit the recipe.
        WrongUseError: a name or number in the recipe is wrong, or there is nothing to resume.
    """
    try:
        import lightning
        from lightning.pytorch.callbacks import ModelCheckpoint
        from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
    except ImportError as error:
        raise MissingExtraError("lightning", "train", "training") from error
    import torch

    from exprembed.training.module import TrainingModule

    folder = Path(out)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if resume and not checkpoint.is_file():
        raise WrongUseError(f"there is nothing to resume: {checkpoint} is absent")
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    lightning.seed_everything(recipe.seed, verbose=False)
    faces, triplets = read_faces(recipe.data)
    model = build_model(recipe, faces)
    kept, watched = _split(faces, recipe.data.holdout, not progress)
    if recipe.data.synthetic:
        faces = _with_synthetic(faces, recipe.data.synthetic, folder / "synthetic", not progress)
        # Rendered faces are easy: watched, they would flatter the score.
        kept = np.append(kept, np.ones(len(faces) - len(kept), bool))
        watched = np.append(watched, np.zeros(len(faces) - len(watched), bool))
    inputs = load_inputs(recipe, model, faces, not progress)
    own_inputs, own_faces = inputs[kept], FaceTable(faces[kept])
    steps = make_steps(recipe, model, own_inputs, own_faces, triplets)
    module = TrainingModule(model, recipe, steps, _watch(inputs[watched], faces[watched]))
    _start(recipe, model, own_inputs, own_faces)
    write_json(folder / "recipe.json", recipe.to_dict())
    every = min(recipe.check_every, recipe.steps)
    saver = ModelCheckpoint(folder / "checkpoints", save_last=True, every_n_train_steps=every, save_top_k=0)
    trainer = _trainer(
        recipe,
        val_check_interval=every if module.watch else None,
        limit_val_batches=1.0 if module.watch else 0,
        logger=[CSVLogger(folder, "logs", version=""), TensorBoardLogger(folder, "logs", version="")],
        callbacks=[saver],
        enable_progress_bar=progress,
        log_every_n_steps=min(50, every),
    )
    module.to(memory_format=torch.channels_last)
    trainer.fit(module, ckpt_path=str(checkpoint) if resume else None, weights_only=True if resume else None)
    score = trainer.callback_metrics.get("watch/triplet_accuracy")
    model.cpu().eval()
    card = {
        "training_data": f"{recipe.data.dataset}, split {recipe.data.split}: {int(kept.sum())} faces"
        + (f", of which {recipe.data.synthetic} rendered" if recipe.data.synthetic else ""),
        "recipe": recipe.to_dict() | {"data": {**recipe.to_dict()["data"], "path": None}, "init": None},
        "initialised_from": None if recipe.init is None else Path(recipe.init).name,
        "seed": recipe.seed,
    }
    weights = model.save(folder / f"{recipe.name}.safetensors", card)
    return TrainingResult(model, weights, int(kept.sum()), None if score is None else float(score), module.terms)


def fit(model: Embedder, recipe: Recipe, inputs: np.ndarray, faces: FaceTable) -> Sequence[Objective]:
    """Train a model in memory: the loop of `train` without its files, for many short runs on the same cached maps.

    Args:
        model: trained in place, from the weights that it has; afterwards in evaluation mode.
        recipe: objectives, sampler, optimiser and steps; of its data only what names label and references is looked at.
        inputs: (n, ...) crops or maps of the faces, all of which train.
        faces: the table of the same n faces.

    Returns:
        The terms of the loss, with what they learned.
    """
    import torch

    from exprembed.training.module import TrainingModule

    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    module = TrainingModule(model, recipe, make_steps(recipe, model, inputs, faces))
    _start(recipe, model, inputs, faces)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    _trainer(recipe, **quiet).fit(module)
    model.cpu().eval()
    return module.terms


def _start(recipe: Recipe, model: Embedder, inputs: np.ndarray, faces: FaceTable) -> None:
    if recipe.start == "linear":
        if not model.frozen or recipe.augmentation is not None:
            raise WrongUseError(
                "start: linear stands on a frozen backbone's maps: freeze it and say augmentation: null, or say start: drawn"
            )
        # pandas cuts every string to one letter where a missing one is among them.
        names = _labels(recipe, faces).astype(object).fillna("").to_numpy(str)
        model.start(inputs, names, faces["dataset"].to_numpy(str))


def _trainer(recipe: Recipe, **options: Any) -> Any:  # noqa: ANN401 - Lightning's
    import lightning

    common: dict[str, Any] = {"accelerator": "auto", "devices": 1, "num_sanity_val_steps": 0, **recipe.trainer}
    return lightning.Trainer(
        max_steps=recipe.steps, enable_model_summary=False, use_distributed_sampler=False, **common, **options
    )


def build_model(recipe: Recipe, faces: FaceTable | None = None) -> Embedder:
    """Build the recipe's model and start it from `recipe.init` where one is given; `faces` name classes of their own."""
    options = dict(recipe.model)
    name = options.pop("name", None)
    if name is None:
        raise WrongUseError("the recipe's model has no name; say model: {name: fecnet, ...}")
    if faces is not None and recipe.data.label != "expression" and "classes" not in options:
        options["classes"] = sorted(_labels(recipe, faces).dropna().unique())
    model: Embedder = create_model(name, **options)
    if recipe.init is not None:
        load_matching(model, recipe.init, recipe.init_parts)
    if recipe.sizes and sorted(recipe.sizes.items())[-1][1] != model.preprocessing.size:
        raise WrongUseError(f"the last of sizes must be the model's own {model.preprocessing.size}; got {recipe.sizes}")
    return model


def read_faces(plan: DataPlan) -> tuple[FaceTable, TripletTable | None]:
    """Read the recipe's faces, and the triplets where the reader gives them or the plan names them.

    Triplets keep to the faces that are there; BadInputError where no face is left.
    """
    if plan.path is None:
        raise WrongUseError(f"say where the data set {plan.dataset!r} lies: --set data.path=DIR")
    reader = READERS.get(plan.dataset)
    takes = inspect.signature(reader).parameters
    foreign = [name for name in plan.options if name not in takes]
    if foreign:
        raise WrongUseError(
            f"the reader of {plan.dataset!r} takes no {foreign[0]!r}, which the recipe's data.options has; it takes "
            f"{', '.join(name for name in takes if name != 'skipped')} (--set data.options={{}} drops them)"
        )
    found = reader(plan.path, **plan.options)
    faces, triplets = found if isinstance(found, tuple) else (found, None)
    if plan.triplets is not None:
        triplets = TripletTable.read_parquet(plan.triplets)
    if plan.split is not None and "split" in faces:
        splits = sorted(faces["split"].dropna().unique())
        if plan.split not in splits:
            raise unknown_name(f"split of {plan.dataset}", plan.split, splits)
        faces = FaceTable(faces[faces["split"] == plan.split])
    if plan.references and "reference" in faces:
        faces = FaceTable(faces[faces["reference"].notna()])
    if plan.missing == "skip":
        faces = FaceTable(faces[[Path(path).is_file() for path in faces["path"]]])
    if triplets is not None:
        triplets = TripletTable(pd.DataFrame(triplets.present_in(faces.index)))
    if faces.empty:
        raise BadInputError(f"no face of {plan.dataset} is left: none of the files that {plan.path} names is there")
    return faces, triplets


# The renderer's seed for training; the built-in gallery and every evaluation on rendered faces use others, and a seed
# fixes the subjects too, so that no rendered person is both trained on and shown.
_SYNTHETIC_SEED = 710_000


def _with_synthetic(faces: FaceTable, n: int, folder: Path, quiet: bool = True) -> FaceTable:
    """Add rendered faces as files in `folder`, each with ten votes on its expression where the others carry votes."""
    from exprembed.data.synthetic import render_faces, save_faces

    with shown_progress("rendering", n, quiet) as advance:
        images, table = render_faces(n, subjects=max(1, n // 10), seed=_SYNTHETIC_SEED, advance=advance)
    rendered = pd.DataFrame(save_faces(images, table, folder))
    for column in (name for name in faces.columns if str(name).startswith("votes_")):
        rendered[column] = 10 * (rendered["expression"] == str(column).removeprefix("votes_"))
    for column in vector_columns_of(faces):
        rendered[column] = np.nan  # a teacher's vectors: it was not asked for these faces
    shared = [column for column in faces.columns if column in rendered]
    return FaceTable(pd.concat([pd.DataFrame(faces)[shared], rendered[shared]]))


def load_inputs(recipe: Recipe, model: Embedder, faces: FaceTable, quiet: bool = True) -> np.ndarray:
    """Return what steps index: crops in memory, or the frozen backbone's maps where nothing varies its input."""
    if model.frozen and recipe.augmentation is None:
        from exprembed.training.features import cache_features

        with shown_progress("features", len(faces), quiet) as advance:
            return cache_features(model, faces, advance=advance)
    with shown_progress("reading faces", len(faces), quiet) as advance:
        return load_pixels(faces, model.preprocessing.size, model.preprocessing.channels, advance)


def make_steps(
    recipe: Recipe, model: Embedder, inputs: np.ndarray, faces: FaceTable, triplets: TripletTable | None = None
) -> StepDataset:
    """Build the batches of the recipe's steps, with the targets that its objectives and its model ask for."""
    targets = {plan.target for plan in recipe.objectives}
    return StepDataset(
        inputs,
        faces,
        make_sampler(recipe, faces, triplets, model.classes),
        model.classes,
        model.domains,
        recipe.data.label,
        recipe.data.references,
        model.va_regions,
        model.preprocessing.size if "masks" in targets else None,
        "action_units" in targets,
    )


def make_sampler(
    recipe: Recipe, faces: FaceTable, triplets: TripletTable | None, classes: Sequence[str] = ()
) -> Sampler:
    """Build the recipe's sampler; beside references, faces of no class (the references themselves) are not drawn."""
    options = dict(recipe.sampler)
    kind = options.pop("kind")
    if kind == "balanced":
        labels = _labels(recipe, faces)
        among = labels.isin(classes).to_numpy() if recipe.data.references else None
        by, groups = options.pop("by", None), labels.to_numpy()
        if by is not None:
            if by not in faces:
                raise BadInputError(f"the sampler balances the faces' {by!r}, and the table has no such column")
            groups = column_groups(faces[by], options.pop("bins", 5))
        return _call(BalancedSampler, groups, seed=recipe.seed, among=among, **options)
    if kind == "vote_triplets":
        return _call(VoteTripletSampler, faces, seed=recipe.seed, **options)
    if triplets is None:
        raise BadInputError(
            f"the data set {recipe.data.dataset!r} has no triplets; set data.triplets or use vote_triplets"
        )
    strong = triplets[triplets["agreement"] == "strong"] if "agreement" in triplets else triplets
    return _call(TripletSampler, faces, TripletTable(pd.DataFrame(strong)), seed=recipe.seed, **options)


def _labels(recipe: Recipe, faces: FaceTable) -> pd.Series:
    if recipe.data.label not in faces:
        raise BadInputError(
            f"the recipe takes classes from the faces' {recipe.data.label!r}, and the table has no such column"
        )
    return faces[recipe.data.label]


def _call(cls: Callable[..., Sampler], *arguments: Any, **options: Any) -> Sampler:  # noqa: ANN401
    try:
        return cls(*arguments, **options)
    except TypeError as error:
        raise WrongUseError(f"the recipe's sampler: {error}") from error


def _split(faces: FaceTable, holdout: float, quiet: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Part faces by their picture, so that exact copies stay on one side: (n,) kept and (n,) held out, bool.

    The picture's own pixels decide, not what a recipe makes of them, so that the stages of a method hold out the same
    faces: otherwise a trunk has trained on what its head is watched on.
    """
    with shown_progress("holding faces out", len(faces), quiet or holdout == 0) as advance:
        held = held_out(faces, holdout, advance)
    return ~held, held


def _watch(inputs: np.ndarray, faces: pd.DataFrame) -> tuple[np.ndarray, TripletTable] | None:
    if len(faces) < 50 or not any(str(column).startswith("votes_") for column in faces.columns):
        return None
    numbered = FaceTable(faces.set_axis([str(row) for row in range(len(faces))], axis=0))
    try:
        return inputs, triplets_from_votes(numbered, 1500, seed=0, strong_only=True)
    except BadInputError:  # too few classes among the held-out faces: nothing to watch
        return None
