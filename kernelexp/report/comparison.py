"""The table of all runs: kernel, data set, solver and what came out, one row for equal settings."""

from __future__ import annotations

import json
import math

import pandas as pd

from kernelexp.metrics import RUN
from kernelexp.report.captions import varied

_KEYS = ["experiment", "kernel", "bandwidth", "dataset", "n", "noise", "solver", "p"]
_SCORES = {
    RUN.valid_accuracy: "valid %",
    RUN.valid_r2: "valid R2",
    RUN.cv_accuracy: "folds %",
    RUN.cv_r2: "folds R2",
    RUN.loo_accuracy: "leave-one-out %",
    RUN.loo_r2: "leave-one-out R2",
    RUN.test_accuracy: "test %",
    RUN.test_r2: "test R2",
    RUN.rkhs_norm: "norm",
    RUN.rkhs_norm_error: "norm error",
}
_VALUES = {
    RUN.m_star: "m*",
    RUN.m_star_adapted: "adapted m*",
    RUN.batch_size: "batch",
    RUN.epochs: "epochs",
    RUN.ridge: "chosen ridge",
    RUN.setup_seconds: "set-up s",
    RUN.train_seconds: "training s",
    RUN.train_accuracy: "train %",
    **_SCORES,
}
_OF_RUNS = ["seed", "device_name", "commit", "run", "warning", "settings"]
# The longest text of a cell on the page.
_LONGEST = 300
_SHOWN = {
    "kernel.name", "kernel.bandwidth", "dataset.name", "dataset.n_train", "noise", "solver.name",
    "solver.n_centers",
}  # fmt: skip


def comparison(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over the runs that differ in the seed alone.

    Columns: ``_KEYS``; ``also``, the settings that vary beside them; ``_VALUES``;
    ``seeds``; ``device_name``, ``commit`` and ``runs`` (short ids); ``warning``, why a system is not
    solved.
    """
    # Of hundreds of columns, where runs are of several presets, what the table has, put together at once.
    values = runs.reindex(columns=list(_VALUES)).apply(pd.to_numeric, errors="coerce")
    runs = pd.concat([runs.reindex(columns=[*_KEYS, *_OF_RUNS]), values], axis=1)
    also = pd.Series("", runs.index)
    for _, own in runs.groupby("experiment"):
        # What varies with the kernel or the solver alone need not be said again.
        alike = own.groupby(["kernel", "dataset", "solver"], dropna=False)
        others = sorted(set().union(*(varied(group) for _, group in alike)) - _SHOWN)
        also[own.index] = [
            " ".join(f"{name}={settings[name]}" for name in others if name in settings)
            for settings in own["settings"]
        ]
    # Runs that say nothing of their settings are not known to be equal.
    texts = [json.dumps(own, sort_keys=True) if own else "" for own in runs["settings"]]
    same = [text or run for text, run in zip(texts, runs["run"], strict=True)]
    runs = runs.assign(also=also, same=same)
    keys = [*_KEYS, "also"]
    grouped = runs.groupby([*keys, "same"], dropna=False, sort=True)
    table = grouped[list(_VALUES)].mean()
    table["seeds"] = grouped["seed"].nunique()
    table["device_name"] = grouped["device_name"].agg(
        lambda names: ", ".join(sorted(set(names.dropna())))
    )
    table["commit"] = grouped["commit"].agg(
        lambda ids: " ".join(sorted({i[:7] for i in ids.dropna()}))
    )
    table["runs"] = grouped["run"].agg(lambda ids: " ".join(sorted(i[:8] for i in ids)))
    table["warning"] = grouped["warning"].agg(lambda texts: " ".join(sorted(set(texts.dropna()))))
    return table.reset_index().drop(columns="same")


def readable(table: pd.DataFrame) -> tuple[str, list[str], list[list[str]]]:
    """What all rows of a page's table share, its header and its rows, scores first.

    A row with a warning of the solver begins with a dagger and ends with the reason.
    """
    settings = {"kernel": "kernel", "dataset": "dataset", "solver": "solver", "bandwidth": "s", "n": "n",
                "noise": "noise", "p": "p", "also": "also"}  # fmt: skip
    table = table.assign(
        mark=table["warning"].map(lambda text: "\u2020" if text else ""),
        # A run of another program has nothing else to be known by.
        kernel=table["kernel"].where(table["kernel"].notna(), "run " + table["runs"]),
    )
    columns = {"mark": "", **_SCORES, **settings, **_VALUES, "seeds": "seeds", "warning": "warning"}
    filled = [c for c in columns if table[c].replace("", None).notna().any()]
    same = [
        c
        for c in settings
        if c in filled and len(table) > 1 and (table[c] == table[c].iloc[0]).all()
    ]
    shared = "; ".join(f"{settings[c]} {_cell(c, table[c].iloc[0])}" for c in same)
    kept = [c for c in filled if c not in same]
    rows = [[_cell(name, value) for name, value in zip(kept, row, strict=True)]
            for row in table[kept].itertuples(index=False)]  # fmt: skip
    return shared, [columns[c] for c in kept], rows


def _cell(name: str, value: object) -> str:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}\u2026"
    number = float(value) if value is not None else float("nan")  # type: ignore[arg-type]
    if pd.isna(number):
        return ""
    if name.endswith("_accuracy"):
        return f"{100 * number:.2f}"
    if name == RUN.rkhs_norm_error:
        return "?" if math.isinf(number) else f"{number:.1g}"
    if 1e3 <= abs(number) < 1e9 or (number.is_integer() and abs(number) < 1e3):
        return f"{number:,.0f}"
    return f"{number:.4g}" if name == RUN.rkhs_norm else f"{number:.3g}"
