"""WeightedCrossEntropy, FocalLoss, LogitLoss and VAHistogram against float64 NumPy transcriptions.

Thesis equations (3.3.3), (3.3.4) by its sentence, (3.4.2), section 3.4's histogram and (5.4.1).
"""

import math

import numpy as np
import pytest
import torch
from _numeric import slope
from pytorch_metric_learning.reducers import SumReducer

from exprembed.data import FaceTable
from exprembed.errors import BadInputError, WrongUseError
from exprembed.losses import FocalLoss, LogitLoss, SoftLabelLoss, VAHistogram, WeightedCrossEntropy

C = 5
COUNTS = [40, 10, 25, 160, 12]
REDUCERS = pytest.mark.parametrize("reducer", [None, SumReducer()])


def softmax(z):
    shares = [math.exp(number) for number in z]
    return [share / sum(shares) for share in shares]


def weighted_sum(z, y):
    """(3.3.3) over the batch, with w = f_min / f."""
    total = 0.0
    for i in range(len(z)):
        total -= min(COUNTS) / COUNTS[y[i]] * math.log(softmax(z[i])[y[i]])
    return total


def focal_sum(z, y, gamma, weight):
    """(5.4.1) over the batch."""
    total = 0.0
    for i in range(len(z)):
        p = softmax(z[i])[y[i]]
        total -= weight[y[i]] * (1 - p) ** gamma * math.log(p)
    return total


def logit_sum(z, q):
    """(3.4.2) over the batch."""
    total = 0.0
    for i in range(len(z)):
        p = softmax(z[i])
        total += 0.5 * sum((p[c] - q[i][c]) ** 2 for c in range(len(p)))
    return total


def logits(seed, batch):
    rng = np.random.default_rng([seed, batch])
    return rng.normal(size=(batch, C)) * 2, rng.integers(1, C - 1, batch), rng


def compare(loss, z, target, printed, reducer, tolerance=1e-9):
    tensor = torch.tensor(z, requires_grad=True)
    value = loss(tensor, torch.tensor(target))
    value.backward()
    share = 1 if reducer else 1 / len(z)
    assert float(value) == pytest.approx(printed(z) * share, abs=1e-11)
    assert float(loss.breakdown["loss"]) == float(value)
    assert np.abs(tensor.grad.numpy() - slope(printed, z) * share).max() < tolerance


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch", [1, 8])
@REDUCERS
def test_weighted_cross_entropy(seed, batch, reducer):
    z, y, _ = logits(seed, batch)
    compare(WeightedCrossEntropy(COUNTS, reducer=reducer), z, y, lambda v: weighted_sum(v, y), reducer)


def test_rare_classes_weigh_more():
    weights = WeightedCrossEntropy(COUNTS).weights
    assert weights.tolist() == pytest.approx([10 / 40, 1, 10 / 25, 10 / 160, 10 / 12], abs=1e-15)
    assert weights.dtype == torch.float64
    z, y = torch.zeros(2, C, dtype=torch.float64), torch.tensor([1, 3])
    apart = [float(WeightedCrossEntropy(COUNTS)(z[[i]], y[[i]])) for i in range(2)]
    assert apart[0] == pytest.approx(16 * apart[1])
    torch_mean = torch.nn.functional.cross_entropy(z, y, weights)  # divides by the weights
    assert float(WeightedCrossEntropy(COUNTS)(z, y)) == pytest.approx(float(torch_mean) * float(weights[y].mean()))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@REDUCERS
def test_focal(seed, batch, gamma, reducer):
    z, y, rng = logits(seed, batch)
    weight = rng.uniform(0, 2, C)
    one = [1.0] * C
    compare(FocalLoss(gamma, reducer=reducer), z, y, lambda v: focal_sum(v, y, gamma, one), reducer)
    compare(FocalLoss(gamma, weight, reducer=reducer), z, y, lambda v: focal_sum(v, y, gamma, weight), reducer)


