"""Checkpoints from the command line: a run that is told to stop, the same command again, more epochs."""

import os
import signal
from pathlib import Path

import pytest
import torch

from kernelexp.console import Terminal
from kernelexp.experiment import cross_validation

FEW = (
    "dataset.n_train=300",
    "dataset.n_test=100",
    "solver.batch_size=10",
    "tracking.log_model=false",
)
SOLVED = ("train_mse", "test_accuracy", "rkhs_norm")


@pytest.fixture
def stop_after(monkeypatch):
    """From here on runs are sent SIGTERM after so many epochs of their own; None: no more."""
    left = [None]
    told = Terminal.prepared

    def loaded(self):
        pass

    def prepared(self, setup):
        self.before = 0 if setup.start is None else setup.start.epochs
        told(self, setup)

    def epoch(self, number, metrics):
        if left[0] is not None and number > self.before:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Terminal, "prepared", prepared)
    monkeypatch.setattr(Terminal, "epoch", epoch)
    return lambda epochs: left.__setitem__(0, epochs)


def digits(run):
    return {name: run.data.metrics[name] for name in SOLVED}


def steps(client, run, name="epoch_train_mse"):
    return [metric.step for metric in client.get_metric_history(run.info.run_id, name)]


def checkpoints(pattern="*"):
    return sorted(
        path.name for path in Path("multirun/checkpoints").glob(f"*/{pattern}.safetensors")
    )


def test_sigterm_writes_one_and_the_same_command_goes_on(cli, runs, client, stop_after):
    typed = (*FEW, "solver.epochs=6")
    assert cli(*typed, "tracking.experiment=whole").code == 0
    for times in (1, 2):
        stop_after(2)
        assert cli(*typed).code == 143
        assert checkpoints()
        [run] = runs()
        assert run.info.status == "KILLED"
        assert run.data.tags.get("resumed", "0") == str(times - 1)
    stop_after(None)
    done = cli(*typed)
    assert done.code == 0, done.err
    assert "goes on from its checkpoint: 4 epochs" in done.out
    [run], [whole] = runs(), runs("whole")
    assert (run.info.status, run.data.tags["resumed"]) == ("FINISHED", "2")
    assert "error" not in run.data.tags
    assert digits(run) == digits(whole)
    assert steps(client, run) == [1, 2, 3, 4, 5, 6]
    assert not checkpoints()


def test_without_tracking(cli, stop_after):
    typed = (*FEW, "solver.epochs=5", "tracking.enabled=false")
    stop_after(2)
    assert cli(*typed).code == 143
    stop_after(None)
    done = cli(*typed)
    assert "goes on from its checkpoint" in done.out
    assert not checkpoints()
    assert "goes on" not in cli(*typed).out


@pytest.mark.parametrize("anew", ["resume=false", "rerun=true"])
def test_a_run_that_starts_anew(cli, runs, client, stop_after, anew):
    stop_after(2)
    assert cli(*FEW, "solver.epochs=4").code == 143
    stop_after(None)
    done = cli(*FEW, "solver.epochs=4", anew)
    assert done.code == 0
    assert "goes on" not in done.out
    assert [run.info.status for run in runs()] == ["KILLED", "FINISHED"]
    assert steps(client, runs()[1]) == [1, 2, 3, 4]
    assert not checkpoints()


def test_other_code_is_refused_and_the_run_left_as_it_is(cli, runs, stop_after, monkeypatch):
    stop_after(2)
    assert cli(*FEW, "solver.epochs=4").code == 143
    stop_after(None)
    [before] = runs()
    tags = {"kernelexp.version": "9.9"}
    monkeypatch.setattr("kernelexp.checkpoint.header.code_tags", lambda: tags)
    done = cli(*FEW, "solver.epochs=4")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("kernelexp: resume=true: the checkpoint of this run (2 epochs")
    assert "here is 9.9; resume=false starts this run again" in done.err
    [after] = runs()
    assert after.data.tags == before.data.tags
    assert after.info.status == "KILLED"


def test_a_plan_that_does_not_fit_is_refused(cli, runs, stop_after, monkeypatch):
    stop_after(2)
    assert cli(*FEW, "solver.epochs=4").code == 143
    stop_after(None)
    monkeypatch.setattr("kernelexp.engine.memory.available_bytes", lambda device: 0)
    done = cli(*FEW, "solver.epochs=4")
    assert done.code == 2
    refused = done.err.splitlines()[-1]  # before it, that the code has changes, where it has
    assert refused.startswith("kernelexp: resume=true: the checkpoint of this run (2 epochs")
    assert "resource.memory_gb=" in refused
    assert checkpoints()


