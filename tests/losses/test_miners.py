"""CategoryTripletMiner against a triple loop."""

import itertools

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import TripletMarginLoss

from exprembed.errors import WrongUseError
from exprembed.miners import CategoryTripletMiner


def brute(x, y, mode, margin):
    kept = set()
    for i, j, k in itertools.product(range(len(y)), repeat=3):
        if i == j or y[i] != y[j] or y[k] == y[i]:
            continue
        d_ij, d_ik = np.linalg.norm(x[i] - x[j]), np.linalg.norm(x[i] - x[k])
        keep = {"all": True, "hard": d_ik < d_ij, "semihard": d_ij < d_ik < d_ij + margin}[mode]
        if keep:
            kept.add((i, j, k))
    return kept


@pytest.mark.parametrize("mode", ["all", "hard", "semihard"])
@pytest.mark.parametrize("cells", [1, 500, 2**24])
def test_against_brute_force(mode, cells, monkeypatch):
    monkeypatch.setattr("exprembed.miners._CELLS", cells)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(14, 3)), rng.integers(3, size=14)
    found = CategoryTripletMiner(mode, 0.4)(torch.tensor(x), torch.tensor(y))
    expected = brute(x, y, mode, 0.4)
    assert set(zip(*(index.tolist() for index in found), strict=True)) == expected
    assert expected


def test_feeds_the_triplet_margin_loss():
    x = torch.nn.functional.normalize(torch.randn(20, 4), dim=1).requires_grad_()
    y = torch.arange(20) % 4
    loss = TripletMarginLoss(0.2)(x, y, CategoryTripletMiner("all")(x, y))
    loss.backward()
    assert float(loss.detach()) > 0
    assert torch.isfinite(x.grad).all()


def test_one_class_batch_and_wrong_mode():
    found = CategoryTripletMiner("all")(torch.randn(4, 2), torch.zeros(4))
    assert [len(index) for index in found] == [0, 0, 0]
    with pytest.raises(WrongUseError, match="semihard"):
        CategoryTripletMiner("semi-hard")
