"""retries=N: what was killed or had no memory is tried again, what is wrong is not."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from kernelexp import experiment
from kernelexp.current_sweep import Sweep

SMALL = ("dataset.n_train=300", "dataset.n_test=100", "solver.epochs=2", "tracking.log_model=false")


def failing(monkeypatch, *errors):
    """The first runs fail with these errors."""
    run, left = experiment.run, list(errors)

    def fails(*arguments):
        if left:
            raise left.pop(0)
        return run(*arguments)

    monkeypatch.setattr(experiment, "run", fails)


NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore of it.")
NONE_EITHER = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize("typed", [(), ("--multirun", "seed=0,1")])
def test_without_memory_a_job_is_tried_again(typed, cli, runs, monkeypatch):
    failing(monkeypatch, NO_MEMORY, NONE_EITHER)
    done = cli(*typed, *SMALL, "retries=2")
    assert done.code == 0, done.err
    assert "CUDA out of memory. Tried to allocate 2 GiB.; tried again, 1 of 2\n" in done.err
    assert "can't allocate memory; tried again, 2 of 2\n" in done.err
    jobs = [run for run in reversed(runs()) if "sweep.jobs" not in run.data.tags]
    first, second, third = jobs[:3] if jobs[0].info.status == "FAILED" else jobs[::-1][:3]
    for number, run in enumerate((first, second)):
        assert run.info.status == "FAILED"
        assert run.data.tags["out_of_memory"] == "true"
        assert run.data.tags.get("retry", "0") == str(number)
    assert third.info.status == "FINISHED"
    assert third.data.tags["retry"] == "2"
    if typed:
        assert "2 of 2 jobs finished" in done.out


def test_tried_as_often_as_is_said(cli, runs, monkeypatch):
    failing(monkeypatch, NO_MEMORY, NO_MEMORY)
    done = cli(*SMALL, "retries=1")
    assert done.code == 1
    assert "CUDA out of memory" in done.err.splitlines()[-1]
    assert [run.info.status for run in runs()] == ["FAILED", "FAILED"]


def test_what_is_wrong_is_not_tried_again(cli, runs, monkeypatch):
    failing(monkeypatch, RuntimeError("wrong"))
    assert cli(*SMALL, "retries=2").code == 1
    [run] = runs()
    assert run.info.status == "FAILED"
    assert "out_of_memory" not in run.data.tags
    done = cli(*SMALL, "retries=-1")
    assert done.code == 2
    assert "retries=-1: must be" in done.err


def test_a_sweep_whose_worker_was_killed_starts_again(runs, workdir):
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "retries=1", "rerun=true")
    jobs = ("seed=0,1,2", "solver.epochs=500")
    process = subprocess.Popen(
        [sys.executable, "-m", "kernelexp", "--multirun", *SMALL, *jobs, *joblib],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    trains, deadline = [], time.monotonic() + 120
    while not trains and time.monotonic() < deadline:
        time.sleep(0.1)
        found = [run for run in runs() if "sweep.jobs" not in run.data.tags]
        trains = [run for run in found if run.info.status == "RUNNING" and run.data.metrics]
    assert trains, "no job was seen while it trained"
    os.kill(int(trains[0].data.tags["process"].split()[1]), signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "a worker process was killed" in err
    assert "; try number 2\n" in err
    assert "3 of 3 jobs finished" in out
    [parent] = [run for run in runs() if "sweep.jobs" in run.data.tags]
    jobs = [run for run in runs() if run is not parent and run.info.status == "FINISHED"]
    finished = [run for run in jobs if "sweep.jobs" not in run.data.tags]
    assert len({run.data.tags["config.digest"] for run in finished}) == len(finished) == 3
    assert {run.data.tags["mlflow.parentRunId"] for run in finished} == {parent.info.run_id}
    assert any(run.data.tags.get("retry") == "1" for run in finished)
    assert not [run for run in runs() if run.info.status == "RUNNING"]


def test_a_sweep_that_starts_again_leaves_out_what_would_fail_again(cli, client, runs, monkeypatch):
    failing(monkeypatch, RuntimeError("wrong"))
    cli("--multirun", *SMALL, "seed=0,1")
    [parent] = [run for run in runs() if "sweep.jobs" in run.data.tags]
    uri = os.environ["MLFLOW_TRACKING_URI"]
    Sweep(parent.info.run_id, uri, "kernelexp", retries=1, attempt=1).begin()
    try:
        done = cli("--multirun", *SMALL, "seed=0,1", "retries=1")
    finally:
        Sweep(parent.info.run_id).end()
    assert done.code == 2
    assert "seed=0 retries=1: RuntimeError: wrong" in done.err
    assert "1 of 2 jobs finished" in done.out + done.err
    assert len(runs()) == 3
