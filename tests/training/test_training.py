"""The training loop on rendered faces: it learns, resumes exactly, and says what is wrong with a recipe."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from exprembed.data import FaceTable, TripletTable
from exprembed.data.loading import Batch, StepDataset
from exprembed.data.samplers import BalancedSampler, TripletSampler, VoteTripletSampler
from exprembed.data.synthetic import render_faces, save_faces
from exprembed.data.tables import EXPRESSIONS, TRIPLET_TYPES
from exprembed.data.triplets import triplets_from_votes
from exprembed.errors import BadInputError, WrongUseError
from exprembed.models import FECNet, load_model
from exprembed.training import cache_features, list_recipes, load_recipe, train
from exprembed.training.recipe import recipe_from_dict


def voted(n=160, subjects=10, seed=5):
    images, faces = render_faces(n, subjects, seed, size=48)
    table = pd.DataFrame(faces)
    for name in EXPRESSIONS:
        table[f"votes_{name}"] = 8 * (table["expression"] == name) + 1
    return images, FaceTable(table)


@pytest.fixture(scope="module")
def ferplus_like(tmp_path_factory):
    """Rendered faces in FER+'s official layout."""
    from PIL import Image

    root = tmp_path_factory.mktemp("ferplus")
    (root / "FER2013Train").mkdir()
    images, faces = voted()
    rows = ["Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"]
    order = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
    for i, (image, expression) in enumerate(zip(images, faces["expression"], strict=True)):
        name = f"fer{i:07d}.png"
        Image.fromarray(image).convert("L").save(root / "FER2013Train" / name)
        rows.append(
            ",".join(["Training", name, *(str(8 * (expression == e) + (e == "neutral")) for e in order), "1", "0"])
        )
    (root / "fer2013new.csv").write_text("\n".join(rows) + "\n")
    (root / "fer2013_labels.csv").write_text("Image name,fer2013_emotion\n")  # no face has one
    return root


def small(ferplus_like, *more):
    settings = [f"data.path={ferplus_like}", "data.synthetic=0", "data.holdout=0", "model.hidden=32", "threads=null"]
    return load_recipe(
        "ferplus-triplets-small",
        [*settings, "sampler.pool=24", "sampler.per_type=40", "sizes={0.0: 32, 0.5: 48}", *more],
    )


def test_resumed_equals_uninterrupted(ferplus_like, tmp_path):
    """Killed in the fifth of six steps and resumed from the third, a run must end with the very weights of one that was not."""
    whole = train(small(ferplus_like, "steps=6", "check_every=3"), tmp_path / "whole", progress=False)
    import lightning

    class Killed(Exception):
        pass

    class KillBeforeTheFifth(lightning.Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 4:
                raise Killed

    cut = small(ferplus_like, "steps=6", "check_every=3")
    original = lightning.Trainer

    def killed(**options):
        return original(**options | {"callbacks": [*options["callbacks"], KillBeforeTheFifth()]})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lightning, "Trainer", killed)
        with pytest.raises(Killed):
            train(cut, tmp_path / "cut", progress=False)
    assert torch.load(tmp_path / "cut/checkpoints/last.ckpt", weights_only=True)["global_step"] == 3
    resumed = train(cut, tmp_path / "cut", resume=True, progress=False)
    for (name, left), right in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(left, right), name
    assert load_model(resumed.weights).fingerprint == whole.model.fingerprint
    card = json.loads(resumed.weights.with_suffix(".json").read_text())
    assert card["recipe"]["steps"] == 6
    assert str(ferplus_like) not in json.dumps(card)


def test_softmax_learns_rendered_faces(ferplus_like, tmp_path):
    settings = [
        "steps=40",
        "sampler.batch_size=32",
        "augmentation=null",
        "sizes={}",
        "data.synthetic=0",
        "data.holdout=0",
    ]
    recipe = load_recipe(
        "ferplus-softmax-small", [f"data.path={ferplus_like}", "threads=null", "model.hidden=32", *settings]
    )
    model = train(recipe, tmp_path, progress=False).model
    images, faces = voted()
    with torch.no_grad():
        logits = model(model.preprocess(list(images))).logits
    share = np.mean([EXPRESSIONS[i] == e for i, e in zip(logits.argmax(1), faces["expression"], strict=True)])
    assert share > 0.5


