"""KernelModel: what training leaves, f(x) = sum_j alpha_j k(x, z_j)."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from kernelexp.engine.kernels import KERNELS, Kernel
from kernelexp.engine.products import kernel_matmul

_FORMAT = "kernelexp-model-1"


@dataclass(frozen=True)
class KernelModel:
    """A kernel machine with p centers and c outputs.

    Attributes:
        kernel: k.
        centers: z, (p, d).
        weights: alpha, (p, c).
    """

    kernel: Kernel
    centers: Tensor
    weights: Tensor

    def predict(self, X: Tensor) -> Tensor:
        """f(X) = K(X, Z) alpha: X (n, d) -> (n, c). Needs a few tiles of memory, not K."""
        if X.ndim != 2 or X.shape[1] != self.centers.shape[1]:
            raise ValueError(
                f"X of shape {tuple(X.shape)}: must be (n, {self.centers.shape[1]}), as in training"
            )
        return kernel_matmul(self.kernel, X.to(self.centers), self.centers, self.weights)

    def rkhs_norms(self) -> Tensor:
        """||f_c|| = sqrt(alpha_c^T K(Z, Z) alpha_c) of each output: (c,), in float64.

        Computes K(Z, Z) anew, p^2 d operations. A solver that tracks its predictions gets it free
        (``rkhs_norms_from_predictions``).
        """
        return rkhs_norms_from_predictions(self.weights, self.predict(self.centers))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write kernel, centers and weights to one file."""
        kernel = {"name": self.kernel.name, "parameters": asdict(self.kernel)}  # type: ignore[call-overload]
        tensors = {"centers": self.centers.cpu(), "weights": self.weights.cpu()}
        torch.save({"format": _FORMAT, "kernel": kernel, **tensors}, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str = "cpu") -> KernelModel:
        """Read what ``save`` wrote; only numbers are read, no code is run.

        Raises:
            ValueError: if the file is none of these.
        """
        try:
            stored = torch.load(path, map_location=device, weights_only=True)
            if stored["format"] != _FORMAT:
                raise KeyError(stored["format"])
            kernel = KERNELS[stored["kernel"]["name"]](**stored["kernel"]["parameters"])
            return cls(kernel, stored["centers"], stored["weights"])
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f"{path}: not a model saved by this version of kernelexp") from error


def predicted_labels(outputs: Tensor) -> Tensor:
    """The class of each row: the largest of c outputs, or for c = 1 whether it exceeds 1/2."""
    return outputs.argmax(1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0.5).long()


def rkhs_norms_from_predictions(weights: Tensor, predictions: Tensor) -> Tensor:
    """sqrt(alpha_c^T f_c(Z)) of each output c, given f(Z) at the centers: (p, c), (p, c) -> (c,).

    Since f(Z) = K(Z, Z) alpha this is the RKHS norm, for 2 p c operations. Summed in float64.
    """
    squares = (weights.double() * predictions.double()).sum(0)
    return squares.clamp_(min=0).sqrt_()
