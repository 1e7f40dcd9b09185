"""FER2013's own labels beside FER+'s votes: shares that add up, and a probe that finds what only the picture shows."""

import pytest
from PIL import Image
from typer.testing import CliRunner

from evaluation import original_labels
from exprembed.cli import script
from exprembed.data.synthetic import render_faces
from exprembed.models import load_model

WORDS = {"anger": "angry", "fear": "fearful", "sadness": "sad", "neutral": "neutral"}


@pytest.fixture(scope="module")
def ferplus(tmp_path_factory):
    """Write rendered faces of four expressions, all called neutral by the taggers; FER2013 says what was rendered."""
    root = tmp_path_factory.mktemp("ferplus")
    images, faces = render_faces(480, subjects=48, seed=3, size=48)
    order = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
    rows, labels = ["Usage,Image name," + ",".join(order) + ",unknown,NF"], ["Image name,fer2013_emotion"]
    for i, (image, expression) in enumerate(zip(images, faces["expression"], strict=True)):
        if expression in WORDS:
            usage, folder = (("Training", "FER2013Train"), ("PublicTest", "FER2013Valid"))[i % 3 == 0]
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(image).convert("L").save(root / folder / f"fer{i:07d}.png")
            rows.append(f"{usage},fer{i:07d}.png,8,0,0,1,{i % 2},0,0,0,0,0")
            labels.append(f"fer{i:07d}.png,{WORDS[expression]}")
    (root / "fer2013new.csv").write_text("\n".join(rows) + "\n")
    (root / "fer2013_labels.csv").write_text("\n".join(labels) + "\n")
    return root


def test_counts_are_shares_of_the_line(ferplus):
    faces = original_labels.with_original(ferplus)
    (row,) = original_labels.counts(faces).rows
    train = faces[faces["split"] == "train"]
    assert (row.name, row.n_used) == ("neutral", len(train))
    assert sum(row.ours.values()) == pytest.approx(100)
    assert row.ours["fear"] == pytest.approx(100 * (train["original"] == "fear").mean())


def test_a_probe_finds_what_no_tagger_said(ferplus):
    section = original_labels.shown(original_labels.with_original(ferplus), [load_model()])
    for row in section.rows:
        votes, probe = row.ours.values()
        assert 35 <= votes <= 65  # the votes were written without looking
        assert probe.mean > 75


def test_the_script_says_which_labels_it_lacks(ferplus, tmp_path):
    (tmp_path / "fer2013new.csv").write_text((ferplus / "fer2013new.csv").read_text())
    words = ["--ferplus", str(tmp_path), "--model", "none.safetensors", "--out", str(tmp_path)]
    (tmp_path / "FER2013Train").symlink_to(ferplus / "FER2013Train")
    done = CliRunner().invoke(script(original_labels.main), words)
    assert done.exit_code == 3
    assert "neither fer2013_labels.csv nor fer2013.csv" in done.output
