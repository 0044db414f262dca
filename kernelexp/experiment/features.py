"""What a machine has learned of the coordinates: the diagonal and the largest eigenvectors of a (d, d) matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernelexp.data import Dataset
from kernelexp.experiment.mistakes import image_shape

# Eigenvectors that are kept.
_VECTORS = 5


def features(dataset: Dataset, M: Tensor | None) -> dict[str, Any]:
    """Of M (d, d), symmetric, as a file can have it; empty for None.

    ``names`` of the coordinates where they have any, ``diagonal`` (d,), the largest ``eigenvalues``, their ``eigenvectors``, (., d), and
    the ``shape`` of images.
    """
    if M is None:
        return {}
    values, vectors = torch.linalg.eigh(M)
    kept = slice(-_VECTORS, None)
    return {
        "names": None if dataset.columns is None else dataset.columns.names,
        "shape": image_shape(dataset),
        "diagonal": M.diagonal().tolist(),
        "eigenvalues": values[kept].flip(0).tolist(),
        "eigenvectors": vectors[:, kept].mT.flip(0).tolist(),
    }
