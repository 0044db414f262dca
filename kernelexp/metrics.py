"""The names under which runs are recorded: written here once, for what records and what reads them.

An instance with numbers is what came out of a run; ``RUN`` and ``EPOCH`` hold the names themselves, so that
``RUN.rkhs_norm`` is ``"rkhs_norm"`` and a name that does not exist is found by the type checker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

# What a field holds: a number or None in the metrics of a run, its own name in RUN and EPOCH.
Held = TypeVar("Held", covariant=True)
_nothing: Any = None  # a default for fields of either kind


class _Metrics(Generic[Held]):
    """What both kinds share."""

    def recorded(self: _Metrics[float | None]) -> dict[str, float]:
        """The values by their names, without those that are None."""
        known = {name: getattr(self, name) for name in names(type(self))}
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class RunMetrics(_Metrics[Held]):
    """What is recorded once, at the end of a run; None where a run does not have it.

    The interpolating solution (``exact_``) and the nearest neighbour are what ``compare`` asks for.

    Attributes:
        m_star: critical batch size of the kernel, in points.
        m_star_adapted: critical batch size of the kernel with deflated top directions, in points.
        batch_size: points in a batch.
        q: deflated directions.
        top_eigenvalue: largest eigenvalue of K / n.
        n_centers: centers of the model.
        setup_seconds: seconds from the data to the first epoch.
        train_seconds: seconds of all epochs, without evaluation.
        epochs: epochs done.
        train_accuracy: share of training labels that are predicted, 0 to 1; classification.
        train_r2: 1 - sum (y - f)^2 / sum (y - mean y)^2 on the training points, mean over targets; regression.
        train_mse: mean of (y - f)^2 over training points and outputs.
        test_accuracy: as ``train_accuracy``, on the test points.
        test_r2: as ``train_r2``, on the test points.
        test_mse: as ``train_mse``, on the test points.
        valid_accuracy: as ``train_accuracy``, on the validation points.
        valid_r2: as ``train_r2``, on the validation points.
        valid_mse: as ``train_mse``, on the validation points.
        cv_accuracy: ``valid_accuracy``, mean over the folds of a cross-validation.
        cv_r2: ``valid_r2``, mean over the folds.
        cv_mse: ``valid_mse``, mean over the folds.
        cv_accuracy_spread: standard deviation of ``valid_accuracy`` over the folds (divided by folds - 1).
        cv_r2_spread: that of ``valid_r2``.
        cv_mse_spread: that of ``valid_mse``.
        ridge: that was chosen from a grid, in the units of a mean loss.
        loo_accuracy: share of training points whose label is predicted by training on all others.
        loo_r2: R2 of predictions of training points by training on all others; regression.
        loo_mse: mean over training points and outputs of (y_i - f_i(x_i))^2, f_i trained without point i.
        effective_dimension: trace of K (K + n ridge)^-1.
        predicted_test_mse: ``test_mse`` of kernel ridge regression as theory has it (``compare=[learning_curve]``).
        exact_test_accuracy: ``test_accuracy`` of the interpolating solution.
        exact_test_r2: ``test_r2`` of the interpolating solution.
        exact_test_mse: ``test_mse`` of the interpolating solution.
        nearest_neighbour_test_accuracy: ``test_accuracy`` of the nearest neighbour.
        nearest_neighbour_test_r2: ``test_r2`` of the nearest neighbour.
        nearest_neighbour_test_mse: ``test_mse`` of the nearest neighbour.
        svm_test_accuracy: ``test_accuracy`` of a support vector machine.
        svm_test_r2: ``test_r2`` of a support vector machine.
        svm_test_mse: ``test_mse`` of a support vector machine.
        kernel_ridge_test_accuracy: ``test_accuracy`` of scikit-learn's kernel ridge regression.
        kernel_ridge_test_r2: ``test_r2`` of scikit-learn's kernel ridge regression.
        kernel_ridge_test_mse: ``test_mse`` of scikit-learn's kernel ridge regression.
        boosting_test_accuracy: ``test_accuracy`` of gradient boosting.
        boosting_test_r2: ``test_r2`` of gradient boosting.
        boosting_test_mse: ``test_mse`` of gradient boosting.
        rkhs_norm: ||f||, root of the sum over outputs of alpha^T K alpha.
        rkhs_norm_error: how far ``rkhs_norm`` may be off, relative to it; infinite where not known.
        relative_residual: |y - K alpha| / |y|, largest over outputs, of solvers of linear systems.
        projection_residual: relative residual of the last projection onto the centers.
        subspace_error: sine of the largest angle between the first r eigenvectors of the average gradient outer product, or of
            its diagonal where that alone is kept, and the r directions that the targets depend on, where the data know them.
        prediction_drift: root mean square of f(X) as carried along less f(X) from the weights.
        peak_memory_gb: most memory held, in 10^9 bytes.
    """

    m_star: Held = _nothing
    m_star_adapted: Held = _nothing
    batch_size: Held = _nothing
    q: Held = _nothing
    top_eigenvalue: Held = _nothing
    n_centers: Held = _nothing
    setup_seconds: Held = _nothing
    train_seconds: Held = _nothing
    epochs: Held = _nothing
    train_accuracy: Held = _nothing
    train_r2: Held = _nothing
    train_mse: Held = _nothing
    test_accuracy: Held = _nothing
    test_r2: Held = _nothing
    test_mse: Held = _nothing
    valid_accuracy: Held = _nothing
    valid_r2: Held = _nothing
    valid_mse: Held = _nothing
    cv_accuracy: Held = _nothing
    cv_r2: Held = _nothing
    cv_mse: Held = _nothing
    cv_accuracy_spread: Held = _nothing
    cv_r2_spread: Held = _nothing
    cv_mse_spread: Held = _nothing
    ridge: Held = _nothing
    loo_accuracy: Held = _nothing
    loo_r2: Held = _nothing
    loo_mse: Held = _nothing
    effective_dimension: Held = _nothing
    predicted_test_mse: Held = _nothing
    exact_test_accuracy: Held = _nothing
    exact_test_r2: Held = _nothing
    exact_test_mse: Held = _nothing
    nearest_neighbour_test_accuracy: Held = _nothing
    nearest_neighbour_test_r2: Held = _nothing
    nearest_neighbour_test_mse: Held = _nothing
    svm_test_accuracy: Held = _nothing
    svm_test_r2: Held = _nothing
    svm_test_mse: Held = _nothing
    kernel_ridge_test_accuracy: Held = _nothing
    kernel_ridge_test_r2: Held = _nothing
    kernel_ridge_test_mse: Held = _nothing
    boosting_test_accuracy: Held = _nothing
    boosting_test_r2: Held = _nothing
    boosting_test_mse: Held = _nothing
    rkhs_norm: Held = _nothing
    rkhs_norm_error: Held = _nothing
    relative_residual: Held = _nothing
    projection_residual: Held = _nothing
    subspace_error: Held = _nothing
    prediction_drift: Held = _nothing
    peak_memory_gb: Held = _nothing


@dataclass(frozen=True, kw_only=True)
class EpochMetrics(_Metrics[Held]):
    """What is recorded after each epoch; ``epoch_`` tells these names from those of the run.

    Attributes:
        epoch_train_mse: mean of (y - f)^2 over training points and outputs.
        epoch_train_accuracy: share of training labels that are predicted, 0 to 1; classification.
        epoch_test_accuracy: share of test labels that are predicted, 0 to 1; classification.
        epoch_test_r2: as ``test_r2``.
        epoch_test_mse: mean of (y - f)^2 over test points and outputs; regression.
        epoch_valid_accuracy: as ``epoch_test_accuracy``, on the validation points.
        epoch_valid_r2: as ``epoch_test_r2``, on the validation points.
        epoch_valid_mse: mean of (y - f)^2 over validation points and outputs.
        epoch_seconds: seconds of this epoch, without evaluation.
        epoch_rkhs_norm: ||f||, as the solver carries it along.
        epoch_prediction_error: |f(X) - f*(X)| / |f*(X)| on the test points, f* the interpolating solution
            (``compare=[exact]``).
    """

    epoch_train_mse: Held = _nothing
    epoch_train_accuracy: Held = _nothing
    epoch_test_accuracy: Held = _nothing
    epoch_test_r2: Held = _nothing
    epoch_test_mse: Held = _nothing
    epoch_valid_accuracy: Held = _nothing
    epoch_valid_r2: Held = _nothing
    epoch_valid_mse: Held = _nothing
    epoch_seconds: Held = _nothing
    epoch_rkhs_norm: Held = _nothing
    epoch_prediction_error: Held = _nothing


def names(kind: type[_Metrics[object]]) -> tuple[str, ...]:
    """The names of a kind of metrics, in the order they are written above."""
    return tuple(field.name for field in fields(kind))  # type: ignore[arg-type]


RUN: RunMetrics[str] = RunMetrics(**{name: name for name in names(RunMetrics)})
EPOCH: EpochMetrics[str] = EpochMetrics(**{name: name for name in names(EpochMetrics)})

# What a solver has chosen or measured by its first epoch (``Setup.derived``) and is recorded as numbers.
DERIVED = (RUN.m_star, RUN.m_star_adapted, RUN.batch_size, RUN.q, RUN.top_eigenvalue, RUN.n_centers)
# By which runs are compared: of each run the first it has.
SCORES = (RUN.test_accuracy, RUN.test_r2)
# By which something may be chosen: never by test points. The larger the better; of each run the first it has. Of
# few points many have the same accuracy: then the smaller one of what follows.
SELECTION = {
    RUN.valid_accuracy: RUN.valid_mse,
    RUN.valid_r2: RUN.valid_mse,
    RUN.cv_accuracy: RUN.cv_mse,
    RUN.cv_r2: RUN.cv_mse,
    RUN.loo_accuracy: RUN.loo_mse,
    RUN.loo_r2: RUN.loo_mse,
}
# The parameters of a run that say which data it is of: scores on different ones are not compared.
DATA = ("dataset.name", "dataset.path", "dataset.target", "dataset.id")
# Settings that do not change what a run computes; and how many processes share the work changes no more than rounding.
NO_DIFFERENCE = (
    "tracking", "data_dir", "rerun", "retries", "dry_run", "checkpoint", "resume", "trial",
    "resource.ranks",
)  # fmt: skip
# Before the names of what is recorded for each value of a grid, one after the other.
PATH = "path_"
# The file of a run that says what its model gets wrong on the test points.
MISTAKES = "test_mistakes.json"
# That of what it has learned of the coordinates, where its solver does.
FEATURES = "features.json"


def last_attempt(points: Iterable[Any]) -> dict[int, float]:
    """Value by epoch of what MLflow has of a metric; of an epoch that is there twice the later one.

    After a divergence epochs begin again. What is left of the first attempt beyond the end of the second is older than
    the second's first, and no part of it.
    """
    latest: dict[int, Any] = {}
    began = None
    for point in sorted(points, key=lambda p: (p.step, p.timestamp)):
        if point.step == min(latest, default=None):
            began = point.timestamp
        latest[point.step] = point
    return {
        step: point.value
        for step, point in latest.items()
        if began is None or point.timestamp >= began
    }
