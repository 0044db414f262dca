"""The table of all runs: kernel, data set, solver and what came out, one row for equal settings."""

from __future__ import annotations

import json

import pandas as pd

from kernelexp.report.captions import varied

_KEYS = ["experiment", "kernel", "bandwidth", "dataset", "n", "noise", "solver", "p"]
_VALUES = {
    "m_star": "m*",
    "m_star_adapted": "adapted m*",
    "batch_size": "batch",
    "epochs": "epochs",
    "setup_seconds": "set-up s",
    "train_seconds": "training s",
    "train_accuracy": "train %",
    "test_accuracy": "test %",
    "test_r2": "test R2",
    "rkhs_norm": "norm",
    "rkhs_norm_error": "norm error",
}
_SHOWN = {
    "kernel.name", "kernel.bandwidth", "dataset.name", "dataset.n_train", "noise", "solver.name",
    "solver.n_centers",
}  # fmt: skip


def comparison(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over the runs that differ in the seed alone.

    Columns: ``_KEYS``; ``also``, the settings that vary beside them; ``_VALUES``;
    ``seeds``; ``device_name``, ``commit`` and ``runs`` (short ids).
    """
    runs = runs.reindex(columns=list(dict.fromkeys([*runs.columns, *_KEYS, *_VALUES, "seed"])))
    also = pd.Series("", runs.index)
    for _, own in runs.groupby("experiment"):
        # What varies with the kernel or the solver alone need not be said again.
        alike = own.groupby(["kernel", "dataset", "solver"], dropna=False)
        others = sorted(set().union(*(varied(group) for _, group in alike)) - _SHOWN)
        also[own.index] = [
            " ".join(f"{name}={settings[name]}" for name in others if name in settings)
            for settings in own["settings"]
        ]
    runs = runs.assign(also=also, same=[json.dumps(s, sort_keys=True) for s in runs["settings"]])
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
    return table.reset_index().drop(columns="same")


def readable(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Header and rows for the page, without columns that are empty or the same throughout a page."""
    columns = {"kernel": "kernel", "bandwidth": "s", "dataset": "dataset", "n": "n", "noise": "noise",
               "solver": "solver", "p": "p", "also": "also", **_VALUES, "seeds": "seeds"}  # fmt: skip
    kept = [c for c in columns if table[c].replace("", None).notna().any()]
    rows = [[_cell(name, value) for name, value in zip(kept, row, strict=True)]
            for row in table[kept].itertuples(index=False)]  # fmt: skip
    return [columns[c] for c in kept], rows


def _cell(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    number = float(value) if value is not None else float("nan")  # type: ignore[arg-type]
    if pd.isna(number):
        return ""
    if name.endswith("_accuracy"):
        return f"{100 * number:.2f}"
    if name == "rkhs_norm_error":
        return f"{number:.1g}"
    if abs(number) >= 1000 or number == int(number):
        return f"{number:,.0f}"
    return f"{number:.4g}" if name == "rkhs_norm" else f"{number:.3g}"
