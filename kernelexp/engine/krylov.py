"""Conjugate gradients and conjugate residuals for many right-hand sides, a step at a time.

What they carry is data of their caller: any object with the vectors named here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class ConjugateGradients(Protocol):
    """What conjugate gradients on A X = B carry from iteration to iteration.

    Attributes:
        solution: X, (n, c).
        residual: B - A X, (n, c), carried along, not computed anew.
        direction: (n, c); zeros before the first iteration.
        weight: r^T M^-1 r of the last iteration, (c,); zeros before the first.
    """

    solution: Tensor
    residual: Tensor
    direction: Tensor
    weight: Tensor


@dataclass
class Vectors:
    """``ConjugateGradients`` from X = 0, for B (n, c)."""

    solution: Tensor
    residual: Tensor
    direction: Tensor
    weight: Tensor

    @classmethod
    def of(cls, B: Tensor) -> Vectors:
        """At the start."""
        return cls(torch.zeros_like(B), B.clone(), torch.zeros_like(B), B.new_zeros(B.shape[1]))


def conjugate_gradient_step(
    v: ConjugateGradients,
    matmul: Callable[[Tensor], Tensor],
    precondition: Callable[[Tensor], Tensor],
) -> Tensor:
    """One iteration of preconditioned conjugate gradients, each of the c columns with its own step.

    Costs one product with A and one with the preconditioner. Columns that are solved stand still.

    Returns:
        The step (c,) taken along the new direction.
    """
    Z = precondition(v.residual)
    new = (v.residual * Z).sum(0)  # (c,)
    v.direction = Z.addcmul_(v.direction, _ratio(new, v.weight))
    v.weight = new
    AD = matmul(v.direction)
    step = _ratio(new, (v.direction * AD).sum(0))
    v.solution.addcmul_(v.direction, step)
    v.residual.addcmul_(AD, step, value=-1)
    return step


class ConjugateResiduals(Protocol):
    """What conjugate residuals on A X = B carry from iteration to iteration.

    Attributes:
        solution, residual, direction: as in ``ConjugateGradients``.
        preconditioned: Z = M^-1 (B - A X), (n, c).
        image: A Z, (n, c).
        direction_image: A times the direction, (n, c).
        weight: z^T A z, (c,).
    """

    solution: Tensor
    residual: Tensor
    preconditioned: Tensor
    image: Tensor
    direction: Tensor
    direction_image: Tensor
    weight: Tensor


def start_conjugate_residuals(
    v: ConjugateResiduals,
    matmul: Callable[[Tensor], Tensor],
    precondition: Callable[[Tensor], Tensor],
    B: Tensor,
) -> None:
    """Begin, or begin anew, from ``v.solution``; costs a product with A, or two where that is not 0."""
    X = v.solution
    v.residual = B - matmul(X) if X.any() else B.clone()
    v.preconditioned = precondition(v.residual)
    v.image = matmul(v.preconditioned)
    v.direction, v.direction_image = v.preconditioned.clone(), v.image.clone()
    v.weight = (v.preconditioned * v.image).sum(0)


def conjugate_residual_step(
    v: ConjugateResiduals,
    matmul: Callable[[Tensor], Tensor],
    precondition: Callable[[Tensor], Tensor],
) -> None:
    """One iteration of preconditioned conjugate residuals (Stiefel 1955), each column with its own step.

    Unlike conjugate gradients they lower |B - A X| at each step and take no notice of what of B is outside
    the range of A, so they go to a least-squares solution where A is singular. Cost and the standing still
    of solved columns are those of ``conjugate_gradient_step``.
    """
    MAD = precondition(v.direction_image)
    step = _ratio(v.weight, (v.direction_image * MAD).sum(0))
    v.solution.addcmul_(v.direction, step)
    v.residual.addcmul_(v.direction_image, step, value=-1)
    v.preconditioned.addcmul_(MAD, step, value=-1)
    v.image = matmul(v.preconditioned)
    new = (v.preconditioned * v.image).sum(0)
    ratio = _ratio(new, v.weight)
    v.direction.mul_(ratio).add_(v.preconditioned)
    v.direction_image.mul_(ratio).add_(v.image)
    v.weight = new


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Quotient a / b, 0 where b is not above 0: a column without a residual takes no step."""
    return torch.where(b > 0, a / b, torch.zeros_like(a))
