"""What a noise level means: how training labels are corrupted, one function a kind, and targets.

Each takes the labels (n,) that were picked for corruption and returns their replacements. Labels are
picked independently with probability ``noise``; the same seed at a higher level corrupts the same
labels and more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kernelexp.engine.checks import number, one_of


def uniform(labels: np.ndarray, n_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Any class, the right one included; Belkin, Ma, Mandal 2018."""
    return rng.integers(0, n_classes, len(labels))


def flip(labels: np.ndarray, n_classes: int, rng: np.random.Generator) -> np.ndarray:
    """One of the other classes."""
    return (labels + rng.integers(1, n_classes, len(labels))) % n_classes


def pair(labels: np.ndarray, n_classes: int, rng: np.random.Generator) -> np.ndarray:
    """The next class."""
    return (labels + 1) % n_classes


KINDS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "uniform": uniform,
    "flip": flip,
    "pair": pair,
}


def corrupt(
    labels: np.ndarray, n_classes: int, noise: float, kind: str, rng: np.random.Generator
) -> np.ndarray:
    """Labels (n,) with each replaced with probability ``noise``.

    Raises:
        ValueError: for a noise level outside [0, 1] or an unknown kind.
    """
    number("noise", noise, 0, 1)
    one_of("label_noise", kind, KINDS)
    picked = rng.random(len(labels)) < noise
    replacements = KINDS[kind](labels, n_classes, rng)
    return np.where(picked, replacements, labels)


def disturb(targets: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Targets (n,) or (n, c) plus Gaussian noise, of ``noise``, 0 or more, times the standard deviation of each output.

    The same seed at a higher level adds more of the same.
    """
    if not noise:
        return targets
    spread = noise * targets.std(axis=0, dtype=np.float64)
    noisy: np.ndarray = targets + spread * rng.standard_normal(targets.shape)
    return noisy
