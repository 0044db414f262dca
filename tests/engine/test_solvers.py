"""One conformance suite: every solver goes to the exact solution, computed densely in float64.

A new kernel or solver adds a row to ``KERNEL_CASES`` or ``SOLVER_CASES`` and inherits the tests.
"""

import warnings

import pytest
import torch
from sklearn.datasets import load_digits

from kernelexp.engine import KERNELS, SOLVERS, DivergenceError, Problem, ResourceLimits, StopRule
from kernelexp.engine.kernels import Kernel
from kernelexp.engine.solvers.eigenpro2 import EigenPro2
from kernelexp.engine.solvers.sgd import SGD

# Well-posed on the 200 random points below: condition numbers under 3,000 (asserted).
KERNEL_CASES = {
    "gaussian": {"bandwidth": 2.0},
    "laplacian": {"bandwidth": 3.0},
    "exponential_power": {"bandwidth": 5.0},
    "cauchy": {"bandwidth": 3.0},
    "matern": {"bandwidth": 3.0},
    "rational_quadratic": {"bandwidth": 3.0},
    "relu_ntk": {},
    "relu_nngp": {"bias": 0.1},
    "arc_cosine": {"order": 0},
}
SOLVER_CASES = {"eigenpro2": {"epochs": 100}, "sgd": {"epochs": 400}}
# Relative error of predictions at new points.
DTYPES = {torch.float64: 5e-4, torch.float32: 1e-3}
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(
            not torch.cuda.is_available(), reason="PyTorch finds no CUDA device"
        ),
    ),
]


def problem(kernel, n=200, d=20, c=3, dtype=torch.float64, device="cpu", **settings):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(n, d, dtype=torch.float64, generator=generator).to(device, dtype)
    labels = torch.randint(0, c, (n,), generator=generator).to(device)
    Y = torch.nn.functional.one_hot(labels, c).to(dtype)
    return Problem(kernel, X, Y, labels, **settings)


def exact_predictions(p, X_new):
    X, Y = p.X.double(), p.Y.double()
    return p.kernel(X_new.double(), X) @ torch.linalg.solve(p.kernel(X, X), Y)


