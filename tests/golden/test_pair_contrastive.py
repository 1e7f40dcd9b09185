"""PairContrastiveLoss against a float64 NumPy transcription of thesis equations (4.4.1) and (4.4.2), pair by pair."""

import numpy as np
import pytest
import torch
from _numeric import draw, norm, slope
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.losses import ContrastiveLoss
from pytorch_metric_learning.miners import PairMarginMiner, TripletMarginMiner
from pytorch_metric_learning.reducers import AvgNonZeroReducer, MeanReducer, MultipleReducers, SumReducer

from exprembed.errors import BadInputError, WrongUseError
from exprembed.losses import CrossBatchMemory, EuclideanDistance, PairContrastiveLoss, pair_contrastive

MARGIN = 2.0


def attraction(a, b):
    return norm(a - b) ** 2 / 2


def repulsion(a, b, margin=MARGIN):
    return max(0, margin - norm(a - b)) ** 2 / 2


def all_pairs(x, y):
    """The terms of the positive and of the negative pairs, i < j."""
    positive, negative = [], []
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            if y[i] == y[j]:
                positive.append(attraction(x[i], x[j]))
            else:
                negative.append(repulsion(x[i], x[j]))
    return positive, negative


def mean(terms):
    return sum(terms) / len(terms) if terms else 0.0


def reference(x, y, total=mean, positive=True, negative=True):
    """(4.4.1) + (4.4.2) with total=mean."""
    near, far = all_pairs(x, y)
    return positive * total(near) + negative * total(far)


def differences(x, y):
    """Gradient of the printed loss, pair by pair."""
    gradient = np.zeros_like(x)
    pairs = [(i, j) for i in range(len(x)) for j in range(i + 1, len(x))]
    near = sum(y[i] == y[j] for i, j in pairs)
    for i, j in pairs:
        apart = x[i] - x[j]
        if y[i] == y[j]:
            change = apart / near
        else:
            change = -max(0, MARGIN - norm(apart)) * apart / norm(apart) / (len(pairs) - near)
        gradient[i] += change
        gradient[j] -= change
    return gradient


def value_and_gradient(loss, x, *rest):
    tensor = torch.tensor(x, requires_grad=True)
    value = loss(tensor, *rest)
    value.backward()
    return float(value), tensor.grad.numpy()


