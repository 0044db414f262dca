"""The solvers by name. A new solver is one file here and one YAML in ``conf/solver``."""

import sys

from kernelexp.engine.registry import discover
from kernelexp.engine.solvers.base import DivergenceError, Solver, State
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.stopping import EpochRecord, StopRule

SOLVERS: dict[str, type[Solver]] = discover(sys.modules[__name__], Solver)

__all__ = ["SOLVERS", "DivergenceError", "EpochRecord", "Problem", "Solver", "State", "StopRule"]
