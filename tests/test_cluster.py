"""Sweeps by way of submitit, in processes of this machine as it would be on a cluster's."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir

from kernelexp import cluster, config
from kernelexp.cluster import ask_for_memory
from kernelexp.jobs import single_job
from kernelexp.usage import CONF_DIR

FEW = ("dataset.n_train=301", "dataset.n_test=100", "tracking.log_model=false")


def below(pid):
    """All processes that a process has started, by command line."""
    found = {}
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return found
    for child in children:
        try:
            found[int(child)] = Path(f"/proc/{child}/cmdline").read_text().split("\0")
        except OSError:
            continue
        found |= below(child)
    return found


def test_a_job_that_makes_room_is_queued_again_and_goes_on(workdir, cli, runs):
    long = (*FEW, "solver.batch_size=4", "solver.epochs=80", "checkpoint.minutes=0")
    command = [sys.executable, "-m", "kernelexp", "--multirun", "launcher=slurm_here", *long, "seed=0,1"]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    sweep = subprocess.Popen(command, env=env, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    until = time.monotonic() + 240
    while len({path.parent for path in Path("multirun/checkpoints").glob("*/*.safetensors")}) < 2:
        assert time.monotonic() < until and sweep.poll() is None  # noqa: PT018
        time.sleep(0.1)
    jobs = [pid for pid, words in below(sweep.pid).items() if "submitit.core._submit" in words]
    assert len(jobs) == 2
    os.kill(jobs[0], signal.SIGUSR2)
    _, said = sweep.communicate(timeout=400)
    assert sweep.returncode == 0, said
    done = [run for run in runs() if "sweep.jobs" not in run.data.tags]
    assert [run.info.status for run in done] == ["FINISHED"] * 2
    assert sorted(run.data.tags.get("resumed", "0") for run in done) == ["0", "1"]
    assert [run.data.metrics["epochs"] for run in done] == [80, 80]


@pytest.mark.parametrize(
    ("settings", "least", "most"),
    [
        (["dataset=fmnist"], 2, 5),
        (["dataset=fmnist", "resource.ranks=2", "resource.cache_gb=7"], 18, 24),
        (["resource.memory_gb=10"], 12, 12),
        # More than any machine of tests has: another one trains it.
        (
            [
                "dataset=synthetic1",
                "dataset.n_train=2000000",
                "solver=eigenpro3",
                "solver.n_centers=400000",
            ],
            600,
            700,
        ),
        (["dataset=npz", "dataset.path=my.npz"], 2, 4),  # its header tells the sizes
        (["hydra.launcher.mem_gb=3"], 3, 3),
    ],
)
@pytest.mark.parametrize("launcher", ["slurm", "slurm_gpu", "slurm_here"])
def test_memory_is_asked_for_as_planned(workdir, launcher, settings, least, most):
    x, y = np.zeros((4, 2)), np.array([0, 1, 0, 1])
    np.savez("my.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    config.register()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        overrides = [f"launcher={launcher}", *settings]
        cfg = compose("config", overrides, return_hydra_config=True)
    job_only = cfg.copy()
    ask_for_memory(cfg.hydra.launcher, [single_job(job_only)])
    assert least <= cfg.hydra.launcher.mem_gb <= most
    assert (cfg.hydra.launcher.gpus_per_node == 1) == (launcher == "slurm_gpu")


def test_memory_of_sizes_that_nobody_knows(monkeypatch):
    monkeypatch.setattr(cluster, "planned_memory", lambda config: None)
    config.register()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("config", ["launcher=slurm"], return_hydra_config=True)
    ask_for_memory(cfg.hydra.launcher, [single_job(cfg.copy())])
    assert cfg.hydra.launcher.mem_gb == 10


def test_other_launchers_ask_nobody():
    config.register()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("config", ["launcher=processes"], return_hydra_config=True)
    before = cfg.hydra.launcher.copy()
    ask_for_memory(cfg.hydra.launcher, [])
    assert cfg.hydra.launcher == before


def test_without_slurm_one_line(cli):
    done = cli("--multirun", "launcher=slurm", *FEW, "seed=0,1")
    assert done.code != 0
    assert "srun" in done.err.splitlines()[0]


def test_a_search_asks_for_memory_as_a_sweep_does(cli, monkeypatch):
    """Its launcher is made before anything is planned, and again before the first trials."""
    from hydra.core.plugins import Plugins

    class Launcher:
        asked: ClassVar[list] = []

        def __init__(self, memory):
            self.memory = memory

        def launch(self, jobs, initial_job_idx):
            self.asked.append(self.memory)
            raise ValueError("enough")

    def made(self, *, config, **_):
        return Launcher(config.hydra.launcher.mem_gb)

    monkeypatch.setattr(Plugins, "instantiate_launcher", made)
    done = cli(
        "kernel.bandwidth=log:1..100", "launcher=slurm_here", "tracking.enabled=false",
        "--trials", "4", module="kernelexp.search",
    )  # fmt: skip
    assert done.code != 0
    assert Launcher.asked == [3]
