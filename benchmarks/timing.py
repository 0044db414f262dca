"""What the engine's benchmarks time with: the device, and seconds of work that is done on it."""

import torch

from kernelexp.engine.resource import clock

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def timed(work):
    """Seconds, and what ``work()`` returned."""
    start = clock(DEVICE)
    made = work()
    return clock(DEVICE) - start, made
