"""Which centers falkon keeps, against dense ridge regression in float64."""

import warnings

import pytest
import torch

from kernelexp.engine import KERNELS, SOLVERS, Problem, SingularMatrixWarning, prepare

GENERATOR = torch.Generator()


def trained(solver, problem):
    training = prepare(solver, problem)
    list(training.run())
    return training


def mean_square(R):
    return R.square().mean().item()


def dense_mse(k, X, Y, Z, ridge):
    """Of |K alpha - Y|^2 / n + ridge alpha^T K(Z, Z) alpha, by orthogonal factorisation."""
    X, Y, Z = X.double(), Y.double(), Z.double()
    values, V = torch.linalg.eigh(k(Z, Z))
    kept = values > 1e-14 * values[-1]
    root = V[:, kept] / values[kept].sqrt()  # of functions of norm 1
    features = k(X, Z) @ root
    shift = (len(X) * ridge) ** 0.5 * torch.eye(features.shape[1], dtype=X.dtype)
    zeros = Y.new_zeros(len(shift), Y.shape[1])
    Q, R = torch.linalg.qr(torch.cat([features, shift]))
    beta = torch.linalg.solve_triangular(R, Q.mT @ torch.cat([Y, zeros]), upper=True)
    return mean_square(features @ beta - Y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_heavy_tails_keep_the_centers(dtype):
    """Thresholds of each center's own k(z, z): of a log-normal column these differ by factors of 10^5."""
    X = torch.randn(600, 4, generator=GENERATOR.manual_seed(0), dtype=torch.float64)
    X[:, 0] = torch.exp(2 * X[:, 0])
    Y = torch.sin(X[:, 1:2]) + X[:, 2:3] * X[:, 3:]
    Y += 0.3 * torch.randn(600, 1, generator=GENERATOR, dtype=torch.float64)
    k, X, Y = KERNELS["relu_ntk"](), X.to(dtype), Y.to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training = trained(SOLVERS["falkon"](centers="all", ridge=1e-4), Problem(k, X, Y))
    assert len(training.model().centers) == 600
    got = mean_square(training.model().predict(X).double() - Y.double())
    assert got == pytest.approx(dense_mse(k, X, Y, X, 1e-4), rel=1e-2)


def smooth(dtype, ridge, n_centers=300):
    """1,000 points in a cube under a wide Gaussian: K(Z, Z) has far fewer directions than centers."""
    X = 2 * torch.rand(1000, 3, generator=GENERATOR.manual_seed(0), dtype=torch.float64) - 1
    Y = torch.sin(4 * X[:, :1]) * torch.cos(3 * X[:, 1:2]) + X[:, 2:].square()
    k, X, Y = KERNELS["gaussian"](bandwidth=2.0), X.to(dtype), Y.to(dtype)
    solver = SOLVERS["falkon"](n_centers=n_centers, ridge=ridge, epochs=100)
    return k, X, Y, trained(solver, Problem(k, X, Y))


@pytest.mark.parametrize(
    ("dtype", "ridge"),
    [(torch.float32, ridge) for ridge in (1e-5, 1e-4, 1e-3, 1e-2, 0.1)]
    + [(torch.float64, ridge) for ridge in (1e-9, 1e-6, 1e-2)],
)
def test_centers_that_the_type_cannot_tell_apart_are_no_matter_with_a_ridge(dtype, ridge):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        k, X, Y, training = smooth(dtype, ridge)
    model = training.model()
    assert len(model.centers) < 300
    assert training.residuals()["relative_residual"] < 1e-6
    every = SOLVERS["exact"](n_centers=300).center_rule.choose(
        X, training.problem.points, training.system.kernel, training.problem.distinct_rows,
        training.problem.generator(),
    )[0]  # fmt: skip
    expected = dense_mse(k, X, Y, every, ridge)
    assert mean_square(model.predict(X).double() - Y.double()) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("dtype", "ridge", "instead"),
    [
        (torch.float32, 1e-9, "float32 cannot tell .* ridge=1e-09 .* take dtype=float64"),
        (torch.float64, 0.0, "float64 cannot tell .* ridge=0 .* take solver=exact"),
    ],
)
@pytest.mark.filterwarnings("ignore:K is nearly singular")
def test_centers_that_are_left_out_though_the_ridge_is_small_are_told(dtype, ridge, instead):
    with pytest.warns(SingularMatrixWarning, match=f"of 300 centers are left out, which {instead}"):
        smooth(dtype, ridge)


def test_more_centers_than_features_are_nothing_to_tell():
    X = torch.randn(300, 5, generator=GENERATOR.manual_seed(0), dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training = trained(SOLVERS["falkon"](ridge=1e-9), Problem(KERNELS["linear"](), X, X[:, :1]))
    assert len(training.model().centers) == 5
