"""The processes of ranks: those started here for a run, and those that torchrun or SLURM has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from kernelexp import interrupts
from kernelexp.engine.checks import refuse
from kernelexp.engine.rank_group import Group, RankLost
from kernelexp.engine.rank_watch import Watch
from kernelexp.engine.ranks import ALONE, Ranks
from kernelexp.experiment import following
from kernelexp.rank_place import Place

# For all to come to where they meet: a cluster may start them minutes apart.
_MEETING = timedelta(minutes=10)
# Ranks that any machine may be asked for, as many cores as it has.
_FEW = 8
# Seconds that processes started here get to end by themselves.
_ENDING = 10.0


def follow(place: Place) -> None:
    """In a rank beside the first: take part in all runs of rank 0."""
    # Rank 0 takes the signals, saves with the others' help and tells them when to end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    store = TCPStore(place.host, place.port, place.size, False, _MEETING)
    watch = Watch(store, place.rank, place.size)
    device = _device(place, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    kind = str(store.get("device"), "utf-8")
    if kind == "cpu":
        device = torch.device("cpu")
    group = _group(place, watch, device, torch.get_num_threads())
    try:
        following.follow(group, device)
    except RankLost as error:  # there is nowhere to meet any more
        watch.wait_for_its_word()
        raise SystemExit(1) from error
    group.close()


# Where a launcher has started the ranks: the group, from the first run on.
_launched: Group | None = None


@contextmanager
def together(asked: int, device: torch.device) -> Iterator[tuple[Ranks, torch.device]]:
    """Around a run: its ranks, as many as ``asked`` or as a launcher has started, and the device of this one.

    Raises:
        ValueError: where these two numbers differ, or a launcher's ranks meet a sweep's own workers.
    """
    place = Place.found()
    if place is None and asked == 1:
        yield ALONE, device
    elif place is None:
        most = max(_FEW, os.cpu_count() or 1)
        if asked > most:
            raise refuse("resource.ranks", asked, f"at most {most} on this machine")
        with _started(asked, device) as group:
            yield group, _device(Place(0, asked, 0, asked, "", 0), device)
    else:
        if asked not in (1, place.size):
            raise refuse("resource.ranks", asked, f"{place.size}, as many as were launched, or 1")
        if interrupts.in_worker():
            raise ValueError(
                f"hydra/launcher=joblib: {place.size} ranks were launched, which train one model at a time; "
                "leave the launcher out"
            )
        group = _of_launcher(place, device)
        try:
            yield group, _device(place, device)
            group.end_following()
        except BaseException:
            group.abandon()
            raise


def _of_launcher(place: Place, device: torch.device) -> Group:
    global _launched
    if _launched is None:
        agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        store = TCPStore(place.host, place.port, place.size, not agent, _MEETING, False)
        store.set("device", device.type)
        watch = Watch(store, 0, place.size)
        _launched = _group(place, watch, _device(place, device), torch.get_num_threads())
    return _launched


def end_launched(place: Place) -> None:
    """Of rank 0 at its end: the ranks of a launcher end too."""
    with suppress(RankLost):
        group = _of_launcher(place, torch.device("cpu"))
        following.end(group)
        group.close()


@contextmanager
def _started(size: int, device: torch.device) -> Iterator[Group]:
    """Start the others on this machine, each with its share of the threads, and end them."""
    store = TCPStore("127.0.0.1", 0, size, True, _MEETING, False)
    store.set("device", device.type)
    threads = torch.get_num_threads()
    share = max(1, threads // size)
    place = Place(0, size, 0, size, "127.0.0.1", store.port)
    children = [_start(place, rank, share) for rank in range(1, size)]

    def gone() -> Iterator[tuple[int, str]]:
        for rank, child in enumerate(children, 1):
            if (code := child.poll()) is not None:
                how = f"was killed ({signal.Signals(-code).name})" if code < 0 else "has ended"
                yield rank, how

    def kill() -> None:
        for child in children:
            child.kill()

    group: Group | None = None
    try:
        watch = Watch(store, 0, size, gone, kill)
        group = _group(place, watch, _device(place, device), share)
        yield group
        group.end_following()
        following.end(group)
        group.close()
        for child in children:
            with suppress(subprocess.TimeoutExpired):  # its work is done, and it is ended below
                child.wait(_ENDING)
    except BaseException:
        kill()
        if group is not None:
            group.close()
        raise
    finally:
        kill()
        for child in children:
            child.wait()
        if device.type == "cpu":
            torch.set_num_threads(threads)


def _start(place: Place, rank: int, threads: int) -> subprocess.Popen[bytes]:
    env = {
        **os.environ,
        "RANK": str(rank),
        "WORLD_SIZE": str(place.size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(place.size),
        "MASTER_ADDR": place.host,
        "MASTER_PORT": str(place.port),
        "OMP_NUM_THREADS": str(threads),
    }
    # A session of its own: what is typed at the terminal is for rank 0.
    return subprocess.Popen(
        [sys.executable, "-m", "kernelexp"],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _device(place: Place, device: torch.device) -> torch.device:
    """Of this rank, where rank 0 has ``device``: that one and those after it, a GPU each as far as there are."""
    if device.type != "cuda":
        return device
    return torch.device(
        "cuda", ((device.index or 0) + place.local_rank) % torch.cuda.device_count()
    )


def _group(place: Place, watch: Watch, device: torch.device, threads: int) -> Group:
    """Meet the others."""
    cuda = device.type == "cuda"
    gpus = torch.cuda.device_count() if cuda else 1
    beside = -(-place.local_size // gpus)
    return Group(watch, device, None if cuda else threads, beside, cuda and beside == 1)
