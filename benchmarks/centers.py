"""EigenPro 3 and 4 against the plain published algorithm: seconds and accuracy with p < n centers.

    python benchmarks/centers.py       Fashion-MNIST in $KERNELEXP_DATA, n = 20,000, p = 5,000

Three epochs of ``naive.eigenpro4`` are the unit of time; ours run side by side with it, in turns, set-up
included. The accuracy to be met is that of the exact least-squares solution on the same centers.
"""

import os
import sys
import time
from pathlib import Path
from statistics import median

import naive
import torch
from results_file import ratios, spread, write

from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, SOLVERS, Problem, prepare
from kernelexp.engine.centers import choose_centers
from kernelexp.engine.operator import BlockedKernel

N, P, REPEATS = 20_000, 5000, 3
NAIVE = "naive eigenpro4"
KERNEL = KERNELS["laplacian"](bandwidth=10.0)
SETTINGS = {"eigenpro3": {"epochs": 3}, "eigenpro4": {"epochs": 3}, "falkon": {}, "exact": {}}


def accuracy(model_outputs, split):
    return 100 * (model_outputs.argmax(1) == split.labels).double().mean().item()


def ours(name, problem, test):
    """Seconds, set-up included, and test accuracy after each epoch."""
    solver = SOLVERS[name](n_centers=P, **SETTINGS[name])
    training = prepare(solver, problem)
    seconds, found = training.setup_seconds, []
    for record in training.run():
        seconds += record.seconds
        found.append(accuracy(training.model().predict(test.X), test))
    return seconds, found


def published(problem, test, centers):
    """The same of the plain algorithm."""
    generator = torch.Generator().manual_seed(problem.seed)
    epochs = naive.eigenpro4(naive.laplacian, problem.X, problem.Y, centers, 3, generator)
    K_test = BlockedKernel.on(KERNEL, centers.device)(test.X, centers)
    seconds, found, start = 0.0, [], time.perf_counter()
    for alpha in epochs:
        seconds += time.perf_counter() - start
        found.append(accuracy(K_test.matmul(alpha), test))
        start = time.perf_counter()
    return seconds, found


def main():
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS
    data = load(SOURCES["fmnist"](n_train=N), Path(os.environ["KERNELEXP_DATA"]))
    train, test = data.train, data.test
    names = [NAIVE, *SETTINGS]
    seconds, scores = {name: [] for name in names}, {name: [] for name in names}
    for seed in range(repeats):
        problem = Problem(KERNEL, train.X, train.Y, train.labels, seed=seed)
        centers = choose_centers(problem.X, "random", P, problem.generator())
        for name in names:
            took, found = (
                published(problem, test, centers) if name == NAIVE else ours(name, problem, test)
            )
            seconds[name].append(took)
            scores[name].append(found)
            print(name, f"{took:.1f} s", [f"{a:.2f}" for a in found], flush=True)
    rows = [
        {
            "name": name,
            "seconds": seconds[name],
            "ratio": median(ratios(seconds[name], seconds[NAIVE])),
            "accuracy": scores[name],
        }
        for name in names
    ]
    columns = {
        "solver": lambda r: r["name"],
        "epochs": lambda r: len(r["accuracy"][0]),
        "seconds, median (range)": lambda r: spread(r["seconds"], 1),
        "share of naive": lambda r: f"{r['ratio']:.2f}",
        "test accuracy %, median": lambda r: f"{median(a[-1] for a in r['accuracy']):.2f}",
    }
    title = f"p = {P:,} centers, n = {N:,}, Fashion-MNIST, Laplacian s = 10"
    write("centers", title, {"n": N, "p": P, "repeats": repeats}, rows, columns)


if __name__ == "__main__":
    main()
