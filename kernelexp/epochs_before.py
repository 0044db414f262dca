"""How many epochs runs took that stopped by a rule, by the finished runs of an experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from mlflow import MlflowClient

from kernelexp.experiment import Config
from kernelexp.metrics import DATA, RUN

# What a run must share with the one to be: kernel, solver, labels, data.
_KEYS = ("kernel.name", "solver.name", "noise", *DATA)
_NONE = "None"


@dataclass(frozen=True)
class Before:
    """Finished runs: by what they share, points and epochs."""

    runs: dict[tuple[Any, ...], list[tuple[int, float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, client: MlflowClient, experiment: str) -> Before:
        """The newest thousand of an experiment."""
        found: dict[tuple[Any, ...], list[tuple[int, float]]] = {}
        for run in client.search_runs([experiment], "attributes.status = 'FINISHED'"):
            params, metrics = run.data.params, run.data.metrics
            if RUN.epochs in metrics and "derived.n_train" in params:
                key = tuple(params.get(name, _NONE) for name in _KEYS)
                points = int(params["derived.n_train"])
                found.setdefault(key, []).append((points, metrics[RUN.epochs]))
        return cls(found)

    def __call__(self, config: Config, n: int) -> float | None:
        """The mean epochs of the runs nearest in n; None where there is none."""
        data = (getattr(config.dataset, name.removeprefix("dataset."), _NONE) for name in DATA)
        key = (config.kernel.name, config.solver.name, str(config.noise), *map(str, data))
        runs = self.runs.get(key, [])
        if not runs:
            return None
        nearest = min((points for points, _ in runs), key=lambda m: abs(math.log(m / n)))
        epochs = [e for points, e in runs if points == nearest]
        return sum(epochs) / len(epochs)
