"""Exported models: the numbers of torch, one file that needs no other, and an error for every other file."""

import copy
import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from exprembed.data import GrayCLAHE, Preprocessing, render_faces
from exprembed.errors import BadInputError, MissingExtraError, WrongUseError
from exprembed.index import ExpressionIndex
from exprembed.models import (
    Embedder,
    EmbedderOutput,
    FECNet,
    OnnxEmbedder,
    create_model,
    export_onnx,
    load_model,
    weights_card,
)
from exprembed.models import onnx as module
from exprembed.models.embedding import embed_pixels
from exprembed.models.storage import example_difference

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


class Colour(Embedder):
    """A toy in colour with long vectors, which unpools its maps by their indices as GCNet's generator does."""

    metric = "cosine"

    def __init__(self):
        plan = Preprocessing(
            size=16, value_range=(-1.0, 1.0), mean=(0.0, 0.1, 0.2), std=(1.0, 0.5, 0.9), alignment=None
        )
        super().__init__({}, plan, 3)
        self.inner = nn.Conv2d(3, 4, 3, padding=1)
        self.outer = nn.Linear(4 * 16 * 16, 3)

    def features(self, images):
        maps, places = nn.functional.max_pool2d(self.inner(images).relu(), 2, return_indices=True)
        return nn.functional.max_unpool2d(maps, places, 2)

    def from_features(self, maps):
        return EmbedderOutput(300 * self.outer(maps.flatten(1)))


class Fickle(Colour):
    """Cannot be exported: its way depends on the numbers."""

    def from_features(self, maps):
        return super().from_features(maps if float(maps.sum()) > 0 else -maps)


def make(name):
    torch.manual_seed(0)
    if name == "colour":
        return Colour()
    model = FECNet(backbone="resnet10_grey48", dense_channels=0, hidden=16, embedding_dim=4, mirror=name == "mirror")
    if name == "clahe":
        model.preprocessing = Preprocessing(48, 1, mean=(0.5,), std=(0.25,), clahe=GrayCLAHE())
    return model


