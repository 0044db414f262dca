"""The second step of a run: epoch by epoch, each evaluated and told, saved in between."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from kernelexp import interrupts
from kernelexp.checkpoint import Checkpoints, Epoch
from kernelexp.comparisons import prediction_error
from kernelexp.engine import AnyTraining, EpochRecord, SingularMatrixWarning
from kernelexp.experiment.observer import Observer
from kernelexp.experiment.prepare import Prepared
from kernelexp.experiment.scores import scores
from kernelexp.metrics import EpochMetrics


@dataclass(frozen=True)
class Trained:
    """How a training ended.

    Attributes:
        record: of the last epoch.
        seconds: of all epochs.
        stopped_by: what ended it.
        scores: on the validation and the test points.
        test_outputs: f on the test points, (m, c).
    """

    record: EpochRecord
    seconds: float
    stopped_by: str
    scores: dict[str, float]
    test_outputs: Tensor


def train(
    prepared: Prepared, observers: Sequence[Observer], checkpoints: Checkpoints | None
) -> Trained:
    """Train to the end; errors as ``run``."""
    training, stopping = prepared.training, prepared.stopping

    def after_round() -> None:
        try:
            interrupts.check()
        except interrupts.Interrupted:
            if checkpoints is not None:
                checkpoints.write(stopping.saved(training))
            raise
        if checkpoints is not None:
            checkpoints.after_round(lambda: stopping.saved(training))

    told = [] if checkpoints is None else checkpoints.epochs
    for epoch in told:
        stopping.told(training, epoch.record.epoch, epoch.metrics)
        for observer in observers:
            observer.epoch(epoch.record.epoch, epoch.metrics)
    left = _not_evaluated(training, told)
    there: dict[str, float] = {}
    outputs: Tensor | None = None
    with warnings.catch_warnings():
        # The result says what a system left undone, and so do its observers.
        warnings.simplefilter("ignore", SingularMatrixWarning)
        for record in itertools.chain(left, training.run(after_round)):
            outputs = prepared.evaluation.outputs()
            there, metrics = _evaluated(prepared, record, outputs)
            for observer in observers:
                observer.epoch(record.epoch, metrics)
            if checkpoints is not None:
                checkpoints.epoch(record, metrics)
            stopping.epoch(training, record.epoch, metrics)
    assert training.stopped_by is not None
    if checkpoints is not None:
        checkpoints.ended(stopping.saved(training), training.stopped_by)
    seconds = training.seconds
    if stopping.back_to_best(training) or outputs is None:
        outputs = prepared.evaluation.outputs()
        there = _scores(prepared, outputs)
    test_outputs = outputs[-len(prepared.setup.dataset.test.Y) :]
    return Trained(training.last, seconds, training.stopped_by, there, test_outputs)


def _not_evaluated(training: AnyTraining, told: list[Epoch]) -> list[EpochRecord]:
    """The epoch that a checkpoint was written after, before it was evaluated: one at most."""
    records = training.records
    # The last one was told as training had it where somebody ended it afterwards, else as it is at the end.
    final = [*records[:-1], training.last] if records else []
    trios = zip(records, final, told, strict=False)
    known = itertools.takewhile(lambda trio: trio[2].record in trio[:2], trios)
    return final[len(list(known)) :]


def _scores(prepared: Prepared, outputs: Tensor) -> dict[str, float]:
    """On the validation points, if there are any, and the test points, of outputs at both."""
    dataset, there = prepared.setup.dataset, {}
    if dataset.valid is not None:
        there = scores("valid", outputs[: len(dataset.valid.Y)], dataset.valid)
    return there | scores("test", outputs[-len(dataset.test.Y) :], dataset.test)


def _evaluated(
    prepared: Prepared, record: EpochRecord, outputs: Tensor
) -> tuple[dict[str, float], dict[str, float]]:
    """Scores of outputs on the validation and the test points, and the metrics of the epoch."""
    there = _scores(prepared, outputs)
    outputs = outputs[-len(prepared.setup.dataset.test.Y) :]
    exact = prepared.compared.get("exact")
    metrics = EpochMetrics[float | None](
        epoch_train_mse=record.train_mse,
        epoch_train_accuracy=None if record.train_error is None else 1 - record.train_error,
        epoch_test_accuracy=there.get("test_accuracy"),
        epoch_test_r2=there.get("test_r2"),
        epoch_test_mse=there["test_mse"] if "test_r2" in there else None,
        epoch_valid_accuracy=there.get("valid_accuracy"),
        epoch_valid_r2=there.get("valid_r2"),
        epoch_valid_mse=there.get("valid_mse"),
        epoch_seconds=record.seconds,
        epoch_rkhs_norm=record.rkhs_norm,
        epoch_prediction_error=None if exact is None else prediction_error(outputs, exact),
    )
    return there, metrics.recorded()
