"""What `help(pt.X)` says: each argument, and examples that are true."""

import doctest
import inspect
import re
import sys
import types

import numpy as np
import pytest
import torch

import pythermo as pt

MODULES = {name: getattr(pt, name) for name in pt.__all__ if isinstance(getattr(pt, name), types.ModuleType)}
PUBLIC = {name: getattr(pt, name) for name in pt.__all__ if callable(getattr(pt, name))} | {
    f"{room}.{name}": getattr(module, name)
    for room, module in MODULES.items()
    for name in getattr(module, "__all__", ())
    if callable(getattr(module, name))
}


def own_documentation(thing) -> str:
    if inspect.isclass(thing) and thing.__init__.__doc__ and thing.__init__ is not object.__init__:
        return inspect.getdoc(thing) + "\n" + inspect.getdoc(thing.__init__)
    return inspect.getdoc(thing)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_argument_is_documented(name):
    thing = PUBLIC[name]
    if inspect.isclass(thing) and issubclass(thing, Exception | Warning):
        pytest.skip("did not run: nobody but the package makes one")
    text = own_documentation(thing)
    if inspect.isclass(thing) and issubclass(thing, pt.RunConfig.__base__):
        arguments = thing.model_fields
    else:
        arguments = inspect.signature(thing).parameters
    lacking = [
        one
        for one in arguments
        if one not in ("self", "args", "kwargs", "values") and not re.search(rf"\b{one}\b", text)
    ]
    assert not lacking, f"help(pt.{name}) does not speak of {', '.join(lacking)}"


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_are_true(name):
    globs = vars(sys.modules[PUBLIC[name].__module__]) | {"pt": pt, "np": np, "torch": torch}
    globs |= {one: getattr(pt, one) for one in pt.__all__}
    finder, runner = doctest.DocTestFinder(recurse=True), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said: list[str] = []
    for test in finder.find(PUBLIC[name], f"pt.{name}", globs=globs):
        runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    with_examples = [
        name for name, thing in PUBLIC.items() if any(t.examples for t in finder.find(thing, name))
    ]
    assert len(with_examples) >= 15, with_examples
