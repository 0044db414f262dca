"""What a model gets wrong on the test points: confused classes with pictures of them, or residuals."""

from __future__ import annotations

import base64
from typing import Any

import torch
from torch import Tensor

from kernelexp.data import Dataset
from kernelexp.engine.model import predicted_labels

# The pairs of classes that are confused most, and of each so many inputs where they are images; residuals
# of so many test points at most.
_PAIRS, _IMAGES, _POINTS = 6, 5, 2000


def mistakes(dataset: Dataset, outputs: Tensor) -> dict[str, Any]:
    """Of outputs (m, c) on the test points, as a file can have it.

    For classes ``classes``: their names; ``counts``: [true, predicted, how often], by their places, of all pairs that
    occur; ``pairs``: those of them that are wrong, the most frequent first, each with ``images``, bytes in base64, of
    ``shape``. For regression ``targets`` and ``outputs``, of up to 2,000 points, evenly spaced.
    """
    test = dataset.test
    if test.labels is None:
        step = -(-len(test.Y) // _POINTS)
        kept = {"targets": test.Y[::step], "outputs": outputs[::step]}
        return {name: values.double().cpu().tolist() for name, values in kept.items()}
    assert dataset.classes is not None
    names = None if dataset.columns is None else dataset.columns.classes
    predicted = predicted_labels(outputs)
    size = len(dataset.classes)
    counts = (test.labels * size + predicted).bincount(minlength=size**2).reshape(size, size)
    found = [[int(t), int(p), int(counts[t, p])] for t, p in counts.nonzero()]
    wrong = sorted((row for row in found if row[0] != row[1]), key=lambda row: -row[2])
    shape = image_shape(dataset)
    shown = []
    for true, other, count in wrong[:_PAIRS]:
        rows = ((test.labels == true) & (predicted == other)).nonzero().flatten()[:_IMAGES]
        images = [] if shape is None else [_bytes(x) for x in test.X[rows].cpu()]
        shown.append({"true": true, "predicted": other, "count": count, "images": images})
    classes = [str(name) for name in (dataset.classes if names is None else names)]
    return {"classes": classes, "counts": found, "pairs": shown, "shape": shape}


def image_shape(dataset: Dataset) -> list[int] | None:
    """Height, width and, of colours, 3; None where inputs are no images."""
    shape = list(dataset.preprocessing.shape)
    if dataset.preprocessing.grayscale:
        shape = shape[:2]
    return shape if len(shape) == 2 or (len(shape) == 3 and shape[2] == 3) else None


def _bytes(x: Tensor) -> str:
    """Numbers (d,) from their least to their largest as bytes, in base64."""
    low, high = x.min(), x.max()
    scaled = (x - low) * (255 / (high - low).clamp(min=1e-30))
    return base64.b64encode(scaled.round().to(torch.uint8).numpy().tobytes()).decode()
