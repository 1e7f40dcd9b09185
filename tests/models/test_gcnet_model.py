"""GCNet: sizes counted from its table, shapes of any side, generators, baselines, any backbone, saving and exporting."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed import GCNet, create_model, load_model
from exprembed.errors import BadInputError, WrongUseError
from exprembed.losses import GCNetLoss
from exprembed.models import create_backbone, export_onnx
from exprembed.models.gcnet import CLASSES, BaselineCNN, GCNetPretraining, MetricCNN
from exprembed.models.generators import GENERATORS, ConvEncoder, UnpoolDecoder, UpsamplingDecoder
from exprembed.models.storage import load_matching

SMALL = {"backbone": "gcnet_cnn_small"}


def count(module):
    return sum(p.numel() for p in module.parameters())


def faces(model, n=3, seed=0):
    return model.preprocess(list(np.random.default_rng(seed).integers(0, 256, (n, 70, 70), np.uint8)))


def test_sizes_of_table_one():
    """Convolutions without a bias, batch norms of two numbers a channel, FC 6144 -> 384 and 384 -> 7 with biases."""
    encoder = 25 * 32 + 9 * 32 * 64 + 9 * 64 * 96 + 2 * (32 + 64 + 96)
    decoder = 9 * 96 * 64 + 9 * 64 * 32 + 25 * 32 + 2 * (64 + 32)  # the last norm learns nothing
    layers = 96 * 8 * 8 * 384 + 384 + 384 * 7 + 7
    assert count(create_backbone("gcnet_cnn")) == encoder == 74_912
    assert count(UnpoolDecoder()) == decoder == 74_720
    assert count(BaselineCNN()) == encoder + layers
    assert count(GCNet("S0R0")) == count(GCNet("S1R0")) == 2 * encoder + decoder + layers == 2_586_919
    assert count(GCNet("S1R1")) == count(GCNet("S0R1")) == 2 * encoder + 3 * decoder + layers == 2_736_359


def test_sizes_of_the_other_generators():
    """DCGAN's layers with one channel, 64 to 512 wide, 4x4 kernels, a code of 100."""
    up = 16 * (100 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64) + 2 * (512 + 256 + 128 + 64)
    down = 16 * (64 + 64 * 128 + 128 * 256 + 256 * 512) + 2 * (128 + 256 + 512)
    sizes = {name: count(GCNet(generator=name).generator) for name in GENERATORS}
    assert sizes == {
        "autoencoder": 74_912 + 74_720,
        "vae": up + down + 16 * 512 * 200,
        "dcgan": up + down + 16 * 512,
    }
    assert count(GCNet(generator="vae")) == 10_555_111