def relative(got, expected):
    return ((got.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kernel", KERNEL_CASES)
@pytest.mark.parametrize("solver", SOLVER_CASES)
def test_goes_to_the_exact_solution(solver, kernel, dtype, device):
    k = KERNELS[kernel](**KERNEL_CASES[kernel])
    p = problem(k, dtype=dtype, device=device)
    X = p.X.double()
    assert torch.linalg.cond(k(X, X)) < 3000
    s = SOLVERS[solver](**SOLVER_CASES[solver])
    state = s.prepare(p)
    records = list(s.run(state))
    new = torch.randn(50, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    new = new.to(device)
    expected = exact_predictions(p, new)
    assert relative(state.model().predict(new.to(dtype)), expected) < DTYPES[dtype]
    # The norm, a by-product, against the dense formula sqrt(tr(alpha^T K alpha)).
    alpha = state.model().weights.double()
    dense = (alpha * (k(X, X) @ alpha)).sum(0).sqrt()
    tolerance = 1e-3 if dtype == torch.float32 else 1e-8
    assert relative(state.rkhs_norm().per_output, dense) < tolerance
    assert records[-1].rkhs_norm == pytest.approx(dense.square().sum().sqrt().item(), rel=tolerance)
    # What a record says is exact over the training set.
    outputs = k(X, X) @ alpha
    mse = (outputs - p.Y.double()).square().mean().item()
    assert records[-1].train_mse == pytest.approx(mse, rel=1e-3, abs=1e-9)
    assert records[-1].train_error == (outputs.argmax(1) != p.labels).double().mean().item() == 0
    assert state.stopped_by == "epochs"


@pytest.mark.parametrize("solver", SOLVER_CASES)
def test_regression_with_many_outputs(solver):
    k = KERNELS["laplacian"](bandwidth=3.0)
    p = problem(k)
    for c in (1, 1000):
        Y = torch.randn(200, c, dtype=torch.float64, generator=torch.Generator().manual_seed(c))
        s = SOLVERS[solver](epochs=100)
        state = s.prepare(Problem(k, p.X, Y))
        *_, last = s.run(state)
        assert last.train_error is None
        expected = exact_predictions(Problem(k, p.X, Y), p.X[:40] + 0.1)
        assert relative(state.model().predict(p.X[:40] + 0.1), expected) < 1e-2


def published_eigenpro2(p, state, order):
    """The step as the paper writes it: every batch from K(X_b, X) alpha, no state of predictions."""
    X, Y, P = p.X, p.Y, state.preconditioner
    alpha = torch.zeros_like(Y)
    X_s = X[P.rows]
    for batch in order:
        m = len(batch)
        g = p.kernel(X[batch], X) @ alpha - Y[batch]
        eta = state.step_size(m)
        alpha[batch] -= eta / m * g
        features = p.kernel(X[batch], X_s) @ P.vectors
        alpha[P.rows] += eta / m * P.vectors @ (P.scales[:, None] * (features.T @ g))
    return alpha


@pytest.mark.parametrize(("batch_size", "block_size"), [(7, 40), (7, 1), (50, 64), (200, 64)])
@pytest.mark.parametrize("q", [0, 15])
def test_iterates_are_the_published_ones(batch_size, block_size, q):
    """Carrying predictions, blocks of batches and postponed corrections change nothing."""
    p = problem(KERNELS["laplacian"](bandwidth=3.0), block_size=block_size)
    s = EigenPro2(epochs=2, batch_size=batch_size, q=q, subsample_size=100)
    state = s.prepare(p)
    generator = torch.Generator()
    generator.set_state(state.generator.get_state())
    list(s.run(state))
    batches = []
    for _ in range(2):
        order = torch.randperm(200, generator=generator)
        batches += list(order.tensor_split(-(-200 // batch_size)))
    expected = published_eigenpro2(p, state, batches)
    torch.testing.assert_close(state.model().weights, expected, rtol=1e-9, atol=1e-11)


def test_sgd_runs_at_the_critical_batch_size():
    p = problem(KERNELS["gaussian"](bandwidth=4.0))
    state = SGD().prepare(p)
    K = p.kernel(p.X, p.X)
    m_star = 1 / (torch.linalg.eigvalsh(K)[-1].item() / 200)
    assert state.m_star == pytest.approx(m_star)
    assert state.batch_size == round(m_star)
    assert state.preconditioner.q == 0


def test_adapted_batch_is_larger_and_epochs_fewer():
    digits = load_digits()
    X, labels = torch.tensor(digits.data / 16), torch.tensor(digits.target)
    p = Problem(
        KERNELS["gaussian"](bandwidth=2.0), X, torch.nn.functional.one_hot(labels).double(), labels
    )
    losses = {}
    for name in SOLVERS:
        s = SOLVERS[name](epochs=5)
        state = s.prepare(p)
        losses[name] = [record.train_mse for record in s.run(state)][-1]
        if name == "eigenpro2":
            assert state.m_star_adapted > 100 * state.m_star
    assert losses["eigenpro2"] < losses["sgd"] / 5


def with_step(solver, factor):
    """The same solver with its step off by a factor."""
    cls = type(
        solver.__class__.__name__, (type(solver),), {"relaxation": factor * solver.relaxation}
    )
    return cls(**vars(solver))


@pytest.mark.parametrize(
    ("solver", "m", "factor"),
    [(SGD, 1, 2), (SGD, 200, 2.2), (EigenPro2, 20, 2), (EigenPro2, None, 2)],
)
def test_twice_the_step_diverges_or_slows(solver, m, factor):
    """At m = 1 twice the step makes no progress; at m = n the limit is 2 / lambda_1, just above."""
    s = solver(epochs=20, batch_size=m)
    p = problem(KERNELS["laplacian"](bandwidth=3.0))
    right = [r.train_mse for r in s.run(s.prepare(p))]
    doubled = with_step(s, factor)
    state = doubled.prepare(p)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = [r.train_mse for r in doubled.run(state)]
    assert state.step_scale < 1 or wrong[-1] > 10 * right[-1]


def test_divergence_is_answered_once_by_half_the_step():
    p = problem(KERNELS["laplacian"](bandwidth=3.0))
    wrong = with_step(EigenPro2(epochs=30, batch_size=20, q=20), 2)
    state = wrong.prepare(p)
    with pytest.warns(RuntimeWarning, match="diverged"):
        records = list(wrong.run(state))
    assert state.step_scale == 0.5
    assert records[-1].train_mse < 1e-3
    assert [record.epoch for record in records] == list(range(1, 31))


def test_divergence_ends_in_an_error_that_helps():
    wrong = with_step(EigenPro2(epochs=30, batch_size=20, q=20), 100)
    with (
        pytest.warns(RuntimeWarning, match="diverged"),
        pytest.raises(DivergenceError, match=r"set solver.batch_size below 20, solver.q below 20"),
    ):
        list(wrong.run(wrong.prepare(problem(KERNELS["laplacian"](bandwidth=3.0)))))


def test_same_seed_same_numbers():
    k = KERNELS["laplacian"](bandwidth=3.0)
    torch.manual_seed(1)
    first = EigenPro2(epochs=3).fit(problem(k, seed=5)).weights
    torch.manual_seed(2)  # no draw comes from the global generator
    again = EigenPro2(epochs=3).fit(problem(k, seed=5)).weights
    other = EigenPro2(epochs=3).fit(problem(k, seed=6)).weights
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        (StopRule(train_error=0), "train_error"),
        (StopRule(train_mse=1e-4), "train_mse"),
        (StopRule(seconds=1e-9), "seconds"),
        (StopRule(train_mse=0, patience=3), "patience"),
        (StopRule(), "epochs"),
    ],
)
def test_stop_rules(stop, reason):
    p = problem(KERNELS["laplacian"](bandwidth=3.0), dtype=torch.float32)
    s = EigenPro2(stop=stop)
    state = s.prepare(p)
    records = list(s.run(state))
    assert state.stopped_by == reason
    last = records[-1]
    if reason == "train_error":
        assert last.train_error == 0
        assert all(r.train_error > 0 for r in records[:-1])
    if reason == "train_mse":
        assert last.train_mse <= 1e-4 < records[-2].train_mse
    if reason == "seconds":
        assert len(records) == 1
    if reason == "patience":
        best = min(r.train_mse for r in records)
        assert [r.train_mse for r in records[-4:]].index(best) == 0
    if reason == "epochs":
        assert len(records) == 10


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"epochs": 2.5},
        {"batch_size": 0},
        {"subsample_size": 1},
        {"q": -1},
        {"stop": {"train_error": 1.5}},
        {"stop": {"train_mse": -1}},
        {"stop": {"seconds": 0}},
        {"stop": {"patience": 0}},
    ],
)
def test_refuses_bad_settings(settings):
    made = StopRule if "stop" in settings else EigenPro2
    with pytest.raises(ValueError, match=r"^(stop\.)?\w+=\S+: must be "):
        made(**settings.get("stop", settings))


def test_refuses_sizes_beyond_the_data():
    p = problem(KERNELS["laplacian"]())
    for key, value in (("batch_size", 201), ("subsample_size", 500), ("q", 200)):
        with pytest.raises(ValueError, match=f"solver.{key}={value}: must be "):
            EigenPro2(**{key: value}).prepare(p)
    with pytest.raises(ValueError, match="must be"):
        Problem(p.kernel, p.X, p.Y[:5])


class Triangle(Kernel):
    """A kernel of the test's own: prod_i max(0, 1 - |x_i - z_i| / 8)."""

    name = "triangle"

    def __call__(self, X, Z):
        return (1 - (X[:, None] - Z).abs() / 8).clamp(min=0).prod(2)

    def diag(self, X):
        return X.new_ones(len(X))


@pytest.mark.parametrize("solver", SOLVER_CASES)
def test_a_kernel_of_ones_own(solver):
    p = problem(Triangle(), d=4)
    model = SOLVERS[solver](epochs=400).fit(p)
    assert relative(model.predict(p.X[:30] + 0.05), exact_predictions(p, p.X[:30] + 0.05)) < 1e-2


def test_memory_plan_keeps_the_limit():
    k = KERNELS["laplacian"]()
    p = problem(k, n=3000, limits=ResourceLimits())
    roomy = EigenPro2().prepare(p).plan
    assert roomy.subsample_size == 3000
    tight = roomy.peak_gb - 0.1
    plan = EigenPro2().prepare(problem(k, n=3000, limits=ResourceLimits(memory_gb=tight))).plan
    assert plan.subsample_size < 3000
    assert plan.peak_gb <= tight
    with pytest.raises(ValueError, match=r"resource.memory_gb=0.01: must be at least \d"):
        EigenPro2().prepare(problem(k, n=3000, limits=ResourceLimits(memory_gb=0.01)))


def test_max_batch_size_limits_the_preconditioner():
    k = KERNELS["laplacian"](bandwidth=3.0)
    state = EigenPro2().prepare(problem(k, limits=ResourceLimits(max_batch_size=40)))
    free = EigenPro2().prepare(problem(k))
    assert state.m_star_adapted <= 40 * 1.01 < free.m_star_adapted
    assert state.batch_size <= 40


def test_a_batch_beyond_the_resource_is_cut_with_a_warning():
    s = EigenPro2(batch_size=100)
    p = problem(KERNELS["laplacian"](bandwidth=3.0), limits=ResourceLimits(max_batch_size=40))
    with pytest.warns(RuntimeWarning, match="solver.batch_size=100 exceeds"):
        assert s.prepare(p).batch_size == 40


class Indefinite(Triangle):
    """No kernel: minus a squared distance."""

    name = "indefinite"

    def __call__(self, X, Z):
        return -torch.cdist(X, Z).square()


def test_refuses_what_is_no_kernel():
    p = problem(Indefinite())
    with pytest.raises(ValueError, match="must be positive semidefinite"):
        EigenPro2().prepare(p)
    with pytest.raises(ValueError, match="data not all zero"):
        EigenPro2().prepare(Problem(KERNELS["linear"](), torch.zeros_like(p.X), p.Y))


def test_no_warnings_on_a_plain_run():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EigenPro2(epochs=2).fit(problem(KERNELS["relu_ntk"](), dtype=torch.float32))
