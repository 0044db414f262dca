"""Points, and the products of them that every kernel is made of, in the precision asked for.

Most data here are images, whose coordinates are bytes times one unit (1 / 255). Their inner products
are integers (``byte_codes``), so distances of close points do not cancel; and they take a processor with
int8 dot products (VNNI, AMX) a fraction of the time of a float32 product, any other processor half the
time of a float64 one, a GPU that of a bfloat16 one. ``precision=auto`` takes that road wherever it is faster;
nothing is lost on it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kernelexp.engine import memory
from kernelexp.engine.byte_codes import ByteCodes, adds_bytes_exactly, has_int8_products
from kernelexp.engine.checks import refuse

# auto: exact where coordinates are bytes, else ieee. ieee: the arithmetic of the data's own type.
# tf32: 10 bits of mantissa, CUDA. bf16: 8 bits. bf16x3: 16 bits, three products of the 8-bit parts.
PRECISIONS = ("auto", "ieee", "tf32", "bf16x3", "bf16")
# Points are far from the origin where they are this many times as far from it as from their median, by
# this many of them. Less costs half a digit; images, which are not to pay, are at 1 to 2.
_FAR_RATIO, _PROBED_POINTS = 3.0, 16
_EPS = {"tf32": 2**-11, "bf16x3": 2**-16, "bf16": 2**-8}


@dataclass(frozen=True)
class Points:
    """Points as kernels see them.

    Attributes:
        values: (n, d).
        precision: of inner products of ``values``, one of ``PRECISIONS`` but auto.
        codes: where coordinates are bytes; used in place of ``values`` where both sides have them.
        known_norms: |x_i| (n,), where they were computed before.
    """

    values: Tensor
    precision: str = "ieee"
    codes: ByteCodes | None = None
    known_norms: Tensor | None = None

    @classmethod
    def of(cls, X: Tensor, precision: str = "auto", device: torch.device | None = None) -> Points:
        """X (n, d) with its norms and what ``precision`` needs; one to three passes over it.

        ``device``: where products are formed, if not where X is; tiles of X are then copied there.
        """
        device = device or X.device
        norms = row_norms(X).to(device)
        if device.type == "cuda" and not X.is_cuda:
            X = _pinned(X)
        if precision == "auto":
            known = ByteCodes.of(X) if bytes_are_fast(X, device) else None
            return cls(X, "ieee", known, norms)
        return cls(X, precision, None, norms)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | Tensor) -> Points:
        """Some of the points; those picked one by one are copied to ``device``."""
        if isinstance(rows, slice):
            values = self.values[rows]
        else:
            values = self.values[memory.sent(rows, self.values.device)].to(self.device)
            rows = memory.sent(rows, self.device)
        norms = None if self.known_norms is None else self.known_norms[rows]
        return Points(values, self.precision, self.codes and self.codes[rows], norms)

    @property
    def device(self) -> torch.device:
        """Where products are formed: that of the norms, also where ``values`` stay on the host."""
        return self.values.device if self.known_norms is None else self.known_norms.device

    @cached_property
    def common_origin(self) -> Tensor | None:
        """A vector (d,) amid the points where these are far from the origin for their spread, else None."""
        X = self.values
        if not X.numel():
            return None
        probed = X[:: -(-len(X) // _PROBED_POINTS)]
        origin = probed.median(0).values  # the mean would follow an outlier
        # A GPU's host would wait for the answer, and moving costs nothing there.
        if not X.is_cuda and not _middle(probed) > _FAR_RATIO * _middle(probed - origin):
            return None
        return origin

    @property
    def norms(self) -> Tensor:
        """|x_i|, (n,)."""
        if self.known_norms is not None:
            return self.known_norms
        return row_norms(self.values)

    @property
    def arithmetic(self) -> str:
        """How inner products are formed: ``bytes``, exact, or ``precision``."""
        return "bytes" if self.codes else self.precision

    @property
    def eps(self) -> float:
        """Relative rounding error of an inner product."""
        own: float = torch.finfo(self.values.dtype).eps
        return _EPS.get(self.precision, own)

    def to(self, dtype: torch.dtype, device: torch.device) -> Points:
        """The same points in another type and place; bytes stay as exact as they are.

        Who asks for float64 wants its digits: inner products of less precision end there.
        """
        values = self.values.to(device, dtype, non_blocking=True)  # where they are pinned
        if values is self.values:
            return self
        same = dtype == self.values.dtype and device == self.device
        return replace(
            self,
            values=values,
            precision="ieee" if dtype == torch.float64 else self.precision,
            known_norms=self.known_norms if same else None,
        )

    def inner_products(self, other: Points) -> Tensor:
        """x_i . z_j: (n, m), in the type of ``values``."""
        exact = self._exact(ByteCodes.inner_products, other)
        return exact if exact is not None else _PRODUCTS[self.precision](self.values, other.values)

    def is_exact_with(self, other: Points) -> bool:
        """Whether inner products with ``other`` are those of integers."""
        x, z = self.codes, other.codes
        eps: float = torch.finfo(self.values.dtype).eps
        return x is not None and z is not None and x.fits(z, eps)

    def exact_squared_distances(self, other: Points) -> Tensor | None:
        """|x_i - z_j|^2 without cancellation where both are bytes of one unit: (n, m), or None."""
        return self._exact(ByteCodes.squared_distances, other)

    def _exact(
        self, product: Callable[[ByteCodes, ByteCodes], Tensor], other: Points
    ) -> Tensor | None:
        x, z = self.codes, other.codes
        if x is None or z is None or not self.is_exact_with(other):
            return None
        return product(x, z).to(self.values.dtype).mul_(x.unit * z.unit)


def check_range(name: str, values: Tensor, largest: float, terms: int) -> None:
    """Refuse values that have NaN, or whose squares (the largest's among them) overflow in sums of so many.

    Raises:
        ValueError: one line with the values' name and their range.
    """
    bound = math.sqrt(torch.finfo(values.dtype).max / (4 * terms))
    if not largest <= bound:
        low, high = (float(end) for end in values.aminmax())
        found = "NaN" if math.isnan(low) else f"numbers from {low:.3g} to {high:.3g}"
        raise ValueError(
            f"{name} has {found}: must be finite, and small enough that sums of squares do not overflow in "
            f"{values.dtype} (norms up to {bound:.0e}); remove or rescale what is not"
        )


def row_norms(X: Tensor) -> Tensor:
    """|x_i| without a copy of X squared: (n, d) -> (n,)."""
    norms: Tensor = torch.linalg.vector_norm(X, dim=1)
    return norms


def _middle(X: Tensor) -> Tensor:
    """The median of |x_i|: X (n, d) -> ()."""
    return torch.median(torch.linalg.vector_norm(X, dim=1))


def _pinned(X: Tensor) -> Tensor:
    """X where a GPU copies from by itself, a second time in memory; as it is if that is not there."""
    takes = 1 << (X.nbytes - 1).bit_length()  # PyTorch keeps such memory in powers of two
    fits = takes <= memory.available_bytes(X.device) // 2
    return X.pin_memory() if fits and not X.is_pinned() else X


def as_points(X: Tensor | Points) -> Points:
    """Points as they are, a tensor in its own arithmetic."""
    return X if isinstance(X, Points) else Points(X)


def check_precision(precision: str, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse a precision that is unknown, below a float64 run's, or not there on the device."""
    if precision not in PRECISIONS:
        raise refuse("precision", precision, "one of " + ", ".join(PRECISIONS))
    if precision in ("auto", "ieee"):
        return
    if dtype == torch.float64:
        raise refuse("precision", precision, "auto or ieee with dtype=float64")
    if precision == "tf32" and device.type != "cuda":
        raise refuse("precision", precision, "auto, ieee, bf16x3 or bf16 on a CPU")


def bytes_are_fast(X: Tensor, device: torch.device) -> bool:
    """Whether products on ``device`` of X, where it consists of bytes, are faster as those of integers."""
    if device.type == "cuda":
        return X.is_cuda and adds_bytes_exactly(device)
    return has_int8_products(device) or X.dtype == torch.float64


@contextlib.contextmanager
def fp32_products(precision: str, device: torch.device) -> Iterator[None]:
    """Products of float32 matrices in ``ieee`` or ``tf32``, whatever the process has set."""
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    settings: Any = backend.matmul
    before = settings.fp32_precision
    if device.type != "cuda" and before in ("none", precision):  # as it nearly always is
        yield
        return
    settings.fp32_precision = precision
    try:
        yield
    finally:
        settings.fp32_precision = before


def _ieee(X: Tensor, Z: Tensor) -> Tensor:
    with fp32_products("ieee", X.device):
        return X @ Z.T


def _tf32(X: Tensor, Z: Tensor) -> Tensor:
    with fp32_products("tf32", X.device):
        return X @ Z.T


def _bf16(X: Tensor, Z: Tensor) -> Tensor:
    """The product of X and Z rounded to bfloat16, with float32 sums."""
    if X.device.type == "cuda":
        return torch.mm(X.bfloat16(), Z.bfloat16().T, out_dtype=torch.float32)
    X, Z = X.bfloat16().to(X.dtype), Z.bfloat16().to(Z.dtype)
    # Products of bfloat16 numbers on a CPU come back as bfloat16; asked this way they stay float32.
    settings: Any = torch.backends.mkldnn
    before = settings.matmul.fp32_precision
    settings.matmul.fp32_precision = "bf16"
    try:
        return X @ Z.T
    finally:
        settings.matmul.fp32_precision = before


def _bf16x3(X: Tensor, Z: Tensor) -> Tensor:
    """X = X1 + X2 with bfloat16 parts; what is left out is X2 Z2 and what both parts round off."""
    X1, Z1 = X.bfloat16().to(X.dtype), Z.bfloat16().to(Z.dtype)
    X2, Z2 = X - X1, Z - Z1
    if X.device.type == "cuda":  # one product of three times the coordinates
        return _bf16(torch.cat([X2, X1, X1], 1), torch.cat([Z1, Z2, Z1], 1))
    return _bf16(X2, Z1).add_(_bf16(X1, Z2)).add_(_bf16(X1, Z1))


_PRODUCTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ieee": _ieee,
    "tf32": _tf32,
    "bf16x3": _bf16x3,
    "bf16": _bf16,
}
