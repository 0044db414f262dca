"""Steps of SGD to a training loss against the batch size: measured, and by the law of docs/theory.md, without a free parameter.

    python benchmarks/batch_law.py              MNIST in $KERNELEXP_DATA, n = 3,000
    python benchmarks/batch_law.py 10000        in a table of its own

The table is written again after each row, seed by seed, and rows that it has are not measured again: remove its JSON for new ones.
"Knee": m of steps = A (1 + (knee - 1) / m), fitted to the logarithms, as the figure ``batch_size`` does.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from results_file import kept, write
from scipy.optimize import curve_fit

from kernelexp.data import SOURCES
from kernelexp.engine import KERNELS, SOLVERS, StopRule, prepare
from kernelexp.engine.batch import step_size
from kernelexp.engine.ranks import ALONE
from kernelexp.experiment import Config
from kernelexp.experiment.prepare import load_data, make_problem

SMALL, TARGET, SEEDS = 3000, 1e-3, (0, 1, 2)
BATCHES = (1, 2, 4, 8, 16, 64, 256, 1024)
KERNELS_TRIED = {
    "gaussian": {"bandwidth": 5.0},
    "laplacian": {"bandwidth": 10.0},
    "cauchy": {"bandwidth": 10.0},
    "relu_ntk": {},
}
_MOST_STEPS = 3_000_000


def problem_of(name, n, seed):
    config = Config(
        SOURCES["mnist"](n_train=n, n_test=100),
        KERNELS[name](**KERNELS_TRIED[name]),
        SOLVERS["eigenpro2"](),
        data_dir=Path(os.environ["KERNELEXP_DATA"]),
        dtype=torch.float64,
        seed=seed,
    )
    return make_problem(config, load_data(config, ALONE).train, None, ALONE)


def expected_steps(values, squares, beta, m, c):
    """Steps until the expected loss is at the target: eigenvalues of K / n, squares of the targets along each (n,)."""
    n, eta = len(values), step_size(m, beta, values[-1].item(), 1.5)
    kept = (1 - eta * values).square()
    noise = (eta * values).square() / m * (n - m) / (n - 1)
    for step in range(_MOST_STEPS):
        total = squares.sum()
        if total.item() <= TARGET * n * c:
            return step
        squares = kept * squares + noise * (total - squares)
    raise ValueError(f"not at the target after {_MOST_STEPS} steps")


def measured_steps(problem, m):
    solver = SOLVERS["eigenpro2"](q=0, batch_size=m, epochs=20_000, stop=StopRule(train_mse=TARGET))
    losses = [problem.Y.square().mean().item()]
    losses += [record.train_mse for record in prepare(solver, problem).run()]
    before, last = losses[-2:]
    epochs = len(losses) - 2 + np.log(before / TARGET) / np.log(before / last)
    return epochs * len(problem.X) / m


def knee(steps):
    def law(m, log_a, log_excess):
        return log_a + np.log1p(np.exp(log_excess) / m)

    m = np.array(BATCHES, float)
    (_, excess), _ = curve_fit(law, m, np.log(steps), p0=(np.log(min(steps)), 1.0), maxfev=5000)
    return 1 + np.exp(excess)


def row(name, n, seed):
    problem = problem_of(name, n, seed)
    K = problem.kernel(problem.X, problem.X)
    beta, mean = K.diagonal().max().item(), K.diagonal().mean().item()
    values, vectors = torch.linalg.eigh(K / len(K))
    values = values.clamp(min=0)
    squares, c = (vectors.mT @ problem.Y).square().sum(1), problem.Y.shape[1]
    expected = [expected_steps(values, squares, beta, m, c) for m in BATCHES]
    measured = [measured_steps(problem, m) for m in BATCHES]
    found = {"kernel": name, "seed": seed, "m_star": beta / values[-1].item(), "mean_over_max": mean / beta,
             "expected": expected, "measured": measured, "knee_expected": knee(expected),
             "knee_measured": knee(measured)}  # fmt: skip
    print(found, flush=True)
    return found


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else SMALL
    file = "batch_law" if n == SMALL else f"batch_law_{n}"
    rows = kept(file)
    there = {(row["kernel"], row["seed"]) for row in rows}
    columns = {
        "kernel": lambda r: r["kernel"],
        "seed": lambda r: r["seed"],
        "m*": lambda r: f"{r['m_star']:.2f}",
        "mean / max of k(x, x)": lambda r: f"{r['mean_over_max']:.2f}",
        "knee": lambda r: f"{r['knee_measured']:.1f}",
        "by the law": lambda r: f"{r['knee_expected']:.1f}",
        "knee / m*": lambda r: f"{r['knee_measured'] / r['m_star']:.2f}",
        **{
            f"steps, law over measured, m = {m}": lambda r, i=i: (
                f"{r['expected'][i] / r['measured'][i]:.2f}"
            )
            for i, m in enumerate(BATCHES)
        },
    }
    settings = {"data": f"mnist, n = {n:,}", "target": f"training MSE {TARGET}"}
    for seed in SEEDS:
        for name in KERNELS_TRIED:
            if (name, seed) in there:
                continue
            rows.append(row(name, n, seed))
            write(file, "Steps of SGD against the batch size", settings, rows, columns)


if __name__ == "__main__":
    main()
