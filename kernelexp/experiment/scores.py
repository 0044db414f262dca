"""How good outputs are."""

from __future__ import annotations

from torch import Tensor

from kernelexp.data import Split
from kernelexp.engine.model import predicted_labels, r2


def scores(part: str, outputs: Tensor, split: Split) -> dict[str, float]:
    """Accuracy, or R2 for regression, the mean over targets (``engine.model.r2``), and the MSE over all of them.

    Named ``<part>_accuracy`` and so on.
    """
    squares = (outputs - split.Y).square_()
    mse = squares.mean().item()
    if split.labels is not None:
        right = predicted_labels(outputs) == split.labels
        return {f"{part}_accuracy": right.double().mean().item(), f"{part}_mse": mse}
    return {f"{part}_r2": r2(squares.mean(0).double(), split.Y).item(), f"{part}_mse": mse}
