"""Rows of the thesis's chapter 6: what each changes, the rates chosen for it, and what the thesis prints."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evaluation.emotion_gcn_bench import FREE, Rates, Trial

SINGLE, SINGLE_VA = "single-task, classes", "single-task, valence and arousal"
MSE, CCC, GCN, LESS = "multi-task + MSE", "multi-task + CCC", "Emotion-GCN", "Emotion-GCN, p = 0.3"
APART, LESS_APART = "Emotion-GCN, one-hot vectors", "Emotion-GCN, p = 0.3, one-hot vectors"
# What rates are chosen among, for every network of the table alike, and what held-out training faces chose (part "rates").
CHOICES = (Rates(1e-3), Rates(2e-3), Rates(4e-3), Rates(8e-3), Rates(2e-3, 5))
CHOSEN: Mapping[str, Rates] = {
    SINGLE: Rates(4e-3), SINGLE_VA: Rates(2e-3), MSE: Rates(4e-3), CCC: Rates(4e-3), GCN: Rates(4e-3), LESS: Rates(2e-3),
    APART: Rates(4e-3), LESS_APART: Rates(4e-3),
}  # fmt: skip

_RANDOM = np.random.default_rng(0).normal(size=(9, 300))
_ONE_HOT = {"word_vectors": np.eye(9).tolist()}
_DRAWN = {"word_vectors": (_RANDOM / np.linalg.norm(_RANDOM, axis=1, keepdims=True)).tolist()}
TABLE: Mapping[str, Trial] = {
    SINGLE: Trial(FREE, outputs=("logits",), rates=CHOSEN[SINGLE], published={"accuracy": 64.37}),
    SINGLE_VA: Trial(FREE, {}, ("valence_arousal",), "ccc", CHOSEN[SINGLE_VA], {"CCC-V": 76.1, "CCC-A": 62.8}),
    MSE: Trial(FREE, {}, rates=CHOSEN[MSE], regression="MSELoss", published={"accuracy": 64.8, "CCC-V": 75.2, "CCC-A": 57.2}),
    CCC: Trial(FREE, rates=CHOSEN[CCC], published={"accuracy": 65.69, "CCC-V": 76.8, "CCC-A": 65.1}),
    GCN: Trial(rates=CHOSEN[GCN], published={"accuracy": 66.46, "CCC-V": 76.7, "CCC-A": 64.9}),
    LESS: Trial(edges={"p": 0.3}, rates=CHOSEN[LESS], published={"accuracy": 66.14}),
    APART: Trial(_ONE_HOT, rates=CHOSEN[APART]),
    LESS_APART: Trial(_ONE_HOT, {"p": 0.3}, rates=CHOSEN[LESS_APART]),
}  # fmt: skip
VARIANTS: Mapping[str, Trial] = {
    "edges between classes": Trial(edges={"between_classes": True}, rates=CHOSEN[GCN], published={"accuracy": 66.23}),
    "signed edges": Trial(edges={"signed": True}, rates=CHOSEN[GCN]),
    "random vectors": Trial(_DRAWN, rates=CHOSEN[GCN]),
}
# Table 6.2: accuracy with one, two and three layers, over tau (p = 0.7) and over p (tau = 0.1).
SWEEPS: Mapping[str, Mapping[float, tuple[float, float, float]]] = {
    "tau": {0.0: (53.09, 65.29, 65.77), 0.05: (43.85, 65.31, 64.94), 0.1: (53.71, 66.46, 64.74), 0.15: (54.94, 65.69, 65.74)},
    "p": {
        0.2: (49.6, 65.71, 65.29), 0.3: (50.94, 66.14, 65.54), 0.4: (52.57, 65.29, 65.89), 0.5: (52.66, 66.29, 66.09),
        0.6: (52.86, 66.09, 65.54), 0.7: (53.71, 66.46, 64.74), 0.8: (59.31, 65.06, 65.83),
    },
}  # fmt: skip
BREG = {SINGLE: 60.49, CCC: 61.14, GCN: 61.94}  # Table 6.5
