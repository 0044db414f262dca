"""What SGD on all n centers reads and what it carries."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from kernelexp.engine.operator import KernelOperator
from kernelexp.engine.solvers.minibatch import MiniBatchIterate, MiniBatchSystem
from kernelexp.engine.solvers.state import SHARDED, Derived


@dataclass(frozen=True)
class FullSystem(MiniBatchSystem):
    """What training reads; ``targets`` are stored by columns, as the predictions are.

    Attributes:
        K: K(X, X), its rows kept as far as there is room.
    """

    K: KernelOperator

    def derived(self) -> Derived:
        sizes = {
            "block_size": self.plan.block_size,
            "max_batch_size": self.plan.max_batch_size,
            "rows_kept": self.plan.kept_rows,
        }
        return {**super().derived(), **sizes}


@dataclass(kw_only=True)
class FullIterate(MiniBatchIterate):
    """What training carries.

    Attributes:
        alpha: the weights, (n, c), without ``pending``.
        pending: (q, c), V times it is still to be added to the weights of the subsample.
        predictions: F = f(X), (n, c), stored by columns; of several ranks each has its own rows.
    """

    alpha: Tensor
    pending: Tensor
    predictions: Tensor = field(metadata=SHARDED)
