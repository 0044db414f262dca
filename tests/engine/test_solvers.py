"""One conformance suite: every solver goes to the exact solution of its own problem, computed densely in
float64: interpolation, ridge regression, or least squares over the span of p < n centers.

A new kernel or solver adds a row to ``KERNEL_CASES`` or ``SOLVER_CASES`` and inherits the tests.
"""

import warnings

import pytest
import torch
from sklearn.datasets import load_digits
from solving import expected_predictions, new_points, problem, relative, ridge_of

from kernelexp.engine import (
    KERNELS,
    SOLVERS,
    FunctionKernel,
    Problem,
    ResourceLimits,
    StopRule,
    fit,
    prepare,
)

# Well-posed on 200 random points: condition numbers under 3,000 (asserted).
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
P = {"n_centers": 60}
SOLVER_CASES = {
    "askotch": ("askotch", {"ridge": 1e-4, "tolerance": 1e-7}),
    "auto": ("auto", {}),
    "cg": ("cg", {"tolerance": 1e-7, "subsample_size": 50}),
    "eigenpro1": ("eigenpro1", {"epochs": 100, "q": 20, "batch_size": 20}),
    "eigenpro2": ("eigenpro2", {"epochs": 100}),
    "eigenpro3": ("eigenpro3", {**P, "epochs": 100}),
    "eigenpro4": ("eigenpro4", {**P, "epochs": 100}),
    "exact": ("exact", {}),
    "falkon": ("falkon", {**P, "ridge": 1e-4, "epochs": 100}),
    "rfm": ("rfm", {"epochs": 1}),
    "ridge_path": ("ridge_path", {"ridges": [1e-4]}),
    "sgd": ("sgd", {"epochs": 400}),
}
# Other problems and other ways to them; on one kernel.
VARIANTS = {
    "auto, p centers": ("auto", P),
    "cg, nystrom": ("cg", {"tolerance": 1e-7, "preconditioner": "nystrom"}),
    "cg, rpcholesky": ("cg", {"tolerance": 1e-7, "preconditioner": "rpcholesky"}),
    "cg, plain": ("cg", {"tolerance": 1e-7, "preconditioner": "none"}),
    "cg, ridge": ("cg", {"tolerance": 1e-7, "ridge": 1e-3}),
    "cg, nystrom, ridge": ("cg", {"tolerance": 1e-7, "preconditioner": "nystrom", "ridge": 1e-3}),
    "cg, rpcholesky, ridge": ("cg", {"preconditioner": "rpcholesky", "ridge": 1e-3}),
    "eigenpro3, inexact": ("eigenpro3", {**P, "epochs": 60, "projection": "inexact"}),
    "eigenpro4, inexact": ("eigenpro4", {**P, "epochs": 60, "projection": "inexact"}),
    "eigenpro4, kmeans": ("eigenpro4", {**P, "epochs": 300, "centers": "kmeans"}),
    "eigenpro3, rpcholesky": ("eigenpro3", {**P, "epochs": 200, "centers": "rpcholesky"}),
    "eigenpro4, rpcholesky": ("eigenpro4", {**P, "epochs": 200, "centers": "rpcholesky"}),
    "exact, rpcholesky": ("exact", {**P, "centers": "rpcholesky"}),
    "falkon, rpcholesky": ("falkon", {**P, "centers": "rpcholesky", "ridge": 1e-4, "epochs": 100}),
    "ridge_path, rpcholesky": ("ridge_path", {**P, "ridges": [1e-3], "centers": "rpcholesky"}),
    "eigenpro4, all centers": ("eigenpro4", {"epochs": 100, "centers": "all"}),
    "exact, ridge": ("exact", {"ridge": 1e-3}),
    "exact, p centers": ("exact", P),
    "exact, p centers, ridge": ("exact", {**P, "ridge": 1e-3}),
    "exact, float32 refined": ("exact", {"precision": "float32"}),
    "exact, p centers, float32 refined": ("exact", {**P, "precision": "float32"}),
    "ridge_path, p centers": ("ridge_path", {**P, "ridges": [1e-3]}),
    "ridge_path, kmeans": ("ridge_path", {**P, "ridges": [1e-3], "centers": "kmeans"}),
    "askotch, no ridge": ("askotch", {"ridge": 0.0, "block_size": 33, "rank": 5}),
    "askotch, one block": ("askotch", {"ridge": 1e-3, "block_size": 200}),
    "falkon, all centers": ("falkon", {"centers": "all", "ridge": 1e-4}),
}
# Relative error of predictions at new points, and of the norm against the dense formula.
DTYPES = {torch.float64: (5e-4, 1e-8), torch.float32: (1e-3, 1e-3)}
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def with_epochs(solver, epochs):
    """So many; of a recursive feature machine the one round in which its metric is that of the others."""
    return {"epochs": epochs} if "epochs" in SOLVER_CASES[solver][1] and solver != "rfm" else {}


