"""NoAnchorTripletLoss against our own float64 NumPy transcription of FEC eq. 1, values and gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.losses import MultipleLosses
from pytorch_metric_learning.reducers import SumReducer

from exprembed.errors import BadInputError, WrongUseError
from exprembed.losses import EuclideanDistance, NoAnchorTripletLoss


def reference(x, triplets, margins):
    """Mean of eq. 1 and its gradient, one triplet at a time."""
    value, gradient = 0.0, np.zeros_like(x)

    def unit(v):
        length = np.sqrt((v**2).sum())
        return v / length if length > 0 else np.zeros_like(v)

    for (a, b, odd), margin in zip(triplets, margins, strict=True):
        ab, ao, bo = x[a] - x[b], x[a] - x[odd], x[b] - x[odd]
        d_ab, d_ao, d_bo = (np.sqrt((v**2).sum()) for v in (ab, ao, bo))
        for d_other, other, end in ((d_ao, ao, a), (d_bo, bo, b)):
            term = d_ab - d_other + margin
            if term > 0:
                value += term
                gradient[a] += unit(ab)
                gradient[b] -= unit(ab)
                gradient[end] -= unit(other)
                gradient[odd] += unit(other)
    return value / len(triplets), gradient / len(triplets)


def draw(seed, n=12, d=5, t=20):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    triplets = np.array([rng.choice(n, 3, replace=False) for _ in range(t)])
    return x, triplets, rng.choice([0.1, 0.2], t)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("t", [1, 20])
def test_value_and_gradient(seed, t):
    x, triplets, margins = draw(seed, t=t)
    tensor = torch.tensor(x, requires_grad=True)
    loss = NoAnchorTripletLoss()(tensor, indices_tuple=tuple(triplets.T), margins=torch.tensor(margins))
    loss.backward()
    value, gradient = reference(x, triplets, margins)
    assert abs(float(loss) - value) < 1e-12
    assert np.abs(tensor.grad.numpy() - gradient).max() < 1e-12
    assert value > 0


def test_sum_reducer_gives_the_printed_sum():
    x, triplets, _ = draw(0)
    value, _ = reference(x, triplets, [0.2] * len(triplets))
    loss = NoAnchorTripletLoss(margin=0.2, reducer=SumReducer())(torch.tensor(x), indices_tuple=tuple(triplets.T))
    assert abs(float(loss) - value * len(triplets)) < 1e-10


def test_gradcheck_away_from_the_hinges():
    x, triplets, margins = draw(3, n=6, t=4)
    loss = NoAnchorTripletLoss()
    assert torch.autograd.gradcheck(
        lambda v: loss(v, indices_tuple=tuple(triplets.T), margins=torch.tensor(margins)),
        torch.tensor(x, requires_grad=True),
    )


def test_coinciding_embeddings_have_a_finite_gradient():
    x = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
    loss = NoAnchorTripletLoss(margin=0.2)(x, indices_tuple=([0], [1], [2]))
    loss.backward()
    assert float(loss) == pytest.approx(0.4)
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_well_separated_triplet_costs_nothing():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert float(NoAnchorTripletLoss(0.2)(x, indices_tuple=([0], [1], [2]))) == 0
    assert float(NoAnchorTripletLoss(0.2)(x, indices_tuple=([0], [2], [1]))) > 2


def test_no_triplet_gives_zero_with_a_gradient():
    x = torch.randn(4, 3, requires_grad=True)
    loss = NoAnchorTripletLoss()(x, indices_tuple=([], [], []))
    loss.backward()
    assert float(loss) == 0
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_margins_by_type():
    loss = NoAnchorTripletLoss(0.2, {"one_class": 0.1})
    assert loss.margins_of(["one_class", "two_class"]).tolist() == pytest.approx([0.1, 0.2])


def test_inside_multiple_losses():
    x, triplets, _ = draw(1)
    index = tuple(torch.tensor(column) for column in triplets.T)
    single = NoAnchorTripletLoss(0.2)
    both = MultipleLosses([single, NoAnchorTripletLoss(0.4)], weights=[1, 0.5])
    together = both(torch.tensor(x), None, index)
    apart = single(torch.tensor(x), None, index) + 0.5 * NoAnchorTripletLoss(0.4)(torch.tensor(x), None, index)
    assert float(together) == pytest.approx(float(apart))


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_invariances(seed):
    x, triplets, margins = draw(seed, n=8, d=3, t=6)
    loss, tensor = NoAnchorTripletLoss(), torch.tensor(x)
    index = tuple(torch.tensor(column) for column in triplets.T)
    value = float(loss(tensor, indices_tuple=index, margins=torch.tensor(margins)))
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    moved = torch.tensor(x @ rotation + rng.normal(size=3))
    assert float(loss(moved, indices_tuple=index, margins=torch.tensor(margins))) == pytest.approx(value, abs=1e-9)
    order = torch.tensor(rng.permutation(8))
    places = torch.argsort(order)
    shuffled = tuple(places[column] for column in index)
    assert float(loss(tensor[order], indices_tuple=shuffled, margins=torch.tensor(margins))) == pytest.approx(value)
    swapped = (index[1], index[0], index[2])
    assert float(loss(tensor, indices_tuple=swapped, margins=torch.tensor(margins))) == pytest.approx(value)
    doubled = tuple(torch.cat([column, column]) for column in index)
    assert float(loss(tensor, indices_tuple=doubled, margins=torch.tensor(np.tile(margins, 2)))) == pytest.approx(value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite(dtype):
    x, triplets, _ = draw(2)
    tensor = torch.tensor(x).to(dtype).requires_grad_()
    loss = NoAnchorTripletLoss()(tensor, indices_tuple=tuple(triplets.T))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(tensor.grad).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_equals_cpu():
    x, triplets, _ = draw(2)
    index = tuple(triplets.T)
    cpu = NoAnchorTripletLoss()(torch.tensor(x), indices_tuple=index)
    assert float(NoAnchorTripletLoss()(torch.tensor(x).cuda(), indices_tuple=index)) == pytest.approx(float(cpu))


def test_wrong_use():
    x = torch.randn(4, 3)
    with pytest.raises(WrongUseError, match="indices_tuple"):
        NoAnchorTripletLoss()(x, torch.zeros(4))
    for margin in (-0.1, float("nan")):
        with pytest.raises(WrongUseError, match="margin must not be negative"):
            NoAnchorTripletLoss(margin)
        with pytest.raises(WrongUseError, match="two_class must not be negative"):
            NoAnchorTripletLoss(0.2, {"two_class": margin})
    with pytest.raises(WrongUseError, match="one_class"):
        NoAnchorTripletLoss(0.2, {"one_clas": 0.1})
    with pytest.raises(BadInputError, match="row 9 of 4"):
        NoAnchorTripletLoss()(x, indices_tuple=([0], [1], [9]))
    for triplet in ([-1], [1], [2]), ([0], [-1], [2]), ([0], [1], [-1]):  # not the last row: a face not found
        with pytest.raises(BadInputError, match="row -1 of 4"):
            NoAnchorTripletLoss()(x, indices_tuple=triplet)
    with pytest.raises(BadInputError, match="margins"):
        NoAnchorTripletLoss()(x, indices_tuple=([0], [1], [2]), margins=torch.ones(3))
    with pytest.raises(BadInputError, match=r"\(B, D\)"):
        NoAnchorTripletLoss()(x[0], indices_tuple=([0], [1], [2]))


# name: (what the loss is given, how near or similar two rows are, whether more is nearer)
DISTANCES = {
    "cosine": (CosineSimilarity(), lambda v, w: v @ w / np.sqrt((v @ v) * (w @ w)), True),
    "normalised": (EuclideanDistance(normalize_embeddings=True), lambda v, w: length(unit(v) - unit(w)), False),
    "squared": (EuclideanDistance(power=2), lambda v, w: length(v - w) ** 2, False),
    # Row by row the library adds 1e-6 to each difference, from its matrix of all pairs it does not.
    "library": (LpDistance(normalize_embeddings=True), lambda v, w: length(unit(v) - unit(w)), False),
}


def length(v):
    return np.sqrt((v**2).sum())


def unit(v):
    return v / length(v)


def with_distance(x, triplets, margins, closeness, inverted):
    """Eq. 1 of another distance, and its gradient by central differences."""

    def value_of(rows):
        total = 0.0
        for (a, b, odd), margin in zip(triplets, margins, strict=True):
            for end in (a, b):
                gap = closeness(rows[a], rows[b]) - closeness(rows[end], rows[odd])
                total += max(0.0, (-gap if inverted else gap) + margin)
        return total / len(triplets)

    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        sides = []
        for step in (1e-6, -1e-6):
            moved = x.copy()
            moved[place] += step
            sides.append(value_of(moved))
        gradient[place] = (sides[0] - sides[1]) / 2e-6
    return value_of(x), gradient


# 8 embeddings: 5 triplets go row by row, 24 by the matrix of all pairs.
@pytest.mark.parametrize("t", [5, 24])
@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("seed", range(2))
def test_another_distance(name, t, seed):
    distance, closeness, inverted = DISTANCES[name]
    x, triplets, margins = draw(seed, n=8, d=3, t=t)
    x = x * np.random.default_rng(seed).uniform(0.5, 2, (len(x), 1))
    tensor = torch.tensor(x, requires_grad=True)
    loss = NoAnchorTripletLoss(distance=distance)(
        tensor, indices_tuple=tuple(triplets.T), margins=torch.tensor(margins)
    )
    loss.backward()
    value, gradient = with_distance(x, triplets, margins, closeness, inverted)
    assert value > 0
    assert float(loss) == pytest.approx(value, abs=1e-5 if name == "library" else 1e-12)
    assert np.abs(tensor.grad.numpy() - gradient).max() < (1e-4 if name == "library" else 1e-8)


@pytest.mark.parametrize("distance", [None, *(row[0] for row in DISTANCES.values())])
def test_both_routes_give_the_same(distance):
    x, triplets, margins = draw(4, n=10, t=60)  # the matrix of all pairs
    loss, found = NoAnchorTripletLoss(distance=distance), []
    many, parts = torch.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    loss(many, indices_tuple=tuple(triplets.T), margins=torch.tensor(margins)).backward()
    for few, margin in zip(np.split(triplets, 20), np.split(margins, 20), strict=True):  # row by row
        value = loss(parts, indices_tuple=tuple(few.T), margins=torch.tensor(margin))
        (value / 20).backward()
        found.append(float(value.detach()))
    tolerance = 1e-5 if isinstance(distance, LpDistance) and not isinstance(distance, EuclideanDistance) else 1e-12
    together = loss(many, indices_tuple=tuple(triplets.T), margins=torch.tensor(margins))
    assert float(together) == pytest.approx(np.mean(found), abs=tolerance)
    assert np.abs(many.grad - parts.grad).max() < tolerance


@pytest.mark.parametrize("t", [1, 60])
def test_coinciding_embeddings_on_both_routes(t):
    x = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
    NoAnchorTripletLoss(margin=0.2)(x, indices_tuple=([0] * t, [1] * t, [2] * t)).backward()
    assert torch.equal(x.grad, torch.zeros_like(x))
