"""Where and how runs are recorded."""

from __future__ import annotations

from dataclasses import dataclass, field

from kernelexp.engine.checks import number, refuse


@dataclass(frozen=True)
class TrackingConfig:
    """Where and how runs are recorded.

    Attributes:
        enabled: false records nothing.
        uri: of the MLflow store: sqlite:///FILE, or http://HOST:PORT of a tracking server.
        experiment: under which runs are gathered.
        run_name: null: what varies in a sweep, else kernel, dataset and solver.
        tags: more tags.
        log_model: whether the trained model is kept, n d + n c numbers.
        patience_minutes: how long a store that went away is waited for at the end of a run; what it has
            not got by then is kept in multirun/unsent.
    """

    enabled: bool = True
    uri: str = "${oc.env:MLFLOW_TRACKING_URI,'sqlite:///mlflow.db'}"
    experiment: str = "kernelexp"
    run_name: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    log_model: bool = True
    patience_minutes: float = 10.0

    def __post_init__(self) -> None:
        # $MLFLOW_TRACKING_URI may be there and empty, which is not to be set.
        object.__setattr__(self, "uri", self.uri or "sqlite:///mlflow.db")
        if not self.experiment:
            raise refuse("experiment", "''", "a name")
        number("patience_minutes", self.patience_minutes, 0)
