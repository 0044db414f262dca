"""What a device is called, and the pieces that are fast on it."""

import pytest
import torch

from kernelexp.engine import KERNELS, devices
from kernelexp.engine.devices import GPU, device_name, tiling
from kernelexp.engine.operator import BlockedKernel

CPU = torch.device("cpu")


@pytest.mark.parametrize(("says", "tile"), [("2048K", 512), ("512K", 768), ("", 512), (None, 512)])
def test_pieces_by_device(says, tile, tmp_path, monkeypatch):
    """On a CPU by what the system says of its second-level cache."""
    file = tmp_path / "size"
    if says is not None:
        file.write_text(says + "\n")
    monkeypatch.setattr(devices, "_SYSTEM_CACHE", file)
    monkeypatch.setattr(devices, "second_level_cache", devices.second_level_cache.__wrapped__)
    assert tiling(CPU).tile == tile
    assert tiling(torch.device("cuda", 1)) == GPU
    assert BlockedKernel.on(KERNELS["laplacian"](), torch.device("cuda")).tiling == GPU


@pytest.fixture
def processor(tmp_path, monkeypatch):
    def says(text):
        file = tmp_path / "cpuinfo"
        file.write_text(text)
        monkeypatch.setattr(devices, "_CPUINFO", file)

    device_name.cache_clear()
    yield says
    device_name.cache_clear()


def test_a_processor_is_told_from_others_of_its_name(processor):
    """Virtual machines say ``AMD EPYC`` of three generations."""
    processor("model\t\t: 1\nmodel name\t: AMD EPYC\ncpu family\t: 25\n\nmodel name\t: no\n")
    name = device_name(CPU)
    assert name.startswith("AMD EPYC, family 25 model 1, ")
    assert torch.backends.cpu.get_cpu_capability() in name


def test_a_processor_whose_name_is_not_known(processor):
    processor("Hardware : BCM2835\n")
    assert device_name(CPU).split(", ")[0]
