"""Norm and test error of many noise levels at the papers' size, from one training: Belkin et al. 2018, fig. 4a and 5b.

    python benchmarks/noise_levels.py gaussian interpolated 60000        MNIST in $KERNELEXP_DATA
    python benchmarks/noise_levels.py gaussian overfitted 40000 --levels 0.01,0.1 --minutes 30
    python benchmarks/noise_levels.py relu_ntk overfitted 10000 --dataset cifar10 --levels 0,0.01,0.1 --seed 1

What a solver does to one output does not depend on the others, and the kernel matrix not on the labels: so the targets
of all levels are trained side by side, 10 outputs each, where a sweep would make and read the matrix once a level.
Overfitted: each level is taken at the end of the first epoch in which no label of its own is wrong; in float64 as the
presets, in float32 where a float64 matrix is more than memory holds.
"""

import argparse
import os
import time
from pathlib import Path

import torch
from results_file import kept, spread, write

from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, SOLVERS, Problem, prepare
from kernelexp.report import paper
from kernelexp.report.frames import with_noisy_test_labels

LEVELS = (0, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
# As conf/solver/ has them, without the rule that would look at all outputs together.
STOPS = {
    "overfitted": SOLVERS["eigenpro2"](epochs=2000, q=20, batch_size=256),
    "interpolated": SOLVERS["exact"](precision="float64"),
}
# Beyond, a float64 matrix of an iterative solver takes more than 7 GB.
FLOAT64_POINTS = 30_000
_CLASSES = 10
# What tells one training from another.
OF_A_RUN = ("dataset", "kernel", "stop", "n", "seed")


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


def run(asked):
    """Rows of the levels that came to their stop in time."""
    solver, levels = STOPS[asked.stop], asked.levels
    wide = asked.stop == "interpolated" or asked.n <= FLOAT64_POINTS
    dtype = torch.float64 if wide else torch.float32
    folder, source = Path(os.environ["KERNELEXP_DATA"]), SOURCES[asked.dataset](n_train=asked.n)
    data = [load(source, folder, noise=level, seed=asked.seed, dtype=dtype) for level in levels]
    labels = {level: split.train.labels for level, split in zip(levels, data, strict=True)}
    test = data[0].test
    problem = Problem(
        KERNELS[asked.kernel](),
        data[0].train.X,
        torch.cat([split.train.Y for split in data], dim=1),
        seed=asked.seed,
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
            if level in left and (asked.stop == "interpolated" or wrong[level] == 0)
        }
        for found in measured(training, there, test) if there else ():
            done = {"epochs": record.epoch, "seconds": seconds, "wrong": wrong[found["noise"]]}
            rows.append({**{name: getattr(asked, name) for name in OF_A_RUN}, **found, **done})
            print(rows[-1], flush=True)
        if not left or seconds > 60 * asked.minutes:
            break
    return rows


def published(figure, value):
    """A paper's value at a row's settings, or nothing."""
    points = paper.points(figure)

    def shown(group):
        row = group[0]
        if row["dataset"] != "mnist":
            return ""
        same = (points["kernel"] == row["kernel"]) & (points["n"] == row["n"])
        same &= (points["noise"] - row["noise"]).abs() < 1e-9
        if "stop" in points:
            same &= points["stop"] == row["stop"]
        return next((f"{found:g}" for found in points.loc[same, value]), "")

    return shown


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kernel", choices=sorted(KERNELS))
    parser.add_argument("stop", choices=sorted(STOPS))
    parser.add_argument("n", type=int)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--levels", type=lambda said: [float(level) for level in said.split(",")])
    asked = parser.parse_args()
    asked.levels = asked.levels or LEVELS
    return asked


def main():
    found = run(arguments())
    by = [*OF_A_RUN, "noise"]

    def place(row):
        return tuple(row[name] for name in by)

    rows = {place(row): row for row in kept("noise_levels") + found}
    rows = [rows[key] for key in sorted(rows)]
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by if name != "seed"), []).append(row)

    def over_seeds(name, digits):
        def shown(group):
            values = [row[name] for row in group]
            return spread(values, digits) if len(set(values)) > 1 else f"{values[0]:.{digits}f}"

        return shown

    columns = {
        "data": lambda g: g[0]["dataset"],
        "kernel": lambda g: g[0]["kernel"],
        "stop": lambda g: g[0]["stop"],
        "n": lambda g: f"{g[0]['n']:,}",
        "noise": lambda g: f"{g[0]['noise']:g}",
        "seeds": len,
        "norm": over_seeds("rkhs_norm", 1),
        "paper (4a)": published("rkhs_norm", "rkhs_norm"),
        "test error %": over_seeds("clean_test_error_percent", 2),
        "noisy labels": over_seeds("noisy_test_error_percent", 1),
        "paper (5b)": published("label_noise", "noisy_test_error_percent"),
        "epochs": over_seeds("epochs", 0),
        "training labels wrong": over_seeds("wrong", 0),
    }
    title = "Norm and test error by noise level, median over seeds with its range"
    write("noise_levels", title, {}, rows, columns, groups.values())


if __name__ == "__main__":
    main()
