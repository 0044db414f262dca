"""From the command line to typed objects: schemas for Hydra, checks, one-line errors.

Every option of a group is a frozen dataclass of the layer it configures, with its defaults; Hydra gets
a mutable twin of it as schema. ``build`` turns a composed configuration back into those objects, which
check themselves, so that nothing starts with a value that cannot work.
"""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from kernelexp.checkpoint import CheckpointConfig
from kernelexp.data import SOURCES
from kernelexp.data.cache import cache_dir
from kernelexp.data.label_noise import KINDS
from kernelexp.engine import KERNELS, SOLVERS, ResourceLimits
from kernelexp.engine.checks import number, one_of, refuse
from kernelexp.engine.registry import of_fields
from kernelexp.experiment import Config
from kernelexp.presets import choose
from kernelexp.search.sweeper import NAME, SearchSweeperConf
from kernelexp.store import TrackingConfig

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass
class TopLevel:
    """The keys outside the groups."""

    dataset: Any = MISSING
    kernel: Any = MISSING
    solver: Any = MISSING
    label_noise: Any = MISSING
    tracking: Any = MISSING
    resource: Any = MISSING
    checkpoint: Any = MISSING
    noise: float = 0.0
    # Training points held out for choosing: a share or a number; or in how many folds, each once.
    validation: Any = None
    cv: int | None = None
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    # Of inner products: see ``kernelexp.engine.points``.
    precision: str = "auto"
    # Names of comparisons: see ``kernelexp.comparisons``.
    compare: list[str] = field(default_factory=list)
    # Of a preset: which of its sizes are taken.
    scale: str | None = None
    # How often a job is tried again that was killed or ran out of memory.
    retries: int = 0
    # What a search tells a trial of it: see ``kernelexp.search.pruning.Trial``.
    trial: Any = None
    # Of a sweep: train also what the store has already. Of all: go on from a checkpoint that is there;
    # show what would be done.
    rerun: bool = False
    resume: bool = True
    dry_run: bool = False
    data_dir: str = "${oc.env:KERNELEXP_DATA,${kernelexp.cache:}}"


@dataclass
class LabelNoise:
    """What ``noise`` means: see ``kernelexp.data.label_noise``."""

    name: str = MISSING


_GROUPS: dict[str, dict[str, type]] = {
    "dataset": dict(SOURCES),
    "kernel": dict(KERNELS),
    "solver": dict(SOLVERS),
    "resource": {"auto": ResourceLimits},
    "tracking": {"mlflow": TrackingConfig},
    "label_noise": {"label_noise": LabelNoise},
    "checkpoint": {"auto": CheckpointConfig},
}


def _schema(cls: type, name: str) -> type:
    """A mutable twin of a dataclass for Hydra, with its option's name as a field.

    OmegaConf makes frozen dataclasses read-only, also to overrides; and a number or a word ("median")
    as one field it would take for a mistake, so such a field is checked by the class alone.
    """
    hints = typing.get_type_hints(cls)
    fields: list[Any] = [("name", str, field(default=name))] if name else []
    for f in dataclasses.fields(cls):
        hint = hints[f.name]
        if isinstance(hint, types.UnionType) and str in hint.__args__ and float in hint.__args__:
            hint = Any
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            nested = _schema(hint, "")
            fields.append((f.name, nested, field(default_factory=nested)))
        elif f.default_factory is not dataclasses.MISSING:
            fields.append((f.name, hint, field(default_factory=f.default_factory)))
        else:
            fields.append((f.name, hint, field(default=f.default)))
    return dataclasses.make_dataclass(cls.__name__ + "Schema", fields)


