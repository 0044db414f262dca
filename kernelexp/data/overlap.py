"""Test rows of a table that are training rows too."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np

from kernelexp.data.base import Arrays

# Of rows of few whole numbers or levels many are equal by chance, as new ones will be, but their targets are not. It is
# said where this share of the test rows more than would by chance have the target of a training row that they are equal
# to, if that is nearly all of those that are equal to one, or so many would by chance for each that does.
_SHARE, _SAME, _CHANCE = 0.1, 0.98, 0.1


def warn_of_overlap(arrays: Arrays, name: str) -> None:
    """Say in one line where much of what is tested on is trained on, target and all; ``name``: of the source."""
    tested = list(zip(_digests(arrays.x_test), arrays.y_test.tolist(), strict=True))
    asked = {row for row, _ in tested}
    twins: Counter[bytes] = Counter()
    same: Counter[tuple[bytes, float]] = Counter()
    targets = arrays.y_train.tolist()
    for row, y in zip(_digests(arrays.x_train), targets, strict=True):
        if row in asked:
            twins[row] += 1
            same[row, y] += 1
    frequency, n, rows = Counter(targets), len(targets), len(tested)
    known = [(row, y) for row, y in tested if row in twins]
    agree = sum((row, y) in same for row, y in known)
    chance = sum(1 - (1 - frequency[y] / n) ** twins[row] for row, y in known)
    sure = agree >= _SAME * len(known) or chance <= _CHANCE * agree
    if sure and agree - chance > _SHARE * rows:
        warnings.warn(
            f"dataset={name}: {agree:,} of {rows:,} test rows ({agree / rows:.0%}) are equal to training rows, their target "
            "too: their scores are not those of new rows; remove repeats, or keep them on one side by "
            "dataset.group",
            UserWarning,
            stacklevel=2,
        )


def _digests(x: np.ndarray) -> Iterator[bytes]:
    """Of rows that are equal the same: -0.0 and 0.0 are one number in other bytes."""
    return (hashlib.blake2b((row + 0.0).tobytes(), digest_size=16).digest() for row in x)
