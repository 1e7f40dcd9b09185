"""What holds for every loss, whatever the batch: symmetries, optima, edge cases, precision, and the library's options."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import MultipleLosses
from pytorch_metric_learning.reducers import DoNothingReducer, MeanReducer, SumReducer
from pytorch_metric_learning.regularizers import LpRegularizer

from exprembed import losses
from exprembed.errors import WrongUseError
from exprembed.losses import LOSSES

C, D, ROWS = 4, 3, 6
COUNTS = [5, 20, 10, 40]


@dataclass
class Case:
    """A loss, what its batch consists of (each by faces along `axes`), and what the maths says of it."""

    options: dict = field(default_factory=dict)
    batch: tuple = ("x", "y")
    centered: bool = False  # keeps learned centres
    moves_along: bool = False  # the same after a shift of everything, centres too
    turns_along: bool = False  # the same after a rotation of everything, centres too
    duplicates: bool = True  # the same for each face twice, mean reducer
    reducible: bool = True  # a reducer sees its terms


BOTH = {"moves_along": True, "turns_along": True}
CENTERED = {"num_classes": C, "embedding_dim": D}
CASES = {
    "CenterLoss": Case(CENTERED, centered=True, **BOTH),
    "CenterLocalLoss": Case(**BOTH),
    "IslandLoss": Case(CENTERED, centered=True, turns_along=True),
    "EuclideanIslandLoss": Case(CENTERED, centered=True, **BOTH),
    "SubclassLoss": Case({**CENTERED, "num_subclasses": 3, "margin": 0.5, "lambda_margin": 0.3}, centered=True, **BOTH),
    "VACenterLoss": Case(CENTERED, ("x", "y", "va"), centered=True, **BOTH),
    "VACenterLoss-local": Case({"local": True, "use": "valence"}, ("x", "y", "va"), **BOTH),
    "PairContrastiveLoss": Case({"margin": 2.0}, duplicates=False, **BOTH),  # a copy is a new pair at distance zero
    "WeightedCrossEntropy": Case({"class_counts": COUNTS}, ("z", "y")),
    "FocalLoss": Case({"gamma": 1.5, "weight": COUNTS}, ("z", "y")),
    "SoftLabelLoss": Case(batch=("z", "q")),
    "LogitLoss": Case(batch=("z", "q")),
    "MultiDomainCrossEntropy": Case({"class_weights": [COUNTS, COUNTS], "domain_sizes": [75, 9]}, ("zz", "y", "j")),
    "CCCLoss": Case(batch=("x", "t"), reducible=False),
    "GCNetLoss": Case({"margin": 1.5}, ("z", "y", "p", "r", "g", "e", "f")),
}
CENTERED_NAMES = [name for name, case in CASES.items() if case.centered]
EVERY = pytest.mark.parametrize("name", CASES)
seeds = st.integers(0, 100_000)
few = settings(max_examples=10, deadline=None)


def make(name, dtype=torch.float64, **options):
    torch.manual_seed(0)
    return getattr(losses, name.split("-")[0])(**CASES[name].options, **options).to(dtype)


def draw(name, seed, rows=ROWS):
    """A random batch, float64: a dictionary in the order of the call."""
    rng = np.random.default_rng(seed)
    kinds = {
        "x": lambda: rng.normal(size=(rows, D)),
        "z": lambda: rng.normal(size=(rows, C)) * 2,
        "zz": lambda: rng.normal(size=(2, rows, C)) * 2,
        "y": lambda: rng.integers(0, C, rows),
        "j": lambda: rng.integers(0, 2, rows),
        "va": lambda: rng.uniform(-1, 1, (rows, 2)),
        "q": lambda: rng.dirichlet(np.ones(C), rows),
        "t": lambda: rng.normal(size=(rows, D)),
    }
    other = lambda: rng.normal(size=(rows, 2, 3))  # noqa: E731 - the images and codes of GCNet
    return {kind: torch.tensor(kinds.get(kind, other)()) for kind in CASES[name].batch}


def arguments(batch):
    """What a loss is called with, in order and by name."""
    if "va" in batch:
        return (batch["x"], batch["y"]), {"valence_arousal": batch["va"]}
    if "p" in batch:
        pictures = {"images": batch["p"], "references": batch["r"], "generated": batch["g"]}
        codes = {"codes": (batch["e"], batch["f"]), "reconstructions": (batch["g"], batch["g"])}
        return (batch["z"], batch["y"]), pictures | codes
    return tuple(batch.values()), {}


def call(loss, batch):
    ordered, named = arguments(batch)
    return loss(*ordered, **named)


def taken(batch, rows):
    return {kind: part[:, rows] if kind == "zz" else part[rows] for kind, part in batch.items()}


def real(kind, part):
    return part.is_floating_point() and kind != "q"


def leaves(batch, dtype=None):
    """The same batch, its real numbers but targets of another type, and the first of them with a gradient."""
    batch = {kind: part.to(dtype) if dtype and real(kind, part) else part.clone() for kind, part in batch.items()}
    first = next(iter(batch))
    batch[first] = batch[first].requires_grad_()
    return batch, batch[first]


def backward(loss, batch, dtype=None):
    batch, leaf = leaves(batch, dtype)
    value = call(loss, batch)
    value.backward()
    return value.detach(), leaf.grad


def test_every_loss_takes_part():
    assert {name.split("-")[0] for name in CASES} | {"NoAnchorTripletLoss"} == set(LOSSES.exports())


@EVERY
@given(seed=seeds)
@few
def test_order_of_the_batch(name, seed):
    batch, order = draw(name, seed), np.random.default_rng(seed).permutation(ROWS)
    one, other = make(name), make(name)
    value, gradient = backward(one, batch)
    again, turned = backward(other, taken(batch, order))
    assert float(again) == pytest.approx(float(value), abs=1e-12)
    expected = gradient[:, order] if "zz" in batch else gradient[order]
    assert torch.allclose(turned, expected, atol=1e-12)
    for key, tensor in one.state_dict().items():
        assert torch.allclose(other.state_dict()[key], tensor, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.duplicates])
@given(seed=seeds)
@few
def test_each_face_twice(name, seed):
    batch = draw(name, seed)
    value = call(make(name), batch)
    twice = call(make(name), taken(batch, np.tile(np.arange(ROWS), 2)))
    assert float(twice) == pytest.approx(float(value), abs=1e-12)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.turns_along])
@given(seed=seeds)
@few
def test_shift_and_rotation(name, seed):
    rng, batch = np.random.default_rng(seed), draw(name, seed)
    rotation = torch.tensor(np.linalg.qr(rng.normal(size=(D, D)))[0])
    shift = torch.tensor(rng.normal(size=D) * 3) if CASES[name].moves_along else torch.zeros(D)

    def move(points):
        return points @ rotation + shift

    one, other = make(name), make(name)
    if CASES[name].centered:
        other.centers.copy_(move(one.centers))
    value, gradient = backward(one, batch)
    moved, turned = backward(other, {**batch, "x": move(batch["x"])})
    assert float(moved) == pytest.approx(float(value), abs=1e-10)
    assert torch.allclose(turned, gradient @ rotation, atol=1e-10)
    if CASES[name].centered:
        assert torch.allclose(other.centers, move(one.centers), atol=1e-10)  # the centres' shift turns along


@EVERY
@given(seed=seeds)
@few
def test_never_negative_and_the_breakdown_adds_up(name, seed):
    loss, batch = make(name), draw(name, seed)
    value = float(call(loss, batch))
    assert value >= 0
    assert set(loss.breakdown) == set(loss.TERMS)
    assert not any(term.requires_grad for term in loss.breakdown.values())
    assert float(sum(loss.breakdown.values())) == pytest.approx(value, abs=1e-12)


@given(seed=seeds)
@few
def test_zero_at_the_optimum(seed):
    rng = np.random.default_rng(seed)
    y = torch.tensor(rng.integers(0, C, ROWS))
    spots = torch.tensor(rng.normal(size=(C, D)))
    va = torch.tensor(rng.uniform(-1, 1, (ROWS, 2)))
    on_their_spots = {"x": spots[y], "y": y, "va": va}
    for name in ("CenterLoss", "SubclassLoss", "VACenterLoss"):
        loss = make(name)
        loss.centers.copy_(spots if loss.centers.ndim == 2 else spots[:, None].expand_as(loss.centers))
        before = loss.centers.clone()
        value, gradient = backward(loss, {kind: on_their_spots[kind] for kind in CASES[name].batch})
        assert float(value) == 0
        assert not gradient.any()
        assert torch.equal(loss.centers, before)
    for name in ("CenterLocalLoss", "VACenterLoss-local"):
        value, gradient = backward(make(name), {kind: on_their_spots[kind] for kind in CASES[name].batch})
        assert float(value) == pytest.approx(0, abs=1e-30)
        assert gradient.abs().max() < 1e-15
    far = 2 * torch.eye(C, dtype=torch.float64)[y]  # two classes are 2 sqrt(2) apart, beyond the margin
    value, gradient = backward(make("PairContrastiveLoss"), {"x": far, "y": y})
    assert float(value) == pytest.approx(0, abs=1e-14)
    assert gradient.abs().max() < 1e-7
    sure = 200 * torch.eye(C, dtype=torch.float64)[y]
    for name in ("WeightedCrossEntropy", "FocalLoss"):
        assert float(backward(make(name), {"z": sure, "y": y})[0]) == pytest.approx(0, abs=1e-30)
    q = torch.tensor(rng.dirichlet(np.ones(C), ROWS))
    value, gradient = backward(make("LogitLoss"), {"z": q.log(), "q": q})
    assert float(value) == pytest.approx(0, abs=1e-28)
    assert backward(make("SoftLabelLoss"), {"z": q.log(), "q": q})[1].abs().max() < 1e-14  # least, and not zero


@EVERY
@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("regularizer", [None, LpRegularizer()])
def test_no_face_and_one_face(name, rows, regularizer):
    loss = make(name, embedding_regularizer=regularizer)
    value, gradient = backward(loss, draw(name, 1, rows))
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    assert all(torch.isfinite(tensor).all() for tensor in loss.state_dict().values())
    if rows == 0 and not hasattr(loss, "lambda_island") and not hasattr(loss, "lambda_margin"):
        assert float(value) == 0


@pytest.mark.parametrize("name", CENTERED_NAMES)
def test_no_face_and_centres_of_an_optimizer(name):
    loss = make(name, update="optimizer")
    _, gradient = backward(loss, draw(name, 1, 0))
    assert gradient.shape == (0, D)  # a step that other processes wait for
    if loss.centers.grad is not None:
        assert torch.isfinite(loss.centers.grad).all()


@EVERY
@given(seed=seeds, label=st.integers(0, C - 1))
@settings(max_examples=5, deadline=None)
def test_one_class(name, seed, label):
    batch = draw(name, seed)
    if "y" in batch:
        batch["y"] = torch.full_like(batch["y"], label)
    loss = make(name)
    value, gradient = backward(loss, batch)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    assert all(torch.isfinite(tensor).all() for tensor in loss.state_dict().values())


@EVERY
@pytest.mark.parametrize("seed", range(2))
def test_gradcheck(name, seed):
    batch, leaf = leaves(draw(name, seed, rows=4))
    loss, first = make(name).eval(), next(iter(batch))
    assert torch.autograd.gradcheck(lambda v: call(loss, {**batch, first: v}), leaf)


@pytest.mark.parametrize("name", CENTERED_NAMES)
def test_gradcheck_of_the_centres(name):
    loss, batch = make(name, update="optimizer").eval(), draw(name, 1, rows=4)
    start = loss.centers.detach().clone().requires_grad_()

    def of_centres(centers):
        return torch.func.functional_call(loss, {"centers": centers}, *arguments(batch))

    assert torch.autograd.gradcheck(of_centres, start)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(name, dtype):
    batch = draw(name, 3)
    loss = make(name, torch.float32)
    rounded = {kind: part.to(dtype).double() if real(kind, part) else part for kind, part in batch.items()}
    exact = call(make(name), rounded)
    value, gradient = backward(loss, batch, dtype)
    assert gradient.dtype == dtype
    assert torch.isfinite(gradient).all()
    assert float(value) == pytest.approx(
        float(exact), rel=1e-4
    )  # sums run in float32: no more is lost than in the input
    assert all(tensor.dtype == torch.float32 for tensor in loss.state_dict().values())


@EVERY
def test_half_precision_does_not_overflow(name):
    """Squared distances beyond float16's 65504."""
    batch = {kind: part * 300 if kind in "xzrgept" else part for kind, part in draw(name, 3).items()}
    value, gradient = backward(make(name, torch.float32), batch, torch.float16)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_autocast(name, dtype):
    batch = draw(name, 4)
    exact_loss, loss = make(name, torch.float32), make(name, torch.float32)
    exact, _ = backward(exact_loss, batch, dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = backward(loss, batch, dtype)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(exact), rel=1e-5)
    assert torch.isfinite(gradient).all()
    for key, tensor in loss.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.allclose(tensor, exact_loss.state_dict()[key], atol=1e-6)


