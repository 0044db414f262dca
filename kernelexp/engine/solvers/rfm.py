"""Recursive feature machines: rounds of another solver, in coordinates that the last round's gradients stretch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from kernelexp.engine import solvers
from kernelexp.engine.checks import number
from kernelexp.engine.gradients import agop_at, bytes_of_agop, transformed
from kernelexp.engine.model import KernelModel
from kernelexp.engine.plan import GB, Limits, Plan, Sizes
from kernelexp.engine.registry import made, of_fields
from kernelexp.engine.resource import clock
from kernelexp.engine.singular import SingularMatrixWarning
from kernelexp.engine.solvers.base import DivergenceError, Solver, SolverOption
from kernelexp.engine.solvers.preparing import prepare
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.state import Iterate, System
from kernelexp.engine.solvers.stopping import EpochRecord, StopRule

_RESIDUAL = "relative_residual"


@dataclass(kw_only=True)
class RFMIterate(Iterate):
    """The machine of the last round, and what it says of the coordinates.

    Attributes:
        transform: M^(1/2), of the round: (d, d), or (d,) where M is diagonal; (0,) in the first, where M is 1.
        centers: (p, d), transformed.
        alpha: weights (p, c).
        outputs: f(X), (n, c).
        at_centers: f at the centers, (p, c).
        agop: of the machine, (d, d), or (d,) its diagonal where that is M, float64, its largest entry 1; the next round's M,
            before its power.
        left: the relative residual that the round's solver ended with; -1 where it has none.
    """

    transform: Tensor
    centers: Tensor
    alpha: Tensor
    outputs: Tensor
    at_centers: Tensor
    agop: Tensor
    left: float = -1.0

    @property
    def coordinates(self) -> Tensor | None:
        """The transform; None where M is 1."""
        return self.transform if len(self.transform) else None


@final
@dataclass(frozen=True)
class RFM(Solver[System, RFMIterate]):
    """Learns the metric of its kernel: k_M(x, z) = k(M^(1/2) x, M^(1/2) z); Radhakrishnan, Beaglehole, Pandit, Belkin 2024.

    M is 1 in the first round; after each it becomes the average outer product of the gradients of the machine that was
    trained (``engine.gradients``), over its largest entry, to a power. An epoch is a round. The best round is found on validation points:
    ``validation=0.1`` with ``stop.patience``.

    Attributes:
        inner: what trains each round: a solver's name, or ``{name: ..., parameter: ...}``.
        diagonal: keep the diagonal of M alone.
        agop_power: M is the average outer product to this power.
        centred: take the gradients less their mean over the points.
        agop_points: training points, drawn once, that gradients are averaged over; null: all.

    >>> from kernelexp.engine import KERNELS, Problem, fit
    >>> X = torch.rand(200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> one = Problem(KERNELS["gaussian"](bandwidth=1.0), X, torch.sin(6 * X[:, :1]))
    >>> f = fit(RFM(epochs=2, diagonal=True, inner={"name": "exact", "ridge": 1e-4}), one)
    >>> f.transform.argmax().item()  # the coordinate that matters
    0
    """

    name: ClassVar[str] = "rfm"
    sharded: ClassVar[bool] = False
    moves: ClassVar[bool] = True
    carries: ClassVar[bool] = False  # the end of each round's training is that of the round
    default_epochs: ClassVar[int] = 5
    inner: Any = "exact"
    diagonal: bool = False
    agop_power: float = 1.0
    centred: bool = False
    agop_points: int | None = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        number("agop_power", self.agop_power, above=0)
        number("agop_points", self.agop_points, 2, whole=True, optional=True)
        object.__setattr__(self, "inner", _inner(self.inner))

    def plan(self, sizes: Sizes, limits: Limits, device: torch.device) -> Plan:
        solver, _ = self.inner.choose(sizes, limits, device)
        plan: Plan = solver.plan(sizes, limits, device)
        n, d = sizes.n, sizes.d
        # Of the points: as transformed, those of the gradients, and centers from an origin amid them.
        own = 3 * sizes.itemsize * n * d + bytes_of_agop(d, sizes.c, sizes.itemsize, self.diagonal)
        held = plan.gigabytes
        return replace(
            plan, solver=self.name, gigabytes={**held, "model": held["model"] + own / GB}
        )

    def setup(self, problem: Problem, plan: Plan) -> System:
        """Nothing: each round has a set-up of its own.

        Raises:
            ValueError: for a kernel without gradients.
        """
        try:
            one = problem.points[torch.arange(1)]  # a slice would leave it on the host
            problem.kernel.gradient_factors(one, one)
        except NotImplementedError as error:
            raise ValueError(f"kernel: {error}, which solver=rfm needs") from error
        return System(problem, plan, problem.X, problem.Y)

    def start(self, system: System, weights: Tensor | None = None) -> RFMIterate:
        """M = 1; given weights are of no use to another metric."""
        X, Y = system.problem.X, system.targets
        one = torch.ones(X.shape[1], dtype=torch.float64, device=Y.device)
        return RFMIterate(
            transform=Y.new_empty(0),
            centers=X[:0].to(Y.device),
            alpha=Y[:0].clone(),
            outputs=torch.zeros_like(Y),
            at_centers=Y[:0].clone(),
            agop=one if self.diagonal else one.diag(),
        )

    def advance(self, system: System, iterate: RFMIterate) -> EpochRecord:
        """A round: coordinates, a training, its gradients.

        Raises:
            DivergenceError: where these are not finite.
        """
        problem, Y = system.problem, system.targets
        start = clock(problem.device)
        if iterate.epoch:
            iterate.transform = self._root(iterate.agop).to(iterate.transform.dtype)
        T, moved = iterate.coordinates, problem
        if T is not None:
            moved = replace(problem, X=transformed(problem.X.to(problem.device), T))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", SingularMatrixWarning)
            training = prepare(self.inner, moved)
            for _ in training.run():
                pass
        # Those are told at the end, of the last round.
        singular = [w for w in told if issubclass(w.category, SingularMatrixWarning)]
        iterate.warning = "; ".join(dict.fromkeys(str(w.message) for w in singular)) or None
        for other in (w for w in told if w not in singular):
            warnings.warn(other.message, stacklevel=2)
        iterate.centers, iterate.alpha = training.system.centers, training.weights().clone()
        iterate.outputs = training.training_outputs().clone()
        iterate.at_centers = training.solver.center_outputs(training.system, training.iterate)
        iterate.left = training.residuals().get(_RESIDUAL, -1.0)
        rows = torch.randperm(len(Y), generator=problem.generator())[: self.agop_points]
        # Rows of what was trained on: a center is then the same numbers, and its distance from itself 0.
        seen, (Z, alpha) = moved.X[rows.to(moved.X.device)], (iterate.centers, iterate.alpha)
        M = agop_at(problem.kernel, Z, alpha, seen.to(alpha), T, self.centred, self.diagonal)
        if not M.isfinite().all():
            raise DivergenceError(
                f"round {iterate.epoch + 1} of solver=rfm: the gradients of its machine are not finite in {Y.dtype}: "
                "take dtype=float64, a larger ridge or another solver.inner"
            )
        # Of a positive semidefinite matrix it is on the diagonal.
        largest = (M if self.diagonal else M.diagonal()).max()
        if largest > 0:
            iterate.agop = M / largest
        iterate.seconds += clock(problem.device) - start
        return self.record(system, iterate)

    def _root(self, M: Tensor) -> Tensor:
        """M^(power / 2): (d, d) -> (d, d), or (d,) -> (d,) where M is diagonal."""
        power = self.agop_power / 2
        if self.diagonal:
            M = M if M.ndim == 1 else M.diagonal()  # of a checkpoint that has all of it
            return M.clamp(min=0).pow(power)
        values, vectors = torch.linalg.eigh(M)
        root: Tensor = (vectors * values.clamp(min=0).pow(power)) @ vectors.mT
        return root

    def model(self, system: System, iterate: RFMIterate) -> KernelModel:
        T, alpha = iterate.coordinates, iterate.alpha.clone()
        own = None if T is None else T.clone()
        return KernelModel(system.problem.kernel, iterate.centers, alpha, own)

    def predicted(self, system: System, iterate: RFMIterate, rows: Tensor) -> Tensor:
        return self.model(system, iterate).predict(
            system.problem.X[rows.to(system.problem.X.device)]
        )

    def weights(self, system: System, iterate: RFMIterate) -> Tensor:
        return iterate.alpha

    def training_outputs(self, system: System, iterate: RFMIterate) -> Tensor:
        return iterate.outputs

    def center_outputs(self, system: System, iterate: RFMIterate) -> Tensor:
        return iterate.at_centers

    def residuals(self, iterate: RFMIterate) -> dict[str, float]:
        return {_RESIDUAL: iterate.left} if iterate.left >= 0 else {}

    def features(self, iterate: RFMIterate) -> Tensor | None:
        return iterate.agop


def _inner(given: Any) -> SolverOption:
    """A solver from its name, or its name and parameters."""
    if isinstance(given, SolverOption):
        return given
    if isinstance(given, Mapping) and isinstance(given.get("stop"), Mapping):
        given = {**given, "stop": of_fields("inner", "stop", StopRule, given["stop"])}
    others = {name: cls for name, cls in solvers.SOLVERS.items() if name != RFM.name}
    return made("inner", given, others, "a solver's name, or {name: exact, ridge: 1e-3}")
