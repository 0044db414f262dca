"""SGD, EigenPro 1 and 2 with a ridge: each goes to (K + n ridge I) alpha = Y by the steps of its definition."""

import pytest
import torch
from solving import expected_predictions, new_points, problem, relative

from kernelexp.engine import KERNELS, SOLVERS, Problem, ResourceLimits, fit, prepare
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.preconditioner import Preconditioner
from kernelexp.engine.solvers.block import Block
from kernelexp.engine.spectrum import nystrom_spectrum

LAPLACIAN = KERNELS["laplacian"](bandwidth=3.0)
CASES = {
    "eigenpro2": ("eigenpro2", {"epochs": 60}),
    "eigenpro2, few": ("eigenpro2", {"epochs": 60, "q": 15, "subsample_size": 60}),
    "eigenpro1": ("eigenpro1", {"epochs": 60, "q": 20, "batch_size": 20}),
    "sgd": ("sgd", {"epochs": 250}),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 0.1])
@pytest.mark.parametrize("case", CASES)
def test_goes_to_ridge_regression(case, ridge, dtype):
    name, settings = CASES[case]
    p = problem(LAPLACIAN, n=151, dtype=dtype)
    training = prepare(SOLVERS[name](ridge=ridge, **settings), p)
    *_, last = training.run()
    model, new = training.model(), new_points(p)
    expected = expected_predictions(p, new, p.X, ridge)
    assert relative(model.predict(new.to(dtype)), expected) < (
        1e-8 if dtype == torch.float64 else 3e-5
    )
    # The loss that is told is the mean square error, without the penalty.
    X, alpha = p.X.double(), model.weights.double()
    K = p.kernel(X, X)
    mse = (K @ alpha - p.Y.double()).square().mean().item()
    assert last.train_mse == pytest.approx(mse, rel=1e-3, abs=1e-12)
    assert last.rkhs_norm == pytest.approx((alpha * (K @ alpha)).sum().sqrt().item(), rel=1e-5)


@pytest.mark.parametrize("solver", ["eigenpro2", "eigenpro1", "sgd"])
def test_ties_outliers_and_constant_columns_get_what_exact_gives(solver):
    p = problem(LAPLACIAN, n=97, d=4)
    X, Y = p.X.clone(), p.Y.clone()
    X[60:] = X[:37]
    X[:, 2], X[5, 0], Y[7, 0] = 1.5, 1e3, -50.0
    p = Problem(LAPLACIAN, X, Y)
    ridge, new = 1e-2, X[::3] + 0.1
    settings = {"epochs": 600, "batch_size": 8, **({"q": 10} if solver == "eigenpro1" else {})}
    found = fit(SOLVERS[solver](ridge=ridge, **settings), p).predict(new)
    assert relative(found, fit(SOLVERS["exact"](ridge=ridge), p).predict(new)) < 1e-4