@given(st.integers(8, 70), st.integers(8, 70))
@settings(max_examples=25, deadline=None)
def test_unpooling_restores_any_side(height, width):
    encoder, decoder = ConvEncoder(1, (3, 4, 5)), UnpoolDecoder(1, (3, 4, 5))
    images = torch.rand(2, 1, height, width)
    maps, switches = encoder.encode(images)
    assert maps.shape == (2, 5, height // 8, width // 8)
    rebuilt = decoder(maps, switches)
    assert rebuilt.shape == images.shape
    assert float(rebuilt.detach().min()) >= 0


@pytest.mark.parametrize("side", [64, 66, 65, 33])
def test_gcnet_takes_even_and_odd_sides(side):
    model = GCNet(image_size=side, **SMALL)
    images = faces(model)
    assert model.reference(images).shape == (3, 1, side, side)
    assert [part.shape for part in model.reconstructions(images)] == [(3, 1, side, side)] * 2
    assert model.embed(images).shape == (3, model.embedding_dim)


def test_what_cannot_be_restored_is_said():
    encoder, decoder = ConvEncoder(), UnpoolDecoder()
    with pytest.raises(BadInputError, match="at least 8 pixels a side"):
        encoder(torch.zeros(1, 1, 7, 64))
    maps, switches = encoder.encode(torch.zeros(1, 1, 64, 64))
    with pytest.raises(BadInputError, match=r"cannot unpool maps \(1, 96, 7, 7\)"):
        decoder(maps[..., :7, :7], switches)
    with pytest.raises(BadInputError, match="3 switches of one encoding are due"):
        decoder(maps, switches[:2])
    for generator in ("vae", "dcgan"):
        with pytest.raises(WrongUseError, match="divisible by 16; got 66"):
            GCNet(generator=generator, image_size=66)
    with pytest.raises(WrongUseError, match="image_size must be a whole number of at least 8"):
        GCNet(image_size=4)


def test_a_convolution_by_the_turned_kernel_is_a_transposed_one():
    """Table I's DeConv., as the decoder writes it."""
    decoder, x = UnpoolDecoder(), torch.rand(2, 96, 5, 7)
    conv = decoder.convolutions[0]
    turned = torch.nn.functional.conv_transpose2d(x, conv.weight.transpose(0, 1).flip(2, 3), padding=1)
    assert torch.allclose(conv(x), turned, atol=1e-6)


@pytest.mark.parametrize("generator", sorted(GENERATORS))
@pytest.mark.parametrize("variant", ["S0R0", "S1R1"])
def test_generators_train_and_embed(generator, variant):
    torch.manual_seed(0)
    model = GCNet(variant, generator, generator_width=8, latent=6, **SMALL)
    images, references = faces(model, 8), faces(model, 8, 1)
    output = model.train().training_output(images, references)
    loss = GCNetLoss(neutral=-1)(output.logits, torch.arange(8) % 7, **output.parts)
    (loss + sum(output.penalties.values())).backward()
    assert set(output.penalties) == {"vae": {"divergence"}, "dcgan": {"adversarial"}}.get(generator, set())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    vectors = model.embed(images)
    assert vectors.shape == (8, 96)
    assert torch.equal(vectors, model.embed(images))  # nothing is drawn outside training
    assert model.reference(images).shape == images.shape
    assert model.training


def test_the_divergence_is_kingma_and_wellings():
    model = GCNet(generator="vae", generator_width=4, latent=3, **SMALL).train()
    images = faces(model, 5)
    mean, log_variance = (
        part.detach().double().numpy() for part in model.generator.encoder(2 * images - 1).chunk(2, 1)
    )
    expected = -0.5 * np.sum(1 + log_variance - mean**2 - np.exp(log_variance), axis=1).mean()
    assert float(model.training_output(images, images).penalties["divergence"].detach()) == pytest.approx(
        expected, rel=1e-5
    )


def test_generator_and_discriminator_pull_apart():
    """What lowers the adversarial term for the discriminator raises it for the generator, in one step."""
    torch.manual_seed(1)
    generator = GCNet(generator="dcgan", generator_width=4, latent=3, **SMALL).generator.train()
    images, references = torch.rand(8, 1, 32, 32), torch.rand(8, 1, 32, 32)

    def term():
        return generator(images, references)[1]["adversarial"]

    before = term()
    before.backward()
    for part, rises in ((generator.decoder, True), (generator.discriminator, False)):
        held = [parameter.detach().clone() for parameter in part.parameters()]
        with torch.no_grad():
            for parameter in part.parameters():
                parameter -= 1e-3 * parameter.grad / (parameter.grad.norm() + 1e-12)
        assert (float(term().detach()) > float(before.detach())) == rises
        with torch.no_grad():
            for parameter, value in zip(part.parameters(), held, strict=True):
                parameter.copy_(value)
    assert not generator.projection.requires_grad


@pytest.mark.parametrize("backbone", ["resnet10_grey48", "vgg8_grey48", "mobilenet_v3_small"])
def test_any_backbone(backbone):
    model = GCNet(backbone=backbone, image_size=48, embedding_dim=20)
    images = faces(model, 4)
    output = model.train().training_output(images, images)
    assert isinstance(model.decoders[0], UpsamplingDecoder)
    assert output.embedding.shape == (4, 20)
    assert [part.shape for part in output.parts["reconstructions"]] == [images.shape] * 2
    generated = model.reference(images)
    low, high = model.generator.normalized(torch.zeros(())), model.generator.normalized(torch.ones(()))
    assert generated.shape == images.shape
    assert float(generated.min()) >= float(low.min()) - 1e-5  # in the backbone's own range
    assert float((generated < high.max() + 1).float().mean()) > 0.9


def test_a_face_and_its_reference_lose_the_same_to_dropout():
    model = GCNet("S0R0", **SMALL).train()
    maps = model.backbone(faces(model, 4))
    own, other = model.encode(torch.cat([maps, maps]), faces=2).chunk(2)
    assert torch.equal(own, other)
    assert not torch.equal(own, model.encode(maps))


def test_decoders_do_not_run_outside_training():
    model = GCNet(**SMALL)
    images = faces(model)
    before = model.embed(images)
    del model.decoders[:]
    assert torch.equal(model.embed(images), before)
    with pytest.raises(WrongUseError, match="rebuilds nothing"):
        model.reconstructions(images)


def test_embedding_one_image_or_many_is_the_same():
    model = GCNet(**SMALL)
    images = faces(model, 5)
    together = model.embed(images)
    assert torch.allclose(together, torch.cat([model.embed(image[None]) for image in images]), atol=1e-5)
    assert torch.allclose(together, model.embed(images, batch_size=2), atol=1e-5)
    assert model.embed(images[:0]).shape == (0, 96)
    assert model.represent(images[:0]).shape == (0, 96)
    with pytest.raises(BadInputError, match="64, 64"):
        GCNet().embed(images)


def test_baselines():
    cnn, metric = BaselineCNN(**SMALL), MetricCNN(**SMALL)
    metric.load_state_dict(cnn.state_dict())
    images = faces(cnn, 4)
    assert torch.equal(cnn.embed(images), metric.embed(images))
    assert cnn.training_output(images).parts == {}
    parts = metric.eval().training_output(images, images.flip(0)).parts
    assert torch.allclose(parts["codes"][1], parts["codes"][0].flip(0), atol=1e-5)
    loss = GCNetLoss(neutral=-1)
    loss(torch.zeros(4, 7), torch.arange(4), **parts)
    assert float(loss.breakdown["generation"]) == 0
    for model in (metric, GCNet(**SMALL)):
        with pytest.raises(WrongUseError, match=r"data\.references=true"):
            model.training_output(images)


def test_pretraining_rebuilds_faces_and_tells_people_apart(tmp_path):
    first = GCNetPretraining(classes=["p1", "p2"], **SMALL)
    images = faces(first, 4)
    output = first.training_output(images)
    assert torch.equal(output.parts["references"], images)
    assert torch.equal(first.training_output(images, images.flip(0)).parts["references"], images.flip(0))
    assert output.logits.shape == (4, 2)
    assert GCNetPretraining(**SMALL).training_output(images).logits is None
    path = first.save(tmp_path / "first")
    model = GCNet(**SMALL)
    decoder = model.generator.decoder.convolutions[0].weight.detach().clone()
    taken = load_matching(model, path, ["backbone.", "generator.encoder."])
    assert torch.equal(model.generator.encoder.units[0][0].weight, first.generator.encoder.units[0][0].weight)
    assert torch.equal(model.backbone.body.units[2][0].weight, first.backbone.body.units[2][0].weight)
    assert torch.equal(model.generator.decoder.convolutions[0].weight, decoder)
    assert all(name.startswith(("backbone.", "generator.encoder.")) for name in taken)


@pytest.mark.parametrize("generator", sorted(GENERATORS))
def test_saves_and_exports(generator, tmp_path):
    model = GCNet(generator=generator, generator_width=4, latent=3, **SMALL)
    again = load_model(model.save(tmp_path / "gcnet"))
    images = faces(model)
    assert torch.equal(again.embed(images), model.embed(images))
    assert again.fingerprint == model.fingerprint
    assert again.preprocessing.clahe is not None
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    assert export_onnx(model, tmp_path / "gcnet.onnx") <= 1e-4


def test_classes():
    assert [len(GCNet("S0R0", num_classes=n, **SMALL).classes) for n in (6, 7, 8)] == [6, 7, 8]
    assert GCNet("S0R0", **SMALL).classes == CLASSES[7]
    assert "neutral" not in CLASSES[7]
    assert "contempt" not in CLASSES[6]
    named = GCNet("S0R0", classes=["up", "down"], **SMALL)
    assert named.classes == ("up", "down")
    assert create_model("gcnet", **named.config).classes == ("up", "down")
    for wrong in ({"num_classes": 5}, {"num_classes": 3, "classes": ["a", "b"]}, {"classes": ["a", "a"]}):
        with pytest.raises(WrongUseError, match="classes"):
            GCNet("S0R0", **wrong, **SMALL)


def test_wrong_use():
    with pytest.raises(WrongUseError, match="did you mean 'S1R1'"):
        GCNet("S1R")
    with pytest.raises(WrongUseError, match="did you mean 'autoencoder'"):
        GCNet(generator="autoencode")
    with pytest.raises(WrongUseError, match="dropout"):
        GCNet(dropout=1.0)
    with pytest.raises(WrongUseError, match="latent"):
        GCNet(generator="vae", latent=0)
    with pytest.raises(WrongUseError, match="embedding_dim"):
        GCNet(embedding_dim=0)
