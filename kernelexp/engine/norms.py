"""The RKHS norm of a kernel machine, how it was got, and how wrong it can be.

||f||^2 = tr(alpha^T K(Z, Z) alpha) = sum_jc alpha_jc f_c(z_j): whoever has f(Z) has the norm for 2 p c
operations. It is the norm of the vector-valued function whose outputs are independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kernelexp.engine.products import kernel_matmul, kernel_matrix

if TYPE_CHECKING:
    from kernelexp.engine.model import KernelModel

# Rows of f(Z) computed again in float64 to see how far the given ones are off.
_CHECKED_ROWS = 256
# Up to here K(Z, Z) is simply computed and stored in float64: 34 MB.
DENSE_CENTERS = 2048


@dataclass(frozen=True)
class RKHSNorm:
    """A norm and its provenance.

    Attributes:
        per_output: ||f_c|| of each output, (c,), float64.
        how: ``by-product`` (f(Z) was at hand), ``dense`` (K(Z, Z) stored, float64) or ``blocked``
            (f(Z) computed tile by tile in the model's precision).
        relative_error: bound on the relative error of ``value``, see ``norm_from_outputs``.
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


def rkhs_norm(model: KernelModel) -> RKHSNorm:
    """The norm of a model by itself: dense up to 2,048 centers, blocked beyond, p^2 d operations."""
    Z, alpha = model.centers, model.weights
    if len(Z) > DENSE_CENTERS:
        return norm_from_outputs(model, kernel_matmul(model.kernel, Z, Z, alpha), "blocked")
    Z, alpha = Z.to(alpha.device, torch.float64), alpha.double()
    return norm_from_outputs(model, kernel_matrix(model.kernel, Z, Z) @ alpha, "dense")


def norm_from_outputs(model: KernelModel, outputs: Tensor, how: str = "by-product") -> RKHSNorm:
    """The norm from f(Z) (p, c), and a bound on its error.

    With e = F - K(Z, Z) alpha the error of ||f||^2 is tr(alpha^T e), at most |alpha| |e| (Frobenius
    norms, Cauchy-Schwarz). |e| is measured: up to 256 rows of K(Z, Z) alpha, evenly spread, are
    computed in float64 and their part scaled to all p. What float64 itself can be off,
    eps p |alpha| max k(z, z), is added.
    """
    Z, alpha = model.centers, model.weights.double()
    p = len(Z)
    squares = (alpha * outputs.double()).sum(0).clamp_(min=0)  # (c,)
    rows = torch.arange(0, p, max(1, p // _CHECKED_ROWS), device=Z.device)[:_CHECKED_ROWS]
    exact = kernel_matmul(model.kernel, Z[rows].double(), Z, alpha)
    off = (outputs[rows] - exact).square_().sum().mul_(p / len(rows)).sqrt_()
    size = alpha.norm()
    rounding = torch.finfo(torch.float64).eps * p * size * model.kernel.diag(Z).max()
    total = squares.sum()
    bound = (size * (off + rounding) / (2 * total)).item() if total > 0 else 0.0
    return RKHSNorm(squares.sqrt_(), how, bound)
