"""A block K(X, Z) of every kernel against the bare matrix product of the same shape.

    python benchmarks/kernel_block.py      needs PyTorch alone

4,096 x 8,192 x 784, into memory that is there. On a CPU in units of the float32 product: ``bytes``,
coordinates k / 255, by the exact int8 product, and ``floats``, normal coordinates, by the float32 one.
On a GPU floats in each precision, in units of the product of that precision. Each repeat times all of
them in turn.
"""

from statistics import median

import torch
from results_file import ratios, spread, write
from timing import DEVICE, timed

from kernelexp.engine import KERNELS
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points

N, M, D, REPEATS = 4096, 8192, 784, 7


def main():
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (N + M, D), generator=generator)
    levels[torch.rand(N + M, D, generator=generator) < 0.5] = 0  # as in images
    floats = (torch.randn(N + M, D, generator=generator) / 3).to(DEVICE)
    if DEVICE.type == "cuda":
        kinds = {name: Points.of(floats, name) for name in ("ieee", "tf32", "bf16")}
        bare = {name: lambda p=p: p[:N].inner_products(p[N:]) for name, p in kinds.items()}
    else:
        kinds = {"bytes": Points.of(levels / 255), "floats": Points.of(floats)}
        bare = dict.fromkeys(kinds, lambda: torch.mm(floats[:N], floats[N:].T, out=out))
    out = torch.zeros(N, M, device=DEVICE)
    work = {("bare", kind): product for kind, product in bare.items()}
    for kind, points in kinds.items():
        for name in KERNELS:
            K = BlockedKernel.on(KERNELS[name](), DEVICE)(points[:N], points[N:])
            work[name, kind] = lambda K=K: K.dense(out)
    seconds = {key: [] for key in work}
    for block in work.values():
        block()  # once for what is done once, such as compiling
    for _ in range(REPEATS):
        for key, block in work.items():
            seconds[key].append(timed(block)[0])

    rows = [
        {"kernel": name}
        | {kind: ratios(seconds[name, kind], seconds["bare", kind]) for kind in kinds}
        for name in KERNELS
    ]
    rates = {kind: 2e-9 * N * M * D / median(seconds["bare", kind]) for kind in kinds}
    settings = {"n": N, "m": M, "d": D, "repeats": REPEATS, "bare_gflops": rates}
    columns = {"kernel": lambda r: r["kernel"]} | {
        f"{kind}, median (range)": lambda r, k=kind: spread(r[k]) for kind in kinds
    }
    shown = ", ".join(f"{kind} {rate:,.0f}" for kind, rate in rates.items())
    title = f"Kernel blocks {N:,} x {M:,} x {D}, bare product = 1 (GFLOP/s: {shown})"
    write("kernel_block", title, settings, rows, columns)


if __name__ == "__main__":
    main()
