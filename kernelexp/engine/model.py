"""KernelModel: what training leaves, f(x) = sum_j alpha_j k(x, z_j)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kernelexp.engine.gradients import agop, transformed
from kernelexp.engine.kernels import KERNELS, Kernel
from kernelexp.engine.norms import RKHSNorm, rkhs_norm
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points, check_range, row_norms
from kernelexp.engine.registry import made
from kernelexp.engine.singular import DistinctRows

_FORMAT, _VERSION = "kernelexp model", 2


@dataclass(frozen=True)
class KernelModel:
    """A kernel machine with p centers and c outputs.

    Attributes:
        kernel: k.
        centers: z, (p, d).
        weights: alpha, (p, c).
        transform: (d, e), or (d,) for a diagonal one, of points before the kernel sees them, f(x) =
            sum_j alpha_j k(x T, z_j) with centers (p, e): what a recursive feature machine has learned; None: none.
    """

    kernel: Kernel
    centers: Tensor
    weights: Tensor
    transform: Tensor | None = None

    @property
    def d(self) -> int:
        """Coordinates of a point."""
        return self.centers.shape[1] if self.transform is None else len(self.transform)

    def __repr__(self) -> str:
        (p, c), dtype = self.weights.shape, str(self.weights.dtype).removeprefix("torch.")
        return f"KernelModel({self.kernel}, p={p}, d={self.d}, c={c}, {dtype})"

    def predict(self, X: Tensor) -> Tensor:
        """f(X) = K(X, Z) alpha: X (n, d) -> (n, c). Needs a few tiles of memory, not K."""
        if X.ndim != 2 or X.shape[1] != self.d:
            raise ValueError(f"X of shape {tuple(X.shape)}: must be (n, {self.d}), as in training")
        device = self.weights.device  # centers may be on the host
        X = X.to(device, self.centers.dtype)
        points = Points.of(X if self.transform is None else transformed(X, self.transform))
        return BlockedKernel.on(self.kernel, device)(points, self._points).matmul(self.weights)

    def answers(self, X: Tensor, name: str = "X") -> Tensor:
        """``predict`` for whoever takes the outputs as they are, (n, c): points that say nothing are refused.

        Raises:
            ValueError: where X has NaN, or numbers whose squares overflow (its distance to every center would be
                infinite, and f 0), or f(X) is not finite.
        """
        X = X.to(self.centers.dtype)
        check_range(name, X, row_norms(X).max().item() if len(X) else 0.0, 1)
        outputs = self.predict(X)
        if not bool(outputs.isfinite().all()):
            raise ValueError(
                f"{name}: f is not finite at points of norms up to {row_norms(X).max().item():.2g}, where kernel "
                f"{self.kernel} overflows in {self.centers.dtype}; correct them, or train in float64"
            )
        return outputs

    @cached_property
    def _points(self) -> Points:
        """The centers as kernels take them: found out at the first prediction, known at the next."""
        return Points.of(self.centers, device=self.weights.device)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_points"}

    def agop(self, X: Tensor, centred: bool = False) -> Tensor:
        """The average gradient outer product over points X (n, d), see ``engine.gradients``: (d, d), float64."""
        return agop(self.kernel, self.centers, self.weights, X, self.transform, centred)

    def rkhs_norm(self, outputs: Tensor | None = None) -> RKHSNorm:
        """||f|| of the model and of each output; p^2 d operations.

        ``outputs``: f(Z), (p, c), by whoever has carried it along; then it costs next to nothing.
        """
        kernel = BlockedKernel.on(self.kernel, self.weights.device)
        return rkhs_norm(kernel, self.centers, self.weights, outputs)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write kernel, centers and weights to one file: a JSON header and two tensors.

        Raises:
            ValueError: for a kernel that is not of this package. Its name can be stored, its code
                cannot: keep centers and weights, and rebuild the model from them.
        """
        if (foreign := _foreign(self.kernel)) is not None:
            raise ValueError(
                f"{type(foreign).__name__}: only kernels of kernelexp can be saved "
                f"({', '.join(KERNELS)}); of others keep model.centers and model.weights"
            )
        header = {
            "format": _FORMAT,
            "version": _VERSION,
            "kernel": {"name": self.kernel.name, "parameters": self.kernel.parameters},
        }
        tensors = {"centers": _own(self.centers), "weights": _own(self.weights)}
        if self.transform is not None:
            tensors["transform"] = _own(self.transform)
        place = Path(path).resolve()
        part = place.with_name(f"{place.name}.{os.getpid()}")  # a full disk leaves what was there
        try:
            torch.save({"header": json.dumps(header), **tensors}, part)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str | torch.device = "cpu") -> KernelModel:
        """Read what ``save`` wrote; only numbers and text are read, no code is run.

        Raises:
            ValueError: if the file is cut off, foreign, or of another version.
        """
        foreign = f"{path}: not a model that kernelexp saved, or not all of one; save it again"
        try:
            with open(path, "rb") as file:  # of a path torch.load would go by the ending
                stored = torch.load(file, map_location=device, weights_only=True)
            header = json.loads(stored["header"])
            centers, weights = stored["centers"], stored["weights"]
            known = header["format"] == _FORMAT
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(foreign) from error
        if not known:
            raise ValueError(foreign)
        if header["version"] != _VERSION:
            raise ValueError(
                f"{path}: a model of format version {header['version']}; this kernelexp reads "
                f"version {_VERSION}: use the kernelexp that saved it"
            )
        named = {"name": header["kernel"]["name"], **header["kernel"]["parameters"]}
        kernel = made(f"{path}: kernel", named, KERNELS, "one of this kernelexp")
        return cls(kernel, centers, weights, stored.get("transform"))


