"""What the ranks beside the first do in a run: the engine's part, without configuration, store or terminal."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from kernelexp import engine
from kernelexp.engine.evaluation import Evaluation
from kernelexp.engine.rank_group import Group, RankLost
from kernelexp.engine.ranks import NothingToDo
from kernelexp.experiment.prepare import (
    compare,
    early_stopping,
    evaluated,
    load_data,
    make_problem,
    predict,
)


def follow(group: Group, device: torch.device) -> None:
    """Take part in run after run of rank 0, until it ends.

    An error ends what all are at: rank 0 says it and goes on, to its next run or its end, with all that are there.
    """
    warnings.simplefilter("ignore")  # rank 0 says it
    while True:
        try:
            told = group.agreed(None)
            if told is None:
                return
            group.follow(_prepared(group, device, *told))
        except Exception as error:
            if not isinstance(error, RankLost):
                group.fail(error)
            group.meet_again()


def _prepared(
    group: Group, device: torch.device, config: Any, plan: Any
) -> dict[str, Callable[[], Any]]:
    """Set up as rank 0 does; what can be called then, by name."""
    config = replace(config, device=device)
    dataset = load_data(config, group)
    problem = make_problem(config, dataset.train, plan, group)
    compare(config, problem, dataset)
    predict(config, problem, dataset)
    try:
        training = engine.prepare(early_stopping(config)[0], problem, plan)
    except NothingToDo:
        return {}
    if plan is not None:
        training.restore(None)  # what rank 0 has of it
    evaluation = Evaluation(training, evaluated(dataset))
    together = (
        training.advance,
        training.model,
        training.weights,
        training.training_outputs,
        training.rkhs_norm,
        training.saved,
        training.go_back,
        training.settle,
        evaluation.outputs,
    )
    return {call.__name__: call for call in together}


def end(group: Group) -> None:
    """Of rank 0: there is no run any more."""
    group.agreed(None)
