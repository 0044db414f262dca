"""Which settings are tried next: Optuna's proposals, no point twice, the same ones after the same scores."""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernelexp.search.space import Space

if TYPE_CHECKING:
    from optuna import Trial

# Proposals that may be asked for in vain before a finite space is gone through in its order, and others get a kernel
# and a solver at random: proposals can keep to one that has few points, all tried.
_IN_VAIN = 100


@dataclass(frozen=True)
class Proposal:
    """Settings to try, as overrides, and what Optuna knows them by."""

    overrides: tuple[str, ...]
    trial: Trial


class Trials:
    """The proposals of a search, by the tree-structured Parzen estimator (Bergstra et al. 2011).

    All its state follows from the seed and what it was told: a search that is typed again makes the same
    proposals, and finds the runs of those it has made.
    """

    def __init__(
        self, space: Space, seed: int, first: list[dict[str, float | str]], at_random: int
    ):
        """``first``: settings to begin with, the rest of each drawn; ``at_random``: drawn before scores count."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():  # groups: kernels with settings of their own
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=seed % 2**32,
                n_startup_trials=at_random,
                multivariate=True,
                group=True,
                constant_liar=True,
            )
        self.space, self.grid = space, space.grid
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        for values in first:
            self.study.enqueue_trial(values)
        self._seen: set[tuple[str, ...]] = set()
        self._random = random.Random(seed)

    def ask(self, count: int) -> list[Proposal]:
        """So many new ones; fewer where there are no more."""
        found: list[Proposal] = []
        in_vain = 0
        while len(found) < count and (self.grid is None or len(self._seen) < len(self.grid)):
            if in_vain >= _IN_VAIN:
                if self.grid is not None:
                    left = next(point for point in self.grid if point not in self._seen)
                    self.study.enqueue_trial(self.space.parsed(left))
                elif in_vain >= 2 * _IN_VAIN:  # four digits tell no more of so narrow a range apart
                    break
                else:
                    self.study.enqueue_trial(
                        {d.key: self._random.choice(d.values) for d in self.space.parts}
                    )
            trial = self.study.ask()
            overrides = self.space.suggest(trial)
            if overrides in self._seen:
                in_vain += 1
                self.tell(Proposal(overrides, trial), None)
                continue
            self._seen.add(overrides)
            found.append(Proposal(overrides, trial))
        return found

    def tell(self, proposal: Proposal, score: float | None) -> None:
        """How good it was; None: it could not be trained, or had been tried."""
        from optuna.trial import TrialState

        if score is None:
            self.study.tell(proposal.trial, state=TrialState.FAIL)
        else:
            self.study.tell(proposal.trial, score)
