"""The engine: kernels, spectra and solvers on PyTorch and NumPy alone, usable as a library."""

from kernelexp.engine.kernels import KERNELS, Kernel
from kernelexp.engine.model import KernelModel
from kernelexp.engine.resource import MemoryPlan, ResourceLimits, measure_block_size
from kernelexp.engine.solvers import (
    SOLVERS,
    DivergenceError,
    EpochRecord,
    Problem,
    Solver,
    StopRule,
)

__all__ = [
    "KERNELS",
    "SOLVERS",
    "DivergenceError",
    "EpochRecord",
    "Kernel",
    "KernelModel",
    "MemoryPlan",
    "Problem",
    "ResourceLimits",
    "Solver",
    "StopRule",
    "measure_block_size",
]
