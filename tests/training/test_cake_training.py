"""CAKE and AVK through the one training loop: several data sets, two stages, cached features."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from exprembed.data import FaceTable
from exprembed.data.synthetic import render_faces
from exprembed.errors import WrongUseError
from exprembed.models import load_model
from exprembed.training import cache_features, fit, load_recipe, train
from exprembed.training.run import build_model

RAF = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
FER = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with RAF-DB and FER+ in their official layouts, of rendered faces."""
    root = tmp_path_factory.mktemp("sets")
    aligned, train_folder = root / "rafdb/basic/Image/aligned", root / "ferplus/FER2013Train"
    for folder in (aligned, train_folder, root / "rafdb/basic/EmoLabel"):
        folder.mkdir(parents=True)
    lines, rows = [], ["Usage,Image name," + ",".join(FER) + ",unknown,NF"]
    for seed, name in ((1, "raf"), (2, "fer")):
        images, faces = render_faces(64, 4, seed, size=48)
        for i, (image, expression) in enumerate(zip(images, faces["expression"], strict=True)):
            if name == "fer":
                Image.fromarray(image).convert("L").save(train_folder / f"fer{i:07d}.png")
                votes = ",".join(str(9 * (expression == one)) for one in FER)
                rows.append(f"Training,fer{i:07d}.png,{votes},1,0")
            elif expression in RAF:
                Image.fromarray(image).save(aligned / f"train_{i:05d}_aligned.jpg")
                lines.append(f"train_{i:05d}.jpg {RAF.index(expression) + 1}")
    (root / "rafdb/basic/EmoLabel/list_patition_label.txt").write_text("\n".join(lines))
    (root / "ferplus/fer2013new.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPREMBED_CACHE", str(tmp_path / "cache"))


def small(name, root, *more):
    quick = ["steps=4", "sampler.batch_size=24", "model.backbone=resnet10_grey48", "init=null", "threads=null"]
    return load_recipe(name, [f"data.path={root}", "data.synthetic=32", *quick, *more])


def test_cake_trains_on_three_domains(root, tmp_path):
    result = train(small("cake-small", root), tmp_path / "run", progress=False)
    facts = result.objectives[0].facts
    sizes = [int(n) for n in facts.domain_sizes]
    # Contempt has left the first two; of the rendered faces it stays in the table and takes no part.
    raf = len((root / "rafdb/basic/EmoLabel/list_patition_label.txt").read_text().split("\n"))
    assert sizes[0] == sum(",0,1,0" in line for line in (root / "ferplus/fer2013new.csv").read_text().splitlines()[1:])
    assert sizes[1] == raf
    assert sizes[2] < 32
    assert result.faces == sizes[0] + sizes[1] + 32
    counts = sizes[1] / (7 * facts.class_weights[1])
    assert counts.sum() == pytest.approx(raf)
    again = load_model(result.weights)
    assert again.domains == result.model.domains
    assert again.fingerprint == result.model.fingerprint
    card = json.loads(result.weights.with_suffix(".json").read_text())
    assert str(root) not in json.dumps(card)
    assert len(list((tmp_path / "cache").glob("features-*.npy"))) == 1


def test_a_run_says_how_far_it_is(root, tmp_path, capsys):
    """Rendering and reading the faces takes minutes where there are many; without a terminal there are lines."""
    recipe = small("cake-small", root, "data.holdout=0.1")
    train(recipe, tmp_path / "run", progress=True)
    said = capsys.readouterr().err
    faces = int(re.search(r"holding faces out: (\d+) of \1 ", said)[1])
    assert "rendering: 32 of 32 " in said
    kept = re.search(r"features: (\d+) of (\d+) ", said)
    assert int(kept[1]) == int(kept[2]) == faces + 32
    train(recipe, tmp_path / "again", progress=False)
    assert not re.search("holding|rendering|features:", capsys.readouterr().err)


def test_avk_in_two_stages(root, tmp_path):
    first = train(small("avk-small-regressor", root), tmp_path / "first", progress=False)
    second = train(small("avk-small", root, f"init={first.weights}"), tmp_path / "second", progress=False)
    assert second.model.embedding_dim == 3
    images = first.model.preprocess(list(render_faces(5, 1, 3, size=48)[0]))
    with torch.no_grad():
        assert torch.equal(first.model(images).valence_arousal, second.model(images).valence_arousal)
    started = small("avk-small", root, f"init={first.weights}")
    fresh = build_model(started)
    assert not torch.equal(fresh.projection.weight, second.model.projection.weight)
    assert torch.equal(fresh.regressor.weight, second.model.regressor.weight)


