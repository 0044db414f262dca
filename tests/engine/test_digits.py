"""Losses and norms of all solvers on one small table, against those of version 0.1's engine."""

import json
from pathlib import Path

import pytest
import torch

from kernelexp.engine import KERNELS, SOLVERS, Problem, ResourceLimits, prepare

A_THIRD = 300 * 900 * 4e-9
CASES = {
    "sgd": ("sgd", {}, {}),
    "eigenpro1": ("eigenpro1", {"q": 40}, {}),
    "eigenpro2": ("eigenpro2", {}, {}),
    "eigenpro2, no rows kept": ("eigenpro2", {}, {"cache_gb": 0}),
    "eigenpro2, a third of the rows kept": ("eigenpro2", {}, {"cache_gb": A_THIRD}),
    "eigenpro3": ("eigenpro3", {"n_centers": 200}, {}),
    "eigenpro3, inexact": ("eigenpro3", {"n_centers": 200, "projection": "inexact"}, {}),
    "eigenpro4": ("eigenpro4", {"n_centers": 200}, {}),
    "eigenpro4, no rows kept": ("eigenpro4", {"n_centers": 200}, {"cache_gb": 0}),
    "eigenpro4, inexact": ("eigenpro4", {"n_centers": 200, "projection": "inexact"}, {}),
    "falkon": ("falkon", {"n_centers": 200}, {}),
    "cg": ("cg", {}, {}),
    "exact": ("exact", {}, {}),
    "exact, 200 centers": ("exact", {"n_centers": 200, "ridge": 1e-4}, {}),
}
STORED = json.loads((Path(__file__).parent / "digits.json").read_text())
# Another make of CPU sums in another order; an iteration amplifies what that rounds, most where little is
# left. Zero to rounding is not compared.
ACCURACY = {"float64": 1e-6, "float32": 2e-3}
ZERO = {"float64": 1e-20, "float32": 1e-11}


def problem(dtype, limits):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(900, 8, generator=generator, dtype=torch.float64)
    labels = (X.sum(1) > 0).long()
    Y = torch.nn.functional.one_hot(labels, 2)
    kernel = KERNELS["laplacian"](bandwidth=5.0)
    return Problem(kernel, X.to(dtype), Y.to(dtype), labels, 3, limits, block_size=256)


@pytest.mark.parametrize("stored", STORED, ids=lambda row: f"{row['case']}, {row['dtype']}")
def test_losses_are_those_of_the_table(stored):
    name, settings, limits = CASES[stored["case"]]
    dtype = stored["dtype"]
    p = problem(getattr(torch, dtype), ResourceLimits(**limits))
    records = list(prepare(SOLVERS[name](epochs=6, **settings), p).run())
    assert len(records) == len(stored["train_mse"])
    for measure in ("train_mse", "rkhs_norm"):
        got = [getattr(record, measure) for record in records]
        assert got == pytest.approx(stored[measure], rel=ACCURACY[dtype], abs=ZERO[dtype]), measure
