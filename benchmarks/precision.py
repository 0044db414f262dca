"""What each precision costs in accuracy and time: K and predictions against float64.

    python benchmarks/precision.py     Fashion-MNIST in $KERNELEXP_DATA, n = 5,000

EigenPro 2, 20 epochs, 2,000 test points; the reference is the exact float64 solution. ``standard``
scaling makes images into floats, for which auto is ieee; ``unit`` leaves them bytes.
"""

import os
import time
from pathlib import Path
from statistics import median

import torch
from results_file import ratios, write

from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, SOLVERS, Problem, fit
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points

N, TEST, EPOCHS, REPEATS = 5000, 2000, 20, 5
CASES = [("unit", 10.0), ("standard", 30.0)]
PRECISIONS = ["ieee", "bf16x3", "bf16", "auto"]


def main():
    rows = []
    for scale, bandwidth in CASES:
        kernel = KERNELS["laplacian"](bandwidth=bandwidth)
        source = SOURCES["fmnist"](n_train=N, n_test=TEST, scale=scale)
        data = load(source, Path(os.environ["KERNELEXP_DATA"]))
        X, test = data.train.X, data.test.X
        K = kernel(X.double(), X.double())
        exact = kernel(test.double(), X.double()) @ torch.linalg.solve(K, data.train.Y.double())
        seconds = {precision: [] for precision in PRECISIONS}
        made = {precision: Points.of(X, precision) for precision in PRECISIONS}
        out, blocked = torch.zeros(N, N), BlockedKernel.on(kernel, X.device)
        for _ in range(REPEATS):
            for precision, points in made.items():
                start = time.perf_counter()
                blocked(points, points[:N]).dense(out)
                seconds[precision].append(time.perf_counter() - start)
        for precision, points in made.items():
            blocked(points, points).dense(out)
            problem = Problem(kernel, X, data.train.Y, data.train.labels, precision=precision)
            got = fit(SOLVERS["eigenpro2"](epochs=EPOCHS), problem).predict(test)
            rows.append(
                {
                    "scale": scale,
                    "precision": precision,
                    "kernel_error": (out - K).abs().max().item(),
                    "prediction_error": ((got - exact).norm() / exact.norm()).item(),
                    "ratios": ratios(seconds[precision], seconds["ieee"]),
                }
            )
    columns = {
        "scale": lambda r: r["scale"],
        "precision": lambda r: r["precision"],
        "largest error of K": lambda r: f"{r['kernel_error']:.1e}",
        "error of predictions": lambda r: f"{r['prediction_error']:.1e}",
        "time of K, ieee = 1": lambda r: f"{median(r['ratios']):.2f}",
    }
    title = f"Precision: Fashion-MNIST, n = {N:,}, Laplacian, {EPOCHS} epochs of EigenPro 2"
    write("precision", title, {"n": N, "epochs": EPOCHS, "repeats": REPEATS}, rows, columns)


if __name__ == "__main__":
    main()