def test_more_epochs_begin_with_a_run_that_was_kept(cli, runs, client):
    assert cli(*FEW, "solver.epochs=7", "tracking.experiment=whole").code == 0
    assert cli(*FEW, "solver.epochs=4", "checkpoint.keep=true").code == 0
    [short] = runs()
    assert checkpoints() == ["kept.safetensors"]
    done = cli(*FEW, "solver.epochs=7")
    assert done.code == 0, done.err
    assert f"begins with what run {short.info.run_id} ended with: 4 epochs" in done.out
    [short, long], [whole] = runs(), runs("whole")
    assert long.data.tags["warm_start"] == short.info.run_id
    assert "resumed" not in long.data.tags
    assert digits(long) == digits(whole)
    assert digits(short) != digits(long)
    assert steps(client, long) == [1, 2, 3, 4, 5, 6, 7]
    assert long.data.metrics["train_seconds"] > short.data.metrics["train_seconds"]
    assert checkpoints() == ["kept.safetensors"]  # of the shorter one, which asked for it
    assert "begins with" not in cli(*FEW, "solver.epochs=4").out  # all of it is no more epochs


def test_a_stop_rule_that_was_met_goes_on_without_it(cli, runs):
    assert cli(*FEW, "solver.stop.train_mse=0.05", "checkpoint.keep=true").code == 0
    [short] = runs()
    assert short.data.tags["stopped_by"] == "train_mse"
    epochs = int(short.data.metrics["epochs"])
    done = cli(*FEW, f"solver.epochs={epochs + 2}")
    assert f"ended with: {epochs} epochs" in done.out
    assert runs()[1].data.metrics["epochs"] == epochs + 2


def test_a_sweep_typed_again_goes_on(cli, runs, client, stop_after):
    typed = ("--multirun", *FEW, "solver.epochs=4", "seed=0,1")
    stop_after(6)  # in the second job
    assert cli(*typed).code == 143
    stop_after(None)
    done = cli(*typed)
    assert done.code == 0, done.err
    assert "2 of 2 jobs finished, 1 of them before" in done.out
    jobs = [run for run in runs() if "sweep.jobs" not in run.data.tags]
    assert [run.info.status for run in jobs] == ["FINISHED", "FINISHED"]
    assert [run.data.tags.get("resumed") for run in jobs] == [None, "1"]
    assert [steps(client, run) for run in jobs] == [[1, 2, 3, 4]] * 2
    assert not checkpoints()
    # As if it had been killed when the run had ended well, before its checkpoints were gone.
    left = Path("multirun/checkpoints") / jobs[1].data.tags["config.digest"]
    left.mkdir()
    (left / "7.safetensors").touch()
    assert "2 of them before" in cli(*typed).out
    assert not left.exists()


@pytest.fixture
def stop_after_folds(monkeypatch):
    """The next run is sent SIGTERM when it has done so many folds, and counts those that are trained from here on."""
    left, trained = [None], []
    scores = cross_validation._scores

    def counted(config, fold, *others):
        if left[0] == len(trained):
            os.kill(os.getpid(), signal.SIGTERM)
        found = scores(config, fold, *others)
        trained.append(fold.index)
        return found

    monkeypatch.setattr(cross_validation, "_scores", counted)
    return left, trained


def test_folds_that_are_done_are_not_trained_again(cli, runs, stop_after_folds, stop_after):
    left, trained = stop_after_folds
    typed = (*FEW, "solver.epochs=4", "cv=3")
    assert cli(*typed, "tracking.experiment=whole").code == 0
    trained.clear()
    left[0] = 2
    assert cli(*typed).code == 143
    assert trained == [0, 1]
    left[0] = None
    stop_after(1)  # in the training on all points
    assert cli(*typed).code == 143
    assert trained == [0, 1, 2]
    stop_after(None)
    done = cli(*typed)
    assert done.code == 0, done.err
    assert "goes on from its checkpoint: 3 folds, 1 epochs" in done.out
    assert trained == [0, 1, 2]
    [run], [whole] = runs(), runs("whole")
    for name in (*SOLVED, "cv_accuracy", "cv_accuracy_spread", "cv_mse"):
        assert run.data.metrics[name] == whole.data.metrics[name]
    assert run.data.tags["resumed"] == "2"
    assert not checkpoints()


def test_folds_of_another_pytorch_are_not_gone_on_from(cli, stop_after_folds, monkeypatch):
    left, trained = stop_after_folds
    typed = (*FEW, "solver.epochs=4", "cv=3", "tracking.enabled=false")
    left[0] = 1
    assert cli(*typed).code == 143
    left[0] = None
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    refused = cli(*typed)
    assert refused.code != 0
    assert "the checkpoint of this run (1 fold, 0 epochs" in refused.err
    assert trained == [0]
    assert cli(*typed, "resume=false").code == 0
    assert trained == [0, 0, 1, 2]
