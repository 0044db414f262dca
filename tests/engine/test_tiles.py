"""How points come to the device, tile by tile."""

import contextlib
from types import SimpleNamespace

import torch

from kernelexp.engine.points import Points
from kernelexp.engine.tiles import tiles


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