def side_by_side(models: Sequence[KernelModel]) -> KernelModel:
    """The machine whose outputs are those of several of one kernel, one after the other.

    Its centers are theirs, each once; where a machine has not all of them its other weights are 0.

    Raises:
        ValueError: where they see points through different transforms.
    """
    first, *others = models
    weights = [model.weights for model in models]
    if any(not _equal(model.transform, first.transform) for model in others):
        raise ValueError("models of different transforms cannot be one: train them one by one")
    if all(_equal(model.centers, first.centers) for model in others):
        return replace(first, weights=torch.cat(weights, 1))
    centers = torch.cat([model.centers for model in models])
    rows, outputs = DistinctRows.of(centers), [values.shape[1] for values in weights]
    joined = first.weights.new_zeros(len(rows.first), sum(outputs))
    each = [len(model.centers) for model in models]
    groups, parts = torch.split(rows.group.to(joined.device), each), torch.split(joined, outputs, 1)
    for part, group, values in zip(parts, groups, weights, strict=True):
        part.index_add_(0, group, values)
    return replace(first, centers=centers[rows.first], weights=joined)


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b or (a is not None and b is not None and torch.equal(a, b))


def _foreign(kernel: Kernel) -> Kernel | None:
    """What of a kernel, itself or a term of it, is not of this package."""
    if type(kernel) is not KERNELS.get(getattr(kernel, "name", "")):
        return kernel
    terms = getattr(kernel, "terms", ())
    return next((found for term in terms if (found := _foreign(term)) is not None), None)


def _own(values: Tensor) -> Tensor:
    """On the CPU, in memory of its own: torch.save writes all of an array of which this is a slice."""
    values = values.cpu().contiguous()
    return values if values.untyped_storage().nbytes() == values.nbytes else values.clone()


def predicted_labels(outputs: Tensor) -> Tensor:
    """The class of each row: the largest of c outputs, or for c = 1 whether it exceeds 1/2."""
    return outputs.argmax(1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0.5).long()


def r2(mse: Tensor, Y: Tensor) -> Tensor:
    """R2 from the mean square errors (..., c) of predictions of targets Y (n, c): (...,), float64.

    1 - sum (y - f)^2 / sum (y - mean y)^2 of each target, and the mean over targets, as scikit-learn's r2_score: the
    unit of a target does not matter. Of one that is the same everywhere it is 1 where f is exact, else 0.
    """
    spread = (Y - Y.mean(0)).square_().mean(0).double()
    constant = (Y[:1] == Y).all(0)  # their mean is rounded
    each = torch.where(constant, (mse == 0).double(), 1 - mse / spread)
    return each.mean(-1)
