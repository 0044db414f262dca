"""Points that an estimator holds out: their score by epoch, and an end where it falls."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from torch import Tensor

from kernelexp.engine import AnyTraining, Ending, Problem, Saved
from kernelexp.engine.checks import number, refuse
from kernelexp.engine.evaluation import Evaluation
from kernelexp.engine.model import predicted_labels


@dataclass(frozen=True)
class HeldOut:
    """Points X (m, d) with targets Y (m, c), and labels (m,) where they have classes."""

    X: Tensor
    Y: Tensor
    labels: Tensor | None

    def train(self, training: AnyTraining, patience: int | None) -> list[float]:
        """Train to the end, or to ``patience`` epochs without a better score, and then back to the best epoch.

        The scores by epoch: accuracy, or R2 of regression, as the estimator's ``score`` has them.
        """
        evaluation, scores, best = Evaluation(training, self.X), list[float](), None
        for record in training.run():
            scores = [*scores[: record.epoch - 1], self._score(evaluation.outputs())]
            if patience is None:
                continue
            if scores[-1] > max(scores[:-1], default=-np.inf):
                now = training.saved()
                best = Saved({name: t.clone() for name, t in now.tensors.items()}, now.numbers)
            if len(scores) - 1 - scores.index(max(scores)) >= patience:
                training.end(Ending.PATIENCE)
        if best is not None and scores.index(max(scores)) < len(scores) - 1:
            ended = training.stopped_by
            training.go_back(best)
            training.end(ended)
        return scores

    def _score(self, outputs: Tensor) -> float:
        if self.labels is not None:
            return float(accuracy_score(self.labels.cpu(), predicted_labels(outputs).cpu()))
        return float(r2_score(self.Y.cpu(), outputs.cpu()))


def held_out(problem: Problem, fraction: Any, patience: Any) -> tuple[Problem, HeldOut | None]:
    """The problem without a share of its points, of each class its own, and those; all of it and None for None.

    Raises:
        ValueError: for a share or a number of epochs that is none.
    """
    number("n_iter_no_change", patience, 1, whole=True, optional=True)
    if fraction is None and patience is not None:
        warnings.warn(
            f"n_iter_no_change={patience}: no points are held out, and it is ignored; give validation_fraction, as 0.1",
            UserWarning,
            stacklevel=4,
        )
    if fraction is None:
        return problem, None
    number("validation_fraction", fraction, above=0)
    if fraction >= 1:
        raise refuse("validation_fraction", fraction, "a share below 1, or None")
    labels = None if problem.labels is None else problem.labels.cpu().numpy()
    _check_share(fraction, len(problem.X), labels)
    parts = train_test_split(
        np.arange(len(problem.X)), test_size=fraction, random_state=problem.seed, stratify=labels
    )
    kept, out = (torch.from_numpy(np.sort(rows)).to(problem.device) for rows in parts)
    rest = replace(
        problem,
        X=problem.X[kept],
        Y=problem.Y[kept],
        labels=None if problem.labels is None else problem.labels[kept],
        point_weights=None if problem.point_weights is None else problem.point_weights[kept],
    )
    held = None if problem.labels is None else problem.labels[out]
    return rest, HeldOut(problem.X[out], problem.Y[out], held)


def _check_share(fraction: float, n: int, labels: np.ndarray | None) -> None:
    """Refuse a share of n points that leaves too few on one side: one for each class, two for an R2.

    Raises:
        ValueError: with what is allowed, by the name that it has here; scikit-learn has others.
    """
    classes, counts = (None, None) if labels is None else np.unique(labels, return_counts=True)
    if counts is not None and counts.min() < 2:
        raise ValueError(
            f"validation_fraction={fraction}: a class has one point, which cannot be both learned from and held out; "
            "must be None, or each class have two"
        )
    least = 2 if classes is None else len(classes)
    m = math.ceil(fraction * n)  # as train_test_split has it
    if not least <= m <= n - least:
        each = "" if classes is None else ", one for each class"
        raise ValueError(
            f"validation_fraction={fraction}: holds out {m:,} of {n:,} points; must leave at least {least} on both "
            f"sides{each}, or be None"
        )
