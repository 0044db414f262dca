"""The processes that train one model together, its ranks: what each owns and how they agree.

A solver asks ``problem.ranks`` for its own part of n rows and for sums over all ranks. ``Ranks`` itself is one
process alone, which owns everything: each call then gives back what it was given, so that one rank computes what
it would without any of this. ``rank_group.Group`` is several.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from kernelexp.engine.points import Points

T = TypeVar("T")
Rows = TypeVar("Rows", Tensor, "Points")


class NothingToDo(Exception):
    """Rank 0 does the rest alone."""


class Ranks:
    """One process alone.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        beside: how many share the memory of this one's device, itself included.
    """

    rank: int = 0
    size: int = 1
    beside: int = 1

    @property
    def alone(self) -> bool:
        """Whether there is one."""
        return self.size == 1

    def part(self, n: int, rank: int | None = None) -> slice:
        """Which of n rows are this rank's, or another's."""
        rank = self.rank if rank is None else rank
        return slice(rank * n // self.size, (rank + 1) * n // self.size)

    def own(self, rows: Rows) -> Rows:
        """This rank's of all rows (n, ...); alone the same object, for a matrix to be seen as symmetric."""
        return rows

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum over ranks, on each; ``values`` may be overwritten."""
        return values

    def gather(self, own: Tensor, n: int) -> Tensor:
        """All rows (n, c), on each rank, of those that each owns."""
        return own

    def picked(self, own: list[Tensor], index: Tensor, rows: Tensor, n: int) -> list[Tensor]:
        """The same rows of matrices of n rows, on each rank, of which each owns its part.

        ``index`` (m,) is of the host, ``rows`` the same on the device.
        """
        return [values[rows] for values in own]

    def owns(self, index: Tensor, n: int) -> Tensor:
        """Which of some rows of n are this rank's: index (m,) of the host -> (m,)."""
        return torch.ones_like(index, dtype=torch.bool)

    def assembled(self, own: Tensor, index: Tensor, n: int) -> Tensor:
        """Some rows of n, index (m,) of the host -> (m, c), on each rank; ``own``: those it owns, in their order."""
        return own

    def exchanged(self, values: Tensor, shape: tuple[int, ...], other: int) -> Tensor:
        """What another rank gives, of this shape and the type of the values that it is given."""
        raise NotImplementedError  # alone there is no other

    def mean(self, own: Tensor, n: int) -> float:
        """The mean of a matrix of n rows, of which each rank owns its part."""
        return own.mean().item()

    def max(self, value: float) -> float:
        """The largest over ranks."""
        return value

    def agreed(self, value: T) -> T:
        """That of rank 0, on each."""
        return value

    def first(self, make: Callable[[], T]) -> T | None:
        """Made by rank 0 alone, with the threads of all that are beside it; None on the others."""
        return make()

    def once(self, make: Callable[[], T], generator: torch.Generator | None = None) -> T:
        """``first``, given to all; what was drawn from ``generator`` then counts as drawn by all."""
        return make()

    def lead(self) -> None:
        """Of rank 0, where the others follow: tell them what it calls from now on.

        Without this all ranks are to call the same in the same order.
        """

    def end_following(self) -> None:
        """Of rank 0: what the others follow has ended."""

    def leading(self, name: str) -> AbstractContextManager[None]:
        """Around a method that all ranks must call: rank 0 tells those that follow it."""
        return nullcontext()

    def all_here(self) -> None:
        """Wait for all: what fails on one rank fails on all before this."""

    def begin_again(self) -> None:
        """After a rank ran out of memory, which ended what all did: meet anew."""

    def dismissed(self) -> Ranks:
        """Rank 0 alone, with all threads of its machine.

        Raises:
            NothingToDo: on the others.
        """
        return self


ALONE = Ranks()


def led(method: Callable[..., T]) -> Callable[..., T]:
    """A method that all ranks call together, of an object with ``ranks``."""

    @functools.wraps(method)
    def call(self: Any, *args: Any) -> T:
        with self.ranks.leading(method.__name__):
            return method(self, *args)

    return call
