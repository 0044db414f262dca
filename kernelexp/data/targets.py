"""What y means: labels of classes, or numbers to regress on; and the targets that follow."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

TASKS = ("auto", "classification", "regression")
# Up to so many distinct whole numbers are classes whatever they are, if each may have two points.
_FEW = 10
_SAY = "dataset.task=classification or dataset.task=regression must say what they are"


def classes_of(
    task: str, y_train: np.ndarray, y_test: np.ndarray, called: str = "y_train"
) -> np.ndarray | None:
    """The distinct labels of y_train in ascending order, int64 (c,); None for regression.

    ``auto`` takes floating-point numbers for regression targets and whole numbers for labels. More than
    ten distinct ones must look like labels: numbered without gaps from 0 or 1, with five points a
    class, none rarer than a tenth of the mean. Counts, ages and years do not. ``called``: what y_train
    is called where all its labels are one.

    Raises:
        ValueError: in one line, for shapes that do not fit the task, whole numbers that may be either,
            one class only, or labels in y_test that y_train has not.
    """
    if y_train.shape[1:] != y_test.shape[1:]:
        raise ValueError(
            f"y_test: shape {y_test.shape}; must be labels or targets like y_train, {y_train.shape}"
        )
    kinds = {y.dtype.kind == "f" for y in (y_train, y_test)}
    if task == "auto" and len(kinds) > 1:
        raise ValueError(f"y_train: {y_train.dtype}, y_test: {y_test.dtype}; {_SAY}")
    if task == "regression" or (task == "auto" and kinds == {True}):
        if y_train.ndim > 2:
            raise ValueError(f"y_train: shape {y_train.shape}; targets must be (n,) or (n, c)")
        return None
    if y_train.ndim != 1:
        raise ValueError(
            f"y_train: shape {y_train.shape}; labels must be (n,), not one-hot; "
            "dataset.task=regression takes them as numbers"
        )
    classes, counts = np.unique(_whole("y_train", y_train), return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"{called}: all labels are {classes[0]}; there must be two classes or more"
        )
    if task == "auto" and not _look_like_labels(classes, counts):
        raise ValueError(
            f"y_train: {len(classes)} distinct whole numbers from {classes[0]} to {classes[-1]} "
            f"among {len(y_train)}; {_SAY}"
        )
    unknown = np.setdiff1d(_whole("y_test", y_test), classes)
    if len(unknown):
        raise ValueError(
            f"y_test: label {unknown[0]} is not among the {len(classes)} of y_train "
            f"({_listed(classes)}); leave such points out, or set dataset.task=regression"
        )
    return classes


def encode(classes: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Labels as their places 0 to c - 1 among the classes: (n,) -> (n,) int64."""
    return np.searchsorted(classes, y.astype(np.int64))


def targets(
    y: np.ndarray, n_classes: int | None, single_output: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Targets (n, c) and labels: one-hot {0, 1}, one {0, 1} output, or the regression targets.

    ``y``: encoded labels, or targets (n,), (n, c). ``single_output``: two classes are one output.
    """
    if n_classes is None:
        return torch.from_numpy(y.reshape(len(y), -1)).to(dtype), None
    labels = torch.from_numpy(y)
    if single_output and n_classes == 2:
        return labels.to(dtype)[:, None], labels
    return torch.nn.functional.one_hot(labels, n_classes).to(dtype), labels


def _whole(name: str, y: np.ndarray) -> np.ndarray:
    """Labels as int64."""
    with np.errstate(invalid="ignore"):  # of floats beyond int64, which are refused here
        labels = y.astype(np.int64)
    wrong = np.flatnonzero(labels != y)
    if len(wrong):
        raise ValueError(
            f"{name}: {y[wrong[0]]} is no label; with dataset.task=classification all must be "
            "whole numbers"
        )
    return labels


def _look_like_labels(classes: np.ndarray, counts: np.ndarray) -> bool:
    c, n = len(classes), int(counts.sum())
    if c <= _FEW:
        return c == 2 or n >= 2 * c
    numbered = classes[0] in (0, 1) and classes[-1] - classes[0] == c - 1
    return bool(numbered and n >= 5 * c and 10 * counts.min() >= n / c)


def _listed(classes: np.ndarray) -> str:
    return ", ".join(map(str, classes[:5])) + (", ..." if len(classes) > 5 else "")
