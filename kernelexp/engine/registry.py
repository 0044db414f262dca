"""Find the classes of a package by their ``name``: a new kernel, solver or data set is one file."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar, cast

T = TypeVar("T")


def discover(package: ModuleType, base: Callable[..., T]) -> dict[str, type[T]]:
    """Map ``name`` to class for every subclass of ``base`` defined in the modules of ``package``."""
    found: dict[str, type[T]] = {}
    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        module = importlib.import_module(info.name)
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if (
                cls.__module__ == info.name
                and issubclass(cls, cast(type, base))
                and "name" in vars(cls)
            ):
                found[vars(cls)["name"]] = cast(type[T], cls)
    return dict(sorted(found.items()))
