"""Weights and cards: what is stored comes back, and what was tampered with does not load."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from exprembed.errors import BadInputError, WrongUseError
from exprembed.models import FECNet, list_weights, load_model, weights_card
from exprembed.models.storage import DEFAULT_WEIGHTS, STATED, example_difference, load_matching

SMALL = {"backbone": "resnet10_grey48", "dense_channels": 0, "hidden": 32}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    torch.manual_seed(0)
    model = FECNet(**SMALL)
    path = model.save(tmp_path_factory.mktemp("weights") / "small", {"licence": "Apache-2.0", "seed": 7})
    return model, path


def test_round_trip(stored):
    model, path = stored
    assert path.name == "small.safetensors"
    again = load_model(path)
    images = model.preprocess(list(np.random.default_rng(0).integers(0, 256, (3, 48, 48), np.uint8)))
    assert torch.equal(again.embed(images), model.embed(images))
    assert again.fingerprint == model.fingerprint
    assert not again.training
    card = weights_card(path)
    assert card["licence"] == "Apache-2.0"
    assert card["training_data"] == "not stated"
    assert example_difference(again, card) < 1e-5


def test_half_precision_halves_the_file(stored, tmp_path):
    model, path = stored
    half = model.save(tmp_path / "half.safetensors", half=True)
    assert half.stat().st_size < 0.52 * path.stat().st_size
    again = load_model(half)
    assert next(again.parameters()).dtype == torch.float32
    assert example_difference(again, weights_card(half)) < 1e-5


def test_tampering_is_refused(stored, tmp_path):
    _, path = stored
    copy = tmp_path / path.name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    copy.with_suffix(".json").write_text(path.with_suffix(".json").read_text())
    with pytest.raises(BadInputError, match="SHA-256"):
        load_model(copy)
    card = json.loads(path.with_suffix(".json").read_text())
    copy.write_bytes(path.read_bytes())
    copy.with_suffix(".json").write_text(json.dumps(card | {"config": card["config"] | {"hidden": 16}}))
    with pytest.raises(BadInputError, match="does not hold the weights"):
        load_model(copy)
    copy.with_suffix(".json").write_text(json.dumps({"format": 1}))
    with pytest.raises(BadInputError, match="lacks"):
        load_model(copy)
    copy.with_suffix(".json").unlink()
    with pytest.raises(BadInputError, match="no card"):
        load_model(copy)


def test_missing_and_unknown(tmp_path):
    with pytest.raises(BadInputError, match="no weights file"):
        load_model(tmp_path / "absent.safetensors")
    with pytest.raises(WrongUseError, match="unknown weights"):
        load_model("fecnet_ferplus_16")
    with pytest.raises(WrongUseError, match=r"\.safetensors"):
        FECNet(**SMALL).save(tmp_path / "x.pt")


def test_load_matching_takes_the_trunk_and_says_when_nothing_fits(stored):
    _, path = stored
    other = FECNet(embedding_dim=3, **SMALL)
    names = load_matching(other, path)
    assert any(name.startswith("backbone.") for name in names)
    assert not any(name.startswith("embedding.") for name in names)
    assert torch.equal(other.trunk.hidden[0].weight, load_model(path).trunk.hidden[0].weight)
    with pytest.raises(BadInputError, match="nothing that fits"):
        load_matching(FECNet(backbone="resnet18", dense_channels=8, hidden=16), path)


@pytest.mark.parametrize("name", list_weights())
def test_every_packaged_weight_is_what_its_card_says(name):
    card = weights_card(name)
    model = load_model(name)
    assert example_difference(model, card) < 1e-4
    assert all(card[key] != "not stated" for key in STATED)
    assert card["parameters"] == sum(p.numel() for p in model.parameters())


def test_packaged_weights_are_small():
    from importlib import resources

    folder = resources.files("exprembed") / "weights"
    for name in list_weights():
        assert Path(str(folder / f"{name}.safetensors")).stat().st_size < 10_000_000
    assert DEFAULT_WEIGHTS in list_weights()


@pytest.mark.parametrize("name", ["cuda:17", "gpu", "tpu"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(WrongUseError, match=rf"no device '{name}' here; there is cpu"):
        load_model(device=name)
