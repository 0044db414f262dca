"""kill -9 at random moments, then the same command again: the digits of a run that was left in peace."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from kernelexp.checkpoint import file as checkpoint_file

DRIVER = Path(__file__).with_name("kill_again.py")
IN_PEACE = ["tracking.experiment=whole", "checkpoint.folder=whole", "checkpoint.minutes=null"]
# Not digits: they differ from run to run.
MEASURED = ("setup_seconds", "train_seconds", "peak_memory_gb", "prediction_drift")


def kill_again(kills, *arguments):
    """What ``kill_again.py`` says."""
    arguments = [*arguments, "checkpoint.minutes=0", "tracking.log_model=false"]
    command = [sys.executable, str(DRIVER), str(kills), *arguments, "--", *IN_PEACE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def digits(run):
    return {name: value for name, value in run.data.metrics.items() if name not in MEASURED
            and not name.endswith("_seconds")}  # fmt: skip


def history(client, run, name):
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]


def of_job(found):
    """Finished runs by what they are."""
    by_digest = {}
    for run in found:
        if run.info.status == "FINISHED" and "config.digest" in run.data.tags:
            by_digest.setdefault(run.data.tags["config.digest"], []).append(run)
    return by_digest


def assert_same_as_in_peace(client, found, whole, epochs):
    """Every finished run has the digits of the one in peace, each epoch once."""
    assert set(of_job(found)) == set(of_job(whole))
    for digest, finished in of_job(found).items():
        [reference] = of_job(whole)[digest]
        for run in finished:
            assert digits(run) == digits(reference)
            for name in ("epoch_train_mse", "epoch_test_accuracy", "epoch_rkhs_norm"):
                told = history(client, run, name)
                assert sorted(told) == history(client, reference, name)
                assert [step for step, _ in sorted(told)] == list(range(1, epochs + 1))
            seconds = sum(value for _, value in history(client, run, "epoch_seconds"))
            assert run.data.metrics["train_seconds"] == pytest.approx(seconds)
    # Those that were killed before there was a checkpoint have no epochs that another has too.
    for run in found:
        if run.info.status != "FINISHED" and "sweep.jobs" not in run.data.tags:
            assert not [name for name in run.data.metrics if name.startswith("epoch_")]


def test_one_run_killed_twenty_times(client, runs):
    said = kill_again(
        20, "dataset.n_train=400", "solver.batch_size=4", "solver.epochs=30", "checkpoint.keep=true"
    )
    found = runs()
    assert_same_as_in_peace(client, found, runs("whole"), 30)
    resumed = sum(int(run.data.tags.get("resumed", 0)) for run in found)
    assert resumed >= 5, (
        said
    )  # of 13 kills that came after a checkpoint; others ended the run first
    [kept] = Path("multirun/checkpoints").glob("*/kept.safetensors")
    [reference] = Path("whole").glob("*/kept.safetensors")
    ours, theirs = checkpoint_file.read(kept)[0], checkpoint_file.read(reference)[0]
    assert set(ours) == set(theirs)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_a_sweep_killed_again_and_again(client, runs):
    said = kill_again(
        8, "--multirun", "seed=0,1,2", "solver=sgd,eigenpro2", "dataset.n_train=300",
        "solver.batch_size=4", "solver.epochs=20",
    )  # fmt: skip
    found = runs()
    assert_same_as_in_peace(client, found, runs("whole"), 20)
    assert Counter(len(finished) for finished in of_job(found).values()) == {1: 6}, said
    assert not list(Path("multirun/checkpoints").iterdir())
