"""Seconds of an epoch against n, d and m (EigenPro 2, nothing kept) and p (EigenPro 4), as a picture.

    python benchmarks/scaling.py [P ...]     needs PyTorch and matplotlib; default p 10000 ... 80000

Normal points, Laplacian kernel, one output; the p series has n = 1,000,000, d = 100 and a target that a
kernel machine can learn. Each series has one size at a time changed; its slope is that of a straight
line through the logarithms.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from results_file import RESULTS, write

from kernelexp.engine import KERNELS, SOLVERS, Problem, ResourceLimits, prepare

BASE = {"n": 8000, "d": 256, "m": 256}
SERIES = {
    "n": [2000, 4000, 8000, 16_000, 32_000],
    "d": [16, 64, 256, 1024, 4096],
    "m": [16, 64, 256, 1024, 4096],
}
MANY, WIDTH, CENTERS = 1_000_000, 100, [10_000, 20_000, 40_000, 80_000]


def problem(n, d, **settings):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(n, d, generator=generator)
    Y = torch.sin(X[:, :2].sum(1, keepdim=True))
    return Problem(KERNELS["laplacian"](bandwidth=d**0.5), X, Y, **settings)


def eigenpro2(n, d, m):
    """Seconds of an epoch."""
    made = problem(n, d, limits=ResourceLimits(cache_gb=0))
    solver = SOLVERS["eigenpro2"](batch_size=m, subsample_size=2000, epochs=2)
    return min(record.seconds for record in prepare(solver, made).run())


def eigenpro4(p):
    """Seconds of set-up and of an epoch, and what the plan and the projections were."""
    solver = SOLVERS["eigenpro4"](n_centers=p, epochs=1)
    made = problem(MANY, WIDTH)
    start = time.perf_counter()
    training = prepare(solver, made)
    setup = time.perf_counter() - start
    [record] = training.run()
    kind = type(training.system.projection).__name__
    return {"setup": setup, "seconds": record.seconds, "mse": record.train_mse, "projection": kind}


def slope(rows):
    sizes, seconds = [r["size"] for r in rows], [r["seconds"] for r in rows]
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def main():
    rows = []
    for name, sizes in SERIES.items():
        for size in sizes:
            taken = eigenpro2(**{**BASE, name: size})
            rows.append({"series": name, "size": size, "seconds": taken})
            print(rows[-1], flush=True)
    for p in [int(p) for p in sys.argv[1:]] or CENTERS:
        rows.append({"series": "p", "size": p, **eigenpro4(p)})
        print(rows[-1], flush=True)
    columns = {
        "series": lambda r: r["series"],
        "size": lambda r: f"{r['size']:,}",
        "seconds an epoch": lambda r: f"{r['seconds']:.2f}",
        "slope of the series": lambda r: (
            f"{slope([o for o in rows if o['series'] == r['series']]):.2f}"
        ),
        "set-up, s": lambda r: f"{r['setup']:.1f}" if "setup" in r else "",
        "projection": lambda r: r.get("projection", ""),
        "training MSE": lambda r: f"{r['mse']:.4f}" if "mse" in r else "",
    }
    title = "Seconds of an epoch against n, d, m (EigenPro 2) and p (EigenPro 4, n = 1,000,000)"
    write("scaling", title, {"base": BASE, "n": MANY, "d": WIDTH}, rows, columns)
    draw(rows, RESULTS / "scaling.png")


def draw(rows, path: Path):
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    labels = {
        "n": "training points n",
        "d": "features d",
        "m": "batch m",
        "p": "centers p, of 1,000,000 points",
    }
    figure = Figure(figsize=(11, 3), layout="constrained")
    for ax, (series, label) in zip(figure.subplots(1, 4), labels.items(), strict=True):
        own = [r for r in rows if r["series"] == series]
        sizes, seconds = [r["size"] for r in own], [r["seconds"] for r in own]
        ax.loglog(sizes, seconds, "o-", color="#0173b2")
        ax.set_xticks(sizes, [f"{s // 1000}k" if s % 1000 == 0 else str(s) for s in sizes])
        # Ten times from bottom to top at least, so that what is flat looks flat.
        middle = (min(seconds) * max(seconds)) ** 0.5
        ax.set_ylim(min(0.7 * min(seconds), middle / 3.5), max(1.4 * max(seconds), middle * 3.5))
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(label)
        ax.set_title(f"slope {slope(own):.2f}", fontsize=10)
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel("seconds an epoch")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
