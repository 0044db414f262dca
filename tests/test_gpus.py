"""Each job of a machine with several GPUs has its own."""

import os
import subprocess
import sys
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch

from kernelexp.gpus import own_gpu
from kernelexp.rank_place import Place
from kernelexp.rank_processes import _device

CUDA = torch.device("cuda")


@pytest.fixture
def three(monkeypatch, tmp_path):
    """A machine with three GPUs, as far as it is asked."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"GPU-{index}")
    )
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_jobs_take_free_ones_and_give_them_back(three):
    with ExitStack() as stack:
        taken = [stack.enter_context(own_gpu(CUDA)) for _ in range(3)]
        assert [device.index for device in taken] == [0, 1, 2]
        assert (three / "kernelexp-gpu-GPU-1.lock").read_text() == f"{os.getpid()}\n"
        assert stack.enter_context(own_gpu(CUDA)).index == os.getpid() % 3  # shared
    with own_gpu(CUDA) as device:
        assert device.index == 0


def test_a_killed_job_gives_its_own_back(three):
    hold = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(flush=True); time.sleep(60)"
    lock = three / "kernelexp-gpu-GPU-0.lock"
    other = subprocess.Popen([sys.executable, "-c", hold, lock], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        with own_gpu(CUDA) as device:
            assert device.index == 1
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    with own_gpu(CUDA) as device:
        assert device.index == 0


@pytest.mark.parametrize("asked", ["cpu", "cuda:2"])
def test_a_device_that_is_named_is_taken(asked, three):
    with own_gpu(torch.device(asked)) as device:
        assert device == torch.device(asked)
    assert not list(three.iterdir())


def test_several_ranks_take_the_one_that_is_named_and_those_after_it(three):
    places = [Place(rank, 2, rank, 2, "", 0) for rank in range(2)]
    assert [_device(place, torch.device("cuda:2")).index for place in places] == [2, 0]
    assert [_device(place, CUDA).index for place in places] == [0, 1]


def test_one_gpu_needs_no_lock(monkeypatch, three):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with own_gpu(CUDA) as device:
        assert device == CUDA
    assert not list(three.iterdir())
