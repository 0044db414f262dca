"""Runs that survive: what a training carries is saved as it goes, and taken up again."""

from kernelexp.checkpoint.folder import Checkpoint
from kernelexp.checkpoint.header import Epoch, progress
from kernelexp.checkpoint.run import Checkpoints, Untrained, checkpoints
from kernelexp.checkpoint.search import Run
from kernelexp.checkpoint.settings import CheckpointConfig

__all__ = [
    "Checkpoint",
    "CheckpointConfig",
    "Checkpoints",
    "Epoch",
    "Run",
    "Untrained",
    "checkpoints",
    "progress",
]
