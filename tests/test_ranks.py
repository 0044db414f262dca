"""resource.ranks=N and torchrun from the command line: what comes out, and what is survived."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from kernelexp import rank_processes
from kernelexp.rank_place import Place, first_host

FEW = ("dataset.n_train=301", "dataset.n_test=100", "tracking.log_model=false")
LONG = (*FEW, "solver.batch_size=4", "solver.epochs=60", "checkpoint.minutes=0")
# For what does not end by itself: its checkpoints go when it does.
ENDLESS = (*FEW, "solver.batch_size=4", "solver.epochs=100000", "checkpoint.minutes=0")
SOLVED = ("train_mse", "test_accuracy", "rkhs_norm", "m_star")
# Of a launcher's ranks.
PLACE = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def metrics(run):
    return [run.data.metrics[name] for name in SOLVED]


def start(*arguments, module=("-m", "kernelexp")):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *module, *arguments]
    return subprocess.Popen(command, env=env, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip


def children(process):
    return [int(i) for i in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]  # fmt: skip


def runs_on(pid):
    """Whether a process is neither gone nor a zombie nor stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZTX"
    except OSError:
        return False


def wait_for(condition, seconds=180):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.parametrize(
    "settings",
    [
        ("compare=[exact,nearest_neighbour,learning_curve]", "dataset.n_train=49", "solver=cg"),
        ("solver=eigenpro4", "solver.n_centers=100"),
        ("solver=exact",),
    ],
    ids=" ".join,
)
def test_two_ranks_record_what_one_does(cli, runs, settings):
    for ranks in (1, 2):
        done = cli(*FEW, *settings, f"resource.ranks={ranks}")
        assert done.code == 0, done.err
    one, two = runs()
    predicted = [run.data.metrics.get("predicted_test_mse") for run in (one, two)]
    assert predicted[0] == pytest.approx(predicted[1])
    assert (predicted[0] is None) == ("learning_curve" not in settings[0])
    # A training error near 0 is the square of what rounding leaves.
    assert metrics(two) == pytest.approx(metrics(one), rel=1e-3, abs=1e-10)
    assert two.data.tags["config.digest"] == one.data.tags["config.digest"]


@pytest.mark.parametrize(
    ("ranks", "said"),
    [("0", "a whole number >= 1"), ("1.5", "a whole number"), ("3000", "on this machine")],
)
def test_ranks_that_cannot_be(cli, ranks, said):
    done = cli(*FEW, f"resource.ranks={ranks}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"resource.ranks={ranks}" in done.err
    assert said in done.err


def test_a_killed_rank_is_named_and_one_process_goes_on(workdir, cli, runs):
    assert cli(*LONG, "tracking.experiment=whole", "checkpoint.folder=whole").code == 0
    process = start(*LONG, "resource.ranks=3")
    wait_for(lambda: list(Path("multirun/checkpoints").glob("*/*.safetensors")))
    victim, other = children(process)
    os.kill(victim, signal.SIGKILL)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    assert f"rank 1 of 3 (process {victim} on " in said
    assert "was killed (SIGKILL)" in said
    assert not runs_on(other)
    done = cli(*LONG)
    assert done.code == 0, done.err
    assert "made by 3 ranks, here 1" in done.err
    [whole], [gone_on] = runs("whole"), runs()
    assert gone_on.data.tags["resumed"] == "1"
    assert metrics(gone_on) == pytest.approx(metrics(whole), rel=1e-3)


def test_a_rank_that_is_stopped_ends_the_others(workdir):
    first = start(*ENDLESS, "tracking.enabled=false", "checkpoint.folder=a", "resource.ranks=2")
    second = start(*ENDLESS, "tracking.enabled=false", "checkpoint.folder=b", "resource.ranks=2")
    wait_for(lambda: list(Path("a").glob("*/*.safetensors")) and list(Path("b").glob("*/*.s*")))
    [of_first], [of_second] = children(first), children(second)
    os.kill(of_first, signal.SIGSTOP)
    os.kill(second.pid, signal.SIGSTOP)
    try:
        _, said = first.communicate(timeout=300)
        assert f"rank 1 of 2 (process {of_first} on " in said
        assert "no sign of life" in said
        assert first.returncode == 1
        wait_for(lambda: not runs_on(of_second))
    finally:
        second.kill()
    assert f"rank 0 of 2 (process {second.pid} on " in second.communicate()[1]


def test_those_beside_a_rank_0_that_is_killed_end(workdir):
    process = start(*ENDLESS, "tracking.enabled=false", "resource.ranks=2")
    wait_for(lambda: list(Path("multirun/checkpoints").glob("*/*.safetensors")))
    [other] = children(process)
    process.kill()
    assert "rank 0 of 2" in process.communicate()[1]
    wait_for(lambda: not runs_on(other), 30)  # it has said so and is about to end


def test_a_sweep_under_torchrun(workdir, runs):
    """One of whose jobs fails, when all ranks are at it."""
    launcher = (
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "kernelexp",
    )
    too_little = "resource.memory_gb=0.01,4"
    process = start("--multirun", *FEW, too_little, "seed=0,1", module=launcher)
    _out, said = process.communicate(timeout=240)
    assert process.returncode != 0
    assert said.count("resource.memory_gb=0.01: must be at least") >= 2, said
    assert [run.info.status for run in runs() if "sweep.jobs" not in run.data.tags].count(
        "FINISHED"
    ) == 2


def test_ranks_that_contradict_a_launcher(cli, monkeypatch):
    for name, value in zip(sorted(PLACE), ["0", "2", "127.0.0.1", "1", "0", "2"], strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_processes, "end_launched", lambda place: None)
    done = cli(*FEW, "resource.ranks=3")
    assert (done.code, done.err.strip()) == (
        2, "kernelexp: resource.ranks=3: must be 2, as many as were launched, or 1")  # fmt: skip


def test_a_launcher_that_says_too_little_is_one_line(cli, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    done = cli(*FEW)
    assert (done.code, done.err.strip()) == (
        2, "kernelexp: RANK=0: MASTER_ADDR must be set with it, as torchrun and srun do")  # fmt: skip


def test_where_slurm_says_a_rank_is(monkeypatch):
    assert Place.found() is None
    slurm = {
        "SLURM_STEP_NUM_TASKS": "6",
        "SLURM_PROCID": "4",
        "SLURM_LOCALID": "0",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_NODELIST": "gpu[03-04]",
        "SLURM_JOB_ID": "123456",
        "SLURM_STEP_ID": "0",
    }
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    assert Place.found() == Place(4, 6, 0, 3, "gpu03", 20_000 + 123_456 % 20_000)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")  # a job of submitit's, or a script
    assert Place.found() is None


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("a7,b2", "a7"), ("gpu[03-04,7],cpu1", "gpu03"), ("r2n[5,9]", "r2n5")],
)
def test_first_host(nodes, first):
    assert first_host(nodes) == first
