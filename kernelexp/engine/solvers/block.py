"""The steps within a block of batches, on its own kernel matrix: one after the other, or all at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernelexp.engine.memory import sent
from kernelexp.engine.preconditioner import Preconditioner


@dataclass(frozen=True)
class Block:
    """What the steps on the batches of a block need: the iterates of one step after the other.

    Attributes:
        residual: Y_B - f(X_B) before the first, (B, c); is overwritten.
        features: Phi_B, (B, q).
        K: K(X_B, X_B); None for a single batch; is overwritten.
        sizes: of the batches.
        steps: eta / m of each.
        effects: what a unit of the correction takes off Y - f, (B, q): Phi_B, and with a ridge
            n ridge V_B more, since weights of the block may be among those it changes; None: Phi_B.
    """

    residual: Tensor
    features: Tensor
    K: Tensor | None
    sizes: list[int]
    steps: list[float]
    effects: Tensor | None = None

    def stepped(self, P: Preconditioner) -> Tensor:
        """The changes of the weights, (eta / m) (Y_b - f(X_b)) as each batch meets it, (B, c): in turn."""
        g, start = self.residual, 0  # becomes the changes
        effects = self.features if self.effects is None else self.effects
        for m, step in zip(self.sizes, self.steps, strict=True):
            stop = start + m
            now = g[start:stop].mul_(step)
            if self.K is not None and stop < len(g):
                g[stop:].addmm_(self.K[stop:, start:stop], now, alpha=-1)
                g[stop:].addmm_(effects[stop:], P.coefficients(self.features[start:stop], now))
            start = stop
        return g

    def solved(self, P: Preconditioner) -> Tensor:
        """The same by one triangular system, a few launches for any number of batches.

        With S the steps, g the changes and L the part of K_G(X_B, X_B) below the diagonal blocks of the batches, step by
        step means g = S (residual - L g), that is (S^-1 + L) g = residual.
        """
        sizes, device = torch.tensor(self.sizes), self.residual.device
        steps = torch.tensor(self.steps, dtype=self.residual.dtype).repeat_interleave(sizes)
        if self.K is None:
            return self.residual.mul_(sent(steps, device)[:, None])
        batch = sent(torch.arange(len(sizes)).repeat_interleave(sizes), device)
        effects = self.features if self.effects is None else self.effects
        L = self.K.addmm_(effects * P.scales, self.features.mT, alpha=-1)
        L.mul_(batch[:, None] > batch)
        L.diagonal().copy_(sent(steps.reciprocal(), device))
        g: Tensor = torch.linalg.solve_triangular(L, self.residual, upper=False)
        return g
