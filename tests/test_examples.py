"""The examples in docstrings, run."""

import doctest
import importlib
import pkgutil

import pytest

import pythermo.ops
import pythermo.sphere

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (pythermo.ops, pythermo.sphere)
    for module in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name):
    # The module by its name: a function of the same name hides it in the package.
    assert doctest.testmod(importlib.import_module(name)).failed == 0
