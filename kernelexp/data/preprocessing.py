"""From arrays as they come to the rows the kernel sees, the same for training and serving."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kernelexp.data.base import SCALES
from kernelexp.engine.checks import one_of

_LUMINANCE = (0.299, 0.587, 0.114)
# Numbers scaled together; bytes of an array that are looked at together.
_PART, _LARGE = 1 << 20, 1 << 28
# Numbers that differ by so little of their size are one number, computed in several ways.
_ROUNDING = 8 * np.finfo(np.float64).eps


@dataclass(frozen=True)
class Preprocessing:
    """x -> (flattened x - shift) * factor, then |x| = 1 if ``unit_norm``; fitted on training data.

    Attributes:
        shape: of one input.
        dtype: of inputs, by its NumPy name.
        grayscale: whether colours, the last axis, become their luminance first.
        shift: (1,) or (d,).
        factor: (1,) or (d,).
        unit_norm: whether rows are scaled to norm 1; rows of zeros stay.
    """

    shape: tuple[int, ...]
    dtype: str
    grayscale: bool
    shift: Tensor
    factor: Tensor
    unit_norm: bool

    @classmethod
    def fit(cls, x: np.ndarray, scale: str, grayscale: bool = False) -> Preprocessing:
        """Find shift and factor from training inputs x (n, ...).

        Raises:
            ValueError: for an unknown scale, colours that are not there, or constant inputs.
        """
        one_of("dataset.scale", scale, SCALES)
        if grayscale and (x.ndim != 4 or x.shape[-1] != 3):
            raise ValueError(
                f"dataset.grayscale=True: x_train of shape {x.shape} has no three colours last"
            )
        shift, factor = torch.zeros(1), torch.ones(1)
        if scale == "unit" and x.dtype == np.uint8:
            factor = torch.tensor([1 / 255])
        elif scale == "unit":
            low, high = float(x.min()), float(x.max())
            if low == high:
                raise ValueError(
                    f"x_train: all numbers are {low:g}; there is nothing to learn from"
                )
            # In float64: a column of time stamps has no digits to lose.
            shift, factor = torch.tensor([[low], [1 / (high - low)]], dtype=torch.float64)
        elif scale == "standard":
            shift, factor = _standard(_gray(x) if grayscale else x)
        return cls(x.shape[1:], x.dtype.name, grayscale, shift, factor, scale == "unit_norm")

    def __call__(self, x: np.ndarray, dtype: torch.dtype) -> Tensor:
        """X (m, ...) of the training shape, or already flat, -> (m, d); x itself where nothing changes."""
        x = np.ascontiguousarray(x).reshape(len(x), *self.shape)
        if self.grayscale:
            x = _gray(x)
        with warnings.catch_warnings():
            # PyTorch warns of arrays that must not be written. Nobody writes to training points.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            X = torch.from_numpy(x).reshape(len(x), -1)
        if not self.shift.any() and (self.factor == 1).all() and not self.unit_norm:
            return X.to(dtype)  # not read, where it is a mapped file of this type
        out = torch.empty(X.shape, dtype=dtype)
        rows = max(1, _PART // X.shape[1])
        for start in range(0, len(X), rows):
            # Shifted before it is rounded, and squared where float32 would overflow.
            part = X[start : start + rows].to(torch.float64, copy=True)
            part.sub_(self.shift).mul_(self.factor)
            if self.unit_norm:
                norms = part.norm(dim=1, keepdim=True)
                part /= torch.where(norms > 0, norms, 1)
            out[start : start + rows] = part
        return out


def _gray(x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(_LUMINANCE, dtype=np.float32)


def _standard(x: np.ndarray) -> tuple[Tensor, Tensor]:
    """Shift and factor to mean 0, variance 1: per column of tables, per channel of images.

    A constant column becomes 0, and another number in new rows its difference. It is known by its ends: the mean of
    1,000 times 37.2 is not 37.2, so that their variance is not 0 but what rounding has left, by which nothing is to be
    divided.
    """
    axes = (0,) if x.ndim == 2 else tuple(range(max(3, x.ndim - 1)))
    low, high = (np.asarray(end(axis=axes), np.float64) for end in (x.min, x.max))
    constant = high - low <= _ROUNDING * np.maximum(abs(low), abs(high))
    mean = np.where(constant, low, x.mean(axes, dtype=np.float64))
    std = _spread(x, axes, mean)
    std = np.where(constant | (std == 0), 1.0, std)  # 0 also where squares underflow
    repeats = int(np.prod(x.shape[1:])) // mean.size
    return tuple(torch.from_numpy(np.tile(np.atleast_1d(a), repeats)) for a in (mean, 1 / std))  # type: ignore[return-value]


def _spread(x: np.ndarray, axes: tuple[int, ...], mean: np.ndarray) -> np.ndarray:
    """The standard deviation over axes; of a large array by parts, since NumPy makes another of its size."""
    rows = max(1, _LARGE // x[:1].nbytes)
    if len(x) <= rows:
        spread: np.ndarray = x.std(axes, dtype=np.float64)
        return spread
    squares = np.zeros_like(mean)
    for start in range(0, len(x), rows):
        squares += np.square(x[start : start + rows] - mean).sum(axes)
    by_parts: np.ndarray = np.sqrt(squares * (mean.size / x.size))
    return by_parts
