"""The exact solver in float32 and float64 against PyTorch's Cholesky factorisation alone.

    python benchmarks/exact.py [N ...]     needs PyTorch alone; default 20000

Normal points, d = 20, ten outputs, Laplacian. ``exact`` fills K, factors it in place, solves and refines
until the residual stands still; the factorisation gets a K that is there. In turn, three repeats.
"""

import sys
from statistics import median

import torch
from results_file import ratios, spread, write
from timing import DEVICE, timed

from kernelexp.engine import KERNELS, SOLVERS, Problem, prepare
from kernelexp.engine.operator import BlockedKernel

D, OUTPUTS, REPEATS = 20, 10, 3
KERNEL = KERNELS["laplacian"](bandwidth=5.0)


def compare(n, precision):
    generator, dtype = torch.Generator().manual_seed(0), getattr(torch, precision)
    X = torch.randn(n, D, generator=generator, dtype=dtype).to(DEVICE)
    Y = torch.randn(n, OUTPUTS, generator=generator, dtype=dtype).to(DEVICE)
    solver = SOLVERS["exact"](precision=precision)
    row = {"n": n, "precision": precision, "cholesky": [], "setup": [], "solve": [], "residual": []}
    for _ in range(REPEATS):
        K = BlockedKernel.on(KERNEL, DEVICE)(X, X).dense()
        seconds, L = timed(lambda K=K: torch.linalg.cholesky(K))
        del K, L
        row["cholesky"].append(seconds)
        seconds, training = timed(lambda: prepare(solver, Problem(KERNEL, X, Y)))
        row["setup"].append(seconds)
        seconds, _ = timed(lambda training=training: list(training.run()))
        row["solve"].append(seconds)
        row["residual"].append(training.residuals()["relative_residual"])
        del training
        print({k: v[-1] if isinstance(v, list) else v for k, v in row.items()}, flush=True)
    return row


def main():
    sizes = [int(n) for n in sys.argv[1:]] or [20_000]
    rows = [compare(n, precision) for n in sizes for precision in ("float32", "float64")]
    columns = {
        "n": lambda r: f"{r['n']:,}",
        "precision": lambda r: r["precision"],
        "Cholesky, s": lambda r: f"{median(r['cholesky']):.1f}",
        "exact, s (set-up + solution)": lambda r: (
            f"{median(totals(r)):.1f} ({median(r['setup']):.1f} + {median(r['solve']):.1f})"
        ),
        "exact, Cholesky = 1, median (range)": lambda r: spread(ratios(totals(r), r["cholesky"])),
        "relative residual": lambda r: f"{max(r['residual']):.1e}",
    }
    title = "The exact solver, in units of PyTorch's Cholesky factorisation"
    write("exact", title, {"d": D, "outputs": OUTPUTS, "repeats": REPEATS}, rows, columns)


def totals(row):
    return [setup + solve for setup, solve in zip(row["setup"], row["solve"], strict=True)]


if __name__ == "__main__":
    main()
