"""How much a solver has to do, by count: the table "Cost and memory" of docs/solvers.md as code.

For a forecast of seconds, with the rates of a machine (``rates``). A solver that is not in it has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import singledispatch

import torch

from kernelexp.engine.plan import Plan, ResourceLimits, Sizes
from kernelexp.engine.solvers.askotch import Askotch
from kernelexp.engine.solvers.base import AnySolver
from kernelexp.engine.solvers.cg import CG
from kernelexp.engine.solvers.exact import Exact
from kernelexp.engine.solvers.exact_matrix import PRECISIONS
from kernelexp.engine.solvers.falkon import Falkon
from kernelexp.engine.solvers.full_sgd import FullSGD
from kernelexp.engine.solvers.projected_sgd import ProjectedSGD
from kernelexp.engine.solvers.rfm import RFM
from kernelexp.engine.solvers.ridge_path import RidgePath

_TYPES = {4: torch.float32, 8: torch.float64}
# Of the top eigenpairs of s points, in operations over s^3; of all eigenpairs of a matrix.
_TOP_PAIRS, ALL_PAIRS = 3.4, 10.0
# Of an orthonormal basis of p columns and products with it, over n p^2.
_ORTHOGONAL = 8.0
# Iterations of refinement, of products with the whole matrix.
_REFINEMENT = 4
# Of askotch: to the largest eigenvalue of a block, and what a block takes beside its products, in steps.
_POWER_ITERATIONS, _BLOCK_STEPS = 30, 8
# Passes over what it carries for each point and output, of each block.
_CARRIED = 30
# Passes over a row of a stored matrix that is picked: it is copied, and what is copied is read.
_PICKED = 2
# Of the largest number of directions, and of the largest batch, what the spectra of practice make of them.
_USED_Q, _USED_BATCH = 0.75, 0.3


@dataclass(frozen=True)
class Work:
    """Operations of one kind of number.

    Attributes:
        dtype: of the numbers.
        entries: of the kernel matrix, computed.
        stored: numbers of it that are written to memory of their own.
        operations: of dense products and factorisations, multiplications and additions.
        read: numbers of a stored matrix that are read for products with few columns.
        steps: that take the time of starting them.
    """

    dtype: torch.dtype
    entries: float = 0.0
    stored: float = 0.0
    operations: float = 0.0
    read: float = 0.0
    steps: float = 0.0


@dataclass(frozen=True)
class Cost:
    """What a training takes: once, and by epoch."""

    setup: Sequence[Work]
    epoch: Sequence[Work] = field(default_factory=list)


@singledispatch
def cost(solver: AnySolver, sizes: Sizes, plan: Plan) -> Cost | None:
    """The work of a solver by its plan; None where it has not been counted."""
    return None


def _spectrum(n: int, s: int, q: float, dtype: torch.dtype) -> Work:
    """Of s points, and of their directions at n points."""
    operations = _TOP_PAIRS * s**3 + 2.0 * n * s * q
    return Work(dtype, entries=s * s / 2 + n * s, stored=s * s, operations=operations)


def _kept(n: int, p: int, kept: int, dtype: torch.dtype) -> tuple[Work, float, float]:
    """What is computed once, and by pass: entries, numbers read; K (n, p) with so many rows kept."""
    once = kept * p / (2 if n == p == kept else 1)
    return Work(dtype, entries=once, stored=kept * p), (n - kept) * p, kept * p


@cost.register
def _full_sgd(solver: FullSGD, sizes: Sizes, plan: Plan) -> Cost:
    n, c, dtype = sizes.n, sizes.c, _TYPES[sizes.itemsize]
    q, B = _USED_Q * plan.max_q, min(plan.block_size, n)
    m = solver.batch_size or _USED_BATCH * plan.max_batch_size
    filled, entries, read = _kept(n, n, plan.kept_rows, dtype)
    corrections = n * q if solver.deflation.on_all_points else 0
    products = n * n / (2 if sizes.ranks == 1 else 1)  # K U of the Ritz vectors
    again = Work(dtype, entries=products) if corrections else Work(dtype)
    steps = n / min(m, B) + n / B
    within = 0.0 if plan.kept_rows == n else n * B  # a block's own matrix
    return Cost(
        [_spectrum(n, plan.subsample_size, q, dtype), filled, again],
        [
            Work(
                dtype,
                entries=entries + within,
                operations=n * (B + 4 * q) * c,
                read=_PICKED * (read + n * B) + corrections,
                steps=steps,
            )
        ],
    )


@cost.register
def _projected_sgd(solver: ProjectedSGD, sizes: Sizes, plan: Plan) -> Cost:
    n, c, p, dtype = sizes.n, sizes.c, plan.n_centers, _TYPES[sizes.itemsize]
    m = solver.batch_size or max(1.0, _USED_BATCH * plan.max_batch_size)
    q = _USED_Q * plan.max_q
    exact = plan.projection is None
    T = solver.interval(p, int(m), sizes.d, exact)
    filled, entries, read = _kept(n, p, plan.kept_rows, dtype)
    setup = [_spectrum(n + p, plan.subsample_size, q, dtype), filled]
    temporary = n * m * (T - 1) / 2  # entries between the batches before a projection
    projections = n / (T * m)
    epoch = [
        Work(
            dtype,
            entries=entries + temporary,
            operations=4 * n * q * c,
            read=read,
            steps=n / m + projections,
        )
    ]
    if exact:
        setup.append(Work(dtype, entries=p * p / 2, stored=p * p, operations=p**3 / 3))
        epoch.append(Work(dtype, read=projections * p * p))  # half of it in each direction
        return Cost(setup, epoch)
    assert plan.projection is not None
    inner = _inexact(solver.projection_epochs, sizes, plan.projection)
    return Cost([*setup, *inner.setup], [*epoch, *(_times(projections, w) for w in inner.epoch)])


def _inexact(epochs: int, sizes: Sizes, plan: Plan) -> Cost:
    """A projection by EigenPro 2 on the centers."""
    p, dtype = plan.n_centers, _TYPES[sizes.itemsize]
    filled, entries, read = _kept(p, p, plan.kept_rows, dtype)
    passes = epochs + 1
    return Cost(
        [
            _spectrum(p, plan.subsample_size, _USED_Q * plan.max_q, dtype),
            filled,
        ],
        [
            Work(
                dtype,
                entries=passes * entries,
                read=passes * read,
                steps=passes * p / plan.block_size,
            )
        ],
    )


@cost.register
def _exact(solver: Exact, sizes: Sizes, plan: Plan) -> Cost:
    n, p, dtype = sizes.n, plan.n_centers, PRECISIONS[plan.precision]
    if not solver.center_rule.takes_all(n):
        outputs = Work(_TYPES[sizes.itemsize], entries=n * p)
        # Of K squared; in a basis of functions of norm 1, which K(Z, Z) will tell, n p^2 more.
        made = Work(dtype, entries=n * p + p * p / 2, operations=n * p * p + 2 * p**3 / 3)
        return Cost([made], [outputs, Work(torch.float64, read=_REFINEMENT * p * p)])
    stored = p * p / (2 if plan.packed else 1)
    made = Work(dtype, entries=p * p / 2, stored=stored, operations=p**3 / 3)
    again = _REFINEMENT * p * p
    refined = (
        Work(torch.float64, entries=again / 2)
        if plan.packed
        else Work(torch.float64, read=2 * again)
    )
    return Cost([made], [refined])


@cost.register
def _ridge_path(solver: RidgePath, sizes: Sizes, plan: Plan) -> Cost:
    n, p = sizes.n, plan.n_centers
    if p == n and solver.center_rule.takes_all(n):
        return Cost(
            [Work(torch.float64, entries=n * n / 2, stored=n * n, operations=ALL_PAIRS * n**3)]
        )
    operations = _ORTHOGONAL * n * p * p + 2 * ALL_PAIRS * p**3
    return Cost([Work(torch.float64, entries=n * p, stored=n * p, operations=operations)])


@cost.register
def _cg(solver: CG, sizes: Sizes, plan: Plan) -> Cost:
    n, c, q, dtype = sizes.n, sizes.c, plan.max_q, torch.float64
    filled, entries, read = _kept(n, n, plan.kept_rows, dtype)
    if sizes.ranks == 1:  # a symmetric matrix, as a whole: half of what kept rows do not have
        entries = (n - plan.kept_rows) ** 2 / 2
        read += plan.kept_rows * (n - plan.kept_rows)
    return Cost(
        [_spectrum(n, plan.subsample_size, q, dtype), filled],
        [Work(dtype, entries=entries, read=read + 2 * n * q, operations=4 * n * q * c)],
    )


@cost.register
def _askotch(solver: Askotch, sizes: Sizes, plan: Plan) -> Cost:
    n, b, r, dtype = plan.n_centers, plan.block_size, plan.max_rank, _TYPES[sizes.itemsize]
    filled, entries, read = _kept(n, n, plan.kept_rows, dtype)
    # Of a block: its approximation, its preconditioned matrix, the power iteration.
    operations = 2.0 * b * b * (4 * r + _POWER_ITERATIONS)
    own = Work(
        torch.float64,
        operations=n / b * operations,
        read=n / b * _CARRIED * n * sizes.c,
        steps=_BLOCK_STEPS * n / b,
    )
    return Cost([filled], [Work(dtype, entries=entries, read=read), own])


@cost.register
def _falkon(solver: Falkon, sizes: Sizes, plan: Plan) -> Cost:
    n, p, dtype = sizes.n, plan.n_centers, _TYPES[sizes.itemsize]
    filled, entries, read = _kept(n, p, plan.kept_rows, dtype)
    factors = Work(
        torch.float64,
        entries=p * p / 2,
        stored=p * p,
        operations=5 * p**3 / 3,
        read=6 * p * p,
    )
    right = Work(dtype, entries=entries, read=read)
    return Cost(
        [factors, filled, right],
        [Work(dtype, entries=entries, read=2 * read), Work(torch.float64, read=4 * p * p)],
    )


@cost.register
def _rfm(solver: RFM, sizes: Sizes, plan: Plan) -> Cost | None:
    inner, _ = solver.inner.choose(sizes, plan.limits(ResourceLimits()), torch.device("cpu"))
    once = cost(inner, sizes, plan)
    if once is None:
        return None
    n = min(solver.agop_points or sizes.n, sizes.n)
    d, c, p = sizes.d, sizes.c, plan.n_centers or sizes.n
    gradients = Work(
        _TYPES[sizes.itemsize],
        entries=n * p,
        operations=2.0 * n * d * (p * (c + 1) + c * (1 if solver.diagonal else d)),
    )
    training = [_times(inner.likely_epochs, work) for work in once.epoch]
    return Cost([], [*once.setup, *training, gradients])


def _times(factor: float, work: Work) -> Work:
    return Work(
        work.dtype,
        factor * work.entries,
        factor * work.stored,
        factor * work.operations,
        factor * work.read,
        factor * work.steps,
    )
