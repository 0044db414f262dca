"""Hands a run's entries to the store, so that each has its effect once however often it is handed over.

A request whose reply was lost may have been carried out. Runs and models are found again by what is
known of them before; metrics that are there with their step and time are left out, since stores of
files would keep both; the rest replaces itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kernelexp.liveness import HEARTBEAT_TAG, PROCESS_TAG, sign
from kernelexp.metrics import last_attempt
from kernelexp.resume import PARENT_TAG, linked
from kernelexp.store.entries import (
    Begin,
    Created,
    End,
    Entry,
    Input,
    Metrics,
    Model,
    Params,
    SweepEnd,
    Tags,
    Text,
)
from kernelexp.store.models import send_model

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KEY_TAG, RESUMED_TAG, ERROR_TAG = "kernelexp.run", "resumed", "error"
_RESUMPTION_TAG = "kernelexp.resumption"
# Metrics that MLflow takes in one request are 1,000.
MOST_METRICS = 500


# What MLflow says of an entry of a run, or experiment, that is not there any more.
_GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class Delivery:
    """One run's way into the store.

    Attributes:
        run_id: of the run, None until the store has it.
        uncertain: whether an entry may be there already; then it is looked for first.
        living: key of the ``Begin`` of a process that is alive, which takes its run whatever clocks of others say.
    """

    def __init__(
        self,
        client: MlflowClient,
        say: Callable[[str], None],
        uncertain: bool = False,
        living: str | None = None,
    ) -> None:
        """``say``: is told in a line what a person should know."""
        self.client = client
        self.say = say
        self.uncertain, self.living = uncertain, living
        self.run_id: str | None = None
        self._process = ""
        self._continued = False
        # Of each metric the (step, time) that the store has; filled when they are looked for.
        self._times: dict[str, set[tuple[int, int]]] = {}
        # The steps of each metric that a former process recorded.
        self._former: dict[str, set[int]] = {}
        self._last_step = 0

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Hand over one entry, or several of the same kind that go in one request.

        Raises:
            Exception: of the store; the entries are to be handed over again.
        """
        try:
            first = entries[0]
            if isinstance(first, Metrics):
                self._metrics([entry for entry in entries if isinstance(entry, Metrics)])
            else:
                for entry in entries:
                    self._one(entry)
        except Exception:
            self.uncertain = True
            self._times.clear()
            raise

    @property
    def run(self) -> str:
        """The run's id."""
        assert self.run_id is not None
        return self.run_id

    @property
    def held_elsewhere(self) -> bool:
        """Whether another process has gone on with the run, to whom its end belongs."""
        tags: dict[str, str] = self.client.get_run(self.run).data.tags
        return tags.get(PROCESS_TAG, self._process) != self._process

    def _one(self, entry: Entry) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

        match entry:
            case Begin():
                self._begin(entry)
            case Params(values):
                if self.uncertain or self._continued:
                    known = self.client.get_run(self.run).data.params
                    values = {key: value for key, value in values.items() if key not in known}
                params = [Param(key, value) for key, value in values.items()]
                self.client.log_batch(self.run, params=params)
            case Tags(values):
                tags = [RunTag(key, value) for key, value in values.items()]
                self.client.log_batch(self.run, tags=tags)
            case Text(name, text):
                known = self.client.list_artifacts(self.run) if self._continued else []
                if name not in {file.path for file in known}:
                    self.client.log_text(self.run, text, name)
            case Input(name, digest, source):
                used = Dataset(name, digest, "kernelexp", source)
                tags = [InputTag("mlflow.data.context", "training")]
                self.client.log_inputs(self.run, [DatasetInput(used, tags)])
            case Model(folder):
                send_model(self.client, self.run, Path(folder))
            case End(status, time):
                if not (self.uncertain and self.held_elsewhere):
                    self.client.set_terminated(self.run, status, time)
            case Created() | SweepEnd() | Metrics():
                pass

    def _begin(self, begin: Begin) -> None:
        from mlflow.tracking.context.registry import resolve_tags

        self._process = begin.tags.get(PROCESS_TAG, "")
        experiment = self.client.get_experiment_by_name(begin.experiment)
        run = self._known_run(begin, experiment.experiment_id)
        if run is None and begin.run_id is not None:
            self.say(f"run {begin.run_id} is no longer in the store; what follows is a new run")
            if self.run_id is not None:  # made for what its former process left
                run = self.client.get_run(self.run)
        if run is not None:
            self.run_id = str(run.info.run_id)
            if begin.run_id is not None:
                self._go_on(run, begin)
            return
        self.run_id = self.client.create_run(
            experiment.experiment_id,
            begin.time,
            resolve_tags({**begin.tags, KEY_TAG: begin.key}),
            begin.name,
        ).info.run_id

    def _known_run(self, begin: Begin, experiment_id: str) -> Run | None:
        """The run, where it may be there already; not one that was deleted."""
        from mlflow.exceptions import MlflowException

        keys = [begin.key] if self.uncertain or begin.run_id is not None else []
        if begin.run_id is not None:
            keys.append(begin.run_id)
            try:
                run = self.client.get_run(begin.run_id)
                if run.info.lifecycle_stage == "active":
                    return run
            except MlflowException as error:
                if error.error_code not in _GONE:
                    raise
        for key in keys:
            if found := self.client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'"):
                return found[0]
        return None

    def _go_on(self, run: Run, begin: Begin) -> None:
        """This process has the run from here on."""
        from mlflow.entities import RunTag

        tags, parent = run.data.tags, begin.tags.get(PARENT_TAG)
        self._continued, self._last_step = True, 0
        self._former = {
            name: set(last_attempt(self.client.get_metric_history(self.run, name)))
            for name in run.data.metrics
        }
        last, this = tags.get(_RESUMPTION_TAG, ""), f"{begin.time} {begin.key}"
        later = last > this or (run.info.end_time or 0) > begin.time
        if later and begin.key != self.living:
            return  # what is handed over is older than the last process that had the run
        if last != this:  # else it was done, and the reply lost
            changed = {
                PROCESS_TAG: self._process,
                HEARTBEAT_TAG: sign(),
                RESUMED_TAG: str(_count(tags) + 1),
                _RESUMPTION_TAG: this,
            }
            if parent is not None and tags.get(PARENT_TAG) != parent:
                changed |= linked(tags, parent)
            # The process first: a run that is held is not ended by others.
            self.client.log_batch(self.run, tags=[RunTag(k, v) for k, v in changed.items()])
        if ERROR_TAG in tags:
            self.client.delete_tag(self.run, ERROR_TAG)
        if run.info.status != "RUNNING":
            self.client.update_run(self.run, status="RUNNING")

    def _metrics(self, entries: Sequence[Metrics]) -> None:
        from mlflow.entities import Metric

        kept, former, last = [], self._former, self._last_step
        for entry in entries:
            if 0 < entry.step <= last:  # training started again, with a smaller step
                former = {}
            last = max(entry.step, last)
            for name, value in entry.values.items():
                if entry.step and entry.step in former.get(name, ()):
                    continue
                if self.uncertain and (entry.step, entry.time) in self._known_times(name):
                    continue
                kept.append(Metric(name, value, entry.time, entry.step))
        if kept:
            self.client.log_batch(self.run, metrics=kept)
        self._former, self._last_step = former, last
        for metric in kept:
            if metric.key in self._times:
                self._times[metric.key].add((metric.step, metric.timestamp))

    def _known_times(self, name: str) -> set[tuple[int, int]]:
        if name not in self._times:
            history = self.client.get_metric_history(self.run, name)
            self._times[name] = {(point.step, point.timestamp) for point in history}
        return self._times[name]


