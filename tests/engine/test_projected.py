"""EigenPro 3 and 4, centers, projections: what the conformance suite does not see."""

from dataclasses import replace

import pytest
import torch
from solving import expected_predictions, new_points, problem, relative

from kernelexp.engine import KERNELS, Limits, Problem, ResourceLimits, fit, prepare
from kernelexp.engine.centers import choose_centers
from kernelexp.engine.singular import PseudoInverse
from kernelexp.engine.solvers.eigenpro3 import EigenPro3
from kernelexp.engine.solvers.eigenpro4 import EigenPro4
from kernelexp.engine.solvers.projection import make_projection

LAPLACIAN = KERNELS["laplacian"](bandwidth=3.0)


@pytest.mark.parametrize("solver", [EigenPro3, EigenPro4])
def test_a_batch_that_is_cut_is_told(solver):
    p = problem(LAPLACIAN, limits=ResourceLimits(max_batch_size=40))
    with pytest.warns(RuntimeWarning, match="solver.batch_size=90 exceeds .*: 40 is used"):
        training = prepare(solver(n_centers=50, batch_size=90), p)
    assert training.system.batch_size == 40


def weights(solver, p):
    training = prepare(solver, p)
    list(training.run())
    return training.model().weights


def published_eigenpro4(p, training, epochs, T):
    """T batches on temporary centers, then one projection, all dense (Abedsoltan et al. 2025)."""
    X, Y, Z, P = p.X, p.Y, training.system.centers, training.system.preconditioner
    K_XZ, K_ZZ, K_XX = p.kernel(X, Z), p.kernel(Z, Z), p.kernel(X, X)
    Z_s = Z[P.rows]
    features = p.kernel(X, Z_s) @ P.vectors
    at_centers = p.kernel(Z, Z_s) @ P.vectors
    step = training.system.step_size(training.system.batch_size) / training.system.batch_size
    alpha = torch.zeros(len(Z), Y.shape[1], dtype=Y.dtype)
    rounds = [order[i : i + T] for order in epochs for i in range(0, len(order), T)]
    for batches in rounds:
        temporary = torch.zeros_like(Y)
        landmarks = torch.zeros(len(Z_s), Y.shape[1], dtype=Y.dtype)
        h = torch.zeros_like(alpha)
        for batch in batches:
            f = K_XZ[batch] @ alpha + K_XX[batch] @ temporary
            f += p.kernel(X[batch], Z_s) @ landmarks
            g = f - Y[batch]
            correction = P.scales[:, None] * (features[batch].T @ g)
            temporary[batch] -= step * g
            landmarks += step * P.vectors @ correction
            h += K_XZ[batch].T @ g - at_centers @ correction
        alpha -= step * torch.linalg.solve(K_ZZ, h)
    return alpha


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("rows_kept", [0, 90, 200])
def test_iterates_are_those_of_the_algorithm(T, rows_kept):
    limits = ResourceLimits(cache_gb=rows_kept * 60 * 8.001e-9)
    p = problem(LAPLACIAN, limits=limits)
    solver = EigenPro4(
        n_centers=60, epochs=2, batch_size=16, projection_interval=T, variance_reduction=False
    )
    training = prepare(solver, p)
    assert training.plan.kept_rows == rows_kept
    generator = torch.Generator()
    generator.set_state(training.system.generator)
    list(training.run())
    epochs = [torch.randperm(200, generator=generator).tensor_split(13) for _ in range(2)]
    expected = published_eigenpro4(p, training, epochs, T)
    torch.testing.assert_close(training.weights(), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("projection", ["exact", "inexact"])
@pytest.mark.parametrize("variance_reduction", [True, False])
def test_eigenpro4_with_an_interval_of_one_is_eigenpro3(projection, variance_reduction):
    p = problem(LAPLACIAN)
    common = {
        "n_centers": 60, "epochs": 5, "batch_size": 16, "projection": projection,
        "variance_reduction": variance_reduction,
    }  # fmt: skip
    third = weights(EigenPro3(**common), p)
    fourth = weights(EigenPro4(**common, projection_interval=1), p)
    torch.testing.assert_close(fourth, third, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("solver", [EigenPro3, EigenPro4])
@pytest.mark.parametrize("projection", ["exact", "inexact"])
def test_goes_to_least_squares_where_it_does_not_interpolate(solver, projection):
    """p = 300, n = 3,000 in float32: predictions within 1e-2; without variance reduction they wander."""
    p = problem(KERNELS["laplacian"](bandwidth=4.0), n=3000, d=10, c=2, dtype=torch.float32)
    new = new_points(p, 500)
    own = solver(n_centers=300, epochs=40, projection=projection)
    training = prepare(own, p)
    *_, last = training.run()
    expected = expected_predictions(p, new, training.system.centers)
    assert relative(training.model().predict(new.float()), expected) < 1e-2
    assert last.train_mse > 0.05  # it is far from interpolating
    if projection == "exact":
        plain = fit(solver(n_centers=300, epochs=20, variance_reduction=False), p)
        assert relative(plain.predict(new.float()), expected) > 5e-2


def test_the_interval_is_p_over_m():
    p = problem(LAPLACIAN)
    training = prepare(EigenPro4(n_centers=60, batch_size=10), p)
    assert training.system.interval == 6
    assert prepare(EigenPro3(n_centers=60, batch_size=10), p).system.interval == 1


def test_an_inexact_projection_states_its_residual():
    p = problem(LAPLACIAN)
    for tolerance in (0.5, 0.01):
        own = EigenPro4(
            n_centers=60, epochs=2, projection="inexact",
            projection_tolerance=tolerance, projection_epochs=50,
        )  # fmt: skip
        training = prepare(own, p)
        list(training.run())
        assert 0 < training.residuals()["projection_residual"] <= tolerance


def test_projections_solve():
    p = problem(LAPLACIAN, n=100)
    Z = p.X
    h = torch.randn(100, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = torch.linalg.solve(LAPLACIAN(Z, Z), h)

    def projected(kind):
        training = prepare(EigenPro4(n_centers=100, projection=kind), p)
        projection = make_projection(p, training.plan, Z, 1e-8, 200)
        return projection(h, training.iterate)

    theta, image = projected("exact")
    torch.testing.assert_close(theta, expected)
    torch.testing.assert_close(image, h)
    theta, image = projected("inexact")
    torch.testing.assert_close(theta, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(image, LAPLACIAN(Z, Z) @ theta)


def test_a_singular_matrix_of_the_centers_takes_no_more_than_is_planned():
    p = problem(LAPLACIAN, n=600)
    Z = p.X.clone()
    Z[300:] = Z[:300] * (1 + 1e-15)  # near duplicates: K(Z, Z) of rank 300
    limits, solver = p.measured_limits(), EigenPro4(n_centers=600, projection="exact")
    limits = replace(limits, allowed=limits.held + 10**8)
    plan = solver.plan(solver.sizes(p), limits, p.device)
    left = 10**8 - 1e9 * plan.gigabytes["model"]
    assert 3 * 8 * 600 * plan.max_rank == pytest.approx(left, rel=1e-3)
    factor = make_projection(p, plan, Z, 1e-8, 200).factor
    assert isinstance(factor, PseudoInverse)
    assert factor.rank == 300
    little = replace(plan, max_rank=200)
    with pytest.raises(ValueError, match="memory for a rank of 200 alone: .*projection=inexact"):
        make_projection(p, little, Z, 1e-8, 200)


def test_projects_inexactly_where_the_factor_does_not_fit():
    p = problem(LAPLACIAN, n=3000, d=5)
    own = EigenPro4(n_centers=2500, subsample_size=200)
    assert prepare(own, p).derived()["projection"] == "exact"
    process = prepare(own, p).plan.gigabytes["process"]
    tight = Limits(ResourceLimits(), int(process * 1e9), int((process + 0.09) * 1e9), 2048)
    with pytest.raises(ValueError, match="an inexact projection"):
        own.plan(own.sizes(p), tight, p.device)


def test_projects_inexactly_where_the_factor_does_not_pay_within_the_epochs():
    X = torch.linspace(0, 1, 2500)[:, None]
    p = Problem(LAPLACIAN, X, X)

    def kind(**options):
        solver = EigenPro4(n_centers=2500, **options)
        plan = solver.plan(solver.sizes(p), p.measured_limits(), p.device)
        return "exact" if plan.projection is None else "inexact"

    assert kind(epochs=1) == "inexact"
    assert kind(epochs=10) == kind() == kind(epochs=1, projection="exact") == "exact"


@pytest.mark.parametrize("kind", ["all", "random", "kmeans"])
def test_centers(kind):
    X = problem(LAPLACIAN, d=3).X
    p = 200 if kind == "all" else 30
    Z = choose_centers(X, kind, p, torch.Generator().manual_seed(0))
    again = choose_centers(X, kind, p, torch.Generator().manual_seed(0))
    assert torch.equal(Z, again)
    assert len(Z) <= p
    assert Z.shape[1] == 3
    if kind == "kmeans":
        spread = torch.cdist(X, Z).amin(1).square().sum()
        random = choose_centers(X, "random", p, torch.Generator().manual_seed(0))
        assert spread < torch.cdist(X, random).amin(1).square().sum()
    else:
        assert len(Z.unique(dim=0)) == p  # rows of X, none twice
        assert (torch.cdist(Z, X).amin(1) < 1e-6).all()


def test_a_mean_that_loses_its_points_is_dropped():
    X = torch.tensor([[0.0], [0.0], [0.0], [1.0], [1.0], [1.0]], dtype=torch.float64)
    Z = choose_centers(X, "kmeans", 4, torch.Generator().manual_seed(0))
    assert sorted(Z.flatten().tolist()) == [0.0, 1.0]


@pytest.mark.parametrize(
    "limits", [ResourceLimits(), ResourceLimits(cache_gb=0.0)], ids=["kept", "not"]
)
@pytest.mark.parametrize("repeated", [1, 100])
@pytest.mark.parametrize("solver", [EigenPro3, EigenPro4])
def test_an_inexact_projection_onto_fewer_centers_than_planned(solver, repeated, limits):
    """Where rows repeat each other: to the least-squares solution on those that differ."""
    p = problem(LAPLACIAN, n=200, limits=limits)
    p.X[:repeated] = p.X[-repeated:]
    p.Y[:repeated] = p.Y[-repeated:]
    model = fit(solver(centers="all", epochs=60, projection="inexact"), p)
    assert len(model.centers) == 200 - repeated
    X = new_points(p)
    assert relative(model.predict(X), expected_predictions(p, X, model.centers)) < 1e-3
