"""FECNet and its siblings: sizes counted by hand from the papers' tables, shapes, freezing, the unit sphere."""

import numpy as np
import pytest
import torch

from exprembed import create_model, list_models
from exprembed.errors import BadInputError, MissingExtraError, WrongUseError
from exprembed.models import BACKBONES, create_backbone
from exprembed.models.fecnet import AFFNetCL, AFFNetTL, FACSNetCL, FECNet
from exprembed.models.heads import AroundMean, DenseBlock

SMALL = {"backbone": "resnet10_grey48", "dense_channels": 0, "hidden": 32}


def count(module):
    return sum(p.numel() for p in module.parameters())


# Parameters of each row in thousands, and output channels, as FaceNet's table 2 prints them.
NN2_PRINTED = {
    "conv1": (9, 64),
    "inception2": (115, 192),
    "inception3a": (164, 256),
    "inception3b": (228, 320),
    "inception3c": (398, 640),
    "inception4a": (545, 640),
    "inception4b": (595, 640),
    "inception4c": (654, 640),
    "inception4d": (722, 640),
    "inception4e": (717, 1024),
}


def test_nn2_has_the_parameters_that_its_table_prints():
    body = create_backbone("facenet_nn2").eval().body
    x = torch.zeros(1, 3, 64, 64)
    for name, layer in body.named_children():
        x = layer(x)
        if name in NN2_PRINTED:
            thousands, channels = NN2_PRINTED[name]
            assert abs(count(layer) / 1000 - thousands) <= 1, name
            assert x.shape[1] == channels, name
    assert count(body) == 4_148_176


def test_paper_trunk_and_embedding_sizes():
    """1x1 to 512; five 3x3 layers of 64; FC 512; FC 16. Convolutions before a batch norm carry no bias."""
    model = FECNet()
    reduce = 1024 * 512 + 2 * 512
    dense = sum(9 * (512 + 64 * i) * 64 + 2 * 64 for i in range(5))
    hidden = (512 + 5 * 64) * 512 + 2 * 512
    assert count(model.trunk.reduce) == reduce == 525_312
    assert count(model.trunk.dense) == dense == 1_843_840
    assert count(model.trunk.hidden) == hidden == 427_008
    assert count(model.embedding) == 512 * 16 + 16 == 8_208


def test_paper_size_forward():
    model = FECNet().eval()
    images = model.preprocess(np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8))
    with torch.no_grad():
        assert model.features(images).shape == (1, 1024, 7, 7)
        embedding = model(images).embedding
    assert embedding.shape == (1, 16)
    assert float(embedding.norm()) == pytest.approx(1, abs=1e-5)


def test_dense_block_is_the_loop():
    block = DenseBlock(6, 3, 4).eval()
    x = torch.randn(2, 6, 5, 5)
    seen = [x]
    for layer in block.layers:
        seen.append(layer(torch.cat(seen, 1)))
    assert torch.allclose(block(x), torch.cat(seen, 1))
    assert block.out_channels == 18


@pytest.mark.parametrize("name", sorted(BACKBONES.items()))
def test_every_backbone_gives_the_map_it_promises(name):
    net = create_backbone(name).eval()
    plan = net.preprocessing
    with torch.no_grad():
        maps = net(torch.zeros(1, plan.channels, plan.size, plan.size))
    assert maps.ndim == 4
    assert maps.shape[1] == net.out_channels
    assert torch.isfinite(maps).all()


def test_nn2_learns_something_at_zero():
    """L2 pooling has no gradient at zero as printed; ours must stay finite there."""
    net = create_backbone("facenet_nn2_bn")
    images = torch.zeros(2, 3, 64, 64, requires_grad=True)
    net(images).sum().backward()
    assert torch.isfinite(images.grad).all()


@pytest.mark.parametrize("name", list_models())
def test_every_model_embeds_and_rebuilds(name):
    options = dict(SMALL) if name in ("fecnet", "affnet_tl", "affnet_cl", "facsnet_cl") else {}
    if name in ("cake", "avk"):
        options = {"backbone": SMALL["backbone"]}
    model = create_model(name, **options)
    images = model.preprocess(np.random.default_rng(0).integers(0, 256, (3, 60, 50, 3), np.uint8))
    vectors = model.embed(images)
    assert vectors.shape == (3, model.embedding_dim)
    assert model.metric in ("l2", "cosine")
    twin = create_model(name, **model.config)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.embed(images), vectors)
    assert twin.fingerprint == model.fingerprint


