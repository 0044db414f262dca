"""Why there is nothing to report on: which option matched nothing, and what there is."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from kernelexp.metrics import EpochMetrics, RunMetrics, names
from kernelexp.report.captions import listed, short_id
from kernelexp.report.frames import counted
from kernelexp.report.store import SHORT, Store

# A parameter or a metric in an MLflow filter, in quotes or without.
_ASKED = re.compile(r"""\b(params?|parameters?|metrics?)\.(?:[`"]([^`"]+)[`"]|([\w./-]+))""")
_METRIC = "a metric, metrics.{}"
_METRICS = {*names(RunMetrics), *names(EpochMetrics)}
# Names or values that are listed one by one.
_MOST_LISTED = 6


def unmatched(store: Store, experiments: Sequence[str], query: str, parent: str | None) -> str:
    """One sentence on experiments (none named: all) of which filter and sweep have left no run."""
    every_name = experiments or sorted(store.experiments)
    frames = [store.runs(name, "", parent).frame for name in every_name]
    few = len(every_name) <= _MOST_LISTED
    where = ", ".join(every_name) if few else f"{len(every_name)} experiments"
    every = pd.concat([frame for frame in frames if len(frame)] or [pd.DataFrame()])
    if query and len(every):
        found = "; ".join(_values(every, kind, name) for kind, name in _asked(query))
        matches = f"matches none of {counted(len(every), 'finished run')} of {where}"
        return f"--filter {query!r}: {matches}" + (f", where {found}" if found else "")
    if parent:
        return f"--parent {short_id(parent)}: no finished job of this sweep in {where}"
    return f"{', '.join(experiments) or f'--store {store.shown}'}: no finished runs"


def misnamed(query: str) -> str:
    """What a filter asks for as a parameter and is a metric, to be added to what MLflow says of it; empty: nothing."""
    return "".join(
        f"; {name} is {_METRIC.format(name)}"
        for kind, name in _asked(query)
        if kind == "params" and name in _METRICS
    )


def _asked(query: str) -> list[tuple[str, str]]:
    """``params`` or ``metrics`` and the name, of each that a filter asks for."""
    found = _ASKED.findall(query)
    kinds = (
        ("metrics" if kind[0] == "m" else "params", quoted or name) for kind, quoted, name in found
    )
    return list(dict.fromkeys(kinds))


def _values(runs: pd.DataFrame, kind: str, name: str) -> str:
    """What a parameter or a metric is among runs."""
    settings = sorted(set().union(*runs["settings"]))
    if (name in settings or name not in SHORT) and (found := _recorded(runs, name)):
        if kind == "metrics" and name in settings:
            return f"{name} is a parameter, params.`{name}`, and is {found}"
        if kind == "params" and name in _METRICS and name not in settings:
            return f"{name} is {_METRIC.format(name)}, and is {found}"
        return f"{name} is {found}"
    # A short name of the report's, or a part of a name: no run has recorded it, so no filter matches it.
    alike = [other for other in SHORT.get(name, []) if "." in other]
    alike = alike or [other for other in settings if other.endswith(f".{name}")]
    meant = [
        f"params.`{other}`, which is {found}"
        for other in alike
        if (found := _recorded(runs, other))
    ]
    return f"no run has {name}" + (f" (did you mean {' or '.join(meant)}?)" if meant else "")


def _recorded(runs: pd.DataFrame, name: str) -> str:
    """Values that runs have recorded, settings in quotes, as a filter compares text; empty where none has."""
    texts = sorted({s[name] for s in runs["settings"] if name in s})
    if texts:
        return ", ".join(map(repr, texts[:_MOST_LISTED])) + (
            ", ..." if len(texts) > _MOST_LISTED else ""
        )
    return listed(runs[name].dropna()) if name in runs else ""
