"""CAKE and AVK as embedders: sizes of the paper's network, freezing, stages, loading, bad arguments."""

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed import AVK, CAKE, ExpressionIndex, FECNet, KNNClassifier, load_model, summarize_album
from exprembed.errors import BadInputError, WrongUseError
from exprembed.models import cake
from exprembed.models.storage import load_matching

SMALL = {"backbone": "resnet10_grey48", "domains": {"ferplus": 8, "rafdb": 7}}
GREY = np.random.default_rng(0).integers(0, 256, (6, 48, 48), np.uint8)


def faces(model):
    return model.preprocess(list(GREY))


def test_the_papers_network():
    """ResNet-18's 512 numbers to k, then 7 for each of three data sets; every layer has a bias."""
    model = CAKE()
    assert model.embedding_dim == 3
    assert list(model.domains) == ["affectnet", "rafdb", "sfew"]
    assert sum(p.numel() for p in model.projection.parameters()) == 512 * 3 + 3
    assert sum(p.numel() for p in model.classifiers.parameters()) == 3 * (3 * 7 + 7)
    images = model.preprocess(np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8))
    with torch.no_grad():
        assert model.features(images).shape == (1, 512, 1, 1)
    assert sum(p.numel() for p in AVK().regressor.parameters()) == 512 * 2 + 2


def test_pooling_is_the_mean_over_places():
    model = CAKE(**SMALL).eval()
    maps = model.backbone(faces(model))
    assert torch.allclose(model.features(faces(model))[:, :, 0, 0], maps.mean(dim=(2, 3)))


@pytest.mark.parametrize("kind", [CAKE, AVK])
def test_hidden_layer_is_that_of_the_network_it_came_from(kind, tmp_path):
    torch.manual_seed(0)
    source = FECNet(backbone="resnet10_grey48", dense_channels=0, hidden=12, classes=["joy", "fear"]).eval()
    model = kind(hidden=12, **SMALL).eval()
    load_matching(model, source.save(tmp_path / "source"), ["backbone.", "trunk.", "regressor."])
    due = source.trunk(source.backbone(faces(source)))
    assert torch.allclose(model.features(faces(model))[:, :, 0, 0], due, atol=1e-5)
    assert model.projection.in_features == model.width == 12
    moving = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert moving == {"projection", "classifiers"}
    assert not model.train().trunk.training


@pytest.mark.parametrize("k", [1, 2, 3, 64])
def test_normalised_vectors_are_unit_vectors(k):
    model = CAKE(embedding_dim=k, normalize=True, **SMALL)
    assert torch.allclose(model.embed(faces(model)).norm(dim=1), torch.ones(6), atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.permutations(range(6)))
def test_faces_do_not_see_each_other(seed, order):
    torch.manual_seed(seed)
    model = AVK(extra_dims=2, **SMALL).eval()
    maps = torch.randn(6, 320, 1, 1)
    whole, moved = model.from_features(maps), model.from_features(maps[list(order)])
    assert torch.allclose(whole.embedding[list(order)], moved.embedding, atol=1e-6)
    assert torch.allclose(whole.logits[:, list(order)], moved.logits, atol=1e-6)


def test_index_neighbours_and_albums_take_the_vectors_as_they_are():
    model = CAKE(embedding_dim=3, **SMALL)
    vectors = model.embed(faces(model)).numpy()
    index = ExpressionIndex(dim=model.embedding_dim, metric=model.metric)
    index.add(vectors, ids=[str(i) for i in range(6)])
    assert [row[0] for row in index.search(vectors, 2).ids] == [str(i) for i in range(6)]
    assert len(KNNClassifier(2).fit(vectors, list("aabbcc")).predict(vectors)) == 6
    assert len(summarize_album(vectors, n_clusters=2).representatives) == 2


def test_classify_reads_the_classifier_of_the_domain():
    model = CAKE(**SMALL).eval()
    vectors = model.embed(faces(model)).numpy()
    logits = model.logits(torch.tensor(vectors)).detach()
    for j, domain in enumerate(model.domains):
        named = [model.classes[i] for i in logits[j].argmax(1)]
        assert model.classify(vectors, domain).tolist() == named
        assert set(named) <= set(model.domains[domain])
    with torch.no_grad():
        model.classifiers.bias[7] = 1e9  # contempt by FER+; RAF-DB knows none, whatever stands in its row
        model.classifiers.bias[15] = 1e9
    assert set(model.classify(vectors, "ferplus")) == {"contempt"}
    assert "contempt" not in model.classify(vectors, "rafdb")
    assert model.classify(np.empty((0, 3)), "rafdb").shape == (0,)
    with pytest.raises(WrongUseError, match="did you mean 'rafdb'"):
        model.classify(vectors, "raf")
    with pytest.raises(BadInputError, match=r"\(n, 3\)"):
        model.classify(vectors[:, :2], "rafdb")


def test_saved_and_loaded(tmp_path):
    for model in (CAKE(normalize=True, **SMALL), AVK(extra_dims=0, **SMALL), AVK(extra_dims=3, **SMALL)):
        again = load_model(model.save(tmp_path / type(model).__name__))
        assert again.fingerprint == model.fingerprint
        assert again.domains == model.domains
        assert torch.equal(again.embed(faces(again)), model.embed(faces(model)))


def test_what_is_frozen_does_not_move():
    model = AVK(extra_dims=1, **SMALL).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    output = model(faces(model))
    (output.logits[1, :, 0].sum() + output.valence_arousal.sum()).backward()
    optimizer.step()
    moved = {
        name.partition(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"projection", "classifiers"}
    # Dropout does not reach arousal and valence either.
    assert torch.equal(output.valence_arousal, model.train()(faces(model)).valence_arousal)


def test_the_second_stage_starts_from_the_first(tmp_path):
    first = AVK(extra_dims=0, freeze_backbone=False, freeze_regressor=False, **SMALL)
    path = first.save(tmp_path / "first")
    second = AVK(extra_dims=2, **SMALL)
    names = load_matching(second, path)
    assert {name.partition(".")[0] for name in names} == {"backbone", "regressor"}
    felt = [model.eval()(faces(model)).valence_arousal for model in (first, second)]
    assert torch.equal(*felt)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"dropout": 1.0}, "dropout"),
        ({"backbone": "resnet19"}, "did you mean 'resnet18'"),
        ({"domains": {}}, "mapping"),
        ({"domains": ["rafdb"]}, "mapping"),
        ({"domains": {"rafdb": 6}}, "list the names of 6"),
        ({"domains": {"rafdb": "happy"}}, "at least two different classes"),
        ({"domains": {"rafdb": ["joy"]}}, "at least two different classes"),
        ({"domains": {"rafdb": ["joy", "joy"]}}, "at least two different classes"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(WrongUseError, match=message):
        CAKE(**SMALL | options)


def test_bad_arguments_of_avk():
    with pytest.raises(WrongUseError, match="extra_dims"):
        AVK(extra_dims=-1, **SMALL)
    with pytest.raises(WrongUseError, match="frozen backbone"):
        AVK(freeze_backbone=False, **SMALL)


def test_docstring_examples():
    assert doctest.testmod(cake).failed == 0
