"""A block K(X, Z) of every kernel against the bare float32 matrix product of the same shape.

    python benchmarks/kernel_block.py      needs PyTorch alone

4,096 x 8,192 x 784, into memory that is there. ``bytes``: coordinates k / 255, the exact int8 product;
``floats``: normal coordinates, the float32 product. Each repeat times all of them in turn.
"""

import time
from statistics import median

import torch
from results_file import ratios, spread, write

from kernelexp.engine import KERNELS
from kernelexp.engine.points import Points
from kernelexp.engine.products import kernel_matrix

N, M, D, REPEATS = 4096, 8192, 784, 7
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def clock():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(work):
    start = clock()
    work()
    return clock() - start


def main():
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (N + M, D), generator=generator)
    levels[torch.rand(N + M, D, generator=generator) < 0.5] = 0  # as in images
    kinds = {
        "bytes": (levels / 255).to(DEVICE),
        "floats": (torch.randn(N + M, D, generator=generator) / 3).to(DEVICE),
    }
    out = torch.zeros(N, M, device=DEVICE)
    work, made = {}, {}
    for kind, X in kinds.items():
        made[kind] = Points.of(X)
        for name in KERNELS:
            kernel, points = KERNELS[name](), made[kind]
            work[name, kind] = lambda k=kernel, p=points: kernel_matrix(k, p[:N], p[N:], out)
    bare = kinds["floats"]
    seconds = {key: [] for key in [*work, "bare"]}
    for _ in range(REPEATS):
        seconds["bare"].append(timed(lambda: torch.mm(bare[:N], bare[N:].T, out=out)))
        for key, block in work.items():
            seconds[key].append(timed(block))

    rows = [
        {"kernel": name} | {kind: ratios(seconds[name, kind], seconds["bare"]) for kind in kinds}
        for name in KERNELS
    ]
    rate = 2e-9 * N * M * D / median(seconds["bare"])
    settings = {"n": N, "m": M, "d": D, "repeats": REPEATS, "bare_gflops": rate}
    columns = {"kernel": lambda r: r["kernel"]} | {
        f"{kind}, median (range)": lambda r, k=kind: spread(r[k]) for kind in kinds
    }
    title = f"Kernel blocks {N:,} x {M:,} x {D}, in units of the bare product ({rate:,.0f} GFLOP/s)"
    write("kernel_block", title, settings, rows, columns)


if __name__ == "__main__":
    main()
