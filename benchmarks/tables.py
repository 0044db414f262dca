"""Fifty ridges by leave-one-out beside scikit-learn's learners on the same splits: seconds to train and predict.

python benchmarks/tables.py        eight small tables of scikit-learn, one after the other, in turn
"""

import torch
from results_file import ratios, spread, write
from timing import timed

from kernelexp.comparisons import COMPARISONS
from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, SOLVERS, Problem, prepare

TABLES = ("breast_cancer", "diabetes", "friedman1", "friedman2", "friedman3", "iris", "moons", "wine")  # fmt: skip
PEERS = {
    "kernel_ridge": "KernelRidge, 12 by 3 folds",
    "svm": "SVM, 3 by 3 folds",
    "boosting": "boosted trees",
}
REPEATS = 5


def compare(name):
    data = load(SOURCES[name](), None, dtype=torch.float64)
    train = data.train
    kernel = KERNELS["gaussian"](bandwidth="median").fitted_to(
        train.X, torch.Generator().manual_seed(0)
    )
    problem = Problem(kernel, train.X, train.Y, train.labels)

    def ours():
        training = prepare(SOLVERS["ridge_path"](), problem)
        list(training.run())
        training.model().predict(data.test.X)

    row = {"table": name, "n": len(train.X), "ridge_path": [], **{peer: [] for peer in PEERS}}
    for _ in range(REPEATS):
        row["ridge_path"].append(timed(ours)[0])
        for peer in PEERS:
            row[peer].append(timed(lambda peer=peer: COMPARISONS[peer](problem, data.test.X))[0])
    return row


def main():
    rows = [compare(name) for name in TABLES]
    columns = {
        "table": lambda r: r["table"],
        "n": lambda r: r["n"],
        "ridge_path: s": lambda r: spread(r["ridge_path"], 3),
        **{
            f"{label}: times": lambda r, peer=peer: spread(ratios(r[peer], r["ridge_path"]), 1)
            for peer, label in PEERS.items()
        },
    }
    write(
        "tables",
        "Small tables: a kernel and its ridge, beside others",
        {"repeats": REPEATS},
        rows,
        columns,
    )


if __name__ == "__main__":
    main()
