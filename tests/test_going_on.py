"""A training taken up from any of its checkpoints has the digits of one that was never killed."""

import pytest
import torch

from kernelexp import experiment
from kernelexp.checkpoint import CheckpointConfig, Run, checkpoints
from kernelexp.checkpoint import file as checkpoint_file
from kernelexp.data import SOURCES
from kernelexp.engine import KERNELS, SOLVERS, Plan, Problem, ResourceLimits, Saved, prepare

N = 300
SETTINGS = {
    "sgd": {"batch_size": 20},
    "eigenpro1": {"q": 20, "batch_size": 20},
    "eigenpro2": {"batch_size": 20},
    "eigenpro3": {"n_centers": 80, "batch_size": 40},
    "eigenpro3 inexact": {"n_centers": 80, "batch_size": 40, "projection": "inexact"},
    "eigenpro4": {"n_centers": 80, "batch_size": 40},
    "eigenpro4 inexact": {"n_centers": 80, "batch_size": 40, "projection": "inexact"},
    "eigenpro4 means": {"n_centers": 80, "batch_size": 40, "centers": "kmeans"},
    "falkon": {"n_centers": 80, "ridge": 1e-4},
    "cg": {},
    "askotch": {"block_size": 60},
    "cg nystrom": {"preconditioner": "nystrom", "ridge": 1e-4},
    "cg rpcholesky": {"preconditioner": "rpcholesky", "ridge": 1e-4},
    "auto": {"n_centers": 80, "ridge": 1e-4},
    "exact": {},
    "ridge_path": {"ridges": [1e-6, 1e-2]},
    "rfm": {"agop_points": 50},
    "rfm auto": {"inner": {"name": "auto", "n_centers": 80, "ridge": 1e-4}},
    "rfm eigenpro2": {"inner": {"name": "eigenpro2", "epochs": 2}, "diagonal": True},
    "rfm cg": {"inner": "cg", "agop_power": 0.5, "centred": True},
}
# Which have one epoch.
DIRECT = {"exact", "ridge_path"}


def problem_of(dtype, **changes):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(N, 5, generator=generator)
    labels = (X.sum(1) > 0).long() + (X[:, 0] > 1).long()
    Y = torch.nn.functional.one_hot(labels, 3)
    settings = {"seed": 3, "block_size": 64, "limits": ResourceLimits(cache_gb=1e-4), **changes}
    return Problem(
        KERNELS["laplacian"](bandwidth=4.0), X.to(dtype), Y.to(dtype), labels, **settings
    )


def without_times(records):
    return [(r.epoch, r.train_mse, r.train_error, r.rkhs_norm) for r in records]


def solver_of(name, epochs=3, **more):
    length = {} if name in DIRECT else {"epochs": epochs}
    return SOLVERS[name.split()[0]](**length, **SETTINGS[name], **more)


def with_checkpoints(training, folder):
    """Run to the end, with a file after each round."""
    paths = []

    def after_round():
        saved = training.saved()
        paths.append(folder / str(len(paths)))
        checkpoint_file.write(paths[-1], saved.tensors, saved.numbers)

    records = list(training.run(after_round))
    return records, paths


def taken_up(solver, problem, path):
    tensors, numbers = checkpoint_file.read(path)
    training = prepare(solver, problem, Plan.from_dict(numbers["plan"]))
    training.restore(Saved(tensors, numbers))
    return training


def test_every_solver_is_tried():
    assert {name.split()[0] for name in SETTINGS} == set(SOLVERS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "auto"])
def test_from_every_round(tmp_path, name, dtype):
    solver, problem = solver_of(name), problem_of(dtype)
    whole = prepare(solver, problem)
    records, paths = with_checkpoints(whole, tmp_path)
    assert len(paths) >= len(records)
    if name in ("sgd", "eigenpro1", "eigenpro2", "eigenpro3", "eigenpro4"):
        assert len(paths) > len(records)  # also within epochs
    plain = prepare(solver, problem)
    assert without_times(plain.run()) == without_times(records)  # saving changes nothing
    assert torch.equal(plain.model().weights, whole.model().weights)
    for path in paths:
        again = taken_up(solver, problem_of(dtype), path)
        for _ in again.run():
            pass
        assert without_times(again.records) == without_times(records), path
        assert torch.equal(again.model().weights, whole.model().weights), path
        assert torch.equal(again.training_outputs(), whole.training_outputs()), path
        assert again.stopped_by == whole.stopped_by
        assert again.rkhs_norm().value == whole.rkhs_norm().value


