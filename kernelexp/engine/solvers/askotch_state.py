"""What askotch reads and what it carries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kernelexp.engine.batch import critical_batch_size
from kernelexp.engine.linalg import relative_residual
from kernelexp.engine.operator import KernelOperator
from kernelexp.engine.singular import DistinctRows
from kernelexp.engine.solvers.state import Derived, Iterate, System

# The least mu nu: without a ridge the momentum remembers 1 / sqrt(mu nu) = 3 epochs.
_LEAST_CURVATURE = 0.1


class Momentum(NamedTuple):
    """The constants of Nesterov's acceleration; Rathore et al. 2024, algorithm 3.

    Attributes:
        beta: 1 - sqrt(mu / nu).
        gamma: 1 / sqrt(mu nu).
        alpha: 1 / (1 + gamma nu).
    """

    beta: float
    gamma: float
    alpha: float

    @classmethod
    def of(cls, mu: float, blocks: int) -> Momentum:
        """With nu = the number of blocks, and mu kept to 0.1 <= mu nu <= 1."""
        nu = float(blocks)
        mu = min(max(mu, _LEAST_CURVATURE / nu), 1 / nu)
        gamma = 1 / math.sqrt(mu * nu)
        return cls(1 - math.sqrt(mu / nu), gamma, 1 / (1 + gamma * nu))


@dataclass(frozen=True)
class AskotchSystem(System):
    """What the iteration reads.

    Attributes:
        distinct: how the training points are the u centers.
        right: the right side, (u, c), float64: the mean of the targets of each center.
        shift: (u, 1), float64: n ridge over how often each center occurs.
        K: K(Z, Z), its rows kept as far as there is room.
        top_eigenvalue: lambda_1 of K / n, from a subsample.
        beta: max k(x, x).
        momentum: of the iteration.
        generator: the state of the source of draws when set-up was done.
    """

    distinct: DistinctRows
    right: Tensor
    shift: Tensor
    K: KernelOperator
    top_eigenvalue: float
    beta: float
    momentum: Momentum
    generator: Tensor

    @property
    def blocks(self) -> int:
        """Iterations of an epoch."""
        return math.ceil(len(self.right) / self.plan.block_size)

    def derived(self) -> Derived:
        return {
            "m_star": critical_batch_size(self.beta, self.top_eigenvalue),
            "top_eigenvalue": self.top_eigenvalue,
            "beta": self.beta,
            "block_size": self.plan.block_size,
            "rank": self.plan.max_rank,
            "rows_kept": self.plan.kept_rows,
        }

    def matmul(self, W: Tensor) -> Tensor:
        """K W in float64, whatever the precision of the rows that are kept: (u, c) -> (u, c)."""
        if self.targets.dtype == torch.float64:
            return self.K.matmul(W)
        points = self.problem.points_of(self.centers)
        return self.kernel(points, points).matmul(W)

    def residual(self, W: Tensor, K_W: Tensor) -> float:
        """Max over outputs of |right - K w - shift w| / |right|: W and K W (u, c)."""
        return relative_residual(self.right - K_W - self.shift * W, self.right)


@dataclass(kw_only=True)
class AskotchIterate(Iterate):
    """What is carried; all that has u rows in float64.

    Attributes:
        generator: the state of the source of draws.
        order: the centers in the order of this epoch, (u,), on the host.
        position: blocks of it that are done.
        solution, outputs: w, (u, c), and K w.
        leader, leader_outputs: v, (u, c), and K v.
        step_scale: 1; after a divergence 1/2, and there is no more acceleration than mu nu = 1 has.
        relative_residual: see ``AskotchSystem.residual``.
    """

    generator: Tensor
    order: Tensor
    position: int = 0
    solution: Tensor
    outputs: Tensor
    leader: Tensor
    leader_outputs: Tensor
    step_scale: float = 1.0
    relative_residual: float = 1.0
