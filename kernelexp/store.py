"""The MLflow store: where it is, opening it, and the tags every run in it has."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kernelexp.commit import code_tags
from kernelexp.engine.checks import refuse
from kernelexp.reach import cannot_open, check_reachable, first_line, sqlite_file
from kernelexp.resume import PROCESS_TAG, this_process

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Makes MLflow's pages open on runs instead of traces of language models.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# Of a run's name, which databases other than SQLite enforce.
_LONGEST_NAME = 250
FULL_NAME_TAG = "full_name"


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
    """

    enabled: bool = True
    uri: str = "${oc.env:MLFLOW_TRACKING_URI,'sqlite:///mlflow.db'}"
    experiment: str = "kernelexp"
    run_name: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    log_model: bool = True

    def __post_init__(self) -> None:
        if not self.experiment:
            raise refuse("experiment", "''", "a name")


def open_store(config: TrackingConfig, create: bool = True) -> MlflowClient:
    """Open the store and make sure the experiment is there.

    Raises:
        ValueError: if the store cannot be opened.
    """
    check_reachable(config.uri)
    import mlflow

    warnings.filterwarnings("ignore", module="mlflow")
    for name in ("alembic", "mlflow"):  # news of the store's creation; errors are raised anyway
        logging.getLogger(name).setLevel(logging.ERROR)
    retries = os.environ.get(_RETRIES)
    os.environ[_RETRIES] = retries or "1"  # a server that is not there is to be known now
    try:
        mlflow.set_tracking_uri(config.uri)
        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name(config.experiment)
        if experiment is None and create:
            client.create_experiment(config.experiment, tags=_EXPERIMENT_TAGS)
    except Exception as error:  # SQLAlchemy, HTTP and MLflow each have their own
        raise cannot_open(config.uri, first_line(error)) from error
    finally:
        if retries is None:
            del os.environ[_RETRIES]
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        other = "another name: it was deleted (mlflow experiments restore brings it back)"
        raise refuse("tracking.experiment", config.experiment, other)
    return client


def find_store(config: TrackingConfig) -> MlflowClient | None:
    """The store where it and the experiment are there already; creates nothing."""
    check_reachable(config.uri)
    path = sqlite_file(config.uri)
    if path is not None and not path.exists():
        return None
    client = open_store(config, create=False)
    return client if client.get_experiment_by_name(config.experiment) is not None else None


def experiment_id(client: MlflowClient, config: TrackingConfig) -> str:
    """Of the experiment, which is there once the store is open."""
    experiment = client.get_experiment_by_name(config.experiment)
    assert experiment is not None
    return str(experiment.experiment_id)


def create_run(
    client: MlflowClient, config: TrackingConfig, name: str, tags: dict[str, str]
) -> str:
    """Create a run with the tags all of ours have; its id.

    A name that is too long is cut, and whole in a tag.
    """
    from mlflow.tracking.context.registry import resolve_tags

    own = {PROCESS_TAG: this_process(), **code_tags(), **tags}
    if len(name) > _LONGEST_NAME:
        own[FULL_NAME_TAG] = name
        name = name[: _LONGEST_NAME - 3] + "..."
    where = experiment_id(client, config)
    run = client.create_run(where, run_name=name, tags=resolve_tags(own))
    return str(run.info.run_id)
