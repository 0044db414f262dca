"""What a second fit of an estimator has to do with the first: it goes on from it, or there is nothing of it left."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from kernelexp.engine import AnyTraining, KernelModel
from kernelexp.estimator_parameters import Precomputed


@contextmanager
def whole(estimator: Any) -> Iterator[dict[str, Any]]:
    """What is learned within is there as a whole or not at all: an error leaves the estimator as it was.

    Yields what the last fit has left, by the names that end in ``_``. The estimator has none of it meanwhile, so that
    nothing stays that this fit does not set.
    """
    before = dict(vars(estimator))
    former = {name: value for name, value in before.items() if name.endswith("_")}
    for name in former:
        delattr(estimator, name)
    try:
        yield former
    except BaseException:  # an interrupt, too
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def go_on_from(model: KernelModel, training: AnyTraining) -> None:
    """Begin a training with the solution that a model is, where that is one of its own; else say so."""
    system, Y = training.system, training.problem.Y
    same = {
        # Of a matrix K nothing is kept to compare with; weights are a start for any of its size.
        "kernel": isinstance(model.kernel, Precomputed) or model.kernel == training.problem.kernel,
        "centers": model.centers.dtype == system.centers.dtype
        and torch.equal(model.centers.to(system.centers.device), system.centers),
        "outputs": model.weights.shape[1] == Y.shape[1],
    }
    if all(same.values()):
        weights = model.weights.to(Y.device)
        training.iterate = training.solver.start(system, weights)
        return
    say_anew(next(name for name, holds in same.items() if not holds))


def say_anew(other: str) -> None:
    """Warn that the former solution is of no use here, and what is other now."""
    warnings.warn(
        f"warm_start=True: training starts anew; {other}: not as in the last fit",
        UserWarning,
        stacklevel=2,
    )
