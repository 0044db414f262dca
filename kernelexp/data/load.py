"""From a source to a data set that can be trained on: read, check, take, corrupt, scale."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from kernelexp.data.base import Arrays, DatasetSource
from kernelexp.data.cache import read_arrays
from kernelexp.data.fingerprint import are_here, digest
from kernelexp.data.held_out import HeldOut, held_out
from kernelexp.data.label_noise import corrupt, disturb
from kernelexp.data.large import take
from kernelexp.data.overlap import warn_of_overlap
from kernelexp.data.preprocessing import Preprocessing
from kernelexp.data.ranges import check_numbers, check_type
from kernelexp.data.targets import classes_of, encode, targets
from kernelexp.engine.checks import refuse

if TYPE_CHECKING:
    from kernelexp.data.columns import Columns

# Of points: some in an order, or all.
Places: TypeAlias = np.ndarray | slice


@dataclass(frozen=True)
class Split:
    """X (n, d), targets Y (n, c), labels (n,) or None for regression."""

    X: Tensor
    Y: Tensor
    labels: Tensor | None


@dataclass(frozen=True)
class Dataset:
    """A data set ready to train on.

    Attributes:
        name: of the source.
        train: with noisy labels where noise was asked for; X may be a file that is mapped.
        test: always with the labels as they are.
        valid: training points, with their noisy labels, that are held out for choosing; None: none are.
        classes: the labels as they came, of which ``labels`` are the places: (c,); None for regression.
        columns: of a table, how its rows became inputs; None for others.
        preprocessing: how inputs became rows, for serving.
        digest: of the points taken, before noise and scaling.
        location: where they are from.
        subspace: orthonormal directions (d, r) that are all the targets depend on; None: not known.
    """

    name: str
    train: Split
    test: Split
    valid: Split | None
    classes: np.ndarray | None
    columns: Columns | None
    preprocessing: Preprocessing
    digest: str
    location: str
    subspace: np.ndarray | None = None

    @property
    def n_classes(self) -> int | None:
        """None for regression."""
        return None if self.classes is None else len(self.classes)

    @property
    def task(self) -> str:
        """What y was taken for."""
        return "regression" if self.classes is None else f"{len(self.classes)} classes"


def load(
    source: DatasetSource,
    data_dir: Path,
    *,
    seed: int = 0,
    noise: float = 0.0,
    noise_kind: str = "uniform",
    validation: HeldOut | None = None,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Read a source and prepare it; every draw comes from ``seed``.

    ``validation``: of the training points that are taken, the share or number that is held out. Nothing is fitted to
    them, nor to test points, nor to points that are not taken: neither scaling nor the levels and medians of a table.

    Raises:
        ValueError: for arrays that cannot be trained on, with the array's name.
        FileNotFoundError: where files are missing, with the files that would help.
    """
    arrays, location = read_arrays(source, data_dir, seed)
    scaled = source.scale != "none"
    check(arrays, dtype, scaled)
    classes = _classes(source, arrays)
    n_classes = None if classes is None else len(classes)
    rows = _drawn(source, arrays, classes, seed)
    arrays = _take(arrays, *rows)
    known_by = digest(arrays)
    if arrays.columns is not None:
        warn_of_overlap(arrays, source.name)
    y_train, y_test = arrays.y_train, arrays.y_test
    if classes is None:
        for name, y in (("y_train", y_train), ("y_test", y_test)):
            check_numbers(name, y, dtype, y.size)
        y_train = disturb(y_train, noise, _rng(seed, "noise"))
    else:
        y_train, y_test = (encode(classes, y) for y in (y_train, y_test))
        y_train = corrupt(y_train, len(classes), noise, noise_kind, _rng(seed, "noise"))
    held = np.zeros(len(y_train), bool)
    if validation is not None:
        labels = None if classes is None else y_train
        held = held_out(
            validation,
            len(y_train),
            _rng(seed, "validation"),
            labels=labels,
            groups=arrays.groups,
            times=arrays.times,
        )
    arrays = _refitted(arrays, *rows, ~held)
    x_valid, y_valid = None, None
    if validation is not None:
        x_valid, y_valid = take(arrays.x_train, held), y_train[held]
        arrays = arrays._replace(x_train=take(arrays.x_train, ~held))
        y_train = y_train[~held]
    preprocessing = Preprocessing.fit(arrays.x_train, source.scale, source.grayscale)

    def split(part: str, x: np.ndarray, y: np.ndarray) -> Split:
        X = preprocessing(x, dtype)
        if scaled:
            check_numbers(f"x_{part}", X.numpy(), dtype, X.shape[1], source.scale)
        return Split(X, *targets(y, n_classes, source.single_output, dtype))

    return Dataset(
        name=source.name,
        train=split("train", arrays.x_train, y_train),
        valid=None if x_valid is None or y_valid is None else split("valid", x_valid, y_valid),
        test=split("test", arrays.x_test, y_test),
        classes=classes,
        columns=arrays.columns,
        preprocessing=preprocessing,
        digest=known_by,
        location=location,
        subspace=None if scaled else source.subspace(seed),  # scaling would move them
    )