def check(case, p):
    name, settings = case
    solver = SOLVERS[name](**settings)
    training = prepare(solver, p)
    records = list(training.run())
    model, Z = training.model(), training.model().centers.double()
    predictions, norms = DTYPES[p.X.dtype]
    if settings.get("precision") == "float32":
        norms = max(norms, torch.finfo(torch.float32).eps)  # of K as it is stored
    new = new_points(p)
    expected = expected_predictions(p, new, Z, ridge_of(solver))
    assert relative(model.predict(new.to(p.X.dtype)), expected) < predictions
    assert len(Z) <= settings.get("n_centers", len(p.X))
    # The norm, however it was got, against the dense formula sqrt(tr(alpha^T K alpha)).
    alpha = model.weights.double()
    dense = (alpha * (p.kernel(Z, Z) @ alpha)).sum(0).sqrt()
    norm = training.rkhs_norm()
    assert relative(norm.per_output, dense) < norms
    assert abs(norm.value - dense.norm()) / dense.norm() <= norm.relative_error
    assert not norm.lower_bound
    assert records[-1].rkhs_norm == pytest.approx(dense.norm().item(), rel=norms)
    # What a record says is exact over the training set.
    outputs = p.kernel(p.X.double(), Z) @ alpha
    mse = (outputs - p.Y.double()).square().mean().item()
    assert records[-1].train_mse == pytest.approx(mse, rel=1e-3, abs=1e-9)
    assert records[-1].train_error == (outputs.argmax(1) != p.labels).double().mean().item()
    if len(Z) == len(p.X) and not ridge_of(solver):
        assert records[-1].train_error == 0  # it interpolates
    assert training.stopped_by == ("epochs" if records[-1].epoch == solver.epochs else "tolerance")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kernel", KERNEL_CASES)
@pytest.mark.parametrize("solver", SOLVER_CASES)
def test_goes_to_the_exact_solution(solver, kernel, dtype, device):
    p = problem(KERNELS[kernel](**KERNEL_CASES[kernel]), dtype=dtype, device=device)
    X = p.X.double()
    assert torch.linalg.cond(p.kernel(X, X)) < 3000
    name, settings = SOLVER_CASES[solver]
    if (
        "epochs" in settings and solver != "rfm" and kernel not in ("relu_nngp", "gaussian")
    ):  # which take longest
        settings = {**settings, "epochs": 150 if solver == "sgd" else 50}
    check((name, settings), p)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_go_to_the_exact_solution(variant, dtype, device):
    p = problem(KERNELS["laplacian"](bandwidth=3.0), dtype=dtype, device=device)
    check(VARIANTS[variant], p)


def test_every_solver_has_its_row():
    assert set(SOLVER_CASES) == set(SOLVERS)


@pytest.mark.parametrize("solver", SOLVER_CASES)
def test_digits(solver):
    """Real data, half of scikit-learn's digits; predictions at the other half."""
    digits = load_digits()
    X, labels = torch.tensor(digits.data / 16), torch.tensor(digits.target)
    Y = torch.nn.functional.one_hot(labels).double()
    p = Problem(KERNELS["laplacian"](bandwidth=3.0), X[::2], Y[::2], labels[::2])
    name, settings = SOLVER_CASES[solver]
    own = SOLVERS[name](**{**settings, **with_epochs(solver, 100)})
    model = fit(own, p)
    expected = expected_predictions(p, X[1::2], model.centers, ridge_of(own))
    assert relative(model.predict(X[1::2]), expected) < (0.02 if solver == "sgd" else 2e-3)


@pytest.mark.parametrize("solver", SOLVER_CASES)
@pytest.mark.parametrize("c", [1, 1000])
def test_regression_with_few_and_many_outputs(solver, c):
    k = KERNELS["laplacian"](bandwidth=3.0)
    X = problem(k).X
    Y = torch.randn(200, c, dtype=torch.float64, generator=torch.Generator().manual_seed(c))
    p = Problem(k, X, Y)
    name, settings = SOLVER_CASES[solver]
    own = SOLVERS[name](**{**settings, **with_epochs(solver, 60)})
    training = prepare(own, p)
    *_, last = training.run()
    assert last.train_error is None
    model = training.model()
    expected = expected_predictions(p, X[:40] + 0.1, model.centers, ridge_of(own))
    assert relative(model.predict(X[:40] + 0.1), expected) < 1e-2


