"""A search from its command line to its last trial: checked first, then rung by rung, in batches."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from kernelexp import config
from kernelexp.arguments import as_typed
from kernelexp.cluster import ask_for_memory
from kernelexp.console import VARIED_VARIABLE, show_jobs
from kernelexp.data import load
from kernelexp.engine.checks import number, refuse
from kernelexp.engine.kernels.radial import Gaussian
from kernelexp.errors import JobFailed, JobInterrupted
from kernelexp.experiment import Config
from kernelexp.interrupts import Interrupted, check
from kernelexp.jobs import Job, checked_job, parsed, typed
from kernelexp.preview import preview
from kernelexp.search.pruning import Outcome, Trial, bounds
from kernelexp.search.rungs import Rung, rungs
from kernelexp.search.space import Range, Space
from kernelexp.search.trials import Proposal, Trials
from kernelexp.sweep import start_parent

Launch = Callable[[Sequence[Sequence[str]]], Sequence[JobReturn]]
# Of the first rung's trials one part is drawn at random, each further one after the scores of those before.
_PARTS = 4
# Where nothing else is held out to choose by.
_VALIDATION = "validation=0.2"
_BANDWIDTH, _RIDGE_PATH = "kernel.bandwidth", "ridge_path"


@dataclass(frozen=True)
class _Plan:
    """A search that has been checked; ``fixed``: overrides of all its trials, ``ends``: the ends of what it may try."""

    space: Space
    rungs: list[Rung]
    first: list[dict[str, float | str]]
    fixed: tuple[str, ...]
    ends: list[Job]
    seed: int


def run(cfg: DictConfig, launch: Launch) -> list[JobReturn]:
    """Search, and leave what was found in the store, as a sweep's parent.

    ``launch``: runs a batch of jobs, each a list of overrides.

    Raises:
        ValueError: in one line, before anything is trained.
    """
    plan, settings = _planned(cfg), config.tracking(cfg)
    ask_for_memory(cfg.hydra.launcher, plan.ends)
    if cfg.dry_run:
        show_jobs(preview(plan.ends, settings, skips=False))
        print(f"a search: {_said(plan.rungs)}; above are the ends of what it may try")
        sys.exit(0)
    if settings.enabled:
        check()
        name = as_typed(typed(cfg))
        count = sum(rung.trials for rung in plan.rungs)
        keys = [*plan.space.keys, "dataset.n_train"]
        start_parent(settings, f"search {name}", count, keys, cfg.retries)
    os.environ[VARIED_VARIABLE] = " ".join([*plan.space.keys, "dataset.n_train"])
    return _searched(plan, launch)


def _said(found: list[Rung]) -> str:
    return ", then ".join(f"{rung.trials} trials on {rung.points:,} points" for rung in found)


def _planned(cfg: DictConfig) -> _Plan:
    if cfg.hydra.runtime.choices.get("experiment") is not None:
        raise ValueError(
            "experiment: left out in a search, which a preset is not; type its settings"
        )
    overrides = parsed(typed(cfg))
    space = Space.of(overrides, {"kernel": cfg.kernel.name, "solver": cfg.solver.name})
    fixed = [_typed(override) for override in overrides if not override.is_sweep_override()]
    held, own_error = cfg.validation, cfg.solver.name == _RIDGE_PATH and "solver" not in space.keys
    if held is None and cfg.cv is None and not own_error:
        if any(override.key_or_group == "validation" for override in overrides):
            allowed = "a share or a number of points, or left out: a search chooses by held-out points; so does cv=5"
            raise refuse("validation", "null", allowed)
        fixed.append(_VALIDATION)
        held = float(_VALIDATION.partition("=")[2])
    # On all points: each must be a configuration.
    ends = [checked_job(cfg, (*fixed, *corner), ",".join(corner)) for corner in space.corners]
    base = ends[0].checked
    dataset = load(base.dataset, base.data_dir, seed=base.seed, dtype=base.dtype)
    X, source = dataset.train.X, base.dataset
    multiple = dataset.n_classes or 1 if source.balanced else 1
    number("hydra.sweeper.trials", cfg.hydra.sweeper.trials, 1, whole=True)
    trials = cfg.hydra.sweeper.trials
    grid = space.grid
    trials = min(trials, len(grid)) if grid is not None else trials
    asked = max(_points_asked(end.checked) for end in ends)
    grouped = getattr(source, "group", None) is not None
    found = rungs(len(X), len(dataset.test.X), held, trials, multiple, asked, grouped)
    return _Plan(space, found, _first(space, X, base.seed), tuple(fixed), ends, base.seed)


def _points_asked(config: Config) -> int:
    """For a solver's centers and its subsample; more by those that folds hold out."""
    sizes = [getattr(config.solver, name, None) for name in ("n_centers", "subsample_size")]
    asked = max(size or 0 for size in sizes)
    return asked if config.cv is None else ceil(asked * config.cv / (config.cv - 1))


