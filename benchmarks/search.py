"""A search beside a grid of 40 points over the same ranges: what each finds, and its seconds.

    python benchmarks/search.py        Fashion-MNIST in $KERNELEXP_DATA, and three tables of scikit-learn

Both choose by the same validation points; what they chose is then seen on the test points. Of small tables a run takes
less than what is around it, so that there a search has eight trials, and leaves the ridge to each of them.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from results_file import write
from sklearn.datasets import make_friedman1

from kernelexp.metrics import RUN, SCORES, SELECTION

KERNELS = "kernel=laplacian,gaussian"
BANDWIDTHS, RIDGES = ("1", "3", "9", "27", "81"), ("1e-8", "1e-6", "1e-4", "1e-2")
RANGE, RIDGE = "kernel.bandwidth=log:1..81", "solver.ridge=log:1e-8..1e-2"
# Data, trials, and how they are made.
SETS = {
    "fmnist, 10,000 points": (
        ["dataset=fmnist", "dataset.n_train=10000"], 40, ["solver=exact", RIDGE],
    ),
    "friedman1, 4,000 rows": (
        ["dataset=table", "dataset.path=friedman1.csv", "dataset.target=y"],
        8, ["solver=ridge_path", "solver.n_centers=1000"],
    ),
    "breast_cancer": (["dataset=breast_cancer"], 8, ["solver=ridge_path"]),
    "diabetes": (["dataset=diabetes"], 8, ["solver=ridge_path"]),
}  # fmt: skip
COMMON = ["validation=0.2", "tracking.log_model=false"]


def command(folder, *arguments):
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - begun


def chosen(folder, experiment):
    """Of the best run: what it was chosen by, what it has on test points, its name."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    where = client.get_experiment_by_name(experiment).experiment_id
    [parent] = client.search_runs([where], "tags.`sweep.jobs` != ''")
    best = parent.data.tags["sweep.best"]
    run = client.get_run(best.partition("(")[2].rstrip(")"))
    valid = next(run.data.metrics[name] for name in SELECTION if name in run.data.metrics)
    test = next(run.data.metrics[name] for name in SCORES if name in run.data.metrics)
    seconds = parent.data.metrics["total_seconds"]
    return {"valid": valid, "test": test, "name": best, "training": seconds,
            RUN.train_seconds: run.data.metrics[RUN.train_seconds]}  # fmt: skip


def compare(name, arguments, trials, search):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        X, y = make_friedman1(5000, noise=1.0, random_state=0)
        pd.DataFrame(X).assign(y=y).to_csv(folder / "friedman1.csv", index=False)
        grid = [f"kernel.bandwidth={','.join(BANDWIDTHS)}", f"solver.ridge={','.join(RIDGES)}"]
        common = [*arguments, *COMMON, KERNELS]
        row = {"set": name, "trials": trials, "how": " ".join(search)}
        row["grid_s"] = command(
            folder,
            "kernelexp",
            "--multirun",
            "solver=exact",
            *common,
            *grid,
            "tracking.experiment=grid",
        )
        row["search_s"] = command(
            folder, "kernelexp.search", *common, RANGE, *search, "--trials", str(trials)
        )
        return row | {"grid": chosen(folder, "grid"), "search": chosen(folder, "search")}


def main():
    rows = []
    for name, settings in SETS.items():
        rows.append(compare(name, *settings))
        print(rows[-1], flush=True)
    columns = {
        "data": lambda r: r["set"],
        "trials": lambda r: r["trials"],
        "by": lambda r: r["how"],
        "grid: s": lambda r: f"{r['grid_s']:.0f}",
        "search: s": lambda r: f"{r['search_s']:.0f}",
        "share": lambda r: f"{r['search_s'] / r['grid_s']:.2f}",
        "of training": lambda r: f"{r['search']['training'] / r['grid']['training']:.2f}",
        "validation, grid": lambda r: f"{100 * r['grid']['valid']:.2f}",
        "search": lambda r: f"{100 * r['search']['valid']:.2f}",
        "test, grid's choice": lambda r: f"{100 * r['grid']['test']:.2f}",
        "search's choice": lambda r: f"{100 * r['search']['test']:.2f}",
    }
    settings = {"grid": f"{KERNELS}, bandwidths {BANDWIDTHS}, ridges {RIDGES}", "search": RANGE}
    write("search", "A search beside a grid of 40 points", settings, rows, columns)


if __name__ == "__main__":
    main()