@pytest.mark.parametrize("solver", SOLVER_CASES)
def test_a_kernel_of_ones_own(solver):
    """A function of two tensors and a diagonal: prod_i max(0, 1 - |x_i - z_i| / 8)."""
    triangle = FunctionKernel(
        lambda X, Z: (1 - (X[:, None] - Z).abs() / 8).clamp(min=0).prod(2), diagonal=1.0
    )
    p = problem(triangle, d=4)
    name, settings = SOLVER_CASES[solver]
    own = SOLVERS[name](**settings)
    if solver == "rfm":
        with pytest.raises(ValueError, match="no gradient in closed form, which solver=rfm needs"):
            fit(own, p)
        return
    model = fit(own, p)
    new = p.X[:30] + 0.05
    expected = expected_predictions(p, new, model.centers, ridge_of(own))
    assert relative(model.predict(new), expected) < 1e-2


@pytest.mark.parametrize("solver", SOLVER_CASES)
def test_same_seed_same_numbers(solver):
    k = KERNELS["laplacian"](bandwidth=3.0)
    name, settings = SOLVER_CASES[solver]
    own = SOLVERS[name](**{**settings, **with_epochs(solver, 3)})
    torch.manual_seed(1)
    first = fit(own, problem(k, seed=5)).weights
    torch.manual_seed(2)  # no draw comes from the global generator
    again = fit(own, problem(k, seed=5)).weights
    assert torch.equal(first, again)
    if solver not in ("auto", "exact", "rfm", "ridge_path"):  # which draw nothing here
        assert not torch.equal(first, fit(own, problem(k, seed=6)).weights)


ITERATIVE = [name for name in SOLVER_CASES if name not in ("auto", "exact", "rfm", "ridge_path")]


@pytest.mark.parametrize("solver", ITERATIVE)
@pytest.mark.parametrize("rule", ["train_error", "train_mse", "seconds", "patience", "epochs"])
def test_stop_rules(solver, rule):
    """Each holds at the last record and at none before; by default there are ``max_epochs``."""
    k = KERNELS["laplacian"](bandwidth=3.0)
    p = problem(k, dtype=torch.float32)
    name, settings = SOLVER_CASES[solver]
    settings = {k: v for k, v in settings.items() if k not in ("epochs", "tolerance")}
    if solver in ("askotch", "cg", "falkon"):
        settings["tolerance"] = 1e-30
    first = next(prepare(SOLVERS[name](**settings), p).run())
    # Within reach of a restricted model too.
    within = {"train_error": 0.5 * first.train_error + 0.01, "train_mse": 0.9 * first.train_mse}
    if name in ("eigenpro3", "eigenpro4", "falkon"):
        within = {"train_error": first.train_error + 0.1, "train_mse": 1.1 * first.train_mse}
    stops = {
        "train_error": StopRule(train_error=within["train_error"]),
        "train_mse": StopRule(train_mse=within["train_mse"]),
        "seconds": StopRule(seconds=1e-9),
        "patience": StopRule(patience=3),
        "epochs": StopRule(),
    }
    own = SOLVERS[name](stop=stops[rule], **settings)
    if rule == "epochs":
        own = SOLVERS[name](epochs=4, **settings)
    training = prepare(own, p)
    records = list(training.run())
    assert training.stopped_by == rule
    last, before = records[-1], records[:-1]
    assert [r.epoch for r in records] == list(range(1, len(records) + 1))
    if rule == "train_error":
        assert last.train_error <= within[rule]
        assert all(r.train_error > within[rule] for r in before)
    if rule == "train_mse":
        assert last.train_mse <= within[rule]
        assert all(r.train_mse > within[rule] for r in before)
    if rule == "seconds":
        assert len(records) == 1
    if rule == "patience":
        best = min(r.train_mse for r in records)
        assert [r.train_mse for r in records[-4:]].index(best) == 0
    if rule == "epochs":
        assert len(records) == 4


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_default_epochs(device):
    if device not in DEVICES:
        pytest.skip("PyTorch finds no CUDA device: the other tests ran on the CPU alone")
    solver, p = SOLVERS["eigenpro2"](), problem(KERNELS["laplacian"](), device=device)
    assert len(list(prepare(solver, p).run())) == 10


@pytest.mark.parametrize(
    ("solver", "settings"),
    [
        ("eigenpro2", {"epochs": 0}),
        ("eigenpro2", {"epochs": 2.5}),
        ("eigenpro2", {"batch_size": 0}),
        ("eigenpro2", {"subsample_size": 1}),
        ("eigenpro2", {"q": -1}),
        ("eigenpro1", {"q": 0}),
        ("eigenpro1", {"tau": 1.5}),
        ("eigenpro3", {"n_centers": 0}),
        ("eigenpro3", {"centers": "best"}),
        ("eigenpro3", {"projection": "none"}),
        ("eigenpro4", {"projection_interval": 0}),
        ("exact", {"ridge": -1}),
        ("exact", {"precision": "float16"}),
        ("cg", {"tolerance": 0}),
        ("askotch", {"ridge": -1e-9}),
        ("askotch", {"block_size": 0}),
        ("askotch", {"rank": 0}),
        ("askotch", {"tolerance": 0}),
        ("cg", {"ridge": -1}),
        ("falkon", {"ridge": -1e-9}),
        ("auto", {"tolerance": 2}),
        ("stop", {"train_error": 1.5}),
        ("stop", {"train_mse": -1}),
        ("stop", {"seconds": 0}),
        ("stop", {"patience": 0}),
    ],
)
def test_refuses_bad_settings(solver, settings):
    made = StopRule if solver == "stop" else SOLVERS[solver]
    with pytest.raises(ValueError, match=r"^(stop\.)?\w+=\S+: must be "):
        made(**settings)


