"""Images and labels in: tables, readers, triplets, the synthetic faces, face crops and preprocessing."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "FaceTable": "tables",
    "TripletTable": "tables",
    "subject_folds": "tables",
    "MultiDomain": "multi_domain",
    "expected_valence_arousal": "valence_arousal",
    "class_means_of_ratings": "valence_arousal",
    "va_regions": "regions",
    "eye_mouth_mask": "masks",
    "triplets_from_votes": "triplets",
    "Preprocessing": "preprocessing",
    "Alignment": "preprocessing",
    "GrayCLAHE": "clahe",
    "crop_faces": "faces",
    "render_faces": "synthetic",
    "jaffe_rating_triplets": "readers.jaffe",
    "read_fec_votes": "readers.fec",
    "fec_counts": "readers.fec",
    "download_faces": "download",
    "present_faces": "download",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    if name in _HOMES:
        return getattr(importlib.import_module(f"exprembed.data.{_HOMES[name]}"), name)
    if name.startswith("read_"):
        return getattr(importlib.import_module("exprembed.data.readers"), name)
    raise AttributeError(f"module 'exprembed.data' has no attribute {name!r}")
