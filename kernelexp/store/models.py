"""A model in MLflow's format: made in a folder, without the store, and handed to the store later."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import kernelexp

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

    from kernelexp.experiment import RunResult

_NAME = "model"
_NEEDED = ("torch", "numpy", "platformdirs", "mlflow")
# Within a model's folder.
_FILES, _CODE, _REQUIREMENTS, _PYTHON = "data", "code", "requirements.txt", "python_env.yaml"


def save_model(result: RunResult, folder: Path) -> None:
    """Write the trained model of a run as a pyfunc model into ``folder``, which is not there yet.

    File by file: ``mlflow.pyfunc.save_model`` would look through all that is installed, for seconds.

    Raises:
        OSError: where it cannot be written.
    """
    import mlflow.pyfunc
    from mlflow.models import Model

    from kernelexp import serving

    data = result.setup.dataset
    (folder / _FILES).mkdir(parents=True)
    serving.save_files(
        folder / _FILES, result.model, data.preprocessing, data.classes, data.columns
    )
    package = Path(kernelexp.__file__).parent
    compiled = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, folder / _CODE / package.name, ignore=compiled)
    (folder / _REQUIREMENTS).write_text("".join(f"{name}\n" for name in _NEEDED))
    version = platform.python_version()
    (folder / _PYTHON).write_text(f"python: {version}\ndependencies:\n- -r {_REQUIREMENTS}\n")
    model = Model(signature=_signature(result))
    mlflow.pyfunc.add_to_model(
        model, loader_module=serving.__name__, data=_FILES, code=_CODE, python_env=_PYTHON
    )
    model.save(str(folder / "MLmodel"))


def _signature(result: RunResult) -> ModelSignature:
    """Inputs as they come; labels, or targets, or the outputs that are asked for."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    data = result.setup.dataset
    asked = ParamSchema([ParamSpec("outputs", DataType.boolean, False)])
    if data.columns is not None:  # MLflow would refuse whole numbers for a column of others
        return ModelSignature(params=asked)
    scaling = data.preprocessing
    classifies, one = data.n_classes is not None, data.train.Y.shape[1] == 1
    out = np.dtype(np.int64 if classifies else np.float32), (-1,) if classifies or one else (-1, -1)
    return ModelSignature(
        Schema([TensorSpec(np.dtype(scaling.dtype), (-1, *scaling.shape))]),
        Schema([TensorSpec(*out)]),
        asked,
    )


def send_model(client: MlflowClient, run_id: str, folder: Path) -> None:
    """Make the model in ``folder`` the run's; done again it changes nothing.

    Raises:
        Exception: of the store.
    """
    from mlflow.entities import LoggedModelOutput, Metric
    from mlflow.models import Model

    run = client.get_run(run_id)
    model = _begun(client, run.info.experiment_id, run_id)
    if model is None:
        model = client.create_logged_model(
            run.info.experiment_id, _NAME, source_run_id=run_id, params=run.data.params
        )
    linked = run.outputs.model_outputs if run.outputs else []
    if model.model_id not in {output.model_id for output in linked}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    if model.status == "READY":
        return
    final = [
        Metric(point.key, point.value, point.timestamp, point.step, model.model_id)
        for name in run.data.metrics
        for point in client.get_metric_history(run_id, name)
        if point.step == 0
    ]
    client.log_batch(run_id, metrics=final)
    description = Model.load(str(folder))
    description.run_id = run_id
    description.model_id = model.model_id
    description.model_uuid = model.model_id
    description.artifact_path = model.artifact_location
    description.save(str(folder / "MLmodel"))
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")


def _begun(client: MlflowClient, experiment_id: str, run_id: str) -> LoggedModel | None:
    """The run's model, whole or as far as an earlier attempt came."""
    found = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    return next((model for model in found if model.name == _NAME), None)
