"""How long a run would take, before its data are read: the work that solvers count, at the rates of this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from kernelexp.comparisons import EXACT, LEARNING_CURVE
from kernelexp.data.base import Shape
from kernelexp.engine import StopRule, rates
from kernelexp.engine.solvers.work import ALL_PAIRS, Work, cost
from kernelexp.experiment import Config
from kernelexp.forecast import planned, shape_of

# Of a run, beside training: data, the store, its files.
_RUN_SECONDS = 1.0
# Points that a kernel without a bandwidth is fitted to for its rates.
_FITTED = 256
# Epochs where a rule decides and no run says more: the solver's default, up to so many.
_LIKELY_EPOCHS = 50
# Comparisons whose work is counted.
_COUNTED = {"exact", LEARNING_CURVE}


@dataclass(frozen=True)
class Seconds:
    """Of a run.

    Attributes:
        total: all of it.
        known: whether the number of epochs is; else it is that of runs like it, or the solver's default.
    """

    total: float
    known: bool


@dataclass
class Stopwatch:
    """Forecasts for this machine, whose rates are measured when they are first needed.

    Attributes:
        epochs_before: the epochs that a run like this took, where a stop rule decides; None: there is none.
    """

    epochs_before: Callable[[Config, int], float | None] = lambda config, n: None
    _rates: dict[tuple[str, rates.Numbers], rates.Rates] = field(default_factory=dict)

    def of(self, config: Config) -> Seconds | None:
        """Set-up, epochs and evaluation of a run, of all its folds; None where sizes or work are not known."""
        shape = shape_of(config)
        if shape is None:
            return None
        solver, sizes, plan = planned(config, shape)
        counted = cost(solver, sizes, plan)
        if counted is None:
            return None
        centers = plan.n_centers or sizes.n
        tested = shape.n_test * centers
        setup = [*counted.setup, Work(config.dtype, entries=tested, stored=tested)]
        epoch = [*counted.epoch, Work(config.dtype, read=tested)]
        decided = solver.stop == StopRule() and getattr(solver, "tolerance", None) is None
        known = (decided or solver.max_epochs == 1) and set(config.compare) <= _COUNTED
        before = None if known else self.epochs_before(config, sizes.n)
        likely = solver.max_epochs if known else min(solver.likely_epochs, _LIKELY_EPOCHS)
        if before is not None and config.validation is not None:
            before += config.solver.stop.patience or 0  # they went back to their best epoch
        epochs = likely if before is None else min(before, solver.max_epochs)
        fold = self._seconds(config, shape, setup) + epochs * self._seconds(config, shape, epoch)
        once = _RUN_SECONDS + self._seconds(config, shape, self._compared(config, shape))
        return Seconds(once + (config.cv or 1) * fold, known)

    def _compared(self, config: Config, shape: Shape) -> list[Work]:
        """What ``compare`` adds, as far as it is counted."""
        added: list[Work] = []
        if "exact" in config.compare:
            solver, sizes, plan = planned(replace(config, solver=EXACT, dtype=torch.float64), shape)
            counted = cost(solver, sizes, plan)
            assert counted is not None
            added += counted.setup
        if LEARNING_CURVE in config.compare:
            n = shape.n_test
            added.append(
                Work(torch.float64, entries=n * n, stored=n * n, operations=ALL_PAIRS * n**3)
            )
        return added

    def _seconds(self, config: Config, shape: Shape, works: Sequence[Work]) -> float:
        total = 0.0
        for work in works:
            rate = self._rate(config, shape, work.dtype)
            total += rate.entry * work.entries + rate.operation * work.operations
            total += rate.store * work.stored + rate.read * work.read + rate.step * work.steps
        return total

    def _rate(self, config: Config, shape: Shape, dtype: torch.dtype) -> rates.Rates:
        d, c = shape.n_features, shape.n_outputs
        numbers = rates.Numbers(
            d, c, config.dataset.in_bytes, dtype, config.precision, config.device
        )
        key = (str(config.kernel), numbers)
        if key not in self._rates:
            generator = torch.Generator().manual_seed(0)
            some = torch.rand(_FITTED, d, generator=generator, dtype=dtype)
            self._rates[key] = rates.measure(config.kernel.fitted_to(some, generator), numbers)
        return self._rates[key]
