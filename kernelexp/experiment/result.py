"""The third step of a run: what it leaves."""

from __future__ import annotations

from torch import Tensor

from kernelexp.engine import KernelModel, memory
from kernelexp.experiment.features import features, subspace_error
from kernelexp.experiment.mistakes import mistakes
from kernelexp.experiment.observer import RunResult
from kernelexp.experiment.prepare import Prepared
from kernelexp.experiment.scores import scores
from kernelexp.experiment.train import Trained
from kernelexp.metrics import DERIVED, RunMetrics

_DRIFT_POINTS = 1000


def result(prepared: Prepared, trained: Trained, validated: dict[str, float]) -> RunResult:
    """Norm, scores and model of a training that has ended; ``validated``: what its folds gave."""
    training, setup = prepared.training, prepared.setup
    train, model = setup.dataset.train, training.model()
    norm, outputs = training.rkhs_norm(), training.training_outputs()
    metrics = RunMetrics[float | None](
        **{name: float(setup.derived[name]) for name in DERIVED if name in setup.derived},
        setup_seconds=training.setup_seconds,
        train_seconds=trained.seconds,
        epochs=float(trained.record.epoch),
        **scores("train", outputs, train),
        **trained.scores,
        **validated,
        **prepared.scores,
        rkhs_norm=norm.value,
        rkhs_norm_error=norm.relative_error,
        **training.residuals(),
        **training.choice(),
        **subspace_error(setup.dataset, training.features()),
        prediction_drift=_drift(model, train.X, outputs),
        peak_memory_gb=memory.peak_bytes(prepared.config.device) / 1e9,
    )
    return RunResult(
        setup,
        metrics.recorded(),
        norm,
        trained.stopped_by,
        model,
        training.left_over,
        training.path(),
        mistakes(setup.dataset, trained.test_outputs),
        features(setup.dataset, model.transform),
    )


def _drift(model: KernelModel, X: Tensor, predictions: Tensor) -> float:
    """Root mean square of f(X) as carried along minus f(X) from the weights, on the first points.

    Rounding alone; where it is not small against the root of train_mse, use dtype=float64.
    """
    some = slice(0, _DRIFT_POINTS)
    return (model.predict(X[some]) - predictions[some]).square_().mean().sqrt_().item()
