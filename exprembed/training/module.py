"""The training loop's body, as Lightning wants it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from exprembed.data.augment import Augmentation
from exprembed.data.loading import Batch, StepDataset
from exprembed.data.tables import TripletTable
from exprembed.errors import unknown_name
from exprembed.metrics import triplet_accuracy
from exprembed.models.base import Embedder, EmbedderOutput
from exprembed.training.objectives import Facts, Objective
from exprembed.training.optimizers import OPTIMIZERS, convolution_weights, make_schedule, parameter_groups
from exprembed.training.recipe import Recipe


def seed_of(seed: int, step: int) -> int:
    """Return the seed of one step: every random number of a run is a function of it."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _seed(seed: int) -> None:
    """Seed torch on the devices in use: `torch.manual_seed` takes a millisecond for a CUDA that has never been asked for."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)


class StepSampler(Sampler[int]):
    """Numbers of the training steps, from the one that comes next; process r of w takes every w-th.

    Its length is always that of the whole run, which is how Lightning knows where a resumed run ends.
    """

    def __init__(self, module: TrainingModule) -> None:
        self.module = module

    def __len__(self) -> int:
        return self.module.recipe.steps

    def __iter__(self) -> Iterator[int]:
        trainer = self.module.trainer
        for step in range(self.module.global_step, len(self)):
            yield step * trainer.world_size + trainer.global_rank


class TrainingModule(lightning.LightningModule):  # type: ignore[misc]  # the library is left unfollowed
    """Model, objectives, optimiser and schedule of a recipe."""

    def __init__(
        self,
        model: Embedder,
        recipe: Recipe,
        steps: StepDataset,
        watch: tuple[np.ndarray, TripletTable] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        facts = Facts.of(model, steps)
        self.terms = [Objective(plan, facts) for plan in recipe.objectives]
        self.objectives = nn.ModuleList(self.terms)
        self.steps = steps
        self.watch = watch
        self.augmentation = _augmentation(recipe)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Give whole batches, in the order of steps."""
        return DataLoader(self.steps, batch_size=None, sampler=StepSampler(self), num_workers=self.recipe.workers)

    def val_dataloader(self) -> list[int]:
        """Give one empty batch: the watched faces are measured at once in `validation_step`."""
        return [0] if self.watch else []

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ANN401
        """Move a batch; Lightning does not know our dataclass."""
        return batch.to(device) if isinstance(batch, Batch) else batch

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one step."""
        seed = seed_of(self.recipe.seed, batch.step)
        _seed(seed)  # dropout
        output = self._output(batch, seed)
        batch = replace(batch, masks=self._masks(batch.masks, seed))
        terms = [objective(output, batch) for objective in self.terms]
        for plan, term in zip(self.recipe.objectives, terms, strict=True):
            self.log(f"loss/{plan.loss}", term, prog_bar=True, batch_size=len(batch.inputs))
        for name, penalty in output.penalties.items():
            self.log(f"loss/{name}", penalty, batch_size=len(batch.inputs))
        return torch.stack([*terms, *output.penalties.values()]).sum()

    def _output(self, batch: Batch, seed: int) -> EmbedderOutput:
        if batch.inputs.dtype != torch.uint8:  # cached maps of a frozen backbone
            return self.model.from_features(batch.inputs.float())
        # One seed for both: a face and its reference are turned, cut and lit alike.
        images, references = (self._varied(pixels, seed) for pixels in (batch.inputs, batch.references))
        return self.model.training_output(images, references if len(references) else None)

    def _masks(self, masks: Tensor, seed: int) -> Tensor:
        """Move masks as the faces were moved; light, noise and blank rectangles leave them alone."""
        if not len(masks):
            return masks
        return self.augmentation.geometry(masks, self._size(), torch.Generator().manual_seed(seed))

    def _varied(self, pixels: Tensor, seed: int) -> Tensor:
        if not len(pixels):
            return pixels
        varied = self.augmentation(pixels.float() / 255, self._size(), torch.Generator().manual_seed(seed))
        return self.model.preprocessing.normalize(varied).contiguous(memory_format=torch.channels_last)

    def _size(self) -> int:
        done = self.global_step / self.recipe.steps
        reached = [size for share, size in sorted(self.recipe.sizes.items()) if share <= done]
        return reached[-1] if reached else self.model.preprocessing.size

    def validation_step(self, batch: int, batch_idx: int) -> None:
        """Log the triplet accuracy on the watched faces."""
        if self.watch is None:
            return
        inputs, triplets = self.watch
        vectors = []
        for start in range(0, len(inputs), 256):
            block = torch.from_numpy(np.ascontiguousarray(inputs[start : start + 256])).to(self.device)
            if block.dtype == torch.uint8:
                vectors.append(self.model(self.model.preprocessing.normalize(block)).embedding)
            else:
                vectors.append(self.model.from_features(block.float()).embedding)
        table = pd.DataFrame(torch.cat(vectors).float().cpu().numpy(), index=[str(row) for row in range(len(inputs))])
        score = triplet_accuracy(table, triplets, metric=self.model.metric)
        self.log("watch/triplet_accuracy", score.overall, prog_bar=True, batch_size=len(inputs))

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own form
        """Build the optimiser and the schedule, a function of the step alone."""
        recipe = self.recipe
        parameters = {name.removeprefix("model."): p for name, p in self.named_parameters() if p.requires_grad}
        groups = parameter_groups(
            parameters,
            recipe.learning_rate,
            recipe.learning_rates,
            convolution_weights(self) if recipe.optimizer == "muon" else set(),
        )
        optimizer = OPTIMIZERS[recipe.optimizer](groups, weight_decay=recipe.weight_decay)
        rate = make_schedule(recipe.schedule, recipe.steps, recipe.warmup, recipe.schedule_options)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _augmentation(recipe: Recipe) -> Augmentation:
    if recipe.augmentation is None:
        return Augmentation.none()
    known = {entry.name for entry in fields(Augmentation)}
    for key in recipe.augmentation:
        if key not in known:
            raise unknown_name("augmentation key", key, known)
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in recipe.augmentation.items()}
    return Augmentation(**values)