@pytest.mark.parametrize("solver", ["eigenpro2", "eigenpro1", "sgd"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_very_few_points(solver, n):
    p = problem(LAPLACIAN, n=n)
    settings = {"q": 1} if solver == "eigenpro1" else {}
    weights = fit(SOLVERS[solver](ridge=1e-2, epochs=200, batch_size=1, **settings), p).weights
    A = p.kernel(p.X, p.X) + n * 1e-2 * torch.eye(n, dtype=torch.float64)
    assert relative(weights, torch.linalg.solve(A, p.Y)) < 1e-8


def by_definition(p, training, batches, ridge):
    """Every batch from all weights as they stand; nothing is carried along, nothing put off."""
    P, alpha = training.system.preconditioner, torch.zeros_like(p.Y)
    for batch in batches:
        g = p.kernel(p.X[batch], p.X) @ alpha + len(p.X) * ridge * alpha[batch] - p.Y[batch]
        step = training.system.step_size(len(batch)) / len(batch)
        features = p.kernel(p.X[batch], p.X[P.rows]) @ P.vectors
        alpha[batch] -= step * g
        alpha[P.rows] += step * P.vectors @ (P.scales[:, None] * (features.mT @ g))
    return alpha


@pytest.mark.parametrize("case", ["eigenpro2, few", "eigenpro1", "sgd"])
@pytest.mark.parametrize(("batch_size", "block_size"), [(7, 40), (7, 1), (151, 64)])
@pytest.mark.parametrize("kept", [0.0, None])
def test_iterates_are_those_of_the_definition(case, batch_size, block_size, kept):
    name, settings = CASES[case]
    limits, ridge = ResourceLimits(cache_gb=kept), 1e-2
    p = problem(LAPLACIAN, n=151, block_size=block_size, limits=limits)
    settings = {**settings, "epochs": 2, "batch_size": batch_size}
    training = prepare(SOLVERS[name](ridge=ridge, **settings), p)
    draws = torch.Generator()
    draws.set_state(training.system.generator)
    list(training.run())
    size = training.system.batch_size
    orders = [torch.randperm(151, generator=draws) for _ in range(2)]
    batches = [b for order in orders for b in order.tensor_split(-(-151 // size))]
    expected = by_definition(p, training, batches, ridge)
    torch.testing.assert_close(training.weights(), expected, rtol=1e-9, atol=1e-11)


def test_a_block_at_once_is_batch_after_batch():
    """What a GPU solves, with weights of the block that the correction changes."""
    p, ridge = problem(LAPLACIAN, n=60, d=5), 0.05
    solver = SOLVERS["eigenpro2"](ridge=ridge, subsample_size=40, q=6)
    system = prepare(solver, p).system
    P, sizes, every = system.preconditioner, [9] * 6 + [6], torch.arange(60)
    steps = [system.step_size(m) / m for m in sizes]
    effects = P.features + 60 * ridge * P.vectors_at(every, 60)

    def block(effects):
        return Block(p.Y.clone(), P.features, p.kernel(p.X, p.X), sizes, steps, effects)

    solved = block(effects).solved(P)
    torch.testing.assert_close(solved, block(effects).stepped(P), rtol=1e-10, atol=1e-12)
    assert relative(block(None).solved(P), solved) > 1e-3


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 0.1])
def test_directions_are_deflated_to_the_next_eigenvalue(ridge):
    """With the eigenvectors of all points P K' / n has the eigenvalues of K' / n, the first q + 1 of them alike."""
    p, n, q = problem(LAPLACIAN, n=80), 80, 10
    kernel = BlockedKernel.on(p.kernel, torch.device("cpu"))
    spectrum = nystrom_spectrum(kernel, p.X, n, p.generator(), q + 1)
    P = Preconditioner.from_spectrum(kernel, p.X, spectrum, q, ridge=ridge)
    V = P.vectors_at(torch.arange(n), n)
    correction = V @ (P.scales[:, None] * P.features.mT)
    eye = torch.eye(n, dtype=torch.float64)
    A = (eye - correction) @ (p.kernel(p.X, p.X) + n * ridge * eye) / n
    found = torch.linalg.eigvals(A).real.sort(descending=True).values
    expected = torch.linalg.eigvalsh(p.kernel(p.X, p.X)).flip(0) / n + ridge
    expected[:q] = expected[q]
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    assert P.top_eigenvalue == pytest.approx(expected[0].item())
    assert P.beta == pytest.approx((1 - (P.features.square() @ P.scales)).max() + n * ridge)


@pytest.mark.parametrize("solver", ["eigenpro2", "eigenpro1"])
def test_goes_on_amid_an_epoch_with_the_same_digits(solver):
    """While a correction is put off that the next batch's own weights are part of."""
    p = problem(LAPLACIAN, n=151, block_size=30)
    own = SOLVERS[solver](ridge=1e-2, q=10, batch_size=10, epochs=3)
    whole = prepare(own, p)
    expected = [r.train_mse for r in whole.run()]
    first = prepare(own, p)
    for _ in range(2):
        assert first.advance() is None
    assert first.iterate.pending.any()
    second = prepare(own, p, plan=first.plan)
    second.restore(first.saved())
    assert [r.train_mse for r in second.run()] == expected
    assert torch.equal(second.weights(), whole.weights())


@pytest.mark.parametrize("solver", ["eigenpro2", "eigenpro1", "sgd"])
@pytest.mark.parametrize("ridge", [-1e-9, float("nan"), "much"])
def test_refuses_what_is_no_ridge(solver, ridge):
    with pytest.raises(ValueError, match="ridge=.*: must be a number >= 0"):
        SOLVERS[solver](ridge=ridge)


def test_the_critical_batch_size_is_that_of_the_ridged_kernel():
    p, ridge = problem(LAPLACIAN, n=151), 0.05
    system = prepare(SOLVERS["sgd"](ridge=ridge, subsample_size=151), p).system
    A = p.kernel(p.X, p.X) + 151 * ridge * torch.eye(151, dtype=torch.float64)
    m_star = A.diagonal().max() / (torch.linalg.eigvalsh(A)[-1] / 151)
    assert system.m_star == pytest.approx(m_star.item())
    assert system.m_star_adapted == pytest.approx(m_star.item())