def test_softmax_siblings_embed_by_p_or_f():
    p, f = AFFNetCL(layer="P", **SMALL), AFFNetCL(layer="F", **SMALL)
    f.load_state_dict(p.state_dict())
    images = p.preprocess(list(np.random.default_rng(0).integers(0, 256, (2, 48, 48), np.uint8)))
    p.eval(), f.eval()
    with torch.no_grad():
        assert p(images).embedding.shape == (2, 32)
        assert torch.equal(f(images).embedding, p(images).logits)
    assert FACSNetCL(**SMALL).classes == ("1", "2", "4", "5", "6", "9", "12", "15", "17", "20", "25", "26")
    assert isinstance(AFFNetTL(**SMALL), FECNet)
    with pytest.raises(WrongUseError, match="'P'"):
        AFFNetCL(layer="Q", **SMALL)
    with pytest.raises(WrongUseError, match="two different classes"):
        AFFNetCL(classes=["joy", "joy"], **SMALL)


def test_a_frozen_backbone_does_not_move():
    model = FECNet(**SMALL).train()
    assert not model.backbone.training
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1.0)
    images = model.preprocess(list(np.random.default_rng(0).integers(0, 256, (8, 48, 48), np.uint8)))
    trunk = model.trunk.hidden[0].weight.clone()
    model(images).embedding[:, 0].sum().backward()
    optimizer.step()
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not torch.equal(model.trunk.hidden[0].weight, trunk)
    assert model.freeze(False).train().backbone.training


def test_embedding_one_image_or_many_is_the_same():
    model = FECNet(**SMALL)
    images = model.preprocess(np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), np.uint8))
    together = model.embed(images)
    apart = torch.cat([model.embed(image[None]) for image in images])
    assert torch.allclose(together, apart, atol=1e-5)
    assert model.embed(images[:0]).shape == (0, 16)
    assert model.training


def test_wrong_names_and_sizes():
    with pytest.raises(WrongUseError, match="did you mean 'facenet_nn2'"):
        FECNet(backbone="facenet_n2")
    with pytest.raises(WrongUseError, match="did you mean 'fecnet'"):
        create_model("fecnett")
    with pytest.raises(WrongUseError, match="did you mean 'embedding_dim'"):
        create_model("fecnet", embeding_dim=3)
    with pytest.raises(WrongUseError, match="embedding_dim"):
        FECNet(embedding_dim=0, **SMALL)
    with pytest.raises(WrongUseError, match="dropout"):
        FECNet(dropout=1.0, **SMALL)
    try:
        import timm  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match="timm"):
            FECNet(backbone="timm:vit_base_patch16_224")


def test_mirrored_model_gives_a_face_and_its_mirror_image_one_vector():
    model = FECNet(mirror=True, **SMALL).eval()
    plain = FECNet(**model.config).with_mirror(False).eval()
    plain.load_state_dict(model.state_dict())
    images = model.preprocess(list(np.random.default_rng(0).integers(0, 256, (3, 48, 48), np.uint8)))
    assert torch.allclose(model.embed(images), model.embed(images.flip(3)), atol=1e-6)
    assert not torch.allclose(plain.embed(images), plain.embed(images.flip(3)), atol=1e-3)
    together = plain.embed(images) + plain.embed(images.flip(3))
    assert torch.allclose(model.embed(images), together / together.norm(dim=1, keepdim=True), atol=1e-6)


SHARES = {**SMALL, "embedding_dim": 6, "classes": ["a", "b", "c"], "shares": 0.7}


