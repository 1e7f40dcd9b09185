"""Two processes with half of a batch each end with the centres of one that has it all."""

from datetime import timedelta

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from exprembed.losses import CenterLoss, EuclideanIslandLoss, IslandLoss, SubclassLoss, VACenterLoss

C, D, STEPS = 4, 3, 3
# The cut between the two processes' rows in each step: even, uneven, nothing for the one or the other.
CUTS = {"even": (4, 4, 4), "uneven": (1, 6, 3), "one_empty": (0, 8, 0)}
MAKE = {
    "center": lambda: CenterLoss(C, D),
    "island": lambda: IslandLoss(C, D, lambda_island=0.5),
    "euclidean_island": lambda: EuclideanIslandLoss(C, D, lambda_island=0.5),
    "subclass": lambda: SubclassLoss(C, D, num_subclasses=3, margin=0.2, lambda_margin=0.5),
    "va_center": lambda: VACenterLoss(C, D),
    "va_center_given": lambda: VACenterLoss(C, D, class_va=[[0.1, 0.2]] * C),
}


def batch(step):
    rng = np.random.default_rng(step)
    x, va = torch.tensor(rng.normal(size=(8, D))), torch.tensor(rng.uniform(-1, 1, (8, 2)))
    return x, torch.tensor(rng.integers(0, C, 8)), va


def made(name, seed):
    torch.manual_seed(seed)
    return MAKE[name]().double()


def step_of(name, loss, x, y, va):
    return loss(x, y, valence_arousal=va) if name.startswith("va") else loss(x, y)


def state_of(loss):
    return {key: tensor.clone() for key, tensor in loss.state_dict().items()}


def work(rank, folder):
    torch.set_num_threads(1)
    meeting, limit = f"file://{folder}/meeting", timedelta(minutes=5)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=limit)
    found = {}
    for name in MAKE:
        for cut, places in CUTS.items():
            loss = made(name, seed=10 + rank)  # each draws centres of its own; the first one's are taken
            values = []
            for step, place in enumerate(places):
                rows = slice(0, place) if rank == 0 else slice(place, 8)
                x, y, va = (part[rows] for part in batch(step))
                x.requires_grad_()
                value = step_of(name, loss, x, y, va)
                value.backward()
                values.append((float(value), x.grad))
            before = state_of(loss)
            step_of(name, loss.eval(), *batch(0))
            still = all(torch.equal(before[key], tensor) for key, tensor in loss.state_dict().items())
            found[name, cut] = {"state": before, "values": values, "still": still}
    torch.save(found, f"{folder}/found_{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"found_{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", MAKE)
def test_two_processes_give_the_centres_of_one(both, name, cut):
    whole = made(name, seed=10)
    for step in range(STEPS):
        step_of(name, whole, *batch(step))
    expected = whole.state_dict()
    start = made(name, seed=10).centers
    assert not torch.allclose(expected["centers"], start)
    for one in both:
        found = one[name, cut]
        assert found["state"].keys() == expected.keys()
        for key, tensor in expected.items():
            assert torch.allclose(found["state"][key], tensor, rtol=0, atol=1e-12), key
        assert found["still"]  # eval mode
        assert all(np.isfinite(value) and torch.isfinite(gradient).all() for value, gradient in found["values"])
    for key in expected:
        assert torch.equal(both[0][name, cut]["state"][key], both[1][name, cut]["state"][key])


@pytest.mark.parametrize("name", ["center", "va_center_given"])
def test_shares_of_the_loss_add_up(both, name):
    """The printed sum over all faces is the sum of the processes' own: 4 faces each, averaged."""
    whole = made(name, seed=10)
    for step in range(STEPS):
        expected = float(step_of(name, whole, *batch(step)))
        found = [one[name, "even"]["values"][step][0] for one in both]
        assert sum(found) / 2 == pytest.approx(expected, abs=1e-12)
