"""Mini-batch SGD in the RKHS on all n centers, with its predictions carried along.

One step on a batch b of m points, K_G(X_b, .) = K(X_b, .) - Phi_b D Phi(.)^T (no Phi for plain SGD):

    g = f(X_b) - Y_b                                 (m, c)
    alpha_b -= eta / m g                             on the batch
    alpha_s += eta / m V D Phi_b^T g                 on the subsample, Phi_b = K(X_b, X_s) V

These are the iterates of Ma, Belkin 2019, algorithm 1. What differs is how f(X_b) is had. Published
code computes K(X_b, X) alpha, so each step sees every center and its batch must fill the device. Here
F = f(X) is a state: after a block B of many batches

    F -= K(X, X_B) delta_B - Phi h,      h = sum of D Phi_b^T (eta / m) g over the block

and within the block the steps need K(X_B, X_B) alone. The work is the same, n d operations a sample,
but blocks have the size the device likes and batches the size the spectrum likes; and F gives train
error, loss and RKHS norm, tr(alpha^T F), exactly and for nothing after every block. Rows of K that
there is room for are kept from the first epoch on; the next ones then cost a pass over memory.

With a ridge the gradient of (1/n) sum |f(x_i) - y_i|^2 + ridge ||f||^2, f = sum_j alpha_j k(x_j, .), is
(2/n) sum_j (f(x_j) + n ridge alpha_j - y_j) k(x_j, .), of which a batch takes its terms:

    g = f(X_b) + n ridge alpha_b - Y_b

It is zero on every batch where (K + n ridge I) alpha = Y, so a constant step goes there, as it does
to interpolation. The step follows from k + n ridge delta (``preconditioner``).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernelexp.engine.batch import BatchRule
from kernelexp.engine.checks import number
from kernelexp.engine.devices import tiling
from kernelexp.engine.memory import sent
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.plan import GB, Limits, Plan, Sizes, tile_numbers, with_cache
from kernelexp.engine.sharded import square_operator
from kernelexp.engine.solvers.block import Block
from kernelexp.engine.solvers.deflation import Deflation
from kernelexp.engine.solvers.full_state import FullIterate, FullSystem
from kernelexp.engine.solvers.minibatch import MiniBatchSolver, largest_diagonal, limited
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.stopping import EpochRecord
from kernelexp.engine.solvers.subsample import least_time_subsample
from kernelexp.engine.spectrum import nystrom_spectrum

# What a lack of memory may make of subsample and block.
_SMALLEST_SUBSAMPLE, _SMALLEST_BLOCK = 500, 256
# With a ridge f(X) is computed anew after so many epochs: the loss does not fall to zero, where ``record``
# would see what is rounded off, about eps an epoch.
_REFRESH = 10


@dataclass(frozen=True)
class FullSGD(MiniBatchSolver[FullSystem, FullIterate]):
    """SGD on all n centers; a method names its deflation and its batch rule.

    Batch, where none is asked for: by the rule; s, where none is asked for: by the least total time
    (``subsample``), or what memory allows.

    Attributes:
        ridge: >= 0, in the units of a mean loss; 0 goes to interpolation.
    """

    ridge: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("ridge", self.ridge, 0)

    @property
    @abstractmethod
    def deflation(self) -> Deflation:
        """Which directions are deflated."""

    @property
    @abstractmethod
    def batch_rule(self) -> BatchRule:
        """The batch where none is asked for."""

    def plan(self, sizes: Sizes, limits: Limits, device: torch.device) -> Plan:
        """Choose s, the block and m_max so that training on n points fits; given sizes are kept."""
        self.check_subsample(sizes)
        n, d, c, w = sizes.n, sizes.d, sizes.c, sizes.itemsize
        q = self.deflation.fixed_q((self.subsample_size or n) - 1)
        tiles, own = tile_numbers(n, device), sizes.own(n)
        corrected = own if self.deflation.on_all_points else None

        def max_q(s: int) -> int:
            return max(1, s // 10) if q is None else q

        def made(s: int, B: int, m_max: int) -> Plan:
            rank = max_q(s)
            model = 3 * n * c + own * rank + (corrected or s) * rank
            batch = max(B, self.batch_size or 0) * (d + 3 * c + rank)
            gathered = min(B * own, tiling(device).gathered_bytes // w)
            held = {
                "process": limits.held / GB,
                "model": w * model / GB,
                "setup": w * (4.5 * s * s + s * d + n + tiles) / GB,
                "step": w * (B * B + batch + gathered + 2 * n * c + tiles) / GB,
            }
            return Plan(
                self.name,
                held,
                limits.allowed / GB,
                tiling(device),
                n_centers=n,
                subsample_size=s,
                max_q=rank,
                block_size=B,
                max_batch_size=m_max,
            )

        asked = limits.asked
        s = self.subsample_size or least_time_subsample(sizes, self.likely_epochs)
        B = min(asked.block_size or limits.busy_block, n)
        smallest_B = asked.block_size or min(B, _SMALLEST_BLOCK)
        smallest_s = self.subsample_size or min(n, _SMALLEST_SUBSAMPLE)
        while made(s, B, n).peak_gb * GB > limits.allowed:
            if smallest_B < B:
                B = max(smallest_B, B // 2)
            elif s > smallest_s:
                s = max(smallest_s, s // 2)
            else:
                break
        made(s, B, n).refuse_unless_it_fits(
            limits,
            f"n={n}, d={d}, {c} outputs, subsample of {s}",
            "take fewer points (dataset.n_train), a smaller solver.subsample_size",
        )
        number("solver.q", q, 0, s - 1, whole=True, optional=True)
        room = (limits.allowed / GB - made(s, 0, n).peak_gb) * GB / w
        m_memory = int((math.sqrt((d + 3 * c) ** 2 + 4 * max(room, B * B)) - d - 3 * c) / 2)
        plan = made(s, B, min(asked.max_batch_size or n, max(m_memory, B), n))
        plan, keep = with_cache(plan, asked, n, w * own, self.max_epochs)
        return replace(plan, kept_rows=keep)

    def setup(self, problem: Problem, plan: Plan) -> FullSystem:
        """Find the spectrum, choose q, batch and step."""
        points, X, n = problem.points, problem.X, len(problem.X)
        kernel, ranks = BlockedKernel(problem.kernel, plan.tiling), problem.ranks
        generator, s = problem.generator(), plan.subsample_size
        spectrum = ranks.once(
            lambda: nystrom_spectrum(kernel, points, s, generator, min(plan.max_q + 1, s)),
            generator,
        )
        most = (self.subsample_size or n) - 1
        preconditioner = self.deflation.preconditioner(
            kernel, points, spectrum, plan.max_batch_size, most, ranks, self.ridge
        )
        system = FullSystem(
            problem=problem,
            plan=plan,
            centers=X,
            targets=problem.Y.mT.contiguous().mT,
            points=points,
            spectrum=spectrum,
            preconditioner=preconditioner,
            beta=largest_diagonal(kernel, X, preconditioner, ranks),
            batch_size=0,
            relaxation=self.relaxation,
            inflation=1.0,
            generator=generator.get_state(),
            K=square_operator(kernel, points, plan.kept_rows, ranks),
        )
        m = self._batch_size(system)
        inflation = preconditioner.curvature_inflation(kernel, points, m, generator, ranks)
        return replace(system, batch_size=m, inflation=inflation, generator=generator.get_state())

    def _batch_size(self, system: FullSystem) -> int:
        n, most = len(system.targets), system.plan.max_batch_size
        m = self.batch_size or self.batch_rule(system.m_star, system.m_star_adapted, n, most)
        return limited(min(m, n), self.batch_size, most)

    def start(self, system: FullSystem, weights: Tensor | None = None) -> FullIterate:
        Y = system.targets
        iterate = FullIterate(
            generator=system.generator.clone(),
            order=torch.arange(0),
            alpha=Y.new_zeros(Y.shape),
            pending=Y.new_zeros(system.preconditioner.q, Y.shape[1]),
            predictions=Y.new_zeros(Y.shape[1], system.K.shape[1]).mT,
        )
        if weights is not None:
            iterate.alpha.copy_(weights)
            self.refresh(system, iterate)
        return iterate

    def restart(self, system: FullSystem, iterate: FullIterate) -> None:
        for tensor in (iterate.alpha, iterate.pending, iterate.predictions):
            tensor.zero_()

    def weights(self, system: FullSystem, iterate: FullIterate) -> Tensor:
        P = system.preconditioner
        if iterate.pending.any():
            update = P.vectors @ iterate.pending
            if self.deflation.on_all_points:
                update = system.ranks.gather(update, len(P.rows))
            iterate.alpha.index_add_(0, P.rows, update)
            iterate.pending.zero_()
        return iterate.alpha

    def training_outputs(self, system: FullSystem, iterate: FullIterate) -> Tensor:
        return system.ranks.gather(iterate.predictions, len(system.targets))

    def refresh(self, system: FullSystem, iterate: FullIterate) -> None:
        ranks, alpha = system.ranks, self.weights(system, iterate)
        outputs = ranks.all_reduce(system.K.matmul(ranks.own(alpha)))
        iterate.predictions.copy_(ranks.own(outputs))

    def batches_a_round(self, system: FullSystem) -> int:
        return max(1, system.plan.block_size // system.batch_size)

    def round(self, system: FullSystem, iterate: FullIterate, batches: Sequence[Tensor]) -> float:
        """A block: several steps, then one update of all predictions; the loss of all points."""
        P, device, ranks = system.preconditioner, system.problem.device, system.ranks
        index = torch.cat(list(batches))  # (B,)
        rows = sent(index, device)
        asked = rows if system.K.complete else index
        steps = [
            iterate.step_scale * system.step_size(len(batch)) / len(batch) for batch in batches
        ]
        predictions, features = ranks.picked(
            [iterate.predictions, P.features], index, rows, len(system.targets)
        )
        block = Block(
            residual=system.targets[rows] - predictions,
            features=features,
            K=system.K.entries(asked, asked) if len(batches) > 1 else None,
            sizes=[len(batch) for batch in batches],
            steps=steps,
        )
        if P.shift:
            block = self._with_ridge(system, iterate, block, index, rows)
        delta = block.solved(P) if device.type == "cuda" else block.stepped(P)
        h = P.coefficients(block.features, delta)
        iterate.alpha.index_add_(0, rows, delta)
        iterate.pending -= h
        system.K.add_transposed_matmul(asked, delta, out=iterate.predictions)
        iterate.predictions.addmm_(P.features, h, alpha=-1)
        difference = iterate.predictions - ranks.own(system.targets)
        return ranks.mean(difference.square_(), len(system.targets))

    def end_epoch(self, system: FullSystem, iterate: FullIterate) -> EpochRecord:
        if self.ridge and (iterate.epoch + 1) % _REFRESH == 0:
            self.refresh(system, iterate)
        return self.record(system, iterate)

    def _with_ridge(
        self,
        system: FullSystem,
        iterate: FullIterate,
        block: Block,
        index: Tensor,
        rows: Tensor,
    ) -> Block:
        """The block with n ridge alpha_B in its residual, and what corrections do to it."""
        P, n = system.preconditioner, len(system.targets)
        if self.deflation.on_all_points:
            [V] = system.ranks.picked([P.vectors], index, rows, n)
        else:
            V = P.vectors_at(rows, n)
        alpha = iterate.alpha[rows].addmm_(V, iterate.pending)
        residual = block.residual.sub_(alpha, alpha=P.shift)
        return replace(block, residual=residual, effects=block.features + P.shift * V)
