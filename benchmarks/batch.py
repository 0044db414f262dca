"""What batch and step bring: training loss by epoch for fractions of m*(k_G) and relaxations.

    python benchmarks/batch.py [N]        Fashion-MNIST in $KERNELEXP_DATA, N points (10,000)

Justifies ``batch.BATCH_DIVISOR`` and ``EigenPro2.relaxation``.
Losses, not times: an epoch costs the same for each batch but for the small steps
within a block, whose cost the last column shows.
"""

import os
import sys
from pathlib import Path

from results_file import write

from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, Problem, prepare
from kernelexp.engine.solvers.eigenpro2 import EigenPro2

EPOCHS = 5


def measure(problem, divisor, relaxation, m_star):
    cls = type("EigenPro2", (EigenPro2,), {"relaxation": relaxation})
    m = max(1, round(m_star / divisor))
    solver = cls(epochs=EPOCHS, batch_size=m)
    training = prepare(solver, problem)
    records = list(training.run())
    return {
        "divisor": divisor,
        "relaxation": relaxation,
        "batch_size": m,
        "inflation": training.system.inflation,
        "halved_step": training.iterate.step_scale < 1,
        "train_mse": [r.train_mse for r in records],
        "rkhs_norm": [r.rkhs_norm for r in records],
        "seconds": sorted(r.seconds for r in records)[EPOCHS // 2],
    }


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    data = load(SOURCES["fmnist"](n_train=n, n_test=10), Path(os.environ["KERNELEXP_DATA"]))
    rows = []
    for name in ("laplacian", "gaussian"):
        train = data.train
        problem = Problem(KERNELS[name](), train.X, train.Y, train.labels, block_size=1024)
        m_star = prepare(EigenPro2(epochs=1), problem).system.m_star_adapted
        for divisor, relaxation in ((1, 1.5), (4, 1.5), (8, 1.0), (8, 1.5), (8, 1.8), (16, 1.5)):
            rows.append({"kernel": name, **measure(problem, divisor, relaxation, m_star)})
            print(rows[-1], flush=True)
    columns = {
        "kernel": lambda r: r["kernel"],
        "batch": lambda r: f"m*/{r['divisor']} = {r['batch_size']}",
        "relaxation": lambda r: r["relaxation"],
        "train MSE, epochs 1, 2, 5": lambda r: ", ".join(
            f"{r['train_mse'][i]:.2e}" for i in (0, 1, 4)
        ),
        "norm after 5": lambda r: f"{r['rkhs_norm'][-1]:.1f}",
        "s / epoch": lambda r: f"{r['seconds']:.1f}",
    }
    title = f"Batch and step: EigenPro 2 on Fashion-MNIST, n = {n:,}, five epochs"
    write("batch", title, {"n": n}, rows, columns)


if __name__ == "__main__":
    main()
