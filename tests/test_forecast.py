"""What a run would hold, said before its data are read."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, SOLVERS, StopRule
from kernelexp.experiment import Config, run
from kernelexp.forecast import planned_memory


@pytest.mark.parametrize(
    "solver", ["askotch", "cg", "eigenpro1", "eigenpro2", "eigenpro3", "exact", "falkon"]
)
def test_dry_run_names_the_memory_that_is_planned(solver):
    settings = {} if solver == "exact" else {"epochs": 1}
    config = Config(
        dataset=SOURCES["synthetic1"](n_train=1200, n_test=100),
        kernel=KERNELS["gaussian"](bandwidth=7.0),
        solver=SOLVERS[solver](stop=StopRule(), **settings),
    )
    forecast = planned_memory(config)
    plan = run(config).setup.plan
    parts = [
        replace(p, gigabytes={**p.gigabytes, "process": 0, "cache": 0}) for p in (forecast, plan)
    ]
    forecast_gb, planned_gb = (part.peak_gb for part in parts)
    # Before the spectrum is known, EigenPro 3 reckons with the largest q.
    assert 0.95 * planned_gb < forecast_gb < 1.5 * planned_gb


def test_dry_run_does_not_count_what_stays_in_its_file(tmp_path):
    n, d = 20_000, 1000
    for part, rows in (("train", n), ("test", 10)):
        np.save(tmp_path / f"x_{part}.npy", np.zeros((rows, d), np.float32))
        np.save(tmp_path / f"y_{part}.npy", np.arange(rows) % 3)

    def planned(scale):
        source = SOURCES["npy"](path=str(tmp_path), scale=scale)
        solver = SOLVERS["eigenpro4"](n_centers=100)
        return planned_memory(Config(source, KERNELS["gaussian"](), solver)).peak_gb

    assert planned("unit") - planned("none") == pytest.approx(4 * n * d / 1e9, rel=0.1)


def test_sizes_are_known_without_reading(workdir):
    rng = np.random.default_rng(0)
    x = rng.random((50, 4, 3))
    for name, y in (("classes", rng.integers(0, 3, 50)), ("targets", rng.random((50, 2)))):
        np.savez(f"{name}.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    sources = [SOURCES["npz"](path=f"{name}.npz", n_test=7) for name in ("classes", "targets")]
    sources += [SOURCES["digits"](n_train=100), SOURCES["synthetic2"](n_train=30, n_test=20)]
    for source in sources:
        data = load(source, workdir, dtype=torch.float32)
        train, test = data.train, data.test
        assert source.shape() == (
            *train.X.shape[:1],
            len(test.X),
            train.X.shape[1],
            train.Y.shape[1],
        )


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["solver=eigenpro3", "solver.n_centers=2000"], "solver.n_centers=2000: must be .* 1437"),
        (["compare=[learning_curve]"], r"compare=\[learning_curve\]: must be left out with 360 "),
    ],
)
def test_sizes_that_cannot_be_leave_no_run(cli, runs, typed, said):
    for sweep in ([], ["--multirun", "seed=0,1"]):
        done = cli(*typed, *sweep)
        assert done.code == 2
        assert re.match(rf"kernelexp: {said}", done.err), done.err
    assert runs() == []
