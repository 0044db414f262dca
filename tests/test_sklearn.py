"""The scikit-learn estimators: scikit-learn's own checks, the dense solution, and a user's habits."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, LeaveOneOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from kernelexp.engine import (
    KERNELS,
    SOLVERS,
    FunctionKernel,
    KernelModel,
    SingularMatrixWarning,
    StopRule,
)
from kernelexp.engine.devices import tiling
from kernelexp.sklearn import (
    KernelClassifier,
    KernelClassifierCV,
    KernelRegressor,
    KernelRegressorCV,
)

# Nothing is expected to fail in the precision that the data have.
EXPECTED_FAILURES: dict[str, str] = {}
EXPECTED_FAILURES_WITHOUT_RIDGE = {
    "check_class_weight_classifiers": "where all targets are met their weights do not matter, and a warning says so; with a ridge it passes"
}
EXPECTED_FAILURES_FLOAT32 = {
    "check_regressor_multioutput": "wants predictions of type float64, whatever dtype is asked for",
    "check_methods_subset_invariance": (
        "wants outputs near 0 to 1e-4 of themselves, whatever the size of the batch; float32 sums of "
        "terms of size 1 have an absolute error of 1e-6 (whether it fails depends on the machine)"
    ),
    "check_methods_sample_order_invariance": (
        "wants outputs to 1e-7 of themselves, wherever a row stands; float32 rounds rows at the edge of a tile "
        "otherwise (whether it fails depends on the machine and on where memory lies)"
    ),
}


EXPECTED_FAILURES_ITERATIVE = dict.fromkeys(
    [
        "check_sample_weights_not_overwritten",
        "check_sample_weight_equivalence_on_dense_data",
        "check_class_weight_classifiers",
    ],
    "a solver that ends where all targets are met has no use for weights, and refuses them",
)


def expected_failures(estimator):
    if estimator.get_params().get("solver") == "eigenpro2":
        return EXPECTED_FAILURES_ITERATIVE | (EXPECTED_FAILURES_FLOAT32 if estimator.dtype else {})
    if estimator.get_params().get("class_weight", 0) is None and estimator.ridge is None:
        return EXPECTED_FAILURES_WITHOUT_RIDGE
    return EXPECTED_FAILURES_FLOAT32 if estimator.dtype == "float32" else EXPECTED_FAILURES


@parametrize_with_checks(
    [
        KernelClassifier(),
        KernelRegressor(),
        KernelClassifier(ridge=0.1),
        KernelClassifier(solver="eigenpro2", solver_params={"epochs": 3}),
        KernelRegressor(solver="eigenpro2", dtype="float32"),
        KernelClassifierCV(),
        KernelRegressorCV(),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


@pytest.fixture(scope="module")
def curve():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    return X, np.stack([np.sin(X.sum(1)), X[:, 0] * X[:, 1]], axis=1)


def laplacian(X, Z, s):
    return np.exp(-np.linalg.norm(X[:, None] - Z[None], axis=2) / s)


@pytest.mark.parametrize("outputs", ["two", "one column", "one"])
def test_exact_is_kernel_ridge(curve, outputs):
    X, Y = curve
    y = {"two": Y, "one column": Y[:, :1], "one": Y[:, 0]}[outputs]
    ours = KernelRegressor(bandwidth=2.0, solver="exact", solver_params={"ridge": 1e-3})
    ours.fit(X[:250], y[:250])
    ridge = KernelRidge(alpha=250 * 1e-3, kernel="precomputed")
    K = laplacian(X[:250], X[:250], 2.0)
    expected = ridge.fit(K, y[:250]).predict(laplacian(X[250:], X[:250], 2.0))
    got = ours.predict(X[250:])
    assert got.shape == y[250:].shape
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, atol=1e-10)
    alpha = ridge.dual_coef_.reshape(250, -1)
    assert ours.rkhs_norm_ == pytest.approx(np.sqrt(np.trace(alpha.T @ K @ alpha)), rel=1e-8)
    assert isinstance(ours.model_, KernelModel)
    assert ours.n_iter_ == 1


def test_solvers_go_to_the_interpolating_solution(curve):
    X, Y = curve
    trained = KernelRegressor(bandwidth=2.0, solver="eigenpro2", solver_params={"epochs": 200})
    alpha = np.linalg.solve(laplacian(X[:250], X[:250], 2.0), Y[:250])
    expected = laplacian(X[250:], X[:250], 2.0) @ alpha
    got = trained.set_params(random_state=0).fit(X[:250], Y[:250]).predict(X[250:])
    assert np.linalg.norm(got - expected) < 1e-3 * np.linalg.norm(expected)
    assert trained.n_iter_ == 200
    default = KernelRegressor(bandwidth=2.0).fit(X[:250], Y[:250])
    np.testing.assert_allclose(default.predict(X[250:]), expected, atol=1e-9)
    assert default.solver_ == SOLVERS["exact"]()  # what auto takes for few points


def test_two_classes_are_least_squares_on_signs(digits):
    X, y = digits
    some = np.flatnonzero((y == 3) | (y == 8))
    X, y = X[some], np.where(y[some] == 3, "three", "eight")
    ours = KernelClassifier(solver="exact", solver_params={"ridge": 1e-4}).fit(X[:200], y[:200])
    assert ours.classes_.tolist() == ["eight", "three"]
    K = laplacian(X[:200], X[:200], 10.0) + 200 * 1e-4 * np.eye(200)
    signs = np.where(y[:200] == "three", 1.0, -1.0)
    expected = laplacian(X[200:], X[:200], 10.0) @ np.linalg.solve(K, signs)
    got = ours.decision_function(X[200:])
    np.testing.assert_allclose(got, expected, atol=1e-9)  # (n,)
    assert (ours.predict(X[200:]) == np.where(expected > 0, "three", "eight")).all()
    assert ours.score(X[200:], y[200:]) == ((expected > 0) == (y[200:] == "three")).mean() > 0.9


def test_many_classes_of_any_label(digits):
    X, y = digits
    names = np.array([f"digit {i}" for i in range(10)], dtype=object)
    settings = {"epochs": 5, "stop": {"train_error": 0}}
    machine = KernelClassifier(solver="eigenpro2", solver_params=settings)
    machine.fit(X[:1000], names[y[:1000]])
    outputs = machine.decision_function(X[1000:])
    assert outputs.shape == (797, 10)
    predicted = machine.predict(X[1000:])
    assert (predicted == names[outputs.argmax(1)]).all()
    assert (predicted == names[y[1000:]]).mean() > 0.95
    assert machine.n_iter_ < 5  # the rule was met: every training label is right
    assert machine.score(X[:1000], names[y[:1000]]) == 1
    assert not hasattr(machine, "predict_proba")


def test_pipeline_and_grid_search(digits):
    X, y = digits
    machine = KernelClassifier(solver="eigenpro2", dtype="float32", random_state=0)
    pipeline = make_pipeline(MinMaxScaler(), machine)
    grid = {
        "kernelclassifier__bandwidth": [*np.logspace(-3, 1, 2), np.int64(5), "median", None],
        "kernelclassifier__solver_params": [{"epochs": np.int64(2)}],
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X[:400], y[:400])
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] < 0.5 < scores[1:].min()  # a bandwidth of 0.001 learns the points alone
    assert search.best_params_["kernelclassifier__bandwidth"] != 1e-3
    assert search.score(X[400:], y[400:]) > 0.9
    alone = GridSearchCV(KernelRegressor("matern"), {"kernel_params": [{"nu": 0.5}, {"nu": 2.5}]})
    assert alone.fit(X[:100], y[:100]).best_estimator_.model_.kernel.nu in (0.5, 2.5)


def test_a_ridge_is_a_parameter(curve):
    X, Y = curve
    ours = KernelRegressor("gaussian", bandwidth=2.0, ridge=1e-3).fit(X, Y)
    peer = KernelRidge(kernel="rbf", gamma=1 / 8, alpha=1e-3 * len(X)).fit(X, Y)
    np.testing.assert_allclose(ours.predict(X), peer.predict(X), rtol=1e-6, atol=1e-8)
    grid = {"bandwidth": [1.0, 3.0], "ridge": [1e-6, 1e-3, 1.0]}
    search = GridSearchCV(KernelRegressor("gaussian"), grid, error_score="raise").fit(X, Y[:, 0])
    assert search.best_params_["ridge"] < 1.0
    for parameters, message in [
        ({"solver": "eigenpro4"}, "ridge=0.1: must be None with solver=eigenpro4"),
        ({"solver_params": {"ridge": 0.1}}, "ridge: must be None where solver_params has it"),
    ]:
        with pytest.raises(ValueError, match=message):
            KernelRegressor(ridge=0.1, **parameters).fit(X, Y)


def test_the_ridge_of_the_smallest_leave_one_out_error(curve):
    X, Y = curve
    noisy = Y + 0.3 * np.random.default_rng(1).normal(size=Y.shape)
    ridges = np.logspace(-8, 0, 9)
    ours = KernelRegressorCV("gaussian", bandwidth=2.0, ridges=ridges).fit(X, noisy)
    errors = []
    for ridge in ridges:
        one = KernelRegressor("gaussian", bandwidth=2.0, ridge=ridge)
        left = cross_val_predict(one, X[:40], noisy[:40], cv=LeaveOneOut())
        errors.append(((left - noisy[:40]) ** 2).mean())
    few = KernelRegressorCV("gaussian", bandwidth=2.0, ridges=ridges).fit(X[:40], noisy[:40])
    # Trained on 39 points each has n ridge of 39, not of 40.
    np.testing.assert_allclose(few.path_["loo_mse"], errors, rtol=0.1)
    assert ours.ridge_ == ridges[np.argmin(ours.path_["loo_mse"])]
    same = KernelRegressor("gaussian", bandwidth=2.0, ridge=ours.ridge_).fit(X, noisy)
    np.testing.assert_allclose(ours.predict(X), same.predict(X), rtol=1e-6, atol=1e-8)
    labels = (Y[:, 0] > 0).astype(int)
    chosen = KernelClassifierCV(n_centers=50, by="gcv").fit(X, labels)
    assert chosen.score(X, labels) > 0.8
    assert len(chosen.model_.centers) == 50


def test_fitted_models_from_other_processes(digits):
    X, y = digits
    kernel = FunctionKernel(lambda X, Z: (X @ Z.T + 1) ** 2, lambda X: (X.square().sum(1) + 1) ** 2)
    machine = KernelClassifier(kernel, solver="exact", solver_params={"ridge": 1e-3})
    grid = {"solver_params": [{"ridge": 1e-3}, {"ridge": 1e6}]}
    search = GridSearchCV(machine, grid, cv=2, n_jobs=2, error_score="raise")
    search.fit(X[:200], y[:200])
    assert search.best_params_["solver_params"] == {"ridge": 1e-3}


def dot_kernel(X, Z):
    return 1 + X @ Z.T


def dot_diagonal(X):
    return 1 + X.square().sum(1)


@pytest.mark.parametrize("kernel", ["gaussian", FunctionKernel(dot_kernel, dot_diagonal)])
def test_pickle_and_clone(digits, kernel):
    X, y = digits
    machine = KernelClassifier(kernel, solver="eigenpro2", dtype="float32", random_state=3)
    outputs = machine.fit(X[:300], y[:300]).decision_function(X[300:])
    again = pickle.loads(pickle.dumps(machine))
    assert (again.decision_function(X[300:]) == outputs).all()
    assert again.rkhs_norm_ == machine.rkhs_norm_
    fresh = clone(machine)
    assert not hasattr(fresh, "model_")
    assert (fresh.fit(X[:300], y[:300]).decision_function(X[300:]) == outputs).all()
    assert pickle.loads(pickle.dumps(fresh.set_params(device="cuda:99"))).device == "cuda:99"


def test_what_a_gpu_trained_is_read_without_one(digits, monkeypatch):
    X, y = digits
    machine = KernelClassifier(device="cpu").fit(X[:100], y[:100])
    state = machine.__getstate__()
    state["model_"] = state["model_"][0], "cuda:0"  # as if trained there
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    there = KernelClassifier()
    there.__setstate__(state)
    assert there.model_.weights.device.type == "cpu"
    assert (there.predict(X) == machine.predict(X)).all()


def test_tensors(digits):
    X, y = digits
    t, labels = torch.tensor(X[:500], dtype=torch.float32, requires_grad=True), torch.tensor(y)
    machine = KernelClassifier(random_state=0).fit(t, labels[:500])
    assert machine.model_.weights.dtype == torch.float32  # as the data are
    predicted = machine.predict(torch.tensor(X[500:]))
    assert isinstance(predicted, np.ndarray)
    same = KernelClassifier(random_state=0).fit(X[:500].astype(np.float32), y[:500])
    assert (predicted == same.predict(X[500:])).all()
    assert machine.score(torch.tensor(X[500:]), labels[500:]) > 0.9
    grid = GridSearchCV(KernelClassifier(), {"bandwidth": [1.0, 10.0]}, cv=2, error_score="raise")
    assert grid.fit(t.detach(), labels[:500]).best_score_ > 0.8
    rows = torch.tensor(X[:100], dtype=torch.bfloat16)
    weights = torch.linspace(1, 2, 100, dtype=torch.bfloat16, requires_grad=True)
    for given in (None, weights):
        machine = KernelRegressor("gaussian", ridge=1e-2).fit(rows, labels[:100], given)
        assert machine.predict(rows).shape == (100,)


@pytest.mark.parametrize("kind", [">f8", "longdouble"])
def test_targets_of_another_byte_order_or_size(curve, kind):
    X, y = curve
    expected = KernelRegressor(random_state=0).fit(X, y).predict(X)
    assert (KernelRegressor(random_state=0).fit(X, y.astype(kind)).predict(X) == expected).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")
def test_cuda(digits):
    X, y = digits
    t, labels = torch.tensor(X, device="cuda"), torch.tensor(y, device="cuda")
    machine = KernelClassifier(solver="exact").fit(t[:500], labels[:500])
    assert machine.model_.weights.device.type == "cuda"
    here = KernelClassifier(solver="exact", device="cpu").fit(X[:500], y[:500])
    outputs = machine.decision_function(t[500:])
    np.testing.assert_allclose(outputs, here.decision_function(X[500:]), atol=1e-6)
    again = pickle.loads(pickle.dumps(machine))
    assert again.model_.weights.device.type == "cuda"
    assert (again.decision_function(X[500:]) == outputs).all()


def test_the_model_keeps_its_own_points(curve):
    X, Y = curve[0].copy(), curve[1]
    machine = KernelRegressor(solver="exact").fit(X, Y)
    before = machine.predict(X[:5])
    rows = X[:5].copy()
    X[:] = 0
    assert (machine.predict(rows) == before).all()


def test_prediction_by_batches_and_tiles():
    shapes = []

    def k(X, Z):
        shapes.append((len(X), len(Z)))
        return torch.cdist(X, Z).neg().exp()

    X = np.random.default_rng(0).normal(size=(1500, 3))
    machine = KernelRegressor(FunctionKernel(k, 1.0), device="cpu")
    machine.set_params(solver="falkon", solver_params={"n_centers": 1100}).fit(X, X[:, 0])
    whole = machine.predict(X)
    shapes.clear()
    np.testing.assert_allclose(machine.set_params(predict_batch_size=400).predict(X), whole)
    assert sum(n * p for n, p in shapes) == 1500 * 1100
    assert max(n for n, _ in shapes) == 400
    assert max(p for _, p in shapes) == tiling(torch.device("cpu")).tile


def test_a_bandwidth_that_a_kernel_has_not_is_ignored_aloud(curve):
    X, Y = curve
    grid = {"kernel": ["laplacian", "relu_ntk"], "bandwidth": [1.0, 3.0]}
    with pytest.warns(UserWarning, match=r"bandwidth=3.0: kernel=relu_ntk has none; it is ignored"):
        search = GridSearchCV(KernelRegressor(), grid, cv=2).fit(X, Y[:, 0])
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert scores[1] == scores[3]


def test_random_state(curve):
    X, Y = curve

    def weights(random_state):
        machine = KernelRegressor(solver="eigenpro2", solver_params={"epochs": 1})
        return machine.set_params(random_state=random_state).fit(X, Y).model_.weights

    assert torch.equal(weights(1), weights(np.int64(1)))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(weights(np.random.RandomState(1)), weights(np.random.RandomState(1)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"kernel": "rbf"},
            "kernel=rbf: must be a Kernel, a function, precomputed, or one of arc_cosine,",
        ),
        ({"kernel": KERNELS["gaussian"]}, "must be a Kernel, a function, precomputed, or one of"),
        ({"kernel": FunctionKernel(dot_kernel, 1.0), "bandwidth": 1.0}, "must be None with a Ker"),
        ({"bandwidth": -1.0}, "bandwidth=-1.0: must be a number above 0, or median"),
        ({"bandwidth": 1.0, "kernel_params": {"bandwidth": 1.0}}, "None where kernel_params has"),
        ({"kernel_params": {"width": 1.0}}, "kernel_params: Laplacian has no width, but bandwid"),
        ({"kernel_params": 3}, "kernel_params=3: must be a dict of parameters by name, or None"),
        ({"solver": "adam"}, f"solver=adam: must be one of {', '.join(SOLVERS)}"),
        ({"solver_params": {"alpha": 1}}, "solver_params: Auto has no alpha, but epochs, stop, "),
        ({"solver_params": {"epochs": 0}}, "epochs=0: must be a whole number >= 1, or null"),
        ({"solver_params": {"stop": {"loss": 0}}}, "stop: StopRule has no loss, but train_error"),
        ({"solver_params": {"stop": 3}}, "stop=3: must be a dict"),
        ({"device": "tpu"}, "device=tpu: must be one of auto, "),
        ({"dtype": "float16"}, "dtype=float16: must be one of float64, float32"),
        (
            {"memory_gb": 1e-3},
            "^memory_gb=0.001: must be at least .*; take fewer points, a smaller",
        ),
        ({"random_state": "x"}, "'x' cannot be used to seed"),
    ],
)
def test_mistakes_in_parameters(curve, settings, message):
    X, Y = curve
    with pytest.raises(ValueError, match=message) as error:
        KernelRegressor(**settings).fit(X, Y)
    assert "\n" not in str(error.value)


def test_mistakes_in_data(curve):
    X, Y = curve
    with pytest.raises(ValueError, match="y has one class, a: there must be at least two"):
        KernelClassifier().fit(X, ["a"] * len(X))
    with pytest.raises(ValueError, match="y of <U.*: must be numbers; KernelClassifier takes"):
        KernelRegressor().fit(np.eye(4), np.array(["a", "b", "c", "d"]))
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        KernelClassifier().fit(X, Y[:, 0])
    machine = KernelRegressor(solver="cg", solver_params={"stop": StopRule(train_mse=1e-3)}).fit(
        X, Y
    )
    with pytest.raises(ValueError, match="X has 3 features, but KernelRegressor is expecting 4"):
        machine.predict(X[:, :3])
    with pytest.raises(ValueError, match="predict_batch_size=0: must be a whole number >= 1"):
        machine.set_params(predict_batch_size=0).predict(X)
    too_large = pytest.raises(ValueError, match="infinity or a value too large for dtype")
    with np.errstate(all="ignore"), too_large:
        KernelRegressor(dtype="float32").fit(X * 1e300, Y)


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_by_name(curve, kernel):
    X, Y = curve
    machine = KernelRegressor(kernel, solver="exact", solver_params={"ridge": 1e-4})
    assert machine.fit(X, Y).model_.kernel == KERNELS[kernel]()


def passes(model, X, y):
    """Training errors after one more epoch, and one more."""
    return [((model.fit(X, y).predict(X) - y) ** 2).mean() for _ in range(2)]


@pytest.mark.parametrize(
    "solver",
    [
        ("eigenpro2", {}),
        ("cg", {}),
        ("eigenpro4", {"n_centers": 100}),
        ("falkon", {"n_centers": 30}),
    ],
)
def test_a_warm_start_goes_on(curve, solver):
    X, y = curve
    name, params = solver
    settings = {"solver": name, "solver_params": {"epochs": 1, **params}, "random_state": 0}
    first, second = passes(KernelRegressor(warm_start=True, **settings), X, y)
    assert second < 0.9 * first
    first, second = passes(KernelRegressor(**settings), X, y)
    assert second == first


def test_a_warm_start_of_a_converged_solution_has_nothing_to_do(curve):
    X, y = curve
    settings = {"solver": "cg", "bandwidth": 1.0, "warm_start": True, "random_state": 0}
    model = KernelRegressor(**settings).fit(X, y)
    assert model.n_iter_ > 3
    before = model.predict(X)
    assert model.fit(X, y).n_iter_ == 1
    assert np.abs(model.predict(X) - before).max() < 1e-4


def test_a_warm_start_that_can_not_be_says_so(digits):
    X, y = digits[0][:200], digits[1][:200]
    settings = {"solver": "eigenpro2", "solver_params": {"epochs": 1}, "random_state": 0}
    model = KernelClassifier(warm_start=True, **settings).fit(X, y)
    for other, (X_2, y_2), changes in (
        ("centers", (X[:150], y[:150]), {}),
        ("kernel", (X[:150], y[:150]), {"bandwidth": 3.0}),
        ("classes", (X[:150], y[:150] + 1), {}),
    ):
        model.set_params(**changes)
        with pytest.warns(
            UserWarning, match=f"training starts anew; {other}: not as in the last fit"
        ):
            model.fit(X_2, y_2)
        fresh = KernelClassifier(**settings, **changes).fit(X_2, y_2)
        assert torch.equal(model.model_.weights, fresh.model_.weights)
        settings |= changes


@pytest.mark.parametrize("make", [KernelClassifier, KernelRegressor])
def test_a_fit_that_fails_leaves_everything_as_it_was(digits, make):
    X, y = digits[0][:200], digits[1][:200]
    settings = {"kernel": "gaussian", "bandwidth": 1.0, "random_state": 0}
    model = make(**settings, solver="exact").fit(X, y)
    before, state = model.predict(X), dict(vars(model))
    Y = np.stack([y, -y], 1) if make is KernelRegressor else np.where(y > 4, "b", "a")
    for changes, message in (
        ({"ridge": -1.0}, "ridge=-1.0: must"),
        ({"memory_gb": 1e-3}, "memory"),
    ):
        with pytest.raises(ValueError, match=message):
            model.set_params(**changes).fit(X[:, :9], Y)
        assert (model.predict(X) == before).all()
        model.set_params(ridge=None, memory_gb=None)
        assert vars(model) == state
    with pytest.raises(ValueError, match="ridge"):
        (new := make(ridge=-1.0)).fit(X, Y)
    assert vars(new) == vars(make(ridge=-1.0))  # not fitted


def test_a_fit_that_fails_keeps_the_choice_of_a_ridge(curve):
    X, Y = curve
    model = KernelRegressorCV(ridges=[1e-3, 1e-2]).fit(X, Y)
    before, ridge = model.predict(X), model.ridge_
    with pytest.raises(ValueError, match="by=none: must be"):
        model.set_params(by="none").fit(X, Y[:, 0])
    assert (model.predict(X) == before).all()
    assert model.ridge_ == ridge


def test_nothing_stays_that_a_fit_does_not_set(curve):
    X, Y = curve
    model = KernelRegressor(solver="ridge_path", random_state=0).fit(X, Y)
    assert model.ridge_
    model.set_params(solver="eigenpro2", validation_fraction=0.2, solver_params={"epochs": 2})
    assert len(model.fit(X, Y).validation_scores_) == 2
    assert not hasattr(model, "ridge_")
    assert not hasattr(model, "path_")
    model.set_params(validation_fraction=None).fit(X, Y)
    assert not hasattr(model, "validation_scores_")
    model.set_params(solver="exact", solver_params=None, ridge=[1e-3] * Y.shape[1]).fit(X, Y)
    assert vars(model).keys() == vars(KernelRegressor(solver="exact").fit(X, Y)).keys()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_ridge_for_each_target_with_centers_of_their_own(dtype):
    """falkon leaves out centers by what the ridge holds."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 3)).astype(dtype)
    Y = np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2], np.cos(X[:, 2])], 1).astype(dtype)
    settings = {"solver": "falkon", "solver_params": {"n_centers": 300, "epochs": 50}}
    settings |= {"bandwidth": 5.0, "random_state": 0}
    ridges = [1e-2, 1e-9, 1e-2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularMatrixWarning)
        model = KernelRegressor("gaussian", ridge=ridges, **settings).fit(X, Y)
        each = [
            KernelRegressor("gaussian", ridge=r, **settings).fit(X, Y[:, i])
            for i, r in enumerate(ridges)
        ]

    def outputs(one):
        """In float64: weights of the small ridge are so large that predictions in float32 round."""
        own = one.model_
        K = own.kernel(torch.tensor(X).double(), own.centers.double())
        return (K @ own.weights.double()).numpy()

    expected = np.concatenate([outputs(one) for one in each], 1)
    np.testing.assert_allclose(outputs(model), expected, atol=1e-3 if dtype == "float32" else 1e-6)
    sizes = [len(one.model_.centers) for one in each]
    assert max(sizes) <= len(model.model_.centers) <= sizes[0] + sizes[1]
    assert dtype == "float64" or sizes[0] != sizes[1]
