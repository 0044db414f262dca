"""ASkotch: its iterates against a dense reading of the algorithm, its pieces, and tables of real users."""

import math
import warnings

import pytest
import torch
from solving import expected_predictions, new_points, problem, relative

from kernelexp.engine import (
    KERNELS,
    SOLVERS,
    DivergenceError,
    FunctionKernel,
    Problem,
    ResourceLimits,
    SingularMatrixWarning,
    fit,
    prepare,
)
from kernelexp.engine.nystrom_block import DampedNystrom
from kernelexp.engine.solvers.askotch_state import Momentum

LAPLACIAN = KERNELS["laplacian"](bandwidth=3.0)


def generator():
    return torch.Generator().manual_seed(0)


def test_iterates_are_those_of_the_algorithm():
    """Two epochs with vectors alone, each residual a product with all of K: nothing is carried along."""
    p, ridge, b = problem(LAPLACIAN, n=150), 4e-4, 40
    training = prepare(SOLVERS["askotch"](ridge=ridge, block_size=b, rank=12, epochs=2), p)
    n, blocks = 150, 4
    A = p.kernel(p.X, p.X) + n * ridge * torch.eye(n, dtype=torch.float64)
    nu, mu = blocks, n * ridge
    beta, gamma = 1 - math.sqrt(mu / nu), 1 / math.sqrt(mu * nu)
    a = 1 / (1 + gamma * nu)
    w, v = torch.zeros_like(p.Y), torch.zeros_like(p.Y)
    draws = torch.Generator()
    draws.set_state(training.system.generator)
    for _ in range(2):
        for B in torch.randperm(n, generator=draws).tensor_split(blocks):
            z = a * v + (1 - a) * w
            K = A[B][:, B] - n * ridge * torch.eye(len(B), dtype=torch.float64)
            P = DampedNystrom.of(K, 12, n * ridge, torch.finfo(K.dtype).eps, draws)
            dense = P.vectors @ P.values.diag() @ P.vectors.mT
            dense += P.damping * torch.eye(len(B), dtype=K.dtype)
            L = P.largest(A[B][:, B], draws)
            change = torch.zeros_like(w)
            change[B] = torch.linalg.solve(dense, A[B] @ z - p.Y[B]) / L
            w, v = z - change, beta * v + (1 - beta) * z - gamma * change
        record = training.solver.step(training.system, training.iterate)
    assert relative(training.weights(), w) < 1e-11
    outputs = p.kernel(p.X, p.X) @ training.weights()
    assert relative(training.training_outputs(), outputs) < 1e-12
    assert record.train_mse == pytest.approx((outputs - p.Y).square().mean().item(), rel=1e-9)
    left = A @ training.weights() - p.Y
    expected = (left.norm(dim=0) / p.Y.norm(dim=0)).max().item()
    assert training.residuals()["relative_residual"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rank", [1, 7, 30])
def test_a_block_is_approximated_and_inverted(rank):
    X = problem(LAPLACIAN, n=30).X
    K, shift = LAPLACIAN(X, X), 1e-2
    P = DampedNystrom.of(K, rank, shift, torch.finfo(K.dtype).eps, generator())
    low = P.vectors @ P.values.diag() @ P.vectors.mT
    identity = torch.eye(30, dtype=K.dtype)
    dense = low + P.damping * identity
    torch.testing.assert_close(P.vectors.mT @ P.vectors, identity[:rank, :rank], rtol=0, atol=1e-8)
    # Below K, as a Nystrom approximation is; all of it at full rank.
    assert torch.linalg.eigvalsh(K - low).min() > -1e-10
    assert P.damping == pytest.approx(shift + P.values[-1].item())
    if rank == 30:
        torch.testing.assert_close(low, K)
    B = torch.randn(30, 2, dtype=K.dtype, generator=generator())
    torch.testing.assert_close(P.power(B, -1.0), torch.linalg.solve(dense, B))
    torch.testing.assert_close(P.power(P.power(B, -0.5), 0.5), B)
    A = K + shift * identity
    largest = torch.linalg.eigvals(torch.linalg.solve(dense, A)).real.max().item()
    found = P.largest(A, generator())
    assert 0.98 * largest < found <= largest * (1 + 1e-9)


@pytest.mark.parametrize("mu", [0.0, 1e-9, 1e-3, 0.5, 1e9])
@pytest.mark.parametrize("blocks", [1, 3, 100])
def test_the_constants_have_a_meaning_whatever_the_ridge(mu, blocks):
    m = Momentum.of(mu, blocks)
    assert 0 <= m.beta < 1
    assert 1 <= m.gamma <= 10**0.5 * (1 + 1e-9)
    assert m.alpha == pytest.approx(1 / (1 + m.gamma * blocks))
    if 0.1 / blocks <= mu <= 1 / blocks:
        assert m.beta == pytest.approx(1 - math.sqrt(mu / blocks))


@pytest.mark.parametrize("ridge", [1e-6, 1e-3])
def test_a_kernel_and_its_multiples_have_the_same_iterates(ridge):
    p = problem(LAPLACIAN, n=120)
    tenfold = FunctionKernel(lambda X, Z: 10 * LAPLACIAN(X, Z), diagonal=10.0)
    few = {"block_size": 30, "epochs": 3}
    one = fit(SOLVERS["askotch"](ridge=ridge, **few), p)
    other = fit(SOLVERS["askotch"](ridge=10 * ridge, **few), problem(tenfold, n=120))
    assert relative(10 * other.weights, one.weights) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kept", [0.0, 0.00005, None])
def test_rows_kept_or_not_give_the_exact_solution(dtype, kept):
    p = problem(LAPLACIAN, n=151, dtype=dtype, limits=ResourceLimits(cache_gb=kept))
    training = prepare(SOLVERS["askotch"](ridge=1e-5, tolerance=1e-8), p)
    assert (0 < training.plan.kept_rows < 151) == (kept == 0.00005)
    for _ in training.run():
        pass
    assert training.stopped_by == "tolerance"
    new = new_points(p)
    expected = expected_predictions(p, new, p.X.double(), 1e-5)
    off = 1e-7 if dtype == torch.float64 else 1e-5
    assert relative(training.model().predict(new.to(dtype)), expected) < off
    # The residual is that of the float64 matrix, also where rows are float32.
    X, alpha = p.X.double(), training.iterate.solution
    left = p.kernel(X, X) @ alpha + 151 * 1e-5 * alpha - p.Y.double()
    true = (left.norm(dim=0) / p.Y.double().norm(dim=0)).max().item()
    assert training.residuals()["relative_residual"] == pytest.approx(true, rel=1e-3)
    assert true <= 1e-8


@pytest.mark.parametrize("rounds", [2, 7])
def test_goes_on_amid_an_epoch_with_the_same_digits(rounds):
    p = problem(LAPLACIAN, n=151)
    solver = SOLVERS["askotch"](block_size=40, epochs=5)
    whole = prepare(solver, p)
    expected = [r.train_mse for r in whole.run()]
    first = prepare(solver, p)
    for _ in range(rounds):
        record = first.advance()
        if record is not None:
            first._add(record)
    second = prepare(solver, p, plan=first.plan)
    second.restore(first.saved())
    list(second.run())
    assert [r.train_mse for r in second.records] == expected
    assert torch.equal(second.weights(), whole.weights())


def repeated(n=90):
    """Rows that are there up to three times, with targets that differ; an outlier, a constant column."""
    p = problem(LAPLACIAN, n=n, d=4)
    X, Y = p.X.clone(), p.Y.clone()
    X[n // 2 :] = X[: n - n // 2]
    X[-5:] = X[0]
    X[:, 3] = 2.5
    X[7, 0], Y[7, 0] = 1e3, -50.0
    return Problem(LAPLACIAN, X, Y)


@pytest.mark.parametrize("ridge", [0.0, 1e-6, 1e-3])
def test_repeated_rows_get_what_exact_gives(ridge):
    p = repeated()
    new = p.X[::3] + 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularMatrixWarning)
        expected = fit(SOLVERS["exact"](ridge=ridge), p).predict(new)
        own = prepare(SOLVERS["askotch"](ridge=ridge, tolerance=1e-8, epochs=1000), p)
        list(own.run())
    assert relative(own.model().predict(new), expected) < 1e-5
    assert own.stopped_by == ("tolerance" if ridge else "least_squares")
    if not ridge:
        assert "44 of 90 points repeat others" in own.warning


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_few_points(n, ridge):
    p = problem(LAPLACIAN, n=n)
    model = fit(SOLVERS["askotch"](ridge=ridge, block_size=1, epochs=500, tolerance=1e-9), p)
    X, eye = p.X, torch.eye(n, dtype=torch.float64)
    expected = torch.linalg.solve(p.kernel(X, X) + n * ridge * eye, p.Y)
    assert relative(model.weights, expected) < 1e-6


def test_what_was_not_reached_is_said():
    p = problem(KERNELS["gaussian"](bandwidth=30.0), n=200)
    with pytest.warns(SingularMatrixWarning, match="the system is not solved: a relative residual"):
        fit(SOLVERS["askotch"](ridge=1e-12, tolerance=1e-12), p)


def test_without_a_ridge_it_says_what_singular_kernels_need():
    X = torch.randn(80, 3, generator=torch.Generator().manual_seed(0))
    p = Problem(KERNELS["linear"](), X, torch.randn(80, 1))
    with pytest.warns(
        SingularMatrixWarning, match="which solver=askotch needs where K is singular"
    ):
        fit(SOLVERS["askotch"](ridge=0.0), p)


def test_a_step_that_is_too_long_is_halved_and_then_refused(monkeypatch):
    p = problem(LAPLACIAN)
    expected = fit(SOLVERS["askotch"](ridge=1e-4), p).weights
    largest, factor = DampedNystrom.largest, 30.0
    monkeypatch.setattr(DampedNystrom, "largest", lambda *a: largest(*a) / factor)
    with (
        pytest.warns(RuntimeWarning, match="training diverged; started again with half"),
        pytest.raises(
            DivergenceError,
            match="the least acceleration: set a larger solver.ridge, solver.block_size below 64 or",
        ),
    ):
        fit(SOLVERS["askotch"](ridge=1e-4), p)
    factor = 4.0
    with pytest.warns(RuntimeWarning, match="started again with half of the step and"):
        model = fit(SOLVERS["askotch"](ridge=1e-4), p)
    assert relative(model.weights, expected) < 1e-4
