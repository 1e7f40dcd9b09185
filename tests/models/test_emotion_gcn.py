"""Emotion-GCN as an embedder: the thesis's sizes, one image and many, what evaluation keeps, files, bad arguments."""

import copy
import doctest
import json
import struct

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed import EmotionGCN, ExpressionIndex, KNNClassifier, load_model, summarize_album
from exprembed.data import FaceTable, word_vectors
from exprembed.data.synthetic import render_faces
from exprembed.data.tables import EXPRESSIONS
from exprembed.data.word_vectors import read_word_vectors
from exprembed.errors import BadInputError, WrongUseError
from exprembed.models import emotion_gcn, emotion_graph
from exprembed.models.emotion_gcn import (
    SEVEN,
    conditional_probabilities,
    correlation_adjacency,
    emotion_adjacency,
    facs_vectors,
)

SMALL = {"backbone": "resnet10_grey48"}
GREY = np.random.default_rng(0).integers(0, 256, (6, 48, 48), np.uint8)
WORDS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "valence", "arousal")


def faces(model, pictures=GREY):
    return model.preprocess(list(pictures))


@pytest.fixture(scope="module")
def rendered():
    return render_faces(120, 10, 3, size=48)[1]


def test_the_thesis_network(tmp_path):
    """1024 numbers of DenseNet-121 at 227 pixels; words of 300 numbers -> 512 -> 1024; nine rows."""
    file = tmp_path / "glove.txt"
    rng = np.random.default_rng(0)
    file.write_text("\n".join(f"{word} " + " ".join(f"{n:.4f}" for n in rng.normal(size=300)) for word in WORDS))
    model = EmotionGCN(word_vectors=file, image_size=227).eval()
    assert [tuple(layer.weight.shape) for layer in model.graph.layers] == [(512, 300), (1024, 512)]
    assert all(layer.bias is None for layer in model.graph.layers)
    images = model.preprocess(rng.integers(0, 256, (227, 227, 3), np.uint8))
    with torch.no_grad():
        maps = model.backbone(images)
        assert maps.shape == (1, 1024, 7, 7)
        output = model(images)
        assert torch.equal(output.embedding, maps.flatten(2).max(dim=2).values)
        assert model.graph.weights().shape == (9, 1024)
    assert output.logits.shape == (1, 7)
    assert output.valence_arousal.shape == (1, 2)
    assert model.embedding_dim == 1024
    assert model.classes == SEVEN


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_one_image_is_the_same_in_a_batch(layers):
    torch.manual_seed(layers)
    model = EmotionGCN(layers=layers, **SMALL).eval()
    with torch.no_grad():
        many = model(faces(model))
        for i, picture in enumerate(GREY):
            one = model(faces(model, [picture]))
            for name in ("embedding", "logits", "valence_arousal"):
                assert torch.allclose(getattr(one, name)[0], getattr(many, name)[i], atol=1e-5, rtol=1e-5)
    assert model.embed(faces(model)[:0]).shape == (0, 320)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.permutations(range(6)))
def test_faces_do_not_see_each_other(seed, order):
    torch.manual_seed(seed)
    model = EmotionGCN(**SMALL)
    maps = torch.randn(6, 320, 1, 1)
    whole, moved = model.from_features(maps), model.from_features(maps[list(order)])
    assert torch.allclose(whole.logits[list(order)], moved.logits, atol=1e-5)
    assert torch.allclose(whole.valence_arousal[list(order)], moved.valence_arousal, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.permutations(range(7)))
def test_the_order_of_the_classes_means_nothing(seed, order):
    names = [SEVEN[i] for i in order]
    table = np.random.default_rng(seed).uniform(-1, 1, (7, 2))
    models = []
    for own, rows in ((SEVEN, table), (names, table[list(order)])):
        torch.manual_seed(seed)
        models.append(EmotionGCN(classes=own, adjacency=correlation_adjacency(rows, 0.3), **SMALL))
    maps = torch.randn(3, 320, 1, 1)
    first, second = (model.from_features(maps) for model in models)
    assert torch.allclose(first.logits[:, list(order)], second.logits, atol=1e-4)
    assert torch.allclose(first.valence_arousal, second.valence_arousal, atol=1e-4)


def count_passes(model):
    passes = []
    model.graph.register_forward_hook(lambda *_: passes.append(1))
    return passes


