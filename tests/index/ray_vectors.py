"""An embedder that needs no model, for test_ray_build.py and for Ray's workers; run by itself, it builds and waits.

ray_vectors.py WORK LOG    build from eight slow blocks, until it is killed
"""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from exprembed.files import Skipped
from exprembed.index.ray_build import Block, build_by_ray
from exprembed.index.shards import Faces, digest_of

DIM, EACH = 8, 400


def vectors(number):
    return np.random.default_rng(number).normal(size=(EACH, DIM)).astype(np.float32)


def faces(number):
    """Block 3 shows no face, block 5 a column of its own."""
    if number == 3:
        return Faces([], np.empty((0, DIM)), None, [Skipped("photo 3", "no face")])
    metadata = {"block": [number] * EACH, "even": [number % 2 == 0] * EACH}
    if number == 5:
        metadata["age"] = list(range(EACH))
    return Faces([f"x{number}-{i}" for i in range(EACH)], vectors(number), metadata, [])


def blocks(*facts):
    return [Block(digest_of([], number, *facts), EACH, number, f"block {number}") for number in range(8)]


class Embedder:
    """Notes each block in a log; where `killed` is a path that is not there, the worker dies once at block 2."""

    def __init__(self, log, killed=None, seconds=0.0):
        self.log, self.killed, self.seconds = Path(log), killed, seconds

    def __call__(self, number):
        if self.killed and number == 2 and not Path(self.killed).exists():
            Path(self.killed).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        with self.log.open("a") as log:
            log.write(f"{number}\n")
        return faces(number)


if __name__ == "__main__":
    build_by_ray(blocks(), partial(Embedder, sys.argv[2], seconds=0.7), sys.argv[1], DIM)