@EVERY
def test_embedding_regularizer(name):
    batch, weight = draw(name, 5), 0.3
    plain, loss = make(name), make(name, embedding_regularizer=LpRegularizer(p=2), embedding_reg_weight=weight)
    first = next(iter(batch.values()))
    if first.ndim == 3:  # the logits of a face's own data set
        first = first[batch["j"], torch.arange(ROWS)]
    extra = weight * np.mean([np.sqrt((row**2).sum()) for row in first.numpy()])
    value = call(loss, batch)
    assert float(value) == pytest.approx(float(call(plain, batch)) + extra, abs=1e-12)
    assert float(loss.breakdown["embedding_reg_loss"]) == pytest.approx(extra, abs=1e-12)
    assert float(sum(loss.breakdown.values())) == pytest.approx(float(value), abs=1e-12)


@EVERY
def test_another_distance_is_refused_where_there_is_none(name):
    if name == "PairContrastiveLoss":
        assert make(name, distance=LpDistance())
        return
    with pytest.raises(WrongUseError, match=f"{name.split('-')[0]} is defined without a choice of distance"):
        make(name, distance=LpDistance())


@EVERY
def test_reducers(name):
    batch = draw(name, 6)
    terms = call(make(name, reducer=DoNothingReducer()), batch)
    assert set(terms) == set(make(name).TERMS)
    mean, total = (call(make(name, reducer=reducer()), batch) for reducer in (MeanReducer, SumReducer))
    if not CASES[name].reducible:
        assert float(mean) == float(total)
        return
    loss = make(name, reducer=SumReducer())
    call(loss, batch)
    summed = dict(loss.breakdown)
    loss = make(name)
    call(loss, batch)
    if name != "PairContrastiveLoss":  # there the mean runs over pairs
        for term, number in loss.breakdown.items():
            share = 1 if term in ("island", "margin") else ROWS  # a sum over centres is not one over faces
            assert float(summed[term]) == pytest.approx(float(number) * share, abs=1e-10)
    assert float(total) > float(mean)


