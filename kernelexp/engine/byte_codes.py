"""Points whose coordinates are bytes times one unit, and their products, which are exact.

Bytes less 128 have products of at most 2^14, so that sums of up to 1,023 of them are integers that float32
has: a float32 product of so many coordinates rounds nothing, in whatever order it adds, and neither does one
of bfloat16 numbers with float32 sums. Processors with int8 dot products have a faster one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# Units in which coordinates are tried to be bytes: image files, scikit-learn's digits, raw bytes.
_UNITS = (1 / 255, 1 / 16, 1.0)
# What is taken from a byte, so that it fits into int8.
_SHIFT = 128
# Beyond this many coordinates a squared distance of bytes can exceed int32.
_MOST_COORDINATES = (2**31 - 1) // 255**2
# Coordinates are padded to a multiple of this: integer kernels read four at a time, and PyTorch's
# product of one column is wrong.
_PADDING = 4
# Coordinates whose products float32 adds exactly, at most 1,023; this many keep rows aligned.
_EXACT_COORDINATES = 1008
# Points with which that is tried on a GPU: as many as a tile of a product has.
_TRIED = 256
# Rows looked at together: they stay in cache.
_ROWS = 256


@dataclass(frozen=True)
class ByteCodes:
    """Points x = unit * (codes + 128).

    Attributes:
        codes: (n, d), padded with zeros, int8.
        squares: |codes_i|^2, (n,) int32.
        sums: sum of codes_i, (n,) int32.
        unit: of the coordinates.
        d: coordinates before padding.
    """

    codes: Tensor
    squares: Tensor
    sums: Tensor
    unit: float
    d: int

    @classmethod
    def of(cls, X: Tensor) -> ByteCodes | None:
        """The codes of X (n, d), or None where its coordinates are not bytes up to rounding."""
        n, d = X.shape
        if not n or not 0 < d <= _MOST_COORDINATES:
            return None
        if n > _ROWS and cls.of(X[:_ROWS]) is None:
            return None  # without a pass over all of them
        low, high = (float(bound) for bound in X.aminmax())
        if not 0 <= low <= high < torch.inf:
            return None
        for guess in _UNITS:
            level = round(high / guess)
            # The unit as the data have it: 1 / 255 was rounded before it was multiplied with.
            unit = high / level if level else guess
            made = cls._in_units(X, unit) if level <= 255 else None
            if made is not None:
                return made
        return None

    @classmethod
    def _in_units(cls, X: Tensor, unit: float) -> ByteCodes | None:
        """The codes where each coordinate is a multiple of ``unit``, up to rounding of X's type."""
        n, d = X.shape
        tolerance = 4 * torch.finfo(X.dtype).eps
        codes = torch.zeros(n, -(-d // _PADDING) * _PADDING, dtype=torch.int8, device=X.device)
        squares, sums = torch.zeros(2, n, dtype=torch.int32, device=X.device)
        for start in range(0, n, _ROWS):
            rows = slice(start, start + _ROWS)
            multiples = X[rows] * (1 / unit)
            levels = multiples.round()
            if not bool((multiples.sub_(levels).abs_() <= tolerance * levels).all()):
                return None
            levels.sub_(_SHIFT)
            codes[rows, :d] = levels
            sums[rows] = levels.sum(1).to(torch.int32)  # exact: below 2^24 in float32
            squares[rows] = levels.square_().sum(1, dtype=torch.float64).to(torch.int32)
        return cls(codes, squares, sums, unit, d)

    def __getitem__(self, rows: slice | Tensor) -> ByteCodes:
        return replace(
            self, codes=self.codes[rows], squares=self.squares[rows], sums=self.sums[rows]
        )

    def fits(self, other: ByteCodes, eps: float) -> bool:
        """Whether products with ``other`` are products of integers, units the same up to rounding."""
        # The unit is read off the largest coordinate, which a part of the data may not contain.
        return self.d == other.d and abs(self.unit / other.unit - 1) < 8 * eps

    def inner_products(self, other: ByteCodes) -> Tensor:
        """(x / unit) . (z / unit), exact: (n, m) int32."""
        G = _products(self.codes, other.codes)
        G.add_((self.sums * _SHIFT + self.d * _SHIFT**2)[:, None])
        return G.add_(other.sums * _SHIFT)

    def squared_distances(self, other: ByteCodes) -> Tensor:
        """|x - z|^2 / unit^2, exact: (n, m) int32."""
        G = _products(self.codes, other.codes)
        return torch.sub(other.squares, G, alpha=2, out=G).add_(self.squares[:, None])


def has_int8_products(device: torch.device) -> bool:
    """Whether it is a processor with int8 dot products (VNNI), and they are what is used.

    Without them PyTorch has a plain loop, hundreds of times slower. Asked of the processor, not timed: a
    busy machine must not change the digits of a run.
    """
    return device.type == "cpu" and torch.cpu._is_vnni_supported() and _int8_is_exact()


@functools.cache
def _int8_is_exact() -> bool:
    """Whether they are those of integers: under ``ONEDNN_MAX_CPU_ISA=AVX2`` they are cut off at 16 bits."""
    tried = _extremes()
    codes = tried.to(torch.int8)
    return bool((torch._int_mm(codes, codes.T) == tried @ tried.T).all())


@functools.cache
def adds_bytes_exactly(device: torch.device) -> bool:
    """Whether a GPU adds products of bytes as bfloat16 exactly: tried once, with the largest and all others."""
    tried = _extremes()
    there = tried.to(device, torch.int8)
    return bool((_products(there, there).cpu() == tried @ tried.T).all())


def _extremes() -> Tensor:
    """Codes to try products with: (m, d), int64."""
    codes = torch.arange(-_SHIFT, _SHIFT).repeat(4)[:_EXACT_COORDINATES]
    rows = [torch.full_like(codes, -_SHIFT), codes, codes.flip(0), codes % 2 - _SHIFT]
    return torch.stack(rows * (_TRIED // len(rows)))


def _products(x: Tensor, z: Tensor) -> Tensor:
    """The inner products of codes: (n, d), (m, d) int8 -> (n, m) int32."""
    if has_int8_products(x.device):
        return torch._int_mm(x, z.T)
    cut_x, cut_z = (torch.split(codes, _EXACT_COORDINATES, dim=1) for codes in (x, z))
    G = _exact_products(cut_x[0], cut_z[0]).to(torch.int32)
    for a, b in zip(cut_x[1:], cut_z[1:], strict=True):
        G.add_(_exact_products(a, b).to(torch.int32))
    return G


def _exact_products(x: Tensor, z: Tensor) -> Tensor:
    """Of few coordinates, integers in float32."""
    if x.device.type == "cuda":
        return torch.mm(x.bfloat16(), z.bfloat16().T, out_dtype=torch.float32)
    return x.float() @ z.float().T
