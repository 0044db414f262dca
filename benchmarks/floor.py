"""An epoch of EigenPro 2 that keeps nothing, in units of its arithmetic floor.

    python benchmarks/floor.py [N ...]     needs PyTorch alone; default 50000, on a GPU 1000000

d = 784, ten outputs, Laplacian. The floor is 2 n^2 d operations at the rate of a bare float32 product,
measured before and after each epoch on 4,096 x 8,192 x 784. ``bytes`` and ``floats`` as in
``kernel_block``; an epoch of bytes can be below the floor, since its products are not float32 ones.
"""

import sys
from statistics import median

import torch
from results_file import spread, write
from timing import DEVICE, timed

from kernelexp.engine import KERNELS, SOLVERS, Problem, ResourceLimits, prepare

D, OUTPUTS, EPOCHS = 784, 10, 2
ROWS, COLUMNS = 4096, 8192


def rate():
    """Operations per second of the bare product, the best of five."""
    X, Z = torch.randn(ROWS, D, device=DEVICE), torch.randn(COLUMNS, D, device=DEVICE)
    out = torch.empty(ROWS, COLUMNS, device=DEVICE)
    seconds = min(timed(lambda: torch.mm(X, Z.T, out=out))[0] for _ in range(5))
    return 2 * ROWS * COLUMNS * D / seconds


def points(kind, n):
    generator = torch.Generator().manual_seed(0)
    if kind == "floats":
        return torch.randn(n, D, generator=generator) / 3
    levels = torch.randint(0, 256, (n, D), generator=generator, dtype=torch.uint8)
    return levels / 255


def measure(kind, n):
    X = points(kind, n).to(DEVICE)
    Y = torch.nn.functional.one_hot(torch.arange(n) % OUTPUTS).float().to(DEVICE)
    problem = Problem(KERNELS["laplacian"](), X, Y, limits=ResourceLimits(cache_gb=0))
    solver = SOLVERS["eigenpro2"](epochs=EPOCHS)
    training = prepare(solver, problem)
    row = {"points": kind, "n": n, "setup": training.setup_seconds, "epochs": [], "ratios": []}
    before = rate()
    for record in training.run():
        after = rate()
        row["epochs"].append(record.seconds)
        row["ratios"].append(record.seconds * (before + after) / 2 / (2 * n * n * D))
        before = after
    row["gflops"] = before / 1e9
    print(row, flush=True)
    return row


def main():
    sizes = [int(n) for n in sys.argv[1:]] or [1_000_000 if DEVICE.type == "cuda" else 50_000]
    rows = [measure(kind, n) for n in sizes for kind in ("floats", "bytes")]
    columns = {
        "points": lambda r: r["points"],
        "n": lambda r: f"{r['n']:,}",
        "bare product, GFLOP/s": lambda r: f"{r['gflops']:,.0f}",
        "set-up, s": lambda r: f"{r['setup']:.1f}",
        "epoch, s": lambda r: f"{median(r['epochs']):.1f}",
        "epoch, floor = 1, median (range)": lambda r: spread(r["ratios"]),
    }
    title = f"An epoch of EigenPro 2 against its arithmetic floor, d = {D}"
    write("floor", title, {"d": D, "outputs": OUTPUTS, "epochs": EPOCHS}, rows, columns)


if __name__ == "__main__":
    main()
