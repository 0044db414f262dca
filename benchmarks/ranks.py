"""One model on R ranks: a model of an epoch's time, held against what is measured at R = 1 and 2 on this CPU.

    python benchmarks/ranks.py [N]        Fashion-MNIST in $KERNELEXP_DATA, N points (20,000)

EigenPro 2. Of one rank with all threads come the rates P (K computed) and M (K kept), of one rank with one thread the
steps within blocks, of gloo alone the rate L of the network; two ranks of one thread are then foretold. In turn, three
times each. Beside it, ``foretold_on_gpus``: seconds an epoch by the same formula for rates of a GPU.
"""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from statistics import median

from results_file import spread, write

REPEATS, EPOCHS = 3, 4


@dataclass(frozen=True)
class Rates:
    """Of a machine; of thin products those within a block.

    products, steps: operations a second; memory, network: bytes a second; latency: seconds of a collective.
    """

    products: float
    memory: float
    network: float
    latency: float
    steps: float


@dataclass(frozen=True)
class Work:
    """n points, d coordinates, c outputs, q directions, blocks of B rows, w bytes a number."""

    n: int
    d: int
    c: int
    q: int
    B: int
    w: int = 4

    @property
    def steps(self):
        """Operations within the blocks of an epoch, which each rank does."""
        return self.n * self.c * (self.B + 4 * self.q)

    def epoch(self, rates, R, *, kept, gpu):
        """Seconds of an epoch on R ranks: what is shared out, what each does, and what is told."""
        n, d, c, q, B, w = self.n, self.d, self.c, self.q, self.B, self.w
        shared = 2 * n**2 * w / rates.memory if kept else 2 * n**2 * d / rates.products
        each = self.steps / rates.steps
        told, others = n * (c + q) * w, (R - 1) / R
        if gpu:
            each += 2 * n * B * d / rates.products if R > 1 else 0
        else:
            told += n * B * w  # K(X_B, X_B)
        if not kept and not gpu:
            told += n**2 * w / (2 * R)  # two ranks compute half of each other's columns
        return (
            shared / R + each + told * others / rates.network + 3 * rates.latency * n / B * (R > 1)
        )


GPU = Rates(products=50e12, memory=3.3e12, network=50e9, latency=20e-6, steps=10e12)
LINKS = {"NVLink, 300 GB/s": 300e9, "50 GB/s": 50e9, "10 Gbit/s": 1.25e9}


def foretold_on_gpus():
    """Seconds an epoch, K computed anew: a row for n and the network, a column for R."""
    rows = []
    for n in (1_000_000, 10_000_000, 100_000_000):
        work = Work(n, 784, 10, 300, 8192)
        for link, rate in LINKS.items():
            rates = replace(GPU, network=rate)
            times = {R: work.epoch(rates, R, kept=False, gpu=True) for R in (1, 8, 64, 1024)}
            rows.append({"n": n, "link": link, **times})
    return rows


def rank(number, size, port, n, threads):
    """What one rank measures: lines of JSON, of rank 0."""
    import torch
    from torch.distributed import TCPStore

    from kernelexp.data import SOURCES, load
    from kernelexp.engine import KERNELS, SOLVERS, Problem, prepare
    from kernelexp.engine.rank_group import Group
    from kernelexp.engine.rank_watch import Watch
    from kernelexp.engine.ranks import ALONE
    from kernelexp.engine.solvers.block import Block

    torch.set_num_threads(threads)
    ranks, network = ALONE, (float("nan"), float("nan"))
    if size > 1:
        store = TCPStore("127.0.0.1", port, size, number == 0, timedelta(minutes=2))
        ranks = Group(Watch(store, number, size), torch.device("cpu"), threads, beside=size)
        network = _network(ranks, n)
    own = 0.0

    def timed(call):
        def of(*arguments):
            nonlocal own
            start = time.perf_counter()
            made = call(*arguments)
            own += time.perf_counter() - start
            return made

        return of

    Block.stepped = timed(Block.stepped)
    data = load(SOURCES["fmnist"](n_train=n), Path(os.environ["KERNELEXP_DATA"]))
    kernel = KERNELS["laplacian"](bandwidth=10.0)
    problem = Problem(kernel, data.train.X, data.train.Y, data.train.labels, seed=0, ranks=ranks)
    training = prepare(SOLVERS["eigenpro2"](epochs=EPOCHS), problem)
    records = list(training.run())
    if number == 0:
        seconds = [record.seconds for record in records]
        print(json.dumps({
            "setup": training.setup_seconds, "first": seconds[0], "cached": median(seconds[1:]), "steps": own / EPOCHS,
            "B": training.plan.block_size, "q": len(training.system.preconditioner.scales),
            "d": data.train.X[0].numel(), "c": data.train.Y.shape[1],
            "network": network[0], "latency": network[1],
        }))  # fmt: skip
    if size > 1:
        ranks.close()