CARD = {"licence": "MIT", "intended_use": "tests – and no more", "recipe": "not stated in the file"}


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Export a model by name, once."""

    @functools.cache
    def once(name):
        model, path = make(name), tmp_path_factory.mktemp("onnx") / f"{name}.onnx"
        assert 0 <= export_onnx(model, path, CARD) <= 1e-4
        assert model.training  # its mode is not touched
        return model, path

    return once


@pytest.fixture(params=["mirror", "clahe", "colour"])
def pair(request, export):
    return export(request.param)


@pytest.fixture
def exported(export):
    return export("mirror")[1]


@pytest.fixture(scope="module")
def faces():
    return render_faces(7, 3, seed=5, size=60)[0]


def scale(vectors):
    return max(1.0, float(np.abs(vectors).max()))


DOMAINS = {"one": ("joy", "fear", "calm"), "other": ("joy", "fear")}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cake", {"backbone": "vgg8_grey48", "domains": DOMAINS, "normalize": True}),
        ("emotion_gcn", {"backbone": "vgg8_grey48"}),
        ("gcnet", {"backbone": "gcnet_cnn_small"}),
    ],
)
def test_every_family_is_exported(name, options, tmp_path):
    torch.manual_seed(0)
    assert export_onnx(create_model(name, **options), tmp_path / "model.onnx", CARD) <= 1e-4
    assert load_model(tmp_path / "model.onnx").embedding_dim == create_model(name, **options).embedding_dim


def test_it_gives_torch_s_vectors(pair, faces, tmp_path):
    model, path = pair
    loaded = load_model(path)
    assert isinstance(loaded, OnnxEmbedder)
    expected = model.embed(model.preprocess(list(faces)))
    ours = loaded.embed(loaded.preprocess(list(faces)), batch_size=3)
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours, expected, atol=1e-4 * scale(expected.numpy()))
    Image.fromarray(faces[0]).save(tmp_path / "face.png")
    for form in (tmp_path / "face.png", Image.fromarray(faces[0]), faces[0]):
        assert torch.equal(loaded.preprocess(form), loaded.preprocess(list(faces))[:1])
    pixels = model.preprocessing.pixels(list(faces))
    np.testing.assert_allclose(
        embed_pixels(loaded, pixels), embed_pixels(model, pixels), atol=1e-4 * scale(expected.numpy())
    )
    assert loaded.embed(loaded.preprocess(list(faces))[:0]).shape == (0, model.embedding_dim)
    assert torch.equal(loaded(loaded.preprocess(faces[0])).embedding, loaded.embed(loaded.preprocess(faces[0])))


def test_it_says_what_the_model_said(pair):
    model, path = pair
    loaded = load_model(path)
    assert loaded.fingerprint == model.fingerprint
    assert loaded.preprocessing == model.preprocessing
    assert (loaded.embedding_dim, loaded.metric) == (model.embedding_dim, model.metric)
    assert (loaded.classes, loaded.config) == (model.classes, model.config)
    card = weights_card(path)
    assert (card["licence"], card["intended_use"]) == (CARD["licence"], CARD["intended_use"])
    assert card["training_data"] == "not stated"
    assert "recipe" not in card
    assert example_difference(model.eval(), card) < 1e-4 * scale(np.array(card["example"]["embedding"]))


def test_the_file_alone_is_enough(pair, faces):
    """What a deployment does, which has onnxruntime and RGB crops, and nothing of ours."""
    model, path = pair
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    side = model.preprocessing.size
    assert (given.name, given.type, given.shape[1:]) == ("faces", "tensor(uint8)", [side, side, 3])
    assert (returned.name, returned.shape[1]) == ("embeddings", model.embedding_dim)
    crops = np.stack([np.asarray(Image.fromarray(face).resize((side, side))) for face in faces])
    expected = model.embed(model.preprocess(list(crops))).numpy()
    for n in (1, 2, 7):
        (vectors,) = session.run(None, {"faces": crops[:n]})
        np.testing.assert_allclose(vectors, expected[:n], atol=1e-4 * scale(expected))
    said = json.loads(session.get_modelmeta().custom_metadata_map["exprembed"])
    assert Preprocessing.from_dict(said["preprocessing"]) == model.preprocessing
    assert said["fingerprint"] == model.fingerprint
    onnx.checker.check_model(onnx.load(path))


def test_the_file_tells_nothing_of_the_machine_that_wrote_it(pair):
    content = pair[1].read_bytes()
    for trace in (b"site-packages", str(Path(module.__file__).parents[2]).encode(), b"stack_trace"):
        assert trace not in content


def test_luma_is_pillow_s():
    rgb = np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)
    rgb[:16, :16] = np.arange(256).reshape(16, 16, 1)  # grey stays what it is
    ours = module.luma(torch.from_numpy(rgb).permute(2, 0, 1)[None])[0, 0].numpy()
    assert np.array_equal(ours, np.asarray(Image.fromarray(rgb).convert("L")))
    assert np.array_equal(ours[:16, :16].flatten(), np.arange(256))


def test_an_index_takes_both(exported, faces, tmp_path):
    model, loaded = make("mirror"), load_model(exported)  # two objects, one fingerprint
    index = ExpressionIndex(4, model=model)
    index.add(model.embed(model.preprocess(list(faces))), ids=list("abcdefg"))
    index.save(tmp_path / "index")
    held = ExpressionIndex.load(tmp_path / "index", model=loaded)
    assert held.search(loaded.embed(loaded.preprocess(list(faces))), 1).ids[:, 0].tolist() == list("abcdefg")


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 1, 48, 48),
        torch.zeros(2, 48, 48, 3),
        torch.zeros(48, 48, 3, dtype=torch.uint8),
        torch.zeros(2, 3, 48, 48, dtype=torch.uint8),
        np.zeros((2, 48, 48, 3), np.uint8),
        "face.png",
    ],
)
def test_anything_but_preprocessed_crops_is_refused(exported, images):
    with pytest.raises(BadInputError, match=r"where \(N, 48, 48, 3\) uint8 RGB is due"):
        load_model(exported).embed(images)


def test_it_embeds_and_does_nothing_else(exported, tmp_path):
    loaded = load_model(exported)
    for use in (
        lambda: loaded.features(loaded.preprocess(np.zeros((9, 9), np.uint8))),
        lambda: loaded.save(tmp_path / "copy"),
        lambda: export_onnx(loaded, tmp_path / "copy.onnx"),
        lambda: load_model(exported, device="cuda"),
        lambda: export_onnx(make("mirror"), tmp_path / "model.pt"),
    ):
        with pytest.raises(WrongUseError):
            use()
    assert not list(tmp_path.iterdir())


def test_threads_are_those_asked_for(exported):
    assert OnnxEmbedder(exported, threads=3)._session.get_session_options().intra_op_num_threads == 3
    ours = load_model(exported)._session.get_session_options().intra_op_num_threads
    assert ours == torch.get_num_threads()


def test_a_copy_is_a_session_of_its_own(exported, faces):
    loaded = load_model(exported)
    twin = copy.deepcopy(loaded)
    assert twin._session is not loaded._session
    images = loaded.preprocess(list(faces))
    assert torch.equal(twin.embed(images), loaded.embed(images))


@pytest.mark.parametrize("difference", [2e-4, float("nan")])
def test_a_file_that_differs_is_not_written(exported, tmp_path, monkeypatch, difference):
    graph = onnx.load(exported)
    monkeypatch.setattr(module, "_graph", lambda model: graph)
    monkeypatch.setattr(module, "_difference", lambda *models: difference)
    path = tmp_path / "model.onnx"
    path.write_text("what was there before")
    with pytest.raises(BadInputError, match="differs from torch by"):
        export_onnx(make("mirror"), path)
    assert path.read_text() == "what was there before"
    assert [item.name for item in tmp_path.iterdir()] == ["model.onnx"]


def test_the_check_sees_other_weights(exported, tmp_path, monkeypatch):
    graph = onnx.load(exported)
    monkeypatch.setattr(module, "_graph", lambda model: graph)
    other = make("mirror")
    with torch.no_grad():
        other.embedding.linear.bias += 0.01
    with pytest.raises(BadInputError, match="differs from torch by"):
        export_onnx(other, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_what_torch_cannot_export(tmp_path):
    with pytest.raises(BadInputError, match="torch cannot export Fickle to ONNX: "):
        export_onnx(Fickle(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def damaged_weights(proto):
    largest = max(proto.graph.initializer, key=lambda one: len(one.raw_data))
    largest.raw_data = (np.frombuffer(largest.raw_data, np.float32) * 1.01 + 0.01).astype(np.float32).tobytes()


def foreign(proto):
    del proto.metadata_props[:]


def other_format(proto):
    onnx.helper.set_model_props(proto, {"exprembed": json.dumps({"format": 99})})


def no_json(proto):
    onnx.helper.set_model_props(proto, {"exprembed": "{"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damaged_weights, "the file is damaged"),
        (foreign, "of another origin"),
        (other_format, "not those of format 1"),
        (no_json, "metadata of .* cannot be read"),
    ],
)
def test_other_files_are_refused(exported, tmp_path, change, message):
    proto = onnx.load(exported)
    change(proto)
    onnx.save(proto, tmp_path / "other.onnx")
    with pytest.raises(BadInputError, match=message):
        load_model(tmp_path / "other.onnx")


def test_no_file_and_no_onnx(tmp_path):
    with pytest.raises(BadInputError, match="no weights file"):
        load_model(tmp_path / "absent.onnx")
    with pytest.raises(BadInputError, match="no ONNX file"):
        OnnxEmbedder(tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(BadInputError, match=r"text\.onnx cannot be read as an ONNX model"):
        load_model(tmp_path / "text.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_packages_say_what_to_install(exported, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"'{package}'.*exprembed\[onnx\]"):
        export_onnx(make("mirror"), tmp_path / "model.onnx")
    if package == "onnxruntime":
        with pytest.raises(MissingExtraError, match=r"exprembed\[onnx\]"):
            load_model(exported)
    else:  # running takes onnxruntime alone
        assert load_model(exported).embedding_dim == 4


def test_nothing_loads_onnx_before_it_is_asked_for():
    code = (
        "import sys; from exprembed import list_models; list_models();"
        "sys.exit(str({'onnx', 'onnxruntime', 'onnxscript'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
