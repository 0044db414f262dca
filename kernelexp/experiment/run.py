"""A run is three steps, each a function from values to a value: prepare, train, result."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from kernelexp import interrupts
from kernelexp.checkpoint import Checkpoints
from kernelexp.engine.ranks import ALONE, Ranks
from kernelexp.experiment.config import Config
from kernelexp.experiment.cross_validation import cross_validation
from kernelexp.experiment.observer import Observer, RunResult
from kernelexp.experiment.prepare import prepare
from kernelexp.experiment.result import result
from kernelexp.experiment.train import train


def run(
    config: Config,
    observers: Sequence[Observer] = (),
    checkpoints: Checkpoints | None = None,
    ranks: Ranks = ALONE,
) -> RunResult:
    """Load, train, evaluate; with ``config.cv`` also on each of the folds, before.

    ``checkpoints``: where the run goes on from and where it saves itself; None for neither. ``ranks``: those
    that train together, of which the others ``follow`` (``experiment.following``).

    Raises:
        ValueError: for data or sizes that cannot work, or a checkpoint that the run cannot go on from.
        FileNotFoundError: for data that are not there.
        DivergenceError: where training grows instead of shrinking.
        Interrupted: between two rounds, where a signal has come.
    """

    def loaded() -> None:
        for observer in observers:
            observer.loaded()

    validated = cross_validation(config, ranks, checkpoints)
    prepared = prepare(config, checkpoints, loaded, ranks)
    regresses = prepared.setup.dataset.classes is None
    if regresses and config.noise and config.noise_kind != Config.noise_kind:
        warnings.warn(
            f"label_noise={config.noise_kind} has no effect on regression targets: noise={config.noise:g} adds "
            "Gaussian noise, in standard deviations of theirs",
            UserWarning,
            stacklevel=2,
        )
    interrupts.check()
    for observer in observers:
        observer.prepared(prepared.setup)
    trained = train(prepared, observers, checkpoints)
    made = result(prepared, trained, validated)
    for observer in observers:
        observer.finished(made)
    return made