def numpy_shares(logits, mean, w):
    """Transcribe the head of FECNet(shares=w): vectors, probabilities and log odds around the average face."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    a = np.log(p) - np.log(p).mean(axis=1, keepdims=True) - mean
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    return np.concatenate([np.sqrt(w * p), np.sqrt(1 - w) * a], axis=1), p, a


def test_shares_beside_numpy():
    """Values and gradients of the head in float64, and the distance that its docstring states."""
    torch.manual_seed(0)
    model = FECNet(**SHARES).eval().double()
    mean = model.embedding.mean.normal_().numpy()
    maps = torch.randn(6, model.backbone.out_channels, 2, 2, dtype=torch.float64)
    found = model.from_features(maps).embedding
    with torch.no_grad():
        logits = model.classifier(model.trunk(maps)).numpy()
    due, p, a = numpy_shares(logits, mean, 0.7)
    assert np.abs(found.detach().numpy() - due).max() < 1e-6  # both parts are taken in float32
    assert np.abs(np.linalg.norm(due, axis=1) - 1).max() < 1e-12
    squared = np.square(due[:1] - due).sum(axis=1)
    hellinger = 1 - np.sqrt(p[:1] * p).sum(axis=1)  # squared
    assert np.abs(squared - (2 * 0.7 * hellinger + 0.3 * np.square(a[:1] - a).sum(axis=1))).max() < 1e-12

    weights = np.random.default_rng(0).normal(size=due.shape)
    (found * torch.from_numpy(weights)).sum().backward()
    for j, step in enumerate(1e-6 * np.eye(3)):  # by the classifier's biases, which every face's logits share
        above, below = (numpy_shares(logits + sign * step, mean, 0.7)[0] for sign in (1, -1))
        slope = float((weights * (above - below)).sum()) / 2e-6
        assert float(model.classifier.bias.grad[j]) == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_faint_expressions_differ_by_their_odds():
    """Where a softmax is sure of one class, its probabilities hide what the log odds still tell."""
    torch.manual_seed(0)
    model = FECNet(**SHARES).eval()
    logits = torch.tensor([[9.0, 3.0, 0.0], [9.0, 0.0, 3.0]])
    model.embedding.mean.copy_(torch.tensor([5.0, -2.5, -2.5]))
    model.trunk, model.classifier = torch.nn.Identity(), torch.nn.Identity()
    roots, odds = model.from_features(logits).embedding.split(3, dim=1)
    assert (roots[0] - roots[1]).norm() < 0.1
    assert torch.allclose(odds[0], -odds[1], atol=1e-6)


def test_mean_of_what_training_has_shown():
    mean = AroundMean(2)
    batches = torch.randn(150, 4, 2)
    due = torch.zeros(2)
    for step, batch in enumerate(batches, start=1):
        due += (batch.mean(dim=0) - due) / min(step, 100)
        assert torch.allclose(mean(batch), batch - due, atol=1e-6)
        if step == 100:
            assert torch.allclose(due, batches[:100].mean(dim=(0, 1)), atol=1e-6)
    mean.eval()
    assert torch.allclose(mean(batches[0] + 5), batches[0] + 5 - due, atol=1e-6)
    assert set(mean.state_dict()) == {"mean", "steps"}


def test_class_shares_are_read_off_the_vectors():
    torch.manual_seed(0)
    model = FECNet(**SHARES).eval()
    images = torch.rand(5, 1, 48, 48) * 4 - 2
    output = model(images)
    assert torch.allclose(model.class_shares(output.embedding), output.logits.softmax(dim=1), atol=1e-6)
    assert torch.equal(model.class_shares(output.embedding[2]), model.class_shares(output.embedding)[2:3])
    mirrored = model.class_shares(model.with_mirror()(images).embedding)
    roots = sum(model.with_mirror(False)(side).logits.softmax(dim=1).sqrt() for side in (images, images.flip(3)))
    assert torch.allclose(mirrored, roots.square() / roots.square().sum(dim=1, keepdim=True), atol=1e-6)


def test_class_shares_of_what_has_none():
    with pytest.raises(WrongUseError, match="without shares"):
        FECNet(**{**SHARES, "shares": 0.0}).class_shares(torch.zeros(1, 6))
    with pytest.raises(WrongUseError, match=r"\(N, 6\); got \(2, 3\)"):
        FECNet(**SHARES).class_shares(torch.zeros(2, 3))
    with pytest.raises(BadInputError, match="vector 1 says nothing"):
        FECNet(**SHARES).class_shares(torch.eye(6)[[0, 5]])


def test_shares_of_a_certain_softmax_have_finite_gradients():
    model = FECNet(**{**SHARES, "freeze_backbone": False}).eval()
    with torch.no_grad():
        model.classifier.weight.mul_(1e4)
    maps = torch.randn(4, model.backbone.out_channels, 2, 2)
    model.from_features(maps).embedding[:, 0].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shares": 1.0}, r"in \[0, 1\); got 1.0"),
        ({"classes": []}, "name at least two classes, and make embedding_dim twice as many; got 0"),
        ({"classes": ["a"], "embedding_dim": 2}, "at least two classes"),
        ({"embedding_dim": 7}, "twice as many; got 3"),
    ],
)
def test_shares_that_cannot_be(wrong, message):
    with pytest.raises(WrongUseError, match=message):
        FECNet(**{**SHARES, **wrong})


@pytest.mark.parametrize("mirror", [False, True])
def test_shares_embed_on_the_sphere(mirror):
    model = FECNet(**SHARES, mirror=mirror)
    faces = model.preprocess(np.random.default_rng(0).integers(0, 255, (5, 60, 60, 3), np.uint8))
    vectors = model.embed(faces)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(5), atol=1e-6)
    assert (vectors[:, :3] >= 0).all()
    assert torch.allclose(model.embed(faces.flip(3)), vectors, atol=1e-6) == mirror
