"""What batch and step bring: training loss by epoch for fractions of m*(k_G) and relaxations.

    python benchmarks/batch.py [N]        Fashion-MNIST in $KERNELEXP_DATA, N points (10,000)

Justifies ``batch.BATCH_DIVISOR`` and ``EigenPro2.relaxation``. Writes ``results/batch.json`` and
``results/batch.md``. Losses, not times: an epoch costs the same for each batch but for the small steps
within a block, whose cost the last column shows.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, Problem
from kernelexp.engine.solvers.eigenpro2 import EigenPro2

RESULTS = Path(__file__).parent / "results"
EPOCHS = 5


def measure(problem, divisor, relaxation, m_star):
    cls = type("EigenPro2", (EigenPro2,), {"relaxation": relaxation})
    m = max(1, round(m_star / divisor))
    solver = cls(epochs=EPOCHS, batch_size=m)
    state = solver.prepare(problem)
    records = list(solver.run(state))
    return {
        "divisor": divisor,
        "relaxation": relaxation,
        "batch_size": m,
        "inflation": state.inflation,
        "halved_step": state.step_scale < 1,
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
        m_star = EigenPro2(epochs=1).prepare(problem).m_star_adapted
        for divisor, relaxation in ((1, 1.5), (4, 1.5), (8, 1.0), (8, 1.5), (8, 1.8), (16, 1.5)):
            rows.append({"kernel": name, **measure(problem, divisor, relaxation, m_star)})
            print(rows[-1], flush=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    header = {
        "n": n,
        "machine": f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "commit": commit.strip(),
    }
    (RESULTS / "batch.json").write_text(json.dumps({**header, "rows": rows}, indent=1) + "\n")
    lines = [
        f"# Batch and step: EigenPro 2 on Fashion-MNIST, n = {n:,}, five epochs",
        "",
        f"{header['machine']}, PyTorch {header['torch']}, commit {header['commit'][:10]}. "
        "Written by `benchmarks/batch.py`.",
        "",
        "| kernel | batch | relaxation | train MSE, epochs 1, 2, 5 | norm after 5 | s / epoch |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        mse = ", ".join(f"{r['train_mse'][i]:.2e}" for i in (0, 1, 4))
        lines.append(
            f"| {r['kernel']} | m*/{r['divisor']} = {r['batch_size']} | {r['relaxation']} | {mse} "
            f"| {r['rkhs_norm'][-1]:.1f} | {r['seconds']:.1f} |"
        )
    (RESULTS / "batch.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
