"""The engine: kernels, spectra and solvers on PyTorch and NumPy alone, usable as a library."""

from kernelexp.engine.kernels import KERNELS, FunctionKernel, Kernel
from kernelexp.engine.model import KernelModel
from kernelexp.engine.norms import RKHSNorm
from kernelexp.engine.plan import Limits, Plan, ResourceLimits, Sizes
from kernelexp.engine.resource import measure_block_size
from kernelexp.engine.singular import SingularMatrixWarning
from kernelexp.engine.solvers import (
    SOLVERS,
    AnyTraining,
    DivergenceError,
    Ending,
    EpochRecord,
    Iterate,
    Problem,
    Saved,
    Solver,
    SolverOption,
    StopRule,
    System,
    Training,
    fit,
    prepare,
)

__all__ = [
    "KERNELS",
    "SOLVERS",
    "AnyTraining",
    "DivergenceError",
    "Ending",
    "EpochRecord",
    "FunctionKernel",
    "Iterate",
    "Kernel",
    "KernelModel",
    "Limits",
    "Plan",
    "Problem",
    "RKHSNorm",
    "ResourceLimits",
    "Saved",
    "SingularMatrixWarning",
    "Sizes",
    "Solver",
    "SolverOption",
    "StopRule",
    "System",
    "Training",
    "fit",
    "measure_block_size",
    "prepare",
]