def together(entries: Sequence[Entry]) -> list[Entry]:
    """The first entry, and those after it that go in the same request."""
    batch: list[Entry] = []
    count = 0
    for entry in entries:
        if batch and not (isinstance(entry, Metrics) and isinstance(batch[0], Metrics)):
            break
        count += len(entry.values) if isinstance(entry, Metrics) else 0
        if batch and count > MOST_METRICS:
            break
        batch.append(entry)
    return batch


def within(entry: Entry, folder: Path) -> Entry:
    """The entry with a model's place in a journal's folder made absolute."""
    return replace(entry, folder=str(folder / entry.folder)) if isinstance(entry, Model) else entry


def _count(tags: dict[str, str]) -> int:
    told = tags.get(RESUMED_TAG, "0")
    return int(told) if told.isdigit() else 0


def is_refusal(error: Exception) -> bool:
    """Whether MLflow itself refused an entry, of a run that was deleted; not a server in its place."""
    return is_gone(error) or _code(error) == "PERMISSION_DENIED"


def is_gone(error: BaseException) -> bool:
    """Whether it did since what the entry is of is not there any more, or was deleted."""
    return _code(error) in _GONE


def _code(error: BaseException) -> str | None:
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException) or "API request to" in str(error):
        return None
    return str(error.error_code)
