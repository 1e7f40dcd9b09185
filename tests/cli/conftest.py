"""A tiny untrained model, rendered pictures, and the command line run in this process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from exprembed.cli import app
from exprembed.data.faces import DetectedFace
from exprembed.data.synthetic import render_faces, save_faces

ROOT = Path(__file__).resolve().parents[2]


class Outcome:
    """What one run of the command gave."""

    def __init__(self, result):
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception  # a traceback in a user's face
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr

    @property
    def json(self):
        return json.loads(self.out)


def runner():
    try:
        return CliRunner(mix_stderr=False)
    except TypeError:  # newer releases always keep the two apart
        return CliRunner()


@pytest.fixture(scope="session")
def cli():
    return lambda *words: Outcome(runner().invoke(app, [str(word) for word in words]))


@pytest.fixture
def shell():
    """Run in a process of its own: needed where what gets imported matters."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return lambda *words: subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, env=environment
    )


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    import torch

    from exprembed.models import FECNet

    torch.manual_seed(0)
    model = FECNet(backbone="resnet10_grey48", dense_channels=0, hidden=16, embedding_dim=4)
    return model.save(tmp_path_factory.mktemp("weights") / "tiny", {"licence": "test", "scores": {"some, score": 0.5}})


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """Forty faces of five people as files: their table."""
    images, faces = render_faces(40, 5, seed=3, size=64)
    return save_faces(images, faces, tmp_path_factory.mktemp("rendered"))


@pytest.fixture
def photos(tmp_path, rendered):
    """A folder of twelve pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in rendered.index[:12]:
        (folder / f"{name}.png").write_bytes(Path(rendered.loc[name, "path"]).read_bytes())
    return folder


@pytest.fixture
def celeba(tmp_path):
    """Six pictures in CelebA's official layout."""
    images, _ = render_faces(6, 3, seed=5, size=128)
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    lines, people = ["6", "Smiling Male"], []
    for number, image in enumerate(images, start=1):
        Image.fromarray(image).resize((178, 218)).save(folder / "img_align_celeba" / f"{number:06d}.jpg")
        lines.append(f"{number:06d}.jpg {1 if number % 2 else -1} -1")
        people.append(f"{number:06d}.jpg {number % 3}")
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    (folder / "identity_CelebA.txt").write_text("\n".join(people) + "\n")
    return folder


@pytest.fixture
def detector(monkeypatch):
    """In place of MTCNN: one face with known eyes in each picture that is not all of one colour, two in wide ones."""

    class Fake:
        def __init__(self, min_face=20, device="cpu"):
            self.min_face = min_face

        def detect(self, image):
            if np.ptp(np.asarray(image)) < 10:
                return []
            width, height = image.size
            count = 2 if width > 1.5 * height else 1
            side = width / count
            found = []
            for place in range(count):
                left = place * side
                eyes = [[left + 0.31 * side, 0.37 * height], [left + 0.69 * side, 0.37 * height]]
                below = [
                    [left + 0.5 * side, 0.55 * height],
                    [left + 0.4 * side, 0.75 * height],
                    [left + 0.6 * side, 0.75 * height],
                ]
                found.append(DetectedFace((left, 0.0, left + side - place, float(height)), np.array(eyes + below), 0.9))
            return found

        def detect_batch(self, images):
            return [self.detect(image) for image in images]

    monkeypatch.setattr("exprembed.data.detectors.MTCNNDetector", Fake)
    return Fake()
