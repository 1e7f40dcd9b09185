"""MultiTask as an embedder: the thesis's sizes, one image and many, every variant's outputs, masks, files, bad arguments."""

import copy
import doctest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed import EmotionGCN, ExpressionIndex, KNNClassifier, MultiTask, load_model, summarize_album
from exprembed.data.regions import REGIONS, region_centres
from exprembed.errors import WrongUseError
from exprembed.models import create_model, multitask
from exprembed.models.emotion_gcn import SEVEN
from exprembed.models.multitask import HEADS, TASKS

SMALL = {"backbone": "resnet10_grey48"}
GREY = np.random.default_rng(0).integers(0, 256, (6, 48, 48), np.uint8)
VARIANTS = [
    {"second_task": None},
    {"second_task": None, "masks": True},
    *({"second_task": task, "head": head} for task in TASKS for head in HEADS),
    {"second_task": "eight", "head": "concatenate", "masks": True},
]


def faces(model, pictures=GREY):
    return model.preprocess(list(pictures))


def named(options):
    return "-".join(map(str, options.values()))


def test_the_thesis_network():
    """1024 numbers of DenseNet-121 at 227 pixels; seven classifiers that also see eight sectors; no bias."""
    model = MultiTask(second_task="eight", head="concatenate", image_size=227).eval()
    images = model.preprocess(np.random.default_rng(0).integers(0, 256, (227, 227, 3), np.uint8))
    with torch.no_grad():
        maps = model.backbone(images)
        assert maps.shape == (1, 1024, 7, 7)
        assert torch.equal(model(images).embedding, maps.flatten(2).max(dim=2).values)
    own = {name: tuple(value.shape) for name, value in model.named_parameters() if not name.startswith("backbone.")}
    assert own == {"classifier.weight": (7, 1032), "second.weight": (8, 1024)}
    assert model.classes == SEVEN


@pytest.mark.parametrize("options", VARIANTS, ids=named)
def test_every_variant_embeds_and_tells(options, tmp_path):
    torch.manual_seed(0)
    model = MultiTask(**SMALL, **options).eval()
    images = faces(model)
    vectors = model.embed(images)
    with torch.no_grad():
        many = model(images)
        assert torch.allclose(model.logits(vectors), many.logits, atol=1e-5)
        if options["second_task"] is None:
            assert many.valence_arousal is None
            with pytest.raises(WrongUseError, match="knows classes alone"):
                model.valence_arousal(vectors)
        else:
            assert torch.allclose(model.valence_arousal(vectors), many.valence_arousal, atol=1e-5)
            assert many.valence_arousal.shape == (6, 2)
        assert many.logits.shape == (6, 7)
        # One image is the same in a batch.
        one = model(faces(model, GREY[2:3]))
        found = [(one.embedding, many.embedding), (one.logits, many.logits)]
        found += [(one.parts[name], many.parts[name]) for name in many.parts]
        found += [] if many.valence_arousal is None else [(one.valence_arousal, many.valence_arousal)]
        for single, batch in found:
            assert torch.allclose(single[0], batch[2], atol=1e-5, rtol=1e-5)
    again = load_model(model.save(tmp_path / "model"))
    assert again.fingerprint == model.fingerprint
    assert torch.equal(again.embed(images), vectors)
    assert (again.second_task, again.head, again.va_regions) == (model.second_task, model.head, model.va_regions)
    with torch.no_grad():
        assert torch.equal(again(images).logits, many.logits)
    assert model.embed(images[:0]).shape == (0, 320)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.permutations(range(6)), st.sampled_from(VARIANTS[2:-1]))
def test_faces_do_not_see_each_other(seed, order, options):
    torch.manual_seed(seed)
    model = MultiTask(**SMALL, **options)
    maps = torch.rand(6, 320, 1, 1)
    whole, moved = model.from_features(maps), model.from_features(maps[list(order)])
    assert torch.allclose(whole.logits[list(order)], moved.logits, atol=1e-5)
    assert torch.allclose(whole.valence_arousal[list(order)], moved.valence_arousal, atol=1e-5)


@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("head", HEADS)
def test_sure_of_a_region_is_at_its_centre(kind, head):
    """And sure of nothing is at the origin; the point stays among the centres."""
    model = MultiTask(second_task=kind, head=head, **SMALL)
    shares = model._shares(torch.eye(2 if kind == "half" else len(region_centres(kind))) * 200 - 100)
    points = model._point(torch.eye(len(shares)) * 200 - 100)
    expected = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) * 0.42441318 if kind == "half" else region_centres(kind)
    assert torch.allclose(points, torch.as_tensor(expected).float(), atol=1e-5)
    assert torch.allclose(model._point(torch.zeros(1, len(shares))), torch.zeros(1, 2), atol=1e-6)
    random = model._point(3 * torch.randn(50, len(shares), generator=torch.Generator().manual_seed(0)))
    assert float(random.norm(dim=1).max()) <= 4 / 3 / np.pi * 2**0.5 + 0.1


