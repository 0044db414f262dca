"""One run without command line or store."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsRegressor

from kernelexp import experiment, serving
from kernelexp.data import SOURCES
from kernelexp.data.cache import cache_dir
from kernelexp.data.preprocessing import Preprocessing
from kernelexp.engine import KERNELS, SOLVERS, KernelModel, StopRule
from kernelexp.experiment import block_size


def config(**changes):
    settings = {
        "dataset": SOURCES["digits"](n_train=300),
        "kernel": KERNELS["laplacian"](bandwidth=2.0),
        "solver": SOLVERS["eigenpro2"](epochs=2),
    }
    return experiment.Config(**{**settings, **changes})


class Seen:
    def __init__(self):
        self.calls = []

    def loaded(self):
        self.calls.append("loaded")

    def prepared(self, setup):
        self.calls.append("prepared")

    def epoch(self, number, metrics):
        self.calls.append(number)

    def finished(self, result):
        self.calls.append("finished")


def test_observers_are_told_in_order():
    seen = Seen()
    result = experiment.run(config(), [seen])
    assert seen.calls == ["loaded", "prepared", 1, 2, "finished"]
    assert result.stopped_by == "epochs"
    assert result.metrics["rkhs_norm"] == pytest.approx(result.norm.per_output.norm().item())


@pytest.mark.parametrize("name", ["cg", "askotch"])
@pytest.mark.parametrize("asked", [{"epochs": 1}, {"stop": StopRule(train_mse=1.0)}])
def test_a_system_that_is_not_solved_is_said_whatever_ended_it(name, asked):
    result = experiment.run(config(solver=SOLVERS[name](**asked)))
    assert result.norm.lower_bound
    left = result.metrics["relative_residual"]
    assert result.warning.startswith(f"the system is not solved: a relative residual of {left:.2g}")
    solved = experiment.run(config(solver=SOLVERS[name](epochs=500)))
    assert solved.stopped_by == "tolerance"
    assert solved.warning is None
    assert not solved.norm.lower_bound


def test_what_is_reported_is_what_the_model_does():
    result = experiment.run(config(dtype=torch.float64, noise=0.3))
    data = result.setup.dataset
    for part, split in (("train", data.train), ("test", data.test)):
        outputs = result.model.predict(split.X)
        right = (outputs.argmax(1) == split.labels).double().mean().item()
        assert result.metrics[f"{part}_accuracy"] == pytest.approx(right)
        mse = (outputs - split.Y).square().mean().item()
        assert result.metrics[f"{part}_mse"] == pytest.approx(mse)
    assert result.metrics["rkhs_norm"] == pytest.approx(result.model.rkhs_norm().value)


def test_noise_raises_the_norm():
    """Belkin, Ma, Mandal 2018, figure 4a, interpolated: more noise, larger norm."""
    solver = SOLVERS["eigenpro2"](stop=StopRule(train_mse=1e-6))
    norms = [
        experiment.run(config(solver=solver, noise=noise)).metrics["rkhs_norm"]
        for noise in (0.0, 0.05, 0.1, 0.5)
    ]
    assert norms == sorted(norms)
    assert norms[-1] > 1.5 * norms[0]


def test_a_file_of_block_sizes_that_was_cut_is_written_anew(monkeypatch):
    monkeypatch.setattr(block_size, "measure_block_size", lambda *_: 64)
    file = cache_dir() / "block_sizes.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("")
    assert experiment.run(config()).setup.derived["block_size"] == 64
    assert set(json.loads(file.read_text()).values()) == {64}
    file.unlink()


def test_block_size_is_measured_once(monkeypatch):
    monkeypatch.setattr(block_size, "measure_block_size", lambda *_: 64)
    (cache_dir() / "block_sizes.json").unlink(missing_ok=True)
    first = experiment.run(config())
    assert first.setup.derived["block_size"] == 64
    assert list(json.loads((cache_dir() / "block_sizes.json").read_text()).values()) == [64]
    monkeypatch.setattr(block_size, "measure_block_size", lambda *_: 1 / 0)
    again = experiment.run(config())
    assert torch.equal(again.model.weights, first.model.weights)
    (cache_dir() / "block_sizes.json").unlink()


def test_median_bandwidth_is_put_in():
    result = experiment.run(config(kernel=KERNELS["gaussian"](bandwidth="median")))
    assert 1 < result.setup.kernel.bandwidth < 5


def test_synthetic_single_output():
    result = experiment.run(
        config(
            dataset=SOURCES["synthetic1"](n_train=400, n_test=400),
            kernel=KERNELS["gaussian"](bandwidth=50**0.5),
        )
    )
    assert len(result.norm.per_output) == 1
    assert result.metrics["test_accuracy"] > 0.95


def table(folder, y_train, y_test):
    x = np.random.default_rng(0).random((len(y_train), 3))
    path = folder / "table.npz"
    np.savez(path, x_train=x, y_train=y_train, x_test=x[: len(y_test)], y_test=y_test)
    return SOURCES["npz"](path=str(path))


def test_a_constant_target_has_an_r2(tmp_path):
    """As in scikit-learn: 1 if it is met, else 0."""
    data = table(tmp_path, np.linspace(0, 1, 40), np.full(5, 0.3))
    metrics = experiment.run(config(dataset=data, compare=("nearest_neighbour",))).metrics
    assert metrics["test_r2"] == 0
    assert metrics["nearest_neighbour_test_r2"] == 0
    data = table(tmp_path, np.zeros(40), np.zeros(5))
    metrics = experiment.run(config(dataset=data)).metrics
    assert metrics["train_r2"] == metrics["test_r2"] == 1


def test_r2_of_several_targets_is_the_mean_over_them(tmp_path):
    """As in scikit-learn: the unit of one does not hide the others."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 3))
    y = np.stack([x[:, 0] * x[:, 1], 1e3 * x[:, 2]], axis=1)
    path = tmp_path / "two.npz"
    np.savez(path, x_train=x[:100], y_train=y[:100], x_test=x[100:], y_test=y[100:])
    own = config(
        dataset=SOURCES["npz"](path=str(path), scale="none"),
        solver=SOLVERS["ridge_path"](),
        dtype=torch.float64,
        validation=0.2,
        compare=("nearest_neighbour",),
    )
    result = experiment.run(own)
    train, test = result.setup.dataset.train, result.setup.dataset.test
    for part, points in (("train", train), ("valid", result.setup.dataset.valid), ("test", test)):
        r2 = r2_score(points.Y, result.model.predict(points.X))
        assert result.metrics[f"{part}_r2"] == pytest.approx(r2)
    peer = KNeighborsRegressor(1).fit(train.X, train.Y)
    r2 = r2_score(test.Y, peer.predict(test.X))
    assert result.metrics["nearest_neighbour_test_r2"] == pytest.approx(r2)
    K, n = own.kernel(train.X, train.X).numpy(), len(train.X)
    hat = K @ np.linalg.inv(K + n * result.metrics["ridge"] * np.eye(n))
    left = (train.Y - hat @ train.Y.numpy()) / (1 - hat.diagonal())[:, None]
    assert result.metrics["loo_r2"] == pytest.approx(r2_score(train.Y, train.Y - left))


