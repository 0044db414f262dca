"""Least squares over p < n centers of smooth kernels: against orthogonal factorisations in float64, which square nothing."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from solving import minimiser, relative

from kernelexp.engine import (
    KERNELS,
    SOLVERS,
    Problem,
    ResourceLimits,
    SingularMatrixWarning,
    prepare,
)
from kernelexp.engine.plan import GB, Limits, Sizes
from kernelexp.sklearn import KernelRegressor

GENERATOR = torch.Generator()


def waves(n, dtype=torch.float64):
    """n points in a cube, and what a smooth function is there."""
    X = 2 * torch.rand(n, 3, generator=GENERATOR.manual_seed(0), dtype=torch.float64) - 1
    Y = torch.sin(4 * X[:, :1]) * torch.cos(3 * X[:, 1:2]) + X[:, 2:].square()
    return X.to(dtype), Y.to(dtype)


def centers(solver, problem):
    """All that were drawn, also those that are left out."""
    plan = solver.plan(solver.sizes(problem), problem.measured_limits(), problem.device)
    kernel = prepare(solver, problem).system.kernel
    assert plan.n_centers == solver.n_centers
    return solver.center_rule.choose(
        problem.X, problem.points, kernel, problem.distinct_rows, problem.generator()
    )[0]


def trained(solver, problem):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training = prepare(solver, problem)
        list(training.run())
    return training


def mean_square(R):
    return R.square().mean().item()


@pytest.mark.parametrize(
    ("n", "p", "bandwidth"), [(800, 200, 2.0), (2000, 300, 1.0), (2000, 300, 0.7), (2000, 300, 0.5)]
)
def test_error_is_that_of_least_squares(n, p, bandwidth):
    """K(X, Z) has singular values down to eps of the largest, whose squares are not in K^T K."""
    X, Y = waves(n)
    k, solver = KERNELS["gaussian"](bandwidth=bandwidth), SOLVERS["exact"](n_centers=p)
    problem = Problem(k, X, Y)
    training = trained(solver, problem)
    K = k(X, centers(solver, problem)).numpy()
    best = K @ np.linalg.lstsq(K, Y.numpy(), rcond=None)[0] - Y.numpy()
    model, error = training.model(), training.records[-1].train_mse
    assert error < 1.001 * np.square(best).mean()
    assert error == pytest.approx(mean_square(model.predict(X) - Y), rel=1e-2)
    assert training.derived()["rank"] == training.derived()["n_centers"] == len(model.centers)
    assert training.residuals()["relative_residual"] < 1e-10


@pytest.mark.parametrize("ridge", [1e-12, 1e-9, 1e-6, 1e-3])
@pytest.mark.parametrize("weighted", [False, True])
def test_with_a_ridge_it_is_the_minimiser(ridge, weighted):
    X, Y = waves(1000)
    w = 0.5 + torch.rand(1000, generator=GENERATOR.manual_seed(1), dtype=torch.float64)
    k, solver = KERNELS["gaussian"](bandwidth=1.0), SOLVERS["exact"](n_centers=150, ridge=ridge)
    problem = Problem(k, X, Y, point_weights=w if weighted else None)
    training = trained(solver, problem)
    assert training.system.basis is not None
    Z, root = centers(solver, problem), problem.weights.sqrt()
    L = torch.linalg.cholesky(k(Z, Z))
    A = torch.cat([root * k(X, Z), (1000 * ridge) ** 0.5 * L.mT])
    Q, R = torch.linalg.qr(A)
    B = torch.cat([root * Y, torch.zeros(150, 1, dtype=Y.dtype)])
    alpha = torch.linalg.solve_triangular(R, Q.mT @ B, upper=True)
    new = 0.9 * X[:50].flip(1)
    assert relative(training.model().predict(new), k(new, Z) @ alpha) < 1e-5
    norm = (alpha * (k(Z, Z) @ alpha)).sum().sqrt().item()
    assert training.rkhs_norm().value == pytest.approx(norm, rel=1e-4)


def test_a_kernel_that_is_not_smooth_is_squared_at_once():
    """Its condition number allows it, and a product with a factor is saved."""
    X, Y = waves(1000)
    k = KERNELS["laplacian"](bandwidth=1.0)
    problem = Problem(k, X, Y)
    training = trained(SOLVERS["exact"](n_centers=150), problem)
    assert training.system.basis is None
    Z = training.model().centers
    assert relative(training.model().predict(X), k(X, Z) @ minimiser(problem, Z)) < 1e-9


@pytest.mark.parametrize("ridge", [0.0, 1e-9])
def test_weights_that_float32_cannot_hold_are_left_out_and_that_is_told(ridge):
    X, Y = waves(2000, torch.float32)
    problem = Problem(KERNELS["gaussian"](bandwidth=1.0), X, Y)
    with pytest.warns(
        SingularMatrixWarning, match="of 300 centers are left out, which float32 can"
    ):
        training = prepare(SOLVERS["exact"](n_centers=300, ridge=ridge), problem)
    list(training.run())
    error = mean_square(training.model().predict(X) - Y)
    assert training.records[-1].train_mse == pytest.approx(error, rel=0.05)
    assert (
        error < 6e-3
    )  # 7e-3 by the squared matrix, and by all of the centers, rounded, 12 and more


def test_matrix_in_float32():
    """What it leaves out is below the ridge; without one it is told."""
    X, Y = waves(1000)
    k, solver = KERNELS["gaussian"](bandwidth=1.0), SOLVERS["exact"](n_centers=100, ridge=1e-4)
    problem = Problem(k, X, Y)
    Z = centers(solver, problem)
    training = trained(replace(solver, precision="float32"), problem)
    assert training.system.basis.array.dtype == torch.float32
    best = k(X, Z) @ minimiser(problem, Z, 1e-4) - Y
    assert training.records[-1].train_mse < 1.03 * mean_square(best)
    with pytest.warns(
        SingularMatrixWarning, match="which float32 cannot .* take solver.precision=float64"
    ):
        prepare(SOLVERS["exact"](n_centers=100, precision="float32"), problem)


def test_more_centers_than_features():
    """Of a linear kernel d rows span all; the outlier among them takes nothing from the others."""
    X = torch.randn(400, 5, generator=GENERATOR.manual_seed(0), dtype=torch.float64)
    X[:40] *= 1e4
    Y = torch.sin(X[:, :1])
    training = trained(SOLVERS["exact"](n_centers=60), Problem(KERNELS["linear"](), X, Y))
    assert training.derived()["rank"] == len(training.model().centers) == 5
    assert relative(training.model().predict(X), X @ torch.linalg.lstsq(X, Y).solution) < 1e-9


@pytest.mark.parametrize("kind", ["kmeans", "rpcholesky"])
@pytest.mark.parametrize("kernel", ["linear", "polynomial", "relu_ntk"])
def test_a_row_far_off_among_the_centers(kernel, kind):
    X, Y = waves(2000)
    X[7] *= 1e3
    k = KERNELS[kernel]()
    training = trained(SOLVERS["exact"](n_centers=60, centers=kind), Problem(k, X, Y))
    K = k(X, training.model().centers)
    K = (K / K.norm(dim=0)).numpy()
    best = K @ np.linalg.lstsq(K, Y.numpy(), rcond=None)[0] - Y.numpy()
    assert training.records[-1].train_mse < 1.001 * np.square(best).mean()


def test_a_row_so_far_off_that_the_others_are_rounding_beside_it_is_told():
    """Where it is no center: the squares of its products hide those of the others."""
    X, Y = waves(2000)
    X[7] *= 1e3
    with pytest.warns(SingularMatrixWarning, match="20 independent centers has rank [0-9] in"):
        prepare(SOLVERS["exact"](n_centers=60), Problem(KERNELS["polynomial"](), X, Y))


def test_through_the_estimator():
    g = np.random.default_rng(0)
    X = g.uniform(-1, 1, (800, 3))
    y = np.sin(4 * X[:, 0]) * np.cos(3 * X[:, 1]) + X[:, 2] ** 2
    model = KernelRegressor(
        "gaussian", bandwidth=2.0, random_state=0, solver_params={"n_centers": 200}
    )
    assert model.fit(X, y).score(X, y) > 0.9985  # 0.43 by the squared matrix


def test_memory_is_planned_for_the_basis():
    """Two matrices and their blocks of rows, or one."""
    p, solver = 20_000, SOLVERS["exact"](n_centers=20_000)
    sizes = Sizes(n=60_000, d=3, c=1, distinct=60_000, itemsize=8)

    def planned(matrices):
        """With so many, and 30% beside them."""
        allowed = Limits(ResourceLimits(), 0, int(1.3 * matrices * 8 * p**2) + 1, 1)
        plan = solver.plan(sizes, allowed, torch.device("cpu"))
        return plan.precision, plan.basis, plan.gigabytes["model"] * GB / (8 * p**2)

    precision, basis, held = planned(2)
    assert (precision, basis) == ("float64", True)
    assert 2.25 < held < 2.4
    precision, basis, held = planned(1.9)
    assert (precision, basis) == ("float64", False)
    assert 1.25 < held < 1.4
    assert planned(0.9)[:2] == ("float32", False)


def test_without_memory_for_a_basis_the_square_is_told():
    X, Y = waves(800)
    problem, solver = (
        Problem(KERNELS["gaussian"](bandwidth=2.0), X, Y),
        SOLVERS["exact"](n_centers=200),
    )
    plan = solver.plan(solver.sizes(problem), problem.measured_limits(), problem.device)
    with pytest.warns(SingularMatrixWarning, match="there is memory for one matrix alone: least"):
        training = prepare(solver, problem, replace(plan, basis=False))
    list(training.run())
    assert training.derived()["rank"] < 200
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problem = replace(problem, kernel=KERNELS["laplacian"](bandwidth=2.0))
        prepare(solver, problem, replace(plan, basis=False))
