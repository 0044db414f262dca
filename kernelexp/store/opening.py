"""Opening the MLflow store: quickly or not at all, and so that it is there for all who start at once."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kernelexp.engine.checks import refuse
from kernelexp.store.config import TrackingConfig
from kernelexp.store.fresh import make_sqlite
from kernelexp.store.reach import cannot_open, check_reachable, first_line, sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

# Makes MLflow's pages open on runs instead of traces of language models.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
# Seconds that a server may take to answer when it is opened; later MLflow's own, enough for models.
_AT_FIRST = "8"
# A store that answered is tried again after something passing: one wrong answer, a lock.
_TRIES = 3
_PAUSE = 1.0


def open_store(config: TrackingConfig, create: bool = True) -> MlflowClient:
    """Open the store and make sure the experiment is there.

    Raises:
        StoreAway: if the store cannot be opened.
        ValueError: if the experiment was deleted.
    """
    check_reachable(config.uri)
    _settle_mlflow()
    path = sqlite_file(config.uri)
    try:
        if path is not None and create:
            make_sqlite(path)
        client, experiment = _found(config, create)
    except Exception as error:  # SQLAlchemy, HTTP and MLflow each have their own
        raise cannot_open(config.uri, first_line(error)) from error
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


def _settle_mlflow() -> None:
    """Leave trying again to us, who know what may be sent twice, and printing to the terminal."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow  # noqa: F401  sets up its logging

    warnings.filterwarnings("ignore", module="mlflow")
    for name in ("alembic", "mlflow"):  # they print what they also raise
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _found(config: TrackingConfig, create: bool) -> tuple[MlflowClient, Experiment | None]:
    """The store and the experiment; tried again after an error while that is quick."""
    import mlflow

    started, tries = time.monotonic(), 0
    while True:
        tries += 1
        try:
            with _quick():
                mlflow.set_tracking_uri(config.uri)
                client = mlflow.MlflowClient()
                return client, _experiment(client, config.experiment, create)
        except Exception:
            if tries == _TRIES or time.monotonic() - started > float(_AT_FIRST):
                raise
        time.sleep(_PAUSE)


def _experiment(client: MlflowClient, name: str, create: bool) -> Experiment | None:
    experiment = client.get_experiment_by_name(name)
    if experiment is not None or not create:
        return experiment
    try:
        client.create_experiment(name, tags=_EXPERIMENT_TAGS)
    except Exception:
        # Another starter made it in the same moment, or the reply was lost.
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
    return experiment


@contextmanager
def _quick() -> Iterator[None]:
    """A server that does not answer is to be known now."""
    before = os.environ.get(_TIMEOUT)
    os.environ[_TIMEOUT] = before or _AT_FIRST
    try:
        yield
    finally:
        if before is None:
            del os.environ[_TIMEOUT]