def points_digest(source: DatasetSource, data_dir: Path, seed: int) -> str | None:
    """The digest of what ``load`` would take; downloads and keeps nothing.

    Returns:
        None where the data are not on this machine.

    Raises:
        ValueError: for arrays that cannot be trained on.
    """
    if not are_here(source, data_dir):
        return None
    arrays, _ = read_arrays(source, data_dir, seed, keep=False)
    classes = _classes(source, arrays)
    return digest(_take(arrays, *_drawn(source, arrays, classes, seed)))


def check(arrays: Arrays, dtype: torch.dtype, scaled: bool) -> None:
    """Refuse arrays that are no data set, whatever the labels mean.

    x is used in ``dtype``, point by point, or ``scaled`` first: all numbers together, in float64.

    Raises:
        ValueError: for wrong shapes, NaN or numbers that overflow, with the array's name.
    """
    for part in ("train", "test"):
        x, y = (getattr(arrays, f"{axis}_{part}") for axis in "xy")
        for name, array in ((f"x_{part}", x), (f"y_{part}", y)):
            check_type(name, array)
        if x.ndim < 2 or not x.size or x.dtype.kind not in "biuf":
            raise ValueError(
                f"x_{part}: shape {x.shape}, {x.dtype}; must be numbers, (n, d) or images"
            )
        if x.shape[1:] != arrays.x_train.shape[1:]:
            raise ValueError(
                f"x_test: shape {x.shape}; must be like x_train, {arrays.x_train.shape}"
            )
        if y.ndim < 1 or len(y) != len(x) or not y.size or y.dtype.kind not in "biuf":
            texts = "; of labels their places, np.unique(labels, return_inverse=True)[1]"
            raise ValueError(
                f"y_{part}: shape {y.shape}, {y.dtype}; must be {len(x)} numbers"
                + (texts if y.dtype.kind in "USO" else "")
            )
        used = (torch.float64, x.size) if scaled else (dtype, x[0].size)
        check_numbers(f"x_{part}", x, *used)
        if y.dtype.kind == "f":
            check_numbers(f"y_{part}", y, torch.float64, y.size)


def _classes(source: DatasetSource, arrays: Arrays) -> np.ndarray | None:
    """As ``classes_of``; labels that are texts are labels."""
    names = None if arrays.columns is None else arrays.columns.classes
    if names is not None and source.task == "regression":
        raise refuse("dataset.task", source.task, "classification for a target that has texts")
    task = source.task if names is None else "classification"
    called = "y_train" if arrays.columns is None else f"y_train, {arrays.columns.target}"
    return classes_of(task, arrays.y_train, arrays.y_test, called)


def _rng(seed: int, purpose: str) -> np.random.Generator:
    """A stream of its own for each purpose, so that one draw does not shift another."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def _drawn(
    source: DatasetSource, arrays: Arrays, classes: np.ndarray | None, seed: int
) -> tuple[Places, Places]:
    """Which training and test points are taken: a random subset of the asked size, in the order of the draw."""
    rng = _rng(seed, "subset")
    source.check_taken(len(arrays.x_train), len(arrays.x_test), "dataset.")
    train = _rows(source.n_train, len(arrays.x_train), rng)
    if source.balanced:
        if classes is None:
            raise refuse("dataset.balanced", True, "false for regression targets")
        labels = encode(classes, arrays.y_train)
        own = _rng(seed, "balanced")
        train = _balanced_rows(labels, source.n_train, len(classes), own)
    return train, _rows(source.n_test, len(arrays.x_test), rng)


def _take(arrays: Arrays, train: Places, test: Places) -> Arrays:
    return arrays._replace(
        x_train=arrays.x_train[train],
        y_train=arrays.y_train[train],
        x_test=arrays.x_test[test],
        y_test=arrays.y_test[test],
        groups=None if arrays.groups is None else arrays.groups[train],
        times=None if arrays.times is None else arrays.times[train],
    )


def _refitted(arrays: Arrays, train: Places, test: Places, marks: np.ndarray) -> Arrays:
    """With the columns of a table fitted to those of the points taken that are marked, where that is anything else."""
    if arrays.refit is None or (isinstance(train, slice) and marks.all()):
        return arrays
    marked = np.flatnonzero(marks) if isinstance(train, slice) else train[marks]
    columns, x_train, x_test = arrays.refit(marked)
    return arrays._replace(x_train=x_train[train], x_test=x_test[test], columns=columns)


def _rows(wanted: int | None, size: int, rng: np.random.Generator) -> Places:
    order = rng.permutation(size)  # drawn in any case: the test draw must not depend on n_train
    return slice(None) if wanted is None else order[:wanted]


def _balanced_rows(
    labels: np.ndarray, wanted: int | None, n_classes: int, rng: np.random.Generator
) -> np.ndarray:
    """Equally many rows of each class, as many as asked or as the rarest allows."""
    counts = np.bincount(labels, minlength=n_classes)
    each = int(counts.min()) if wanted is None else wanted // n_classes
    if wanted is not None and (wanted % n_classes or each > counts.min()):
        raise refuse(
            "dataset.n_train",
            wanted,
            f"a multiple of {n_classes}, at most {counts.min() * n_classes}, with dataset.balanced=true",
        )
    rows = [rng.permutation(np.flatnonzero(labels == c))[:each] for c in range(n_classes)]
    return rng.permutation(np.concatenate(rows))
