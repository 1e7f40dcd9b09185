"""torch data sets of whole training steps and of faces in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from exprembed.data.masks import eye_mouth_mask, relative_landmarks
from exprembed.data.preprocessing import Preprocessing
from exprembed.data.regions import va_regions
from exprembed.data.samplers import Sampler
from exprembed.data.tables import FaceTable
from exprembed.data.triplets import vote_distributions
from exprembed.data.vectors import vector_columns_of
from exprembed.errors import BadInputError, unknown_name

POSITIVE_ABOVE = 2.0  # FEC, section 5.1: an action unit is shown where its intensity of 0 to 5 is above it


@dataclass
class Batch:
    """What one training step works on.

    Attributes:
        step: its number.
        inputs: (B, C, H, W) uint8 crops, or (B, F, h, w) cached feature maps.
        labels: (B,) class numbers, -1 where unknown.
        votes: (B, C) vote distributions; zeros where there are none.
        triplets: (T, 3) rows a, b, odd of this batch; empty where the batch carries none.
        types: (T,) positions in TRIPLET_TYPES.
        valence_arousal: (B, 2) in [-1, 1], NaN where unknown.
        domains: (B,) number of the data set that each face is from; 0 where the model does not tell them apart.
        references: the reference face of each, as `inputs`; empty where the run has no use for them.
        regions: (B,) region of the valence-arousal plane, -1 where unknown; (B, 2) 0.0 or 1.0 for "half", NaN where unknown.
        masks: (B, 1, S, S) 1.0 on eyes and mouth, NaN for a face without landmarks; empty where the run has no use for them.
        vectors: (B, D) what a teacher says of each face, NaN where unknown; (B, 0) where the table holds no vectors.
        action_units: (B, C) 1.0 where a face shows the action unit, NaN where unknown; (B, 0) where the run has no use for them.
    """

    step: int
    inputs: Tensor
    labels: Tensor
    votes: Tensor
    triplets: Tensor
    types: Tensor
    valence_arousal: Tensor
    domains: Tensor
    references: Tensor
    regions: Tensor
    masks: Tensor
    vectors: Tensor
    action_units: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device."""
        tensors = {field.name: getattr(self, field.name).to(device) for field in fields(self) if field.name != "step"}
        return Batch(self.step, **tensors)


def load_pixels(faces: FaceTable, size: int, channels: int, advance: Any = None) -> np.ndarray:  # noqa: ANN401 - a callback
    """Read the crops of a table into memory: (n, channels, size, size) uint8.

    Raises:
        BadInputError: a file that cannot be read; training does not go on without a face that its table names.
    """
    grey = channels == 1
    mean = (0.5,) * channels
    preprocessing = Preprocessing(size, channels, mean=mean, std=mean, alignment=None)
    pixels = np.empty((len(faces), 1 if grey else 3, size, size), np.uint8)
    for row, path in enumerate(faces["path"]):
        pixels[row] = preprocessing.pixels(path)[0]
        if advance:
            advance(1)
    return pixels