def test_heads_see_what_they_should():
    """Classic: the second task's weights do not touch the classes; concatenate: they do; separate: each has its layer."""
    maps = torch.rand(3, 320, 1, 1, generator=torch.Generator().manual_seed(0))
    touched = {}
    for head in HEADS:
        model = MultiTask(second_task="eight", head=head, **SMALL)
        model.from_features(maps).logits.sum().backward()
        touched[head] = {
            name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()
        }
    assert touched["classic"] == {"classifier.weight"}
    assert touched["concatenate"] == {"classifier.weight", "second.weight"}
    assert touched["separate"] == {"classifier.weight", "layers.0.weight", "layers.0.bias"}


def test_classic_regression_is_emotion_gcn_without_its_graph():
    free = EmotionGCN(word_vectors=np.eye(9), adjacency=np.eye(9), layers=1, **SMALL)
    model = MultiTask(**SMALL)
    with torch.no_grad():
        model.classifier.weight.copy_(free.graph.weights()[:7])
        model.second.weight.copy_(free.graph.weights()[7:])
    maps = torch.rand(3, 320, 1, 1)
    assert torch.allclose(model.from_features(maps).logits, free.from_features(maps).logits, atol=1e-6)
    assert torch.allclose(
        model.from_features(maps).valence_arousal, free.from_features(maps).valence_arousal, atol=1e-6
    )


def test_masks_follow_the_face_and_do_not_change_the_embedding():
    torch.manual_seed(0)
    model = MultiTask(masks=True, **SMALL).eval()
    plain = MultiTask(**SMALL).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("decoder.")})
    images = faces(model)
    assert torch.equal(model.embed(images), plain.embed(images))
    with torch.no_grad():
        scores = model.mask_scores(images)
        assert scores.shape == (6, 1, 24, 24)
        with pytest.raises(WrongUseError, match="unknown output of this model 'masks'"):
            plain.mask_scores(images)
        outputs = copy.deepcopy(model(images)).named("embedding"), model(images).named("masks")
    assert outputs[0].shape == (6, 320)
    assert torch.equal(outputs[1], scores)


def test_mixed_precision_keeps_full_numbers():
    model = MultiTask(second_task="eight", head="separate", masks=True, **SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(faces(model))
    found = [output.embedding, output.logits, output.valence_arousal, *output.parts.values()]
    assert {value.dtype for value in found} == {torch.float32}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same():
    model = MultiTask(second_task="twelve", head="concatenate", **SMALL)
    images = faces(model)
    here = model.embed(images)
    assert torch.allclose(model.cuda().embed(images.cuda()).cpu(), here, atol=1e-2)


def test_a_frozen_backbone_does_not_move():
    model = MultiTask(second_task="eight", freeze_backbone=True, **SMALL).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    output = model(faces(model))
    (output.logits[:, 0].sum() + output.parts["va_regions"][:, 0].sum()).backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"classifier.weight", "second.weight"}


def test_index_neighbours_and_albums_take_the_vectors_as_they_are():
    model = MultiTask(second_task="eight", **SMALL)
    vectors = model.embed(faces(model)).numpy()
    index = ExpressionIndex(dim=model.embedding_dim, metric=model.metric)
    index.add(vectors, ids=[str(i) for i in range(6)])
    assert [row[0] for row in index.search(vectors, 2).ids] == [str(i) for i in range(6)]
    assert len(KNNClassifier(2).fit(vectors, list("aabbcc")).predict(vectors)) == 6
    assert len(summarize_album(vectors, n_clusters=2).representatives) == 2


@pytest.mark.parametrize("backbone", ["vgg8_grey48", "mobilenet_v3_small", "resnet18"])
def test_any_backbone(backbone):
    model = create_model("multi_task", backbone=backbone, second_task="quarter", classes=["calm", "tense"]).eval()
    output = model(faces(model, GREY[:1]))
    assert output.embedding.shape == (1, model.backbone.out_channels)
    assert output.logits.shape == (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "densenet12"}, "did you mean 'densenet121'"),
        ({"second_task": "eigth"}, "did you mean 'eight'"),
        ({"head": "clasic"}, "did you mean 'classic'"),
        ({"second_task": None, "head": "separate"}, "joins two tasks"),
        ({"classes": ["joy"]}, "two different classes"),
        ({"classes": "joy"}, "two different classes"),
        ({"image_size": 0}, "image_size"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(WrongUseError, match=message):
        MultiTask(**SMALL | options)


def test_examples():
    assert doctest.testmod(multitask, extraglobs={"np": np, "torch": torch}).failed == 0