@cache
def register() -> None:
    """Tell Hydra the schemas and the resolvers, once in a process. Call before composing."""
    # Hydra copies all schemas for each composition, and then again what it takes of them.
    ConfigStore.__deepcopy__ = lambda self, _: self
    store = ConfigStore.instance()
    store.store(group="schema", name="config", node=TopLevel)
    for group, options in _GROUPS.items():
        for name, cls in options.items():
            named = group in ("dataset", "kernel", "solver")
            node = LabelNoise if cls is LabelNoise else _schema(cls, name if named else "")
            store.store(group=f"schema/{group}", name=name, node=node)
    store.store(group="hydra/sweeper", name=NAME, node=SearchSweeperConf)
    OmegaConf.register_new_resolver("kernelexp.cache", lambda: str(cache_dir()), replace=True)
    OmegaConf.register_new_resolver("choose", choose, replace=True)


def build(cfg: DictConfig) -> Config:
    """Turn a composed configuration into checked objects.

    Raises:
        ValueError: one line with the full key, the value and what is allowed.
    """
    values = resolved(cfg)
    known = [f.name for f in dataclasses.fields(TopLevel)]
    _refuse_unknown("", set(values), known)
    one_of("dtype", values["dtype"], DTYPES)
    one_of("label_noise", values["label_noise"]["name"], KINDS)
    number("retries", values["retries"], 0, whole=True)
    tracking(cfg)
    _make("checkpoint", values)
    return Config(
        dataset=_make("dataset", values),
        kernel=_make("kernel", values),
        solver=_make("solver", values),
        resource=_make("resource", values),
        noise=values["noise"],
        noise_kind=values["label_noise"]["name"],
        validation=values["validation"],
        cv=values["cv"],
        seed=values["seed"],
        device=_device(values["device"]),
        dtype=DTYPES[values["dtype"]],
        precision=values["precision"],
        data_dir=Path(values["data_dir"] or cache_dir()).expanduser(),
        compare=tuple(values["compare"]),
    )


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """A composed configuration as plain values, without Hydra's own."""
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    values: Any = OmegaConf.to_container(own, resolve=True)
    return dict(values)


def tracking(cfg: DictConfig) -> TrackingConfig:
    """The tracking settings of a composed configuration."""
    # Of it alone: in a sweep's own configuration the rest need not fit together.
    values = OmegaConf.to_container(cfg.tracking, resolve=True)
    made: TrackingConfig = _make("tracking", {"tracking": values})
    return made


def checkpoint(cfg: DictConfig) -> CheckpointConfig:
    """The checkpoint settings of a composed configuration."""
    made: CheckpointConfig = _make("checkpoint", resolved(cfg))
    return made


def _make(group: str, values: dict[str, Any]) -> Any:
    # Shells leave a ~ after ``dataset.path=`` as it is.
    given: dict[str, Any] = {
        key: os.path.expanduser(value) if isinstance(value, str) else value
        for key, value in values[group].items()
    }
    options = _GROUPS[group]
    name = given.pop("name", next(iter(options)))
    one_of(f"{group}.name", name, options)
    cls = options[name]
    hints = typing.get_type_hints(cls)
    _refuse_unknown(f"{group}.", set(given), [f.name for f in dataclasses.fields(cls)])
    try:
        for key, value in given.items():
            if dataclasses.is_dataclass(hints[key]):
                given[key] = of_fields(key, key, hints[key], value)  # type: ignore[arg-type]
        return cls(**given)
    except ValueError as error:
        raise ValueError(f"{group}.{error}") from error


def _refuse_unknown(prefix: str, given: set[str], known: list[str]) -> None:
    """Keys that were added with a plus sign, which Hydra lets pass."""
    for key in sorted(given - set(known)):
        raise ValueError(f"{prefix}{key}: no such key; there are {', '.join(known)}")


def _device(name: str) -> torch.device:
    cuda = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda" if cuda else "cpu")
    allowed = ["auto", "cpu"] + (["cuda"] if cuda else []) + [f"cuda:{i}" for i in range(cuda)]
    if name not in allowed:
        found = "" if cuda else "; PyTorch finds no CUDA device here"
        raise refuse("device", name, "one of " + ", ".join(allowed) + found)
    return torch.device(name)
