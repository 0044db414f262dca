"""kernelexp: kernel machines trained at the speed of the hardware, experiments anyone can repeat."""

__version__ = "0.2.0"
