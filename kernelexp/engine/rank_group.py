"""Several ranks by ``torch.distributed``: sums, rows that each has some of, and rank 0's word."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore  # type: ignore[attr-defined]

from kernelexp.engine import memory
from kernelexp.engine.rank_watch import Watch
from kernelexp.engine.ranks import ALONE, NothingToDo, Ranks, Rows

T = TypeVar("T")

# Rank 0 may load data, compare or ask its store for long while the others wait; whether it lives the watch says.
_PATIENCE = timedelta(days=7)
# Letters of a method's name; the one that ends following.
_NAME, _END = 32, "end"


class RankLost(RuntimeError):
    """A rank has died or hangs, and what all did has ended."""


class RankOutOfMemory(RankLost, MemoryError):
    """A rank has run out of memory."""


class Group(Ranks):
    """One of several ranks.

    Attributes:
        watch: whether the others live.
        bytes_reduced, bytes_gathered, bytes_exchanged: that this rank has put into sums, given to all, and to one.
    """

    def __init__(
        self,
        watch: Watch,
        device: torch.device,
        threads: int | None = None,
        beside: int = 1,
        own_gpu: bool = False,
    ) -> None:
        """Meet the others at the store of ``watch``.

        ``threads``: of a CPU, for this rank, where it takes a share of them. ``own_gpu``: whether each rank has a
        GPU of its own, which NCCL wants.
        """
        self.watch, self.rank, self.size, self.beside = watch, watch.rank, watch.size, beside
        self.bytes_reduced = self.bytes_gathered = self.bytes_exchanged = 0
        self._device, self._backend = device, "cpu:gloo,cuda:nccl" if own_gpu else "gloo"
        self._generation, self._leads, self._busy = 0, False, False
        self._threads = threads
        if threads is not None:
            torch.set_num_threads(threads)
        self._meet()

    def _meet(self) -> None:
        with self._named():
            dist.init_process_group(
                self._backend,
                store=PrefixStore(f"group/{self._generation}", self.watch.store),
                rank=self.rank,
                world_size=self.size,
                timeout=_PATIENCE,
            )

    @contextmanager
    def _named(self) -> Iterator[None]:
        """What a collective raises is that a rank is lost: which, and how."""
        try:
            yield
        except RuntimeError as error:
            if memory.is_exhausted(error) or isinstance(error, RankLost):
                raise
            why, exhausted = self.watch.reason(self._generation, str(error).partition("\n")[0])
            raise (RankOutOfMemory if exhausted else RankLost)(why) from error

    def own(self, rows: Rows) -> Rows:
        return rows[self.part(len(rows))]

    def all_reduce(self, values: Tensor) -> Tensor:
        values = values.contiguous()
        self.bytes_reduced += values.nbytes
        with self._named():
            dist.all_reduce(values)
        return values

    def gather(self, own: Tensor, n: int) -> Tensor:
        parts = (self.part(n, rank) for rank in range(self.size))
        return self._gathered(own, [part.stop - part.start for part in parts])

    def owns(self, index: Tensor, n: int) -> Tensor:
        return self._owners(index, n) == self.rank

    def _owners(self, index: Tensor, n: int) -> Tensor:
        """The rank of each of some rows of n."""
        ends = torch.tensor([self.part(n, rank).stop for rank in range(self.size)])
        return torch.bucketize(index, ends, right=True)

    def picked(self, own: list[Tensor], index: Tensor, rows: Tensor, n: int) -> list[Tensor]:
        mine = memory.sent(index[self.owns(index, n)] - self.part(n).start, own[0].device)
        widths = [values.shape[1] for values in own]
        together = self.assembled(torch.cat([values[mine] for values in own], 1), index, n)
        return list(torch.split(together, widths, 1))

    def assembled(self, own: Tensor, index: Tensor, n: int) -> Tensor:
        owners = self._owners(index, n)
        by_rank = self._gathered(own, owners.bincount(minlength=self.size).tolist())
        whole = torch.empty_like(by_rank)
        whole[memory.sent(owners.argsort(stable=True), own.device)] = by_rank
        return whole

    def _gathered(self, own: Tensor, counts: list[int]) -> Tensor:
        """The rows of all ranks, of each so many, in the order of ranks."""
        device = own.device if self._backend != "gloo" else torch.device("cpu")
        # Gloo wants as many of each, and the host's.
        padded = torch.empty(max(counts), *own.shape[1:], dtype=own.dtype, device=device)
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in counts]
        self.bytes_gathered += padded.nbytes
        with self._named():
            dist.all_gather(parts, padded)
        whole = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
        return whole.to(own.device)

    def exchanged(self, values: Tensor, shape: tuple[int, ...], other: int) -> Tensor:
        got = values.new_empty(shape)
        with self._named():
            for work in (dist.isend(values, other), dist.irecv(got, other)):
                assert work is not None  # both are of this group
                work.wait()
        self.bytes_exchanged += values.nbytes
        return got

    def mean(self, own: Tensor, n: int) -> float:
        total = self.all_reduce(own.sum(dtype=torch.float64))
        return total.item() / (n * own.shape[1])

    def max(self, value: float) -> float:
        values = torch.tensor(value, dtype=torch.float64)
        with self._named():
            dist.all_reduce(values, dist.ReduceOp.MAX)
        return values.item()

    def agreed(self, value: T) -> T:
        buffer = io.BytesIO()
        if not self.rank:
            torch.save(value, buffer)
        size = torch.tensor(buffer.tell())
        with self._named():
            dist.broadcast(size, 0)
            data = torch.empty(int(size), dtype=torch.uint8)
            if not self.rank:
                data.copy_(torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8))
            dist.broadcast(data, 0)
        if not self.rank:
            return value
        read = io.BytesIO(data.numpy().tobytes())
        # Rank 0 is this very program.
        told: T = torch.load(read, map_location=self._device, weights_only=False)
        return told

    def first(self, make: Callable[[], T]) -> T | None:
        if self.rank:
            return None
        if self._threads is None:
            return make()
        torch.set_num_threads(self._threads * self.beside)
        try:
            return make()
        finally:
            torch.set_num_threads(self._threads)

    def once(self, make: Callable[[], T], generator: torch.Generator | None = None) -> T:
        def made() -> tuple[T, Tensor | None]:
            value = make()
            return value, None if generator is None else generator.get_state()

        told: Any = self.agreed(self.first(made))
        value, state = told
        if generator is not None:
            generator.set_state(state.cpu())
        return value  # type: ignore[no-any-return]

    @contextmanager
    def leading(self, name: str) -> Iterator[None]:
        if not self._leads or self._busy:
            yield
            return
        self._tell(name)
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _tell(self, name: str) -> str:
        letters = torch.zeros(_NAME, dtype=torch.uint8)
        letters[: len(name)] = torch.tensor(list(name.encode()), dtype=torch.uint8)
        with self._named():
            dist.broadcast(letters, 0)
        return bytes(letters.tolist()).rstrip(b"\0").decode()

    def follow(self, calls: dict[str, Callable[[], Any]]) -> None:
        """Of other ranks: call what rank 0 calls, until it ends that.

        Raises:
            RankLost: where another rank, or rank 0's attempt, has ended.
        """
        while (name := self._tell("")) != _END:
            calls[name]()

    def lead(self) -> None:
        self._leads = True

    def end_following(self) -> None:
        self._tell(_END)
        self._leads = False

    def all_here(self) -> None:
        self.all_reduce(torch.zeros(1))

    def begin_again(self) -> None:
        self.watch.tell_exhausted(self._generation)
        self.abandon()

    def dismissed(self) -> Ranks:
        if self.rank:
            raise NothingToDo
        if self._threads is not None:
            torch.set_num_threads(self._threads * self.beside)
        return ALONE

    def abandon(self) -> None:
        """Leave what all are at, where an error was; the others, which it ends too, meet this one anew."""
        self.watch.tell_abandoned(self._generation)
        self.meet_again()

    def meet_again(self) -> None:
        """Where another has left what all were at."""
        dist.destroy_process_group()
        self._generation += 1
        self._leads = self._busy = False
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        self._meet()

    def fail(self, error: BaseException) -> None:
        """Tell the others why this rank ends, or leaves what all are at."""
        if memory.is_exhausted(error):
            self.watch.tell_exhausted(self._generation)
        else:
            self.watch.fail(self._generation, error)

    def close(self) -> None:
        """Leave the others for good."""
        self.watch.close()
        dist.destroy_process_group()
