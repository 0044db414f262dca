"""The second step of a run: epoch by epoch, each evaluated and told, saved in between."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from kernelexp import interrupts
from kernelexp.checkpoint import Checkpoints, Epoch
from kernelexp.comparisons import prediction_error
from kernelexp.engine import EpochRecord, SingularMatrixWarning
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
    """

    record: EpochRecord
    seconds: float
    stopped_by: str
    scores: dict[str, float]


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
    left = _not_evaluated(training.records, told)
    there: dict[str, float] = {}
    with warnings.catch_warnings():
        # The result says what a system left undone, and so do its observers.
        warnings.simplefilter("ignore", SingularMatrixWarning)
        for record in itertools.chain(left, training.run(after_round)):
            there, metrics = _evaluated(prepared, record)
            for observer in observers:
                observer.epoch(record.epoch, metrics)
            if checkpoints is not None:
                checkpoints.epoch(record, metrics)
            stopping.epoch(training, record.epoch, metrics, there)
    assert training.stopped_by is not None
    if checkpoints is not None:
        checkpoints.ended(stopping.saved(training), training.stopped_by)
    seconds = training.seconds
    there = stopping.back_to_best(training) or there
    return Trained(training.records[-1], seconds, training.stopped_by, there)


def _not_evaluated(records: list[EpochRecord], told: list[Epoch]) -> list[EpochRecord]:
    """The epoch that a checkpoint was written after, before it was evaluated: one at most."""
    pairs = zip(records, told, strict=False)
    known = itertools.takewhile(lambda pair: pair[0] == pair[1].record, pairs)
    return records[len(list(known)) :]


def _evaluated(
    prepared: Prepared, record: EpochRecord
) -> tuple[dict[str, float], dict[str, float]]:
    """Scores on the validation and the test points, and the metrics of the epoch."""
    dataset, there = prepared.setup.dataset, {}
    outputs = prepared.evaluation.outputs()
    if dataset.valid is not None:
        there = scores("valid", outputs[: len(dataset.valid.Y)], dataset.valid)
        outputs = outputs[len(dataset.valid.Y) :]
    there |= scores("test", outputs, dataset.test)
    exact = prepared.compared.get("exact")
    metrics = EpochMetrics[float | None](
        epoch_train_mse=record.train_mse,
        epoch_test_accuracy=there.get("test_accuracy"),
        epoch_test_r2=there.get("test_r2"),
        epoch_valid_accuracy=there.get("valid_accuracy"),
        epoch_valid_r2=there.get("valid_r2"),
        epoch_valid_mse=there.get("valid_mse"),
        epoch_seconds=record.seconds,
        epoch_rkhs_norm=record.rkhs_norm,
        epoch_prediction_error=None if exact is None else prediction_error(outputs, exact),
    )
    return there, metrics.recorded()
