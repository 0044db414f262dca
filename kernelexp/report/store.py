"""The tracking store, read into tidy frames; of the files of runs what a figure asks for by name."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from kernelexp.metrics import NO_DIFFERENCE, RUN, last_attempt
from kernelexp.report.address import check_address, without_password
from kernelexp.report.recorded import Recorded, pages, recorded

PARENT_TAG, JOBS_TAG, DIGEST_TAG = "mlflow.parentRunId", "sweep.jobs", "config.digest"
# Of a job that several sweeps have, one for each.
SWEEP_TAGS = "sweep.of."
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# Of a trial of a search that had few of the points; the column of that.
_PARTIAL_TAG, PARTIAL = "search.partial", "partial"
_PRUNED_TAG = "search.pruned"
# What a solver has to say of targets not met or a system not solved.
_WARNING_TAG = "solver.warning"
# What MLflow's databases keep in place of infinity.
_INFINITIES = {sign * sys.float_info.max: sign * float("inf") for sign in (1, -1)}
# Parameters that do not say what was computed, and groups of such; the seed is not what runs are compared by.
_NO_SETTINGS = {*NO_DIFFERENCE, "seed"}
_NO_SETTINGS_IN = ("derived.", "hydra.", *(f"{name}." for name in NO_DIFFERENCE))
# What the data of a bandwidth that is a word are taken from, whatever their number.
_OF_BANDWIDTH, _NUMBERS_OF_POINTS = ("kernel.", "dataset."), ("dataset.n_train", "dataset.n_test")
# Short names for what figures ask for, each the first of these that a run has.
SHORT = {
    "kernel": ["kernel.name"],
    "dataset": ["dataset.name"],
    "solver": ["solver.name"],
    "noise_kind": ["label_noise.name"],
    "n": ["derived.n_train", "dataset.n_train"],
    "p": [RUN.n_centers, f"derived.{RUN.n_centers}", "solver.n_centers"],
    "d": ["derived.n_features"],
    "bandwidth": ["derived.bandwidth", "kernel.bandwidth"],
    "device_name": ["derived.device_name"],
}
# Numbers, whatever a run of another program has under that name; and names, even if of digits.
_NUMBERS = (
    "n", "p", "d", "bandwidth", "noise", "seed", "solver.stop.train_error", "solver.stop.train_mse",
)  # fmt: skip
_NAMES = {"kernel.name", "dataset.name", "solver.name", "label_noise.name", "derived.device_name"}


class Store:
    """An MLflow store that has been opened; ``shown`` is its address without a password.

    Raises:
        ValueError: where it is not there or does not open.
    """

    def __init__(self, uri: str) -> None:
        self.uri, self.shown = uri, without_password(uri)
        shown = self.shown
        check_address(uri, shown)
        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.ERROR)
        retries = os.environ.get(_RETRIES)
        os.environ[_RETRIES] = retries or "1"  # a server that is not there is to be known now
        try:
            self.client = MlflowClient(uri)
            self.experiments: dict[str, str] = {
                found.name: found.experiment_id for found in pages(self.client.search_experiments)
            }
        except Exception as error:  # SQLAlchemy, HTTP and MLflow each have their own
            # The first sentence, without SQLAlchemy's statement and link.
            first = re.split(r"\. | \[SQL", " ".join(str(error).split()))[0]
            reason = first or type(error).__name__
            raise ValueError(f"--store {shown}: must be a store that opens ({reason})") from error
        finally:
            if retries is None:
                del os.environ[_RETRIES]

    def parent(self, start: str) -> tuple[str, str]:
        """The sweep whose run id starts so, and the name of its experiment.

        Raises:
            ValueError: if there is none, or more than one.
        """
        names = {number: name for name, number in self.experiments.items()}
        runs = recorded(self.client, self.uri, names, "")
        sweeps = [run for run in runs if JOBS_TAG in run.tags]
        found = [run for run in sweeps if start and run.run.startswith(start)]
        if len(found) != 1:
            problem = "no sweep" if not found else f"{len(found)} sweeps"
            newest = [f"{run.run[:8]} ({names[run.experiment]})" for run in (found or sweeps)[:6]]
            raise ValueError(
                f"--parent {start or repr(start)}: {problem} with such a run id in this store, which "
                f"has {', '.join(newest) or 'no sweeps'}"
            )
        return found[0].run, names[found[0].experiment]

    def runs(self, experiment: str, query: str = "", parent: str | None = None) -> Runs:
        """The finished runs of an experiment, those of equal configuration counted once.

        Args:
            experiment: its name.
            query: an MLflow filter.
            parent: run id of a sweep, whose jobs alone are wanted.

        Raises:
            ValueError: for an unknown experiment or a filter that MLflow refuses.
        """
        if experiment not in self.experiments:
            there = ", ".join(sorted(self.experiments)) or "none"
            raise ValueError(f"{experiment}: no such experiment in this store, which has {there}")
        try:
            found = recorded(self.client, self.uri, [self.experiments[experiment]], query)
        except MlflowException as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"--filter {query!r}: must be an MLflow filter ({reason})") from error
        jobs = [
            run
            for run in found
            if JOBS_TAG not in run.tags and (parent is None or parent in _parents(run))
        ]
        return Runs(experiment, jobs)

    def history(self, runs: Iterable[str], metrics: Sequence[str]) -> pd.DataFrame:
        """Metrics by epoch: columns ``run``, ``epoch`` and the metrics, one row an epoch."""
        frames = []
        for run in runs:
            columns = {}
            for metric in metrics:
                points = self.client.get_metric_history(run, metric)
                values = pd.Series(last_attempt(points), dtype=float)
                # An infinite value is no point of a curve.
                columns[metric] = values.where(values.abs() < sys.float_info.max)
            frame = pd.DataFrame(columns).rename_axis("epoch").reset_index()
            frames.append(frame.assign(run=run))
        empty = pd.DataFrame(columns=["run", "epoch", *metrics])
        return pd.concat(frames, ignore_index=True) if frames else empty

    def file(self, run: str, name: str) -> dict[str, Any]:
        """A JSON file that was kept with a run.

        Raises:
            ValueError: where there is none.
        """
        from mlflow.artifacts import download_artifacts

        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = download_artifacts(
                    f"runs:/{run}/{name}", dst_path=folder, tracking_uri=self.uri
                )
                found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        except (MlflowException, OSError) as error:
            place = self.client.get_run(run).info.artifact_uri.removeprefix("file://")
            why = "as runs before it was recorded"
            if place.startswith("/") and not Path(place).is_dir():
                why = f"whose files are recorded in {place}, which is not there"
            raise ValueError(f"run {run[:8]} has no {name}, {why}") from error
        return found

    def log(self, run: str, path: Path) -> None:
        """Keep a picture with a run, as ``figures/NAME``."""
        self.client.log_artifact(run, str(path), "figures")


class Runs:
    """Runs of one experiment.

    Attributes:
        frame: one row a finished run, newest first; columns are parameters and metrics by their
            names, the short names ``kernel dataset solver noise_kind n p d bandwidth device_name``,
            ``run``, ``parent``, ``started``, ``commit``, ``dirty``, ``stopped_by``, ``partial``, ``warning`` (why the system of
            the run is not solved, if it is not), and ``settings``, a dictionary of the configuration less seed, paths and tracking.
        unfinished: how many failed, were killed or still run, and have not been repeated since; trials that a search
            has pruned are as they should be.
    """

    def __init__(self, experiment: str, jobs: list[Recorded]) -> None:
        newest: dict[str, Recorded] = {}
        digests = {run.run: _digest(run) for run in jobs}
        for run in jobs:  # newest first
            if run.status == "FINISHED":
                newest.setdefault(digests[run.run], run)
        self.experiment = experiment
        self.frame = _frame(experiment, list(newest.values()))
        pruned = {digests[run.run] for run in jobs if _PRUNED_TAG in run.tags}
        self.unfinished = len(set(digests.values()) - set(newest) - pruned)


def _parents(run: Recorded) -> list[str]:
    tags = run.tags
    others = [name.removeprefix(SWEEP_TAGS) for name in tags if name.startswith(SWEEP_TAGS)]
    before = tags.get("sweep.former_parents", "").split()  # as 0.1.0 has recorded it
    return [tags.get(PARENT_TAG, ""), *others, *before]


def _settings(run: Recorded) -> dict[str, str]:
    return {
        key: value
        for key, value in sorted(run.params.items())
        if not key.startswith(_NO_SETTINGS_IN) and key not in _NO_SETTINGS
    }


def _digest(run: Recorded) -> str:
    own = {**_settings(run), "seed": run.params.get("seed")}
    # A run without parameters says nothing of what it repeats.
    same = json.dumps(own) if run.params else run.run
    return str(run.tags.get(DIGEST_TAG) or same)


def _frame(experiment: str, runs: list[Recorded]) -> pd.DataFrame:
    own = pd.DataFrame(
        [
            {
                "experiment": experiment,
                "run": run.run,
                "parent": run.tags.get(PARENT_TAG),
                "started": pd.Timestamp(run.started, unit="ms"),
                "commit": run.tags.get("git.commit"),
                "dirty": run.tags.get("git.dirty") == "true",
                "stopped_by": run.tags.get("stopped_by"),
                "warning": run.tags.get(_WARNING_TAG),
                PARTIAL: run.tags.get(_PARTIAL_TAG),
                "settings": _settings(run),
            }
            for run in runs
        ]
    )
    metrics = pd.DataFrame([run.metrics for run in runs], dtype=float).replace(_INFINITIES)
    metrics = metrics.drop(columns=[c for c in metrics if c in own])
    params = pd.DataFrame([run.params for run in runs])
    params = params.apply(lambda c: c.replace("None", None) if c.name in _NAMES else typed(c))
    params = params.drop(columns=[c for c in params if c in metrics or c in own])
    frame = pd.concat([own, params, metrics], axis=1)
    for short, names in SHORT.items():
        column = pd.Series(float("nan"), frame.index, dtype=object)
        for name in names:
            if name in frame:
                column = column.where(column.notna(), frame[name])
        frame[short] = column.infer_objects()
    frame["bandwidth"] = _bandwidths(frame)
    numbers = [name for name in _NUMBERS if name in frame]
    frame[numbers] = frame[numbers].apply(pd.to_numeric, errors="coerce")
    return frame


def _bandwidths(frame: pd.DataFrame) -> pd.Series:
    """The bandwidth of each run; where the setting is a word, as ``median``, the mean over draws and numbers of points."""
    values, settings = frame["bandwidth"], frame.get("kernel.bandwidth")
    if settings is None:
        return values
    words = settings.notna() & pd.to_numeric(settings, errors="coerce").isna()
    if not words.any():
        return values
    alike = [
        json.dumps([item for item in sorted(own.items())
                    if item[0].startswith(_OF_BANDWIDTH) and item[0] not in _NUMBERS_OF_POINTS])
        for own in frame["settings"]
    ]  # fmt: skip
    numbers = pd.to_numeric(values, errors="coerce")
    return numbers.groupby(alike).transform("mean").where(words, values)


def typed(column: pd.Series) -> pd.Series:
    """A column of text as numbers or truth values where all of it is; ``None`` is missing."""
    values = column.where(column != "None", None)
    known = values.dropna()
    if len(known) and known.isin(["True", "False"]).all():
        return values.map({"True": True, "False": False})
    if pd.to_numeric(known, errors="coerce").notna().all():
        return pd.to_numeric(values)
    return values
