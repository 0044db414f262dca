"""The end of a training: what it recorded is held against what its model predicts, in the model's own type."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kernelexp.engine.singular import TOLD, off_by, rounded_share, too_coarse
from kernelexp.engine.solvers.base import TRUSTED, AnySolver, DivergenceError, Sample, error_of
from kernelexp.engine.solvers.stopping import EpochRecord


@dataclass(frozen=True)
class Settled:
    """What is known of a training that has ended.

    Attributes:
        record: of its last epoch, of what the model predicts where that is something else.
        outputs: f(X), (n, c), as the model predicts it, where it is something else than what training knows.
        warning: the sentence for a model whose type cannot hold the solution.
    """

    record: EpochRecord
    outputs: Tensor | None = None
    warning: str | None = None


def settled(solver: AnySolver, system: Any, iterate: Any, record: EpochRecord) -> Settled:
    """Look at some points, and where that is not enough at all of them: a product of n p d operations.

    It is not where the training error may be off by a tenth, and the difference is more than the rounding of
    predictions, a mean square of eps times that of the targets.

    Raises:
        DivergenceError: where the model's predictions are not finite.
    """
    if not solver.carries:
        return Settled(record)
    problem, Y, ranks = system.problem, system.targets, system.ranks
    some = Sample.of(problem)
    predicted = solver.predicted(system, iterate, some.rows).double()
    solved = solver.solved(system, iterate, some.rows)
    known = solver.training_outputs(system, iterate)[some.rows.to(problem.device)]
    finite = bool(predicted.isfinite().all())
    drift = some.mean_squares(predicted - known).mean().item()
    share = rounded_share(some.mean_squares(predicted - solved), Y)
    finite, drift, share = ranks.agreed((finite, drift, share))
    if not finite:
        raise DivergenceError(
            f"the model's predictions on its training points are not finite in {Y.dtype}: rescale X and Y, or take "
            "dtype=float64"
        )
    warning = None
    if share > TOLD:
        ridge = solver.choice(system, iterate).get("ridge", getattr(solver, "ridge", 0.0))
        warning = too_coarse(Y.dtype, off_by(share), ridge)
        if problem.precision not in ("auto", "ieee"):
            warning = (
                f"inner products in precision={problem.precision} are too rough for this kernel {off_by(share)}; take "
                "precision=auto"
            )
    rounding = torch.finfo(Y.dtype).eps * system.mean_square
    if drift <= rounding or record.train_mse >= TRUSTED * drift:
        return Settled(record, None, warning)
    own, weights = ranks.own(problem.points), solver.weights(system, iterate)
    outputs = ranks.gather(system.predictions_at(own, weights), len(Y))
    mse = (outputs - Y).square_().mean().item()
    new = replace(record, train_mse=mse, train_error=error_of(outputs, problem.labels))
    return Settled(new, outputs, warning)
