"""The solvers by name. A new solver is one file here and one YAML in ``conf/solver``."""

import sys

from kernelexp.engine.registry import discover
from kernelexp.engine.solvers.base import DivergenceError, Solver, SolverOption
from kernelexp.engine.solvers.preparing import fit, prepare
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.state import Iterate, Saved, System
from kernelexp.engine.solvers.stopping import Ending, EpochRecord, StopRule
from kernelexp.engine.solvers.training import AnyTraining, Training

SOLVERS: dict[str, type[SolverOption]] = discover(sys.modules[__name__], SolverOption)

__all__ = [
    "SOLVERS",
    "AnyTraining",
    "DivergenceError",
    "Ending",
    "EpochRecord",
    "Iterate",
    "Problem",
    "Saved",
    "Solver",
    "SolverOption",
    "StopRule",
    "System",
    "Training",
    "fit",
    "prepare",
]
