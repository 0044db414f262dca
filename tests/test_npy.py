"""Arrays in .npy files: mapped, not read, and otherwise as those of an .npz file."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_data import NOWHERE, arrays, npz, own

from kernelexp.data import SOURCES, large, load
from kernelexp.data.held_out import Fold


def npy(folder, **changes):
    for name, array in arrays(**changes).items():
        if array is not None:
            np.save(folder / f"{name}.npy", array)
    return SOURCES["npy"](path=str(folder))


def test_npy_is_mapped_and_not_read(tmp_path):
    x = np.random.default_rng(0).normal(size=(100_000, 80)).astype(np.float32)  # 32 MB
    y = np.arange(100_000) % 3
    source = npy(tmp_path, x_train=x, y_train=y, x_test=x[:10])
    assert source.shape() == (100_000, 10, 80, 3)
    script = f"""
from pathlib import Path
import torch
from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, SOLVERS, Problem, memory, prepare
here = torch.device("cpu")
source = SOURCES["npy"](path={str(tmp_path)!r})
before = memory.held_bytes(here)
train = load(source, Path()).train
held = memory.held_bytes(here) - before
X = train.X
copied = load(SOURCES["npy"](path={str(tmp_path)!r}, scale="standard"), Path()).train.X
twice = memory.held_bytes(here) - before - held
problem = Problem(KERNELS["gaussian"](), X, train.Y, train.labels)
memory.reset_peak(here)
solver = SOLVERS["eigenpro4"](n_centers=100, batch_size=90, epochs=1)
training = prepare(solver, problem)
list(training.run())
print(held, twice, memory.held_bytes(here) / 1e9, training.plan.peak_gb)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    held, twice, in_the_end, plan = (float(word) for word in done.stdout.split())
    assert held < 8e6  # labels and targets
    assert twice > 30e6
    assert in_the_end < 1.1 * plan


def test_npy_gives_what_npz_gives(tmp_path):
    x = np.random.default_rng(0).random((30, 4)).astype(np.float32)
    own(tmp_path, x_train=x)
    for settings in ({}, {"n_train": 12}, {"scale": "unit"}, {"balanced": True}):
        mapped = load(replace(npy(tmp_path, x_train=x), **settings), NOWHERE, noise=0.3)
        read = own(tmp_path, {"scale": "none", **settings}, noise=0.3, x_train=x)
        assert torch.equal(mapped.train.X, read.train.X)
        assert torch.equal(mapped.train.Y, read.train.Y)
        assert mapped.digest == read.digest
    assert np.load(tmp_path / "x_train.npy").tobytes() == x.tobytes()


@pytest.mark.parametrize("in_files", [False, True])
@pytest.mark.parametrize("shape", [(64,), (8, 8), (8, 8, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("held", [0.2, Fold(1, 3)])
def test_points_are_held_out_of_npy_as_of_npz(held, dtype, shape, in_files, tmp_path, monkeypatch):
    if in_files:
        monkeypatch.setattr(large, "LARGE", 1000)
        monkeypatch.setattr(large, "_BLOCK", 1000)
    x = np.random.default_rng(0).integers(0, 200, (300, *shape)).astype(dtype)
    changes = {"x_train": x, "y_train": np.arange(300) % 3, "x_test": x[:10]}
    for scale in ("unit", "standard", "unit_norm"):
        mapped = load(replace(npy(tmp_path, **changes), scale=scale), NOWHERE, validation=held)
        source = SOURCES["npz"](path=str(npz(tmp_path, **changes)), scale=scale)
        read = load(source, NOWHERE, validation=held)
        for part in ("train", "valid", "test"):
            assert torch.equal(getattr(mapped, part).X, getattr(read, part).X)
        assert mapped.preprocessing.dtype == dtype
        assert torch.equal(mapped.preprocessing.factor, read.preprocessing.factor)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.full((30, 4), np.nan)}, "x_train: has NaN"),
        ({"y_test": None}, r"a folder with x_train.npy, .* \(not there: y_test.npy\)"),
        ({"x_train": np.array([{}] * 30)}, "x_train.npy: not a readable .npy file of numbers"),
        ({"x_train": np.ones((30, 4), order="F")}, "x_train.npy: stored column by column"),
    ],
)
def test_refuses_bad_npy(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        load(npy(tmp_path, **changes), NOWHERE)
    assert "\n" not in str(error.value)
