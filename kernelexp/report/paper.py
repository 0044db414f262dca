"""The points of the papers' figures and tables, kept as CSV beside the code of our figures."""

from __future__ import annotations

from importlib import resources

import pandas as pd

FOLDER = resources.files("kernelexp.report") / "figures"


def points(name: str) -> pd.DataFrame:
    """``figures/NAME.csv``: columns of our figure's table, ``source`` and ``read`` (how it was read).

    Lines that start with ``#`` say where the points are from.
    """
    with (FOLDER / f"{name}.csv").open() as file:
        return pd.read_csv(file, comment="#")
