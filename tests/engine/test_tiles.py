"""How points come to the device, tile by tile."""

import contextlib
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from kernelexp.engine import KERNELS
from kernelexp.engine.devices import CPU
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.packed import PackedFactor
from kernelexp.engine.points import Points
from kernelexp.engine.tiles import tiles

USES = {
    "dense": lambda K, W: K.dense() @ W,
    "blocks": lambda K, W: torch.cat([block @ W for _, block in K.blocks(128)]),
    "matmul": lambda K, W: K.matmul(W),
    "packed": lambda K, W: PackedFactor(K, torch.ones_like(W), 0.1, 0.0).product(W) - 0.1 * W,
}


@pytest.mark.parametrize("use", USES)
def test_points_of_another_type_are_converted_tile_by_tile(use, monkeypatch):
    """Of 16 tiles a few are there at a time, not all points once more."""
    X = torch.randn(1024, 3, generator=torch.Generator().manual_seed(0))
    W = torch.randn(1024, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    kernel, to, converted, most = KERNELS["laplacian"](bandwidth=2.0), Points.to, [], []

    def followed(points, dtype, device):
        made = to(points, dtype, device)
        if made is not points:
            converted.append(weakref.ref(made.values))
            most.append(sum(len(ref()) for ref in converted if ref() is not None))
        return made

    monkeypatch.setattr(Points, "to", followed)
    points = Points.of(X)
    K = BlockedKernel(kernel, replace(CPU, tile=64))(points, points, dtype=torch.float64)
    found = USES[use](K, W)
    assert max(most) <= 4 * 64
    expected = kernel(X.double(), X.double()) @ W
    assert (found - expected).norm() < 1e-12 * expected.norm()


def test_tiles_of_points_on_the_host_are_copied_ahead(monkeypatch):
    """The order of copies and waits, with stand-ins for what a GPU has; what it does with them is
    tested where there is one (test_fused.py)."""
    happened = []

    class Stream:
        def record_event(self):
            return len([word for word in happened if word == "copy"]) - 1

        def wait_event(self, event):
            happened.append(f"wait for {event}")

    def pin_memory(values):
        happened.append("copy")
        return values

    monkeypatch.setattr("kernelexp.engine.tiles._copying", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: happened.append("hold"))
    X = torch.randn(1100, 3)
    elsewhere = SimpleNamespace(device=torch.device("cpu:0"), dtype=torch.float64)
    got = []
    for rows, tile in tiles(Points.of(X), 512, elsewhere):
        happened.append(f"use {rows.start}")
        assert torch.equal(tile.values, X[rows].double())
        got.append(rows)
    assert [(rows.start, rows.stop) for rows in got] == [(0, 512), (512, 1024), (1024, 1100)]
    assert happened == [
        *["copy", "copy", "wait for 0", "hold", "use 0"],
        *["copy", "wait for 1", "hold", "use 512", "wait for 2", "hold", "use 1024"],
    ]
