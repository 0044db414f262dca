"""SGD and EigenPro 1 and 2: iterates, batch and step, divergence, memory."""

import warnings

import pytest
import torch
from sklearn.datasets import load_digits
from solving import problem, relative, with_step

from kernelexp.engine import (
    KERNELS,
    SOLVERS,
    DivergenceError,
    Problem,
    ResourceLimits,
    StopRule,
    prepare,
)
from kernelexp.engine.solvers.eigenpro1 import EigenPro1
from kernelexp.engine.solvers.eigenpro2 import EigenPro2
from kernelexp.engine.solvers.sgd import SGD


def published_eigenpro2(p, training, order):
    """The step as the paper writes it: every batch from K(X_b, X) alpha, no training of predictions."""
    X, Y, P = p.X, p.Y, training.system.preconditioner
    alpha = torch.zeros_like(Y)
    X_s = X[P.rows]
    for batch in order:
        m = len(batch)
        g = p.kernel(X[batch], X) @ alpha - Y[batch]
        eta = training.system.step_size(m)
        alpha[batch] -= eta / m * g
        features = p.kernel(X[batch], X_s) @ P.vectors
        alpha[P.rows] += eta / m * P.vectors @ (P.scales[:, None] * (features.T @ g))
    return alpha


@pytest.mark.parametrize(("batch_size", "block_size"), [(7, 40), (7, 1), (50, 64), (200, 64)])
@pytest.mark.parametrize("q", [0, 15])
@pytest.mark.parametrize("rows_kept", [0, 90, 200])
def test_iterates_are_the_published_ones(batch_size, block_size, q, rows_kept):
    """Carrying predictions, blocks of batches, kept rows, postponed corrections change nothing."""
    limits = ResourceLimits(cache_gb=rows_kept * 200 * 8.001e-9)
    p = problem(KERNELS["laplacian"](bandwidth=3.0), block_size=block_size, limits=limits)
    s = EigenPro2(epochs=2, batch_size=batch_size, q=q, subsample_size=100)
    training = prepare(s, p)
    assert training.plan.kept_rows == rows_kept
    generator = torch.Generator()
    generator.set_state(training.system.generator)
    list(training.run())
    batches = []
    for _ in range(2):
        order = torch.randperm(200, generator=generator)
        batches += list(order.tensor_split(-(-200 // batch_size)))
    expected = published_eigenpro2(p, training, batches)
    torch.testing.assert_close(training.model().weights, expected, rtol=1e-9, atol=1e-11)


def test_sgd_runs_at_the_critical_batch_size():
    p = problem(KERNELS["gaussian"](bandwidth=4.0))
    training = prepare(SGD(), p)
    K = p.kernel(p.X, p.X)
    m_star = 1 / (torch.linalg.eigvalsh(K)[-1].item() / 200)
    assert training.system.m_star == pytest.approx(m_star)
    assert training.system.batch_size == round(m_star)
    assert training.system.preconditioner.q == 0


def test_adapted_batch_is_larger_and_epochs_fewer():
    digits = load_digits()
    X, labels = torch.tensor(digits.data / 16), torch.tensor(digits.target)
    p = Problem(
        KERNELS["gaussian"](bandwidth=2.0), X, torch.nn.functional.one_hot(labels).double(), labels
    )
    losses = {}
    for s in (SGD(epochs=5), EigenPro1(epochs=5), EigenPro2(epochs=5)):
        training = prepare(s, p)
        losses[s.name] = [record.train_mse for record in training.run()][-1]
        if s.name != "sgd":
            assert training.system.m_star_adapted > 100 * training.system.m_star
    assert losses["eigenpro1"] < losses["sgd"] / 2
    assert losses["eigenpro2"] < losses["sgd"] / 5


@pytest.mark.parametrize(
    ("solver", "m", "factor"),
    [(SGD, 1, 2), (SGD, 200, 2.2), (EigenPro2, 20, 2), (EigenPro2, None, 2)],
)
def test_twice_the_step_diverges_or_slows(solver, m, factor):
    """At m = 1 twice the step makes no progress; at m = n the limit is 2 / lambda_1, just above."""
    s = solver(epochs=20, batch_size=m)
    p = problem(KERNELS["laplacian"](bandwidth=3.0))
    right = [r.train_mse for r in prepare(s, p).run()]
    doubled = with_step(s, factor)
    training = prepare(doubled, p)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = [r.train_mse for r in training.run()]
    assert training.iterate.step_scale < 1 or wrong[-1] > 10 * right[-1]


def test_divergence_is_answered_once_by_half_the_step():
    p = problem(KERNELS["laplacian"](bandwidth=3.0))
    wrong = with_step(EigenPro2(epochs=30, batch_size=20, q=20), 2)
    training = prepare(wrong, p)
    with pytest.warns(RuntimeWarning, match="diverged"):
        records = list(training.run())
    assert training.iterate.step_scale == 0.5
    assert records[-1].train_mse < 1e-3
    epochs = [record.epoch for record in records]
    assert epochs == [*range(1, len(epochs) - 29), *range(1, 31)]  # those of the model


@pytest.mark.parametrize(
    ("solver", "dtype", "help"),
    [
        (EigenPro2(epochs=30, batch_size=20, q=20), torch.float64, "batch_size below 20 or solver.q below 20"),
        (EigenPro2(epochs=30, batch_size=1, q=20), torch.float32, "q below 20 or dtype=float64"),
        (SGD(epochs=30, batch_size=1), torch.float64, "another solver, as exact or cg"),
    ],
)  # fmt: skip
def test_divergence_ends_in_an_error_that_helps(solver, dtype, help):
    training = prepare(
        with_step(solver, 100), problem(KERNELS["laplacian"](bandwidth=3.0), dtype=dtype)
    )
    with (
        pytest.warns(RuntimeWarning, match="diverged"),
        pytest.raises(DivergenceError, match=f": set (solver.)?{help}$"),
    ):
        list(training.run())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["few features", "repeated rows"])
def test_directions_of_rounding_are_not_deflated(kind, dtype):
    """A q beyond the rank of K: what is deflated then is noise, and the step it allows has no limit."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(100, 3, generator=generator, dtype=dtype)
    kernel, q, rank = KERNELS["linear"](), 8, 3
    if kind == "repeated rows":
        kernel, q, rank = KERNELS["laplacian"](bandwidth=3.0), 40, 20
        X = torch.randn(20, 5, generator=generator, dtype=dtype).repeat(10, 1)
    p = Problem(kernel, X, X[:, :2])
    with pytest.warns(RuntimeWarning, match=f"solver.q={q} exceeds .*: {rank - 1} is used"):
        training = prepare(EigenPro2(epochs=20, q=q), p)
    losses = [record.train_mse for record in training.run()]
    assert losses[-1] < 1e-5


def test_max_batch_size_limits_the_preconditioner():
    k = KERNELS["laplacian"](bandwidth=3.0)
    training = prepare(EigenPro2(), problem(k, limits=ResourceLimits(max_batch_size=40)))
    free = prepare(EigenPro2(), problem(k))
    assert training.system.m_star_adapted <= 40 * 1.01 < free.system.m_star_adapted
    assert training.system.batch_size <= 40


def published_eigenpro1(p, training, order):
    """Corrections of all n coordinates at each step, with dense vectors (Ma, Belkin 2017)."""
    K, Y, P = p.kernel(p.X, p.X), p.Y, training.system.preconditioner
    alpha = torch.zeros_like(Y)
    for batch in order:
        g = K[batch] @ alpha - Y[batch]
        eta = training.system.step_size(len(batch)) / len(batch)
        alpha[batch] -= eta * g
        features = K[batch] @ P.vectors  # (m, q)
        alpha += eta * P.vectors @ (P.scales[:, None] * (features.T @ g))
    return alpha


def test_eigenpro1_takes_true_eigenvectors_down_and_its_iterates_are_the_published_ones():
    """From a subsample of everything the preconditioner is that of the dense eigensystem."""
    p = problem(KERNELS["laplacian"](bandwidth=3.0), block_size=40)
    s = EigenPro1(epochs=1, batch_size=10, q=15, tau=0.9)
    training = prepare(s, p)
    values, U = torch.linalg.eigh(p.kernel(p.X, p.X))
    values, U = values.flip(0), U.flip(1)[:, :15]
    expected = U @ ((1 - 0.9 * values[15] / values[:15]) / values[:15] * U).T
    P = training.system.preconditioner
    torch.testing.assert_close(P.vectors @ (P.scales * P.vectors).T, expected, atol=1e-9, rtol=0)
    generator = torch.Generator()
    generator.set_state(training.system.generator)
    list(training.run())
    order = torch.randperm(200, generator=generator).tensor_split(20)
    expected = published_eigenpro1(p, training, order)
    torch.testing.assert_close(training.model().weights, expected, rtol=1e-9, atol=1e-11)


def test_a_batch_beyond_the_resource_is_cut_with_a_warning():
    s = EigenPro2(batch_size=100)
    p = problem(KERNELS["laplacian"](bandwidth=3.0), limits=ResourceLimits(max_batch_size=40))
    with pytest.warns(RuntimeWarning, match="solver.batch_size=100 exceeds"):
        assert prepare(s, p).system.batch_size == 40


def test_memory_plan_keeps_the_limit(monkeypatch):
    """Rows of K are kept while there is room, then the subsample shrinks, then it is refused."""
    monkeypatch.setattr("kernelexp.engine.memory.held_bytes", lambda device: 10**9)
    k = KERNELS["laplacian"]()

    def plan(memory, subsample=None):
        p = problem(k, n=1500, limits=ResourceLimits(memory_gb=memory))
        return prepare(EigenPro2(subsample_size=subsample), p).plan

    roomy = plan(None, subsample=300)
    assert roomy.gigabytes["cache"] == pytest.approx(1500**2 * 8e-9)
    tighter = plan(roomy.peak_gb - 0.01, subsample=300)
    assert 0 < tighter.gigabytes["cache"] < roomy.gigabytes["cache"]
    assert tighter.peak_gb <= roomy.peak_gb - 0.01
    whole = plan(None)
    assert whole.subsample_size == 1500
    shrunk = plan(whole.peak_gb - 0.01)
    assert shrunk.subsample_size < 1500
    assert shrunk.peak_gb <= whole.peak_gb - 0.01


def test_norm_and_predictions_are_those_of_the_weights():
    p = problem(KERNELS["gaussian"](bandwidth=3.0), dtype=torch.float32)
    s = EigenPro2(epochs=3)
    training = prepare(s, p)
    list(training.run())
    K = p.kernel(p.X.double(), p.X.double())
    assert relative(training.training_outputs(), K @ training.model().weights.double()) < 1e-4


@pytest.mark.parametrize("solver", [SGD, EigenPro1, EigenPro2])
def test_what_is_recorded_in_float32_is_what_the_model_does(solver):
    """Predictions carried along go on falling below what float32 weights can do."""
    p = problem(KERNELS["laplacian"](bandwidth=3.0), dtype=torch.float32)
    rule = StopRule(train_mse=1e-18)
    s = solver(epochs=80, stop=rule, batch_size=20)
    training = prepare(s, p)
    *_, last = training.run()
    K = p.kernel(p.X.double(), p.X.double())
    true = (K @ training.model().weights.double() - p.Y.double()).square().mean().item()
    assert last.train_mse > true / 3
    assert training.stopped_by == "epochs"  # no fiction to stop on


@pytest.mark.parametrize("solver", ["sgd", "eigenpro2", "eigenpro4"])
def test_steps_that_follow_few_far_points_are_told(solver):
    """Under a kernel of products k(x, x) is |x|^2, and one far row in a thousand sets the step of all."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(1000, 5, generator=generator)
    tails = X * torch.randn(1000, 1, generator=generator).mul(2).exp()
    for rows, told in ((tails, True), (X, False)):
        p = Problem(KERNELS["relu_ntk"](), rows, rows[:, :1].sign())
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            prepare(SOLVERS[solver](), p)
        messages = [str(w.message) for w in said]
        assert len(messages) == told
        if told:
            diagonal = p.kernel.diag(rows)
            times = (diagonal.max() / diagonal.mean()).item()
            assert f"which is {times:,.0f} times the mean" in messages[0]
            assert "scale columns that have heavy tails, or take solver=exact" in messages[0]
