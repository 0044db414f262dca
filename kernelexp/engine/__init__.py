"""The engine: kernels, spectra and solvers on PyTorch and NumPy alone, usable as a library."""

from kernelexp.engine.kernels import KERNELS, FunctionKernel, Kernel
from kernelexp.engine.model import KernelModel
from kernelexp.engine.norms import RKHSNorm
from kernelexp.engine.resource import MemoryPlan, ResourceLimits, measure_block_size
from kernelexp.engine.singular import SingularMatrixWarning
from kernelexp.engine.solvers import (
    SOLVERS,
    DivergenceError,
    EpochRecord,
    Problem,
    Solver,
    State,
    StopRule,
)

__all__ = [
    "KERNELS",
    "SOLVERS",
    "DivergenceError",
    "EpochRecord",
    "FunctionKernel",
    "Kernel",
    "KernelModel",
    "MemoryPlan",
    "Problem",
    "RKHSNorm",
    "ResourceLimits",
    "SingularMatrixWarning",
    "Solver",
    "State",
    "StopRule",
    "measure_block_size",
]
