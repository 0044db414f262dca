"""EigenPro 2 on Fashion-MNIST against the plain published algorithm, five epochs, set-up included.

    python benchmarks/eigenpro2.py [N ...]     Fashion-MNIST in $KERNELEXP_DATA; default 20000 60000

Laplacian, s = 10. The published algorithm is ``naive.eigenpro2`` (dense eigensolver, nothing kept, the
eager chain). One after the other in one process, three repeats up to 20,000 points, one beyond.
Evaluation is not timed.
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
from kernelexp.engine import KERNELS, SOLVERS, Problem, memory, prepare
from kernelexp.engine.operator import BlockedKernel

EPOCHS = 5
KERNEL = KERNELS["laplacian"](bandwidth=10.0)


def accuracy(X, alpha, test):
    kernel = BlockedKernel.on(KERNEL, X.device)
    right = kernel(test.X, X).matmul(alpha).argmax(1) == test.labels
    return 100 * right.double().mean().item()


def ours(data, seed):
    """Seconds of set-up, epochs and norm, accuracy, and memory: peak and plan in GB."""
    train = data.train
    memory.reset_peak(train.X.device)
    start = time.perf_counter()
    problem = Problem(KERNEL, train.X, train.Y, train.labels, seed=seed)
    training = prepare(SOLVERS["eigenpro2"](epochs=EPOCHS), problem)
    setup = time.perf_counter() - start
    epochs = [record.seconds for record in training.run()]
    peak = memory.peak_bytes(train.X.device) / 1e9
    start = time.perf_counter()
    norm = training.rkhs_norm().value
    return {
        "setup": setup,
        "epochs": epochs,
        "norm_percent": 100 * (time.perf_counter() - start) / sum(epochs),
        "norm": norm,
        "peak_gb": peak,
        "plan_gb": training.plan.peak_gb,
        "rows_kept": training.plan.kept_rows,
        "accuracy": accuracy(train.X, training.model().weights, data.test),
    }


def published(data, seed):
    """Seconds of everything, and accuracy."""
    generator = torch.Generator().manual_seed(seed)
    start = time.perf_counter()
    for alpha in naive.eigenpro2(naive.laplacian, data.train.X, data.train.Y, EPOCHS, generator):
        weights = alpha
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "accuracy": accuracy(data.train.X, weights, data.test)}


def main():
    sizes = [int(n) for n in sys.argv[1:]] or [20_000, 60_000]
    rows = []
    for n in sizes:
        data = load(SOURCES["fmnist"](n_train=n), Path(os.environ["KERNELEXP_DATA"]))
        for seed in range(3 if n <= 20_000 else 1):
            plain = published(data, seed)
            own = ours(data, seed)
            own["seconds"] = own["setup"] + sum(own["epochs"])
            rows.append({"n": n, "seed": seed, "plain": plain, "ours": own})
            print(n, seed, plain, own, flush=True)

    def values(r, whose, key):
        return [run[whose][key] for run in r["runs"]]

    def middle(r, whose, key):
        return median(values(r, whose, key))

    def epoch_seconds(r):
        return ", ".join(f"{median(e):.2f}" for e in zip(*values(r, "ours", "epochs"), strict=True))

    grouped = [{"n": n, "runs": [r for r in rows if r["n"] == n]} for n in sizes]
    columns = {
        "n": lambda r: f"{r['n']:,}",
        "published, s": lambda r: f"{middle(r, 'plain', 'seconds'):.1f}",
        "ours, s (set-up + epochs)": lambda r: (
            f"{middle(r, 'ours', 'seconds'):.1f} ({middle(r, 'ours', 'setup'):.1f} + {epoch_seconds(r)})"
        ),
        "times faster, median (range)": lambda r: spread(
            ratios(values(r, "plain", "seconds"), values(r, "ours", "seconds")), 1
        ),
        "test accuracy %, published / ours": lambda r: (
            f"{middle(r, 'plain', 'accuracy'):.2f} / {middle(r, 'ours', 'accuracy'):.2f}"
        ),
        "first epoch / second": lambda r: spread(
            [epochs[0] / epochs[1] for epochs in values(r, "ours", "epochs")], 1
        ),
        "norm, % of training": lambda r: f"{middle(r, 'ours', 'norm_percent'):.2f}",
        "peak GB (plan)": lambda r: (
            f"{middle(r, 'ours', 'peak_gb'):.2f} ({middle(r, 'ours', 'plan_gb'):.2f})"
        ),
    }
    title = f"EigenPro 2 on Fashion-MNIST, Laplacian s = 10, {EPOCHS} epochs"
    write("eigenpro2", title, {"epochs": EPOCHS}, grouped, columns)


if __name__ == "__main__":
    main()
