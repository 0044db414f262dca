"""Preconditioners of ``solver=cg`` against naive dense ones, and what it solves with each of them and a ridge."""

import warnings

import pytest
import torch
from hard_data import KINDS, table
from solving import problem, relative

from kernelexp.engine import KERNELS, SOLVERS, Problem, SingularMatrixWarning, prepare
from kernelexp.engine.krylov_preconditioners import PRECONDITIONERS
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.rpcholesky import rp_cholesky
from kernelexp.engine.spectrum import nystrom_spectrum

LAPLACIAN = KERNELS["laplacian"](bandwidth=3.0)
RIDGES = [0.0, 1e-3]


def solved(kind, p, ridge=0.0, **settings):
    training = prepare(SOLVERS["cg"](preconditioner=kind, ridge=ridge, **settings), p)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularMatrixWarning)
        records = list(training.run())
    return training, records


def top(A, q):
    values, vectors = torch.linalg.eigh(A)
    return values.flip(0)[:q], vectors.flip(1)[:, :q]


def dense(kind, system, q, mu):
    """M^-1 from K and inverses of whole matrices."""
    p, s = system.problem, system.spectrum.size
    K, eye = p.kernel(p.X, p.X), torch.eye(len(p.X), dtype=p.X.dtype)
    S = system.spectrum.rows
    if kind == "none":
        return eye
    if kind == "rpcholesky":
        generator, kernel = p.generator(), BlockedKernel.on(p.kernel, p.device)
        nystrom_spectrum(kernel, p.points, s, generator, 1, torch.float64)  # drawn before
        S = rp_cholesky(kernel, p.points, q, generator).pivots
        low = K[:, S] @ torch.linalg.inv(K[S][:, S]) @ K[S]
        mu = mu + (K - low).trace() / len(K)
        return mu * torch.linalg.inv(low + mu * eye)
    if kind == "nystrom":
        values, U = top(K[:, S] @ torch.linalg.inv(K[S][:, S]) @ K[S], q)
        M = (values + mu) / (values[-1] + mu)
    else:
        sigma, V = top(K[S][:, S], q + 1)
        values, U = top(K[:, S] @ (V / sigma) @ V.T @ K[S], q + 1)
        M = ((values + mu) / (values[-1] + mu))[:q]
        U = U[:, :q]
    return torch.linalg.inv(U @ torch.diag(M) @ U.T + eye - U @ U.T)


@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("kind", PRECONDITIONERS)
def test_is_the_dense_one(kind, ridge):
    p, q = problem(LAPLACIAN, d=5), None if kind == "none" else 20
    cg = SOLVERS["cg"](preconditioner=kind, ridge=ridge, subsample_size=60, q=q)
    system = prepare(cg, p).system
    found = system.preconditioner.solve(torch.eye(200, dtype=torch.float64))
    expected = dense(kind, system, q, 200 * ridge)
    assert (found - expected).abs().max() < 1e-10
    assert system.derived()["q"] == (q or 0)


@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("kind", PRECONDITIONERS)
@pytest.mark.parametrize("kernel", ["laplacian", "gaussian", "linear"])
def test_is_positive_definite_on_hard_data(kind, kernel, ridge):
    k = KERNELS[kernel](**({} if kernel == "linear" else {"bandwidth": 2.0}))
    for name in KINDS:
        if name == "time_stamp" and kernel == "linear":
            continue
        X, Y = table(name)
        cg = SOLVERS["cg"](preconditioner=kind, ridge=ridge)
        M = prepare(cg, Problem(k, X, Y)).system.preconditioner.solve(torch.eye(len(X)).double())
        eigenvalues = torch.linalg.eigvalsh(M)
        assert eigenvalues[0] > 5e-10, name
        assert eigenvalues[-1] < 1 + 1e-9, name
        assert (M - M.T).abs().max() < 1e-14, name


@pytest.mark.parametrize("kind", PRECONDITIONERS)
def test_a_ridge_gives_what_the_direct_solution_gives(kind):
    """Repeated rows that agree or contradict, outliers, and very few points."""
    for name in KINDS:
        for n, ridge in [(36, 1e-2), (36, 1e-6), (3, 1e-3), (2, 1e-3), (1, 1e-3)]:
            X, Y = (values[:n] for values in table(name))
            p = Problem(KERNELS["laplacian"](bandwidth=2.0), X, Y)
            training, records = solved(kind, p, ridge, tolerance=1e-9, epochs=500)
            exact = prepare(SOLVERS["exact"](ridge=ridge), p)
            list(exact.run())
            where = f"{name}, n={n}, ridge={ridge}"
            expected = exact.model().predict(X + 0.1)
            off = (training.model().predict(X + 0.1) - expected).norm()
            assert off <= 1e-7 * expected.norm(), where  # 0 where all targets are
            assert training.stopped_by == "tolerance", where
            assert training.warning is None, where
            outputs = p.kernel(X, X) @ training.model().weights
            mse = (outputs - Y).square().mean().item()
            assert records[-1].train_mse == pytest.approx(mse, rel=1e-6, abs=1e-20), where
            norm = training.rkhs_norm().value
            assert norm == pytest.approx(exact.rkhs_norm().value, rel=1e-6), where


@pytest.mark.parametrize("kind", PRECONDITIONERS)
def test_a_contradiction_without_a_ridge_is_least_squares(kind):
    X, Y = table("contradict")
    p = Problem(KERNELS["laplacian"](bandwidth=2.0), X, Y)
    training, _ = solved(kind, p, tolerance=1e-10)
    K = p.kernel(X, X)
    expected = K @ torch.linalg.lstsq(K, Y, driver="gelsd").solution
    assert relative(K @ training.model().weights, expected) < 1e-6
    assert training.stopped_by == "least_squares"


@pytest.mark.parametrize("kind", [kind for kind in PRECONDITIONERS if kind != "none"])
@pytest.mark.parametrize("ridge", [0.0, 1e-6])
def test_takes_a_part_of_the_iterations(kind, ridge):
    p = problem(KERNELS["gaussian"](bandwidth=2.5), n=400, d=6)
    assert len(solved(kind, p, ridge)[1]) < 0.4 * len(solved("none", p, ridge)[1])


@pytest.mark.parametrize("kind", PRECONDITIONERS)
def test_of_a_smooth_kernel_no_solution_is_lost(kind):
    """Eigenvalues down to rounding: what cannot be told apart from it must not take f away."""
    X = torch.randn(300, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = Problem(KERNELS["gaussian"](bandwidth=3.0), X, torch.sin(X.sum(1, keepdim=True)))
    training, _ = solved(kind, p, epochs=400)
    outputs = p.kernel(X, X) @ training.model().weights
    assert relative(outputs, p.Y) < 2e-2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preconditioner": "jacobi"}, "one of eigenpro, nystrom, rpcholesky, none"),
        ({"ridge": -1e-9}, "a number >= 0"),
        ({"preconditioner": "none", "q": 5}, "left out with preconditioner=none"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ValueError, match=rf"^\w+=\S+: must be {message}"):
        SOLVERS["cg"](**settings)


def test_pivots_can_be_more_than_the_subsample():
    p = problem(LAPLACIAN)
    settings = {"subsample_size": 20, "q": 150}
    training, _ = solved("rpcholesky", p, **settings)
    assert training.system.derived()["q"] == 150
    with pytest.raises(ValueError, match=r"solver.q=150: must be .* from 0 to 19"):
        solved("nystrom", p, **settings)
