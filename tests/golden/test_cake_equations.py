"""CAKE and AVK behind their backbone, and the multi-domain loss on them, against float64 NumPy transcriptions."""

import math

import numpy as np
import pytest
import torch
from _numeric import slope

from exprembed import AVK, CAKE
from exprembed.data.tables import EXPRESSIONS
from exprembed.losses import MultiDomainCrossEntropy
from exprembed.losses.multi_domain import domain_weights

DOMAINS = {"a": ["joy", "fear", "calm"], "b": ["calm", "joy", "fear", "rage"]}
NAMES = ["joy", "fear", "calm", "rage"]
COUNTS = [[10, 5, 3, 0], [4, 4, 20, 2]]
F = 6


def small(model):
    """Replace the layers that depend on the backbone's width by layers of F inputs, in float64."""
    rng = torch.Generator().manual_seed(7)
    for name in ("projection", "regressor"):
        layer = getattr(model, name, None)
        if layer is not None:
            setattr(model, name, torch.nn.Linear(F, layer.out_features))
    model = model.double().eval()
    with torch.no_grad():
        for layer in (model.classifiers, model.projection, getattr(model, "regressor", None)):
            if layer is not None:
                layer.weight.normal_(generator=rng)
                layer.bias.normal_(generator=rng)
    return model


def numbers(layer):
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def linear(weight, bias, x):
    return [sum(w * n for w, n in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def embedded(model, x):
    """e = W x + b, or its unit vector; e = [a, v, W x + b]."""
    e = [] if model.projection is None else linear(*numbers(model.projection), x)
    if isinstance(model, AVK):
        valence, arousal = linear(*numbers(model.regressor), x)
        return [arousal, valence, *e]
    if model.normalize:
        length = math.sqrt(sum(n * n for n in e))
        return [n / length for n in e]
    return e


def scores(model, e):
    """z^j = W^j e + b^j over the domain's own classes, by name."""
    weight, bias = numbers(model.classifiers)
    table = {}
    for j, (domain, own) in enumerate(DOMAINS.items()):
        rows = slice(j * len(NAMES), (j + 1) * len(NAMES))
        given = dict(zip(NAMES, linear(weight[rows], bias[rows], e), strict=True))
        table[domain] = {name: given[name] for name in own}
    return table


def printed_loss(model, features, labels, domains):
    """Equations (1) and (2): the classifier of the sample's own data set alone, over that data set's classes."""
    total = 0.0
    for x, label, j in zip(features, labels, domains, strict=True):
        domain = list(DOMAINS)[j]
        z = scores(model, embedded(model, x))[domain]
        size, own = sum(COUNTS[j]), len(DOMAINS[domain])
        w_class = size / (COUNTS[j][NAMES.index(label)] * own)
        cross_entropy = -math.log(math.exp(z[label]) / sum(math.exp(n) for n in z.values()))
        total += w_class / math.log(size) * cross_entropy
    return total / len(features)


MODELS = {
    "cake-2": lambda: CAKE(2, "resnet10_grey48", DOMAINS),
    "cake-3-norm": lambda: CAKE(3, "resnet10_grey48", DOMAINS, normalize=True),
    "av": lambda: AVK(0, "resnet10_grey48", DOMAINS),
    "av2": lambda: AVK(2, "resnet10_grey48", DOMAINS),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", range(3))
def test_embedding_scores_loss_and_gradient(name, seed):
    model = small(MODELS[name]())
    assert model.classes == tuple(NAMES)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(7, F))
    domains = rng.integers(0, 2, 7)
    labels = [str(rng.choice([n for n in NAMES if COUNTS[j][NAMES.index(n)]])) for j in domains]
    maps = torch.tensor(x)[:, :, None, None].requires_grad_()
    output = model.from_features(maps)
    expected = [embedded(model, row) for row in x]
    assert np.abs(output.embedding.detach().numpy() - expected).max() < 1e-12
    logits = output.logits.detach().numpy()
    assert logits.shape == (2, 7, 4)
    for i, e in enumerate(expected):
        for j, z in enumerate(scores(model, e).values()):
            for c, kind in enumerate(NAMES):
                assert logits[j, i, c] == pytest.approx(z.get(kind, -np.inf), abs=1e-12)
    weights, sizes = domain_weights(COUNTS, [len(own) for own in DOMAINS.values()])
    loss = MultiDomainCrossEntropy(weights, sizes)(
        output.logits, torch.tensor([NAMES.index(n) for n in labels]), torch.tensor(domains)
    )
    loss.backward()
    assert float(loss) == pytest.approx(printed_loss(model, x, labels, domains), abs=1e-11)
    gradient = slope(lambda v: printed_loss(model, v, labels, domains), x)
    assert np.abs(maps.grad[:, :, 0, 0].numpy() - gradient).max() < 1e-8
    unused = model.classifiers.weight.grad.reshape(2, 4, -1)[0, 3]  # "rage" in the domain that does not have it
    assert not unused.any()


def test_valence_stands_first_in_the_output_and_second_in_the_embedding():
    model = small(AVK(1, "resnet10_grey48", DOMAINS))
    output = model.from_features(torch.randn(3, F, 1, 1, dtype=torch.float64))
    assert torch.equal(output.embedding[:, 0], output.valence_arousal[:, 1])
    assert torch.equal(output.embedding[:, 1], output.valence_arousal[:, 0])


def test_class_weights_follow_each_domains_own_number_of_classes():
    weights, sizes = domain_weights(COUNTS, [3, 4])
    assert sizes.tolist() == [18, 30]
    assert weights[0].tolist() == pytest.approx([18 / 30, 18 / 15, 18 / 9, 0])
    assert weights[1].tolist() == pytest.approx([30 / 16, 30 / 16, 30 / 80, 30 / 8])


def test_seven_classes_are_the_papers():
    assert CAKE(3, "resnet10_grey48", {"rafdb": 7}).classes == EXPRESSIONS[:7]
