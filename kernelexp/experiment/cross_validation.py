"""K folds of the training points, each held out once: how good a configuration is, before it sees test points."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean, stdev

from kernelexp import interrupts
from kernelexp.data.held_out import Fold
from kernelexp.engine.ranks import Ranks
from kernelexp.experiment.config import Config
from kernelexp.experiment.prepare import prepare
from kernelexp.experiment.train import train


def cross_validation(config: Config, ranks: Ranks) -> dict[str, float]:
    """Mean and standard deviation (divided by folds - 1) over the folds; empty without ``config.cv``.

    Errors as ``run``. Nothing of it is saved: a run that was killed in a fold begins with the first.
    """
    if config.cv is None:
        return {}
    found: list[dict[str, float]] = []
    for index in range(config.cv):
        interrupts.check()
        fold = replace(config, cv=None, validation=Fold(index, config.cv), compare=())
        trained = train(prepare(fold, None, lambda: None, ranks), (), None)
        ranks.end_following()
        held = {n: v for n, v in trained.scores.items() if n.startswith("valid_")}
        found.append({name.removeprefix("valid_"): value for name, value in held.items()})
    metrics: dict[str, float] = {}
    for name in found[0]:
        values = [scores[name] for scores in found]
        metrics |= {f"cv_{name}": mean(values), f"cv_{name}_spread": stdev(values)}
    return metrics
