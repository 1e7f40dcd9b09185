"""Multi-task recipes through the one training loop: the thesis's size, every second task, masks under augmentation, samplers."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from evaluation.multitask_rows import MASKS, SECOND, WCE
from exprembed.data import FaceTable, eye_mouth_mask, va_regions
from exprembed.data.augment import Augmentation
from exprembed.data.loading import load_pixels
from exprembed.data.synthetic import render_faces, save_faces
from exprembed.data.tables import EXPRESSIONS
from exprembed.errors import BadInputError, WrongUseError
from exprembed.models import load_model
from exprembed.training import fit, load_recipe, train
from exprembed.training.module import TrainingModule
from exprembed.training.objectives import Facts
from exprembed.training.recipe import recipe_from_dict
from exprembed.training.run import build_model, make_sampler, make_steps


@pytest.fixture(scope="module")
def affectnet(tmp_path_factory):
    """A folder that holds AffectNet-8 in its official layout, of rendered faces."""
    root = tmp_path_factory.mktemp("sets")
    images, annotations = (root / "affectnet/train_set" / name for name in ("images", "annotations"))
    for folder in (images, annotations):
        folder.mkdir(parents=True)
    for i, (image, (_, face)) in enumerate(zip(*_pairs(render_faces(24, 2, 5, size=112)), strict=True)):
        Image.fromarray(image).resize((224, 224)).save(images / f"{i}.jpg")
        values = {"exp": EXPRESSIONS.index(face["expression"]), "val": face["valence"], "aro": face["arousal"]}
        for key, value in values.items():
            np.save(annotations / f"{i}_{key}.npy", np.array(str(value)))
    return root


def _pairs(drawn):
    return drawn[0], drawn[1].iterrows()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A table of rendered faces: the file that `multitask-small` reads."""
    folder = tmp_path_factory.mktemp("rendered")
    faces = save_faces(*render_faces(160, 10, 1, size=48), folder)
    faces.write_parquet(folder / "faces.parquet")
    return folder / "faces.parquet"


def recipe_of(path, terms=None, *more):
    recipe = load_recipe(
        "multitask-small", [f"data.path={path}", "steps=3", "sampler.batch_size=16", "threads=null", *more]
    )
    return recipe if terms is None else recipe_from_dict({**recipe.to_dict(), "objectives": terms})


def module_of(recipe, path):
    torch.manual_seed(0)
    faces = FaceTable(pd.DataFrame(FaceTable.read_parquet(path)).query("split == 'train'"))
    model = build_model(recipe)
    pixels = load_pixels(faces, model.preprocessing.size, model.preprocessing.channels)
    return TrainingModule(model, recipe, make_steps(recipe, model, pixels, faces)), faces


def test_a_step_at_the_thesis_size(affectnet, tmp_path):
    recipe = load_recipe("multitask-paper", [f"data.path={affectnet}", "steps=1", "sampler.batch_size=4"])
    torch.manual_seed(recipe.seed)
    before = build_model(recipe).state_dict()
    result = train(recipe, tmp_path / "run", progress=False)
    after = result.model.state_dict()
    assert result.model.preprocessing.size == 227
    assert result.model.embedding_dim == 1024
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert {"classifier.weight", "second.weight"} <= moved
    assert len([name for name in moved if name.startswith("backbone.body.0.denseblock4.")]) > 50
    assert all(torch.isfinite(value).all() for value in after.values())
    assert [term.plan.target for term in result.objectives] == ["labels", "va_regions"]


@pytest.mark.parametrize("name", SECOND)
@pytest.mark.parametrize("head", ["classic", "concatenate", "separate"])
def test_every_second_task_trains(rendered, tmp_path, name, head):
    kind, term = SECOND[name]
    recipe = recipe_of(rendered, [dict(WCE), dict(term)], f"model.second_task={kind}", f"model.head={head}")
    torch.manual_seed(recipe.seed)
    before = build_model(recipe).state_dict()
    result = train(recipe, tmp_path / "run", progress=False)
    after = load_model(result.weights).state_dict()
    own = {key for key in after if not key.startswith("backbone.")}
    assert own == {key for key in own if not torch.equal(before[key], after[key])}
    assert all(torch.isfinite(value).all() for value in after.values())