def _network(ranks, n):
    """Bytes a second that a rank gives to all while it gets theirs, and seconds of an empty collective."""
    import torch

    rows = torch.zeros(n // 2, 400)
    ranks.gather(rows, n)
    start = time.perf_counter()
    for _ in range(10):
        ranks.gather(rows, n)
    rate = 10 * rows.nbytes / (time.perf_counter() - start)
    start = time.perf_counter()
    for _ in range(200):
        ranks.all_reduce(torch.zeros(1))
    return rate, (time.perf_counter() - start) / 200


def run(size, n, threads):
    """What rank 0 of so many ranks measured."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, __file__, "--rank"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    started = [
        subprocess.Popen(
            [*command, *map(str, (number, size, port, n, threads))],
            env=environment,
            stdout=subprocess.PIPE,
        )
        for number in range(size)
    ]
    out = [process.communicate()[0] for process in started]
    assert not any(process.returncode for process in started)
    return json.loads(out[0])


def main(n):
    cores = os.cpu_count()
    kinds = {"one": (1, cores), "thread": (1, 1), "two": (2, 1)}
    runs = {kind: [] for kind in kinds}
    for _ in range(REPEATS):
        for kind, (size, threads) in kinds.items():
            runs[kind].append(run(size, n, threads))
    middle = {
        kind: {key: median(r[key] for r in found) for key in found[0]}
        for kind, found in runs.items()
    }
    one, two = middle["one"], middle["two"]
    work = Work(n, *(int(one[key]) for key in ("d", "c", "q", "B")))
    rates = Rates(
        products=2 * n**2 * work.d / (one["first"] - one["steps"]),
        memory=2 * n**2 * work.w / (one["cached"] - one["steps"]),
        network=two["network"],
        latency=two["latency"],
        steps=work.steps / middle["thread"]["steps"],
    )
    # Two ranks of one thread are one rank of two cut in half: each has half of the rates.
    half = replace(rates, products=rates.products / 2, memory=rates.memory / 2)
    rows = []
    for part, kept in (("first", False), ("cached", True)):
        rows.append({
            "epoch": f"{part}, K {'kept' if kept else 'computed'}",
            "one": [r[part] for r in runs["one"]],
            "two": [r[part] for r in runs["two"]],
            "foretold": work.epoch(half, 2, kept=kept, gpu=False),
        })  # fmt: skip
    columns = {
        "epoch": lambda r: r["epoch"],
        f"1 rank, {cores} threads: s": lambda r: spread(r["one"]),
        "2 ranks, 1 thread: s": lambda r: spread(r["two"]),
        "foretold for 2": lambda r: f"{r['foretold']:.2f}",
    }
    settings = {
        "n": n,
        "rates": asdict(rates),
        "runs": runs,
        "gpus": asdict(GPU),
        "foretold_on_gpus": foretold_on_gpus(),
    }
    write("ranks", "An epoch of EigenPro 2 on one and two ranks", settings, rows, columns)
    for row in settings["foretold_on_gpus"]:
        print(row)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        rank(*map(int, sys.argv[2:]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
