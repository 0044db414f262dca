"""Products of K with as few columns as there are outputs: GB/s of K, as BLAS is called plainly and as ``narrow`` calls it.

    python benchmarks/narrow.py [N]        random K in float32, rows of N = 20,000 numbers

``K W, transposed`` is how K is multiplied where it is kept, and was in falkon; ``K^T W`` was there, too.
"""

import sys
from statistics import median

import torch
from results_file import write
from timing import timed

from kernelexp.engine.narrow import narrow_matmul, narrow_transposed_matmul

COLUMNS = (1, 2, 3, 5, 8, 10, 12, 16, 20, 26, 32, 100)
ROWS, REPEATS = 1024, 9


def rates(calls, K):
    """GB/s of each call, the median of repeats side by side."""
    seconds = {name: [] for name in calls}
    for _ in range(REPEATS):
        for name, call in calls.items():
            seconds[name].append(timed(call)[0])
    return {name: K.nbytes / median(s) / 1e9 for name, s in seconds.items()}


def row(K, c):
    """K W, and K^T W."""
    W, V = torch.randn(K.shape[1], c), torch.randn(len(K), c)
    calls = {
        "K W": lambda: K @ W,
        "K W, transposed": lambda: (W.mT.contiguous() @ K.mT).mT,
        "K W, narrow": lambda: narrow_matmul(K, W),
        "K^T W": lambda: K.mT @ V,
        "K^T W, narrow": lambda: narrow_transposed_matmul(K, V),
    }
    found = {"columns": c, **rates(calls, K)}
    print(found, flush=True)
    return found


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    K = torch.randn(ROWS, n)
    rows = [row(K, c) for c in COLUMNS]
    names = [name for name in rows[0] if name != "columns"]
    columns = {"columns": lambda r: r["columns"]}
    columns |= {name: lambda r, name=name: f"{r[name]:.1f}" for name in names}
    title = "GB/s of K, in products with few columns"
    write("narrow", title, {"n": n, "rows": ROWS}, rows, columns)


if __name__ == "__main__":
    main()
