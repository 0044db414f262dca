"""The RKHS norm of a kernel machine, how it was got, and how far off it is.

||f||^2 = tr(alpha^T K(Z, Z) alpha) = sum_jc alpha_jc f_c(z_j): whoever has f(Z) has the norm for 2 p c
operations. It is the norm of the vector-valued function whose outputs are independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernelexp.engine.operator import BlockedKernel

# Rows of f(Z) computed again in float64 to see how far the given ones are off, and their seed.
_CHECKED_ROWS, _SEED = 512, 0
# Up to here K(Z, Z) is simply computed and stored in float64: 34 MB.
DENSE_CENTERS = 2048


@dataclass(frozen=True)
class RKHSNorm:
    """A norm and its provenance.

    Attributes:
        per_output: ||f_c|| of each output, (c,), float64.
        how: ``dense`` (K(Z, Z) stored, float64), ``by-product`` (f(Z) was at hand) or ``blocked``
            (f(Z) computed tile by tile in the model's precision).
        relative_error: of ``value``. Dense: a bound, what float64 can be off. Else an estimate, see
            ``rkhs_norm``. inf where nothing is known of it.
        lower_bound: whether this is the norm of a solution that a solver left unfinished: that of the
            interpolating function is larger, in ill-conditioned systems by much.
    """

    per_output: Tensor
    how: str
    relative_error: float
    lower_bound: bool = False

    @property
    def value(self) -> float:
        """||f||."""
        return self.per_output.square().sum().sqrt().item()


def rkhs_norm(
    kernel: BlockedKernel, Z: Tensor, alpha: Tensor, outputs: Tensor | None = None
) -> RKHSNorm:
    """The norm of f = sum_j alpha_j k(., z_j): Z (p, d), alpha (p, c), f(Z) as ``outputs`` (p, c) if at hand.

    Up to 2,048 centers it is dense all the same; beyond, f(Z) that is not given takes p^2 d operations.
    """
    if len(Z) <= DENSE_CENTERS:
        return _dense(kernel, Z, alpha)
    if outputs is None:
        return _from_outputs(kernel, Z, alpha, kernel(Z, Z).matmul(alpha), "blocked")
    return _from_outputs(kernel, Z, alpha, outputs, "by-product")


def _dense(kernel: BlockedKernel, Z: Tensor, alpha: Tensor) -> RKHSNorm:
    rounding = _rounding(kernel, Z, alpha)
    Z, alpha = Z.to(alpha.device, torch.float64), alpha.double()
    squares = (alpha * (kernel(Z, Z).dense() @ alpha)).sum(0)
    return RKHSNorm(squares.clamp(min=0).sqrt_(), "dense", _relative(rounding, squares.sum()))


def _from_outputs(
    kernel: BlockedKernel, Z: Tensor, alpha: Tensor, outputs: Tensor, how: str
) -> RKHSNorm:
    """The norm from f(Z), and an estimate of its error.

    With e = F - K(Z, Z) alpha the error of ||f||^2 is tr(alpha^T e), at most |alpha| |e| (Frobenius
    norms, Cauchy-Schwarz). |e| is estimated: 512 rows of K(Z, Z) alpha, drawn from all p with a fixed
    seed, are computed in float64 and their part scaled to all p. A few rows much worse than the rest may
    be missed, so this is no bound. What float64 itself can be off, eps p |alpha| max k(z, z), is added.
    """
    alpha, p = alpha.double(), len(Z)
    squares = (alpha * outputs.double()).sum(0)  # (c,)
    drawn = torch.randperm(p, generator=torch.Generator().manual_seed(_SEED))[:_CHECKED_ROWS]
    rows = drawn.to(Z.device)
    exact = kernel(Z[rows].double(), Z).matmul(alpha)
    off = (outputs[drawn.to(outputs.device)] - exact).square_().sum().mul_(p / len(rows)).sqrt_()
    error = _relative(alpha.norm() * off + _rounding(kernel, Z, alpha), squares.sum())
    return RKHSNorm(squares.clamp_(min=0).sqrt_(), how, error)


def _rounding(kernel: BlockedKernel, Z: Tensor, alpha: Tensor) -> Tensor:
    """What float64 can be off in tr(alpha^T K alpha)."""
    alpha = alpha.double()
    largest = kernel.diag(Z).max().to(alpha)
    return torch.finfo(torch.float64).eps * len(alpha) * alpha.square().sum() * largest


def _relative(error: Tensor, total: Tensor) -> float:
    """Of the norm, whose square is ``total`` give or take ``error``."""
    if error == 0:
        return 0.0  # all weights are
    return (error / (2 * total)).item() if total > 0 else math.inf