def test_label_triplets_and_frozen_features(ferplus_like, tmp_path):
    """AFFNet-TL on cached maps of a frozen backbone: the maps are computed once and the backbone does not move."""
    values = {
        "name": "toy-labels",
        "model": {
            "name": "affnet_tl",
            "backbone": "resnet10_grey48",
            "dense_channels": 16,
            "dense_layers": 1,
            "dense_growth": 4,
            "hidden": 16,
            "classes": list(EXPRESSIONS),
        },
        "data": {"dataset": "ferplus", "path": str(ferplus_like), "holdout": 0.0},
        "sampler": {"kind": "balanced", "batch_size": 32, "power": 1.0},
        "objectives": [
            {"loss": "TripletMarginLoss", "target": "labels", "options": {"margin": 0.2}, "miner": {"mode": "semihard"}}
        ],
        "augmentation": None,
        "steps": 3,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPREMBED_CACHE", str(tmp_path / "cache"))
        first = train(recipe_from_dict(values), tmp_path / "run", progress=False)
        again = train(recipe_from_dict(values), tmp_path / "again", progress=False)
    assert len(list((tmp_path / "cache").glob("features-*.npy"))) == 1
    assert first.model.fingerprint == again.model.fingerprint


def test_feature_cache_follows_weights_and_files(tmp_path):
    images, faces = render_faces(12, 2, 0, size=48)
    faces = save_faces(images, faces, tmp_path / "faces")
    model = FECNet(backbone="resnet10_grey48", dense_channels=0, hidden=8)
    maps = cache_features(model, faces, tmp_path / "cache")
    direct = model.eval().features(model.preprocess(list(faces["path"]))).detach().numpy()
    assert np.abs(np.asarray(maps, np.float32) - direct).max() < 0.02
    with torch.no_grad():
        next(model.backbone.parameters()).add_(1)
    cache_features(model, faces, tmp_path / "cache")
    os.utime(faces["path"].iloc[0], (1, 1))
    cache_features(model, faces, tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 3


def test_every_stage_holds_out_the_same_faces_and_copies_stay_together(tmp_path):
    from exprembed.training.run import _split

    images, faces = render_faces(60, 6, 0, size=48)
    images[7] = images[3]
    faces = save_faces(images, faces, tmp_path)
    kept, held = _split(faces, 0.3)
    assert (kept ^ held).all()
    assert 5 < held.sum() < 35
    assert held[7] == held[3]
    half = FaceTable(pd.DataFrame(faces).iloc[::2])
    assert np.array_equal(_split(half, 0.3)[1], held[::2])
    assert _split(faces, 0.0)[0].all()


def test_triplet_sampler_embeds_each_face_once():
    _, faces = voted()
    triplets = triplets_from_votes(faces, 100, seed=0)
    sampler = TripletSampler(faces, triplets, per_type=30, seed=2)
    plan = sampler.plan(7)
    assert len(set(plan.rows.tolist())) == len(plan.rows)
    assert np.bincount(plan.types).tolist() == [30, 30, 30]
    known = set(zip(triplets["a"], triplets["b"], triplets["odd"], triplets["type"], strict=True))
    for row, kind in zip(plan.triplets, plan.types, strict=True):
        assert (*faces.index[plan.rows[row]], TRIPLET_TYPES[kind]) in known
    again = TripletSampler(faces, triplets, per_type=30, seed=2).plan(7)
    assert np.array_equal(plan.rows, again.rows)
    assert not np.array_equal(sampler.plan(8).rows[:5], plan.rows[:5])
    with pytest.raises(BadInputError, match="one_class"):
        TripletSampler(faces, TripletTable(pd.DataFrame(triplets[triplets["type"] != "one_class"])))
    with pytest.raises(BadInputError, match="present_in"):
        TripletSampler(FaceTable(pd.DataFrame(faces).iloc[:5]), triplets)


def test_vote_triplets_are_strong_and_among_the_pool():
    _, faces = voted()
    plan = VoteTripletSampler(faces, pool=40, per_type=50, seed=1).plan(3)
    labels = faces["expression"].to_numpy()[plan.rows]
    assert len(set(plan.rows.tolist())) == 40
    for row, kind in zip(plan.triplets, plan.types, strict=True):
        assert len(set(row.tolist())) == 3
        assert len(set(labels[row])) == kind + 1
    two = plan.triplets[plan.types == 1]
    assert (labels[two[:, 0]] == labels[two[:, 1]]).mean() > 0.9


def test_balanced_sampler_follows_its_power():
    labels = np.array(["a"] * 900 + ["b"] * 100)
    for power, share in ((0.0, 0.1), (0.5, 0.25), (1.0, 0.5)):
        rows = np.concatenate([BalancedSampler(labels, 1000, power).plan(i).rows for i in range(10)])
        assert (labels[rows] == "b").mean() == pytest.approx(share, abs=0.02)


def test_a_step_is_a_whole_batch():
    images, faces = voted()
    batch = StepDataset(
        images.transpose(0, 3, 1, 2), faces, BalancedSampler(faces["expression"].to_numpy(), 8), EXPRESSIONS
    )[4]
    assert isinstance(batch, Batch)
    assert batch.inputs.shape == (8, 3, 48, 48)
    assert torch.allclose(batch.votes.sum(1), torch.ones(8))
    assert [EXPRESSIONS[i] for i in batch.votes.argmax(1)] == [EXPRESSIONS[i] for i in batch.labels]
    assert batch.triplets.shape == (0, 3)


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_reads_and_builds(name):
    from exprembed.data.regions import region_count
    from exprembed.training.objectives import Facts, Objective
    from exprembed.training.run import build_model

    recipe = load_recipe(name, ["init=null"])
    assert recipe.name == name
    assert recipe.about
    model = build_model(recipe)
    assert model.embedding_dim > 0
    weights, sizes = (
        (torch.ones(len(model.domains), len(model.classes)), [9] * len(model.domains))
        if model.domains
        else (None, None)
    )
    facts = Facts(
        len(model.classes),
        model.embedding_dim,
        [3] * len(model.classes),
        None,
        class_weights=weights,
        domain_sizes=sizes,
        teacher_dim=model.embedding_dim,
        counts={"va_regions": [3] * region_count(model.va_regions)} if model.va_regions else {},
    )
    assert [Objective(plan, facts) for plan in recipe.objectives]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepz=3", "did you mean 'steps'"),
        ("data.pth=x", "did you mean 'path'"),
        ("optimizer=adm", "did you mean 'adam'"),
        ("sampler.kind=balance", "did you mean 'balanced'"),
        ("objectives.0.targt=votes", "did you mean 'target'"),
        ("steps=0", "steps"),
        ("steps", "key=value"),
    ],
)
def test_recipes_refuse(override, message):
    with pytest.raises(WrongUseError, match=message):
        load_recipe("ferplus-triplets-small", [override])


