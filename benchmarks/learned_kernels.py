"""What a learned metric gains over the same kernel with its own best bandwidth and ridge.

    python benchmarks/learned_kernels.py [DATA SET ...]       the tables, or others: fmnist, in $KERNELEXP_DATA

Rows of other data sets stay in the table.

The Laplacian kernel: ``exact`` and ``rfm`` (full and diagonal M, up to five rounds) have the same grid of bandwidths, in medians of
the distance, and of ridges; bandwidth, ridge and round are those of the least square error on a fifth of the training points, which are
not trained on afterwards. Error on test points: mean and standard deviation over seeds. No times.
"""

import os
import statistics
import sys
import warnings
from pathlib import Path

import torch
from results_file import kept, write

from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, SOLVERS, Problem, prepare
from kernelexp.engine.model import predicted_labels

BANDWIDTHS = (0.5, 1, 2, 4, 8)
RIDGES = (1e-6, 1e-4, 1e-2)
TABLES = ("friedman1", "friedman2", "friedman3", "diabetes", "breast_cancer", "wine")
VARIANTS = {"exact": {}, "rfm, full M": {"diagonal": False}, "rfm, diagonal M": {"diagonal": True}}
ROUNDS, SEEDS = 5, range(5)


def settings_of(name):
    """Source, bandwidths, ridges, seeds and type: fewer for images."""
    if name == "fmnist":
        return (
            SOURCES[name](n_train=5000, n_test=5000),
            (0.5, 1, 2),
            (1e-6,),
            SEEDS[:3],
            torch.float32,
        )
    return SOURCES[name](), BANDWIDTHS, RIDGES, SEEDS, torch.float64


def mse(model, split):
    return (model.predict(split.X) - split.Y).square().mean().item()


def test_error(model, split):
    """Percent wrong, or of the variance of a number."""
    outputs = model.predict(split.X)
    if split.labels is not None:
        return 100 * (predicted_labels(outputs) != split.labels).double().mean().item()
    return 100 * ((outputs - split.Y).square().mean() / split.Y.var(0, correction=0).mean()).item()


def candidates(solver, problem, valid):
    """Validation error and model of every round."""
    training = prepare(solver, problem)
    for _ in training.run():
        model = training.model()
        yield mse(model, valid), model


def best_error(variant, data, kernel, bandwidths, ridges):
    """Test error of what the validation points take."""
    taken = (float("inf"), None)
    for times in bandwidths:
        scaled = KERNELS["laplacian"](bandwidth=times * kernel.bandwidth)
        problem = Problem(scaled, data.train.X, data.train.Y, data.train.labels)
        for ridge in ridges:
            inner = SOLVERS["exact"](ridge=ridge)
            if variant != "exact":
                inner = SOLVERS["rfm"](
                    epochs=ROUNDS, agop_points=2000, inner={"name": "exact", "ridge": ridge},
                    **VARIANTS[variant],
                )  # fmt: skip
            found = min(candidates(inner, problem, data.valid), key=lambda pair: pair[0])
            taken = min(taken, found, key=lambda pair: pair[0])
    return test_error(taken[1], data.test)


def compare(name):
    source, bandwidths, ridges, seeds, dtype = settings_of(name)
    errors = {variant: [] for variant in VARIANTS}
    for seed in seeds:
        folder = Path(os.environ.get("KERNELEXP_DATA", "."))
        data = load(source, folder, seed=seed, validation=0.2, dtype=dtype)
        median = KERNELS["laplacian"](bandwidth="median")
        kernel = median.fitted_to(data.train.X, torch.Generator().manual_seed(seed))
        for variant, found in errors.items():
            found.append(best_error(variant, data, kernel, bandwidths, ridges))
    n, d = data.train.X.shape
    return {"data": name, "task": data.task, "n": n, "d": d, "errors": errors}


def shown(variant):
    return lambda row: "{:.2f} ± {:.2f}".format(
        statistics.mean(row["errors"][variant]), statistics.stdev(row["errors"][variant])
    )


def less(variant):
    """Error below that of ``exact``, of the same test points: each seed is a pair."""

    def show(row):
        pairs = zip(row["errors"]["exact"], row["errors"][variant], strict=True)
        below = [exact - found for exact, found in pairs]
        return f"{statistics.mean(below):.2f} ± {statistics.stdev(below):.2f}"

    return show


def main(names):
    warnings.simplefilter("ignore")
    rows = [row for row in kept("learned_kernels") if row["data"] not in names]
    for name in names:
        rows.append(compare(name))
        print(name, {v: shown(v)(rows[-1]) for v in VARIANTS}, flush=True)
    columns = {
        "data": lambda row: row["data"],
        "n": lambda row: f"{row['n']:,}",
        "d": lambda row: row["d"],
        **{f"{variant}: error %": shown(variant) for variant in VARIANTS},
        **{f"{variant}: below exact": less(variant) for variant in VARIANTS if variant != "exact"},
    }
    write("learned_kernels", "Learned metrics beside one bandwidth", {}, rows, columns)


if __name__ == "__main__":
    main(sys.argv[1:] or TABLES)