def test_fit_is_the_loop_of_train(root, tmp_path):
    """The same weights come out of a run with all its files and of one in memory."""
    recipe = small("cake-small", root, "data.synthetic=0", "model.domains={ferplus: 7, rafdb: 7}")
    result = train(recipe, tmp_path / "run", progress=False)
    from exprembed.training.run import read_faces

    faces, _ = read_faces(recipe.data)
    torch.manual_seed(recipe.seed)
    model = build_model(recipe)
    # `train` seeds torch just as Lightning's seed_everything does: the layers start alike.
    terms = fit(model, recipe, np.array(cache_features(model, faces)), faces)
    assert len(terms) == 1
    assert model.fingerprint == result.model.fingerprint
    assert not model.training


def test_end_to_end_moves_the_backbone(root, tmp_path):
    quick = ["sizes={}", "augmentation={erase: 1.0, erase_sides: [0.2, 0.2]}", "data.synthetic=0"]
    domains = ["model.domains={ferplus: 7, rafdb: 7}", "model.freeze_backbone=false", "start=drawn"]
    recipe = small("cake-small", root, *quick, *domains)
    before = build_model(recipe).state_dict()
    after = train(recipe, tmp_path / "run", progress=False).model.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in after if name.startswith("backbone."))


def test_joint_training_of_values_and_classes(root, tmp_path):
    """End to end: both objectives at once, each on the faces that carry its target."""
    more = ["model.freeze_regressor=false", "data.options.domains.ferplus={valence_arousal: votes}"]
    recipe = small("avk-small", root, *more)
    recipe.objectives += small("avk-small-regressor", root).objectives
    result = train(recipe, tmp_path / "run", progress=False)
    assert [term.plan.loss for term in result.objectives] == ["multi_domain_cross_entropy", "ccc"]
    assert torch.isfinite(result.model.regressor.weight).all()


def test_runs_refuse(root, tmp_path):
    with pytest.raises(WrongUseError, match="holds 'rafdb'; did you mean 'raf'"):
        train(small("cake-small", root, "model.domains={ferplus: 7, raf: 7, synthetic: 7}"), tmp_path, progress=False)
    other = "model={name: affnet_cl, backbone: resnet10_grey48, dense_channels: 0, hidden: 8}"
    with pytest.raises(WrongUseError, match="for a model with domains"):
        train(small("cake-small", root, other), tmp_path, progress=False)
    with pytest.raises(WrongUseError, match="multi_domain needs domains"):
        train(small("cake-small", root, "data.options.domains={}"), tmp_path, progress=False)
    with pytest.raises(WrongUseError, match="say start: drawn"):
        train(small("cake-small", root, "model.freeze_backbone=false"), tmp_path, progress=False)


def test_a_linear_start_is_for_models_that_have_one(root, tmp_path):
    model = "model={name: affnet_cl, backbone: resnet10_grey48, dense_channels: 0, hidden: 8, freeze_backbone: true}"
    objective = "objectives=[{loss: CrossEntropyLoss, input: logits, target: labels}]"
    recipe = small(
        "cake-small", root, model, objective, "data.dataset=ferplus", f"data.path={root}/ferplus", "data.options={}"
    )
    with pytest.raises(WrongUseError, match="AFFNetCL has no linear start"):
        train(recipe, tmp_path, progress=False)


def test_faces_without_a_class_take_no_part(root, tmp_path):
    recipe = small("cake-small", root, "steps=1", "model.domains={rafdb: 7}", "sampler.batch_size=6")
    faces = pd.DataFrame(
        {"path": [f"{i}.png" for i in range(6)], "dataset": "rafdb"}, index=[f"f{i}" for i in range(6)]
    )
    faces["expression"] = ["fear", "anger", "bored", None, "fear", "anger"]
    torch.manual_seed(0)
    model = build_model(recipe)
    features = np.random.default_rng(0).normal(size=(6, model.width, 1, 1)).astype(np.float16)
    (term,) = fit(model, recipe, features, FaceTable(faces))
    assert int(term.facts.domain_sizes[0]) == 4
