"""When a run saves itself, and where."""

from __future__ import annotations

from dataclasses import dataclass

from kernelexp.engine.checks import number


@dataclass(frozen=True)
class CheckpointConfig:
    """When a run saves itself, and where.

    Attributes:
        minutes: between two checkpoints; 0: after every round, null: none at all.
        keep: keep the last one when the run ends well, so that a run of more epochs goes on from it.
        folder: of all checkpoints; those of a run are in a folder of its configuration's digest.
    """

    minutes: float | None = 10
    keep: bool = False
    folder: str = "multirun/checkpoints"

    def __post_init__(self) -> None:
        number("minutes", self.minutes, 0, optional=True)
        if not self.folder:
            raise ValueError("folder=: must be the name of a folder")
