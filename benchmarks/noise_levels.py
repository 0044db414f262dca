"""Norm and test error of many noise levels at the papers' size, from one training: Belkin et al. 2018, fig. 4a and 5b.

    python benchmarks/noise_levels.py gaussian interpolated 60000        MNIST in $KERNELEXP_DATA
    python benchmarks/noise_levels.py laplacian overfitted 60000 30      30 minutes at most

What a solver does to one output does not depend on the others, and the kernel matrix not on the labels: so the targets
of all levels are trained side by side, 10 outputs each, where a sweep would make and read the matrix once a level.
Overfitted: each level is taken at the end of the first epoch in which no label of its own is wrong.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch
from results_file import RESULTS, write

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


def outputs_of(level):
    """The columns of a level."""
    start = _CLASSES * LEVELS.index(level)
    return slice(start, start + _CLASSES)


def measured(training, levels, test):
    """Norm and test error of some levels as they stand."""
    model = training.model()
    predicted = model.predict(test.X)
    images = training.solver.center_outputs(training.system, training.iterate)
    squares = (model.weights.double() * images.double()).sum(0)  # of the norm, by output
    for level in levels:
        columns = outputs_of(level)
        wrong = predicted[:, columns].argmax(1) != test.labels
        error = wrong.double().mean().item()
        yield {
            "noise": level,
            "rkhs_norm": squares[columns].sum().item() ** 0.5,
            "clean_test_error_percent": 100 * error,
            "noisy_test_error_percent": 100 * with_noisy_test_labels(error, level, _CLASSES),
        }


def run(kernel, stop, n, minutes):
    """Rows of the levels that came to their stop in time."""
    solver, dtype = STOPS[stop]
    folder, source = Path(os.environ["KERNELEXP_DATA"]), SOURCES["mnist"](n_train=n)
    data = [load(source, folder, noise=level, dtype=dtype) for level in LEVELS]
    labels, test = [split.train.labels for split in data], data[0].test
    problem = Problem(
        KERNELS[kernel](bandwidth=BANDWIDTHS[kernel]),
        data[0].train.X,
        torch.cat([split.train.Y for split in data], dim=1),
    )
    del data
    start, rows, left = time.perf_counter(), [], list(LEVELS)
    training = prepare(solver, problem)
    print("plan", training.plan, f"{time.perf_counter() - start:.0f} s", flush=True)
    for record in training.run():
        seconds = time.perf_counter() - start
        outputs = training.training_outputs()
        wrong = {
            level: (outputs[:, outputs_of(level)].argmax(1) != labels[i]).sum().item()
            for i, level in enumerate(LEVELS)
            if level in left
        }
        print(record.epoch, f"{seconds:.0f} s", wrong, training.residuals(), flush=True)
        there = [level for level in left if stop == "interpolated" or wrong[level] == 0]
        for found in measured(training, there, test) if there else ():
            level = found["noise"]
            left.remove(level)
            done = {"epochs": record.epoch, "seconds": seconds, "wrong": wrong[level]}
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


def main(kernel, stop, n, minutes=600.0):
    file, own = RESULTS / "noise_levels.json", (kernel, stop, int(n))
    before = json.loads(file.read_text())["rows"] if file.exists() else []
    kept = [row for row in before if (row["kernel"], row["stop"], row["n"]) != own]
    rows = sorted(
        kept + run(*own, float(minutes)),
        key=lambda row: (row["kernel"], row["stop"], row["n"], row["noise"]),
    )
    columns = {
        "kernel": lambda r: r["kernel"],
        "stop": lambda r: r["stop"],
        "n": lambda r: f"{r['n']:,}",
        "noise": lambda r: r["noise"],
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