def test_regression_has_no_training_error_to_stop_at(tmp_path):
    data = table(tmp_path, np.linspace(0, 1, 40), np.linspace(0, 1, 5))
    solver = SOLVERS["eigenpro2"](stop=StopRule(train_error=0))
    with pytest.raises(
        ValueError, match=r"^solver.stop.train_error=0: must be null for regression"
    ):
        experiment.run(config(dataset=data, solver=solver))


def test_a_preset_for_many_points_works_on_few():
    for n in (90, 12):
        solver = SOLVERS["eigenpro2"](epochs=1, q=20, batch_size=256)
        derived = experiment.run(
            config(dataset=SOURCES["digits"](n_train=n), solver=solver)
        ).setup.derived
        assert derived["batch_size"] == n
        assert derived["q"] == min(20, n - 1)
    solver = SOLVERS["eigenpro4"](epochs=1, batch_size=256, n_centers=10)
    experiment.run(config(dataset=SOURCES["digits"](n_train=90), solver=solver))


def test_a_served_model_returns_the_labels_as_they_came(tmp_path):
    y = np.array([5, 7, 2_000_000_000] * 20)
    data = table(tmp_path, y, y[:6])
    result = experiment.run(config(dataset=data, solver=SOLVERS["exact"](), dtype=torch.float64))
    assert result.metrics["train_accuracy"] == 1
    assert len(result.norm.per_output) == 3
    dataset = result.setup.dataset
    serving.save_files(tmp_path, result.model, dataset.preprocessing, dataset.classes)
    predictor = serving.KernelPredictor(tmp_path)
    x = np.load(tmp_path / "table.npz")["x_train"]
    assert predictor.predict(x).tolist() == y.tolist()
    assert predictor.predict(x, {"outputs": True}).shape == (60, 3)
    for wrong, message in (
        (x[:0], r"inputs: shape \(0, 3\), float64; must be numbers \(m, 3\), with m at least 1"),
        (x[:, :2], r"inputs: shape \(60, 2\), float64; must be numbers \(m, 3\), with"),
        (x[0], r"inputs: shape \(3,\), float64; must be"),
        (np.array([["a", "b", "c"]]), r"inputs: shape \(1, 3\), <U1; must be numbers"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            predictor.predict(wrong)
    for wrong, message in (
        (np.nan, "inputs: has NaN or infinite numbers; remove or replace them"),
        (-np.inf, "inputs: has NaN or infinite numbers"),
        (1e200, "inputs: numbers from .* to 1e.200, squares of which overflow in float64"),
    ):
        for params in (None, {"outputs": True}):
            with pytest.raises(ValueError, match=f"^{message}"):
                predictor.predict(
                    np.vstack([x.astype(float), np.full_like(x[:1], wrong, float)]), params
                )


def test_a_served_model_returns_one_target_as_it_came_and_several_by_columns(tmp_path):
    x = np.random.default_rng(0).normal(size=(30, 2))
    for c, shape in ((1, (30,)), (2, (30, 2))):
        model = KernelModel(KERNELS["gaussian"](), torch.zeros(4, 2), torch.ones(4, c))
        serving.save_files(tmp_path, model, Preprocessing.fit(x, "none"), None)
        predictor = serving.KernelPredictor(tmp_path)
        assert predictor.predict(x).shape == shape
        assert predictor.outputs(x).shape == (30, c)


def test_a_served_model_of_images_takes_them_as_they_are_or_flat(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (30, 2, 4, 3), dtype=np.uint8)
    model = KernelModel(KERNELS["gaussian"](), torch.zeros(2, 24), torch.ones(2, 3))
    classes = np.array([3, 4, 5])
    serving.save_files(tmp_path, model, Preprocessing.fit(x, "unit"), classes)
    predictor = serving.KernelPredictor(tmp_path)
    outputs = predictor.outputs(x)
    assert torch.equal(predictor.outputs(x.reshape(30, 24)), outputs)
    for wrong in (x.reshape(30, 4, 2, 3), x.transpose(0, 3, 1, 2), x[:, :1], x[..., 0]):
        said = (
            r"^new.npy: shape \(30, .*, uint8; must be numbers \(m, 2, 4, 3\), or flat, \(m, 24\)"
        )
        with pytest.raises(ValueError, match=said):
            predictor.outputs(wrong, "new.npy")
