"""What a machine has learned of the coordinates: of the matrix of its kernel the diagonal, the largest eigenvectors, and all of it if it is small."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernelexp.data import Dataset
from kernelexp.experiment.mistakes import image_shape
from kernelexp.metrics import RUN

# Eigenvectors that are kept, and coordinates up to which the matrix is, of numbers with so many digits.
_VECTORS, _WHOLE, _DIGITS = 5, 256, 6


def features(dataset: Dataset, T: Tensor | None) -> dict[str, Any]:
    """Of M = T T^T, of a kernel that sees x T, as a file can have it; empty for None, where M is 1.

    ``names`` of the coordinates where they have any, the ``shape`` of images, ``diagonal`` (d,), the largest ``eigenvalues``, their
    ``eigenvectors``, (., d), and ``matrix``, M to six digits, where d is at most 256, else None. Of T (d,) M is its diagonal, and
    the others are empty.
    """
    if T is None:
        return {}
    found = {
        "names": None if dataset.columns is None else dataset.columns.names,
        "shape": image_shape(dataset),
        "diagonal": T.double().square().reshape(len(T), -1).sum(1).tolist(),
    }
    if T.ndim == 1:
        return {**found, "eigenvalues": [], "eigenvectors": [], "matrix": None}
    M = T.double() @ T.double().mT
    values, vectors = torch.linalg.eigh(M)
    kept = slice(-_VECTORS, None)
    return {
        **found,
        "eigenvalues": values[kept].flip(0).tolist(),
        "eigenvectors": vectors[:, kept].mT.flip(0).tolist(),
        "matrix": _rounded(M) if len(M) <= _WHOLE else None,
    }


def subspace_error(dataset: Dataset, M: Tensor | None) -> dict[str, float]:
    """The sine of the largest angle between the first r eigenvectors of M and the r directions of the data.

    |(1 - V V^T) U|_2 for orthonormal V, U (d, r), which is exact for small angles. Of a diagonal M, (d,), eigenvectors are
    coordinates. Empty where either is not known.
    """
    if M is None or dataset.subspace is None:
        return {}
    U = torch.from_numpy(dataset.subspace).to(M)
    r = U.shape[1]
    if M.ndim == 1:
        V = torch.nn.functional.one_hot(M.topk(r).indices, len(M)).mT.to(U)
    else:
        V = torch.linalg.eigh(M)[1][:, -r:]
    return {RUN.subspace_error: torch.linalg.matrix_norm(U - V @ (V.mT @ U), 2).item()}


def _rounded(M: Tensor) -> list[list[float]]:
    return [[float(f"{value:.{_DIGITS}g}") for value in row] for row in M.tolist()]