def test_evaluation_computes_the_weights_once():
    model = EmotionGCN(**SMALL).eval()
    passes = count_passes(model)
    images = faces(model)
    first = model.embed(images, batch_size=2)
    with torch.no_grad():
        scores = model(images).logits
    model.embed(images[:1])
    with torch.inference_mode():
        assert torch.allclose(model.logits(first), scores, atol=1e-6)
    assert len(passes) == 1
    copied = copy.deepcopy(model)
    with torch.no_grad():
        assert torch.equal(copied(images).logits, scores)


def test_training_loading_and_moving_compute_them_anew():
    model, other = EmotionGCN(**SMALL).eval(), EmotionGCN(**SMALL).eval()
    images = faces(model)

    def scores(one):
        with torch.no_grad():
            return one(images).logits

    fresh = scores(other)
    assert not torch.allclose(scores(model), fresh, atol=1e-3)
    model.load_state_dict(other.state_dict())
    assert torch.allclose(scores(model), fresh)
    passes = count_passes(model)
    model.train()
    with torch.no_grad():
        for layer in model.graph.layers:
            layer.weight.mul_(2)
    assert torch.allclose(scores(model.eval()), 4 * fresh, rtol=1e-4, atol=1e-4)
    assert len(passes) == 1
    assert model.double().graph.weights().dtype == torch.float64
    model.float().to("cpu")
    assert scores(model).dtype == torch.float32


