"""The examples in the docstrings run."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import exprembed.losses

MODULES = [f"exprembed.losses.{module.name}" for module in pkgutil.iter_modules(exprembed.losses.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    names = {loss: getattr(exprembed.losses, loss) for loss in dir(exprembed.losses)}
    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs={"torch": torch, **names}).failed == 0
