"""Seconds of runs beside what ``dry_run=true`` says of them before: every solver, at two sizes.

    python benchmarks/forecast.py        Fashion-MNIST in $KERNELEXP_DATA

A forecast is of a whole run; what is measured is set-up and training with the evaluation of 2,000 test points, in this
process, so that imports do not count.
"""

import os
import time
from pathlib import Path

import torch
from results_file import write

from kernelexp.data import SOURCES
from kernelexp.engine import KERNELS, SOLVERS
from kernelexp.experiment import Config, run
from kernelexp.forecast_time import Stopwatch

SIZES = (8000, 24_000)
KERNEL = {"laplacian": 10.0, "gaussian": 5.0}
# A solver, its settings, its largest n.
RUNS = [
    ("eigenpro2", {"epochs": 10}, 60_000),
    ("eigenpro2", {"epochs": 10, "batch_size": 16}, 24_000),
    ("eigenpro1", {"epochs": 10}, 24_000),
    ("sgd", {"epochs": 10}, 24_000),
    ("eigenpro3", {"epochs": 5, "n_centers": 4000}, 60_000),
    ("eigenpro4", {"epochs": 5, "n_centers": 4000}, 60_000),
    ("eigenpro4", {"epochs": 2, "n_centers": 4000, "projection": "inexact"}, 60_000),
    ("falkon", {"epochs": 20, "n_centers": 4000, "tolerance": 1e-12}, 60_000),
    ("cg", {"epochs": 20, "tolerance": 1e-12}, 24_000),
    ("askotch", {"epochs": 10, "ridge": 1e-6, "tolerance": 1e-12}, 24_000),
    ("exact", {}, 24_000),
    ("exact", {"n_centers": 4000}, 60_000),
    ("ridge_path", {"n_centers": 2000}, 24_000),
    ("ridge_path", {}, 6000),
]


def row(name, settings, n, kernel, stopwatch):
    config = Config(
        dataset=SOURCES["fmnist"](n_train=n, n_test=2000),
        kernel=KERNELS[kernel](bandwidth=KERNEL[kernel]),
        solver=SOLVERS[name](**settings),
        data_dir=Path(os.environ["KERNELEXP_DATA"]),
        dtype=torch.float32,
    )
    forecast = stopwatch.of(config)
    start = time.perf_counter()
    run(config)
    seconds = time.perf_counter() - start
    said = " ".join(f"{key}={value}" for key, value in settings.items())
    found = {"solver": name, "settings": said, "kernel": kernel, "n": n, "forecast_s": round(forecast.total, 1),
             "run_s": round(seconds, 1), "ratio": round(forecast.total / seconds, 2)}  # fmt: skip
    print(found, flush=True)
    return found


def main():
    stopwatch = Stopwatch()
    rows = [
        row(name, settings, n, kernel, stopwatch)
        for kernel in KERNEL
        for name, settings, most in RUNS
        for n in sorted({min(size, most) for size in (*SIZES, most)})
        if n <= 24_000 or kernel == "laplacian"
    ]
    within = sum(1 / 1.5 <= each["ratio"] <= 1.5 for each in rows)
    columns = {key.removesuffix("_s"): lambda row, key=key: row[key] for key in rows[0]}
    title = f"Forecast of seconds beside runs: {within} of {len(rows)} within a factor of 1.5"
    write("forecast", title, {"ratio": "forecast / run"}, rows, columns)


if __name__ == "__main__":
    main()
