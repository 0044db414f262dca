"""What an epoch leaves behind, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor

from kernelexp.engine.checks import number, refuse


class Ending(StrEnum):
    """What ended a training; the four in the middle are the rules of ``StopRule``."""

    EPOCHS = "epochs"
    TRAIN_ERROR = "train_error"
    TRAIN_MSE = "train_mse"
    SECONDS = "seconds"
    PATIENCE = "patience"
    TOLERANCE = "tolerance"
    LEAST_SQUARES = "least_squares"

    @property
    def sentence(self) -> str:
        """What that means."""
        return _SENTENCES[self]


_SENTENCES = {
    Ending.EPOCHS: "all epochs are done",
    Ending.TRAIN_ERROR: "few enough training labels are wrong",
    Ending.TRAIN_MSE: "the training error is small enough",
    Ending.SECONDS: "the time is up",
    Ending.PATIENCE: "the error has stopped falling",
    Ending.TOLERANCE: "the system is solved to the tolerance",
    Ending.LEAST_SQUARES: "the system is singular, and solved by least squares",
}


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch left.

    Attributes:
        epoch: 1, 2, ...; one pass over the training set, of a direct solver one solve. Counts what the
            model has seen: 1 again where training diverged and was started anew.
        train_mse: mean over points and outputs of (f(x) - y)^2, after the epoch.
        train_error: share of training points whose largest output is not their label; None for
            regression.
        rkhs_norm: sqrt(tr(alpha^T K alpha)).
        seconds: time of this epoch.

    ``train_mse`` and ``train_error`` are exact over the whole training set, with one exception: where
    f(X) would cost another pass (EigenPro 3 and 4 without room for K(X, Z)) they are taken in
    passing, each batch before its step, and so lag by about half an epoch.
    """

    epoch: int
    train_mse: float
    train_error: float | None
    rkhs_norm: float
    seconds: float


@dataclass(frozen=True)
class StopRule:
    """When to stop before the last epoch; null means off, the first to hold ends the run.

    Attributes:
        train_error: stop at this share of wrong training labels or fewer (0: "overfitted").
        train_mse: stop at this training error or less (near 0: "interpolated").
        seconds: stop after this much training time.
        patience: stop after this many epochs without a new lowest train_mse; in an experiment with
            validation points theirs counts, and training goes back to its best epoch.
    """

    train_error: float | None = None
    train_mse: float | None = None
    seconds: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        number("stop.train_error", self.train_error, 0, 1, optional=True)
        number("stop.train_mse", self.train_mse, 0, optional=True)
        number("stop.seconds", self.seconds, above=0, optional=True)
        number("stop.patience", self.patience, 1, whole=True, optional=True)

    def check(self, labels: Tensor | None) -> None:
        """Refuse a rule that data with these labels have nothing for.

        Raises:
            ValueError: for a training error of a regression.
        """
        if labels is None and self.train_error is not None:
            allowed = (
                "null for regression, which has no wrong labels; solver.stop.train_mse stops there"
            )
            raise refuse("solver.stop.train_error", self.train_error, allowed)

    def reason(self, records: list[EpochRecord], seconds: float) -> Ending | None:
        """The rule that ends a run with these records after ``seconds``, or None."""
        last = records[-1]
        best = min(range(len(records)), key=lambda i: records[i].train_mse)
        met = {
            Ending.TRAIN_ERROR: _at_most(last.train_error, self.train_error),
            Ending.TRAIN_MSE: _at_most(last.train_mse, self.train_mse),
            Ending.SECONDS: _at_most(self.seconds, seconds),
            Ending.PATIENCE: _at_most(self.patience, len(records) - 1 - best),
        }
        return next((name for name, holds in met.items() if holds), None)


def _at_most(value: float | None, bound: float | None) -> bool:
    return value is not None and bound is not None and value <= bound