def test_weights_of_regions_are_those_of_the_training_faces(rendered):
    """f_min / f_k over the sectors; a sector without faces leaves the others' weights alone."""
    terms = [dict(WCE), {"loss": "weighted_cross_entropy", "input": "va_regions", "target": "va_regions"}]
    module, faces = module_of(recipe_of(rendered, terms, "model.second_task=twelve"), rendered)
    numbers = va_regions(faces[["valence", "arousal"]], "twelve")
    counts = np.bincount(numbers[numbers >= 0], minlength=12)
    assert (counts == 0).any()
    rarest = counts[counts > 0].min()
    expected = np.where(counts > 0, rarest / np.maximum(counts, 1), 1)
    classes, regions = module.terms
    assert regions.loss.weights.tolist() == pytest.approx(expected.tolist())
    assert len(classes.loss.weights) == 7
    assert Facts.of(module.model, module.steps).about("labels").num_classes == 7


def test_a_region_term_by_hand(rendered):
    """Faces at the origin, and faces without valence and arousal, take no part in it."""
    terms = [{"loss": "CrossEntropyLoss", "input": "va_regions", "target": "va_regions"}]
    module, _ = module_of(recipe_of(rendered, terms, "model.second_task=eight", "sampler.batch_size=64"), rendered)
    batch = module.steps[0]
    batch.valence_arousal[:3] = torch.nan
    batch.regions[:3] = -1
    output = module.model.training_output(module.model.prepare(batch.inputs))
    found = module.terms[0](output, batch)
    points = batch.valence_arousal.double().numpy()
    logs = output.parts["va_regions"].log_softmax(dim=1).detach().numpy()
    own = [
        -logs[i, int(np.arctan2(a, v) % (2 * np.pi) / (np.pi / 4))]
        for i, (v, a) in enumerate(points)
        if np.isfinite(v) and (v or a)
    ]
    assert 0 < len(own) < 61  # neutral references lie at the origin
    assert float(found) == pytest.approx(np.mean(own), rel=1e-5)


def test_masks_go_where_the_augmentation_takes_the_face():
    """Geometry alone moves a mask, and as it moves the picture: one that shows the mask stays equal to it."""
    marks = (torch.rand(8, 1, 48, 48, generator=torch.Generator().manual_seed(3)) < 0.2).float()
    place = Augmentation(tone=0.0, blur=0.0, noise=0.0, erase=0.0)
    whole = place(marks, 40, torch.Generator().manual_seed(5))
    alone = Augmentation().geometry(marks, 40, torch.Generator().manual_seed(5))
    assert torch.allclose(whole, alone, atol=1e-5)
    assert not torch.allclose(Augmentation()(marks, 40, torch.Generator().manual_seed(5)), alone, atol=0.1)
    assert torch.allclose(Augmentation.none().geometry(marks, 48, torch.Generator()), marks, atol=1e-5)


def test_masks_train(rendered, tmp_path):
    """The branch learns where eyes and mouth are; faces without landmarks take part in the classes alone."""
    table = pd.DataFrame(FaceTable.read_parquet(rendered))
    table.loc[table.index[::4], "landmarks"] = None
    FaceTable(table).write_parquet(tmp_path / "faces.parquet")
    terms = [dict(WCE), dict(MASKS)]
    more = ["model.masks=true", "model.second_task=null", "steps=60", "learning_rate=0.01"]
    more += ["augmentation={flip: 0.5, rotation: 5, erase: 0.0}", "sizes={0.0: 48}"]
    recipe = recipe_of(tmp_path / "faces.parquet", terms, *more)
    result = train(recipe, tmp_path / "run", progress=False)
    model = load_model(result.weights)
    images = model.preprocess(table["path"].tolist()[1::4])
    with torch.no_grad():
        shares = model.mask_scores(images).sigmoid()
    truth = np.stack([eye_mouth_mask(np.array(one).reshape(68, 2), 48) for one in table["landmarks"].iloc[1::4]])
    cells = truth.reshape(-1, 24, 2, 24, 2).mean(axis=(2, 4))
    assert np.corrcoef(shares.numpy().ravel(), cells.ravel())[0, 1] > 0.3
    assert [term.plan.target for term in result.objectives] == ["labels", "masks"]


