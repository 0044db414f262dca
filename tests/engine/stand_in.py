"""A GPU to test with where there is none: tensors that say cuda:0 and are computed on the CPU.

``StandIn`` is a mode: while it is on, each function of PyTorch that is given such a tensor, or asked for
one by ``device``, is run on the CPU tensors within. It refuses what a GPU would refuse, tensors of both
places in one function, and counts what costs time there: launches, and syncs, where the host waits.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kernelexp.engine import devices, tiles
from kernelexp.engine.kernels import KERNELS
from kernelexp.engine.kernels.geometry import moved_to_common_origin

GPU = torch.device("cuda:0")
# What neither launches a kernel nor copies: views, and questions about shape and type.
_FREE = {
    "__get__",
    "view",
    "squeeze",
    "unsqueeze",
    "expand",
    "reshape",
    "transpose",
    "t",
    "diagonal",
    "split",
    "tensor_split",
    "numel",
    "dim",
    "size",
    "stride",
    "__len__",
    "is_contiguous",
    "is_floating_point",
    "element_size",
    "data_ptr",
    "untyped_storage",
    "record_stream",
    "is_pinned",
    "detach",
    "narrow",
    "unbind",
    "select",
    "to",
    "__hash__",
    "__repr__",
    "__format__",
}
# The host waits for these, since a Python value or a shape depends on the numbers.
_SYNCS = {
    "item",
    "tolist",
    "__bool__",
    "__float__",
    "__int__",
    "__index__",
    "nonzero",
    "bincount",
    "unique",
    "equal",
    "cpu",
    "allclose",
    "masked_select",
    "argwhere",
}
# May be given tensors of both places.
_BETWEEN = {"copy_", "to", "__getitem__", "__setitem__"}
# What a tensor says of where it is.
_PLACES = {Tensor.device.__get__: GPU, Tensor.is_cuda.__get__: True}


class OnGPU(Tensor):
    """A tensor of the stand-in device; ``on_cpu`` has the numbers."""

    on_cpu: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> OnGPU:
        layout = {"strides": values.stride(), "storage_offset": values.storage_offset()}
        made = Tensor._make_wrapper_subclass(
            cls, values.size(), dtype=values.dtype, device=GPU, **layout
        )
        made.on_cpu = values
        return made

    def __repr__(self) -> str:
        return f"OnGPU({self.on_cpu})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} was called outside of the stand-in device's mode")


def _mapped(function, value):
    """The value with ``function`` of each tensor in place of it."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple | list):  # also PyTorch's named ones, made from one sequence
        return type(value)([_mapped(function, part) for part in value])
    if isinstance(value, dict):
        return {key: _mapped(function, part) for key, part in value.items()}
    return value


def _tensors(*values) -> list[Tensor]:
    found: list[Tensor] = []
    _mapped(lambda t: found.append(t) or t, list(values))
    return found


def _is_gpu(device) -> bool:
    return isinstance(device, str | torch.device) and torch.device(device).type == "cuda"


