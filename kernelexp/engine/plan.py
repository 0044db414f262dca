"""What a run will hold and how it is cut up, decided before it starts: a pure function of sizes and limits.

A solver's ``plan(sizes, limits, device)`` makes one. A forecast shows it, a set-up follows it, a checkpoint
keeps it, so that training goes on as it was begun whatever memory is free by then.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from kernelexp.engine import memory
from kernelexp.engine.checks import number
from kernelexp.engine.devices import Tiling, tiling

GB = 1e9
# Of what is free, what a run may take where it is not told.
_FREE_SHARE = 0.9
# What is held at most, of the size of a matrix that is solved with: with p < n a quarter of it in rows of K(X, Z).
_BESIDE_MATRIX = 1.3


@dataclass(frozen=True)
class ResourceLimits:
    """What a run may take; null means measured.

    Attributes:
        memory_gb: the most memory (1e9 bytes) the process may hold, each one of several ranks.
        max_batch_size: m_max, the largest critical batch size the preconditioner aims at, and the
            largest batch.
        block_size: rows of the kernel matrix computed together.
        cache_gb: the most that kept rows of the kernel matrix may take; null: what is free.
        ranks: processes on this machine that train the model together.
    """

    memory_gb: float | None = None
    max_batch_size: int | None = None
    block_size: int | None = None
    cache_gb: float | None = None
    ranks: int = 1

    def __post_init__(self) -> None:
        number("memory_gb", self.memory_gb, above=0, optional=True)
        number("max_batch_size", self.max_batch_size, 1, whole=True, optional=True)
        number("block_size", self.block_size, 1, whole=True, optional=True)
        number("cache_gb", self.cache_gb, 0, optional=True)
        number("ranks", self.ranks, 1, whole=True)

    def measured(self, device: torch.device, busy_block: int, sharing: int = 1) -> Limits:
        """These limits with the memory there is; ``busy_block``: as ``Limits``.

        ``sharing``: how many processes share what is free.
        """
        held, allowed = memory_limit(device, self, sharing)
        return Limits(self, held, allowed, busy_block)


@dataclass(frozen=True)
class Limits:
    """What a run may take, in numbers.

    Attributes:
        asked: what was asked for.
        held: bytes that the process holds already.
        allowed: bytes that it may hold.
        busy_block: rows of the kernel matrix that keep the device busy (``measure_block_size``).
    """

    asked: ResourceLimits
    held: int
    allowed: int
    busy_block: int


@dataclass(frozen=True)
class Sizes:
    """What a plan is made for.

    Attributes:
        n: training points.
        d: coordinates.
        c: outputs.
        distinct: how many of the points differ.
        itemsize: bytes of a number of the points.
        ranks: processes that share the work; a plan is of each of them.
    """

    n: int
    d: int
    c: int
    distinct: int
    itemsize: int
    ranks: int = 1

    def own(self, rows: int) -> int:
        """How many of so many rows a rank has at most."""
        return -(-rows // self.ranks)


@dataclass(frozen=True)
class Plan:
    """What a run will hold and how its work is cut up. Sizes that a solver does not have are 0.

    Attributes:
        solver: whose plan it is.
        gigabytes: what is held, by name, in GB (1e9 bytes): ``process`` (already), ``model``, then
            ``setup``, and after it ``step`` and ``cache`` (kernel rows that are kept).
        limit_gb: what may be held.
        tiling: how the kernel matrix is cut up on the device.
        n_centers: p, at most (centers that coincide are one).
        subsample_size: s, points that the spectrum is estimated from.
        max_q: the most directions that are deflated.
        block_size: rows of the kernel matrix computed together.
        max_batch_size: m_max.
        kept_rows: rows of K(X, Z) that are kept.
        test_rows: of K(test points, Z); null: not decided.
        max_rank: the largest rank that there is memory for a pseudo-inverse of.
        precision: of a matrix that is factored.
        packed: whether of that matrix the factor alone is stored, half of its numbers.
        basis: whether there is memory for a factor of K(Z, Z), p < n centers, beside it.
        projection: the plan of an inexact projection's own training on the centers; null: it is exact.
        ranks: processes that share the work; what is held and kept is by each of them.
    """

    solver: str
    gigabytes: dict[str, float]
    limit_gb: float
    tiling: Tiling
    n_centers: int = 0
    subsample_size: int = 0
    max_q: int = 0
    block_size: int = 0
    max_batch_size: int = 0
    kept_rows: int = 0
    test_rows: int | None = None
    max_rank: int = 0
    precision: str = ""
    packed: bool = False
    basis: bool = False
    projection: Plan | None = None
    ranks: int = 1

    @property
    def peak_gb(self) -> float:
        """The most that is held at once."""
        held = self.gigabytes
        return held["process"] + held["model"] + max(held["setup"], self.step_gb)

    @property
    def step_gb(self) -> float:
        """What training holds beside the model."""
        return self.gigabytes["step"] + self.gigabytes.get("cache", 0)

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size:.2f}" for name, size in self.gigabytes.items())
        return f"{self.peak_gb:.2f} GB of {self.limit_gb:.2f} GB ({parts})"

    def limits(self, asked: ResourceLimits) -> Limits:
        """What it was made within, by which the same solver is picked again."""
        held, allowed = int(self.gigabytes["process"] * GB), int(self.limit_gb * GB)
        return Limits(asked, held, allowed, self.block_size)

    def for_ranks_of(self, other: Plan) -> Plan:
        """This plan for another number of ranks: what is held and kept is of ``other``, what decides digits stays."""
        inner = self.projection
        if inner is not None:
            inner = inner.for_ranks_of(other.projection or inner)
        return replace(
            other,
            subsample_size=self.subsample_size,
            max_q=self.max_q,
            block_size=self.block_size,
            max_batch_size=self.max_batch_size,
            projection=inner,
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        """What ``to_dict`` gave."""
        inner = values["projection"]
        return cls(
            **{
                **values,
                "tiling": Tiling(**values["tiling"]),
                "projection": None if inner is None else cls.from_dict(inner),
            }
        )

    def refuse_unless_it_fits(self, limits: Limits, what: str, instead: str) -> None:
        """Refuse a plan whose peak is above the limit; ``what`` says of which run, ``instead`` what to do.

        Raises:
            ValueError: in one line.
        """
        peak = self.peak_gb + limits.held / GB - self.gigabytes["process"]
        if peak * GB > limits.allowed:
            raise ValueError(
                f"resource.memory_gb={limits.allowed / GB:.3g}: must be at least {peak:.2f} for {what}: "
                f"{self}; {instead}, or more memory"
            )


def plan_memory(
    solver: str,
    limits: Limits,
    device: torch.device,
    what: str,
    instead: str,
    **numbers: float,
) -> Plan:
    """A plan of given sizes in bytes: ``model``, ``setup``, ``step``, and what else is held.

    Raises:
        ValueError: where it does not fit; ``what`` says of which run, ``instead`` what to do.
    """
    held = {"process": limits.held / GB, **{name: size / GB for name, size in numbers.items()}}
    plan = Plan(solver, held, limits.allowed / GB, tiling(device))
    plan.refuse_unless_it_fits(limits, what, instead)
    return plan


def with_cache(
    plan: Plan, asked: ResourceLimits, n: int, row_bytes: float, passes: int
) -> tuple[Plan, int]:
    """The plan with as many of n more kernel rows kept as there is room for, and their number.

    ``passes``: how often the rows are needed; for one pass a part of them is not worth its memory.
    """
    held, kept = plan.gigabytes, plan.gigabytes.get("cache", 0)
    room = plan.limit_gb - held["process"] - held["model"] - plan.step_gb
    if asked.cache_gb is not None:
        room = min(room, asked.cache_gb - kept)
    rows = max(0, min(n, int(room * GB / row_bytes + 1e-6)))  # room may be a number of rows, in GB
    if passes == 1 and rows < n:
        rows = 0
    return replace(plan, gigabytes={**held, "cache": kept + rows * row_bytes / GB}), rows


def memory_limit(device: torch.device, asked: ResourceLimits, sharing: int = 1) -> tuple[int, int]:
    """What the process holds and what it may hold, in bytes; ``sharing``: see ``ResourceLimits.measured``."""
    held = memory.held_bytes(device)
    if asked.memory_gb is None:
        return held, held + int(_FREE_SHARE * memory.available_bytes(device)) // sharing
    return held, int(asked.memory_gb * GB)


def tile_numbers(n: int, device: torch.device) -> int:
    """What tiles of the kernel matrix and their temporaries hold, in numbers."""
    return 10 * min(tiling(device).tile, n) ** 2


def matrix_fits(limits: Limits, p: int, dtype: torch.dtype, share: float = 1.0) -> bool:
    """Whether the matrix of p centers, to be solved with, and what is needed beside it fit the memory there is.

    ``share``: of its numbers that are stored.
    """
    return limits.held + _BESIDE_MATRIX * share * dtype.itemsize * p * p < limits.allowed
