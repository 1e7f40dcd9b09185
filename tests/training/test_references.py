"""Training beside references: pairs, their shared variation, what GCNet and its baselines are given, pre-training."""

import numpy as np
import pandas as pd
import pytest
import torch

from exprembed.data import FaceTable
from exprembed.data.loading import StepDataset, reference_rows
from exprembed.data.samplers import BalancedSampler
from exprembed.data.synthetic import render_faces, save_faces
from exprembed.errors import BadInputError, WrongUseError
from exprembed.models import load_model
from exprembed.training import load_recipe, train
from exprembed.training.module import TrainingModule


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return 80 rendered faces of 8 people as files, and the path of their table."""
    folder = tmp_path_factory.mktemp("faces")
    images, faces = render_faces(80, 8, 4, size=48)
    table = save_faces(images, faces, folder)
    table.write_parquet(folder / "faces.parquet")
    return table, folder / "faces.parquet"


def recipe(path, *more, name="gcnet-small"):
    return load_recipe(
        name,
        [
            "data.dataset=table",
            f"data.path={path}",
            "init=null",
            "steps=3",
            "sampler.batch_size=8",
            "threads=null",
            *more,
        ],
    )


def table_with(world, folder, **columns):
    FaceTable(pd.DataFrame(world[0]).assign(**columns)).write_parquet(folder / "own.parquet")
    return folder / "own.parquet"


def test_each_face_comes_with_its_reference(world):
    faces, _ = world
    inputs = np.arange(len(faces), dtype=np.uint8)[:, None, None, None]
    sampler = BalancedSampler(faces["expression"].to_numpy(), 16, seed=1)
    batch = StepDataset(inputs, faces, sampler, ["fear", "anger"], references=True)[0]
    assert torch.equal(batch.references.flatten(), batch.inputs.flatten() % 8)  # row i shows subject i mod 8
    assert batch.to("cpu").references.shape == batch.inputs.shape
    assert len(StepDataset(inputs, faces, sampler, ["fear"])[0].references) == 0


def test_references_must_be_there(world):
    faces = pd.DataFrame(world[0])
    assert reference_rows(FaceTable(faces)).tolist() == [row % 8 for row in range(80)]
    with pytest.raises(BadInputError, match="needs the column 'reference'"):
        reference_rows(FaceTable(faces.drop(columns="reference")))
    with pytest.raises(
        BadInputError, match=r"'synthetic-4-000000' of face 'synthetic-4-000008' is not among .* \(9 such"
    ):
        reference_rows(FaceTable(faces.iloc[1:]))


def test_only_faces_of_a_class_are_drawn():
    labels = np.array(["a"] * 5 + ["b"] * 5)
    among = labels == "b"
    rows = np.concatenate([BalancedSampler(labels, 50, 0.0, among=among).plan(step).rows for step in range(3)])
    assert set(rows.tolist()) == {5, 6, 7, 8, 9}
    with pytest.raises(BadInputError, match="no face to draw"):
        BalancedSampler(labels, 5, among=np.zeros(10, bool))


def test_a_pair_is_varied_alike(world, tmp_path):
    """A face that is its own reference looks like it after the augmentation, too."""
    own = table_with(world, tmp_path, reference=world[0].index)
    seen = []

    class Watch(torch.nn.Module):
        pass

    plan = recipe(own, "steps=1", "model.classes=[fear, anger, disgust]", "model.num_classes=null")
    original = TrainingModule.training_step

    def watched(self, batch, batch_idx):
        self.model.training_output, kept = (
            (lambda images, references: seen.append((images, references)) or kept(images, references)),
            self.model.training_output,
        )
        return original(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", watched)
        train(plan, tmp_path / "run", progress=False)
    ((images, references),) = seen
    assert torch.equal(images, references)
    assert float((images[0] - images[1]).abs().mean()) > 0.01


@pytest.mark.parametrize("variant", ["S0R0", "S1R1"])
@pytest.mark.parametrize("generator", ["autoencoder", "vae", "dcgan"])
def test_gcnet_trains(world, tmp_path, variant, generator):
    small = ["model.generator_width=4", "model.latent=5"]
    plan = recipe(world[1], f"model.variant={variant}", f"model.generator={generator}", *small)
    result = train(plan, tmp_path, progress=False)
    assert load_model(result.weights).fingerprint == result.model.fingerprint
    (objective,) = result.objectives
    assert objective.loss.neutral == -1  # the seven classes of the default have no neutral one
    there = {name for name, value in objective.loss.breakdown.items() if float(value) > 0}
    assert there >= {"classification", "generation"}
    assert ("reconstruction_image" in there) == (variant == "S1R1")
    logged = pd.read_csv(tmp_path / "logs/metrics.csv").columns
    penalty = {"vae": "loss/divergence", "dcgan": "loss/adversarial"}.get(generator)
    assert penalty is None or penalty in logged


def test_neutral_is_found_among_the_classes(world, tmp_path):
    result = train(recipe(world[1], "model.num_classes=8", "steps=1"), tmp_path, progress=False)
    assert result.objectives[0].loss.neutral == 0


def test_papers_setting_starts(world, tmp_path):
    """Nesterov, the inverse schedule and the decoders at ten times the rate, at 64 pixels: the loss falls, nothing diverges."""
    plan = recipe(world[1], "steps=8", "check_every=8", "sampler.batch_size=16", name="gcnet-paper")
    result = train(plan, tmp_path, progress=False)
    for name, value in result.model.state_dict().items():
        assert torch.isfinite(value.float()).all(), name
    state = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"]
    decay = (1 + 1e-4 * 8) ** -0.75
    assert sorted(group["lr"] for group in state) == pytest.approx([1e-3 * decay, 1e-2 * decay])


def test_baselines_train(world, tmp_path):
    cnn = recipe(
        world[1],
        "model={name: baseline_cnn, backbone: gcnet_cnn_small}",
        "objectives=[{loss: focal, input: logits, target: labels, options: {gamma: 0.0}}]",
        "learning_rates={}",
    )
    assert train(cnn, tmp_path / "cnn", progress=False).model.embedding_dim == 96
    metric = recipe(world[1], "model={name: metric_cnn, backbone: gcnet_cnn_small}", "learning_rates={}")
    (objective,) = train(metric, tmp_path / "metric", progress=False).objectives
    assert float(objective.loss.breakdown["generation"]) == 0
    assert float(objective.loss.breakdown["contrastive"]) > 0


def test_pretraining_then_gcnet(world, tmp_path):
    first = train(recipe(world[1], name="gcnet-pretrain-small"), tmp_path / "first", progress=False)
    assert first.model.classes == tuple(sorted(set(world[0]["subject"])))
    plan = recipe(world[1], f"init={first.weights}", "steps=1", "learning_rate=1.0e-12")
    model = train(plan, tmp_path / "second", progress=False).model
    for name in ("backbone.body.units.0.0.weight", "generator.encoder.units.2.0.weight"):
        assert torch.allclose(model.state_dict()[name], first.model.state_dict()[name], atol=1e-6), name


def test_what_does_not_fit_is_said(world, tmp_path):
    with pytest.raises(WrongUseError, match=r"data\.references=true"):
        train(recipe(world[1], "data.references=false"), tmp_path, progress=False)
    with pytest.raises(WrongUseError, match="takes images, references, generated"):
        train(recipe(world[1], "model={name: baseline_cnn, backbone: gcnet_cnn_small}", "learning_rates={}"), tmp_path)
    with pytest.raises(WrongUseError, match="unknown part of the model"):
        train(recipe(world[1], "learning_rates={decodr: 10}"), tmp_path, progress=False)
    with pytest.raises(WrongUseError, match="options of the schedule"):
        train(recipe(world[1], "schedule_options={gama: 1}"), tmp_path, progress=False)
    with pytest.raises(BadInputError, match="no such column"):
        train(recipe(world[1], "data.label=person", name="gcnet-pretrain-small"), tmp_path, progress=False)
    FaceTable(pd.DataFrame(world[0]).drop(columns="reference")).write_parquet(tmp_path / "bare.parquet")
    with pytest.raises(BadInputError, match="needs the column 'reference'"):
        train(recipe(tmp_path / "bare.parquet"), tmp_path, progress=False)
    with pytest.raises(WrongUseError, match="did you mean 'inverse'"):
        recipe(world[1], "schedule=inv")


def test_faces_without_a_reference_do_not_train(world, tmp_path):
    reference = world[0]["reference"].where(world[0]["subject"] != world[0]["subject"].iloc[0])
    result = train(
        recipe(table_with(world, tmp_path, reference=reference), "steps=1"), tmp_path / "run", progress=False
    )
    assert result.faces == 70
