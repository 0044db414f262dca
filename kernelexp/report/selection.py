"""The runs that were asked for, by experiment, and what is to be said of those that are not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from kernelexp.report import captions
from kernelexp.report.frames import counted
from kernelexp.report.store import Store
from kernelexp.report.unmatched import misnamed, unmatched


@dataclass(frozen=True)
class Selected:
    """Runs that were found.

    Attributes:
        frames: by experiment, see ``store.Runs.frame``; experiments without runs are left out.
        notes: what is missing or marked, a line each.
    """

    frames: dict[str, pd.DataFrame]
    notes: list[str]


class Selection:
    """Experiments (none named: all), perhaps the jobs of one sweep alone, perhaps filtered.

    Raises:
        ValueError: where no sweep has such a run id, or several have.
    """

    def __init__(
        self, store: Store, experiments: Sequence[str], parent: str | None, query: str
    ) -> None:
        """``parent``: the beginning of a sweep's run id; ``query``: an MLflow filter."""
        self.store, self.query = store, query
        self.parent: str | None = None
        if parent is not None:
            self.parent, its_own = store.parent(parent)
            experiments = experiments or [its_own]
        self.by_name = bool(experiments)
        self.names = list(dict.fromkeys(experiments or sorted(store.experiments)))

    def read(self) -> Selected:
        """The runs; an experiment without any is noted if it was asked for by name, or none has any.

        Raises:
            ValueError: for a filter that MLflow refuses.
        """
        frames: dict[str, pd.DataFrame] = {}
        notes: list[str] = []
        for name in self.names:
            frame, said = self._experiment(name)
            notes += said
            if len(frame):
                frames[name] = frame
        if not frames and not self.by_name:
            notes.append(unmatched(self.store, [], self.query, self.parent))
        return Selected(frames, notes)

    def _experiment(self, name: str) -> tuple[pd.DataFrame, list[str]]:
        try:
            runs = self.store.runs(name, self.query, self.parent)
        except ValueError as error:
            if "--filter" in str(error):
                raise ValueError(f"{error}{misnamed(self.query)}") from error
            return pd.DataFrame(), [str(error)]
        notes = []
        if runs.unfinished:
            notes.append(
                f"{name}: {counted(runs.unfinished, 'run')} failed or not finished; left out"
            )
        if len(runs.frame):
            warning = captions.unsolved(runs.frame)
            notes += [f"{name}: {warning}"] if warning else []
        elif self.by_name:
            notes.append(unmatched(self.store, [name], self.query, self.parent))
        return runs.frame, notes
