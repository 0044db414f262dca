"""What one rank of several does in ``test_rank_digits``: ``python rank_cases.py RANK SIZE PORT FILE``."""

import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import torch
from torch.distributed import TCPStore

from kernelexp.engine import (
    KERNELS,
    SOLVERS,
    Problem,
    ResourceLimits,
    StopRule,
    operator,
    plan,
    prepare,
)
from kernelexp.engine.evaluation import Evaluation
from kernelexp.engine.rank_group import Group
from kernelexp.engine.rank_watch import Watch

N = 1003  # not divisible by 2 or 3
FEW = {"n_centers": 301}
LONG = type("LongSteps", (SOLVERS["eigenpro2"],), {"relaxation": 5.0})
ALL = {**SOLVERS, "long steps": LONG}
CASES = {
    "sgd": ("sgd", {"epochs": 2, "batch_size": 25}, {}),
    "eigenpro1": ("eigenpro1", {"epochs": 3, "q": 20, "batch_size": 25}, {}),
    "eigenpro2": ("eigenpro2", {"epochs": 3}, {}),
    "eigenpro2, K in part": ("eigenpro2", {"epochs": 3}, {"cache_gb": 0.001}),
    "eigenpro2, K not kept": ("eigenpro2", {"epochs": 3}, {"cache_gb": 0.0}),
    "eigenpro2, step halved": ("long steps", {"epochs": 4, "batch_size": 300}, {}),
    "eigenpro1, ridge": (
        "eigenpro1",
        {"epochs": 2, "q": 20, "ridge": 1e-2, "batch_size": 25},
        {},
    ),
    "eigenpro2, ridge": ("eigenpro2", {"epochs": 2, "ridge": 1e-2}, {}),
    "eigenpro3": ("eigenpro3", {"epochs": 4, **FEW}, {}),
    "eigenpro3, all": ("eigenpro3", {"epochs": 3, "centers": "all"}, {}),
    "eigenpro3, inexact": ("eigenpro3", {"epochs": 3, "projection": "inexact", **FEW}, {}),
    "eigenpro4": ("eigenpro4", {"epochs": 4, **FEW}, {}),
    "eigenpro4, K in part": ("eigenpro4", {"epochs": 4, **FEW}, {"cache_gb": 0.0005}),
    "eigenpro4, K not kept": ("eigenpro4", {"epochs": 4, **FEW}, {"cache_gb": 0.0}),
    "eigenpro4, inexact": ("eigenpro4", {"epochs": 3, "projection": "inexact", **FEW}, {}),
    "eigenpro4, pieces": ("eigenpro4", {"epochs": 2, "batch_size": 200, **FEW}, {}),
    "eigenpro4, kmeans": ("eigenpro4", {"epochs": 3, "n_centers": 100, "centers": "kmeans"}, {}),
    "falkon": ("falkon", FEW, {}),
    "falkon, rpcholesky": ("falkon", {**FEW, "ridge": 1e-3, "centers": "rpcholesky"}, {}),
    "falkon, K not kept": ("falkon", {"epochs": 4, **FEW}, {"cache_gb": 0.0}),
    "cg": ("cg", {"epochs": 8}, {}),
    "cg, nystrom": ("cg", {"epochs": 8, "preconditioner": "nystrom", "ridge": 1e-4}, {}),
    "cg, rpcholesky": ("cg", {"epochs": 8, "preconditioner": "rpcholesky"}, {}),
    "cg, K in part": ("cg", {"epochs": 8}, {"cache_gb": 0.002}),
}


