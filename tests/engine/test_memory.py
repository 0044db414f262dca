"""What is asked of the system's memory, and what it allows."""

import ctypes
import resource
from types import SimpleNamespace

import pytest
import torch

from kernelexp.engine import memory, memory_limits

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
GB = 10**9


def test_malloc_is_asked_to_keep_what_is_freed():
    """Both thresholds, by glibc's numbers for them; how often pages fault then is the system's."""
    asked = {}
    libc = SimpleNamespace(mallopt=lambda option, size: asked.setdefault(option, size) and 1)
    assert memory.keep_freed(libc)
    assert asked == {-1: 64 << 20, -3: 16 << 20}
    assert not memory.keep_freed(SimpleNamespace(mallopt=lambda *_: 0))
    assert not memory.keep_freed(SimpleNamespace())  # another C library
    assert memory.keep_freed(ctypes.CDLL(None)) == hasattr(
        ctypes.CDLL(None), "gnu_get_libc_version"
    )


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A system without limits, and ways to set some: folders as Linux has them."""
    process, groups = tmp_path / "proc", tmp_path / "cgroup"
    process.mkdir()
    (process / "cgroup").write_text("")
    (process / "status").write_text("VmSize:\t 5000000 kB\nVmData:\t 2000000 kB\n")
    monkeypatch.setattr(memory_limits, "_PROC", process)
    monkeypatch.setattr(memory_limits, "_CGROUP", groups)
    ulimits = {}
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda which: ulimits.get(which, unlimited))

    def group(path, files, of_files=0, prefix=""):
        folder = groups / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(f"{text}\n")
        stat = f"anon 1\n{prefix}active_file {of_files}\n{prefix}inactive_file 0\n"
        (folder / "memory.stat").write_text(stat)

    def version_1(path, limit, used, of_files=0):
        files = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used}
        group(f"memory/{path}", files, of_files, "total_")

    def version_2(path, limit, used, of_files=0):
        group(path, {"memory.max": limit, "memory.current": used}, of_files)

    def member(*lines):
        (process / "cgroup").write_text("\n".join(lines) + "\n")

    return SimpleNamespace(version_1=version_1, version_2=version_2, member=member, ulimits=ulimits)


def test_no_limits(system):
    assert list(memory_limits.rooms()) == []
    assert memory.available_bytes(CPU) > 0


def test_control_groups_within_each_other(system):
    """The one outside of the process's own can be the smaller one."""
    system.member("1:name=systemd:/", "0::/user.slice/user-1.slice/session")
    system.version_2("user.slice/user-1.slice/session", "max", 10)
    system.version_2("user.slice/user-1.slice", 3 * GB, GB, GB // 2)
    system.version_2("user.slice", 30 * GB, 2 * GB)
    assert list(memory_limits.rooms()) == [5 * GB // 2, 28 * GB]
    system.version_2("user.slice/user-1.slice/session", GB // 10, GB // 100)
    assert memory.available_bytes(CPU) == 9 * GB // 100


def test_control_groups_of_version_1(system):
    system.member("4:memory:/docker/abc", "3:cpu,cpuacct:/", "0::/")
    system.version_1("docker/abc", GB // 10, GB // 20, GB // 100)
    system.version_1("", 2**63 - 4096, 3 * GB)  # which is how it says that there is none
    assert memory.available_bytes(CPU) == 6 * GB // 100


@pytest.mark.parametrize("path", ["/docker/abc", "/../../other"])
def test_a_container_that_sees_the_paths_of_its_host(system, path):
    system.member(f"4:memory:{path}")
    system.version_1("", GB // 10, GB // 20)
    assert memory.available_bytes(CPU) == GB // 20
    system.member(f"0::{path}")
    system.version_2("", GB // 20, GB // 50)
    assert memory.available_bytes(CPU) == 3 * GB // 100


@pytest.mark.parametrize(("which", "held"), [("RLIMIT_AS", 5_000_000), ("RLIMIT_DATA", 2_000_000)])
def test_ulimits(system, which, held):
    limit = held * 1024 + GB // 10
    system.ulimits[getattr(resource, which)] = (limit, resource.RLIM_INFINITY)
    assert memory.available_bytes(CPU) == GB // 10
    system.ulimits[getattr(resource, which)] = (1, 1)
    assert memory.available_bytes(CPU) == 0


def test_what_is_kept_of_freed_tensors_is_not_held(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10 * GB, 80 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 69 * GB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: GB)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 68 * GB)
    assert memory.held_bytes(GPU) == GB
    assert memory.available_bytes(GPU) == 78 * GB
    assert memory.peak_bytes(GPU) == 68 * GB
