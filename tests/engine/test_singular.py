"""Coincident points, numerical rank, least squares: against NumPy and dense float64 algebra."""

import warnings
import weakref

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from solving import relative

from kernelexp.engine import (
    KERNELS,
    SOLVERS,
    FunctionKernel,
    Problem,
    SingularMatrixWarning,
    fit,
    prepare,
    singular,
)
from kernelexp.engine.independent import independent
from kernelexp.engine.linalg import CholeskyFactor
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.packed import PackedFactor
from kernelexp.engine.points import Points
from kernelexp.engine.singular import (
    DistinctRows,
    PseudoInverse,
    factorised,
    zero_pivot,
)

GENERATOR = torch.Generator()


def low_rank(n, r, dtype=torch.float64):
    B = torch.randn(n, r, generator=GENERATOR.manual_seed(0), dtype=torch.float64)
    return (B @ B.T).to(dtype)


def test_distinct_rows():
    X = torch.tensor([[1.0, 2], [0, 0], [1, 2], [-0.0, 0], [3, 1], [1, 2]])
    distinct = DistinctRows.of(X)
    assert distinct.first.tolist() == [0, 1, 4]
    assert distinct.group.tolist() == [0, 1, 0, 1, 2, 0]
    assert distinct.counts.tolist() == [3, 2, 1]
    Y = torch.arange(6.0)[:, None]
    assert distinct.sums(Y).flatten().tolist() == [7, 4, 4]


def test_distinct_rows_of_many():
    X = torch.randint(0, 3, (5000, 4), generator=GENERATOR.manual_seed(1)).float()
    _, first, counts = np.unique(X.numpy(), axis=0, return_index=True, return_counts=True)
    distinct = DistinctRows.of(X)
    order = np.argsort(first)
    assert np.array_equal(distinct.first, first[order])
    assert np.array_equal(distinct.counts, counts[order])
    assert torch.equal(X[distinct.first][distinct.group], X)


@pytest.mark.parametrize("r", [1, 8, 150, 400])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-9), (torch.float32, 1e-2)])
def test_pseudo_inverse(r, dtype, error):
    A = low_rank(400, r, dtype)
    made = PseudoInverse(A)
    assert made.rank == r or (r == 400 and made.rank > 380)  # whose smallest eigenvalues are small
    if r < 400:
        B = torch.randn(400, 2, generator=GENERATOR.manual_seed(2), dtype=torch.float64)
        expected = torch.linalg.pinv(A.double(), rtol=1e-6, hermitian=True) @ B
        assert relative(made.solve(B.to(dtype)), expected) < error


def test_a_matrix_of_full_rank_is_factored_and_one_of_less_is_not():
    A = low_rank(300, 300) + torch.eye(300, dtype=torch.float64)
    assert isinstance(factorised(A.clone()), CholeskyFactor)
    assert independent(A.clone()).rows is None
    A = low_rank(600, 200)
    before = A.clone()
    rows = independent(A).rows
    assert torch.equal(A, before)
    assert len(rows) == 200
    assert torch.linalg.cond(A[rows][:, rows]) < 1e8
    with pytest.raises(ValueError, match="there is memory for a rank of 100 alone"):
        factorised(A, most=100)


@pytest.mark.parametrize("solver", ["exact", "falkon", "auto", "cg"])
@pytest.mark.parametrize(
    ("kernel", "X", "message"),
    [
        (KERNELS["linear"](), torch.zeros(40, 3), "data not all zero"),
        (KERNELS["relu_ntk"](), torch.zeros(40, 3), "data not all zero"),
        (KERNELS["gaussian"](), torch.full((40, 3), 1e200, dtype=torch.float64), "X has numbers"),
        (KERNELS["gaussian"](), torch.full((40, 3), torch.nan), "X has NaN"),
        (FunctionKernel(lambda X, Z: (X @ Z.T).log(), 1.0), low_rank(40, 3)[:, :3], "semidefinite"),
    ],
)  # fmt: skip
def test_what_has_no_solution_is_refused_at_once(solver, kernel, X, message):
    with pytest.raises(ValueError, match=message) as error:
        fit(SOLVERS[solver](), Problem(kernel, X, torch.ones_like(X[:, :1])))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ridge", [0.0, 1e-15])
def test_there_is_one_pseudo_inverse_at_a_time(ridge, monkeypatch):
    """Where float32 cannot hold the weights the second takes the place of the first."""
    made, made_rank, taking = [], [], singular._pivoted_cholesky

    def followed(*args):
        assert all(Q() is None for Q in made)
        G, pivots = taking(*args)
        made.append(weakref.ref(G))
        made_rank.append(G.shape[1])
        return G, pivots

    orthonormal = torch.linalg.qr

    def bases(G):
        Q, R = orthonormal(G)
        made.extend([weakref.ref(Q), weakref.ref(R)])
        return Q, R

    monkeypatch.setattr(singular, "_pivoted_cholesky", followed)
    monkeypatch.setattr(torch.linalg, "qr", bases)
    X = torch.rand(200, 1, generator=GENERATOR.manual_seed(0))
    Y = (20 * X).sin()
    training = prepare(
        SOLVERS["exact"](precision="float64", ridge=ridge),
        Problem(KERNELS["gaussian"](bandwidth=0.5), X, Y),
    )
    with pytest.warns(SingularMatrixWarning, match="float32 cannot hold weights"):
        list(training.run())
    assert len(made) == 6
    # The rank is that of the solution, also where set-up had found none.
    assert training.derived()["rank"] == made_rank[-1] < 200