class StandIn(TorchFunctionMode):
    """The device. Counters by name of the function: ``launches``, ``syncs``, ``pins``; ``products``
    lists how float32 was to be multiplied in each matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.launches, self.syncs, self.pins = (collections.Counter() for _ in range(3))
        self.products: list[str] = []
        self.pinned: dict[int, Tensor] = {}
        self.quiet = False

    def reset(self) -> None:
        for counts in (self.launches, self.syncs, self.pins):
            counts.clear()
        self.products.clear()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        tensors = _tensors(args, kwargs)
        ours = [t for t in tensors if isinstance(t, OnGPU)]
        if name == "pin_memory":
            return self._pin(*args)
        if name == "is_pinned":
            return not ours and args[0].untyped_storage().data_ptr() in self.pinned
        if ours and func in _PLACES:
            return _PLACES[func]
        places = [a for a in (*args[1:], kwargs.get("device")) if isinstance(a, str | torch.device)]
        there = bool(ours)  # whether the result is
        if places and name != "__format__":
            there = _is_gpu(places[0])
            args = tuple("cpu" if _is_gpu(a) else a for a in args)
            kwargs |= {"device": "cpu"} if _is_gpu(kwargs.get("device")) else {}
        if not (ours or there):
            return func(*args, **kwargs)
        if name == "to":
            kwargs["copy"] = there != bool(ours)
            pinned = not ours and args[0].untyped_storage().data_ptr() in self.pinned
            waits = not (pinned and kwargs.get("non_blocking")) and args[0].dim()
            self.syncs[name] += bool(waits) and there != bool(ours)
        self._check(name, args, tensors, ours)
        self._count(name, args)
        known = {id(t.on_cpu): t for t in ours}
        args, kwargs = _mapped(lambda t: getattr(t, "on_cpu", t), (args, kwargs))
        if name == "mm" and kwargs.get("out_dtype"):  # a CPU has no such product
            out = args[0].to(kwargs.pop("out_dtype")) @ args[1].float()
        else:
            out = func(*args, **kwargs)
        if name == "to" and id(out) not in known and not self.quiet:
            self.launches[name] += 1
        if not there or name == "cpu":
            return out
        return _mapped(lambda t: known[id(t)] if id(t) in known else OnGPU(t), out)

    def _pin(self, X: Tensor) -> Tensor:
        assert not isinstance(X, OnGPU)
        X = X.clone()
        self.pins["bytes"] += X.nbytes
        self.pinned[X.untyped_storage().data_ptr()] = X  # kept, so that no other gets its address
        return X

    def _check(self, name, args, tensors, ours) -> None:
        if name in ("__getitem__", "__setitem__"):
            if isinstance(args[0], OnGPU):
                return
            raise RuntimeError("a CPU tensor is indexed by or filled from one of the GPU")
        others = [t for t in tensors if not isinstance(t, OnGPU) and t.dim()]
        if ours and others and name not in _BETWEEN:
            raise RuntimeError(f"{name}: all tensors must be on one device")

    def _count(self, name, args) -> None:
        if self.quiet:
            return
        if name in ("matmul", "__matmul__", "__rmatmul__", "mm", "addmm", "addmm_"):
            self.products.append(torch.backends.cuda.matmul.fp32_precision)
        if name in ("__getitem__", "__setitem__"):
            indices = _tensors(args[1])
            waits = [t for t in indices if t.dtype == torch.bool or not isinstance(t, OnGPU)]
            self.syncs[name] += bool(waits)
            if name == "__getitem__" and not indices:
                return
        if name == "copy_" and not isinstance(args[1], OnGPU):
            self.syncs[name] += 1
        if name in _SYNCS:
            self.syncs[name] += 1
        if name not in _FREE:
            self.launches[name] += 1


class _Stream:
    def record_event(self):
        return self

    def wait_event(self, event):
        assert event is not None


@contextlib.contextmanager
def stand_in(monkeypatch: pytest.MonkeyPatch, tile: int = 128, triton: bool = True):
    """The device, and what the engine asks of CUDA beside tensors, until the end of the block."""
    device = StandIn()
    for name, value in {
        "synchronize": lambda *_: device.syncs.update(["clock"]),
        "mem_get_info": lambda *_: (20 * 10**9, 20 * 10**9),
        "memory_reserved": lambda *_: 0,
        "memory_allocated": lambda *_: 0,
        "max_memory_allocated": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "empty_cache": lambda: None,
        "stream": lambda stream: contextlib.nullcontext(),
        "current_stream": lambda *_: _Stream(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(Tensor, "record_stream", lambda *_: None)
    monkeypatch.setattr(tiles, "_copying", lambda _: _Stream())
    monkeypatch.setattr(devices, "GPU", dataclasses.replace(devices.GPU, tile=tile))
    monkeypatch.setattr(
        tiles, "_fused", lambda place: _Fused(device) if triton and _is_gpu(place) else None
    )
    with device:
        yield device


class _Fused:
    """What ``engine.fused`` does: inner products, then one launch for all that follows."""

    def __init__(self, device: StandIn) -> None:
        self.device = device

    def serves(self, kernel, X) -> bool:
        known = type(kernel) is KERNELS.get(getattr(kernel, "name", ""))
        return known and kernel.name != "linear" and X.values.dtype == torch.float32

    def matrix(self, kernel, X, Z):
        x, z = (X, Z) if X.is_exact_with(Z) else moved_to_common_origin(X, Z)
        G = x.inner_products(z)
        for tensor in (G, X.values, Z.values, x.norms, z.norms):
            assert isinstance(tensor, OnGPU)
            assert tensor.dtype == torch.float32
        self.device.launches["fused"] += 1
        self.device.quiet, counts = True, self.device.syncs.copy()
        try:
            return kernel.matrix(X, Z)
        finally:
            self.device.quiet = False
            self.device.syncs.clear()
            self.device.syncs.update(counts)
