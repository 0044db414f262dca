"""kernelexp: kernel machines trained at the speed of the hardware, experiments anyone can repeat."""

from kernelexp.loading import load

__version__ = "0.2.0"
__all__ = ["load"]
