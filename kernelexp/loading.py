"""A trained model out of the tracking store, by its run: ``kernelexp.load``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kernelexp.metrics import DATA, SELECTION
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
    check_reachable(uri)
    file = sqlite_file(uri)
    if file is not None and not file.is_file():  # which MLflow would make
        raise ValueError(f"{uri}: no such store; train something first, or name another")
    try:
        found = find(MlflowClient(uri), run).info
    except ValueError:
        raise
    except Exception as error:  # SQLAlchemy, HTTP and MLflow each have their own
        shown = without_password(uri)
        raise ValueError(f"{shown}: must be a store that opens ({first_line(error)})") from error
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        folder = download_artifacts(f"runs:/{found.run_id}/model", tracking_uri=uri)
    except (MlflowException, OSError) as error:
        raise ValueError(
            f"run {found.run_id[:8]} ({found.run_name}): has no model; train it with "
            "tracking.log_model=true"
        ) from error
    if not (
        Path(folder) / "data"
    ).is_dir():  # the path that is recorded, if it is one of this machine
        raise ValueError(
            f"run {found.run_id[:8]} ({found.run_name}): its model is recorded in {found.artifact_uri}, which is "
            "not there; move mlruns back to where it was made"
        )
    return KernelPredictor(Path(folder) / "data")


def find(client: MlflowClient, run: str) -> Run:
    """The run of a name, as ``load`` takes it; errors as there."""
    if run.startswith(_BEST):
        return _best(client, run.removeprefix(_BEST))
    numbers = [found.experiment_id for found in client.search_experiments()]
    text = run.replace("'", "")
    for query in (f"attributes.run_id LIKE '{text}%'", f"attributes.run_name = '{text}'"):
        found = list(client.search_runs(numbers, query, max_results=3))
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(one.info.run_id[:8] for one in found)
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
        of_data = {tuple(run.data.params.get(key) for key in DATA) for run in whole}
        if len(of_data) > 1:
            names = sorted(" ".join(p for p in data if p not in (None, "None")) for data in of_data)
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