@pytest.mark.parametrize(
    ("solver", "key", "value"),
    [
        ("eigenpro2", "subsample_size", 500),
        ("eigenpro3", "n_centers", 201),
        ("eigenpro4", "subsample_size", 201),
        ("eigenpro4", "q", 200),
        ("cg", "subsample_size", 201),
        ("cg", "q", 200),
        ("exact", "n_centers", 201),
        ("falkon", "n_centers", 201),
        ("auto", "n_centers", 201),
    ],
)
def test_refuses_sizes_beyond_the_data(solver, key, value):
    with pytest.raises(ValueError, match=f"solver.{key}={value}: must be "):
        prepare(SOLVERS[solver](**{key: value}), problem(KERNELS["laplacian"]()))


@pytest.mark.parametrize("solver", ["sgd", "eigenpro1", "eigenpro2", "eigenpro3", "eigenpro4"])
def test_a_batch_and_a_q_for_more_points_are_those_there_are(solver):
    """Of a preset that is used with few points."""
    q = {"q": 1000} if solver in ("eigenpro1", "eigenpro2") else {}
    training = prepare(SOLVERS[solver](batch_size=1000, **q), problem(KERNELS["laplacian"]()))
    assert training.system.batch_size == 200
    if q:
        assert 0 < training.system.preconditioner.q <= 199


def test_refuses_data_of_different_lengths():
    p = problem(KERNELS["laplacian"]())
    with pytest.raises(ValueError, match="must be"):
        Problem(p.kernel, p.X, p.Y[:5])


@pytest.mark.parametrize("solver", [s for s in SOLVER_CASES if s not in ("sgd", "rfm")])
def test_refuses_what_is_no_kernel(solver):
    """Minus a squared distance, and a matrix of zeros."""
    indefinite = FunctionKernel(lambda X, Z: -torch.cdist(X, Z).square(), diagonal=1.0)
    with pytest.raises(ValueError, match="positive semidefinite"):
        fit(SOLVERS[solver](), problem(indefinite))


def test_refuses_data_of_zeros():
    p = problem(KERNELS["linear"]())
    with pytest.raises(ValueError, match="data not all zero"):
        prepare(SOLVERS["eigenpro2"](), Problem(p.kernel, torch.zeros_like(p.X), p.Y))


@pytest.mark.parametrize("solver", SOLVER_CASES)
def test_refuses_a_memory_that_does_not_do(solver):
    p = problem(KERNELS["laplacian"](), n=300, limits=ResourceLimits(memory_gb=0.01))
    with pytest.raises(ValueError, match=r"resource.memory_gb=0.01: must be at least \d"):
        prepare(SOLVERS[solver](), p)


@pytest.mark.parametrize("solver", SOLVER_CASES)
def test_no_warnings_on_a_plain_run(solver):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(SOLVERS[solver](), problem(KERNELS["relu_ntk"](), dtype=torch.float32))


def test_out_of_memory_is_answered_with_a_smaller_plan(monkeypatch):
    p = problem(KERNELS["laplacian"]())
    solver = SOLVERS["eigenpro2"](epochs=1)
    setup, asked = type(solver).setup, []

    def first_time_too_much(self, problem, plan):
        asked.append(plan.limit_gb)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return setup(self, problem, plan)

    monkeypatch.setattr(type(solver), "setup", first_time_too_much)
    with pytest.warns(RuntimeWarning, match="out of memory; started again with resource.memory_gb"):
        training = prepare(solver, p)
    assert training.smaller_plan
    assert asked[1] == pytest.approx(0.75 * asked[0], rel=0.05)
    assert len(list(training.run())) == 1

    def always_too_much(self, problem, plan):
        return torch.empty(2**50, dtype=torch.int8)  # a petabyte: PyTorch's own words

    monkeypatch.setattr(type(solver), "setup", always_too_much)
    with (
        pytest.raises(RuntimeError, match="allocate"),
        pytest.warns(RuntimeWarning, match="out of memory"),
    ):
        prepare(solver, p)
