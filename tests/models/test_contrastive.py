"""The delta of any embedder against any reference."""

import numpy as np
import pytest
import torch
from PIL import Image

from exprembed import ContrastiveEmbedder, FECNet, GCNet
from exprembed.errors import BadInputError, WrongUseError
from exprembed.models.gcnet import contrastive_delta


@pytest.fixture(scope="module")
def fecnet():
    torch.manual_seed(0)
    return FECNet(backbone="resnet10_grey48", dense_channels=0, hidden=16, embedding_dim=6)


@pytest.fixture(scope="module")
def gcnet():
    torch.manual_seed(1)
    return GCNet(backbone="gcnet_cnn_small")


def pictures(n=5, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (n, 50, 50), np.uint8))


def test_generated_of_gcnet_is_its_own_embedding(gcnet):
    images = gcnet.preprocess(pictures())
    model = ContrastiveEmbedder(gcnet)
    assert torch.allclose(model.embed(images), gcnet.embed(images), atol=1e-6)
    assert torch.equal(model.reference(images), gcnet.reference(images))
    assert model.embedding_dim == gcnet.embedding_dim
    bright = GCNet(backbone="gcnet_cnn_small").train(False)
    bright.generator.decoder.last.running_mean.fill_(-9)  # G(X) may leave [0, 1], where ReLU alone ends the decoder
    assert float(bright.reference(images).max()) > 1.2
    assert torch.equal(ContrastiveEmbedder(bright).embed(images), bright.embed(images))
    assert model.fingerprint != gcnet.fingerprint


def test_generated_for_another_model(fecnet, gcnet):
    """The face goes to the generator at its size and range, and what it makes comes back at the base's."""
    images = fecnet.preprocess(pictures())
    model = ContrastiveEmbedder(fecnet, generator=gcnet)
    reference = model.reference(images)
    fecnet.preprocessing.check(reference)
    assert torch.allclose(
        model.embed(images), contrastive_delta(fecnet.embed(images), fecnet.embed(reference)), atol=1e-6
    )
    colour = FECNet(backbone="mobilenet_v3_small", image_size=40, dense_channels=0, hidden=8)
    assert ContrastiveEmbedder(colour, generator=gcnet).embed(colour.preprocess(pictures(2))).shape == (2, 16)
    with pytest.raises(WrongUseError, match="pass generator="):
        ContrastiveEmbedder(fecnet)


def test_a_face_as_reference(fecnet, tmp_path):
    faces = pictures()
    Image.fromarray(faces[0]).save(tmp_path / "rest.png")
    images = fecnet.preprocess(faces)
    vectors = fecnet.embed(images)
    for face in (faces[0], Image.fromarray(faces[0]), tmp_path / "rest.png", str(tmp_path / "rest.png")):
        model = ContrastiveEmbedder(fecnet, face)
        assert torch.allclose(
            model.embed(images), contrastive_delta(vectors, vectors[:1].expand_as(vectors)), atol=1e-6
        )
    assert float(model.distance(images)[0]) == pytest.approx(0, abs=1e-6)
    assert bool((model.distance(images)[1:] > 0).all())
    with pytest.raises(BadInputError, match="one reference face is due; got 2"):
        ContrastiveEmbedder(fecnet, faces[:2])
    with pytest.raises(BadInputError):
        ContrastiveEmbedder(fecnet, str(tmp_path / "absent.png"))


def test_the_mean_of_each_person(fecnet):
    images = fecnet.preprocess(pictures(6))
    model = ContrastiveEmbedder(fecnet, "subject_mean")
    units = torch.nn.functional.normalize(fecnet.embed(images), dim=1)
    means = {who: units[rows].mean(0) for who, rows in (("a", [0, 2, 3]), ("b", [1, 5]), ("c", [4]))}
    who = ["a", "b", "a", "a", "c", "b"]
    expected = contrastive_delta(units, torch.stack([means[name] for name in who]))
    deltas = model.embed(images, subjects=who)
    assert torch.allclose(deltas, expected, atol=1e-6)
    assert torch.allclose(model.embed(images, batch_size=2, subjects=who), deltas, atol=1e-6)
    assert float(deltas[4].norm()) == pytest.approx(0, abs=1e-6)  # alone: its own mean
    order = [5, 0, 3, 1, 4, 2]
    assert torch.allclose(model.embed(images[order], subjects=[who[i] for i in order]), deltas[order], atol=1e-6)
    assert model.embed(images[:0], subjects=[]).shape == (0, 6)
    with pytest.raises(WrongUseError, match="who is who"):
        model(images)
    with pytest.raises(WrongUseError, match="subjects go with"):
        model.embed(images)
    for wrong in (["a"] * 5, [None] * 6):
        with pytest.raises(BadInputError, match="one subject a face"):
            model.embed(images, subjects=wrong)


def test_wrong_use(fecnet, gcnet, tmp_path):
    with pytest.raises(WrongUseError, match="did you mean 'subject_mean'"):
        ContrastiveEmbedder(fecnet, "subject")
    with pytest.raises(WrongUseError, match="subjects go with"):
        ContrastiveEmbedder(gcnet).embed(gcnet.preprocess(pictures()), subjects=["a"] * 5)
    with pytest.raises(WrongUseError, match="no reference face is generated"):
        ContrastiveEmbedder(fecnet, "subject_mean").reference(fecnet.preprocess(pictures()))
    with pytest.raises(WrongUseError, match="save its base"):
        ContrastiveEmbedder(gcnet).save(tmp_path / "x")


def test_examples_run():
    import doctest

    from exprembed.models import contrastive, gcnet

    for module in (contrastive, gcnet):
        found = doctest.testmod(module)
        assert found.attempted > 0
        assert found.failed == 0


def test_the_method_page_runs():
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs/methods/gcnet.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    exec(compile(code, "gcnet.md", "exec"), {})  # noqa: S102 - our own page