def test_focal_of_zero_is_cross_entropy():
    z, y, _ = logits(0, 8)
    expected = torch.nn.functional.cross_entropy(torch.tensor(z), torch.tensor(y))
    assert float(FocalLoss(0)(torch.tensor(z), torch.tensor(y))) == pytest.approx(float(expected), abs=1e-14)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_focal_where_p_is_one_or_zero_to_rounding(gamma, dtype):
    z = torch.tensor([[200.0, 0.0, 0.0], [-200.0, 0.0, 0.0], [1e4, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    value = FocalLoss(gamma, reducer=SumReducer())(z, torch.tensor([0, 0, 0]))
    value.backward()
    assert float(value) == pytest.approx(200 + math.log(2), rel=1e-6)
    assert torch.isfinite(z.grad).all()
    assert not z.grad[2].any()


def test_focal_of_one_class():
    z = torch.zeros(2, 1, requires_grad=True)
    value = FocalLoss()(z, torch.tensor([0, 0]))
    value.backward()
    assert float(value) == 0
    assert torch.equal(z.grad, torch.zeros(2, 1))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch", [1, 8])
@REDUCERS
def test_logit(seed, batch, reducer):
    z, _, rng = logits(seed, batch)
    q = rng.dirichlet(np.full(C, 0.3), batch)
    compare(LogitLoss(reducer=reducer), z, q, lambda v: logit_sum(v, q), reducer)


def test_logit_bounds():
    q = torch.tensor([[0.1, 0.2, 0.7]], dtype=torch.float64)
    assert float(LogitLoss()(q.log(), q)) == pytest.approx(0, abs=1e-30)
    assert float(LogitLoss()(torch.tensor([[100.0, 0.0]]), torch.tensor([[0.0, 1.0]]))) == pytest.approx(1)
    assert float(LogitLoss()(torch.tensor([[0.0, 100.0]]), torch.tensor([[0, 1]]))) == pytest.approx(
        0
    )  # one-hot counts


@pytest.mark.parametrize("make", [lambda: WeightedCrossEntropy(COUNTS), FocalLoss, lambda: FocalLoss(2.0, COUNTS)])
def test_empty_batch_miners_weights_and_bad_labels(make):
    empty = torch.zeros(0, C, requires_grad=True)
    value = make()(empty, torch.zeros(0, dtype=torch.long))
    value.backward()
    assert float(value) == 0
    assert empty.grad.shape == (0, C)
    z, y, _ = logits(1, 4)
    tensor, labels = torch.tensor(z), torch.tensor(y)
    apart = [float(make()(tensor[[i]], labels[[i]])) for i in range(4)]
    pairs = tuple(torch.tensor(column) for column in ([0], [1], [0], [2]))  # 0 twice, 1 and 2 once, 3 never
    expected = (apart[0] + 0.5 * apart[1] + 0.5 * apart[2]) / 4
    assert float(make()(tensor, labels, pairs)) == pytest.approx(expected)
    with pytest.raises(WrongUseError, match="needs labels"):
        make()(tensor)
    for bad in (-100, -1, C):
        with pytest.raises(BadInputError, match=rf"labels must lie in 0..4; got {bad}"):
            make()(tensor[:1], torch.tensor([bad]))
    with pytest.raises(BadInputError, match=r"integer type; got torch\.float64"):
        make()(tensor, labels.double())
    with pytest.raises(BadInputError, match=r"labels must be \(4,\), one a row of logits; got \(4, 5\)"):
        make()(tensor, torch.zeros(4, C, dtype=torch.long))
    with pytest.raises(BadInputError, match=r"logits must be \(B, D\) float"):
        make()(tensor[0], labels)


def test_wrong_weights_and_gamma():
    with pytest.raises(BadInputError, match=r"class 1 has 0 faces; a weight needs at least one: leave the class out"):
        WeightedCrossEntropy([3, 0, 2])
    with pytest.raises(BadInputError, match="class 0 has -1 faces"):
        WeightedCrossEntropy([-1, 2])
    with pytest.raises(BadInputError, match="class 1 has nan faces"):
        WeightedCrossEntropy([1, float("nan")])
    for counts in ([], [[1, 2]], 3):
        with pytest.raises(BadInputError, match=r"class_counts must be \(C,\)"):
            WeightedCrossEntropy(counts)
    with pytest.raises(WrongUseError, match="gamma must not be negative; got -1"):
        FocalLoss(-1)
    for weight in ([1.0, -1.0], [1.0, float("nan")], [[1.0]], [float("inf")]):
        with pytest.raises(BadInputError, match=r"weight must be \(C,\), finite and not negative"):
            FocalLoss(weight=weight)
    for loss in (WeightedCrossEntropy([1, 2]), FocalLoss(weight=[1, 2])):
        with pytest.raises(BadInputError, match="logits have 3 dimensions and the loss was made for 2"):
            loss(torch.zeros(1, 3), torch.tensor([0]))


@pytest.mark.parametrize("loss", [LogitLoss(), SoftLabelLoss()])
def test_targets_that_are_no_distributions(loss):
    for row in ([0.5, 0.6], [1.5, -0.5], [float("nan"), 1.0], [0.0, 0.0]):
        with pytest.raises(BadInputError, match="each target row must be a distribution"):
            loss(torch.zeros(2, 2), torch.tensor([[0.5, 0.5], row]))
    with pytest.raises(BadInputError, match=r"must both be \(B, C\); got \(1, 2\) and \(1,\)"):
        loss(torch.zeros(1, 2), torch.tensor([0]))
    with pytest.raises(BadInputError, match=r"must both be \(B, C\); got \(2,\)"):
        loss(torch.zeros(2), torch.zeros(2))
    assert float(loss(torch.zeros(0, 2), torch.zeros(0, 2))) == 0
    shares = np.random.default_rng(0).dirichlet(np.ones(8), 50)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):  # rounded shares are still a distribution
        assert torch.isfinite(loss(torch.zeros(50, 8), torch.tensor(shares).to(dtype)))


def in_bin(number, low, high, last):
    return low <= number < high or (last and number == high)


def histogram_by_loops(va, y, classes, bins):
    table = np.zeros((bins, bins, classes))
    for row in range(bins):
        for column in range(bins):
            edges = [(-1 + 2 * k / bins, -1 + 2 * (k + 1) / bins, k == bins - 1) for k in (row, column)]
            own = [y[i] for i in range(len(va)) if all(in_bin(va[i][axis], *edges[axis]) for axis in (0, 1))]
            for c in range(classes):
                among = own or list(y)  # an empty bin: the shares of the whole training set
                table[row, column, c] = sum(label == c for label in among) / len(among)
    return table


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bins", [1, 4, 8])
def test_histogram(seed, bins):
    rng = np.random.default_rng(seed)
    va, y = rng.uniform(-1, 1, (30, 2)), rng.integers(1, C - 1, 30)
    va[:6] = [[-1, -1], [1, 1], [0, 0], [0.5, -0.5], [1, -1], [-0.5, 1]]  # on the edges
    expected = histogram_by_loops(va, y, C, bins)
    histogram = VAHistogram(va, y, num_classes=C, bins=bins)
    assert histogram.probabilities.shape == (bins, bins, C)
    assert np.abs(histogram.probabilities.numpy() - expected).max() < 1e-15
    assert expected.sum(axis=2) == pytest.approx(np.ones((bins, bins)))
    asked = rng.uniform(-1, 1, (20, 2))
    rows = histogram(torch.tensor(asked))
    for (v, a), row in zip(asked, rows, strict=True):
        assert row.tolist() == expected[int((v + 1) / 2 * bins), int((a + 1) / 2 * bins)].tolist()
    assert rows.dtype == torch.float64
    assert histogram(torch.tensor(asked, dtype=torch.float32)).dtype == torch.float32
    assert histogram(torch.zeros(0, 2)).shape == (0, C)
    assert SoftLabelLoss()(torch.zeros(20, C), histogram(torch.tensor(asked)))
    assert VAHistogram(va, y, bins=bins).probabilities.shape == (bins, bins, y.max() + 1)


def test_histogram_of_a_table():
    columns = {
        "path": list("abcde"),
        "expression": ["happy", "sad", None, "sad", "happy"],
        "valence": [0.5, -0.5, 0.5, -0.5, np.nan],
        "arousal": [0.5, 0.5, 0.5, -0.5, 0.5],
    }
    table = FaceTable(columns, index=list("abcde"))
    histogram = VAHistogram.from_faces(table, bins=2)
    assert histogram.probabilities[1, 1].tolist() == [1, 0]  # happy, sad: sorted
    assert histogram.probabilities[0, 0].tolist() == [0, 1]
    assert histogram.probabilities[1, 0].tolist() == pytest.approx([1 / 3, 2 / 3])  # empty
    turned = VAHistogram.from_faces(table, ["sad", "fear", "happy"], bins=2)
    assert turned.probabilities[1, 1].tolist() == [0, 0, 1]
    with pytest.raises(BadInputError, match="no face of the table carries"):
        VAHistogram.from_faces(table, ["fear"])
    with pytest.raises(BadInputError, match="needs the column 'arousal'"):
        VAHistogram.from_faces(table.drop(columns="arousal"))


def test_histogram_wrong_use():
    va, y = [[0.0, 0.0], [0.5, 0.5]], [0, 1]
    with pytest.raises(WrongUseError, match="bins must be at least 1; got 0"):
        VAHistogram(va, y, bins=0)
    for bad_va, bad_y in (([], []), ([[0.0]], [0]), (va, [0])):
        with pytest.raises(BadInputError, match=r"must be \(N, 2\) and labels \(N,\), N >= 1"):
            VAHistogram(bad_va, bad_y)
    for labels in ([0.0, 1.0], [0.5, float("nan")], ["happy", "sad"]):
        with pytest.raises(BadInputError, match="class numbers, an integer type"):
            VAHistogram(va, labels)
    with pytest.raises(BadInputError, match=r"labels must lie in 0..1; got 0..2"):
        VAHistogram(va, [0, 2], num_classes=2)
    with pytest.raises(BadInputError, match=r"got -1\.\.0"):
        VAHistogram(va, [0, -1])
    for number in (float("nan"), 1.01, -3.0):
        with pytest.raises(BadInputError, match="row 1 is"):
            VAHistogram([[0.0, 0.0], [0.0, number]], y)
        with pytest.raises(BadInputError, match="row 0 is"):
            VAHistogram(va, y)(torch.tensor([[number, 0.0]]))
    with pytest.raises(BadInputError, match=r"\(B, 2\) float; got \(2,\)"):
        VAHistogram(va, y)(torch.zeros(2))
    with pytest.raises(BadInputError, match=r"\(B, 2\) float; got \(1, 2\) torch.int64"):
        VAHistogram(va, y)(torch.tensor([[1, 0]]))
