"""K folds of the training points, each held out once: how good a configuration is, before it sees test points."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean, stdev

from kernelexp import interrupts
from kernelexp.checkpoint import Checkpoints, Untrained
from kernelexp.data.held_out import Fold
from kernelexp.engine.ranks import Ranks
from kernelexp.experiment.config import Config
from kernelexp.experiment.prepare import load_data, prepare
from kernelexp.experiment.train import train


def cross_validation(
    config: Config, ranks: Ranks, checkpoints: Checkpoints | None
) -> dict[str, float]:
    """Mean and standard deviation (divided by folds - 1) over the folds; empty without ``config.cv``.

    Errors as ``run``. Folds that ``checkpoints`` has done are not trained again; of the one that a run was killed in
    nothing is saved.
    """
    if config.cv is None:
        return {}
    found: list[dict[str, float]] = []
    if checkpoints is not None:
        # All of the data, since that is what a run that goes on must have again.
        checkpoints.begin(load_data(config, ranks).digest)
        found += checkpoints.folds
    try:
        for index in range(len(found), config.cv):
            interrupts.check()
            found.append(_scores(config, Fold(index, config.cv), ranks))
            if checkpoints is not None:
                checkpoints.fold(found[-1])
    except interrupts.Interrupted:
        if checkpoints is not None and found:
            checkpoints.write(Untrained())
        raise
    metrics: dict[str, float] = {}
    for name in found[0]:
        values = [scores[name] for scores in found]
        metrics |= {f"cv_{name}": mean(values), f"cv_{name}_spread": stdev(values)}
    return metrics


def _scores(config: Config, fold: Fold, ranks: Ranks) -> dict[str, float]:
    """Of the points of a fold, by a training on the others."""
    others = replace(config, cv=None, validation=fold, compare=())
    trained = train(prepare(others, None, lambda: None, ranks), (), None)
    ranks.end_following()
    held = {name: value for name, value in trained.scores.items() if name.startswith("valid_")}
    return {name.removeprefix("valid_"): value for name, value in held.items()}
