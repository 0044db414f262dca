"""What projected SGD reads and what it carries; see ``projected_sgd``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from kernelexp.engine.operator import KernelOperator
from kernelexp.engine.points import Points
from kernelexp.engine.solvers.minibatch import MiniBatchIterate, MiniBatchSystem
from kernelexp.engine.solvers.projection import Projection
from kernelexp.engine.solvers.state import Derived

# Plain epochs before SAGA takes over.
_PLAIN_EPOCHS = 2


@dataclass(frozen=True)
class ProjectedSystem(MiniBatchSystem):
    """What training reads.

    Attributes:
        K: K(X, Z), its rows kept as far as there is room; of several ranks each has the columns of its own
            centers.
        K_ZZ: K(Z, Z), of several ranks each its own rows.
        projection: onto the span of the centers.
        interval: T, batches between projections.
        center_features: Phi(Z), (p, q), of several ranks each its own rows.
    """

    K: KernelOperator
    K_ZZ: KernelOperator
    projection: Projection
    interval: int
    center_features: Tensor

    def picked(self, index: Tensor, memory: Tensor) -> Iterable[tuple[slice, Tensor]]:
        """K[index] by pieces, into ``memory``: one where ranks meet after each, since others would differ by rank."""
        if self.ranks.alone:
            return self.K.picked(index, memory)
        return [(slice(None), self.K.rows(index, memory[: len(index)]))]

    def add_temporary(self, points: Points, weights: Tensor, batch: slice, out: Tensor) -> None:
        """Add to f of a batch, (m, c), what the points before it do as temporary centers, shared by ranks."""
        part = self.ranks.part(batch.start)
        self.kernel(points[batch], points[part]).matmul(weights[part], out=out)

    def derived(self) -> Derived:
        return {
            **super().derived(),
            "n_centers": len(self.centers),
            "rows_kept": self.plan.kept_rows,
            "projection": "exact" if self.plan.projection is None else "inexact",
            "projection_interval": self.interval,
        }


@dataclass(kw_only=True)
class ProjectedIterate(MiniBatchIterate):
    """What training carries.

    Attributes:
        alpha: the weights, (p, c).
        values: f(Z) = K(Z, Z) alpha, (p, c).
        table: g of each point at its last visit, (n, c).
        mean_weights: of the preconditioned mean gradient of the table, (p, c).
        mean_values: its values at the centers, (p, c).
        carry: the residual of the projections so far, (p, c).
        squares, wrong: sum of g^2 and number of wrong labels met in this epoch.
        projection_residual: the largest |h - K theta| / |h| so far, -1 before the first.
        projection_generator: the source of an inexact projection's draws.
        projection_scale: of its step.
    """

    alpha: Tensor
    values: Tensor
    table: Tensor
    mean_weights: Tensor
    mean_values: Tensor
    carry: Tensor
    squares: float = 0.0
    wrong: int = 0
    projection_residual: float = -1.0
    projection_generator: Tensor
    projection_scale: float = 1.0

    @property
    def reduces(self) -> bool:
        """Whether plain epochs are over, where gradients are those of SAGA."""
        return len(self.table) > 0 and len(self.losses) > _PLAIN_EPOCHS
