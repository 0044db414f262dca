"""What checkpoints cost: seconds to write one and to read it, and its share of a run.

    python benchmarks/checkpoint.py [N]        Fashion-MNIST in $KERNELEXP_DATA, N points (20,000)

One is written after each round of two epochs, into the current folder's file system, synced. The share is of a
run with a checkpoint every 10 minutes (the default) and every minute.
"""

import os
import sys
import tempfile
from pathlib import Path

import torch
from results_file import spread, write
from timing import DEVICE, timed

from kernelexp.checkpoint import Checkpoint
from kernelexp.checkpoint.folder import Folder
from kernelexp.checkpoint.header import Epoch, Header, Origin
from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, SOLVERS, Problem, prepare

SOLVED = {
    "sgd": {},
    "eigenpro2": {},
    "eigenpro4": {"n_centers": 2000},
    "falkon": {"n_centers": 2000},
    "cg": {},
}
AT_MOST = 20  # checkpoints of a solver


class Enough(Exception):
    """As many checkpoints as are wanted."""


def measure(name, settings, problem, folder):
    solver = SOLVERS[name](epochs=2, **settings)
    setup, training = timed(lambda: prepare(solver, problem))
    origin = Origin.here("family", "data", problem.Y.dtype, problem.device)
    own, times = Folder(folder), []
    own.hold()

    def after_round():
        epochs = tuple(Epoch(record, {"epoch_train_mse": 0.1}) for record in training.records)
        saved = training.saved()
        made = Checkpoint(Header(origin, "files", epochs=epochs), saved.tensors, saved.numbers)
        times.append(timed(lambda: own.add(made))[0])
        if len(times) == AT_MOST:
            raise Enough

    try:
        for _ in training.run(after_round):
            pass
    except Enough:
        pass
    size = max(path.stat().st_size for path in folder.glob("*.safetensors"))
    reading, found = timed(own.newest)
    same = all(torch.equal(t.cpu(), found.tensors[n]) for n, t in training.saved().tensors.items())
    own.clear()
    own.release()
    return {
        "solver": name,
        "megabytes": size / 1e6,
        "writing": times,
        "reading": reading,
        "setup": setup,
        "same": same,
    }


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    data = load(SOURCES["fmnist"](n_train=n, n_test=10), Path(os.environ["KERNELEXP_DATA"]))
    train = data.train
    X, Y, labels = (tensor.to(DEVICE) for tensor in (train.X, train.Y, train.labels))
    problem = Problem(KERNELS["laplacian"](), X, Y, labels)
    rows = []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for name, settings in SOLVED.items():
            rows.append(measure(name, settings, problem, Path(folder) / name))
            print(rows[-1], flush=True)

    def share(minutes):
        return lambda r: f"{100 * max(r['writing']) / (60 * minutes):.4f}%"

    columns = {
        "solver": lambda r: r["solver"],
        "MB": lambda r: f"{r['megabytes']:.1f}",
        "s to write one": lambda r: spread(r["writing"], 3),
        "of a run, every 10 minutes": share(10),
        "every minute": share(1),
        "s to read it": lambda r: f"{r['reading']:.3f}",
        "set-up before going on, s": lambda r: f"{r['setup']:.2f}",
    }
    title = f"Checkpoints on Fashion-MNIST, n = {n:,}; shares by the slowest of those written"
    write("checkpoint", title, {"n": n}, rows, columns)


if __name__ == "__main__":
    main()
