"""Points held out of the training set: by them, never by test points, something is chosen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_going_on import Watcher, killed_again_and_again

from kernelexp import experiment
from kernelexp.checkpoint import CheckpointConfig, checkpoints
from kernelexp.checkpoint.search import Run
from kernelexp.console import Terminal
from kernelexp.data import SOURCES, load
from kernelexp.data.held_out import Fold, held_out
from kernelexp.engine import KERNELS, SOLVERS, StopRule
from kernelexp.loading import find
from kernelexp.report.making import _best
from kernelexp.sweep_outcome import SweepOutcome

DIGITS = SOURCES["digits"](n_train=300, n_test=100)


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("wanted", [0.1, 0.37, 1, 17, 98])
@pytest.mark.parametrize("n", [100, 101])
def test_each_class_gives_its_share(wanted, n):
    labels = rng().choice(4, n, p=[0.6, 0.3, 0.08, 0.02])
    held = held_out(wanted, n, rng(), labels=labels)
    count = round(wanted * n) if wanted < 1 else wanted
    assert held.sum() == count
    shares = np.bincount(labels, minlength=4) * count / n
    assert abs(np.bincount(labels[held], minlength=4) - shares).max() <= 1


def test_folds_are_a_partition_with_each_class_spread():
    labels = rng().choice(3, 103, p=[0.7, 0.2, 0.1])
    folds = [held_out(Fold(i, 5), 103, rng(), labels=labels) for i in range(5)]
    assert (np.sum(folds, axis=0) == 1).all()
    counts = np.array([np.bincount(labels[fold], minlength=3) for fold in folds])
    assert (counts.max(0) - counts.min(0)).max() <= 1


def test_groups_are_held_out_as_wholes():
    groups = rng().choice(20, 200)
    held = held_out(0.2, 200, rng(), groups=groups)
    assert 40 <= held.sum() < 80
    assert not set(groups[held]) & set(groups[~held])
    folds = [held_out(Fold(i, 4), 200, rng(), groups=groups) for i in range(4)]
    assert (np.sum(folds, axis=0) == 1).all()
    assert all(not set(groups[f]) & set(groups[~f]) for f in folds)


@pytest.mark.parametrize("wanted", [0.05, 0.3, 1, 150])
def test_groups_are_drawn_in_an_order_until_there_are_enough_points(wanted):
    for seed in range(20):
        groups = np.random.default_rng(seed).choice([3, 5, 7, 11, 40], 200, p=[0.5, 0.2, 0.2, 0.05, 0.05])  # fmt: skip
        drawn, count = [], round(wanted * 200) if wanted < 1 else wanted
        for group in np.random.default_rng(seed).permutation(np.unique(groups)):
            drawn.append(group)
            if np.isin(groups, drawn).sum() >= count:
                break
        if len(drawn) < 5:
            held = held_out(wanted, 200, np.random.default_rng(seed), groups=groups)
            assert (held == np.isin(groups, drawn)).all()


def test_what_a_seed_holds_out_of_groups_stays_the_same():
    groups = np.arange(400) * 7 % 60
    held = held_out(0.1, 400, rng(), groups=groups)
    assert np.unique(groups[held]).tolist() == [8, 16, 20, 27, 34, 42]


def test_counting_the_points_of_groups_does_not_compare_all_with_each():
    compared = []

    class Counted(np.ndarray):
        def __eq__(self, other):
            compared.append(1)
            return np.asarray(self) == other

    groups = np.arange(1000).repeat(2).view(Counted)
    assert held_out(0.1, 2000, rng(), groups=groups).sum() == 200
    assert len(compared) < 10  # it was once for each of the groups


def test_the_latest_are_held_out():
    times = rng().permutation(50)
    assert set(times[held_out(10, 50, rng(), times=times)]) == set(range(40, 50))
    with pytest.raises(ValueError, match="cv=5: must be null with times"):
        held_out(Fold(0, 5), 50, rng(), times=times)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (99, "validation=99: must be at most 98 of 100 points"),
        (Fold(0, 101), "cv=101: must be at most"),
    ],
)
def test_more_than_there_is_is_refused(wanted, message):
    with pytest.raises(ValueError, match=message):
        held_out(wanted, 100, rng())


def test_held_out_points_are_training_points_and_nothing_is_fitted_to_them():
    whole = load(DIGITS, Path(), seed=3, noise=0.2)
    data = load(replace(DIGITS, scale="standard"), Path(), seed=3, noise=0.2, validation=0.2)
    assert (len(data.train.X), len(data.valid.X), len(data.test.X)) == (240, 60, 100)
    # Of the training points alone, all pixels together.
    assert data.train.X.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert data.train.X.mean().item() == pytest.approx(0, abs=1e-5)
    assert abs(data.valid.X.mean().item()) > 1e-4
    parts = load(DIGITS, Path(), seed=3, noise=0.2, validation=0.2)
    both = torch.cat([parts.train.X, parts.valid.X])
    assert torch.equal(both.unique(dim=0), whole.train.X.unique(dim=0))
    assert torch.equal(parts.test.X, whole.test.X)
    counts = sum(part.labels.bincount(minlength=10) for part in (parts.train, parts.valid))
    assert torch.equal(counts, whole.train.labels.bincount(minlength=10))  # with its noise


def config(validation=0.2, patience=3, epochs=60, **more):
    solver = SOLVERS["eigenpro2"](epochs=epochs, stop=StopRule(patience=patience))
    return experiment.Config(
        dataset=DIGITS, kernel=KERNELS["laplacian"](bandwidth=2.0), solver=solver, noise=0.3,
        validation=validation, **more,
    )  # fmt: skip


def test_patience_goes_back_to_the_best_epoch():
    watcher = Watcher()
    result = experiment.run(config(), [watcher])
    losses = [digits["epoch_valid_mse"] for _, digits in watcher.epochs]
    best = int(np.argmin(losses))
    assert result.stopped_by == "patience"
    assert len(losses) == best + 1 + 3
    assert result.metrics["epochs"] == best + 1
    assert result.metrics["valid_mse"] == losses[best]
    # The model is that of a run of so many epochs.
    there = experiment.run(config(patience=None, epochs=best + 1))
    assert torch.equal(result.model.weights, there.model.weights)
    same = {"valid_accuracy", "test_accuracy", "train_accuracy", "rkhs_norm"}
    assert {n: result.metrics[n] for n in same} == {n: there.metrics[n] for n in same}


@pytest.mark.parametrize(("epochs", "ended"), [(None, "patience"), (12, "epochs")])
def test_patience_has_the_epochs_of_a_rule_and_the_table_says_which_is_the_best(
    epochs, ended, capsys
):
    terminal, watcher = Terminal(None), Watcher()
    own = config(patience=11, epochs=epochs)  # the default is 10
    result = experiment.run(own, [terminal, watcher])
    best, last = int(result.metrics["epochs"]), len(watcher.epochs)
    assert result.stopped_by == ended
    assert best < last == (best + 11 if epochs is None else 12)
    assert f"{best} (the best of {last}; stopped by {ended})" in capsys.readouterr().out


@pytest.mark.parametrize("last", [2, 3])
def test_a_run_killed_again_and_again_ends_as_one_in_peace(last, tmp_path):
    own = config()
    watcher = killed_again_and_again(own, tmp_path, last)
    result = watcher.result
    peace = experiment.run(own)
    assert watcher.start.resumed >= 2
    assert torch.equal(result.model.weights, peace.model.weights)
    for name in ("epochs", "valid_mse", "valid_accuracy", "test_accuracy", "rkhs_norm"):
        assert result.metrics[name] == peace.metrics[name]


def test_folds_are_runs_of_their_own():
    own = config(validation=None, patience=None, epochs=3, cv=4)
    result = experiment.run(own)
    folds = [experiment.run(replace(own, cv=None, validation=Fold(i, 4))).metrics for i in range(4)]
    for name in ("accuracy", "mse"):
        values = [metrics[f"valid_{name}"] for metrics in folds]
        assert result.metrics[f"cv_{name}"] == pytest.approx(np.mean(values))
        assert result.metrics[f"cv_{name}_spread"] == pytest.approx(np.std(values, ddof=1))
    # The run itself is that without folds.
    alone = experiment.run(replace(own, cv=None))
    assert torch.equal(result.model.weights, alone.model.weights)
    assert "valid_accuracy" not in result.metrics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 0.0}, "validation=0.0: must be a share between 0 and 1"),
        ({"validation": 1.0}, "validation=1.0: must be a share between 0 and 1"),
        ({"validation": "some"}, "validation=some: must be a share between 0 and 1"),
        ({"validation": True}, "validation=True: must be a share between 0 and 1"),
        ({"cv": 5}, "cv=5: must be null with validation=0.2"),
        ({"validation": None, "cv": 5}, "solver.stop.patience=3: must be null with cv"),
        ({"validation": None, "patience": None, "cv": 1}, "cv=1: must be a whole number >= 2"),
    ],
)
def test_what_does_not_fit_together_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_points_that_stay_in_their_file_can_not_be_held_out(tmp_path):
    for name, array in zip(("x_train", "y_train", "x_test", "y_test"),
                           (np.eye(8), np.arange(8.0), np.eye(8), np.arange(8.0)), strict=True):  # fmt: skip
        np.save(tmp_path / f"{name}.npy", array)
    source = SOURCES["npy"](path=str(tmp_path))
    parts = {"kernel": KERNELS["gaussian"](), "solver": SOLVERS["exact"]()}
    for held in ({"validation": 2}, {"cv": 2}):
        [(key, value)] = held.items()
        message = f"{key}={value}: must be null where points stay in their file"
        with pytest.raises(ValueError, match=message):
            experiment.Config(dataset=source, **parts, **held)
    assert len(load(replace(source, n_train=8), None, validation=2).valid.X) == 2


def test_a_sweep_names_its_best_only_by_held_out_points(cli, client):
    few = (
        "dataset.n_train=200",
        "dataset.n_test=50",
        "solver.epochs=2",
        "tracking.log_model=false",
    )
    done = cli("--multirun", "kernel.bandwidth=0.1,5", *few)
    assert "best" not in done.out + done.err
    done = cli("--multirun", "kernel.bandwidth=0.1,5", "validation=50", *few)
    assert "best kernel.bandwidth=5, valid accuracy 0." in done.out + done.err
    done = cli("--multirun", "kernel.bandwidth=0.1,5", "cv=3", *few)
    assert "best kernel.bandwidth=5, cv accuracy 0." in done.out + done.err
    newest, held, plain = client.search_runs(["1"], "tags.sweep.jobs = '2'")
    assert newest.data.tags["sweep.best_by"] == "cv_accuracy"
    assert held.data.tags["sweep.best_by"] == "valid_accuracy"
    assert {"best_valid_accuracy", "best_test_accuracy"} <= set(held.data.metrics)
    assert "sweep.best" not in plain.data.tags


def test_of_equal_accuracies_the_smaller_error_is_the_better(client):
    experiment_id = client.create_experiment("tied")
    found = []
    for accuracy, mse, data in (
        (0.9, 0.3, "iris"),
        (0.9, 0.1, "iris"),
        (0.9, 0.2, "iris"),
        (0.8, 0.01, "wine"),
    ):
        run = client.create_run(experiment_id)
        client.log_param(run.info.run_id, "dataset.name", data)
        client.log_metric(run.info.run_id, "cv_accuracy", accuracy)
        client.log_metric(run.info.run_id, "cv_mse", mse)
        client.set_terminated(run.info.run_id)
        found.append(client.get_run(run.info.run_id))
    parent = client.get_run(client.create_run(experiment_id).info.run_id)
    assert SweepOutcome(found[:3], parent).best is found[1]
    assert SweepOutcome(found, parent).best is None  # not the same data
    assert SweepOutcome(found[3:], parent).best is found[3]
    with pytest.raises(ValueError, match=r"are of 2 data sets, .* \(iris; wine\); give the id of"):
        find(client, "best:tied")
    client.delete_run(found[3].info.run_id)
    assert find(client, "best:tied").info.run_id == found[1].info.run_id
    frame = pd.DataFrame([run.data.metrics for run in found])
    assert list(_best(frame[:3]).index) == [1]  # of a report
    assert list(_best(frame[["cv_accuracy"]]).index) == [0]


def test_ranks_hold_out_and_stop_alike(cli, client):
    few = ("dataset.n_train=301", "dataset.n_test=100", "noise=0.3", "tracking.log_model=false")
    for settings in (("validation=0.2", "solver.stop.patience=2"), ("cv=2", "solver.epochs=2")):
        runs = []
        for ranks in (1, 2):
            done = cli(*few, *settings, "dtype=float64", f"resource.ranks={ranks}", "rerun=true")
            assert done.code == 0, done.err
            runs.append(client.search_runs(["1"])[0].data.metrics)
        names = {n for n in runs[0] if n.startswith(("valid", "cv", "test", "rkhs_norm", "epochs"))}
        names.discard("rkhs_norm_error")
        for name in names:
            assert runs[1][name] == pytest.approx(runs[0][name], rel=1e-9), name


def test_patience_begins_anew_after_a_run_without(tmp_path):
    """Whose best epoch nobody has kept."""
    settings = CheckpointConfig(minutes=0, folder=str(tmp_path), keep=True)
    first = config(patience=None, epochs=8)
    for own in (first, config(patience=3)):
        run = Run("c", "f", "", lambda: None, own.solver, own.dtype, own.device)
        with checkpoints(settings, run, resume=True) as kept:
            watcher = Watcher()
            result = experiment.run(own, [watcher], kept)
    losses = [digits["epoch_valid_mse"] for _, digits in watcher.epochs]
    best = 8 + int(np.argmin(losses[8:]))
    assert result.metrics["epochs"] == best + 1
    assert len(losses) == best + 1 + 3
