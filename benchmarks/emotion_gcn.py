"""Time of a training step and of an evaluation of Emotion-GCN, beside the plain multi-task network.

Both have the same backbone, global maximum and losses; the plain network's nine vectors are one linear layer. They take
turns on the same batch, pair by pair, and who goes first changes with each pair, so that whatever else the machine does
falls on both. A training step is forward, weighted cross entropy + CCC, backward and the optimiser's step, in the precision
of the recipe (bfloat16 for the small networks); an evaluation is a forward pass without gradients, in which Emotion-GCN has
its weights already. On a CPU the time is the process's own CPU time on one thread; on a GPU it is wall time between two
synchronisations. The ratio is the median over pairs, with its quartiles.

    python benchmarks/emotion_gcn.py --out docs/results/emotion_gcn_speed
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._measured import tell
from exprembed.cli import script
from exprembed.losses import CCCLoss, WeightedCrossEntropy
from exprembed.models.backbones import create_backbone
from exprembed.models.emotion_gcn import SEVEN, EmotionGCN
from exprembed.report import Row, Section

COLUMNS = ("Emotion-GCN, ms", "plain, ms", "ratio", "first quartile", "third quartile", "bar")


@dataclass(frozen=True)
class Case:
    """A backbone with its batch, input side, optimiser and precision, and how many pairs are timed."""

    backbone: str
    batch: int
    side: int
    optimizer: Callable[..., torch.optim.Optimizer]
    mixed: bool
    pairs: int
    model: dict[str, int]


CASES = (
    Case("vgg8_grey48", 64, 48, torch.optim.Adam, True, 150, {"hidden": 128}),
    Case("resnet10_grey48", 64, 48, torch.optim.Adam, True, 150, {"hidden": 128}),
    Case("densenet121", 8, 227, torch.optim.SGD, False, 15, {"image_size": 227}),
)


class Plain(nn.Module):
    """The multi-task network without a graph: nine free vectors."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.backbone = create_backbone(backbone)
        self.vectors = nn.Linear(self.backbone.out_channels, len(SEVEN) + 2, bias=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, 7), valence and arousal (B, 2)."""
        features = self.backbone(images).amax(dim=(2, 3))
        with torch.autocast(images.device.type, enabled=False):
            scores = self.vectors(features.float())
        return scores[:, :-2], scores[:, -2:]


class Graph(nn.Module):
    """Emotion-GCN, asked for the same."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.model = EmotionGCN(case.backbone, **case.model)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, 7), valence and arousal (B, 2)."""
        output = self.model.from_features(self.model.features(images))
        return output.logits, output.valence_arousal  # type: ignore[return-value]


def work(network: nn.Module, case: Case, training: bool, batch: tuple[Tensor, Tensor, Tensor]) -> Callable[[], object]:
    """Return one training step, or one evaluation, of a network."""
    images, labels, felt = batch
    kind = images.device.type
    if not training:
        network.eval()

        def evaluate() -> object:
            with torch.no_grad():
                return network(images)

        return evaluate
    optimizer = case.optimizer(network.parameters(), lr=1e-4)
    classes, both = WeightedCrossEntropy([10] * len(SEVEN)), CCCLoss()
    classes.to(images.device)
    network.train()

    def step() -> object:
        optimizer.zero_grad()
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=case.mixed):
            logits, guess = network(images)
            loss = classes(logits, labels) + both(guess, felt)
        loss.backward()
        return optimizer.step()

    return step


def seconds(once: Callable[[], object], device: str) -> float:
    """Return what one call takes: CPU seconds of this process, or wall seconds on a GPU."""
    if device == "cpu":
        start = time.process_time()
        once()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    once()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(case: Case, training: bool, device: str, pairs: int) -> Row:
    """Time pairs of one case."""
    rng = np.random.default_rng(0)
    channels = create_backbone(case.backbone).preprocessing.channels
    images = torch.tensor(rng.normal(size=(case.batch, channels, case.side, case.side)), dtype=torch.float32)
    felt = torch.tensor(rng.uniform(-1, 1, (case.batch, 2)), dtype=torch.float32)
    labels = torch.arange(case.batch) % len(SEVEN)
    batch = images.to(device, memory_format=torch.channels_last), labels.to(device), felt.to(device)
    torch.manual_seed(0)
    graph, plain = (work(one.to(device), case, training, batch) for one in (Graph(case), Plain(case.backbone)))
    for once in (graph, plain, graph, plain):
        once()
    times: dict[str, list[float]] = {"graph": [], "plain": []}
    what = "training" if training else "evaluation"
    for pair in track(range(pairs), f"{case.backbone}, {what}", console=Console(stderr=True)):
        turn = [("graph", graph), ("plain", plain)]
        for name, once in turn if pair % 2 else reversed(turn):
            times[name].append(seconds(once, device))
    ratios = [ours / theirs for ours, theirs in zip(times["graph"], times["plain"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    bar = 1.03 if training else 1.01
    ours, theirs = (1e3 * statistics.median(found) for found in times.values())
    name = f"{case.backbone}, batch {case.batch} of {case.side} x {case.side}, {what}"
    verdict = "within" if middle <= bar else "OVER"
    return Row(
        name, dict(zip(COLUMNS, (ours, theirs, middle, low, high, bar), strict=True)), n_used=pairs, note=verdict
    )


def main(
    out: Annotated[Path | None, typer.Option(help="Folder for report.md and report.json.")] = None,
    share: Annotated[float, typer.Option(help="Share of the pairs that are timed; at least two of each.")] = 1.0,
    backbone: Annotated[list[str] | None, typer.Option(help="Backbones; all without it.")] = None,
) -> None:
    """Time the pairs, print the table, and write it with --out."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    load = os.getloadavg()[0]
    rows = [
        measure(case, training, device, max(2, int(share * case.pairs * (1 if training else 2))))
        for case in CASES
        if not backbone or case.backbone in backbone
        for training in (True, False)
    ]
    section = Section(
        f"Emotion-GCN beside the plain multi-task network, {device}",
        "random images and labels, seed 0",
        COLUMNS,
        rows,
        decimals=3,
        notes=[
            "n used: pairs. Wanted: training within 3 %, evaluation within 1 %, by the median of the pairs' ratios."
        ],
    )
    tell("Speed of Emotion-GCN", [section], out, load, (__doc__ or ""), threads=1)


if __name__ == "__main__":
    script(main)()
