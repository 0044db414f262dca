"""Find the classes of a package by their ``name``: a new kernel, solver or data set is one file."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import fields
from types import ModuleType
from typing import Any, TypeVar, cast

from kernelexp.engine.checks import one_of, refuse

T = TypeVar("T")


def discover(package: ModuleType, base: Callable[..., T]) -> dict[str, type[T]]:
    """Map ``name`` to class for every subclass of ``base`` defined in the modules of ``package``.

    Raises:
        ValueError: in one line, for a name that two of them have.
        ImportError: in one line, for a module that can not be imported.
    """
    found: dict[str, type[T]] = {}
    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        try:
            module = importlib.import_module(info.name)
        except Exception as error:  # a part is anybody's code
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise ImportError(f"{info.name}: can not be imported ({what})") from error
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if (
                cls.__module__ == info.name
                and issubclass(cls, cast(type, base))
                and "name" in vars(cls)
            ):
                name = vars(cls)["name"]
                if name in found:
                    other = found[name].__module__
                    raise ValueError(
                        f"{info.name}: name = {name!r} is taken, by {other}; take another"
                    )
                found[name] = cast(type[T], cls)
    return dict(sorted(found.items()))


def made(key: str, given: Any, options: Mapping[str, type[T]], allowed: str) -> T:
    """An option from its name, or ``{"name": ..., parameter: ...}``; ``allowed``: what messages about ``key`` ask for.

    Raises:
        ValueError: in one line, for what is neither, and for names and parameters that there are not.
    """
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping) or "name" not in given:
        raise refuse(key, given, allowed)
    values = dict(given)
    name = values.pop("name")
    one_of(key, name, options)
    return of_fields(key, name, options[name], values)


def of_fields(key: str, name: str, cls: type[T], values: Mapping[str, Any]) -> T:
    """An instance of a dataclass.

    Raises:
        ValueError: in one line, for a field that it has not.
    """
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    for parameter in values:
        if parameter not in known:
            raise ValueError(f"{key}: {name} has no {parameter}, but {', '.join(known)}")
    return cls(**values)
