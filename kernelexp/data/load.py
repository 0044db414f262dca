"""From a source to a data set that can be trained on: read, check, take, corrupt, scale."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kernelexp.data.base import Arrays, DatasetSource
from kernelexp.data.cache import cache_dir, read_npz, write_npz
from kernelexp.data.label_noise import corrupt
from kernelexp.data.preprocessing import Preprocessing
from kernelexp.engine.checks import refuse

# Numbers looked at together.
_PART = 1 << 24


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
        n_classes: None for regression.
        preprocessing: how inputs became rows, for serving.
        digest: of the points taken, before noise and scaling.
        location: where they are from.
    """

    name: str
    train: Split
    test: Split
    n_classes: int | None
    preprocessing: Preprocessing
    digest: str
    location: str


def load(
    source: DatasetSource,
    data_dir: Path,
    *,
    seed: int = 0,
    noise: float = 0.0,
    noise_kind: str = "uniform",
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Read a source and prepare it; every draw comes from ``seed``.

    Raises:
        ValueError: for arrays that cannot be trained on, with the array's name.
        FileNotFoundError: where files are missing, with the files that would help.
    """
    arrays, location = _arrays(source, data_dir, seed)
    n_classes = check(arrays)
    arrays = _take(source, arrays, n_classes, seed)
    y_train = arrays.y_train
    if n_classes is None:
        if noise:
            raise refuse("noise", noise, "0 for regression targets: label noise needs classes")
    else:
        y_train = corrupt(y_train, n_classes, noise, noise_kind, _rng(seed, "noise"))
    preprocessing = Preprocessing.fit(arrays.x_train, source.scale, source.grayscale)
    single = source.single_output

    def split(x: np.ndarray, y: np.ndarray) -> Split:
        return Split(preprocessing(x, dtype), *_targets(y, n_classes, single, dtype))

    return Dataset(
        name=source.name,
        train=split(arrays.x_train, y_train),
        test=split(arrays.x_test, arrays.y_test),
        n_classes=n_classes,
        preprocessing=preprocessing,
        digest=_digest(arrays),
        location=location,
    )


def files_state(source: DatasetSource, data_dir: Path) -> str:
    """The state of the files that ``load`` would read, from the system's records of them alone.

    Any other content has another state; the same content may, once it is written again or moved.
    """
    given = data_dir / f"{source.name}.npz"
    files = [given] if source.cached and given.is_file() else source.files(data_dir) or []
    state = hashlib.blake2b(digest_size=12)
    for file in files:
        s = file.stat()
        known = s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns
        state.update(f"{file.resolve()} {known}".encode())
    return state.hexdigest()


def points_digest(source: DatasetSource, data_dir: Path, seed: int) -> str | None:
    """The digest of what ``load`` would take; None where it would have to be downloaded.

    Raises:
        ValueError: for arrays that cannot be trained on.
    """
    given = data_dir / f"{source.name}.npz"
    if not (source.cached and given.is_file()) and source.files(data_dir) == []:
        return None
    arrays, _ = _arrays(source, data_dir, seed)
    return _digest(_take(source, arrays, check(arrays), seed))


def _digest(arrays: Arrays) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def check(arrays: Arrays) -> int | None:
    """The number of classes, or None for regression.

    Raises:
        ValueError: for NaN, wrong shapes, one class only or labels outside the range.
    """
    for part in ("train", "test"):
        x, y = (getattr(arrays, f"{axis}_{part}") for axis in "xy")
        if x.ndim < 2 or not x.size or x.dtype.kind not in "biuf":
            raise ValueError(
                f"x_{part}: shape {x.shape}, {x.dtype}; must be numbers, (n, d) or images"
            )
        if x.shape[1:] != arrays.x_train.shape[1:]:
            raise ValueError(
                f"x_test: shape {x.shape}; must be like x_train, {arrays.x_train.shape}"
            )
        if len(y) != len(x) or y.dtype.kind not in "biuf":
            raise ValueError(f"y_{part}: shape {y.shape}, {y.dtype}; must be {len(x)} numbers")
        for name, array in ((f"x_{part}", x), (f"y_{part}", y)):
            if array.dtype.kind == "f" and not _is_finite(array):
                raise ValueError(f"{name}: has NaN or infinite numbers; remove or replace them")
    y_train, y_test = arrays.y_train, arrays.y_test
    if (y_train.dtype.kind == "f") != (y_test.dtype.kind == "f") or y_train.shape[
        1:
    ] != y_test.shape[1:]:
        raise ValueError("y_test: must be labels or targets of the same shape, as y_train")
    if y_train.dtype.kind == "f":
        if y_train.ndim > 2:
            raise ValueError(f"y_train: shape {y_train.shape}; targets must be (n,) or (n, c)")
        return None
    if y_train.ndim != 1:
        raise ValueError(f"y_train: shape {y_train.shape}; labels must be (n,), not one-hot")
    if (y_train == y_train[0]).all():
        raise ValueError(f"y_train: all labels are {y_train[0]}; there must be two classes or more")
    n_classes = int(y_train.max()) + 1
    for name, y in (("y_train", y_train), ("y_test", y_test)):
        if y.min() < 0 or y.max() >= n_classes:
            raise ValueError(
                f"{name}: labels from {y.min()} to {y.max()}; must be from 0 to {n_classes - 1}, "
                "the largest in y_train"
            )
    return n_classes


def _is_finite(array: np.ndarray) -> bool:
    """By parts, for arrays larger than memory."""
    rows = max(1, _PART // max(1, array[0].size))
    return all(
        np.isfinite(array[start : start + rows]).all() for start in range(0, len(array), rows)
    )


def _arrays(source: DatasetSource, data_dir: Path, seed: int) -> tuple[Arrays, str]:
    """The user's own file first, then our cache, then the source."""
    given, kept = data_dir / f"{source.name}.npz", cache_dir() / f"{source.name}.npz"
    if not source.cached:
        return source.read(data_dir, seed), source.location(data_dir)
    if given.is_file() and given != kept:
        return read_npz(given), str(given)
    try:
        return read_npz(kept), source.location(data_dir)
    except (FileNotFoundError, ValueError):  # none yet, or a broken one: it is written anew
        arrays = source.read(data_dir, seed)
        write_npz(kept, arrays)
        return arrays, source.location(data_dir)


def _rng(seed: int, purpose: str) -> np.random.Generator:
    """A stream of its own for each purpose, so that one draw does not shift another."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def _take(source: DatasetSource, arrays: Arrays, n_classes: int | None, seed: int) -> Arrays:
    """A random subset of the asked size, in the order of the draw."""
    rng = _rng(seed, "subset")
    train = _rows("n_train", source.n_train, len(arrays.x_train), source.name, rng)
    if source.balanced:
        if n_classes is None:
            raise refuse("dataset.balanced", True, "false for regression targets")
        train = _balanced_rows(arrays.y_train, source.n_train, n_classes, rng)
    test = _rows("n_test", source.n_test, len(arrays.x_test), source.name, rng)
    return Arrays(
        arrays.x_train[train], arrays.y_train[train], arrays.x_test[test], arrays.y_test[test]
    )


def _rows(
    key: str, wanted: int | None, size: int, name: str, rng: np.random.Generator
) -> np.ndarray | slice:
    if wanted is not None and wanted > size:
        raise refuse(f"dataset.{key}", wanted, f"at most {size} for dataset={name}, or null")
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


def _targets(
    y: np.ndarray, n_classes: int | None, single_output: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Targets (n, c) and labels: one-hot {0, 1}, one {0, 1} output, or the regression targets."""
    if n_classes is None:
        return torch.from_numpy(y.reshape(len(y), -1)).to(dtype), None
    labels = torch.from_numpy(y.astype(np.int64))
    if single_output and n_classes == 2:
        return labels.to(dtype)[:, None], labels
    return torch.nn.functional.one_hot(labels, n_classes).to(dtype), labels