class StepDataset(Dataset[Batch]):
    """Item i is the whole batch of training step i.

    Args:
        inputs: (n, ...) the array that rows index: uint8 crops or float16 feature maps (a memmap will do).
        faces: the table of the same n faces; its votes and labels become targets.
        sampler: plans each step.
        classes: the class names, in the order of the model's logits.
        domains: data sets that the model tells apart -> their classes; a face has no label where its class is none of
            those of its data set.
        label: the column that names a face's class.
        references: give each face its reference face (column `reference`) beside it.
        regions: division of the valence-arousal plane whose regions are targets (see `va_regions`).
        masks: side in pixels of masks of eyes and mouth, drawn from the column `landmarks`; None gives no masks.
        action_units: say which action units each face shows (columns `au_NN`); the classes are their numbers.

    Raises:
        BadInputError: a class without votes where the faces carry votes; references that are not all in the table; masks of
            faces without landmarks.
        WrongUseError: a face of a data set that is none of the domains; an action unit without its column.
    """

    def __init__(
        self,
        inputs: np.ndarray,
        faces: FaceTable,
        sampler: Sampler,
        classes: Iterable[str],
        domains: Mapping[str, Sequence[str]] | None = None,
        label: str = "expression",
        references: bool = False,
        regions: str | None = None,
        masks: int | None = None,
        action_units: bool = False,
    ) -> None:
        self.inputs, self.sampler, self.classes = inputs, sampler, tuple(classes)
        self.votes = np.zeros((len(faces), max(1, len(self.classes))), np.float32)
        self.labels = np.full(len(faces), -1)
        if label in faces and self.classes:
            self.labels = np.asarray(faces[label].map({name: i for i, name in enumerate(self.classes)}).fillna(-1), int)
        self.domains = np.zeros(len(faces), int)
        if domains:
            self.domains = _origins(faces, domains)
            known = np.array([[name in names for name in self.classes] for names in domains.values()])
            self.labels = np.where(known[self.domains, self.labels], self.labels, -1)
        self.reference_rows = reference_rows(faces) if references else None
        self.valence_arousal = np.full((len(faces), 2), np.nan, np.float32)
        if {"valence", "arousal"} <= set(faces):
            self.valence_arousal = faces[["valence", "arousal"]].to_numpy(np.float32)
        self.regions = np.full(len(faces), -1)
        if regions is not None:
            numbers = va_regions(self.valence_arousal, regions)
            self.regions = np.where(numbers < 0, np.nan, numbers).astype(np.float32) if numbers.ndim > 1 else numbers
        self.vectors = faces[vector_columns_of(faces)].to_numpy(np.float32)
        self.action_units = shown_units(faces, self.classes if action_units else ())
        self.mask_size = masks or 0
        self.landmarks = relative_landmarks(faces) if masks else None
        if self.classes and any(str(column).startswith("votes_") for column in faces.columns):
            shares = vote_distributions(faces)
            lacking = [name for name in self.classes if name not in shares]
            if lacking:
                raise BadInputError(
                    f"the faces carry no votes on {', '.join(lacking)}; they have {', '.join(map(str, shares.columns))}"
                )
            chosen = shares[list(self.classes)]
            self.votes = chosen.div(chosen.sum(axis=1).replace(0, 1), axis=0).to_numpy(np.float32)

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step."""
        plan = self.sampler.plan(step)
        triplets = np.empty((0, 3), np.int64) if plan.triplets is None else plan.triplets
        types = np.empty(0, np.int64) if plan.types is None else plan.types
        return Batch(
            step,
            self._rows(plan.rows),
            torch.from_numpy(self.labels[plan.rows]),
            torch.from_numpy(self.votes[plan.rows]),
            torch.from_numpy(triplets),
            torch.from_numpy(types),
            torch.from_numpy(self.valence_arousal[plan.rows]),
            torch.from_numpy(self.domains[plan.rows]),
            self._rows([] if self.reference_rows is None else self.reference_rows[plan.rows]),
            torch.from_numpy(self.regions[plan.rows]),
            torch.from_numpy(self._masks([] if self.landmarks is None else self.landmarks[plan.rows])),
            torch.from_numpy(self.vectors[plan.rows]),
            torch.from_numpy(self.action_units[plan.rows]),
        )

    def _masks(self, landmarks: np.ndarray | list[np.ndarray]) -> np.ndarray:
        """Draw a batch's masks: those of all faces would fill the memory."""
        masks = np.full((len(landmarks), 1, self.mask_size, self.mask_size), np.nan, np.float32)
        for mask, points in zip(masks, landmarks, strict=True):
            if np.isfinite(points).all():
                mask[0] = eye_mouth_mask(points * self.mask_size, self.mask_size)
        return masks

    def _rows(self, rows: np.ndarray | list[int]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.inputs[np.asarray(rows, int)]))


def _origins(faces: FaceTable, domains: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Return the number of the domain that each face is from."""
    origin = faces["dataset"] if "dataset" in faces else pd.Series(None, faces.index, dtype=object)
    numbers = pd.Index(domains).get_indexer(pd.Index(origin))
    if (numbers < 0).any():
        raise unknown_name("domain: the column 'dataset' holds", str(origin.iloc[int(np.argmax(numbers < 0))]), domains)
    return np.asarray(numbers)


def shown_units(faces: FaceTable, units: Sequence[str]) -> np.ndarray:
    """Return which action units each face shows: (n, U) 1.0 where the intensity is above 2 of 5, else 0.0, NaN where unknown.

    Args:
        faces: a table with a column `au_NN` of intensities in [0, 5] for every unit.
        units: numbers of the units ("1", "12").

    Raises:
        WrongUseError: a unit without its column.

    Example:
        >>> faces = FaceTable({"path": ["a", "b"], "au_04": [2.0, 3.5]}, index=["a", "b"])
        >>> shown_units(faces, ["4"]).tolist()
        [[0.0], [1.0]]
    """
    columns = []
    for unit in units:
        column = f"au_{unit.zfill(2)}"
        if column not in faces:
            known = [str(name).removeprefix("au_").lstrip("0") for name in faces.columns if str(name).startswith("au_")]
            raise unknown_name("action unit: the faces carry no intensities of", unit, known)
        columns.append(column)
    values = faces[columns].to_numpy(np.float32)
    return np.where(np.isnan(values), np.nan, values > POSITIVE_ABOVE).astype(np.float32)


def reference_rows(faces: FaceTable) -> np.ndarray:
    """Return the row of each face's reference in the same table: (n,) int.

    Raises:
        BadInputError: no column `reference`, a face without one, or a reference that is not in the table.
    """
    if "reference" not in faces:
        raise BadInputError("training against references needs the column 'reference' (the face_id of a neutral face)")
    rows = faces.index.get_indexer(pd.Index(faces["reference"]))
    if (rows < 0).any():
        face = int(np.argmax(rows < 0))
        raise BadInputError(
            f"the reference {faces['reference'].iloc[face]!r} of face {faces.index[face]!r} is not among the training "
            f"faces ({int((rows < 0).sum())} such faces); with references, set data.holdout=0 and keep whole subjects together"
        )
    return np.asarray(rows)
