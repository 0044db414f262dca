"""How good outputs are."""

from __future__ import annotations

from torch import Tensor

from kernelexp.data import Split
from kernelexp.engine.model import predicted_labels


def scores(part: str, outputs: Tensor, split: Split) -> dict[str, float]:
    """Accuracy, or R2 = 1 - sum |y - f|^2 / sum |y - mean y|^2 for regression, and the MSE.

    Named ``<part>_accuracy`` and so on. Of targets that are all the same R2 is 1 where f is exact, else
    0, as in scikit-learn.
    """
    mse = (outputs - split.Y).square_().mean().item()
    if split.labels is not None:
        right = predicted_labels(outputs) == split.labels
        return {f"{part}_accuracy": right.double().mean().item(), f"{part}_mse": mse}
    spread = (split.Y - split.Y.mean(0)).square_().mean().item()
    r2 = 1 - mse / spread if spread else float(mse == 0)
    return {f"{part}_r2": r2, f"{part}_mse": mse}