def _typed(override: Override) -> str:
    return f"{override.get_key_element()}={override.get_value_element_as_str()}"


def _first(space: Space, X: torch.Tensor, seed: int) -> list[dict[str, float | str]]:
    """The median distance for a bandwidth that is searched, with each kernel: what the data suggest."""
    searched = {dimension.key: dimension for dimension in space.dimensions}
    bandwidth = searched.get(_BANDWIDTH)
    if not isinstance(bandwidth, Range):
        return []
    try:
        fitted = Gaussian(bandwidth="median").fitted_to(X, torch.Generator().manual_seed(seed))
    except ValueError:  # it is 0, since most points coincide: nothing is suggested
        return []
    value = min(max(fitted.scale, bandwidth.low), bandwidth.high)
    kernels = searched["kernel"].ends if "kernel" in searched else (None,)
    return [
        {_BANDWIDTH: value, **({} if kernel is None else {"kernel": kernel})} for kernel in kernels
    ]


def _searched(plan: _Plan, launch: Launch) -> list[JobReturn]:
    returned: list[JobReturn] = []
    size = ceil(plan.rungs[0].trials / _PARTS)
    trials = Trials(plan.space, plan.seed, plan.first, at_random=size)
    found: list[tuple[Proposal, Outcome]] = []
    left = plan.rungs[0].trials
    while left > 0:
        batch = trials.ask(min(size, left))
        if not batch:
            break
        left -= len(batch)
        outcomes = _launched(plan, plan.rungs[0], batch, found, launch, returned)
        for proposal, outcome in zip(batch, outcomes, strict=True):
            trials.tell(proposal, None if outcome is None else outcome.score)
        found += _known(batch, outcomes)
    for rung in plan.rungs[1:]:
        best = _best(found)[: rung.trials]
        found = []
        for batch in (best[: ceil(len(best) / 2)], best[ceil(len(best) / 2) :]):
            if batch:
                outcomes = _launched(plan, rung, batch, found, launch, returned)
                found += _known(batch, outcomes)
    if not found:
        raise JobFailed from next(r._return_value for r in returned if r.status == JobStatus.FAILED)
    return returned


def _known(batch: list[Proposal], outcomes: list[Outcome | None]) -> list[tuple[Proposal, Outcome]]:
    return [(p, o) for p, o in zip(batch, outcomes, strict=True) if o is not None]


def _best(found: list[tuple[Proposal, Outcome]]) -> list[Proposal]:
    """Those that were trained to the end first, then the pruned ones; the best of each first."""
    ordered = sorted(found, key=lambda one: (one[1].pruned is None, *one[1].rank), reverse=True)
    return [proposal for proposal, _ in ordered]


def _told(proposal: Proposal, rung: Rung, found: list[tuple[Proposal, Outcome]]) -> str:
    """What a trial is told: epochs compare with those of the same solver alone."""
    own = _solver(proposal)
    least = bounds([outcome for other, outcome in found if _solver(other) == own])
    return Trial(bool(rung.overrides), least).override()


def _solver(proposal: Proposal) -> str:
    return next((o for o in proposal.overrides if o.startswith("solver=")), "")


def _launched(
    plan: _Plan,
    rung: Rung,
    batch: list[Proposal],
    found: list[tuple[Proposal, Outcome]],
    launch: Launch,
    returned: list[JobReturn],
) -> list[Outcome | None]:
    """What came out of a batch; None for what failed, and was said to have."""
    own = {override.partition("=")[0] for override in rung.overrides}
    fixed = [override for override in plan.fixed if override.partition("=")[0] not in own]
    jobs = [
        (*fixed, *proposal.overrides, *rung.overrides, _told(proposal, rung, found))
        for proposal in batch
    ]
    results = launch(jobs)
    returned += results
    outcomes: list[Outcome | None] = []
    for result in results:
        value: Any = result._return_value  # .return_value would raise what failed, which was named
        if isinstance(value, JobInterrupted):
            raise Interrupted(value.signal)
        outcomes.append(value if result.status == JobStatus.COMPLETED else None)
    return outcomes
