"""Patience on validation points: training ends when they see nothing better, and goes back to its best epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from kernelexp.engine import AnyTraining, Ending, Saved
from kernelexp.metrics import EPOCH

# Before the names of what a checkpoint has of the best epoch.
_BEST = "best."


@dataclass
class EarlyStopping:
    """Of one run.

    Attributes:
        patience: epochs without a new lowest mean square error on the validation points that end training;
            None: nothing here is done.
        best: what training carried after its best epoch; None before the first.
        losses: on the validation points, by epoch.
    """

    patience: int | None
    best: Saved | None = None
    losses: list[float] = field(default_factory=list)

    def told(self, training: AnyTraining, epoch: int, metrics: dict[str, float]) -> None:
        """An epoch of a run that goes on, as it was recorded.

        Where the run before had no patience its best epoch is not known any more, and those so far do not count.
        """
        if self.patience is not None:
            loss = math.inf if self.best is None else metrics[EPOCH.epoch_valid_mse]
            self._add(training, epoch, loss)

    def epoch(self, training: AnyTraining, epoch: int, metrics: dict[str, float]) -> None:
        """After an epoch with such metrics: keep it if it is the best, end training if that was too long ago."""
        if self.patience is None:
            return
        self._add(training, epoch, metrics[EPOCH.epoch_valid_mse])
        if self.losses[-1] <= min(self.losses):
            now = training.saved()
            tensors = {name: tensor.clone() for name, tensor in now.tensors.items()}
            self.best = Saved(tensors, now.numbers)

    def _add(self, training: AnyTraining, epoch: int, loss: float) -> None:
        assert self.patience is not None
        # After a divergence they begin at 1 again.
        self.losses = [*self.losses[: epoch - 1], loss]
        least = min(self.losses)
        since = len(self.losses) - 1 - self.losses.index(least)
        if since >= self.patience and least < math.inf:
            training.end(Ending.PATIENCE)

    def saved(self, training: AnyTraining) -> Saved:
        """What a checkpoint must have: the training and its best epoch."""
        now = training.saved()
        if self.best is None:
            return now
        best = {f"{_BEST}{name}": tensor for name, tensor in self.best.tensors.items()}
        return Saved({**now.tensors, **best}, {**now.numbers, _BEST: self.best.numbers})

    def back_to_best(self, training: AnyTraining) -> bool:
        """Take a training that has ended to its best epoch; whether that is another than the last."""
        if self.best is None or self.losses[-1] <= min(self.losses):
            return False
        ended = training.stopped_by
        training.go_back(self.best)
        training.end(ended)
        return True

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> Saved:
        """Take out of what ``saved`` made what is of the best epoch; the rest is the training's."""
        own = {n: t for n, t in tensors.items() if n.startswith(_BEST)}
        kept = numbers.get(_BEST)
        if self.patience is not None and kept is not None:
            best = {name.removeprefix(_BEST): tensor for name, tensor in own.items()}
            self.best = Saved(best, kept)
        rest = {name: tensor for name, tensor in tensors.items() if name not in own}
        return Saved(rest, {name: value for name, value in numbers.items() if name != _BEST})
