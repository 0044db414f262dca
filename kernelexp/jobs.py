"""The jobs of a command line: one, or those that a sweep expands to, each checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from kernelexp import config
from kernelexp.checkpoint import Run
from kernelexp.data import files_state, points_digest
from kernelexp.engine.checks import refuse
from kernelexp.experiment import Config
from kernelexp.identity import Identity, digest, family
from kernelexp.store import TrackingConfig, without_password

# Of points, by what they are made of and the state of its files.
_DIGESTS: dict[str, str | None] = {}


@dataclass(frozen=True)
class Job:
    """One run to be.

    Attributes:
        name: what it varies within its sweep, ``noise=0.1,seed=2``.
        checked: its configuration.
        identity: what its run will be known by.
    """

    name: str
    checked: Config
    identity: Identity


def single_job(cfg: DictConfig) -> Job:
    """The job of a composed configuration.

    Raises:
        ValueError: in one line, as ``config.build``.
    """
    _check_scale(cfg)
    return _job("", cfg)


def sweep_jobs(cfg: DictConfig) -> tuple[list[Job], list[str]]:
    """The jobs of a sweep in their order, and the keys it varies.

    Expanded as Hydra's own sweeper does: ``hydra.sweeper.params``, which a preset sets, then what was
    typed, the last word on a key alone counting.

    Raises:
        ValueError: for the first job that cannot work.
    """
    _check_scale(cfg)
    params = cfg.hydra.sweeper.get("params") or {}
    arguments = [f"{key}={value}" for key, value in params.items()]
    arguments += typed(cfg)
    overrides = parsed(arguments)
    final = {override.get_key_element(): override for override in overrides}
    values = {
        key: list(o.sweep_string_iterator()) for key, o in final.items() if o.is_sweep_override()
    }
    if "scale" in values:
        raise refuse("scale", ",".join(values["scale"]), "one for the whole sweep")
    swept = {key: final[key].key_or_group for key, several in values.items() if len(several) > 1}
    [batch] = BasicSweeper.split_arguments(overrides, None)
    jobs, tracked = [], []
    for job in batch:
        name = ",".join(item for item in job if item.split("=")[0] in swept)
        composed = _composed(cfg, job)
        jobs.append(_job(name, composed))
        tracked.append(config.tracking(composed))
    for key in ("enabled", "uri", "experiment") if any(one.enabled for one in tracked) else ():
        several = dict.fromkeys(without_password(str(getattr(one, key))) for one in tracked)
        if len(several) > 1:
            allowed = "one for the whole sweep, whose jobs are counted there"
            raise refuse(f"tracking.{key}", ",".join(several), allowed)
    return jobs, list(swept.values())


def typed(cfg: DictConfig) -> list[str]:
    """What was typed; ``${seed}`` in it stays, which each job has its own of."""
    given: Any = OmegaConf.to_container(cfg.hydra.overrides.task, resolve=False)
    return list(given)


def parsed(arguments: Iterable[str]) -> list[Override]:
    """Overrides as Hydra reads them, which knows what ``glob(...)`` may stand for."""
    loader = GlobalHydra.instance().config_loader()
    found: list[Override] = OverridesParser.create(loader).parse_overrides(list(arguments))
    return found


def checked_job(cfg: DictConfig, overrides: Sequence[str], name: str = "") -> Job:
    """The job of a sweep with these overrides.

    Raises:
        ValueError: in one line, as ``config.build``.
    """
    return _job(name, _composed(cfg, overrides))


def _composed(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    loader = GlobalHydra.instance().config_loader()
    composed: DictConfig = loader.load_sweep_config(cfg, list(overrides))
    return composed


def _check_scale(cfg: DictConfig) -> None:
    if cfg.scale is not None and cfg.hydra.runtime.choices.get("experiment") is None:
        raise refuse(
            "scale", cfg.scale, "left out without a preset (experiment=NAME), which it is of"
        )


def identity(values: dict[str, Any], checked: Config) -> Identity:
    """Of a job with these resolved values; looks at its files, reads none."""
    return Identity(
        config=digest(values),
        files=files_state(checked.dataset, checked.data_dir),
        points=partial(_points, checked),
        log_model=values["tracking"]["log_model"],
        family=family(values),
    )


def checkpointed(checked: Config, identity: Identity, tracking: TrackingConfig) -> Run:
    """What a job is to its checkpoints."""
    return Run(
        config=identity.config,
        family=identity.family,
        files=identity.files,
        points=identity.points,
        solver=checked.solver,
        dtype=checked.dtype,
        device=checked.device,
        store=without_password(f"{tracking.uri} {tracking.experiment}")
        if tracking.enabled
        else None,
    )


def _job(name: str, cfg: DictConfig) -> Job:
    checked = config.build(cfg)
    return Job(name, checked, identity(config.resolved(cfg), checked))


def _points(checked: Config) -> str | None:
    """``points_digest``, of files as they are once: jobs share their data, and a store is looked at again and again."""
    where = checked.dataset, checked.data_dir
    key = repr((*where, checked.seed, files_state(*where)))
    if key not in _DIGESTS:
        _DIGESTS[key] = points_digest(*where, checked.seed)
    return _DIGESTS[key]
