"""From a spectrum to q, m*, the batch and the step: pure functions, no data and no device.

Notation: k has eigenvalues lambda_1 >= lambda_2 ... (of K / n) and beta = max k(x, x); the adapted
kernel of EigenPro 2 (Ma, Belkin 2019, section 4) is
    k_G(x, z) = k(x, z) - sum_{i <= q} (lambda_i - lambda_{q+1}) e_i(x) e_i(z),
whose top eigenvalue is lambda_{q+1}. (The paper flattens the first q to lambda_q; flattening them to
the next one wastes no pair.)
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from kernelexp.engine.spectrum import Spectrum

# The batch where none is asked for, of m*(k), m*(k_G), n and m_max.
BatchRule: TypeAlias = Callable[[float, float, int, int], int]

# A Nystrom subsample of s points says little about critical batch sizes close to s: the measured
# beta(k_G) leaves its in-sample estimate there.
RESOLVED = 0.8
# batch = m* / BATCH_DIVISOR: see `default_batch_size`.
BATCH_DIVISOR = 8
_DIVISORS = (8, 16, 32)
# What takes time, in multiplications of a matrix product (measured once, ``docs/theory.md``): an entry of K
# that is read from memory, and the calls of a batch.
KEPT_ENTRY, BATCH = 40, 8e6


def critical_batch_size(beta: float, top_eigenvalue: float) -> float:
    """m* = beta / lambda_1, the batch beyond which SGD gains nothing more; Ma, Belkin 2017."""
    return beta / top_eigenvalue


def adapted_betas(spectrum: Spectrum) -> Tensor:
    """beta(k_G) on the subsample for every q = 0 ... k-1: (k,), with e_i(x_j) = sqrt(s) V_ji."""
    squares = spectrum.vectors.square()  # (s, k)
    mass = squares.cumsum(1) - squares  # sum over i <= q of V_ji^2
    energy = (squares * spectrum.values).cumsum(1) - squares * spectrum.values
    removed = spectrum.size * (energy - mass * spectrum.values)
    return (spectrum.diagonal[:, None] - removed).amax(0)


def choose_q(spectrum: Spectrum, max_batch_size: int, ridge: float = 0.0, n: int = 0) -> int:
    """The largest q with m*(k_G) <= m_max; Ma, Belkin 2019, eq. 7.

    m_max is cut to ``RESOLVED`` x s, and eigenvalues that rounding has made meaningless are left
    out, so that a kernel of finite rank gets no more than its rank. With a ridge and n points m* is that of
    k + n ridge delta (``preconditioner``), of which the subsample's part stays resolved.
    """
    reliable = _reliable(spectrum)
    betas, values = adapted_betas(spectrum), spectrum.values.clamp(min=reliable)
    resolved = betas / values <= RESOLVED * spectrum.size
    within = (betas + n * ridge) / (values + ridge) <= max_batch_size
    allowed = resolved & within & (spectrum.values > reliable)
    return int(allowed.nonzero().max()) if allowed.any() else 0


def most_q(spectrum: Spectrum) -> int:
    """The most directions that can be deflated: sigma_{q+1} must be more than rounding."""
    return max(0, int((spectrum.values > _reliable(spectrum)).sum()) - 1)


def _reliable(spectrum: Spectrum) -> Tensor:
    """What an eigenvalue must exceed to be more than rounding."""
    return 100 * torch.finfo(spectrum.values.dtype).eps * spectrum.values[0]


def critical(m_star: float, m_star_adapted: float, n: int, m_max: int) -> int:
    """m*(k), a ``BatchRule``."""
    return round(m_star)


def fixed(m: int) -> BatchRule:
    """The same m whatever the spectrum."""
    return lambda m_star, m_star_adapted, n, m_max: m


def critical_adapted(m_star: float, m_star_adapted: float, n: int, m_max: int) -> int:
    """m*(k_G), at least 1 and at most n and m_max; a ``BatchRule``."""
    return max(1, int(min(m_star_adapted, n, m_max)))  # m* may be infinite


def eighth_of_adapted(m_star: float, m_star_adapted: float, n: int, m_max: int) -> int:
    """``default_batch_size`` of m*(k_G), a ``BatchRule``."""
    return default_batch_size(m_star_adapted, n, m_max)


def least_time_of_adapted(m_star: float, m_star_adapted: float, n: int, m_max: int) -> int:
    """A batch of m*(k_G) by 8, 16 or 32, whichever takes an epoch's progress the least time; a ``BatchRule``.

    A batch of m* / D loses a share of 1 / (D + 1) of the progress of a sample (``default_batch_size``), and an
    epoch has n D / m* batches of some calls each, which count where n is small. Costs are in multiplications
    of a matrix product, as in ``solvers.subsample``.
    """

    def cost(divisor: int) -> float:
        return (KEPT_ENTRY * n * n + BATCH * n * divisor / m_star_adapted) * (1 + 1 / divisor)

    return max(1, int(min(m_star_adapted / min(_DIVISORS, key=cost), n, m_max)))


def default_batch_size(m_star: float, n: int, max_batch_size: int) -> int:
    """m* / 8, at least 1 and at most n and m_max.

    Progress per sample goes with 1 / (beta + (m - 1) lambda) = 1 / (beta (1 + (m - 1) / m*)): at m*
    half of it is lost, at m* / 8 a ninth. The paper takes m* because a smaller batch leaves its
    device idle; here blocks of many batches fill the device (``full_sgd``), whatever the batch.
    """
    return max(1, int(min(m_star / BATCH_DIVISOR, n, max_batch_size)))


def step_size(
    m: int, beta: float, top_eigenvalue: float, relaxation: float = 1.0, inflation: float = 1.0
) -> float:
    """Step eta of f -= (eta / m) sum_b (f(x_b) - y_b) k(x_b, .) for a batch of m points.

    eta = relaxation / curvature, curvature = (beta + (m - 1) lambda_1) / m, a bound on the expected
    top eigenvalue of K(X_b, X_b) / m. Ma, Bassily, Belkin 2018, Theorem 4, for the loss
    (f - y)^2 / 2: the error shrinks at least by relaxation (2 - relaxation) lambda / curvature in a
    direction of eigenvalue lambda, so 1 is the optimum of the bound and 2 its limit. Where
    beta = max k(x, x) is far above the mean of k(x, x) the bound is loose and more than 1 is faster.
    ``inflation`` >= 1 is how far the measured curvature exceeds the bound, which it does where
    Nystrom eigenvectors are off.
    """
    return relaxation / (batch_curvature(m, beta, top_eigenvalue) * inflation)


def batch_curvature(m: int, beta: float, top_eigenvalue: float) -> float:
    """(beta + (m - 1) lambda_1) / m: from beta at m = 1 down to lambda_1."""
    return (beta + (m - 1) * top_eigenvalue) / m
