"""Fifty ridges with leave-one-out errors beside one exact solution, in turn.

    python benchmarks/ridge_path.py [N ...]        Fashion-MNIST in $KERNELEXP_DATA, all centers (2,000, 5,000)

And with 2,000 centers of 20,000 points.
"""

import os
import sys
from pathlib import Path

from results_file import ratios, spread, write
from timing import DEVICE, timed

from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, SOLVERS, Problem, prepare

REPEATS = 3
CENTERS = 2000, 20_000


def fitted(name, problem, **settings):
    training = prepare(SOLVERS[name](**settings), problem)
    list(training.run())
    return training


def compare(n, centers):
    data = load(SOURCES["fmnist"](n_train=n), Path(os.environ["KERNELEXP_DATA"]), noise=0.1)
    train = data.train
    kernel = KERNELS["laplacian"](bandwidth=10.0)
    problem = Problem(kernel, train.X.to(DEVICE), train.Y.to(DEVICE), train.labels.to(DEVICE))
    few = {} if centers is None else {"n_centers": centers}
    exact, path = [], []
    for _ in range(REPEATS):
        exact.append(timed(lambda: fitted("exact", problem, ridge=1e-4, **few))[0])
        seconds, training = timed(lambda: fitted("ridge_path", problem, **few))
        path.append(seconds)
    choice = training.choice()
    return {"n": n, "p": centers or n, "exact": exact, "path": path, **choice}


def main(sizes):
    rows = [compare(n, None) for n in sizes] + [compare(CENTERS[1], CENTERS[0])]
    columns = {
        "n": lambda r: f"{r['n']:,}",
        "centers": lambda r: f"{r['p']:,}",
        "exact, one ridge: s": lambda r: spread(r["exact"]),
        "50 ridges: s": lambda r: spread(r["path"]),
        "times": lambda r: spread(ratios(r["path"], r["exact"])),
        "ridge taken": lambda r: f"{r['ridge']:.1e}",
        "leave-one-out accuracy": lambda r: f"{100 * r['loo_accuracy']:.2f}%",
    }
    settings = {"kernel": "laplacian, s = 10", "noise": 0.1, "repeats": REPEATS}
    write("ridge_path", "Fifty ridges and one", settings, rows, columns)


if __name__ == "__main__":
    main([int(n) for n in sys.argv[1:]] or [2000, 5000])
