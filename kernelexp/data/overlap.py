"""Test rows of a table that are training rows too."""

from __future__ import annotations

import warnings

from kernelexp.data.base import Arrays

# From this share of the test rows on it is said.
_SHARE = 0.1


def warn_of_overlap(arrays: Arrays, name: str) -> None:
    """Say in one line where much of what is tested on is trained on; ``name``: of the source."""
    # + 0.0: -0.0 and 0.0 are the same number in other bytes.
    tested = [(row + 0.0).tobytes() for row in arrays.x_test]
    asked = set(tested)
    both = {seen for row in arrays.x_train if (seen := (row + 0.0).tobytes()) in asked}
    known, rows = sum(row in both for row in tested), len(tested)
    if known > _SHARE * rows:
        warnings.warn(
            f"dataset={name}: {known:,} of {rows:,} test rows ({known / rows:.0%}) are equal to training rows in all columns "
            "that are predicted from: their scores are not those of new rows; remove repeats, or keep them on one side "
            "by dataset.group",
            UserWarning,
            stacklevel=2,
        )
