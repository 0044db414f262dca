"""What MLflow records of a run. Imports MLflow when it is needed, not before."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import kernelexp
from kernelexp.identity import Identity
from kernelexp.interrupts import Interrupted
from kernelexp.resume import PARENT_TAG
from kernelexp.store import TrackingConfig, create_run, open_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from kernelexp.experiment import RunResult, Setup

# A sweep's parent run, for the jobs it starts in this process and in others.
PARENT_VARIABLE = "KERNELEXP_PARENT_RUN_ID"
VARIED_TAG = "sweep.varied"
_MODEL_REQUIREMENTS = ["torch", "numpy", "platformdirs", "mlflow"]


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

    An observer of ``kernelexp.experiment.run``. The store is opened by a thread: that takes seconds
    (of imports, mostly), in which data can be read and the spectrum computed.
    """

    def __init__(
        self,
        config: TrackingConfig,
        identity: Identity,
        values: dict[str, Any],
        yaml: str,
        overrides: list[str],
    ) -> None:
        """``values``: the resolved configuration, ``yaml`` the same as text."""
        self.config = config
        self.identity = identity
        self.values = values
        self.yaml = yaml
        self.overrides = overrides
        self.opening: Future[tuple[MlflowClient, str]] | None = None

    @property
    def client(self) -> MlflowClient:
        """The store; waits until it is open, and raises what its opening raised."""
        assert self.opening is not None
        return self.opening.result()[0]

    @property
    def run_id(self) -> str:
        """The run's id; waits as ``client``."""
        assert self.opening is not None
        return self.opening.result()[1]

    @property
    def sweep_name(self) -> str | None:
        """What this job of a sweep varies, ``noise=0.1``; None outside sweeps."""
        parent = os.environ.get(PARENT_VARIABLE)
        return self._name(self.client, parent) if parent is not None else None

    def __enter__(self) -> Tracker:
        pool = ThreadPoolExecutor(1)
        self.opening = pool.submit(self._start)
        pool.shutdown(wait=False)
        return self

    def _start(self) -> tuple[MlflowClient, str]:
        client = open_store(self.config)
        parent = os.environ.get(PARENT_VARIABLE)
        name = self.config.run_name or self._name(client, parent)
        tags = {**self.config.tags, **self.identity.tags}
        if parent is not None:
            tags[PARENT_TAG] = parent
        run_id = create_run(client, self.config, name, tags)
        params = {key: str(value) for key, value in flat(self.values).items()}
        _log(client, run_id, params=params)
        client.log_text(run_id, self.yaml, "config.yaml")
        client.log_text(run_id, "\n".join(self.overrides) + "\n", "overrides.txt")
        return client, run_id

    def _name(self, client: MlflowClient, parent: str | None) -> str:
        if parent is not None:
            varied = client.get_run(parent).data.tags.get(VARIED_TAG, "").split()
            return ",".join(o for o in self.overrides if o.split("=")[0].lstrip("+") in varied)
        return " ".join(self.values[group]["name"] for group in ("kernel", "dataset", "solver"))

    def prepared(self, setup: Setup) -> None:
        """Record the data set and what set-up derived."""
        client = self.client  # first: two threads that import MLflow at once each see half of it
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        data = setup.dataset
        source = Dataset(data.name, data.digest, "kernelexp", data.location)
        used = DatasetInput(source, [InputTag("mlflow.data.context", "training")])
        try:
            client.log_inputs(self.run_id, [used])
        except MlflowException:
            # Another worker recorded the same data set in the same moment: now it is there. Stores
            # say so in words of their own; any other trouble comes again.
            client.log_inputs(self.run_id, [used])
        derived = {
            **setup.derived,
            "n_train": len(data.train.X),
            "n_test": len(data.test.X),
            "n_features": data.train.X.shape[1],
            "task": "regression" if data.n_classes is None else "classification",
            "n_classes": data.n_classes,
            "bandwidth": getattr(setup.kernel, "bandwidth", None),
            "device_name": setup.device_name,
            "planned_memory_gb": round(setup.plan.peak_gb, 3),
        }
        params = {f"derived.{key}": str(value) for key, value in derived.items()}
        _log(self.client, self.run_id, params=params)

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """Record the metrics of an epoch."""
        _log(self.client, self.run_id, metrics=metrics, step=number)

    def finished(self, result: RunResult) -> None:
        """Record the metrics of the run and its model."""
        client, run_id = self.client, self.run_id
        _log(client, run_id, metrics=result.metrics)
        client.set_tag(run_id, "stopped_by", result.stopped_by)
        client.set_tag(run_id, "rkhs_norm.how", result.norm.how)
        client.set_tag(run_id, "rkhs_norm.lower_bound", str(result.norm.lower_bound).lower())
        if result.warning is not None:
            client.set_tag(run_id, "solver.warning", result.warning)
        if result.setup.reason is not None:
            client.set_tag(run_id, "solver.reason", result.setup.reason)
        per_output = {"rkhs_norm": result.norm.per_output.tolist()}
        client.log_dict(run_id, per_output, "rkhs_norm_per_output.json")
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
        with mlflow.start_run(self.run_id), tempfile.TemporaryDirectory() as folder:
            serving.save_files(Path(folder), result.model, scaling, data.classes)
            mlflow.pyfunc.log_model(
                name="model",
                python_model=serving.__file__,
                artifacts={"model": folder},
                signature=signature,
                code_paths=[str(Path(kernelexp.__file__).parent)],
                pip_requirements=_MODEL_REQUIREMENTS,
            )

    def kill(self, reason: str) -> None:
        """Mark the run as killed, from any thread; never raises."""
        with contextlib.suppress(Exception):
            self.client.set_tag(self.run_id, "error", reason)
            self.client.set_terminated(self.run_id, "KILLED")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            client, run_id = self.client, self.run_id
        except ValueError:
            if error is None:
                raise
            return  # the store did not open: there is no run to end, and ``error`` says so
        status = "FINISHED"
        if isinstance(error, (KeyboardInterrupt, Interrupted)):
            status = "KILLED"
        elif error is not None:
            client.set_tag(run_id, "error", f"{type(error).__name__}: {error}"[:5000])
            status = "FAILED"
        client.set_terminated(run_id, status)


def _log(
    client: MlflowClient,
    run_id: str,
    params: dict[str, str] | None = None,
    metrics: dict[str, float] | None = None,
    step: int = 0,
) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(key, value, now, step) for key, value in (metrics or {}).items()],
        params=[Param(key, value) for key, value in (params or {}).items()],
    )
