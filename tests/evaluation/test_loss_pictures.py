"""The pictures of the losses: points settle where they must, and a drawing is the same each time."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.reducers import DoNothingReducer
from torch import nn

from evaluation import _loss_toy as base
from evaluation.loss_pictures import PICTURES, write
from exprembed.errors import BadInputError, WrongUseError
from exprembed.losses import LOSSES, FocalLoss
from exprembed.plots.losses import Curves, Plane, curve_panels, plane_panels


def test_every_loss_is_drawn():
    assert set(PICTURES) == {*LOSSES.items(), "category_triplet_miner", "va_histogram"}


def test_writes_one_picture_the_same_twice(tmp_path):
    write(tmp_path / "a", ["island"])
    write(tmp_path / "b", ["island"])
    (picture,) = (tmp_path / "a").iterdir()
    assert picture.name == "island.png"
    assert picture.read_bytes() == (tmp_path / "b/island.png").read_bytes()
    assert 5_000 < picture.stat().st_size < 60_000


def test_an_unknown_picture_draws_nothing(tmp_path):
    with pytest.raises(WrongUseError, match="island"):
        write(tmp_path, ["center", "iland"])
    assert not list(tmp_path.iterdir())


def test_points_settle_between_spring_and_pull():
    start, goal = torch.tensor([[0.0, 0.0], [4.0, 2.0]]).double(), torch.tensor([2.0, 2.0]).double()
    pull = base.called(lambda x, c: (x - c).square().sum() / 2, goal, weight=3)
    after = base.descend(pull, start, spring=1.0, rate=0.1)
    assert np.allclose(after, (3 * goal + start) / 4, atol=1e-9)


def test_the_toy_is_seeded_and_its_classes_overlap():
    (x, y), (again, _) = base.toy(), base.toy()
    assert torch.equal(x, again)
    nearest = torch.cdist(x, base.means(x, y)).argmin(dim=1)
    assert 0.5 < float((nearest == y).double().mean()) < 0.95


def test_pulls_of_cross_entropy():
    p = np.array([0.1, 0.5, 0.9])
    values, pull = base.pulls(FocalLoss(0.0, reducer=DoNothingReducer()), p, torch.zeros(3, dtype=torch.long))
    assert np.allclose(values, -np.log(p))
    assert np.allclose(pull, 1 - p)


def test_a_fitted_border_lies_between_two_classes():
    x = torch.tensor([[-1.0, -0.5], [-1.0, 0.5], [1.0, -0.5], [1.0, 0.5]]).double()
    y = torch.tensor([0, 0, 1, 1])
    scores = base.fitted(base.called(nn.functional.cross_entropy, y), x, 2)
    assert base.recalls(scores(x), y) == [100, 100]
    assert np.allclose(base.border(scores)[:, 0], 0, atol=0.01)
    colors = base.regions(scores)
    assert (colors[:, 0] == base.COLORS[0]).all()
    assert (colors[:, -1] == base.COLORS[1]).all()


def test_the_axes_hold_what_is_drawn():
    panel = Plane("before", np.array([[0.0, 1.0]]), ["#0072B2"], centers=np.array([[5.0, -3.0]]), center_colors=["red"])
    (axes,) = plane_panels([panel], {"sadness": ("#0072B2", "o")}).axes
    assert axes.get_xlim()[1] > 5
    assert axes.get_ylim()[0] < -3
    figure = curve_panels([Curves("loss", "p", "L", np.arange(3), {"one": np.arange(3), "two": np.ones(3)})])
    assert figure.axes[0].get_title(loc="left") == "loss"
    assert [line.get_label() for line in figure.axes[0].lines] == ["one", "two"]


def test_panels_that_do_not_fit_are_refused():
    for draw in (lambda: plane_panels([], {}), lambda: curve_panels([])):
        with pytest.raises(BadInputError, match="no panel"):
            draw()
    with pytest.raises(BadInputError, match=r"\(2, 3\)"):
        plane_panels([Plane("before", np.zeros((2, 3)), ["red", "red"])], {})
    with pytest.raises(BadInputError, match="2 values; 3 are due"):
        curve_panels([Curves("loss", "p", "L", np.arange(3), {"one": np.arange(2)})])
