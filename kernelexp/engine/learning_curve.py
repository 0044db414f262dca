"""What error a kernel ridge regression will have on new points, from the kernel's eigenvalues and the target's coefficients.

With eigenvalues l_i and coefficients v_i of the target in the kernel's eigenfunctions, n points, K + n ridge I and noise of variance s^2:

    sum_i l_i / (l_i + kappa) + n ridge / kappa = n
    E0 = n / (n - sum_i (l_i / (l_i + kappa))^2)
    mse = E0 (sum_i (kappa / (l_i + kappa))^2 v_i^2 + s^2) - s^2         (Simon, Dickens, Karkada, DeWeese 2023)

an estimate for eigenfunctions that behave as if they were independent Gaussian variables. Theirs counts the noise of the test targets too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernelexp.engine.checks import number, refuse
from kernelexp.engine.kernels import Kernel

# Halvings of an interval of log kappa: enough for its last digit.
_HALVINGS = 200


def eigenframe(kernel: Kernel, X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (N,) of K / N and coefficients (N, c) of targets Y (N, c), estimated from N points X (N, d), in float64.

    Those of the integral operator where N is large beside the points that are learned from: N^3 operations. What is
    rounding of the largest eigenvalue is 0.
    """
    X, Y = X.double(), Y.double()
    values, vectors = torch.linalg.eigh(kernel(X, X))
    rounding = len(X) * torch.finfo(values.dtype).eps * values[-1]
    values = torch.where(values > rounding, values, 0)
    return values / len(X), vectors.mT @ Y / math.sqrt(len(X))


def predicted_mse(
    eigenvalues: Tensor,
    coefficients: Tensor,
    n: int,
    ridge: float = 0.0,
    noise: float = 0.0,
    sample: int | None = None,
) -> float:
    """The mean square error on new points without noise, over outputs, after training on n points.

    Args:
        eigenvalues: l (N,), none negative.
        coefficients: v (N, c).
        n: training points.
        ridge: in the units of a mean loss.
        noise: variance of the noise of each training target.
        sample: N, where both were estimated from N > n points. Of such a population the formula has the mean error over all points, and so over
            the n that are trained on, where it is (ridge / kappa)^2 times as large (Simon et al.); this takes them out.

    Raises:
        ValueError: where as many points as eigenvalues above 0, or more, are interpolated, and for n >= N: nothing would be left to predict.
    """
    number("n", n, 1, whole=True)
    number("ridge", ridge, 0)
    number("noise", noise, 0)
    rank = int((eigenvalues > 0).sum())
    if n >= rank and ridge == 0:
        raise refuse(
            "n", n, f"below the number of eigenvalues that are not 0, {rank}, without a ridge"
        )
    if sample is not None and n >= sample:
        raise refuse("n", n, f"below the {sample} points that the eigenvalues were estimated from")
    kappa = _kappa(eigenvalues, n, ridge)
    learned = eigenvalues / (eigenvalues + kappa)
    left = ((1 - learned).square()[:, None] * coefficients.square()).sum(0).mean().item()
    mse = n / (n - learned.square().sum().item()) * (left + noise) - noise
    if sample is None:
        return mse
    # On the points that were learned f is off by ridge / kappa of what it is off elsewhere, and by what it took of
    # their noise.
    kept = ridge / kappa
    trained = kept**2 * mse + (1 - kept) ** 2 * noise
    return (sample * mse - n * trained) / (sample - n)


def _kappa(eigenvalues: Tensor, n: int, ridge: float) -> float:
    """By bisection: the left side falls with kappa, and is at most (trace + n ridge) / kappa."""
    high = math.log((eigenvalues.sum().item() + n * ridge) / n)
    low = math.log(torch.finfo(torch.float64).tiny)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        kappa = math.exp(middle)
        counted = (eigenvalues / (eigenvalues + kappa)).sum().item() + n * ridge / kappa
        low, high = (middle, high) if counted > n else (low, middle)
    return math.exp(high)
