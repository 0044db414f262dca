"""Norm and test error of many noise levels at the papers' size, from one training: Belkin et al. 2018, fig. 4a and 5b.

    python benchmarks/noise_levels.py gaussian interpolated 60000        MNIST in $KERNELEXP_DATA
    python benchmarks/noise_levels.py gaussian overfitted 40000 30 0.01,0.1       30 minutes at most, two levels

What a solver does to one output does not depend on the others, and the kernel matrix not on the labels: so the targets
of all levels are trained side by side, 10 outputs each, where a sweep would make and read the matrix once a level.
Overfitted: each level is taken at the end of the first epoch in which no label of its own is wrong.
"""

import os
import sys
import time
from pathlib import Path

import torch
from results_file import kept, write

from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, SOLVERS, Problem, prepare
from kernelexp.report import paper
from kernelexp.report.frames import with_noisy_test_labels

LEVELS = (0, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
BANDWIDTHS = {"gaussian": 5.0, "laplacian": 10.0}
# As conf/solver/ has them, without the rule that would look at all outputs together.
STOPS = {
    "overfitted": (SOLVERS["eigenpro2"](epochs=2000, q=20, batch_size=256), torch.float32),
    "interpolated": (SOLVERS["exact"](precision="float64"), torch.float64),
}
_CLASSES = 10


def measured(training, columns, test):
    """Norm and test error of some levels as they stand; ``columns``: which outputs are theirs."""
    predicted = training.model().predict(test.X)
    norms = training.rkhs_norm().per_output
    for level, own in columns.items():
        wrong = predicted[:, own].argmax(1) != test.labels
        error = wrong.double().mean().item()
        yield {
            "noise": level,
            "rkhs_norm": norms[own].norm().item(),
            "clean_test_error_percent": 100 * error,
            "noisy_test_error_percent": 100 * with_noisy_test_labels(error, level, _CLASSES),
        }


def run(kernel, stop, n, minutes, levels):
    """Rows of the levels that came to their stop in time."""
    solver, dtype = STOPS[stop]
    folder, source = Path(os.environ["KERNELEXP_DATA"]), SOURCES["mnist"](n_train=n)
    data = [load(source, folder, noise=level, dtype=dtype) for level in levels]
    labels = {level: split.train.labels for level, split in zip(levels, data, strict=True)}
    test = data[0].test
    problem = Problem(
        KERNELS[kernel](bandwidth=BANDWIDTHS[kernel]),
        data[0].train.X,
        torch.cat([split.train.Y for split in data], dim=1),
    )
    del data
    left = {level: slice(_CLASSES * i, _CLASSES * (i + 1)) for i, level in enumerate(levels)}
    start, rows = time.perf_counter(), []
    training = prepare(solver, problem)
    print("plan", training.plan, f"{time.perf_counter() - start:.0f} s", flush=True)
    for record in training.run():
        seconds = time.perf_counter() - start
        outputs = training.training_outputs()
        wrong = {
            level: (outputs[:, own].argmax(1) != labels[level]).sum().item()
            for level, own in left.items()
        }
        print(record.epoch, f"{seconds:.0f} s", wrong, training.residuals(), flush=True)
        there = {
            level: left.pop(level)
            for level in levels
            if level in left and (stop == "interpolated" or wrong[level] == 0)
        }
        for found in measured(training, there, test) if there else ():
            done = {"epochs": record.epoch, "seconds": seconds, "wrong": wrong[found["noise"]]}
            rows.append({"kernel": kernel, "stop": stop, "n": n, **found, **done})
            print(rows[-1], flush=True)
        if not left or seconds > 60 * minutes:
            break
    return rows


def published(figure, value):
    """A paper's value at a row's settings, or nothing."""
    points = paper.points(figure)

    def shown(row):
        same = (points["kernel"] == row["kernel"]) & (points["n"] == row["n"])
        same &= (points["noise"] - row["noise"]).abs() < 1e-9
        if "stop" in points:
            same &= points["stop"] == row["stop"]
        return next((f"{found:g}" for found in points.loc[same, value]), "")

    return shown


def main(kernel, stop, n, minutes=600.0, levels=None):
    asked = [float(level) for level in levels.split(",")] if levels else LEVELS
    found = run(kernel, stop, int(n), float(minutes), asked)

    def place(row):
        return row["kernel"], row["stop"], row["n"], row["noise"]

    before = kept("noise_levels")
    rows = sorted({place(row): row for row in before + found}.values(), key=place)
    columns = {
        "kernel": lambda r: r["kernel"],
        "stop": lambda r: r["stop"],
        "n": lambda r: f"{r['n']:,}",
        "noise": lambda r: f"{r['noise']:g}",
        "norm": lambda r: f"{r['rkhs_norm']:.1f}",
        "paper (4a)": published("rkhs_norm", "rkhs_norm"),
        "test error %": lambda r: f"{r['clean_test_error_percent']:.2f}",
        "noisy labels": lambda r: f"{r['noisy_test_error_percent']:.1f}",
        "paper (5b)": published("label_noise", "noisy_test_error_percent"),
        "epochs": lambda r: r["epochs"],
        "training labels wrong": lambda r: r["wrong"],
    }
    write("noise_levels", "MNIST, norm and test error by noise level", {}, rows, columns)


if __name__ == "__main__":
    main(*sys.argv[1:])
