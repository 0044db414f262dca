"""Falkon: Nystrom kernel ridge regression by preconditioned conjugate gradients; Meanti et al. 2020."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from kernelexp.engine.centers import CenterRule, check_centers
from kernelexp.engine.checks import number
from kernelexp.engine.devices import tiling
from kernelexp.engine.far_rows import tell_of_hidden
from kernelexp.engine.independent import independent, resolution, tell_of_left_out
from kernelexp.engine.krylov import conjugate_gradient_step
from kernelexp.engine.linalg import relative_residual, top_eigenvalue
from kernelexp.engine.narrow import narrow_matmul, narrow_transposed_matmul
from kernelexp.engine.operator import BlockedKernel, KernelOperator
from kernelexp.engine.plan import Limits, Plan, Sizes, plan_memory, tile_numbers, with_cache
from kernelexp.engine.resource import clock
from kernelexp.engine.singular import SOLVED, unsolved
from kernelexp.engine.solvers.base import Solver
from kernelexp.engine.solvers.falkon_state import Factors, FalkonIterate, FalkonSystem
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.stopping import EpochRecord

# What a center adds is rounding of products with the others up to this many times eps of its k(z, z): weights of
# a smaller one are so large that the iteration does not converge.
_PRODUCTS = 32


@final
@dataclass(frozen=True)
class Falkon(Solver[FalkonSystem, FalkonIterate]):
    """Minimises (1/n) sum |f(x_i) - y_i|^2 + ridge ||f||^2 over f with p centers.

    H alpha = K(Z, X) Y, H = K(Z, X) K(X, Z) + n ridge K(Z, Z), by conjugate gradients with the
    preconditioner that is exact where the centers stand for the data, K(Z, X) K(X, Z) ~ (n / p)
    K(Z, Z)^2 (eq. 5 and 6). Differs from the paper in form alone: the unknowns are alpha and the
    preconditioner acts on residuals, which gives the same iterates; factors and vectors are float64
    whatever the precision of kernel rows. 16 p^2 bytes, 24 p^2 while they are made; an epoch is one
    iteration, n p d operations, or a pass over memory where K(X, Z) is kept.

    Attributes:
        centers: ``all`` training points, a ``random`` subset, the means of ``kmeans``, pivots by ``rpcholesky``.
        n_centers: p; null: all, or max(1,000, n / 10).
        ridge: >= 0, in the units of a mean loss.
        tolerance: stop at this relative residual of every output.
        epochs: most iterations; null: 20.

    >>> from kernelexp.engine import KERNELS, Problem, fit
    >>> X = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    >>> sine = Problem(KERNELS["laplacian"](bandwidth=1.0), X, torch.sin(6 * X))
    >>> f = fit(Falkon(n_centers=25), sine)
    >>> round(f.predict(torch.tensor([[0.5]]).double()).item(), 2)  # sin(3) = 0.141
    0.14
    """

    name: ClassVar[str] = "falkon"
    default_epochs: ClassVar[int] = 20
    centers: str | None = None
    n_centers: int | None = None
    ridge: float = 1e-6
    tolerance: float = 1e-7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_centers(self.centers, self.n_centers)
        number("ridge", self.ridge, 0)
        number("tolerance", self.tolerance, above=0)

    @property
    def center_rule(self) -> CenterRule:
        """Which points are the centers."""
        return CenterRule(self.centers, self.n_centers)

    def plan(self, sizes: Sizes, limits: Limits, device: torch.device) -> Plan:
        n, c, w, p = sizes.n, sizes.c, sizes.itemsize, self.center_rule.count(sizes.n)
        own = sizes.own(n)
        tiles = tile_numbers(n, device)
        plan = plan_memory(
            self.name,
            limits,
            device,
            f"falkon with {p} centers",
            "take fewer centers (solver.n_centers)",
            model=16 * (p * p + 512 * p) + 8 * 8 * p * c + 3 * w * n * c + w * p * sizes.d,
            setup=max(8 * (p * p + tiles), self.center_rule.bytes_to_choose(sizes, device)),
            step=w * (tiling(device).rows * p + tiles),
        )
        plan, keep = with_cache(plan, limits.asked, own, w * p, 1 + self.max_epochs)
        return replace(plan, n_centers=p, kept_rows=keep)

    def setup(self, problem: Problem, plan: Plan) -> FalkonSystem:
        """The two factors, and the right side, which fills what is kept of K(X, Z)."""
        X, Y, kernel = problem.X, problem.Y, BlockedKernel(problem.kernel, plan.tiling)
        ranks = problem.ranks
        Z, _ = self.center_rule.choose(
            X, problem.points, kernel, problem.distinct_rows, problem.generator(), ranks
        )
        made = ranks.first(lambda: self._factors(problem, kernel, Z))
        factors, rows, top = (None, None, 0.0) if made is None else made
        jitter = 0.0 if factors is None else factors.T.jitter
        rows, top, jitter = ranks.agreed((rows, top, jitter))
        if rows is not None:
            # The others add nothing to the span, and K(Z, Z) could not be factored.
            Z = Z[rows.to(Z.device)]
        p, c = len(Z), Y.shape[1]
        centers = problem.points_of(Z)
        own = ranks.own(problem.points)
        K = kernel(own, centers, keep=min(plan.kept_rows, len(own)))
        right, own_Y = Y.new_zeros(p, c, dtype=torch.float64), ranks.own(Y)
        for part, K_part in _blocks(K, plan, Y):
            right += narrow_transposed_matmul(K_part, own_Y[part]).double()
        return FalkonSystem(
            problem=problem,
            plan=plan,
            centers=Z,
            targets=Y,
            K=K,
            top_eigenvalue=top,
            factors=factors,
            jitter=jitter,
            right=ranks.all_reduce(right),
        )

    def _factors(
        self, problem: Problem, kernel: BlockedKernel, Z: Tensor
    ) -> tuple[Factors, Tensor | None, float]:
        """Of the preconditioner, the rows of Z that they are of where some depend on others, and lambda_1."""
        p, centers = len(Z), problem.points_of(Z)
        K_ZZ = kernel(centers, centers).dense(problem.Y.new_empty(p, p, dtype=torch.float64))
        top = top_eigenvalue(K_ZZ, problem.generator()) / p
        tell_of_hidden(K_ZZ.diagonal(), p * top)
        dtype, size = problem.X.dtype, K_ZZ.diagonal().mean().item()
        least = max(resolution(dtype, size, self.ridge), _PRODUCTS * torch.finfo(dtype).eps)
        made = independent(K_ZZ, least)
        finer = "solver=exact" if dtype == torch.float64 else "dtype=float64"
        tell_of_left_out(made, dtype, self.ridge, finer)
        del K_ZZ  # of which the factor has its part, or all
        return Factors.of(made.factor, self.ridge), made.rows, top

    def start(self, system: FalkonSystem, weights: Tensor | None = None) -> FalkonIterate:
        right = system.right
        iterate = FalkonIterate(
            solution=torch.zeros_like(right),
            residual=right.clone(),
            direction=torch.zeros_like(right),
            weight=right.new_zeros(right.shape[1]),
            outputs=torch.zeros_like(system.targets),
        )
        if weights is not None:
            iterate.solution.copy_(weights)
            image, iterate.outputs = self._products(system, iterate.solution)
            iterate.residual = right - image
        return iterate

    def _products(self, system: FalkonSystem, D: Tensor) -> tuple[Tensor, Tensor]:
        """H D (p, c), and K(X, Z) D (n, c) on the way: D (p, c)."""
        n, ranks = len(system.targets), system.ranks
        out = torch.zeros_like(D)
        if system.factors is not None:
            out = system.factors.T.matmul(D).mul_(n * self.ridge)
        image = torch.empty_like(ranks.own(system.targets))
        for part, K in _blocks(system.K, system.plan, image):
            image[part] = narrow_matmul(K, D.to(K.dtype))
            out += narrow_transposed_matmul(K, image[part]).double()
        return ranks.all_reduce(out), ranks.gather(image, n)

    def advance(self, system: FalkonSystem, iterate: FalkonIterate) -> EpochRecord:
        """One iteration."""
        device = system.problem.device
        start = clock(device)
        images: list[Tensor] = []

        def matmul(D: Tensor) -> Tensor:
            out, image = self._products(system, D)
            images.append(image)
            return out

        step = conjugate_gradient_step(iterate, matmul, system.precondition)
        [image] = images
        iterate.outputs.addcmul_(image, step.to(image.dtype))
        iterate.relative_residual = relative_residual(iterate.residual, system.right)
        iterate.converged = system.ranks.agreed(iterate.relative_residual <= self.tolerance)
        last = iterate.epoch + 1 == self.max_epochs and self.epochs is None
        if last and not iterate.converged and iterate.relative_residual > SOLVED:
            iterate.warning = unsolved(iterate.relative_residual, self.ridge, "more epochs")
        iterate.seconds += clock(device) - start
        return self.record(system, iterate)

    def weights(self, system: FalkonSystem, iterate: FalkonIterate) -> Tensor:
        return iterate.solution.to(system.targets.dtype)

    def training_outputs(self, system: FalkonSystem, iterate: FalkonIterate) -> Tensor:
        return iterate.outputs

    def center_outputs(self, system: FalkonSystem, iterate: FalkonIterate) -> Tensor:
        return system.by_factors(lambda both: both.T.matmul(iterate.solution))

    def refresh(self, system: FalkonSystem, iterate: FalkonIterate) -> None:
        weights, ranks = self.weights(system, iterate), system.ranks
        outputs = torch.empty_like(ranks.own(iterate.outputs))
        for part, K in _blocks(system.K, system.plan, weights):
            outputs[part] = narrow_matmul(K, weights)
        iterate.outputs = ranks.gather(outputs, len(iterate.outputs))

    def residuals(self, iterate: FalkonIterate) -> dict[str, float]:
        return {"relative_residual": iterate.relative_residual}


def _blocks(K: KernelOperator, plan: Plan, like: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """K by blocks of rows, of type and device of ``like``; one at a time is in memory, and used at once."""
    rows = plan.tiling.rows
    return K.blocks(rows, None if K.complete else like.new_empty(rows, K.shape[1]))
