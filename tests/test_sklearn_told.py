"""What estimators refuse, say, and keep to themselves."""

import warnings

import numpy as np
import pytest

from kernelexp.engine import SOLVERS, SingularMatrixWarning
from kernelexp.engine.solvers import auto, full_sgd
from kernelexp.sklearn import (
    KernelClassifier,
    KernelClassifierCV,
    KernelRegressor,
    KernelRegressorCV,
)


def points(n=120, d=3):
    X = np.random.default_rng(0).normal(size=(n, d))
    return X, np.sin(X.sum(1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", ["min", "max"])
def test_numbers_that_stand_for_none_are_refused_in_predictions_too(dtype, value):
    X, y = points()
    X = X.astype(dtype)
    new = X[:5].copy()
    new[2, 1] = getattr(np.finfo(dtype), value)  # what rasters have for "no data", finite
    for model in (KernelClassifier(), KernelRegressor()):
        model.fit(X, y > 0 if isinstance(model, KernelClassifier) else y)
        assert len(model.predict(X[:5])) == 5
        with pytest.raises(ValueError, match="X has numbers from .* do not overflow"):
            model.predict(new)


def test_an_answer_that_is_not_finite_is_refused():
    X, y = points()
    model = KernelRegressor(
        "polynomial", ridge=1e-3, kernel_params={"degree": 3}, dtype="float32"
    ).fit(X, y)
    with pytest.raises(ValueError, match="f is not finite at points of norms up to .*Polynomial"):
        model.predict(1e14 * X[:3])


def test_a_regression_has_no_training_error_to_stop_at():
    X, y = points()
    model = KernelRegressor(solver="eigenpro2", solver_params={"stop": {"train_error": 0}})
    with pytest.raises(ValueError, match=r"stop.train_error=0: must be null for regression"):
        model.fit(X, y)


@pytest.mark.parametrize("solver", ["cg", "falkon"])
def test_a_system_that_was_not_solved_is_told(solver):
    X, y = points(400)
    few = {"epochs": 1, **({"preconditioner": "none"} if solver == "cg" else {"n_centers": 100})}
    with pytest.warns(SingularMatrixWarning, match=r"not solved: .* residual of .*more epochs"):
        KernelRegressor("gaussian", bandwidth=3.0, solver=solver, solver_params=few).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KernelRegressor("laplacian", bandwidth=3.0, solver=solver, ridge=1e-3).fit(X, y)


def test_that_a_part_of_the_points_are_centers_is_told(monkeypatch):
    monkeypatch.setattr(auto, "_FEW_OPERATIONS", 1e6)
    X, y = points(1200)
    with pytest.warns(UserWarning, match=r"falkon, since .* 1,000 of the points as centers"):
        KernelRegressor(ridge=1e-6, random_state=0).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few = {"n_centers": 1000}  # asked for
        KernelRegressor(ridge=1e-3, random_state=0, solver_params=few).fit(X, y)
        KernelRegressor(ridge=1e-3, random_state=0).fit(np.repeat(X[:80], 15, axis=0), y)


def test_predictions_are_by_the_kernel_that_was_fitted():
    X, y = points()
    model = KernelRegressor("gaussian", bandwidth=1.0).fit(X, y)
    before = model.predict(X)
    with pytest.raises(ValueError, match="must be K"):
        model.set_params(kernel="precomputed", bandwidth=None).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), before)
    K = np.exp(-((X[:, None] - X[None]) ** 2).sum(2))
    model = KernelRegressor("precomputed", ridge=1e-3).fit(K, y)
    before = model.predict(K)
    with pytest.raises(ValueError, match="ridge"):
        model.set_params(kernel="gaussian", ridge=-1.0).fit(X, y)
    np.testing.assert_array_equal(model.predict(K), before)


def test_grids_of_ridges_are_lists_or_arrays():
    X, y = points()
    grid = np.logspace(-6, 0, 4)
    by_list = KernelRegressor(solver="ridge_path", solver_params={"ridges": grid.tolist()})
    by_array = KernelRegressor(solver="ridge_path", solver_params={"ridges": grid})
    assert by_list.fit(X, y).ridge_ == by_array.fit(X, y).ridge_
    with pytest.raises(ValueError, match=r"^ridges=0.001: must be a list of numbers, or None"):
        KernelRegressorCV(ridges=1e-3).fit(X, y)
    with pytest.raises(ValueError, match=r"^n_centers=500"):
        KernelClassifierCV(n_centers=500).fit(X, y > 0)


def test_patience_plans_for_the_epochs_that_are_likely(monkeypatch):
    planned = []
    usual = full_sgd.least_time_subsample

    def noted(sizes, epochs):
        planned.append(epochs)
        return usual(sizes, epochs)

    monkeypatch.setattr(full_sgd, "least_time_subsample", noted)
    X, y = points()
    model = KernelRegressor(
        solver="eigenpro2", validation_fraction=0.2, n_iter_no_change=3, random_state=0
    )
    model.fit(X, y + np.random.default_rng(1).normal(size=len(y)))
    assert set(planned) == {SOLVERS["eigenpro2"].default_epochs}
    assert len(model.validation_scores_) >= 4
