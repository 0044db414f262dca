"""Two runs, or the runs of two commits, side by side: what differs in settings, and in what came out."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import pandas as pd

from kernelexp.metrics import RUN, RunMetrics, names
from kernelexp.report import captions
from kernelexp.report.frames import counted
from kernelexp.report.store import Store

# What two commits are compared by.
_BY = (
    RUN.test_accuracy, RUN.test_r2, RUN.valid_accuracy, RUN.valid_r2, RUN.rkhs_norm, RUN.m_star,
    RUN.train_seconds, RUN.peak_memory_gb,
)  # fmt: skip
_OF_RUN = ("experiment", "kernel", "dataset", "solver", "n", "seed")
_ALSO = ("commit", "device_name", "stopped_by", "warning")


@dataclass(frozen=True)
class SideBySide:
    """Tables of a comparison.

    Attributes:
        title: what is compared.
        tables: heading, and the table below it; of one without rows ``notes`` say why.
        runs: all that were compared, see ``store.Runs.frame``.
        notes: what was left out.
    """

    title: str
    tables: list[tuple[str, pd.DataFrame]]
    runs: pd.DataFrame
    notes: list[str]


def side_by_side(store: Store, first: str, second: str) -> SideBySide:
    """Compare; each is the start of a run's id or its name, or else the start of a commit.

    Raises:
        ValueError: where there is no such run and no run of such a commit, or several runs.
    """
    runs = [_run(store, text) for text in (first, second)]
    if runs[0] is not None and runs[1] is not None:
        if runs[0]["run"].item() == runs[1]["run"].item():
            raise ValueError(
                f"--compare {first} {second}: both are run {runs[0]['run'].item()[:8]}"
            )
        return _of_runs(runs[0], runs[1])
    found = [
        _of_commit(store, text) if run is None else run
        for text, run in zip((first, second), runs, strict=True)
    ]
    if any(run is not None for run in runs):
        raise ValueError(
            f"--compare {first} {second}: must be two runs or two commits, not one of each"
        )
    if set(found[0]["run"]) & set(found[1]["run"]):
        one = captions.commits(found[0])
        raise ValueError(f"--compare {first} {second}: both are commit {one}; give two that differ")
    return _of_commits(first, second, *found)


def _everywhere(store: Store, query: str) -> pd.DataFrame:
    frames = [store.runs(name, query).frame for name in sorted(store.experiments)]
    frames = [frame for frame in frames if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _run(store: Store, text: str) -> pd.DataFrame | None:
    plain = text.replace("'", "")
    for query in (f"attributes.run_id LIKE '{plain}%'", f"attributes.run_name = '{plain}'"):
        found = _everywhere(store, query)
        if len(found) > 1:
            ids = captions.listed(captions.short_id(run) for run in found["run"])
            raise ValueError(
                f"--compare {text}: there are several such runs, {ids}; give the start of an id"
            )
        if len(found):
            return found
    return None


def _of_commit(store: Store, text: str) -> pd.DataFrame:
    found = pd.DataFrame()
    if re.fullmatch("[0-9a-f]{4,40}", text):
        found = _everywhere(store, f"tags.`git.commit` LIKE '{text}%'")
    if found.empty:
        raise ValueError(
            f"--compare {text}: must be the start of a finished run's id, its name, or the start of a commit "
            "(4 digits or more) that such runs were made by"
        )
    return found


def _of_runs(first: pd.DataFrame, second: pd.DataFrame) -> SideBySide:
    both = pd.concat([first, second], ignore_index=True)
    a, b = (f"{captions.short_id(run)}" for run in both["run"])
    (_, one), (_, other) = both.iterrows()
    settings = sorted({*one["settings"], *other["settings"]})
    differ = [
        (key, one["settings"].get(key, ""), other["settings"].get(key, ""))
        for key in settings
        if captions.differ([own["settings"].get(key, "") for own in (one, other)])
    ]
    differ += [
        (k, one.get(k), other.get(k))
        for k in ("seed", *_ALSO)
        if _text(one.get(k)) != _text(other.get(k))
    ]
    results = [
        (name, float(one[name]), float(other[name]))
        for name in names(RunMetrics)
        if name in both and both[name].notna().all()
    ]
    table = pd.DataFrame(results, columns=["result", a, b])
    table["difference"] = table[b] - table[a]
    table["ratio"] = table[b] / table[a].where(table[a] != 0)
    what = pd.DataFrame([(k, _text(x), _text(y)) for k, x, y in differ], columns=["setting", a, b])
    return SideBySide(
        f"Runs {a} and {b}",
        [("What differs", what), ("What came out", table)],
        both,
        _nothing(what, table),
    )


def _nothing(what: pd.DataFrame, results: pd.DataFrame) -> list[str]:
    """A sentence where two runs differ in no setting, in no result, or have no result in common."""
    settings = "" if len(what) else "the same settings, seed, commit and device"
    if results.empty:
        came_out = "no result in common"
    else:
        same = results.iloc[:, 1].eq(results.iloc[:, 2]).all()
        came_out = "the same results" if same else ""
    said = " and ".join(part for part in (settings, came_out) if part)
    return [f"the two runs have {said}"] if said else []


def _text(value: object) -> str:
    return "" if value is None or (isinstance(value, float) and pd.isna(value)) else str(value)


def _of_commits(a: str, b: str, first: pd.DataFrame, second: pd.DataFrame) -> SideBySide:
    def keyed(frame: pd.DataFrame) -> pd.DataFrame:
        same = [
            json.dumps([experiment, settings, str(seed)], sort_keys=True)
            for experiment, settings, seed in zip(
                frame["experiment"], frame["settings"], frame["seed"], strict=True
            )
        ]
        return frame.assign(same=same).drop_duplicates("same")

    one, other = keyed(first), keyed(second)
    pairs = one.merge(other, on="same", suffixes=(f" {a}", f" {b}"))
    if pairs.empty:
        raise ValueError(f"--compare {a} {b}: no configuration was run by both commits")
    table = pd.DataFrame({name: pairs[f"{name} {a}"] for name in _OF_RUN if f"{name} {a}" in pairs})
    for name in _BY:
        columns = [f"{name} {a}", f"{name} {b}"]
        if all(c in pairs and pairs[c].notna().any() for c in columns):
            table[columns] = pairs[columns]
            table[f"{name} ratio"] = pairs[columns[1]] / pairs[columns[0]].where(
                pairs[columns[0]] != 0
            )
    alone = len(one) + len(other) - 2 * len(pairs)
    notes = (
        [f"{counted(alone, 'run')} of configurations that one of the commits ran alone; left out"]
        if alone
        else []
    )
    machines = [captions.devices(frame) for frame in (one, other)]
    if machines[0] != machines[1]:
        notes.append(f"the machines differ ({machines[0]}; {machines[1]}): seconds do not compare")
    return SideBySide(
        f"Commits {a} and {b}",
        [("Same settings", table)],
        pd.concat([one, other], ignore_index=True),
        notes,
    )
