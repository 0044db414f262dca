"""Data sets by name. A new one is one file here and one YAML in ``conf/dataset``."""

import sys

from kernelexp.data.base import Arrays, DatasetSource
from kernelexp.data.fingerprint import files_state
from kernelexp.data.load import Dataset, Split, load, points_digest
from kernelexp.engine.registry import discover

SOURCES: dict[str, type[DatasetSource]] = discover(sys.modules[__name__], DatasetSource)

__all__ = [
    "SOURCES",
    "Arrays",
    "Dataset",
    "DatasetSource",
    "Split",
    "files_state",
    "load",
    "points_digest",
]