def test_steps_in_evaluation_mode_are_not_missed():
    """Batch norms are often held still while a network is tuned: gradients flow, and nothing old is used after."""
    model = EmotionGCN(**SMALL).eval()
    images = faces(model)
    with torch.no_grad():
        before = model(images).valence_arousal
    optimizer = torch.optim.SGD(model.graph.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        model(images).valence_arousal.square().sum().backward()
        optimizer.step()
    with torch.no_grad():
        after = model(images).valence_arousal
    assert not torch.equal(before, after)
    assert torch.allclose(after, model(images).valence_arousal)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same():
    model = EmotionGCN(**SMALL)
    images = faces(model)
    here = model.embed(images)
    with torch.no_grad():
        scores = model.logits(here)
        model.cuda()
        there = model.embed(images.cuda())
        assert torch.allclose(there.cpu(), here, atol=1e-2)
        assert torch.allclose(model.logits(here.cuda()).cpu(), scores, atol=1e-2)


def test_mixed_precision_keeps_full_numbers():
    model = EmotionGCN(**SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(faces(model))
    assert output.embedding.dtype == output.logits.dtype == output.valence_arousal.dtype == torch.float32
    assert torch.isfinite(output.logits).all()


def test_saved_and_loaded(tmp_path, rendered):
    file = tmp_path / "words.txt"
    file.write_text("\n".join(f"{word} {i} {i * i} 0.25" for i, word in enumerate(WORDS)))
    variants = [
        EmotionGCN(**SMALL),
        EmotionGCN(word_vectors=str(file), layers=3, hidden=16, **SMALL),
        EmotionGCN(adjacency=emotion_adjacency(rendered), freeze_backbone=True, **SMALL),
    ]
    file.unlink()
    for model in variants:
        path = model.save(tmp_path / "model")
        assert str(tmp_path) not in path.with_suffix(".json").read_text()
        again = load_model(path)
        assert again.fingerprint == model.fingerprint
        assert torch.equal(again.embed(faces(again)), model.embed(faces(model)))
        with torch.no_grad():
            assert torch.equal(again(faces(again)).logits, model.eval()(faces(model)).logits)
        assert again.frozen == model.frozen
    assert json.loads(path.with_suffix(".json").read_text())["classes"] == list(SEVEN)


def test_a_frozen_backbone_does_not_move():
    model = EmotionGCN(freeze_backbone=True, **SMALL).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    output = model(faces(model))
    (output.logits[:, 0].sum() + output.valence_arousal.sum()).backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"graph.layers.0.weight", "graph.layers.1.weight"}


def test_every_class_feels_every_other_through_the_graph():
    """A step for one class moves the scores of all: they share the layers, and the graph mixes their nodes."""
    model = EmotionGCN(**SMALL)
    images = faces(model)
    before = model(images).logits.detach()
    model(images).logits[:, 1].sum().backward()
    with torch.no_grad():
        for layer in model.graph.layers:
            layer.weight -= 0.1 * layer.weight.grad
    after = model.graph()
    assert (after @ model(images).embedding.T).T[:, :7].sub(before).abs().amax(dim=0).min() > 1e-4


def test_without_edges_words_and_depth_it_is_the_plain_multi_task_network():
    """W is the one layer's weight: nine vectors that nothing ties to each other."""
    model = EmotionGCN(word_vectors=np.eye(9), adjacency=np.eye(9), layers=1, **SMALL)
    assert torch.equal(model.graph.weights(), model.graph.layers[0].weight.T)


def test_index_neighbours_and_albums_take_the_vectors_as_they_are():
    model = EmotionGCN(**SMALL)
    vectors = model.embed(faces(model)).numpy()
    index = ExpressionIndex(dim=model.embedding_dim, metric=model.metric)
    index.add(vectors, ids=[str(i) for i in range(6)])
    assert [row[0] for row in index.search(vectors, 2).ids] == [str(i) for i in range(6)]
    assert len(KNNClassifier(2).fit(vectors, list("aabbcc")).predict(vectors)) == 6
    assert len(summarize_album(vectors, n_clusters=2).representatives) == 2


def test_eight_classes_and_ones_own(rendered):
    adjacency = emotion_adjacency(rendered, classes=EXPRESSIONS)
    model = EmotionGCN(classes=EXPRESSIONS, adjacency=adjacency, **SMALL)
    assert model(faces(model)).logits.shape == (6, 8)
    with pytest.raises(WrongUseError, match="no default adjacency for contempt"):
        EmotionGCN(classes=EXPRESSIONS, **SMALL)
    own = EmotionGCN(classes=["calm", "tense"], word_vectors=np.eye(4), adjacency=np.eye(4), **SMALL)
    assert own(faces(own)).logits.shape == (6, 2)


@pytest.mark.parametrize("backbone", ["vgg8_grey48", "mobilenet_v3_small", "resnet18"])
def test_any_backbone(backbone):
    model = EmotionGCN(backbone=backbone)
    output = model.eval()(faces(model, GREY[:1]))
    assert output.embedding.shape == (1, model.backbone.out_channels)
    assert output.logits.shape == (1, 7)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backbone": "densenet12"}, WrongUseError, "did you mean 'densenet121'"),
        ({"tau": 1.5}, WrongUseError, "tau must be in"),
        ({"tau": float("nan")}, WrongUseError, "tau must be in"),
        ({"p": 1.0}, WrongUseError, "p in"),
        ({"p": -0.1}, WrongUseError, "p in"),
        ({"layers": 0}, WrongUseError, "layers"),
        ({"hidden": 2.5}, WrongUseError, "hidden"),
        ({"classes": ["joy"]}, WrongUseError, "at least two different classes"),
        ({"classes": "happiness"}, WrongUseError, "at least two different classes"),
        ({"classes": ["joy", "anger"]}, WrongUseError, "unknown class 'joy'.*pass word_vectors"),
        ({"adjacency": np.eye(8)}, BadInputError, r"adjacency: \(9, 9\).*got \(8, 8\)"),
        ({"adjacency": np.full((9, 9), np.nan)}, BadInputError, "NaN"),
        ({"adjacency": "affectnet"}, BadInputError, "adjacency"),
        ({"word_vectors": np.eye(8)}, BadInputError, r"word_vectors: \(9, d\).*got \(8, 8\)"),
        ({"word_vectors": np.empty((9, 0))}, BadInputError, r"got \(9, 0\)"),
        ({"word_vectors": [[1.0], [1.0, 2.0]]}, BadInputError, "word_vectors"),
        ({"word_vectors": "nowhere.txt"}, BadInputError, "no file of word vectors nowhere.txt"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        EmotionGCN(**SMALL | options)


@pytest.mark.parametrize(
    ("table", "message"),
    [([[0.5, 1.1]], r"\[-1, 1\]"), ([[0.5, np.nan]], r"\[-1, 1\]"), ([0.5, 0.1], r"\(2,\)"), (np.empty((0, 2)), "due")],
)
def test_bad_correlations(table, message):
    with pytest.raises(BadInputError, match=message):
        correlation_adjacency(table)


@pytest.mark.parametrize("table", [np.eye(3), np.full((2, 2), 1.1), np.full((2, 2), np.nan), [0.5, 0.5]])
def test_bad_conditionals(table):
    with pytest.raises(BadInputError, match=r"conditionals \(2, 2\) in \[0, 1\]"):
        correlation_adjacency([[0.5, 0.1], [0.2, 0.3]], conditionals=table)


@pytest.mark.parametrize("table", [[0.5, 0.5], np.empty((0, 3)), [[1.0, -0.1]], [[np.nan, 0.1]]])
def test_bad_shares(table):
    with pytest.raises(BadInputError, match=r"shares \(N, C\)"):
        conditional_probabilities(table)


def test_bad_faces(rendered):
    table = pd.DataFrame(rendered)
    with pytest.raises(BadInputError, match="needs the faces' arousal"):
        emotion_adjacency(FaceTable(table.drop(columns="arousal")))
    with pytest.raises(BadInputError, match="is of the class fear"):
        emotion_adjacency(FaceTable(table[table["expression"] != "fear"]))
    with pytest.raises(BadInputError, match="valence is the same"):
        emotion_adjacency(FaceTable(table.assign(valence=0.0)))
    with pytest.raises(WrongUseError, match="two different"):
        emotion_adjacency(rendered, classes=["fear", "fear"])
    unlabelled = table.assign(valence=table["valence"].where(table["split"] == "train"))
    expected = emotion_adjacency(FaceTable(table[table["split"] == "train"]))
    assert np.array_equal(emotion_adjacency(FaceTable(unlabelled)), expected)


VECTORS = np.random.default_rng(1).normal(size=(9, 5)).astype(np.float32)


def write(path, kind):
    """The nine words among others: GloVe's text, word2vec's text, word2vec's binary with and without line breaks."""
    entries = [("the", np.ones(5)), *zip(WORDS, VECTORS, strict=True), ("happy", np.zeros(5)), ("of", np.zeros(5))]
    header = f"{len(entries)} 5\n"
    if kind.startswith("binary"):
        end = b"\n" if kind == "binary, lines" else b""
        body = b"".join(word.encode() + b" " + struct.pack("<5f", *vector) + end for word, vector in entries)
        path.write_bytes(header.encode() + body)
    else:
        lines = [word + " " + " ".join(repr(float(n)) for n in vector) for word, vector in entries]
        path.write_text((header if kind == "word2vec" else "") + "\n".join(lines) + "\n")


@pytest.mark.parametrize("kind", ["glove", "word2vec", "binary", "binary, lines"])
def test_word_vectors_of_each_kind(tmp_path, kind):
    path = tmp_path / ("vectors.bin" if kind.startswith("binary") else "vectors.txt")
    write(path, kind)
    assert np.array_equal(read_word_vectors(path, WORDS), VECTORS)
    model = EmotionGCN(word_vectors=path, **SMALL)
    assert np.allclose(model.graph.nodes.numpy(), VECTORS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "no vector for happy, sad"),
        ("a.txt", b"happy 1 2\n", "no vector for sad"),
        ("a.txt", b"happy 1 2\nsad 1\n", "different or no width"),
        ("a.txt", b"happy\nsad 1\n", "no vector for happy"),
        ("a.txt", b"happy 1 2\nsad 1 two\n", "line 2: 'sad' has no row of numbers"),
        ("a.txt", b"happy 1 2\nsad 1 nan\n", "'sad' holds a number that is not finite"),
        ("a.txt", b"\x1f\x8b\x08\x00packed", "no vector for happy, sad"),
        ("a.bin", b"", "is empty"),
        ("a.bin", b"happy 1 2\n", "does not begin with 'words width'"),
        ("a.bin", b"2 2\nhappy \x00\x00\x00\x00\x00\x00\x00\x00sad \x00", "cut off"),
        ("a.bin", b"1 2\nhappy \x00\x00\x00\x00\x00\x00\x00\x00", "no vector for sad"),
        ("a.bin", b"2 0\nhappy sad ", "cut off"),
    ],
)
def test_bad_word_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        read_word_vectors(tmp_path / name, ["happy", "sad"])


def test_built_in_vectors_refuse_unknown_classes():
    with pytest.raises(WrongUseError, match="did you mean 'fear'"):
        facs_vectors(["fears", "anger"])


def test_docstring_examples():
    for module in (emotion_gcn, emotion_graph, word_vectors):
        assert doctest.testmod(module).failed == 0
