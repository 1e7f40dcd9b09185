"""Where CAKE and AVk start: linear classifiers squeezed into a few coordinates, against NumPy's float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exprembed import AVK, CAKE
from exprembed.errors import BadInputError, WrongUseError
from exprembed.models.linear_start import Affine, linear_scores, squeezed
from exprembed.training import load_recipe

SMALL = {
    "backbone": "resnet10_grey48",
    "domains": {"a": ["joy", "fear", "calm"], "b": ["calm", "joy", "rage"]},
    "dropout": 0.0,
}
NOTHING = Affine(np.zeros((0, 5)), np.zeros(0))


def drawn(seed, n=60, p=7, q=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5)) @ rng.normal(size=(5, 5)) + rng.normal(size=5)
    maps = [Affine(rng.normal(size=(size, 5)), rng.normal(size=size)) for size in (p, q)]
    return x, *maps, rng.uniform(0.1, 3, n)


def error(z, guess, weight):
    return float((weight[:, None] * (z - guess) ** 2).sum())


def faces(model, seed=0, n=90):
    """Features about a place of each class, the two domains a little apart."""
    rng = np.random.default_rng(seed)
    domains = rng.choice(list(SMALL["domains"]), n)
    labels = np.array([rng.choice(SMALL["domains"][name]) for name in domains])
    places = {name: rng.normal(size=model.width) for name in model.classes}
    maps = np.stack([places[name] for name in labels]) + (domains == "b")[:, None] + rng.normal(size=(n, model.width))
    return maps[:, :, None, None].astype(np.float32), labels, domains


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(0, 2))
def test_no_other_coordinates_read_the_scores_better(seed, size, q):
    """Against the weighted SVD of what least squares leaves (Eckart and Young): the error is that of its last values."""
    x, scores, known, weight = drawn(seed, q=q)
    coordinates, reading = squeezed(scores, known, x, weight, size)
    z, root = x @ scores.slope.T + scores.offset, np.sqrt(weight)[:, None]
    design = root * np.column_stack([x @ known.slope.T + known.offset, np.ones(len(x))])
    left = root * z - design @ np.linalg.pinv(design) @ (root * z)
    values = np.linalg.svd(left, compute_uv=False)
    m = min(size, 5 - q)  # the features' rank, less what is given
    assert coordinates.slope.shape == (m, 5)
    found = reading(np.column_stack([known(x), coordinates(x)]))
    assert error(z, found, weight) == pytest.approx((values[m:] ** 2).sum(), rel=1e-6, abs=1e-6 * (z**2).sum())


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_coordinates_are_about_as_long_as_one(seed, size):
    x, scores, _, weight = drawn(seed)
    t = squeezed(scores, NOTHING, x, weight, size)[0](x)
    assert np.average((t**2).mean(axis=1), weights=weight) == pytest.approx(1)
    assert np.allclose(np.average(t, axis=0, weights=weight), 0, atol=1e-9)


def test_faces_without_weight_have_no_say():
    x, scores, _, weight = drawn(3)
    weight[:20] = 0
    whole, some = squeezed(scores, NOTHING, x, weight, 2), squeezed(scores, NOTHING, x[20:], weight[20:], 2)
    far = x.copy()
    far[:20] *= 1e3
    moved = squeezed(scores, NOTHING, far, weight, 2)
    for one in (some, moved):
        assert np.allclose(whole[1](whole[0](x)), one[1](one[0](x)))


def test_scores_are_those_of_scikit_learns_classifiers():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 5)), np.array(["joy", "fear", "calm", "lost"] * 20)
    j = np.repeat(["a", "b"], 40)
    y[(j == "b") & (y == "fear")] = "joy"
    scores, weight = linear_scores(
        x, y, j, {"a": ["joy", "fear", "calm"], "b": ["calm", "joy"]}, ["joy", "fear", "calm"]
    )
    z = scores(x).reshape(80, 2, 3)
    assert np.allclose(z.sum(axis=2), 0)
    assert np.array_equal(weight == 0, y == "lost")
    for i, (domain, names) in enumerate({"a": ["joy", "fear", "calm"], "b": ["joy", "calm"]}.items()):
        own = (j == domain) & (y != "lost")
        chances = LogisticRegression(C=0.1, class_weight="balanced").fit(x[own], y[own])
        columns = [["joy", "fear", "calm"].index(name) for name in chances.classes_]
        softmax = np.exp(z[:, i][:, columns])
        assert np.allclose(softmax / softmax.sum(axis=1, keepdims=True), chances.predict_proba(x), atol=1e-6)
        totals = [weight[own & (y == name)].sum() for name in names]
        assert np.allclose(totals, own.sum() / len(names))  # N_j / C_j each


@pytest.mark.parametrize("make", [lambda: CAKE(embedding_dim=16, **SMALL), lambda: AVK(extra_dims=16, **SMALL)])
def test_with_room_enough_the_model_starts_as_the_classifiers(make):
    torch.manual_seed(0)
    model = make().eval()
    maps, labels, domains = faces(model)
    before = model.projection.weight.detach().clone()
    model.start(maps, labels, domains)
    x = maps[:, :, 0, 0]
    scores, _ = linear_scores(x, labels, domains, model.domains, model.classes)
    wanted = scores(x).reshape(len(x), 2, 4)
    found = model.from_features(torch.from_numpy(maps)).logits.detach().numpy().transpose(1, 0, 2)
    for i, names in enumerate(model.domains.values()):
        columns = [model.classes.index(name) for name in names]
        assert np.allclose(found[:, i, columns], wanted[:, i, columns], atol=1e-3)
    # Two domains of three classes are scores of rank 4; what lies beyond stays as drawn and is not listened to.
    given = model.embedding_dim - len(before)
    assert not torch.equal(model.projection.weight[:4], before[:4])
    assert torch.equal(model.projection.weight[4:], before[4:])
    assert not model.classifiers.weight[:, given + 4 :].any()


def test_a_started_model_knows_more_than_a_drawn_one():
    for model in (
        CAKE(embedding_dim=2, **SMALL),
        CAKE(embedding_dim=2, normalize=True, **SMALL),
        AVK(extra_dims=1, **SMALL),
    ):
        maps, labels, domains = faces(model.eval())
        x = torch.from_numpy(maps)
        model.start(maps, labels, domains)
        vectors = model.from_features(x).embedding.detach().numpy()
        for name in model.domains:
            own = domains == name
            assert (model.classify(vectors[own], name) == labels[own]).mean() > 0.7


def test_every_seed_starts_alike():
    """Drawn weights lead each seed to another arrangement of the classes."""
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(CAKE(embedding_dim=2, **SMALL))
        models[-1].start(*faces(models[0]))
    assert torch.equal(models[0].projection.weight, models[1].projection.weight)
    assert torch.equal(models[0].classifiers.weight, models[1].classifiers.weight)


def test_arousal_and_valence_stay():
    model = AVK(extra_dims=0, **SMALL).eval()
    maps, labels, domains = faces(model)
    before = model.from_features(torch.from_numpy(maps)).embedding.detach()
    model.start(maps, labels, domains)
    assert torch.equal(model.from_features(torch.from_numpy(maps)).embedding.detach(), before)


def test_starts_refuse():
    model = CAKE(**SMALL)
    maps, labels, domains = faces(model)
    with pytest.raises(BadInputError, match=r"\(n, 320, 1, 1\)"):
        model.start(maps[:, :9], labels, domains)
    with pytest.raises(BadInputError, match="are due"):
        model.start(maps, labels[1:], domains)
    with pytest.raises(BadInputError, match="'b' has none"):
        model.start(maps, labels, np.full(len(labels), "a"))
    with pytest.raises(BadInputError, match="'a' has joy"):
        model.start(maps, np.where(domains == "a", "joy", labels), domains)
    with pytest.raises(WrongUseError, match="did you mean 'linear'"):
        load_recipe("cake-small", ["start=liner"])
