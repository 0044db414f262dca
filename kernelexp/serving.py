"""The trained model as MLflow's pyfunc flavor loads it, from inputs as they come to labels or outputs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kernelexp.data.preprocessing import Preprocessing
from kernelexp.data.ranges import check_numbers, check_type
from kernelexp.engine.model import KernelModel, predicted_labels

if TYPE_CHECKING:
    from kernelexp.data.columns import Columns

_COLUMNS = "columns.json"


class KernelPredictor:
    """Serves a KernelModel: inputs, unscaled, -> labels (m,) as they came, or targets (m, c), one target (m,).

    Inputs are an array of the training shape; of a model of a table also a pandas data frame or an Arrow table
    with its columns, in any order and beside others.

    Attributes:
        model: the kernel machine, on scaled inputs.
        preprocessing: how inputs become its points.
        classes: labels as they came; None for regression.
        columns: of a table, how rows become inputs; else None.
    """

    def __init__(self, folder: Path) -> None:
        """Read the files that ``save_files`` wrote."""
        self.model = KernelModel.load(folder / "model.pt")
        stored = torch.load(folder / "inputs.pt", weights_only=True)
        self.classes = stored.pop("classes")
        self.preprocessing = Preprocessing(**{**stored, "shape": tuple(stored["shape"])})
        self.columns: Columns | None = None
        if (folder / _COLUMNS).is_file():
            from kernelexp.data.columns import Columns

            self.columns = Columns.from_dict(json.loads((folder / _COLUMNS).read_text()))

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """Inputs (m, ...) or rows of a table -> labels (m,), or targets (m, c), of one target (m,).

        With ``params={"outputs": True}`` a classifier returns its c outputs instead of labels.

        Raises:
            ValueError: in one line, for tables without a column that is needed, or with values that do not fit, and
                for NaN, infinite numbers and such as overflow.
        """
        outputs = self.outputs(model_input)
        if self.classes is not None and not (params or {}).get("outputs"):
            return self.labels_of(outputs)
        # One target without a second axis: (m, 1) less targets (m,) would be (m, m).
        one = self.classes is None and outputs.shape[1] == 1
        return outputs[:, 0].numpy() if one else outputs.numpy()

    def labels_of(self, outputs: torch.Tensor) -> np.ndarray:
        """Outputs (m, c) of a classifier -> labels (m,) as they came."""
        labels: np.ndarray = self.labels[predicted_labels(outputs).cpu().numpy()]
        return labels

    @property
    def labels(self) -> np.ndarray:
        """What the outputs of a classifier stand for, (c,)."""
        names = None if self.columns is None else self.columns.classes
        numbers: np.ndarray = self.classes.numpy()
        return numbers if names is None else np.array(names, dtype=object)[numbers]

    def outputs(self, inputs: Any, what: str = "inputs") -> torch.Tensor:
        """Outputs f(x) at inputs, (m, c); errors as ``predict``, which begin with ``what``."""
        x, dtype = self._array(inputs, what), self.model.centers.dtype
        shape, d = self.preprocessing.shape, math.prod(self.preprocessing.shape)
        if x.dtype.kind not in "biuf" or x.shape[1:] not in (shape, (d,)) or not len(x):
            flat = f", or flat, (m, {d})" if shape != (d,) else ""
            raise ValueError(
                f"{what}: shape {x.shape}, {x.dtype}; must be numbers (m, {', '.join(map(str, shape))}){flat}, "
                "with m at least 1"
            )
        check_type(what, x)
        # As of training points: of NaN the largest output would be the first, a label like any other.
        check_numbers(what, x, torch.float64, x.size)
        X = self.preprocessing(x, dtype)
        kind = str(dtype).removeprefix("torch.")
        check_numbers(f"{what}, as the model takes them in {kind}", X.numpy(), dtype, X.shape[1])
        return self.model.answers(X, what)

    def _array(self, inputs: Any, what: str) -> np.ndarray:
        if self.columns is None or not hasattr(inputs, "columns"):
            return np.asarray(inputs)
        import pyarrow as pa

        if not isinstance(inputs, pa.Table):
            own = [column.name for column in self.columns.features]
            if set(own) <= set(inputs.columns):
                inputs = inputs[own]  # others may be anything
            try:
                inputs = pa.Table.from_pandas(inputs, preserve_index=False)
            except pa.ArrowException as error:
                raise ValueError(f"{what}: {' '.join(str(error).split())}") from error
        return self.columns.points(inputs, what)


def _load_pyfunc(path: str) -> KernelPredictor:
    """What MLflow calls to load a model whose ``loader_module`` this is."""
    return KernelPredictor(Path(path))


def save_files(
    folder: Path,
    model: KernelModel,
    preprocessing: Preprocessing,
    classes: np.ndarray | None,
    columns: Columns | None = None,
) -> None:
    """Write what ``KernelPredictor`` needs; ``classes``: the labels as they came, None: regression."""
    model.save(folder / "model.pt")
    inputs = {**asdict(preprocessing), "shape": list(preprocessing.shape)}
    labels = None if classes is None else torch.from_numpy(classes)
    torch.save({**inputs, "classes": labels}, folder / "inputs.pt")
    if columns is not None:
        (folder / _COLUMNS).write_text(json.dumps(columns.to_dict()))