@pytest.mark.parametrize(
    "name", ["eigenpro2", "eigenpro4", "falkon", "cg", "cg rpcholesky", "rfm", "rfm cg"]
)
def test_more_epochs_are_those_of_one_longer_run(tmp_path, name):
    problem = problem_of(torch.float32)
    shorter, longer = solver_of(name, 2), solver_of(name, 5)
    training = prepare(shorter, problem)
    list(training.run())
    saved = training.saved()
    checkpoint_file.write(tmp_path / "a", saved.tensors, saved.numbers)
    again = taken_up(longer, problem, tmp_path / "a")
    assert [record.epoch for record in again.run()] == [3, 4, 5]
    whole = prepare(longer, problem)
    assert without_times(whole.run()) == without_times(again.records)
    assert torch.equal(again.model().weights, whole.model().weights)


def test_the_plan_is_followed_whatever_memory_there_is(tmp_path):
    """Fewer rows would be kept now, and another solver be picked."""
    solver = SOLVERS["auto"](epochs=3, n_centers=80, ridge=1e-4)
    training = prepare(solver, problem_of(torch.float32))
    records, paths = with_checkpoints(training, tmp_path)
    less = problem_of(torch.float32, block_size=16, limits=ResourceLimits(cache_gb=0))
    again = taken_up(solver, less, paths[0])
    assert again.solver == training.solver
    assert again.plan == training.plan
    list(again.run())
    assert without_times(again.records) == without_times(records)


def test_seconds_add_up(tmp_path):
    """Of the epoch under way too."""
    solver, problem = solver_of("eigenpro2"), problem_of(torch.float32)
    training = prepare(solver, problem)
    _, paths = with_checkpoints(training, tmp_path)
    for path in paths:
        _, numbers = checkpoint_file.read(path)
        again = taken_up(solver, problem, path)
        done = sum(record["seconds"] for record in numbers["records"])
        assert again.seconds == done
        new = list(again.run())
        assert again.seconds == pytest.approx(done + sum(record.seconds for record in new))
        if new:
            assert new[0].seconds > numbers["iterate"]["seconds"]


def test_what_is_saved_of_another_solver_is_refused(tmp_path):
    problem = problem_of(torch.float32)
    training = prepare(solver_of("sgd"), problem)
    _, paths = with_checkpoints(training, tmp_path)
    with pytest.raises(ValueError, match="solver=falkon: the plan to go on with is of sgd"):
        taken_up(solver_of("falkon"), problem, paths[0])


class Killed(BaseException):
    pass


class Watcher:
    """An observer that notes epochs, and is killed when it is told of the ``last`` that is new."""

    def __init__(self, before=0, last=None):
        self.epochs, self.before, self.last = [], before, last

    def loaded(self):
        pass

    def prepared(self, setup):
        self.start = setup.start

    def epoch(self, number, metrics):
        digits = {name: value for name, value in metrics.items() if name != "epoch_seconds"}
        self.epochs.append((number, digits))
        if self.last is not None and len(self.epochs) == self.before + self.last:
            raise Killed

    def finished(self, result):
        self.result = result


def run_of(solver, dtype):
    return experiment.Config(
        dataset=SOURCES["digits"](n_train=300, n_test=100),
        kernel=KERNELS["laplacian"](bandwidth=2.0),
        solver=solver,
        dtype=dtype,
    )


def killed_again_and_again(config, folder, last):
    """The watcher of the run that ended, where each was killed at its ``last``-th new epoch."""
    settings = CheckpointConfig(minutes=0, folder=str(folder))
    run = Run("c", "f", "", lambda: None, config.solver, config.dtype, config.device)
    kills = 0
    while True:
        try:
            with checkpoints(settings, run, resume=True) as own:
                watcher = Watcher(len(own.epochs), last)
                experiment.run(config, [watcher], own)
                assert kills == own.resumed
                return watcher
        except Killed:
            kills += 1
            assert kills < 60  # one that comes no further would go on for ever


# Each step is too long for the training, which starts again with half of it, three epochs on.
TOO_LONG = type("EigenPro2", (SOLVERS["eigenpro2"],), {"relaxation": 3.3})(
    epochs=6, batch_size=20, q=20
)


@pytest.mark.parametrize("last", [2, 3])
@pytest.mark.parametrize("solver", [SOLVERS["eigenpro2"](epochs=5), SOLVERS["cg"](), TOO_LONG])
@pytest.mark.filterwarnings("ignore:training diverged", "ignore:.*the checkpoint was made by")
def test_a_run_killed_before_its_epoch_is_known(tmp_path, solver, last):
    """Saved after its last round, killed before its checkpoints hear of the epoch: nothing is left out."""
    config, whole = run_of(solver, torch.float64), Watcher()
    reference = experiment.run(config, [whole])
    found = killed_again_and_again(config, tmp_path, last)
    told = dict(found.epochs)
    assert told == dict(whole.epochs)
    assert sorted(told) == list(range(1, len(told) + 1))
    assert torch.equal(found.result.model.weights, reference.model.weights)
    assert found.result.stopped_by == reference.stopped_by
    assert found.start.epochs > 0
    if solver is TOO_LONG:
        assert len(whole.epochs) > len(told)
