"""Emotion-GCN's recipes through the one training loop: a step at the thesis's size, a short run on rendered faces."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn import functional

from exprembed.data.synthetic import render_faces, save_faces
from exprembed.data.tables import EXPRESSIONS
from exprembed.errors import WrongUseError
from exprembed.losses import CCCLoss
from exprembed.models import load_model
from exprembed.training import load_recipe, train
from exprembed.training.run import build_model


@pytest.fixture(scope="module")
def affectnet(tmp_path_factory):
    """A folder that holds AffectNet-8 in its official layout, of rendered faces."""
    root = tmp_path_factory.mktemp("sets")
    images, annotations = (root / "affectnet/train_set" / name for name in ("images", "annotations"))
    for folder in (images, annotations):
        folder.mkdir(parents=True)
    drawn, faces = render_faces(24, 2, 5, size=112)
    for i, (image, (_, face)) in enumerate(zip(drawn, faces.iterrows(), strict=True)):
        Image.fromarray(image).resize((224, 224)).save(images / f"{i}.jpg")
        for key, value in (
            ("exp", EXPRESSIONS.index(face["expression"])),
            ("val", face["valence"]),
            ("aro", face["arousal"]),
        ):
            np.save(annotations / f"{i}_{key}.npy", np.array(str(value)))
    return root, int((faces["expression"] != "contempt").sum())


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A table of rendered faces: the file that `emotion-gcn-small` reads."""
    folder = tmp_path_factory.mktemp("rendered")
    faces = save_faces(*render_faces(160, 10, 1, size=48), folder)
    table = pd.DataFrame(faces).drop(columns="landmarks", errors="ignore")
    table.to_parquet(folder / "faces.parquet")
    return folder / "faces.parquet", int((faces["split"] == "train").sum())


def moved(before, after, part):
    names = [name for name in after if name.startswith(part) and after[name].is_floating_point()]
    assert names
    return [name for name in names if not torch.equal(before[name], after[name])]


def test_a_step_at_the_thesis_size(affectnet, tmp_path):
    root, count = affectnet
    recipe = load_recipe("emotion-gcn-paper", [f"data.path={root}", "steps=1", "sampler.batch_size=4"])
    torch.manual_seed(recipe.seed)
    before = build_model(recipe).state_dict()
    result = train(recipe, tmp_path / "run", progress=False)
    model = result.model
    assert result.faces == count  # contempt is none of the seven
    assert model.preprocessing.size == 227
    assert model.embedding_dim == 1024
    after = model.state_dict()
    assert moved(before, after, "graph.") == ["graph.layers.0.weight", "graph.layers.1.weight"]
    assert len(moved(before, after, "backbone.body.0.denseblock4.")) > 50
    assert all(torch.isfinite(value).all() for value in after.values())
    assert [term.plan.loss for term in result.objectives] == ["weighted_cross_entropy", "ccc"]


def test_mean_square_is_torchs(rendered, tmp_path):
    """Thesis (5.1.5), half the square of each, averaged over the batch: the mean over both columns."""
    path, _ = rendered
    recipe = load_recipe("emotion-gcn-small", [f"data.path={path}", "steps=1", "objectives.1.loss=MSELoss"])
    term = train(recipe, tmp_path / "run", progress=False).objectives[1].loss
    assert isinstance(term, torch.nn.MSELoss)
    with pytest.raises(WrongUseError, match="did you mean 'MSELoss'"):
        train(load_recipe("emotion-gcn-small", [f"data.path={path}", "objectives.1.loss=MSELos"]), tmp_path)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_small_recipe_learns(rendered, tmp_path, layers):
    path, count = rendered
    quick = ["steps=40", "sampler.batch_size=24", "threads=null", "augmentation=null", f"model.layers={layers}"]
    recipe = load_recipe("emotion-gcn-small", [f"data.path={path}", *quick])
    torch.manual_seed(recipe.seed)
    untrained = build_model(recipe)
    result = train(recipe, tmp_path / "run", progress=False)
    assert result.faces == count
    again = load_model(result.weights)
    assert again.fingerprint == result.model.fingerprint
    faces = pd.read_parquet(path)
    faces = faces[faces["expression"].isin(again.classes)]
    images = again.preprocess(faces["path"].tolist())
    labels = torch.tensor([again.classes.index(name) for name in faces["expression"]])
    felt = torch.tensor(faces[["valence", "arousal"]].to_numpy(np.float32))
    losses = []
    for model in (untrained.eval(), again):
        with torch.no_grad():
            output = model(images)
        losses.append((functional.cross_entropy(output.logits, labels), CCCLoss()(output.valence_arousal, felt)))
    assert losses[1][0] < losses[0][0]
    assert losses[1][1] < losses[0][1]


def test_an_adjacency_of_ones_own(rendered, tmp_path):
    """A recipe gives the graph by plain numbers; the single-task network is the recipe without its second objective."""
    adjacency = np.eye(9).tolist()
    more = ["steps=2", "sampler.batch_size=16", "threads=null", f"model.adjacency={adjacency}"]
    recipe = load_recipe("emotion-gcn-small", [f"data.path={rendered[0]}", *more])
    recipe.objectives = recipe.objectives[:1]
    result = train(recipe, tmp_path / "run", progress=False)
    assert torch.equal(load_model(result.weights).graph.adjacency, torch.eye(9))


def test_the_graph_alone_trains_on_cached_features(rendered, tmp_path, monkeypatch):
    """A frozen backbone runs once; what is cached is x, so that the graph trains in seconds."""
    monkeypatch.setenv("EXPREMBED_CACHE", str(tmp_path / "cache"))
    quick = ["steps=3", "sampler.batch_size=16", "threads=null", "augmentation=null", "model.freeze_backbone=true"]
    recipe = load_recipe("emotion-gcn-small", [f"data.path={rendered[0]}", *quick])
    torch.manual_seed(recipe.seed)
    before = build_model(recipe).state_dict()
    after = train(recipe, tmp_path / "run", progress=False).model.state_dict()
    assert not moved(before, after, "backbone.")
    assert len(moved(before, after, "graph.")) == 2
    (stored,) = (tmp_path / "cache").glob("features-*.npy")
    assert np.load(stored, mmap_mode="r").shape[1:] == (256, 1, 1)
