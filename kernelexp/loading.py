"""A trained model out of the tracking store, by its run: ``kernelexp.load``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from kernelexp.identity import data_sets
from kernelexp.metrics import SELECTION
from kernelexp.resume import PARTIAL_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from kernelexp.serving import KernelPredictor

# Before the name of an experiment.
_BEST = "best:"


def load(run: str, store: str | None = None) -> KernelPredictor:
    """The model of a run.

    Args:
        run: its id, or the start of it; its name; or ``best:EXPERIMENT``, the run of an experiment with the best
            score on validation points, folds or left-out points, never on test points.
        store: address of the MLflow store; default: ``$MLFLOW_TRACKING_URI`` or ``sqlite:///mlflow.db``.

    Raises:
        ValueError: in one line, where there is no such run, more than one, or no model with it.
    """
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    from kernelexp.serving import KernelPredictor
    from kernelexp.store.reach import check_reachable, first_line, sqlite_file, without_password

    uri = store or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if Path(uri).is_file():  # which MLflow would take for a folder
        raise ValueError(f"{uri}: must be an address, as sqlite:///{uri}")
    check_reachable(uri, writes=False)
    file = sqlite_file(uri)
    if file is not None and not file.is_file():  # which MLflow would make
        raise ValueError(f"{uri}: no such store; train something first, or name another")
    try:
        client = MlflowClient(uri)
        found = find(client, run)
        location = _model_location(client, found)
    except ValueError:
        raise
    except Exception as error:  # SQLAlchemy, HTTP and MLflow each have their own
        shown = without_password(uri)
        raise ValueError(f"{shown}: must be a store that opens ({first_line(error)})") from error
    shown = f"run {found.info.run_id[:8]} ({found.info.run_name})"
    if location is None:
        raise ValueError(f"{shown}: has no model; train it with tracking.log_model=true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        folder = Path(download_artifacts(location, tracking_uri=uri)) / "data"
    except (MlflowException, OSError):
        folder = None
    if (
        folder is None or not folder.is_dir()
    ):  # the path that is recorded, if it is one of this machine
        raise ValueError(
            f"{shown}: its model is recorded in {location}, which is not there; move mlruns back to where it was made"
        )
    return KernelPredictor(folder)


def _model_location(client: MlflowClient, run: Run) -> str | None:
    """Where the model of a run is; None where it has none. Addresses of ``runs:/`` are of the process's own store."""
    from mlflow.exceptions import MlflowException

    models = run.outputs.model_outputs if run.outputs else []
    if not models:
        return None
    try:
        location: str = client.get_logged_model(models[0].model_id).artifact_location
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None  # it was deleted; the run still names it
    return location


def find(client: MlflowClient, run: str) -> Run:
    """The run of a name, as ``load`` takes it; errors as there."""
    if run.startswith(_BEST):
        return _best(client, run.removeprefix(_BEST))
    numbers = [found.experiment_id for found in client.search_experiments()]
    quote = '"' if "'" in run else "'"
    queries = [f"attributes.run_name = {quote}{run.replace(quote, '')}{quote}"]
    if re.fullmatch("[0-9a-f]+", run):
        queries.append(f"attributes.run_id LIKE '{run}%'")
    found = {
        one.info.run_id: one
        for query in queries
        for one in client.search_runs(numbers, query, max_results=3)
    }
    if len(found) == 1 or run in found:
        return found.get(run) or next(iter(found.values()))
    if found:
        ids = ", ".join(number[:8] for number in found)
        raise ValueError(f"run {run}: there are several, as {ids}; give the start of an id")
    raise ValueError(
        f"run {run}: no such id or name in this store; best:EXPERIMENT takes the best of an experiment"
    )


def _best(client: MlflowClient, experiment: str) -> Run:
    named = client.get_experiment_by_name(experiment)
    if named is None:
        there = ", ".join(sorted(found.name for found in client.search_experiments()))
        raise ValueError(f"best:{experiment}: no such experiment; there are {there}")
    for metric, tie_breaker in SELECTION.items():
        found = client.search_runs(
            [named.experiment_id],
            f"attributes.status = 'FINISHED' and metrics.{metric} > -1e300",
            order_by=[f"metrics.{metric} DESC", f"metrics.{tie_breaker} ASC"],
        )
        # Trials of a search on few points are not compared with those on all.
        whole = [run for run in found if PARTIAL_TAG not in run.data.tags]
        names = data_sets(whole)
        if len(names) > 1:
            raise ValueError(
                f"best:{experiment}: its runs are of {len(names)} data sets, whose scores are not compared "
                f"({'; '.join(names)}); give the id of a run"
            )
        if whole:
            return whole[0]
    raise ValueError(
        f"best:{experiment}: no run has been validated, and none is chosen by its test score; train with "
        "validation=0.1 or cv=5"
    )
