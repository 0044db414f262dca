"""The factor alone in half of the memory: against dense float64 algebra and the matrix stored whole."""

from dataclasses import replace

import pytest
import torch
from solving import new_points, problem, relative

from kernelexp.engine import KERNELS, Problem, ResourceLimits
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.packed import PackedFactor
from kernelexp.engine.plan import GB, Limits, Sizes
from kernelexp.engine.points import Points
from kernelexp.engine.solvers.exact import Exact

GENERATOR = torch.Generator()


def solved(p, solver, packed=True):
    """The model of a plan made packed, which sizes of a test are too small for."""
    limits = p.measured_limits()
    plan = replace(solver.plan(solver.sizes(p), limits, p.device), packed=packed)
    system = solver.setup(p, plan)
    iterate = solver.start(system)
    solver.advance(system, iterate)
    return system, iterate, solver.weights(system, iterate)


@pytest.mark.parametrize("n", [1, 2, 511, 512, 513, 1300])
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_factor(n, shift):
    X = torch.randn(n, 6, generator=GENERATOR.manual_seed(n), dtype=torch.float64)
    scales = torch.rand(n, 1, generator=GENERATOR, dtype=torch.float64) + 0.5
    B = torch.randn(n, 3, generator=GENERATOR, dtype=torch.float64)
    points, kernel = Points(X), KERNELS["laplacian"](bandwidth=2.0)
    K = BlockedKernel.on(kernel, X.device)(points, points)
    A = scales * kernel(X, X) * scales.mT + shift * torch.eye(n, dtype=torch.float64)
    factor = PackedFactor(K, scales, shift, 0.0)
    assert relative(factor.product(B), A @ B) < 1e-13
    assert relative(factor.matmul(B), A @ B) < 1e-13
    assert relative(A @ factor.solve(B), B) < 1e-11
    pivots = torch.linalg.cholesky(A).diagonal().square() / A.diagonal()
    assert factor.smallest_pivot == pytest.approx(pivots.min().item(), rel=1e-9)
    assert sum(map(torch.numel, factor.panels)) <= n * (n + 512) / 2 + 512


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_solver_with_repeated_rows(precision, ridge):
    p = problem(KERNELS["laplacian"](bandwidth=3.0), n=700)
    X = torch.cat([p.X, p.X[:90], p.X[:30]])
    ties = Problem(p.kernel, X, torch.cat([p.Y, p.Y[:90] + 1, p.Y[:30]]))
    solver = Exact(ridge=ridge, precision=precision)
    whole, _, _ = solved(ties, solver, packed=False)
    system, iterate, alpha = solved(ties, solver)
    assert isinstance(system.factor, PackedFactor)
    assert system.top_eigenvalue == pytest.approx(whole.top_eigenvalue, rel=1e-4)
    assert iterate.converged
    X_new = new_points(p)
    got = p.kernel(X_new, system.centers) @ alpha
    if ridge:
        A = p.kernel(X, X) + len(X) * ridge * torch.eye(len(X), dtype=X.dtype)
        assert relative(got, p.kernel(X_new, X) @ torch.linalg.solve(A, ties.Y)) < 1e-8
    else:  # the mean of targets of rows that are equal
        rows = ties.distinct
        means = rows.sums(ties.Y) / rows.counts[:, None]
        assert relative(iterate.outputs, means[rows.group]) < 1e-8
        assert "repeat others" in str(iterate.warning)


def test_singular_is_refused_in_one_line():
    p = problem(KERNELS["linear"](), n=600)  # rank 20
    with pytest.raises(ValueError, match=r"of 600 points is singular, .* take a ridge above 0"):
        solved(p, Exact())


def test_what_is_stored():
    """The first of whole and packed, float64 before float32, that fits."""

    def chosen(allowed, precision="auto", n=60_000, **centers):
        limits = Limits(ResourceLimits(), 0, int(allowed * GB), 1)
        # 28.8 GB in float64, and 30% beside it.
        plan = Exact(precision=precision, **centers).plan(
            Sizes(n, 784, 10, n, 4, 1), limits, torch.device("cpu")
        )
        return plan.precision, 2.0 if plan.basis else 0.5 if plan.packed else 1.0

    assert chosen(40) == ("float64", 1.0)
    assert chosen(24) == ("float64", 0.5)
    assert chosen(12) == ("float32", 0.5)
    assert chosen(24, "float32") == ("float32", 1.0)
    some = {"n": 70_000, "n_centers": 60_000}
    assert chosen(24, **some) == ("float32", 1.0)
    # Two matrices fit, and not with what choosing their centers takes.
    some = {"n": 60_000, "n_centers": 10_000}
    assert chosen(6.3, **some) == ("float64", 2.0)
    assert chosen(6.3, **some, centers="rpcholesky") == ("float64", 1.0)
    with pytest.raises(ValueError, match="must be at least 7.3[78] for an exact solution"):
        chosen(1)
