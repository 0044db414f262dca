"""The examples in the docstrings of kernels and solvers; in them stand ``torch`` and their module's names."""

import doctest
import pkgutil
from importlib import import_module

import pytest
import torch

from kernelexp.engine import kernels, solvers
from kernelexp.engine.kernels import KERNELS, FunctionKernel
from kernelexp.engine.solvers import SOLVERS

MODULES = [
    import_module(info.name)
    for package in (kernels, solvers)
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
]


def has_example(kind):
    return bool(doctest.DocTestParser().get_examples(kind.__doc__ or ""))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.split(".", 2)[2])
def test_examples_give_what_they_say(module):
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in doctest.DocTestFinder().find(module, extraglobs={"torch": torch}):
        runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)


EXPLAINED = [*KERNELS.values(), FunctionKernel, *SOLVERS.values()]


@pytest.mark.parametrize("kind", EXPLAINED, ids=lambda kind: kind.__name__)
def test_every_kernel_and_solver_has_an_example(kind):
    assert has_example(kind)
