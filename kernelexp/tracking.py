"""What MLflow records of a run and of a sweep. Imports MLflow when it is needed, not before."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import kernelexp
from kernelexp.engine.checks import refuse

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from kernelexp.experiment import RunResult, Setup

# A sweep's parent run, for the jobs it starts in this process and in others.
PARENT_VARIABLE = "KERNELEXP_PARENT_RUN_ID"
VARIED_TAG = "sweep.varied"
_MODEL_REQUIREMENTS = ["torch", "numpy", "platformdirs", "mlflow"]


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


def open_store(config: TrackingConfig) -> MlflowClient:
    """Open the store and make sure the experiment is there.

    Raises:
        ValueError: if the store cannot be opened.
    """
    import mlflow

    warnings.filterwarnings("ignore", module="mlflow")
    for name in ("alembic", "mlflow"):  # news of the store's creation; errors are raised anyway
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        mlflow.set_tracking_uri(config.uri)
        mlflow.set_experiment(config.experiment)
    except Exception as error:  # SQLAlchemy, HTTP and MLflow each have their own
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"tracking.uri={config.uri}: must be a store that opens ({reason}); "
            "tracking.enabled=false runs without one"
        ) from error
    return mlflow.MlflowClient()


def git_tags() -> dict[str, str]:
    """Commit of the source and whether it has changes since; empty outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(kernelexp.__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # not some other project's checkout
        return {
            "git.commit": git("rev-parse", "HEAD"),
            "git.dirty": str(bool(git("status", "--porcelain"))).lower(),
        }
    except (OSError, subprocess.CalledProcessError):
        return {}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one with dotted keys."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            out.update(flat(value, f"{prefix}{key}."))
        else:
            out[prefix + key] = value
    return out


class Tracker:
    """One run in the store, as a context: its exit says how the run ended.

    An observer of ``kernelexp.experiment.run``.
    """

    def __init__(
        self, config: TrackingConfig, values: dict[str, Any], yaml: str, overrides: list[str]
    ) -> None:
        """``values``: the resolved configuration, ``yaml`` the same as text."""
        self.config = config
        self.values = values
        self.yaml = yaml
        self.overrides = overrides
        self.run_id: str | None = None

    def __enter__(self) -> Tracker:
        client = open_store(self.config)
        import mlflow

        parent = os.environ.get(PARENT_VARIABLE)
        run = mlflow.start_run(
            run_name=self.config.run_name or self._name(client, parent),
            parent_run_id=parent,
            tags={"kernelexp.version": kernelexp.__version__, **git_tags(), **self.config.tags},
        )
        self.run_id = run.info.run_id
        mlflow.log_params(flat(self.values))
        mlflow.log_text(self.yaml, "config.yaml")
        mlflow.log_text("\n".join(self.overrides) + "\n", "overrides.txt")
        return self

    def _name(self, client: MlflowClient, parent: str | None) -> str:
        if parent is not None:
            varied = client.get_run(parent).data.tags.get(VARIED_TAG, "").split()
            return ",".join(o for o in self.overrides if o.split("=")[0].lstrip("+") in varied)
        return " ".join(self.values[group]["name"] for group in ("kernel", "dataset", "solver"))

    def prepared(self, setup: Setup) -> None:
        """Record the data set and what set-up derived."""
        import mlflow
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = setup.dataset
        self._client().log_inputs(
            str(self.run_id),
            [
                DatasetInput(
                    Dataset(data.name, data.digest, "kernelexp", data.location),
                    [InputTag("mlflow.data.context", "training")],
                )
            ],
        )
        derived = {
            **setup.derived,
            "n_train": len(data.train.X),
            "n_test": len(data.test.X),
            "n_features": data.train.X.shape[1],
            "bandwidth": getattr(setup.kernel, "bandwidth", None),
            "device_name": setup.device_name,
            "precision": f"{str(data.train.X.dtype).removeprefix('torch.')}, ieee",
            "planned_memory_gb": round(setup.plan.peak_gb, 3),
        }
        mlflow.log_params({f"derived.{key}": value for key, value in derived.items()})

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """Record the metrics of an epoch."""
        import mlflow

        mlflow.log_metrics(metrics, step=number)

    def finished(self, result: RunResult) -> None:
        """Record the metrics of the run and its model."""
        import mlflow

        mlflow.log_metrics(result.metrics)
        mlflow.set_tag("stopped_by", result.stopped_by)
        mlflow.log_dict({"rkhs_norm": result.norms}, "rkhs_norm_per_output.json")
        if self.config.log_model:
            self._log_model(result)

    def _log_model(self, result: RunResult) -> None:
        import mlflow
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

        from kernelexp import serving

        data = result.setup.dataset
        scaling = data.preprocessing
        classifies = data.n_classes is not None
        out = np.dtype(np.int64 if classifies else np.float32), (-1,) if classifies else (-1, -1)
        signature = ModelSignature(
            Schema([TensorSpec(np.dtype(scaling.dtype), (-1, *scaling.shape))]),
            Schema([TensorSpec(*out)]),
            ParamSchema([ParamSpec("outputs", DataType.boolean, False)]),
        )
        with tempfile.TemporaryDirectory() as folder:
            serving.save_files(Path(folder), result.model, scaling, classifies)
            mlflow.pyfunc.log_model(
                name="model",
                python_model=serving.__file__,
                artifacts={"model": folder},
                signature=signature,
                code_paths=[str(Path(kernelexp.__file__).parent)],
                pip_requirements=_MODEL_REQUIREMENTS,
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import mlflow

        if error is None:
            mlflow.end_run("FINISHED")
        elif isinstance(error, KeyboardInterrupt):
            mlflow.end_run("KILLED")
        else:
            mlflow.set_tag("error", f"{type(error).__name__}: {error}"[:5000])
            mlflow.end_run("FAILED")

    def _client(self) -> MlflowClient:
        import mlflow

        return mlflow.MlflowClient()


def start_parent(config: TrackingConfig, name: str, jobs: int, varied: list[str]) -> None:
    """Create the store, the experiment and a sweep's parent run, before any job starts."""
    client = open_store(config)
    experiment = client.get_experiment_by_name(config.experiment)
    assert experiment is not None
    run = client.create_run(
        experiment.experiment_id,
        run_name=config.run_name or name,
        tags={
            "kernelexp.version": kernelexp.__version__,
            **git_tags(),
            **config.tags,
            "sweep.jobs": str(jobs),
            VARIED_TAG: " ".join(varied),
        },
    )
    os.environ[PARENT_VARIABLE] = run.info.run_id


def end_parent(interrupted: bool) -> str | None:
    """End the parent of a sweep as its jobs ended; one line of the outcome, None without a sweep."""
    parent = os.environ.pop(PARENT_VARIABLE, None)
    if parent is None:
        return None
    import mlflow

    client = mlflow.MlflowClient()
    run = client.get_run(parent)
    children = client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=10_000
    )
    finished = sum(child.info.status == "FINISHED" for child in children)
    jobs = int(run.data.tags["sweep.jobs"])
    status = "KILLED" if interrupted else "FINISHED" if finished == jobs else "FAILED"
    client.set_terminated(parent, status)
    return f"{finished} of {jobs} jobs finished; sweep {parent}"
