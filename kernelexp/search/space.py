"""What a search varies: ``KEY=log:A..B``, ``KEY=A..B`` and ``KEY=a,b``, and what of it a trial has."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override

from kernelexp.engine import KERNELS, SOLVERS
from kernelexp.engine.checks import refuse

if TYPE_CHECKING:
    from optuna import Trial

_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"([\w./@+-]+)=(log:)?({_NUMBER})\.\.({_NUMBER})", re.ASCII)
_LOG = "log"
# Points of a space from here on are not counted.
_MANY = 10_000
# Parts whose options have parameters of their own, so that a trial has those of its own option.
_PARTS: dict[str, dict[str, Any]] = {"kernel": dict(KERNELS), "solver": dict(SOLVERS)}
# What may be searched: the rest is the question, not the answer.
_SEARCHED = ("kernel", "kernel.*", "solver", "solver.*", "dataset.scale", "precision", "dtype")


def as_hydra(argument: str) -> str:
    """``KEY=log:1..100`` as Hydra has it, ``KEY=tag(log,interval(1,100))``; others as they are."""
    found = _RANGE.fullmatch(argument)
    if found is None:
        return argument
    key, log, low, high = found.groups()
    interval = f"interval({low},{high})"
    return f"{key}=tag({_LOG},{interval})" if log else f"{key}={interval}"


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``.

    Attributes:
        key: of the configuration.
        low: the least.
        high: the largest.
        log: whether they are drawn evenly by their logarithms.
        whole: whether they are whole.
    """

    key: str
    low: float
    high: float
    log: bool
    whole: bool

    def __post_init__(self) -> None:
        shown = f"{self.low:g}..{self.high:g}"
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise refuse(self.key, shown, "a range from a number to a larger one")
        if self.whole and math.ceil(self.low) > math.floor(self.high):
            raise refuse(self.key, shown, "a range with a whole number in it")
        if self.log and self.low <= 0:
            raise refuse(self.key, f"log:{shown}", "a range above 0")

    def suggest(self, trial: Trial) -> str:
        """A value of it, as it is typed."""
        if self.whole:
            low, high = math.ceil(self.low), math.floor(self.high)
            return str(trial.suggest_int(self.key, low, high, log=self.log))
        return number(trial.suggest_float(self.key, self.low, self.high, log=self.log))

    @property
    def values(self) -> tuple[str, ...] | None:
        """All of them, where they are whole and not many."""
        low, high = math.ceil(self.low), math.floor(self.high)
        return tuple(map(str, range(low, high + 1))) if self.whole and high - low < _MANY else None

    @property
    def ends(self) -> tuple[str, ...]:
        """The values at which a configuration is checked beforehand."""
        if self.whole:
            return str(math.ceil(self.low)), str(math.floor(self.high))
        return number(self.low), number(self.high)


@dataclass(frozen=True)
class Choice:
    """One of some values, each as it is typed."""

    key: str
    values: tuple[str, ...]

    def suggest(self, trial: Trial) -> str:
        """One of them."""
        return str(trial.suggest_categorical(self.key, self.values))

    @property
    def ends(self) -> tuple[str, ...]:
        """All of them."""
        return self.values


def number(value: float) -> str:
    """With four digits, enough to be searched and short enough to be read."""
    return f"{value:.4g}"


