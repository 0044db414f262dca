"""What the size of the subsample costs and gives: EigenPro 2 on Fashion-MNIST with s = 1,000, 2,000 and 4,000.

    python benchmarks/subsample.py [N ...]     Fashion-MNIST in $KERNELEXP_DATA; default 2000 5000 10000 20000

Seconds of set-up and of a cached epoch, training loss and test accuracy after 5 and 10 epochs. What the
solver takes by itself is marked.
"""

import os
import sys
from pathlib import Path

from results_file import write

from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, SOLVERS, Problem, prepare
from kernelexp.engine.plan import Sizes
from kernelexp.engine.solvers.subsample import least_time_subsample

SUBSAMPLES, EPOCHS, TOLD = (1000, 2000, 4000), 10, (5, 10)
PARAMETERS = {"laplacian": {"bandwidth": 10.0}, "gaussian": {}, "matern": {}, "relu_ntk": {}}


def trained(data, kernel, s):
    train, test = data.train, data.test
    problem = Problem(kernel, train.X, train.Y, train.labels)
    training = prepare(SOLVERS["eigenpro2"](epochs=EPOCHS, subsample_size=s), problem)
    row = {"setup": training.setup_seconds, "loss": [], "accuracy": []}
    for record in training.run():
        row["epoch"] = record.seconds
        if record.epoch in TOLD:
            right = training.model().predict(test.X).argmax(1) == test.labels
            row["loss"].append(record.train_mse)
            row["accuracy"].append(100 * right.double().mean().item())
    return row | {key: training.derived()[key] for key in ("q", "batch_size")}


def main():
    rows = []
    for n in [int(n) for n in sys.argv[1:]] or [2000, 5000, 10_000, 20_000]:
        data = load(SOURCES["fmnist"](n_train=n), Path(os.environ["KERNELEXP_DATA"]))
        chosen = least_time_subsample(Sizes(n, data.train.X.shape[1], 10, n, 4), TOLD[0])
        for name, parameters in PARAMETERS.items():
            for s in [s for s in SUBSAMPLES if s <= n]:
                row = trained(data, KERNELS[name](**parameters), s)
                rows.append({"n": n, "kernel": name, "s": s, "chosen": s == chosen} | row)
                print(rows[-1], flush=True)

    def told(key, spec):
        return lambda r: ", ".join(f"{value:{spec}}" for value in r[key])

    columns = {
        "n": lambda r: f"{r['n']:,}",
        "kernel": lambda r: r["kernel"],
        "s": lambda r: f"{r['s']:,}{' (taken)' if r['chosen'] else ''}",
        "q": lambda r: r["q"],
        "m": lambda r: r["batch_size"],
        "set-up, s": lambda r: f"{r['setup']:.2f}",
        "cached epoch, s": lambda r: f"{r['epoch']:.2f}",
        "training loss": told("loss", ".2e"),
        "test accuracy %": told("accuracy", ".2f"),
    }
    title = "EigenPro 2 on Fashion-MNIST by the size of its subsample, after 5 and 10 epochs"
    write("subsample", title, {"epochs": EPOCHS}, rows, columns)


if __name__ == "__main__":
    main()
