"""GCNet's delta (equation 2) and its forward pass against float64 NumPy transcriptions, values and gradients."""

import numpy as np
import pytest
import torch
from _numeric import norm, slope
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed.losses import GCNetLoss
from exprembed.models.gcnet import GCNet, code_length, contrastive_delta


def transcribed(a, b):
    """delta_j = | a_j / ||a|| - b_j / ||b|| |, number by number."""
    return np.array(
        [[abs(x / norm(p) - y / norm(q)) for x, y in zip(p, q, strict=True)] for p, q in zip(a, b, strict=True)]
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (4, 3), (3, 17)])
def test_values_and_gradients(seed, shape):
    rng = np.random.default_rng([seed, *shape])
    a, b, weights = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=shape)
    left, right = (torch.tensor(values, requires_grad=True) for values in (a, b))
    delta = contrastive_delta(left, right)
    assert np.abs(delta.detach().numpy() - transcribed(a, b)).max() < 1e-12
    (delta * torch.tensor(weights)).sum().backward()
    assert np.abs(left.grad.numpy() - slope(lambda x: (transcribed(x, b) * weights).sum(), a)).max() < 1e-8
    assert np.abs(right.grad.numpy() - slope(lambda x: (transcribed(a, x) * weights).sum(), b)).max() < 1e-8


@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(0.01, 100))
@settings(max_examples=40, deadline=None)
def test_lengths_do_not_count_and_order_does_not(seed, first, second):
    a, b = torch.tensor(np.random.default_rng(seed).normal(size=(2, 3, 5)))
    delta = contrastive_delta(a, b)
    assert torch.allclose(contrastive_delta(first * a, second * b), delta, atol=1e-12)
    assert torch.equal(contrastive_delta(b, a), delta)
    assert not contrastive_delta(a, a).any()
    assert bool((delta.norm(dim=1) <= 2 + 1e-12).all())
    turned = contrastive_delta(a, -a)
    assert torch.allclose(turned, 2 * (a / a.norm(dim=1, keepdim=True)).abs())


def test_equal_and_zero_codes_are_finite():
    a = torch.tensor([[0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    delta = contrastive_delta(a, torch.tensor([[3.0, 4.0], [1.0, 2.0]]))
    delta[1].sum().backward()
    assert delta[0].tolist() == pytest.approx([0.6, 0.8])
    assert torch.equal(a.grad[1], torch.zeros(2))
    assert torch.isfinite(contrastive_delta(a.half(), a.half())).all()
    assert contrastive_delta(a.bfloat16(), a.bfloat16()).dtype == torch.float32


def convolve(x, kernel):
    """Correlate (C, H, W) with (O, C, k, k), "same" size, number by number over the kernel."""
    outputs, _, k, _ = kernel.shape
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    out = np.zeros((outputs, *x.shape[1:]))
    for i in range(k):
        for j in range(k):
            window = padded[:, i : i + x.shape[1], j : j + x.shape[2]]
            out += np.einsum("oc,chw->ohw", kernel[:, :, i, j], window)
    return out


def normed(x, layer):
    mean, var = (getattr(layer, f"running_{name}").numpy()[:, None, None] for name in ("mean", "var"))
    out = (x - mean) / np.sqrt(var + layer.eps)
    if layer.affine:
        out = out * layer.weight.detach().numpy()[:, None, None] + layer.bias.detach().numpy()[:, None, None]
    return out


def pooled(x):
    """2x2 maxima, and the flat place of each."""
    c, h, w = x.shape[0], x.shape[1] // 2, x.shape[2] // 2
    values, places = np.zeros((c, h, w)), np.zeros((c, h, w), int)
    for k in range(c):
        for i in range(h):
            for j in range(w):
                block = [(x[k, y, z], y * x.shape[2] + z) for y in (2 * i, 2 * i + 1) for z in (2 * j, 2 * j + 1)]
                values[k, i, j], places[k, i, j] = max(block, key=lambda entry: entry[0])
    return values, places


def encoded(encoder, x):
    switches = []
    for conv, norm_layer, _ in encoder.units:
        maps = np.maximum(normed(convolve(x, conv.weight.detach().numpy()), norm_layer), 0)
        x, places = pooled(maps)
        switches.append((places, maps.shape[1:]))
    return x, switches


def decoded(decoder, x, switches):
    for i, (conv, (places, size)) in enumerate(zip(decoder.convolutions, switches[::-1], strict=True)):
        full = np.zeros((x.shape[0], size[0] * size[1]))
        for k in range(x.shape[0]):
            full[k, places[k].ravel()] = x[k].ravel()
        x = convolve(full.reshape(-1, *size), conv.weight.detach().numpy())
        x = np.maximum(normed(x, decoder.norms[i]) if i < 2 else 0.5 + 0.25 * normed(x, decoder.last), 0)
    return x


def float64_model(variant="S1R1", size=13):
    torch.manual_seed(3)
    model = GCNet(variant, backbone="gcnet_cnn_small", image_size=size, embedding_dim=5).double().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model


@pytest.mark.parametrize("size", [8, 13])
def test_the_whole_network(size):
    """Encoder, generator, delta, logits and both decoders of Table I and figure 3, evaluation mode, odd sides too."""
    model = float64_model(size=size)
    x = np.random.default_rng(0).uniform(size=(2, 1, size, size))
    with torch.no_grad():
        output = model.training_output(torch.tensor(x), torch.tensor(x))
    parts, w, b = output.parts, *(p.detach().numpy() for p in (model.code.weight, model.code.bias))
    for row in range(2):
        generated = decoded(model.generator.decoder, *encoded(model.generator.encoder, x[row]))
        assert np.abs(parts["generated"][row].numpy() - generated).max() < 1e-10
        codes = []
        for image, decoder, rebuilt in zip((x[row], generated), model.decoders, parts["reconstructions"], strict=True):
            maps, switches = encoded(model.backbone.body, image)
            codes.append(w @ maps.ravel() + b)
            assert np.abs(rebuilt[row].numpy() - decoded(decoder, maps, switches)).max() < 1e-10
        delta = transcribed(codes[:1], codes[1:])[0]
        assert np.abs(output.embedding[row].numpy() - delta).max() < 1e-8
        scores = model.classifier.weight.detach().numpy() @ delta + model.classifier.bias.detach().numpy()
        assert np.abs(output.logits[row].numpy() - scores).max() < 1e-8


@pytest.mark.parametrize(
    ("variant", "left"),
    [("S0R0", set()), ("S1R0", {"codes"}), ("S0R1", {"reconstructions"}), ("S1R1", {"codes", "reconstructions"})],
)
def test_a_variant_gives_the_loss_its_terms(variant, left):
    model = float64_model(variant, 8)
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    output = model.training_output(x, x.flip(0))
    assert set(output.parts) == {"images", "references", "generated"} | left
    loss = GCNetLoss(margin=50.0, neutral=-1)
    loss(output.logits, torch.tensor([0, 1, 2]), **output.parts)
    present = {name for name, term in loss.breakdown.items() if float(term) > 0}
    terms = {"codes": {"contrastive"}, "reconstructions": {"reconstruction_image", "reconstruction_reference"}}
    assert present == {"classification", "generation"}.union(*(terms[name] for name in left))


def test_code_length_is_the_papers():
    """(0.5 W)^2 n / 2^n with n = 3 layers: 384 at 64 pixels."""
    for size in (32, 48, 64):
        assert code_length(size) == int((0.5 * size) ** 2 * 3 / 2**3)
    assert code_length(64) == code_length(224) == 384
