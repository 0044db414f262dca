"""The kernels by name. A new kernel is one file here and one YAML in ``conf/kernel``."""

import sys

from kernelexp.engine.kernels.base import FunctionKernel, Kernel
from kernelexp.engine.registry import discover

KERNELS: dict[str, type[Kernel]] = discover(sys.modules[__name__], Kernel)

__all__ = ["KERNELS", "FunctionKernel", "Kernel"]
