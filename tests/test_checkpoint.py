"""Checkpoints as files and folders: what is saved comes back, whatever happens in between."""

import os
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from kernelexp import checkpoint
from kernelexp.checkpoint import CheckpointConfig, Run
from kernelexp.checkpoint import file as checkpoint_file
from kernelexp.checkpoint.folder import Folder
from kernelexp.checkpoint.header import Origin
from kernelexp.engine import SOLVERS, EpochRecord, StopRule

CPU = torch.device("cpu")


def by_columns(*shape, dtype=torch.float32):
    return torch.randn(shape[::-1]).to(dtype).mT


TENSORS = {
    "rows": torch.randn(5, 3),
    "columns": by_columns(7, 3, dtype=torch.float64),
    "one column": torch.randn(6, 1).as_strided((6, 1), (1, 6)),
    "part": torch.randn(8, 8)[2:5, 1:4],
    "one value for all": torch.tensor([2.5]).expand(4, 2),
    "nothing": torch.zeros(0, 4, dtype=torch.float64),
    "scalar": torch.tensor(-0.0),
    "not numbers": torch.tensor([float("nan"), float("inf"), 5e-324]).double(),
    "bools": torch.tensor([True, False, True]),
    "bytes": torch.arange(256, dtype=torch.uint8),
    "counts": torch.tensor([2**62, -1]),
    "last rows": torch.arange(12.0).view(4, 3)[2:],
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_comes_back_to_the_bit_and_as_it_lay(tmp_path, name):
    tensor = TENSORS[name]
    checkpoint_file.write(tmp_path / "a", {"other": torch.ones(3), name: tensor}, {"x": [1, None]})
    tensors, content = checkpoint_file.read(tmp_path / "a")
    back = tensors[name]
    assert content == {"x": [1, None]}
    assert back.dtype == tensor.dtype
    assert back.shape == tensor.shape
    assert back.contiguous().view(-1).view(torch.uint8).tolist() == (
        tensor.contiguous().view(-1).view(torch.uint8).tolist()
    )
    if name not in ("part", "one value for all", "nothing"):
        assert back.stride() == tensor.stride()
    assert back.data_ptr() % 64 == 0 or back.numel() == 0
    assert os.listdir(tmp_path) == ["a"]


def test_numbers_come_back_to_the_last_digit(tmp_path):
    content = {"a": 0.1 + 0.2, "b": float("inf"), "c": 2**70, "d": "é", "e": {"f": [1e-320]}}
    checkpoint_file.write(tmp_path / "a", {}, content)
    assert checkpoint_file.read(tmp_path / "a") == ({}, content)
    assert checkpoint_file.read_content(tmp_path / "a") == content


def test_the_file_is_safetensors(tmp_path):
    checkpoint_file.write(tmp_path / "a", {"w": torch.ones(2, 3)}, {})
    assert load_file(tmp_path / "a")["w"].tolist() == [1.0] * 6


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "foreign"])
def test_a_broken_file_is_known(tmp_path, damage):
    path = tmp_path / "a"
    checkpoint_file.write(path, {"w": torch.ones(1000)}, {})
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "changed": whole[:-100] + bytes(100),
            "empty": b"",
            "foreign": b"\x08" + bytes(7) + b'{"a": 1}',
        }[damage]
    )
    with pytest.raises(checkpoint_file.BrokenCheckpoint):
        checkpoint_file.read(path)


SOLVER = SOLVERS["eigenpro2"](epochs=10)


def run_of(config="c", solver=SOLVER, files="f", points="p", store="s", dtype=torch.float32):
    return Run(config, "family", files, lambda: points, solver, dtype, CPU, store)


def saved(value):
    return SimpleNamespace(tensors={"w": torch.full((4,), float(value))}, numbers={"at": value})


def record(epoch, train_mse=0.5):
    return EpochRecord(epoch, train_mse, 0.1, 1.0, 60.0)


@pytest.fixture
def settings(tmp_path):
    return CheckpointConfig(minutes=0, folder=str(tmp_path / "checkpoints"))


class Killed(BaseException):
    pass


@contextmanager
def trained(settings, rounds, run=None, resume=True, killed=True, run_id="r1", epochs=True):
    """A run that does some rounds, each an epoch, and then is killed or ends well."""
    run = run or run_of()
    try:
        with checkpoint.checkpoints(settings, run, resume) as own:
            own.run_id = lambda: run_id
            own.begin("p")
            for value in rounds:
                own.after_round(lambda value=value: saved(value))
                if epochs:
                    own.epoch(record(value), {"epoch_train_mse": 0.5})
            yield own
            own.ended(saved("end"), "epochs")
            if killed:
                raise Killed
    except Killed:
        pass


def train(*arguments, **options):
    with trained(*arguments, **options) as own:
        return own


def files(settings, config="c"):
    folder = os.path.join(settings.folder, config)
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []
