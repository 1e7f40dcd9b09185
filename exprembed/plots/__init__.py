"""Pure functions from arrays to matplotlib figures: no global state, no file, no window."""

from __future__ import annotations

from exprembed.plots.confusion import confusion_matrix_figure
from exprembed.plots.curves import dimensionality_curve, knn_curve, rank_difference_curve, sweep_curve, triplet_bars
from exprembed.plots.emotion_maps import EmotionGrid, emotion_globe, emotion_grid, emotion_map
from exprembed.plots.faces import face_rows
from exprembed.plots.maps import embedding_map, project
from exprembed.plots.matrices import adjacency_figure, similarity_figure
from exprembed.plots.sheets import album_sheet, retrieval_sheet
from exprembed.plots.style import expression_color

__all__ = [
    "EmotionGrid",
    "adjacency_figure",
    "album_sheet",
    "confusion_matrix_figure",
    "dimensionality_curve",
    "embedding_map",
    "emotion_globe",
    "emotion_grid",
    "emotion_map",
    "expression_color",
    "face_rows",
    "knn_curve",
    "project",
    "rank_difference_curve",
    "retrieval_sheet",
    "similarity_figure",
    "sweep_curve",
    "triplet_bars",
]