@dataclass(frozen=True)
class Space:
    """The dimensions of a search.

    Attributes:
        dimensions: choices of a kernel or a solver first, since the others depend on them.
        chosen: kernel and solver where they are not searched.
    """

    dimensions: tuple[Range | Choice, ...]
    chosen: dict[str, str]

    @classmethod
    def of(cls, overrides: list[Override], chosen: dict[str, str]) -> Space:
        """From what was typed; ``chosen``: kernel and solver of the configuration.

        Raises:
            ValueError: in one line, where nothing is searched, or something that is no setting of a model.
        """
        swept = {o.get_key_element(): o for o in overrides if o.is_sweep_override()}
        if not swept:
            raise ValueError(
                "nothing to search: type a range, kernel.bandwidth=log:1..100, or some values, "
                "kernel=laplacian,gaussian"
            )
        made = [_dimension(key.lstrip("+"), override) for key, override in swept.items()]
        made.sort(key=lambda d: d.key not in _PARTS)
        options: dict[str, tuple[str, ...]] = {part: (chosen[part],) for part in _PARTS}
        options |= {d.key: d.values for d in made if d.key in _PARTS and isinstance(d, Choice)}
        for key in (dimension.key for dimension in made):
            part = key.partition(".")[0]
            if part in _PARTS and not any(_has({part: name}, key) for name in options[part]):
                raise ValueError(f"{key}: no such key of {', '.join(options[part])}")
        return cls(tuple(made), chosen)

    @property
    def keys(self) -> list[str]:
        """What is varied: of more than one value."""
        return [d.key for d in self.dimensions if d.values is None or len(d.values) > 1]

    @property
    def parts(self) -> list[Choice]:
        """The choices of kernels and solvers."""
        return [d for d in self.dimensions if d.key in _PARTS and isinstance(d, Choice)]

    @property
    def grid(self) -> list[tuple[str, ...]] | None:
        """All its points, where they are not many."""
        choices = [d.values for d in self.dimensions if d.values is not None]
        if len(choices) < len(self.dimensions) or math.prod(map(len, choices)) > _MANY:
            return None
        keys = [d.key for d in self.dimensions]
        found = (self.without_strangers(dict(zip(keys, p, strict=True))) for p in product(*choices))
        return list(dict.fromkeys(found))

    def suggest(self, trial: Trial) -> tuple[str, ...]:
        """A trial's overrides; of a kernel's or solver's settings those that its own has."""
        values: dict[str, str] = {}
        for dimension in self.dimensions:
            if _has({**self.chosen, **values}, dimension.key):
                values[dimension.key] = dimension.suggest(trial)
        return self.without_strangers(values)

    def without_strangers(self, values: dict[str, str]) -> tuple[str, ...]:
        """Overrides, without settings that the kernel or the solver among them does not have."""
        chosen = {**self.chosen, **{key: values[key] for key in _PARTS if key in values}}
        return tuple(f"{key}={value}" for key, value in values.items() if _has(chosen, key))

    def parsed(self, overrides: tuple[str, ...]) -> dict[str, str | int]:
        """A point of the grid as Optuna has its parameters."""
        whole = {d.key for d in self.dimensions if isinstance(d, Range)}
        items = (item.split("=", 1) for item in overrides)
        return {key: int(value) if key in whole else value for key, value in items}

    @property
    def corners(self) -> list[tuple[str, ...]]:
        """Points at which every end of every range and every choice is met, with each kernel and solver."""
        parts = [d for d in self.dimensions if d.key in _PARTS]
        rest = [d for d in self.dimensions if d.key not in _PARTS]
        found: dict[tuple[str, ...], None] = {}
        for options in product(*(d.ends for d in parts)):
            own = dict(zip((d.key for d in parts), options, strict=True))
            for i in range(max((len(d.ends) for d in rest), default=1)):
                values = {d.key: d.ends[min(i, len(d.ends) - 1)] for d in rest}
                found[self.without_strangers({**own, **values})] = None
        return list(found)


def _dimension(key: str, override: Override) -> Range | Choice:
    if key not in _SEARCHED and not any(
        key.startswith(known[:-1]) for known in _SEARCHED if known.endswith("*")
    ):
        raise ValueError(
            f"{key}: one value for the whole search, which may vary {', '.join(_SEARCHED)}"
        )
    if override.is_discrete_sweep():
        return Choice(key, tuple(dict.fromkeys(override.sweep_string_iterator())))
    interval = override.value()
    assert isinstance(interval, IntervalSweep)
    low, high = float(interval.start), float(interval.end)
    return Range(key, low, high, _LOG in interval.tags, _is_whole(key))


def _has(chosen: dict[str, str], key: str) -> bool:
    """Whether the kernel or solver of ``chosen`` has a setting; where it is no such setting, it has."""
    group, _, path = key.partition(".")
    return (
        not path or group not in _PARTS or _hint(_PARTS[group].get(chosen[group]), path) is not None
    )


def _is_whole(key: str) -> bool:
    """Whether a setting takes whole numbers alone."""
    group, _, path = key.partition(".")
    hints = [_hint(option, path) for option in _PARTS.get(group, {}).values()]
    kinds = {kind for hint in hints if hint is not None for kind in (hint, *typing.get_args(hint))}
    return int in kinds and float not in kinds


def _hint(cls: Any, path: str) -> Any:
    """The type of a field of a dataclass, or of one that it holds; None where there is none."""
    for name in path.split("."):
        if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
            return None
        cls = typing.get_type_hints(cls).get(name)
    return cls