def test_inside_multiple_losses():
    batch = draw("CenterLoss", 7)
    names = [name for name, case in CASES.items() if case.batch == ("x", "y")]
    apart = sum(weight * float(call(make(name), batch)) for weight, name in enumerate(names, 1))
    together = MultipleLosses([make(name) for name in names], weights=list(range(1, len(names) + 1)))
    assert float(together(*batch.values())) == pytest.approx(apart, abs=1e-10)
    named = MultipleLosses({"center": make("CenterLoss"), "pairs": make("PairContrastiveLoss")})
    assert float(named(*batch.values())) == pytest.approx(
        float(call(make("CenterLoss"), batch)) + float(call(make("PairContrastiveLoss"), batch)), abs=1e-10
    )
    assert "losses.center.centers" in named.state_dict()


@EVERY
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_equals_cpu(name):
    batch = draw(name, 8, rows=40)
    cpu, gpu = make(name), make(name).cuda()
    value, gradient = backward(cpu, batch)
    again, there = backward(gpu, {kind: part.cuda() for kind, part in batch.items()})
    assert float(again) == pytest.approx(float(value), abs=1e-10)
    assert torch.allclose(there.cpu(), gradient, atol=1e-10)
    for key, tensor in cpu.state_dict().items():
        assert torch.allclose(gpu.state_dict()[key].cpu(), tensor, atol=1e-10)