def test_a_mask_term_by_hand(rendered):
    terms = [dict(MASKS)]
    module, _ = module_of(recipe_of(rendered, terms, "model.masks=true", "model.second_task=null"), rendered)
    batch = module.steps[0]
    batch.masks[0] = torch.nan
    output = module.model.training_output(module.model.prepare(batch.inputs))
    scores = output.parts["masks"].detach().double().numpy()[1:, 0]
    cells = batch.masks.numpy()[1:, 0].reshape(-1, 24, 2, 24, 2).mean(axis=(2, 4))  # four pixels a cell
    chance = 1 / (1 + np.exp(-scores))
    printed = -(cells * np.log(chance) + (1 - cells) * np.log(1 - chance)).mean()
    assert float(module.terms[0](output, batch)) == pytest.approx(printed, rel=1e-5)


def test_soft_labels_take_bins_of_their_own(rendered):
    terms = [{"loss": "soft_label", "input": "logits", "target": "va_histogram", "bins": bins} for bins in (5, 10)]
    module, _ = module_of(recipe_of(rendered, terms, "model.second_task=null"), rendered)
    assert [term.histogram.probabilities.shape[0] for term in module.terms] == [5, 10]


def test_samplers_by_any_column(rendered):
    faces = FaceTable.read_parquet(rendered)
    recipe = recipe_of(
        rendered, None, "sampler={kind: balanced, batch_size: 4000, power: 1.0, by: age, bins: [0.3, 0.5]}"
    )
    rows = make_sampler(recipe, faces, None).plan(0).rows
    shares = np.bincount(np.digitize(faces["age"].to_numpy()[rows], [0.3, 0.5]), minlength=3) / 4000
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    recipe.sampler["by"] = "aeg"
    with pytest.raises(BadInputError, match="balances the faces' 'aeg'"):
        make_sampler(recipe, faces, None)


def test_the_wrong_model_or_faces_are_named(rendered, tmp_path):
    region = {"loss": "CrossEntropyLoss", "input": "va_regions", "target": "va_regions"}
    with pytest.raises(WrongUseError, match="needs a model that classifies regions"):
        train(recipe_of(rendered, [region]), tmp_path, progress=False)
    with pytest.raises(WrongUseError, match=r"unknown output of this model 'mask'.*Known: embedding, logits"):
        train(recipe_of(rendered, [{**region, "input": "mask", "target": "labels"}]), tmp_path, progress=False)
    with pytest.raises(WrongUseError, match="unknown target 'va_region'"):
        recipe_of(rendered, [{**region, "target": "va_region"}])
    bare = pd.DataFrame(FaceTable.read_parquet(rendered)).drop(columns="landmarks")
    FaceTable(bare).write_parquet(tmp_path / "bare.parquet")
    with pytest.raises(BadInputError, match="need the faces' column 'landmarks'"):
        train(recipe_of(tmp_path / "bare.parquet", [dict(MASKS)], "model.masks=true"), tmp_path, progress=False)


def test_heads_train_on_cached_maps(rendered, tmp_path, monkeypatch):
    """A frozen backbone runs once: its maxima are kept, or its whole maps where a mask is made of them."""
    monkeypatch.setenv("EXPREMBED_CACHE", str(tmp_path / "cache"))
    frozen = ["model.freeze_backbone=true", "augmentation=null", "model.masks=true"]
    result = train(recipe_of(rendered, [dict(WCE), dict(MASKS)], *frozen), tmp_path / "run", progress=False)
    (stored,) = (tmp_path / "cache").glob("features-*.npy")
    assert np.load(stored, mmap_mode="r").shape[1:] == (256, 3, 3)
    assert torch.isfinite(result.model.decoder.layers[-1].weight).all()


def test_fit_takes_masks_and_regions_too(rendered):
    terms = [dict(WCE), dict(MASKS), dict(SECOND["Eight"][1])]
    recipe = recipe_of(rendered, terms, "model.masks=true", "model.second_task=eight", "model.head=separate")
    faces = FaceTable.read_parquet(rendered)
    model = build_model(recipe)
    assert len(fit(model, recipe, load_pixels(faces, 48, 1), faces)) == 3
