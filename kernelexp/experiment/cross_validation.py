"""K folds of the training points, each held out once: how good a configuration is, before it sees test points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import mean, stdev

from kernelexp import interrupts
from kernelexp.checkpoint import Checkpoints, Untrained
from kernelexp.data.held_out import Fold
from kernelexp.engine.ranks import Ranks
from kernelexp.experiment.config import Config
from kernelexp.experiment.prepare import prepare
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
    found = [] if checkpoints is None else list(checkpoints.folds)
    before = len(found)

    def prepared(digest: str) -> None:
        """The data have the digest of all of them, whichever fold is held out."""
        if checkpoints is not None and len(found) == before:
            checkpoints.begin(digest)

    try:
        for index in range(before, config.cv):
            interrupts.check()
            found.append(_scores(config, Fold(index, config.cv), ranks, prepared))
            if checkpoints is not None:
                checkpoints.fold(found[-1])
    except interrupts.Interrupted:
        if checkpoints is not None and len(found) > before:
            checkpoints.write(Untrained())
        raise
    metrics: dict[str, float] = {}
    for name in found[0]:
        values = [scores[name] for scores in found]
        metrics |= {f"cv_{name}": mean(values), f"cv_{name}_spread": stdev(values)}
    return metrics


def _scores(
    config: Config, fold: Fold, ranks: Ranks, prepared: Callable[[str], None]
) -> dict[str, float]:
    """Of the points of a fold, by a training on the others; ``prepared``: told the digest of the data before it."""
    others = replace(config, cv=None, validation=fold, compare=())
    ready = prepare(others, None, lambda: None, ranks)
    prepared(ready.setup.dataset.digest)
    trained = train(ready, (), None)
    ranks.end_following()
    held = {name: value for name, value in trained.scores.items() if name.startswith("valid_")}
    return {name.removeprefix("valid_"): value for name, value in held.items()}