@pytest.fixture(autouse=True, params=["loops", "products"])
def small_batches(request, monkeypatch):
    """Take small batches by compiled loops, as they are, and by products of matrices, as large ones are."""
    if request.param == "products":
        monkeypatch.setattr(pair_contrastive, "_LOOPED", 0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch", [2, 12])
def test_value_and_gradient(seed, batch):
    x, y, _ = draw(seed, batch)
    loss = PairContrastiveLoss(margin=MARGIN)
    value, gradient = value_and_gradient(loss, x, torch.tensor(y))
    near, far = all_pairs(x, y)
    assert value == pytest.approx(mean(near) + mean(far), abs=1e-10)
    assert float(loss.breakdown["positive"]) == pytest.approx(mean(near), abs=1e-10)
    assert float(loss.breakdown["negative"]) == pytest.approx(mean(far), abs=1e-10)
    assert np.abs(gradient - differences(x, y)).max() < 1e-10
    if batch > 2:
        assert near
        assert 0 < sum(term > 0 for term in far) < len(far)  # on both sides of the margin


# The first three take the short route, the last three go pair by pair.
ROUTES = {
    "default": (None, None, mean),
    "sum": (SumReducer(), None, sum),
    "named": (MultipleReducers({"positive": SumReducer(), "negative": SumReducer()}), None, sum),
    "pairs_mean": (None, EuclideanDistance(power=1, normalize_embeddings=False, p=2.0), mean),
    "pairs_sum": (SumReducer(), type("Other", (EuclideanDistance,), {})(), sum),
    "non_zero": (AvgNonZeroReducer(), None, lambda terms: mean([term for term in terms if term > 0])),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("parts", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("seed", range(2))
def test_parts_reducers_and_both_routes(route, parts, seed):
    x, y, _ = draw(seed)
    reducer, distance, total = ROUTES[route]
    loss = PairContrastiveLoss(MARGIN, *parts, reducer=reducer, distance=distance)
    value, gradient = value_and_gradient(loss, x, torch.tensor(y))
    assert value == pytest.approx(reference(x, y, total, *parts), abs=1e-10)
    if total is not ROUTES["non_zero"][2]:
        assert np.abs(gradient - slope(lambda v: reference(v, y, total, *parts), x)).max() < 1e-7


def test_each_term_has_its_own_reducer():
    x, y, _ = draw(0)
    loss = PairContrastiveLoss(MARGIN, reducer=MultipleReducers({"positive": SumReducer()}, MeanReducer()))
    near, far = all_pairs(x, y)
    assert float(loss(torch.tensor(x), torch.tensor(y))) == pytest.approx(sum(near) + mean(far), abs=1e-10)


@pytest.mark.parametrize("distance", [LpDistance(), LpDistance(p=1, normalize_embeddings=False), LpDistance(power=2)])
def test_another_distance(distance):
    x, y, _ = draw(2)
    loss = PairContrastiveLoss(0.8, distance=distance)
    value, gradient = value_and_gradient(loss, x, torch.tensor(y))

    def with_distance(v):
        near, far = [], []
        if distance.normalize_embeddings:
            v = np.stack([row / norm(row) for row in v])
        for i in range(len(v)):
            for j in range(i + 1, len(v)):
                apart = v[i] - v[j] + 1e-6  # the library's own constant
                d = (np.abs(apart).sum() if distance.p == 1 else norm(apart)) ** distance.power
                if y[i] == y[j]:
                    near.append(d**2 / 2)
                else:
                    far.append(max(0, 0.8 - d) ** 2 / 2)
        return mean(near) + mean(far)

    assert value == pytest.approx(with_distance(x), abs=1e-10)
    assert np.abs(gradient - slope(with_distance, x)).max() < 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_next_to_the_librarys_own_loss(seed):
    x, y, _ = draw(seed)
    near = ContrastiveLoss(
        pos_margin=0, neg_margin=MARGIN, distance=EuclideanDistance(power=1), reducer=SumReducer()
    )  # sums d and max(0, m - d) over ordered pairs; no squares there
    library = float(near(torch.tensor(x), torch.tensor(y)))
    own = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            if i != j:
                d = norm(x[i] - x[j])
                own += d if y[i] == y[j] else max(0, MARGIN - d)
    assert library == pytest.approx(own)  # the distance that both use is the plain one


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pair_by_pair_in_half_precision_counts_each_pair_once(dtype):
    x, y, _ = draw(1)
    half = torch.tensor(x).to(dtype)
    loss = PairContrastiveLoss(MARGIN, reducer=SumReducer(), distance=type("Other", (EuclideanDistance,), {})())
    expected = reference(half.double().numpy(), y, sum)
    assert float(loss(half, torch.tensor(y))) == pytest.approx(expected, rel=1e-5)


def test_miners_pairs_and_triplets():
    x, y, _ = draw(3)
    tensor, labels = torch.tensor(x), torch.tensor(y)
    distance = EuclideanDistance()
    pairs = PairMarginMiner(pos_margin=0.5, neg_margin=3.0, distance=distance)(tensor, labels)
    a, p, b, n = (column.tolist() for column in pairs)
    expected = mean([attraction(x[i], x[j]) for i, j in zip(a, p, strict=True)])
    expected += mean([repulsion(x[i], x[j]) for i, j in zip(b, n, strict=True)])
    assert a
    assert b
    assert float(PairContrastiveLoss(MARGIN)(tensor, labels, pairs)) == pytest.approx(expected, abs=1e-10)
    assert float(PairContrastiveLoss(MARGIN)(tensor, None, pairs)) == pytest.approx(expected, abs=1e-10)
    triplets = TripletMarginMiner(margin=0.2, distance=distance)(tensor, labels)
    a, p, n = (column.tolist() for column in triplets)
    expected = mean([attraction(x[i], x[j]) for i, j in zip(a, p, strict=True)])
    expected += mean([repulsion(x[i], x[j]) for i, j in zip(a, n, strict=True)])
    assert a
    assert float(PairContrastiveLoss(MARGIN)(tensor, labels, triplets)) == pytest.approx(expected, abs=1e-10)


def test_reference_embeddings():
    x, y, rng = draw(4, batch=5)
    r, z = rng.normal(size=(7, 3)), rng.integers(1, 4, 7)
    near, far = [], []
    for i in range(5):
        for j in range(7):
            (near if y[i] == z[j] else far).append(attraction(x[i], r[j]) if y[i] == z[j] else repulsion(x[i], r[j]))
    value = PairContrastiveLoss(MARGIN)(
        torch.tensor(x), torch.tensor(y), ref_emb=torch.tensor(r), ref_labels=torch.tensor(z)
    )
    assert float(value) == pytest.approx(mean(near) + mean(far), abs=1e-10)


def test_cross_batch_memory():
    """A ring of 10 embeddings: each batch is stored, then paired with all that is stored but itself."""
    memory = CrossBatchMemory(PairContrastiveLoss(MARGIN), embedding_size=3, memory_size=10)
    ring, place = [None] * 10, 0
    for step in range(5):
        x, y, _ = draw(step, batch=4)
        own = []
        for face, label in zip(x, y, strict=True):
            ring[place] = (face, label)
            own.append(place)
            place = (place + 1) % 10

        def brute(v, own=own, y=y):
            near, far = [], []
            for i in range(4):
                for slot, stored in enumerate(ring):
                    if stored is None or slot == own[i]:
                        continue
                    if stored[1] == y[i]:
                        near.append(attraction(v[i], stored[0]))
                    else:
                        far.append(repulsion(v[i], stored[0]))
            return mean(near) + mean(far)

        value, gradient = value_and_gradient(memory, x, torch.tensor(y))
        assert value == pytest.approx(brute(x), abs=1e-10)
        assert np.abs(gradient - slope(brute, x)).max() < 1e-7  # what is stored has no gradient
    assert "PairContrastiveLoss" in CrossBatchMemory.supported_losses()
    with pytest.raises(Exception, match="not supported for MeanReducer"):
        CrossBatchMemory(MeanReducer(), 3)


def test_batches_without_one_kind_of_pair():
    x, y, _ = draw(0)
    loss = PairContrastiveLoss(MARGIN)
    for labels in (np.zeros(9, dtype=int), np.arange(9)):
        value, gradient = value_and_gradient(loss, x, torch.tensor(labels))
        assert value == pytest.approx(reference(x, labels), abs=1e-10)
        assert np.isfinite(gradient).all()
    for few in (0, 1):
        for options in ({}, {"distance": LpDistance()}):
            value, gradient = value_and_gradient(PairContrastiveLoss(MARGIN, **options), x[:few], torch.tensor(y[:few]))
            assert value == 0
            assert not gradient.any()
    nothing = tuple(torch.tensor([], dtype=torch.long) for _ in range(4))
    assert value_and_gradient(loss, x, torch.tensor(y), nothing)[0] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coinciding_embeddings_have_no_gradient(dtype):
    x = torch.tensor([[0.3, -0.7, 0.2], [0.3, -0.7, 0.2], [0.4, 0.1, 0.9]], dtype=dtype, requires_grad=True)
    loss = PairContrastiveLoss(0.5)  # the third one is farther than that
    value = loss(x, torch.tensor([0, 1, 1]))
    value.backward()
    assert float(loss.breakdown["negative"]) == pytest.approx(0.5**2 / 2 / 2)
    assert torch.allclose(x.grad[0], torch.zeros(3, dtype=dtype))


def test_a_far_face_does_not_swallow_the_near_ones():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4)) * 0.3, np.arange(40) % 5
    x[7] = 1000.0
    expected = reference(x, y, positive=False)
    single = PairContrastiveLoss(MARGIN, positive=False)(torch.tensor(x, dtype=torch.float32), torch.tensor(y))
    assert float(single) == pytest.approx(expected, rel=1e-3)


def test_shift_of_single_precision_embeddings():
    rng = np.random.default_rng(1)
    x, y = torch.tensor(rng.normal(size=(30, 8)), dtype=torch.float32), torch.arange(30) % 3
    loss = PairContrastiveLoss(4.0)
    assert float(loss(x + 50, y)) == pytest.approx(float(loss(x, y)), rel=1e-4)


def test_wrong_use():
    x, y = torch.zeros(3, 2), torch.tensor([0, 0, 1])
    with pytest.raises(WrongUseError, match="both off"):
        PairContrastiveLoss(positive=False, negative=False)
    with pytest.raises(WrongUseError, match="margin must not be negative; got -1"):
        PairContrastiveLoss(margin=-1)
    with pytest.raises(WrongUseError, match="needs a distance, not a similarity"):
        PairContrastiveLoss(distance=CosineSimilarity())
    loss = PairContrastiveLoss()
    with pytest.raises(WrongUseError, match="needs labels"):
        loss(x)
    with pytest.raises(WrongUseError, match="needs labels"):
        loss(x, y, ref_emb=torch.zeros(5, 2))
    with pytest.raises(BadInputError, match="ref_emb have 3 dimensions and the loss was made for 2"):
        loss(x, y, ref_emb=torch.zeros(5, 3), ref_labels=torch.zeros(5, dtype=torch.long))
    with pytest.raises(BadInputError, match=r"labels must be \(5,\), one a row of ref_emb"):
        loss(x, y, ref_emb=torch.zeros(5, 2), ref_labels=y)
    with pytest.raises(BadInputError, match="integer type"):
        loss(x, y.float())
    for labels in (y, None):
        with pytest.raises(BadInputError, match=r"embeddings must be \(B, D\) float; got \(3,\)"):
            loss(x[:, 0], labels, tuple(torch.tensor([0]) for _ in range(4)))
    for bad in ([[9], [1], [0], [2]], [[0], [9], [0], [2]], [[0], [1], [9], [2]], [[0], [1], [0], [9]]):
        with pytest.raises(BadInputError, match="indices_tuple names row 9 of 3 embeddings"):
            loss(x, y, tuple(torch.tensor(column) for column in bad))
    with pytest.raises(BadInputError, match="indices_tuple names row -1 of 3"):
        loss(x, y, tuple(torch.tensor(column) for column in ([0], [-1], [0], [2])))