def points(dtype, ties):
    """Of two classes; with ``ties`` a fifth of the points repeat others, with other labels, and one is far off."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(N, 8, generator=generator, dtype=torch.float64)
    labels = (X.sum(1) > 0).long()
    if ties:
        X[:200] = X[200:400]
        labels[:50] = 1 - labels[200:250]
        X[700] *= 30
    return X.to(dtype), labels


def problem(ranks, dtype=torch.float64, ties=False, limits=None):
    X, labels = points(dtype, ties)
    Y = torch.nn.functional.one_hot(labels, 2).to(dtype)
    limits = ResourceLimits(**(limits or {}))
    kernel = KERNELS["laplacian"](bandwidth=5.0)
    return Problem(kernel, X, Y, labels, seed=3, block_size=256, limits=limits, ranks=ranks)


def result(training):
    for _ in training.run():
        pass
    last = training.records[-1]
    X, _ = points(training.system.targets.dtype, False)
    outputs = Evaluation(training, 0.9 * X[:57]).outputs()
    return {
        "outputs": outputs,
        "weights": training.model().weights,
        "train": (last.train_mse, last.train_error, last.epoch, training.stopped_by),
        "norm": training.rkhs_norm().value,
        "scale": getattr(training.iterate, "step_scale", 1.0),
        "kept": training.plan.kept_rows,
    }


@contextmanager
def pieces(name):
    """Of kept rows few at a time, of which a rank with a center more than another takes one less."""
    usual = plan.tiling
    if "pieces" in name:
        plan.tiling = lambda device: replace(usual(device), gathered_bytes=60_300)
    yield
    plan.tiling = usual


def all_results(ranks):
    """Of all cases, by name and precision."""
    found = {}
    for name, (solver, settings, limits) in CASES.items():
        for dtype in (torch.float64, torch.float32):
            with pieces(name):
                training = prepare(ALL[solver](**settings), problem(ranks, dtype, limits=limits))
            found[name, dtype] = result(training)
    for name in ("eigenpro2", "eigenpro4", "falkon", "cg"):
        solver, settings, limits = CASES[name]
        training = prepare(ALL[solver](**settings), problem(ranks, ties=True, limits=limits))
        found[name, "ties"] = result(training)
    for name in ("eigenpro1", "eigenpro2", "eigenpro4"):
        solver, settings, limits = CASES[name]
        settings = {**settings, "epochs": 2}
        training = prepare(ALL[solver](**settings), problem(ranks))
        training.solver.step(training.system, training.iterate)
        found[name, "saved"] = training.saved()
    return found


def of_several(ranks):
    """What only several ranks have: bytes, agreement, memory that runs out on one of them."""
    found = {}
    training = prepare(SOLVERS["eigenpro2"](epochs=1), problem(ranks))
    before = ranks.bytes_gathered
    training.solver.advance(training.system, training.iterate)
    found["bytes"] = ranks.bytes_gathered - before
    m = training.system.batch_size
    rows = max(1, 256 // m) * N / -(-N // m)
    width = 2 + training.system.preconditioner.q + training.system.K._picks * rows
    found["numbers"] = rows * width
    # Seconds differ between ranks, and all stop after the same epoch.
    stop = StopRule(seconds=0.02)
    training = prepare(SOLVERS["eigenpro2"](epochs=500, stop=stop), problem(ranks))
    found["stopped"] = len(list(training.run())), training.stopped_by

    class Short(operator.KeptKernel):
        left = 1

        def __init__(self, *args, **settings):
            if ranks.rank == 1 and Short.left:
                Short.left = 0
                raise torch.OutOfMemoryError("a test")
            super().__init__(*args, **settings)

    kept, operator.KeptKernel = operator.KeptKernel, Short
    try:
        training = prepare(SOLVERS["eigenpro2"](epochs=3), problem(ranks))
    finally:
        operator.KeptKernel = kept
    found["smaller"] = training.smaller_plan
    found["after"] = result(training)
    return found


def main(rank, size, port, file):
    warnings.simplefilter("ignore")
    store = TCPStore("127.0.0.1", port, size, rank == 0, timedelta(minutes=2))
    ranks = Group(Watch(store, rank, size), torch.device("cpu"), threads=1, beside=size)
    found = all_results(ranks), of_several(ranks)
    torch.save(found, f"{file}.{rank}")
    ranks.all_here()
    ranks.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), sys.argv[4])