def test_runs_refuse(ferplus_like, tmp_path):
    with pytest.raises(WrongUseError, match=r"data\.path"):
        train(load_recipe("ferplus-softmax-small"), tmp_path)
    with pytest.raises(WrongUseError, match="nothing to resume"):
        train(small(ferplus_like), tmp_path, resume=True)
    with pytest.raises(WrongUseError, match="sampler"):
        train(small(ferplus_like, "sampler.pol=3"), tmp_path)
    with pytest.raises(WrongUseError, match="the last of sizes"):
        train(small(ferplus_like, "sizes={0.0: 32}"), tmp_path)
    with pytest.raises(WrongUseError, match="did you mean 'ferplus-softmax-small'"):
        load_recipe("ferplus-softmx-small")
    with pytest.raises(WrongUseError, match="unknown loss"):
        train(small(ferplus_like, "objectives.0.loss=triplet"), tmp_path)
    with pytest.raises(BadInputError, match="no FER"):
        train(small(Path(tmp_path)), tmp_path)
    with pytest.raises(
        WrongUseError, match=r"'table' takes no 'original_votes', .* it takes path \(--set data.options"
    ):
        train(small(ferplus_like, "data.dataset=table"), tmp_path)


def test_losses_are_told_of_model_and_faces(tmp_path):
    """Centres, counts and the VA histogram fill themselves in, and targets that a face lacks leave it out."""
    images, faces = render_faces(96, 12, 5, size=48)
    table = pd.DataFrame(save_faces(images, faces, tmp_path / "faces"))
    table.loc[table.index[::3], ["valence", "arousal"]] = np.nan
    FaceTable(table).to_parquet(tmp_path / "faces.parquet")
    recipe = load_recipe(
        "metric-losses-small",
        [f"data.path={tmp_path / 'faces.parquet'}", "data.dataset=table", "steps=3", "init=null", "model.hidden=16"],
    )
    for loss, options in (("center", {"update": "optimizer"}), ("va_center", {}), ("island", {})):
        recipe.objectives += recipe_from_dict(
            {"name": "x", "model": {}, "objectives": [{"loss": loss, "target": "labels", "options": options}]}
        ).objectives
    recipe.objectives += recipe_from_dict(
        {"name": "x", "model": {}, "objectives": [{"loss": "logit", "input": "logits", "target": "va_histogram"}]}
    ).objectives
    result = train(recipe, tmp_path / "run", progress=False)
    wce, center, va_center, island, logit = result.objectives
    counts = table[table["split"] == "train"]["expression"].value_counts()
    assert wce.facts.class_counts == [counts.get(name, 0) for name in result.model.classes]
    assert center.loss.centers.shape == island.loss.centers.shape == (8, 16)
    assert isinstance(center.loss.centers, torch.nn.Parameter)
    assert va_center.loss.va_counts.sum() < 3 * recipe.sampler["batch_size"]
    assert va_center.loss.va_counts.sum() > 0
    assert logit.histogram.probabilities.shape == (10, 10, 8)
    stored = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(stored["objectives.3.loss.centers"], island.loss.centers)


def test_rendered_faces_always_train(ferplus_like, tmp_path):
    """They are easy: held out, they would flatter what a run is watched by."""
    plain = train(small(ferplus_like, "steps=1", "data.holdout=0.4"), tmp_path / "plain", progress=False)
    mixed = train(
        small(ferplus_like, "steps=1", "data.holdout=0.4", "data.synthetic=24"), tmp_path / "mixed", progress=False
    )
    assert mixed.faces == plain.faces + 24
    assert plain.watched is not None
    assert mixed.watched is not None
