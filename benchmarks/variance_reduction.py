"""How fast EigenPro 3 and 4 go to the least-squares solution, by gradient and step.

    python benchmarks/variance_reduction.py       Fashion-MNIST in $KERNELEXP_DATA

Relative error of test predictions against the exact least-squares solution, by epoch. Justifies
``projected_sgd``: SAGA gradients, from the third epoch on, at half the step of plain ones. No times.
"""

import os
import warnings
from pathlib import Path

import torch
from results_file import write

from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, SOLVERS, Problem, fit, prepare
from kernelexp.engine.solvers import projected_sgd, projected_state

EPOCHS = (1, 2, 3, 5, 10, 20, 40)
# Plain epochs first, and the share of their step after that; None: no variance reduction.
VARIANTS = (None, (1, 1 / 2), (2, 1 / 3), (2, 1 / 2), (2, 2 / 3))


def random_problem():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(200, 20, dtype=torch.float64, generator=generator)
    Y = torch.nn.functional.one_hot(torch.randint(0, 3, (200,), generator=generator)).double()
    return Problem(KERNELS["laplacian"](bandwidth=3.0), X, Y), X + 0.1, 60


def fmnist_problem(kernel, n, p):
    data = load(SOURCES["fmnist"](n_train=n, n_test=1000), Path(os.environ["KERNELEXP_DATA"]))
    return Problem(KERNELS[kernel](), data.train.X, data.train.Y), data.test.X, p


def errors(solver, problem, X_test, expected):
    training = prepare(solver, problem)
    found = {}
    for record in training.run():
        if record.epoch in EPOCHS:
            off = training.model().predict(X_test) - expected
            found[record.epoch] = (off.norm() / expected.norm()).item()
    return {"errors": found, "restarted": training.iterate.step_scale < 1}


def main():
    warnings.simplefilter("ignore")
    problems = {
        "random, n = 200, p = 60": random_problem(),
        "fmnist laplacian, n = 5,000, p = 500": fmnist_problem("laplacian", 5000, 500),
        "fmnist gaussian, n = 5,000, p = 500": fmnist_problem("gaussian", 5000, 500),
    }
    rows = []
    for name, (problem, X_test, p) in problems.items():
        expected = fit(SOLVERS["exact"](n_centers=p), problem).predict(X_test)
        for solver in ("eigenpro3", "eigenpro4"):
            for variant in VARIANTS:
                if variant is not None:
                    projected_state._PLAIN_EPOCHS, projected_sgd._REDUCED_STEP = variant
                made = SOLVERS[solver](
                    n_centers=p, epochs=EPOCHS[-1], variance_reduction=variant is not None
                )
                row = {"problem": name, "solver": solver, "variant": variant}
                rows.append({**row, **errors(made, problem, X_test, expected)})
    shown = {
        "problem": lambda r: r["problem"],
        "solver": lambda r: r["solver"],
        "plain epochs": lambda r: r["variant"][0] if r["variant"] else "all",
        "step after": lambda r: f"{r['variant'][1]:.2f}" if r["variant"] else "1",
        "restarted": lambda r: "yes" if r["restarted"] else "",
        **{f"epoch {e}": lambda r, e=e: f"{r['errors'][e]:.0e}" for e in EPOCHS},
    }
    title = "EigenPro 3 and 4 against the exact least-squares solution"
    write("variance_reduction", title, {"epochs": EPOCHS}, rows, shown)


if __name__ == "__main__":
    main()
