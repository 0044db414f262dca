"""A table of people, as a user may have it; its fixtures are ``frame`` and ``table``."""

import numpy as np
import pandas as pd
import torch

from kernelexp.data import SOURCES, load

N = 120


def people():
    rng = np.random.default_rng(0)
    made = pd.DataFrame({
        "age": rng.integers(18, 90, N),
        "city": rng.choice(["Oslo", "Rome", "Ulm"], N),
        "member": rng.random(N) < 0.3,
        "income": rng.lognormal(10, 1, N),
        "patient": rng.integers(0, 25, N),
        "when": pd.date_range("2020-01-01", periods=N),
    })  # fmt: skip
    made["left"] = np.where((made.age > 50) ^ (made.city == "Rome"), "yes", "no")
    return made.sample(frac=1, random_state=0, ignore_index=True)


def table_of(path, target="left", drop=("when",), **options):
    return SOURCES["table"](path=str(path), target=target, drop=list(drop), **options)


def loaded(source, **options):
    return load(source, None, dtype=torch.float64, **options)
