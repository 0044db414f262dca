"""What Hydra keeps of jobs until the last has ended."""

import gc
import os
import weakref
from types import SimpleNamespace

import torch
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode

from kernelexp import gpus
from kernelexp.callbacks import Guard


class Matrix:
    """Something large."""


def failed_job():
    """A job's error, as it comes out of several frames, and what these held."""
    held = []

    def inner():
        matrix = Matrix()
        held.append(weakref.ref(matrix))
        raise ValueError("n: too large")

    def outer():
        data = Matrix()
        held.append(weakref.ref(data))
        try:
            inner()
        except ValueError as error:
            raise RuntimeError("the run failed") from error

    try:
        outer()
    except RuntimeError as error:
        return error, held


def test_a_job_that_failed_lets_its_data_go(capsys):
    error, held = failed_job()
    assert [reference() is not None for reference in held] == [True, True]
    overrides = ["seed=1", "tracking.uri=postgresql://me:secret@host/db"]
    job = JobReturn(overrides=overrides, cfg={}, hydra_cfg={}, status=JobStatus.FAILED)
    job._return_value = error
    Guard().on_job_end(SimpleNamespace(hydra=SimpleNamespace(mode=RunMode.MULTIRUN)), job)
    gc.collect()
    assert [reference() for reference in held] == [None, None]
    assert (job.cfg, job.hydra_cfg) == (None, None)
    err = capsys.readouterr().err
    assert "RuntimeError: the run failed" in err
    assert "seed=1 tracking.uri=postgresql://me:***@host/db" in err


def test_a_gpu_lock_is_for_all_users(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    named = lambda index: SimpleNamespace(uuid=f"GPU-{index}")  # noqa: E731
    monkeypatch.setattr(torch.cuda, "get_device_properties", named)
    before = os.umask(0o077)
    try:
        with gpus.own_gpu(torch.device("cuda")) as device:
            assert device == torch.device("cuda", 0)
    finally:
        os.umask(before)
    [lock] = tmp_path.iterdir()
    assert lock.stat().st_mode & 0o777 == 0o666