@pytest.mark.parametrize("solver", ["exact", "cg"])
def test_repeated_points_with_other_targets_are_told(solver):
    X = torch.randn(60, 3, generator=GENERATOR.manual_seed(0))
    X[1] = X[0]
    Y = torch.arange(60.0)[:, None]
    problem = Problem(KERNELS["laplacian"](bandwidth=2.0), X, Y)
    own = SOLVERS[solver]()
    training = prepare(own, problem)
    with pytest.warns(SingularMatrixWarning, match=r"K is singular \(1 of 60 points repeat others"):
        list(training.run())
    assert training.stopped_by == "least_squares"
    assert not training.rkhs_norm().lower_bound
    outputs = training.model().predict(X)
    assert outputs[0] == outputs[1] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("preconditioner", ["eigenpro", "nystrom", "rpcholesky", "none"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("copies", [1, 5, 40])
def test_cg_has_no_weights_that_cancel_where_copies_contradict(preconditioner, dtype, copies):
    """Weights of copies that grew apart are noise in float32, and so were predictions."""
    generator = GENERATOR.manual_seed(copies)
    X = torch.randn(100 + copies, 4, generator=generator, dtype=dtype)
    X[100:] = X[:copies]
    Y = torch.randn(len(X), 2, generator=generator, dtype=dtype)
    K = KERNELS["laplacian"](bandwidth=2.0)(X.double(), X.double())
    alpha = torch.linalg.pinv(K, rtol=1e-10, hermitian=True) @ Y.double()
    solver = SOLVERS["cg"](preconditioner=preconditioner, tolerance=1e-9)
    training = prepare(solver, Problem(KERNELS["laplacian"](bandwidth=2.0), X, Y))
    with pytest.warns(SingularMatrixWarning, match="points repeat others"):
        list(training.run())
    assert relative(training.model().weights.double(), alpha) < 1e-6
    assert training.rkhs_norm().value == pytest.approx((alpha * (K @ alpha)).sum().sqrt().item())
    assert f"{copies} of {len(X)} points repeat others" in training.warning
    assert training.stopped_by == "least_squares"


@pytest.mark.parametrize("preconditioner", ["eigenpro", "nystrom", "rpcholesky", "none"])
@pytest.mark.parametrize("kernel", ["linear", "polynomial"])
def test_cg_stays_at_least_squares_of_few_features(preconditioner, kernel):
    """Steps are made of curvature, which is rounding where what is left is beyond the features' reach."""
    k = KERNELS[kernel]()
    for seed in range(5):
        X = torch.randn(60, 4, generator=GENERATOR.manual_seed(seed), dtype=torch.float64)
        Y = torch.randn(60, 2, generator=GENERATOR, dtype=torch.float64)
        K = k(X, X)
        fit = K @ (torch.linalg.pinv(K, rtol=1e-10, hermitian=True) @ Y)
        training = prepare(
            SOLVERS["cg"](preconditioner=preconditioner, tolerance=1e-9), Problem(k, X, Y)
        )
        with pytest.warns(SingularMatrixWarning):
            list(training.run())
        # To the root of eps, over that of the spectrum's spread.
        assert relative(training.training_outputs(), fit) < 1e-3
        assert len(training.records) < 200
        assert training.warning is not None


def test_points_that_repeat_in_agreement_are_no_matter():
    X = torch.randn(60, 3, generator=GENERATOR.manual_seed(0), dtype=torch.float64)
    X[30:] = X[:30]
    problem = Problem(KERNELS["laplacian"](bandwidth=2.0), X, X[:, :1])
    training = prepare(SOLVERS["exact"](), problem)
    *_, last = training.run()
    assert training.warning is None
    assert training.stopped_by == "tolerance"
    assert len(training.model().centers) == 30
    assert last.train_mse < 1e-25


def test_a_ridge_weighs_points_as_often_as_they_occur():
    X = torch.randn(40, 3, generator=GENERATOR.manual_seed(0), dtype=torch.float64)
    X[20:30] = X[:1]
    Y = torch.randn(40, 2, generator=GENERATOR, dtype=torch.float64)
    kernel = KERNELS["laplacian"](bandwidth=2.0)
    K = kernel(X, X)
    expected = K @ torch.linalg.solve(K + 40 * 0.01 * torch.eye(40, dtype=K.dtype), Y)
    model = fit(SOLVERS["exact"](ridge=0.01), Problem(kernel, X, Y))
    assert relative(model.predict(X), expected) < 1e-12


def test_auto_solves_a_long_table_of_few_cells_at_once():
    X = torch.randint(0, 3, (40_000, 3), generator=GENERATOR.manual_seed(0)).float()
    own = SOLVERS["auto"]()
    p = Problem(KERNELS["laplacian"](), X, X[:, :1])
    solver, reason = own.choose(own.sizes(p), p.measured_limits(), p.device)
    assert solver.name == "exact"
    assert "27 of them different" in reason
    p = Problem(KERNELS["laplacian"](), torch.rand(40_000, 3), X[:, :1])
    other, _ = own.choose(own.sizes(p), p.measured_limits(), p.device)
    assert other.name == "eigenpro2"
    with_ridge = SOLVERS["auto"](ridge=1e-3)
    other, reason = with_ridge.choose(with_ridge.sizes(p), p.measured_limits(), p.device)
    assert other.name == "falkon"
    assert reason.endswith("on 4,000 of the points as centers (solver.n_centers)")


def far_off(times, kind):
    """200 points in R^5, one of them far off; targets of ``kind`` 'sine', or linear ones, which reach it too."""
    generator = GENERATOR.manual_seed(0)
    X = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    X_new = torch.randn(100, 5, generator=generator, dtype=torch.float64)
    X[3] *= times
    if kind == "linear":
        w = torch.randn(5, 1, generator=generator, dtype=torch.float64)
        return X, X @ w, X_new
    Y = torch.sin(X[:, :1]) + X[:, 1:2] * X[:, 2:3]
    Y[3] = 0
    return X, Y, X_new


@pytest.mark.parametrize(
    ("kernel", "times", "ridge"),
    [
        ("polynomial", 1e3, 1e-4),
        ("linear", 1e6, 1e-6),
        ("relu_ntk", 1e6, 1e-6),
        ("linear", 1e6, 0.0),
        ("polynomial", 30, 0.0),
    ],
)
@pytest.mark.filterwarnings("ignore:An ill-conditioned matrix")
def test_a_row_far_off_takes_nothing_from_the_others(kernel, times, ridge):
    """What is rounding of the largest diagonal entry is all that the others have."""
    X, Y, X_new = far_off(times, kernel)
    k = KERNELS[kernel]()
    training = prepare(SOLVERS["exact"](ridge=ridge), Problem(k, X, Y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularMatrixWarning)
        list(training.run())
    if ridge:
        peer = KernelRidge(alpha=200 * ridge, kernel="precomputed").fit(k(X, X).numpy(), Y.numpy())
        expected = torch.tensor(peer.predict(k(X_new, X).numpy()))
    elif kernel == "linear":
        expected = X_new @ torch.linalg.lstsq(X, Y).solution
    else:
        K = k(X, X).numpy()
        expected = k(X_new, X) @ torch.tensor(np.linalg.lstsq(K, Y.numpy(), rcond=1e-13)[0])
    assert relative(training.model().predict(X_new), expected) < 1e-6


@pytest.mark.parametrize("kernel", ["polynomial", "linear"])
def test_a_row_far_off_of_a_packed_matrix(kernel):
    X, Y, _ = far_off(1e3, "sine")
    points, k = Points(X), KERNELS[kernel]()
    K = BlockedKernel.on(k, X.device)(points, points)
    ones = torch.ones(200, 1, dtype=torch.float64)
    factor = PackedFactor(K, ones, 0.02, zero_pivot(200, torch.float64))
    A = k(X, X) + 0.02 * torch.eye(200, dtype=torch.float64)
    alpha, expected = factor.solve(Y), torch.linalg.solve(A, Y)
    assert relative(alpha, expected) < 1e-5


def test_pivots_are_judged_by_their_own_entries():
    """Of a matrix S A S the same rows are independent, whatever the scales are."""
    A = low_rank(300, 40)
    A += torch.diag(torch.cat([torch.ones(5), torch.zeros(295)])).double()  # rank 45 at most
    S = 10 ** (12 * torch.rand(300, 1, generator=GENERATOR.manual_seed(0)).double() - 6)
    assert PseudoInverse(A).rank == PseudoInverse(S * A * S.mT).rank == 45
    assert len(independent(S * A * S.mT).rows) == 45
    A = low_rank(300, 300) + 0.1 * torch.eye(300, dtype=torch.float64)
    whole, scaled = factorised(A.clone()), factorised(S * A * S.mT)
    assert isinstance(scaled, CholeskyFactor)
    assert scaled.smallest_pivot == pytest.approx(whole.smallest_pivot, rel=1e-9)


def test_a_matrix_that_no_kernel_has_is_refused_whatever_is_done_with_it():
    X = torch.randn(300, 5, generator=GENERATOR.manual_seed(0), dtype=torch.float64)
    A = torch.tanh(2 * X @ X.T - 1)
    assert torch.linalg.eigvalsh(A)[0] < -1
    for made in (independent, factorised, PseudoInverse):
        with pytest.raises(ValueError, match="300 points is not positive semidefinite"):
            made(A.clone())
    tanh = FunctionKernel(lambda X, Z: torch.tanh(2 * X @ Z.T - 1), 1.0)
    for solver in ("exact", "falkon", "cg", "eigenpro2", "eigenpro4"):
        with pytest.raises(ValueError, match="must be positive semidefinite|the kernel must be"):
            fit(SOLVERS[solver](), Problem(tanh, X, X[:, :1]))
