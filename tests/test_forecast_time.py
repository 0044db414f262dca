"""How long a run would take: counted work at given rates; how right that is at real ones is measured in ``benchmarks``."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kernelexp.console import _duration
from kernelexp.data import SOURCES
from kernelexp.engine import KERNELS, SOLVERS, ResourceLimits, StopRule, rates
from kernelexp.engine.solvers.work import cost
from kernelexp.epochs_before import Before
from kernelexp.experiment import Config
from kernelexp.forecast import planned
from kernelexp.forecast_time import Stopwatch

LAPLACIAN = KERNELS["laplacian"](bandwidth=10.0)


@pytest.fixture
def one_a_second(monkeypatch):
    """A machine that takes a second for each entry, and no time for anything else."""
    asked = []

    def measure(kernel, numbers):
        asked.append(numbers)
        return rates.Rates(entry=1.0, store=0.0, operation=0.0, read=0.0, step=0.0)

    monkeypatch.setattr(rates, "measure", measure)
    return asked


def config(solver="exact", n=1000, n_test=100, data="mnist", **settings):
    solver = SOLVERS[solver](**settings) if isinstance(solver, str) else solver
    return Config(SOURCES[data](n_train=n, n_test=n_test), LAPLACIAN, solver)


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_every_solver_is_counted_and_more_points_cost_more(name):
    def work(n):
        c = config(name, n)
        counted = cost(*planned(c, c.dataset.shape()))
        assert counted is not None
        return [*counted.setup, *counted.epoch]

    few, many = work(1000), work(4000)
    entries, operations = (
        [sum(getattr(work, of) for work in each) for each in (few, many)]
        for of in ("entries", "operations")
    )
    assert 0 < entries[0] < entries[1]
    assert 0 < operations[0] <= operations[1]
    assert all(
        value >= 0 for w in few for value in (w.entries, w.stored, w.operations, w.read, w.steps)
    )


def test_exact_evaluates_half_of_k_and_the_test_points(one_a_second):
    found = Stopwatch().of(config("exact", precision="float64"))
    assert found.known
    assert found.total == pytest.approx(1 + 1000**2 / 2 + 100 * 1000)
    assert {numbers.dtype for numbers in one_a_second} == {torch.float64, torch.float32}


def test_rows_that_are_not_kept_are_evaluated_each_epoch(one_a_second):
    kept = config("cg", epochs=7, subsample_size=100)
    none = replace(kept, resource=ResourceLimits(cache_gb=0.0))
    difference = Stopwatch().of(none).total - Stopwatch().of(kept).total
    # The half beside the diagonal gives the other, in each epoch as once.
    assert difference == pytest.approx((7 - 1) * 1000**2 / 2)


def test_gradients_are_averaged_over_the_points_there_are(one_a_second):
    few, all_points, more = (
        Stopwatch().of(config("rfm", n=300, epochs=2, agop_points=points)).total
        for points in (100, None, 10_000)
    )
    assert all_points == more
    assert all_points - few == pytest.approx(2 * 200 * 300)


def test_a_machine_is_measured_once(one_a_second):
    stopwatch = Stopwatch()
    for n in (500, 1000, 2000):
        stopwatch.of(config("eigenpro2", n))
    assert len(one_a_second) == 1


def test_epochs_of_a_stop_rule_are_those_of_runs_before(one_a_second):
    stop = StopRule(train_error=0.0)
    stopped = config("cg", stop=stop, subsample_size=100)
    stopped = replace(stopped, resource=ResourceLimits(cache_gb=0.0))
    key = ("laplacian", "cg", "0.0", "mnist", "None", "None", "None")
    before = Before({key: [(500, 2.0), (900, 20.0), (900, 30.0)]})
    unknown, known = Stopwatch().of(stopped), Stopwatch(before).of(stopped)
    assert not unknown.known
    assert not known.known
    assert (known.total - unknown.total) == pytest.approx((25 - 50) * 1000**2 / 2)
    at_most = replace(stopped, solver=replace(stopped.solver, epochs=10))
    assert known.total - Stopwatch(before).of(at_most).total == pytest.approx(15 * 1000**2 / 2)


def test_a_tolerance_decides_too_and_comparisons_count(one_a_second):
    assert not Stopwatch().of(config("falkon", n_centers=100)).known
    plain = config("eigenpro2", n=400)
    exact = replace(plain, compare=("exact",))
    curve = replace(plain, compare=("learning_curve",))
    others = replace(plain, compare=("nearest_neighbour",))
    total, more, most = (Stopwatch().of(each) for each in (plain, exact, curve))
    assert all(each.known for each in (total, more, most))
    assert more.total - total.total == pytest.approx(400**2 / 2)
    assert most.total - total.total == pytest.approx(100**2)
    assert not Stopwatch().of(others).known
    folds, compared = (Stopwatch().of(replace(each, cv=5)).total for each in (plain, exact))
    assert compared - folds == pytest.approx(400**2 / 2)  # of the run itself alone


def test_runs_before_are_read_from_the_store(cli, client, workdir):
    cli("dataset=synthetic1", "dataset.n_train=100", "dataset.n_test=20", "solver.epochs=3")
    number = client.get_experiment_by_name("kernelexp").experiment_id
    before = Before.of(client, number)
    asked = Config(SOURCES["synthetic1"](n_train=400), LAPLACIAN, SOLVERS["eigenpro2"]())
    assert before(asked, 400) == 3
    assert before(replace(asked, noise=0.5), 400) is None
    columns = {
        "x_train": np.eye(4),
        "y_train": np.arange(4) % 2,
        "x_test": np.eye(4),
        "y_test": np.arange(4) % 2,
    }
    np.savez("a.npz", **columns)
    np.savez("b.npz", **columns)
    cli("dataset=npz", "dataset.path=a.npz", "solver.epochs=3")
    before = Before.of(client, number)
    of_files = (replace(asked, dataset=SOURCES["npz"](path=f"{name}.npz")) for name in "ab")
    assert [before(one, 4) for one in of_files] == [3, None]


def test_sizes_that_are_not_known_have_no_forecast():
    source = SOURCES["openml"](id=1)
    assert Stopwatch().of(Config(source, LAPLACIAN, SOLVERS["exact"]())) is None


def test_rates_are_positive():
    found = rates.measure(
        LAPLACIAN, rates.Numbers(5, 2, False, torch.float64, "ieee", torch.device("cpu"))
    )
    assert min(found.entry, found.store, found.operation, found.read, found.step) > 0


def test_images_as_they_are_have_the_rates_of_bytes_and_nothing_else_has(one_a_second):
    for data in ("mnist", "digits", "synthetic1"):
        Stopwatch().of(config(data=data))
    Stopwatch().of(Config(SOURCES["mnist"](scale="standard"), LAPLACIAN, SOLVERS["sgd"]()))
    float32 = [each.in_bytes for each in one_a_second if each.dtype == torch.float32]
    assert float32 == [True, True, False, False]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (99, "99 s"), (101, "2 min"), (6000, "1.7 h")]
)
def test_durations(seconds, said):
    assert _duration(seconds) == said
