"""Every code block of the README and of the guides runs, in a folder laid out as they assume."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from exprembed.data.synthetic import render_faces

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/guides").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `photos`, `crops`, `celeba` and `ferplus`, made of rendered faces, and the checkout's tools."""
    root = tmp_path_factory.mktemp("readme")
    for name in ("tools", "evaluation", "Makefile", "pyproject.toml"):
        (root / name).symlink_to(ROOT / name)
    images, faces = render_faces(64, subjects=4, seed=3, size=96)
    for image, (name, expression) in zip(images, faces["expression"].items(), strict=True):
        target = root / "crops" / expression / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(target)
    (root / "photos").mkdir()
    Image.fromarray(np.full((90, 90, 3), 128, np.uint8)).save(root / "photos" / "nobody.png")
    scene = Image.new("RGB", (480, 360), (90, 120, 150))
    scene.paste(Image.fromarray(images[1]).resize((200, 200)), (140, 80))
    scene.save(root / "photos" / "somebody.png")
    celeba = root / "celeba" / "img_align_celeba"
    celeba.mkdir(parents=True)
    rows, people = [], []
    for i, image in enumerate(images[:12]):
        Image.fromarray(image).resize((178, 218)).save(celeba / f"{i + 1:06d}.jpg")
        rows.append(f"{i + 1:06d}.jpg {1 if i % 2 else -1} 1")
        people.append(f"{i + 1:06d}.jpg {i % 3 + 1}")
    (root / "celeba" / "list_attr_celeba.txt").write_text("12\nSmiling Young\n" + "\n".join(rows) + "\n")
    (root / "celeba" / "identity_CelebA.txt").write_text("\n".join(people) + "\n")
    train = root / "ferplus" / "FER2013Train"
    train.mkdir(parents=True)
    order = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
    lines = ["Usage,Image name," + ",".join(order) + ",unknown,NF"]
    for i, (image, expression) in enumerate(zip(images, faces["expression"], strict=True)):
        Image.fromarray(image).convert("L").resize((48, 48)).save(train / f"fer{i:07d}.png")
        lines.append(f"Training,fer{i:07d}.png," + ",".join(str(9 * (expression == name)) for name in order) + ",0,1")
    (root / "ferplus" / "fer2013new.csv").write_text("\n".join(lines) + "\n")
    original = ["emotion,pixels,Usage", *(f"{i % 7},0 1 2,Training" for i in range(len(lines) - 1))]
    (root / "ferplus" / "fer2013.csv").write_text("\n".join(original) + "\n")
    return root


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_blocks_run(page, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    scope = {"pd": pd}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), scope)  # noqa: S102 - our own page
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_shell_blocks_run(page, place):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if not words:
                continue
            if words[0] == "make":  # what these targets run is what the other tests are; here: that they exist
                if not shutil.which("make"):
                    continue
                words = ["make", "-n", *words[1:]]
            elif words[0] == "exprembed":
                words = [sys.executable, "-m", "exprembed", *words[1:]]
            else:
                assert words[0] == "python", f"{page.name}: how should a test run {line!r}?"
                words[0] = sys.executable
            done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode in (0, 1), f"{line}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stderr, f"{line}\n{done.stderr}"
            if done.returncode == 1:
                assert "skipped" in (done.stderr + done.stdout).lower(), line


def test_the_readme_begins_with_the_two_commands():
    first = blocks(ROOT / "README.md", "bash")[0].splitlines()
    assert [line.split("#")[0].strip() for line in first] == ["make demo", "make test"]


@pytest.mark.parametrize(
    "page", [*PAGES, *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"], ids=lambda p: p.stem
)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_results_are_those_of_the_report():
    done = subprocess.run(
        [sys.executable, "tools/results.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
