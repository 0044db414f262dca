"""The trained model as MLflow's pyfunc flavor loads it, from inputs as they come to labels or outputs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kernelexp.data.preprocessing import Preprocessing
from kernelexp.engine.model import KernelModel, predicted_labels


class KernelPredictor:
    """Serves a KernelModel: an array of inputs, unscaled, -> labels (m,) as they came, or targets (m, c).

    With ``params={"outputs": True}`` a classifier returns its c outputs instead of labels.
    """

    def __init__(self, folder: Path) -> None:
        """Read the files that ``save_files`` wrote."""
        self.model = KernelModel.load(folder / "model.pt")
        stored = torch.load(folder / "inputs.pt", weights_only=True)
        self.classes = stored.pop("classes")
        self.preprocessing = Preprocessing(**{**stored, "shape": tuple(stored["shape"])})

    def predict(self, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """Inputs (m, ...) of the training shape -> labels (m,) or outputs (m, c)."""
        X = self.preprocessing(np.asarray(model_input), self.model.centers.dtype)
        outputs = self.model.predict(X)
        if self.classes is not None and not (params or {}).get("outputs"):
            labels: np.ndarray = self.classes[predicted_labels(outputs)].numpy()
            return labels
        return outputs.numpy()


def _load_pyfunc(path: str) -> KernelPredictor:
    """What MLflow calls to load a model whose ``loader_module`` this is."""
    return KernelPredictor(Path(path))


def save_files(
    folder: Path, model: KernelModel, preprocessing: Preprocessing, classes: np.ndarray | None
) -> None:
    """Write what ``KernelPredictor`` needs; ``classes``: the labels as they came, None: regression."""
    model.save(folder / "model.pt")
    inputs = {**asdict(preprocessing), "shape": list(preprocessing.shape)}
    labels = None if classes is None else torch.from_numpy(classes)
    torch.save({**inputs, "classes": labels}, folder / "inputs.pt")
