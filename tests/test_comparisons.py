"""What a run is compared with: the exact solution and the nearest neighbour."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from kernelexp import experiment
from kernelexp.data import SOURCES
from kernelexp.engine import KERNELS, SOLVERS, ResourceLimits


class Epochs:
    def __init__(self):
        self.seen = []

    def loaded(self):
        pass

    def prepared(self, setup):
        pass

    def epoch(self, number, metrics):
        self.seen.append(metrics)

    def finished(self, result):
        pass


def run(*compare, epochs=30, **changes):
    seen = Epochs()
    settings = {
        "dataset": SOURCES["digits"](n_train=300),
        "kernel": KERNELS["laplacian"](bandwidth=2.0),
        "solver": SOLVERS["eigenpro2"](epochs=epochs),
        "compare": compare,
        "noise": 0.1,
    }
    return experiment.run(experiment.Config(**{**settings, **changes}), [seen]), seen.seen


def test_eigenpro_comes_to_the_exact_solution():
    result, epochs = run("exact", dtype=torch.float64)
    errors = [metrics["epoch_prediction_error"] for metrics in epochs]
    assert errors[-1] < 1e-3 < errors[0] < 1
    exact, _ = run(solver=SOLVERS["exact"](), dtype=torch.float64)
    for metric in ("accuracy", "mse"):
        there = result.metrics[f"exact_test_{metric}"]
        assert there == pytest.approx(exact.metrics[f"test_{metric}"])
    model = exact.model.predict(exact.setup.dataset.test.X)
    ours = result.model.predict(result.setup.dataset.test.X)
    assert errors[-1] == pytest.approx(((ours - model).norm() / model.norm()).item(), rel=1e-3)


def test_nearest_neighbour_is_that_of_scikit_learn(monkeypatch):
    monkeypatch.setattr("kernelexp.comparisons._DISTANCES", 20_000)  # in many parts
    result, epochs = run("nearest_neighbour", epochs=1)
    train, test = result.setup.dataset.train, result.setup.dataset.test
    reference = KNeighborsClassifier(1).fit(train.X.numpy(), train.labels.numpy())
    accuracy = reference.score(test.X.numpy(), test.labels.numpy())
    assert result.metrics["nearest_neighbour_test_accuracy"] == pytest.approx(accuracy)
    assert "epoch_prediction_error" not in epochs[0]


def test_peers_are_scikit_learns(monkeypatch):
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.svm import SVC, SVR

    folds = KFold(3, shuffle=True, random_state=3)  # rows may be sorted by target
    costs = {"C": [1.0, 10.0, 100.0]}
    for name, measure, svm, boosting in (
        ("iris", "accuracy", SVC(), HistGradientBoostingClassifier(random_state=3)),
        ("diabetes", "r2", SVR(), HistGradientBoostingRegressor(random_state=3)),
    ):
        own = experiment.Config(
            dataset=SOURCES[name](), kernel=KERNELS["laplacian"](), solver=SOLVERS["exact"](ridge=1e-3),
            seed=3, dtype=torch.float64, compare=("svm", "boosting", "kernel_ridge"),
        )  # fmt: skip
        result = experiment.run(own)
        train, test = result.setup.dataset.train, result.setup.dataset.test
        y, y_test = (p.Y[:, 0] if p.labels is None else p.labels for p in (train, test))
        svm = GridSearchCV(svm, costs, cv=3 if measure == "accuracy" else folds)
        for peer, reference in (("svm", svm), ("boosting", boosting)):
            score = reference.fit(train.X.numpy(), y.numpy()).score(test.X.numpy(), y_test.numpy())
            assert result.metrics[f"{peer}_test_{measure}"] == pytest.approx(score)
        d = train.X.shape[1]
        grid = {"alpha": [1e-3, 1e-2, 1e-1, 1.0], "gamma": [0.1 / d, 0.3 / d, 1 / d]}
        ridge = GridSearchCV(KernelRidge(kernel="rbf"), grid, cv=folds).fit(
            train.X.numpy(), train.Y.numpy()
        )
        mse = np.mean((ridge.predict(test.X.numpy()) - test.Y.numpy()) ** 2)
        assert result.metrics["kernel_ridge_test_mse"] == pytest.approx(mse)


def test_boosting_with_any_seed():
    """scikit-learn takes none from 2^32 on."""
    found, _ = run("boosting", epochs=1, seed=2**40 + 1)
    assert found.metrics["boosting_test_accuracy"] > 0.5


def test_what_does_not_fit_is_refused_by_name():
    limits = ResourceLimits(memory_gb=1e-3)
    with pytest.raises(ValueError, match=r"compare=\[exact\]: .*must be at least .* leave"):
        run("exact", resource=limits)


def test_the_exact_solution_is_exact_in_a_run_of_low_precision():
    dataset = SOURCES["synthetic1"](n_train=200, n_test=100)  # digits are exact in bfloat16
    mse = [
        run("exact", epochs=1, dataset=dataset, precision=p)[0].metrics["exact_test_mse"]
        for p in ("auto", "bf16")
    ]
    assert mse[1] == pytest.approx(mse[0], rel=1e-6)


def test_the_nearest_neighbour_is_found_far_from_the_origin(tmp_path):
    rng = np.random.default_rng(0)
    x = (3000 + rng.normal(size=(300, 5))).astype(np.float32)
    y = rng.random(300)
    path = tmp_path / "far.npz"
    np.savez(path, x_train=x[:250], y_train=y[:250], x_test=x[250:], y_test=y[250:])
    dataset = SOURCES["npz"](path=str(path), scale="none")
    result, _ = run("nearest_neighbour", epochs=1, dataset=dataset, noise=0.0)
    reference = KNeighborsRegressor(1).fit(x[:250].astype(float), y[:250])
    r2 = reference.score(x[250:].astype(float), y[250:])
    assert result.metrics["nearest_neighbour_test_r2"] == pytest.approx(r2, abs=1e-4)


@pytest.mark.parametrize("ridge", [0.0, 1e-2])
def test_the_learning_curve_meets_the_error(ridge):
    result, _ = run(
        "learning_curve",
        dataset=SOURCES["digits"](n_train=60),
        solver=SOLVERS["exact"](ridge=ridge),
        noise=0.0,
    )
    metrics = result.metrics
    assert metrics["predicted_test_mse"] == pytest.approx(metrics["test_mse"], rel=0.1)


def test_the_learning_curve_warns_of_few_test_points():
    few = {"noise": 0.0, "solver": SOLVERS["exact"](ridge=1.0)}
    with pytest.warns(UserWarning, match="99 test points for 50 training points; below 2 times"):
        run("learning_curve", dataset=SOURCES["digits"](n_train=50, n_test=99), **few)


@pytest.mark.filterwarnings("ignore:compare=.learning_curve")
def test_the_learning_curve_needs_points_and_no_noise():
    with pytest.raises(
        ValueError, match=r"compare=\[learning_curve\]: n=300: must be below the 20 "
    ):
        run("learning_curve", dataset=SOURCES["digits"](n_train=300, n_test=20), noise=0.0,
            solver=SOLVERS["exact"](ridge=1.0))  # fmt: skip
    with pytest.raises(ValueError, match=r"noise=0.1: must be 0 with compare=\[learning_curve\]"):
        run("learning_curve")
    for solver in ("ridge_path", "rfm"):
        with pytest.raises(ValueError, match=f"solver={solver}: must be one with a ridge, on all"):
            run("learning_curve", noise=0.0, solver=SOLVERS[solver]())
    with pytest.raises(ValueError, match="solver=exact: must be one with a ridge, on all points"):
        run("learning_curve", noise=0.0, solver=SOLVERS["exact"](n_centers=50))
    for solver in (SOLVERS["falkon"](ridge=1e-3), SOLVERS["exact"](ridge=1e-3, centers="random")):
        with pytest.raises(ValueError, match="must be one with a ridge, on all points"):
            run("learning_curve", noise=0.0, solver=solver)
