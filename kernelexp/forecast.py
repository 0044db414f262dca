"""What a run would hold in memory, known before data are read: from sizes and settings alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import torch

from kernelexp.comparisons import EXACT, LEARNING_CURVE
from kernelexp.data.base import Shape
from kernelexp.data.cache import own_file
from kernelexp.data.held_out import Fold, held_out_count
from kernelexp.engine import Plan, Sizes
from kernelexp.engine.checks import refuse
from kernelexp.engine.plan import GB, Limits
from kernelexp.engine.solvers.base import AnySolver
from kernelexp.experiment import Config

# Rows that keep the device busy are measured on data; these do so on most.
_BUSY_BLOCK = 2048
# Bytes that no plan holds.
_ENDLESS = 1 << 62
# Matrices of the test points, in numbers of the data's type, that a predicted error needs: K, its vectors and
# what they are made with, in float64.
_EIGENSYSTEM = 8


def planned_memory(config: Config, anywhere: bool = False) -> Plan | None:
    """The memory plan of a run, None where the data's sizes are not known without reading them.

    The solver's own plan for these sizes, of points that all differ, and the data, with codes as if they
    were bytes. Kernel rows that a solver keeps for speed are left out: they come as far as there is room.
    ``anywhere``: on a machine that has the memory.

    Raises:
        ValueError: where the run does not fit, or a size exceeds the data.
    """
    shape = shape_of(config)
    if shape is None:
        return None
    plans = [planned(config, shape, anywhere)[2]]
    if "exact" in config.compare:
        exact = replace(config, solver=EXACT, dtype=torch.float64)
        plans.append(planned(exact, shape, anywhere)[2])
    plan = max(plans, key=lambda plan: plan.peak_gb)
    n, n_test, d, c = shape
    numbers = n * c + n_test * (d + c) + (0 if config.dataset.mapped else n * d)
    if LEARNING_CURVE in config.compare:
        numbers += _EIGENSYSTEM * n_test**2
    codes = n * d if config.precision == "auto" else 0  # where they turn out to be bytes
    process = plan.gigabytes["process"] + (numbers * config.dtype.itemsize + codes) / GB
    return replace(plan, gigabytes={**plan.gigabytes, "process": process})


def shape_of(config: Config) -> Shape | None:
    """The sizes of a run's data, None where these are not known without reading them: also of a file of the user's own."""
    own = own_file(config.dataset, config.data_dir)
    return config.dataset.shape() if own is None else None


def check_sizes(configs: Iterable[Config]) -> None:
    """Refuse what asks for more than its data have, whatever memory there is; data of unknown sizes are passed over.

    Raises:
        ValueError: for the first one.
    """
    shapes: dict[str, Shape | None] = {}  # jobs share their data
    for config in configs:
        dataset = repr((config.dataset, config.data_dir))
        if dataset not in shapes:
            shapes[dataset] = shape_of(config)
        if (shape := shapes[dataset]) is not None:
            trained = shape._replace(n_train=_fewest_trained(config, shape.n_train))
            _planned(config, trained, Limits(config.resource, 0, _ENDLESS, _BUSY_BLOCK))
            if LEARNING_CURVE in config.compare and shape.n_test <= trained.n_train:
                known = f"{shape.n_test:,} test points for {trained.n_train:,} training points"
                allowed = f"left out with {known}, which must be fewer"
                raise refuse("compare", f"[{LEARNING_CURVE}]", allowed)


def _fewest_trained(config: Config, n: int) -> int:
    """Of n points those of the smallest training, without the ones that are held out."""
    if config.cv is not None:
        if config.cv > n:
            raise refuse("cv", config.cv, f"at most the {n} training points")
        return n - math.ceil(n / config.cv)
    held = config.validation
    if held is None or isinstance(held, Fold):
        return n
    return n - held_out_count(held, n, "validation")


def planned(config: Config, shape: Shape, anywhere: bool = False) -> tuple[AnySolver, Sizes, Plan]:
    """The solver, what its plan is for, and its plan without the data and without the memory of rows that are kept."""
    resource = config.resource
    here = resource.measured(config.device, _BUSY_BLOCK, resource.ranks)
    limits = replace(here, allowed=_ENDLESS) if anywhere else here
    return _planned(config, shape, limits)


def _planned(config: Config, shape: Shape, limits: Limits) -> tuple[AnySolver, Sizes, Plan]:
    n, d, c = shape.n_train, shape.n_features, shape.n_outputs
    sizes = Sizes(n, d, c, n, config.dtype.itemsize, config.resource.ranks)
    solver, _ = config.solver.choose(sizes, limits, config.device)
    plan = solver.plan(sizes, limits, config.device)
    return solver, sizes, replace(plan, gigabytes={**plan.gigabytes, "cache": 0.0})
