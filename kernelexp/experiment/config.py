"""What a run is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch

from kernelexp.comparisons import COMPARISONS, LEARNING_CURVE
from kernelexp.data import DatasetSource
from kernelexp.data.cache import cache_dir
from kernelexp.data.held_out import Fold, HeldOut, check_held_out
from kernelexp.engine import Kernel, ResourceLimits, SolverOption
from kernelexp.engine.centers import CenterRule
from kernelexp.engine.checks import number, one_of, refuse
from kernelexp.engine.points import check_precision


@dataclass(frozen=True)
class Config:
    """One run, checked.

    ``validation``: training points held out for choosing, see ``data.held_out``; ``cv``: in how many folds all are
    held out in turn before the run itself.
    """

    dataset: DatasetSource
    kernel: Kernel
    solver: SolverOption
    resource: ResourceLimits = field(default_factory=ResourceLimits)
    noise: float = 0.0
    noise_kind: str = "uniform"
    validation: HeldOut | None = None
    cv: int | None = None
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    precision: str = "auto"
    data_dir: Path = field(default_factory=cache_dir)
    compare: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Of labels a probability; where only the data tell what y are, those are asked for it.
        number("noise", self.noise, 0, 1 if self.dataset.classifies else math.inf)
        if self.validation is not None and not isinstance(self.validation, Fold):
            check_held_out("validation", self.validation)
        number("cv", self.cv, 2, whole=True, optional=True)
        if self.cv is not None and self.validation is not None:
            raise refuse("cv", self.cv, f"null with validation={self.validation}: either is enough")
        if self.cv is not None and self.solver.stop.patience is not None:
            allowed = "null with cv; validation=0.1 holds out points that it can look at"
            raise refuse("solver.stop.patience", self.solver.stop.patience, allowed)
        for key, held in (("cv", self.cv), ("validation", self.validation)):
            if held is not None and self.dataset.mapped:
                allowed = "null where points stay in their file; dataset.n_train=... reads them"
                raise refuse(key, held, allowed)
        if self.seed >= 2**63:
            raise refuse("seed", self.seed, "a whole number from 0 to 2^63 - 1")
        number("seed", self.seed, 0, whole=True)
        check_precision(self.precision, self.dtype, self.device)
        for name in self.compare:
            one_of("compare", name, [*COMPARISONS, LEARNING_CURVE])
        if LEARNING_CURVE in self.compare:
            self._check_learning_curve()

    def _check_learning_curve(self) -> None:
        """The theory is of ridge regression on all training points, whose ridge is known beforehand."""
        if self.noise:
            raise refuse("noise", self.noise, f"0 with compare=[{LEARNING_CURVE}]")
        solver = self.solver
        rule: CenterRule | None = getattr(solver, "center_rule", None)
        part = getattr(solver, "restricted", rule is not None and rule.chosen != "all")
        if not hasattr(solver, "ridge") or part:
            allowed = "one with a ridge, on all points (solver.centers=all)"
            raise refuse("solver", solver.name, f"{allowed}, with compare=[{LEARNING_CURVE}]")
