"""The predicted error against simulations: Gaussian features, and a kernel of points in R^8, whose eigenfunctions are not."""

import math

import pytest
import torch

from kernelexp.engine import KERNELS, SOLVERS, Problem, fit
from kernelexp.engine.learning_curve import eigenframe, predicted_mse

VALUES = torch.arange(1, 301, dtype=torch.float64) ** -1.5
TARGET = torch.arange(1, 301, dtype=torch.float64)[:, None] ** -1.0


def simulated(n, ridge, noise, draws=60):
    """Mean error of ridge regression on features N(0, 1) with these eigenvalues, solved densely."""
    generator = torch.Generator().manual_seed(0)
    errors = []
    for _ in range(draws):
        features = torch.randn(n, 300, generator=generator, dtype=torch.float64)
        spread = math.sqrt(noise) * torch.randn(n, 1, generator=generator, dtype=torch.float64)
        K = (features * VALUES) @ features.T + n * ridge * torch.eye(n)
        found = VALUES[:, None] * (features.T @ torch.linalg.solve(K, features @ TARGET + spread))
        errors.append((found - TARGET).square().sum().item())
    return sum(errors) / draws


@pytest.mark.parametrize("n", [40, 80, 160])
@pytest.mark.parametrize(("ridge", "noise"), [(0.0, 0.0), (0.0, 0.3), (1e-2, 0.3), (1.0, 0.0)])
def test_it_is_the_error_of_gaussian_features(n, ridge, noise):
    predicted = predicted_mse(VALUES, TARGET, n, ridge, noise)
    assert predicted == pytest.approx(simulated(n, ridge, noise), rel=0.12)


@pytest.mark.parametrize(("ridge", "noise"), [(0.0, 0.0), (1e-2, 0.0), (1e-3, 1.0)])
def test_a_kernel_of_points(ridge, noise):
    generator = torch.Generator().manual_seed(1)

    def draw(n):
        X = torch.randn(n, 8, generator=generator, dtype=torch.float64)
        return X, torch.stack([X[:, 0] + X[:, 1] * X[:, 2], X[:, 3].sign()], 1)

    kernel = KERNELS["laplacian"](bandwidth=4.0)
    frame = eigenframe(kernel, *draw(800))
    for n in (30, 120):
        errors = []
        for _ in range(20):
            X, Y = draw(n)
            Y += math.sqrt(noise) * torch.randn(n, 2, generator=generator, dtype=torch.float64)
            f = fit(SOLVERS["exact"](ridge=ridge), Problem(kernel, X, Y))
            X, Y = draw(1000)
            errors.append((f.predict(X) - Y).square().mean().item())
        mean = sum(errors) / len(errors)
        predicted = predicted_mse(*frame, n, ridge, noise, sample=800)
        assert predicted == pytest.approx(mean, rel=0.08)


def test_coefficients_hold_all_of_the_target():
    X = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    Y = torch.stack([X[:, 0], X[:, 1] ** 2], 1)
    kernel = KERNELS["gaussian"](bandwidth=2.0)
    values, coefficients = eigenframe(kernel, X, Y)
    assert values.sum().item() == pytest.approx(1)  # the mean of k(x, x)
    assert coefficients.square().sum(0).tolist() == pytest.approx(Y.square().mean(0).tolist())
    # Nothing is learned beyond all bounds of the ridge, all but nothing is left with many points and a tiny one.
    assert predicted_mse(values, coefficients, 5, 1e9) == pytest.approx(Y.square().mean().item())
    assert predicted_mse(values, coefficients, 10**6, 1e-12) < 1e-3


def test_repeated_points_and_the_fewest():
    X = torch.ones(4, 2)
    values, coefficients = eigenframe(KERNELS["laplacian"](), X, torch.ones(4, 1))
    assert values.sum().item() == pytest.approx(1)
    # One eigenfunction, which one point with a ridge learns: kappa / (1 + kappa) + ... of a single l = 1.
    kappa = (1 + math.sqrt(1 + 4)) / 2  # 1 / (1 + kappa) + 1 / kappa = 1
    left, learned = kappa / (1 + kappa), 1 / (1 + kappa)
    expected = left**2 / (1 - learned**2)
    assert predicted_mse(values, coefficients, 1, 1.0) == pytest.approx(expected)
    assert predicted_mse(torch.tensor([1.0]).double(), torch.ones(1, 1), 2, 0.5) > 0
    with pytest.raises(ValueError, match="n=300: must be below the number of eigenvalues that are"):
        predicted_mse(VALUES, TARGET, 300)
    for wrong, said in [((0,), "n=0"), ((2, -1.0), "ridge=-1.0"), ((2, 0.1, -1.0), "noise=-1.0")]:
        with pytest.raises(ValueError, match=said):
            predicted_mse(VALUES, TARGET, *wrong)
    with pytest.raises(ValueError, match="n=200: must be below the 200 points that the eigenvalue"):
        predicted_mse(VALUES, TARGET, 200, 1.0, sample=200)


@pytest.mark.parametrize(("kernel", "rank"), [("linear", 4), ("polynomial", 35)])
def test_rounding_is_no_eigenvalue(kernel, rank):
    X = torch.randn(200, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    eigenvalues, coefficients = eigenframe(KERNELS[kernel](), X, X[:, :1])
    assert int((eigenvalues > 0).sum()) == rank
    with pytest.raises(ValueError, match=f"eigenvalues that are not 0, {rank}"):
        predicted_mse(eigenvalues, coefficients, 100)
