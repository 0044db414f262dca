"""What is recorded of a run: an observer that puts it into the outbox to the MLflow store."""

from __future__ import annotations

import json
import shutil
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kernelexp.claims import ClaimLost
from kernelexp.current_sweep import Sweep
from kernelexp.engine.memory import is_exhausted
from kernelexp.identity import Identity
from kernelexp.interrupts import Interrupted
from kernelexp.metrics import FEATURES, MISTAKES, PATH
from kernelexp.resume import MEMORY_TAG, PARENT_TAG, PARTIAL_TAG, PRUNED_TAG
from kernelexp.store import StoreAway, TrackingConfig, open_store
from kernelexp.store.beginning import beginning
from kernelexp.store.delivery import ERROR_TAG
from kernelexp.store.entries import End, Entry, Input, Metrics, Params, Tags, Text
from kernelexp.store.journal import Journal, of_run
from kernelexp.store.models import save_model
from kernelexp.store.outbox import Outbox, say
from kernelexp.store.reach import cannot_open, first_line
from kernelexp.store.record import Record
from kernelexp.store.unsent import given_up

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from kernelexp.experiment import RunResult, Setup

_ATTEMPT_TAG = "retry"
# Seconds that are waited for the store: by a run before its set-up, until its beginning is there.
_SETTLED = 2.0
# By a run which is told to stop.
_HURRIED = 3.0
# The same where the process is about to be ended: for the queue, then for the status alone.
_KILLED = 0.8
# To create a run: attempts, seconds between them.
_TRIES, _PAUSE = 3, 1.0


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one with dotted keys."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            out.update(flat(value, f"{prefix}{key}."))
        else:
            out[prefix + key] = value
    return out


class Tracker:
    """One run in the store, as a context: its exit says how the run ended.

    An observer of ``kernelexp.experiment.run``. The store is opened by a thread: that takes seconds (of
    imports, mostly), in which data can be read. Between ``loaded``, which waits for it, and the exit, which
    waits for what the store has not got, nothing here waits for the store or raises.
    """

    def __init__(
        self,
        config: TrackingConfig,
        identity: Identity,
        values: dict[str, Any],
        yaml: str,
        overrides: list[str],
        run_id: str | None = None,
        attempt: int = 0,
        partial: bool = False,
    ) -> None:
        """``values``: the resolved configuration, ``yaml`` the same as text; ``run_id``: what goes on.

        ``attempt``: how often the job was tried before; ``partial``: it is a trial of a search on few points.
        """
        self.partial = partial
        self.attempt = attempt
        self.config = config
        self.identity = identity
        self.values = values
        self.yaml = yaml
        self.overrides = overrides
        self.resumed = run_id
        self.sweep = Sweep.current()
        self._ended_well = False
        self.opening: Future[Outbox] | None = None

    @property
    def outbox(self) -> Outbox:
        """Where entries are put; waits until the store is open, and raises what its opening raised."""
        assert self.opening is not None
        return self.opening.result()

    @property
    def run_id(self) -> str:
        """The run's id, while the store is away the key it will be known by; waits as ``outbox``."""
        return self.outbox.run_id or self.resumed or self.outbox.record.begin.key

    @property
    def sweep_name(self) -> str | None:
        """What this job of a sweep varies, ``noise=0.1``; None outside sweeps."""
        return None if self.sweep is None else self.sweep.name_of(self.overrides)

    def __enter__(self) -> Tracker:
        self.opening = Future()
        threading.Thread(target=self._open, daemon=True, name="kernelexp store").start()
        return self

    def _open(self) -> None:
        assert self.opening is not None
        try:
            self.opening.set_result(self._opened())
        except BaseException as error:  # it is raised where the outbox is asked for
            self.opening.set_exception(error)

    def _opened(self) -> Outbox:
        config, client = self.config, None
        try:
            client = open_store(config)
        except StoreAway:
            if self.sweep is None:
                raise
            if given_up(config.uri):  # another job of the sweep has waited
                config = replace(config, patience_minutes=0)
        # Here, where one thread is at it: two that import MLflow at once each see half of it.
        import mlflow.entities
        import mlflow.pyfunc  # noqa: F401

        entries, journal = self._former_entries()
        record = Record([*entries, *self._beginning()], journal)
        outbox = Outbox(config, record, uncertain=journal is not None)
        if client is not None:
            self._begin(outbox, client)
        outbox.start()
        return outbox

    def _begin(self, outbox: Outbox, client: MlflowClient) -> None:
        """Create the run, now; in a sweep, whose store was there before, later will do."""
        for tried in range(1, _TRIES + 1):
            try:
                outbox.begin(client)
                return
            except Exception as error:
                if tried == _TRIES and self.sweep is None:
                    raise cannot_open(self.config.uri, first_line(error)) from error
            time.sleep(_PAUSE)

    def _former_entries(self) -> tuple[list[Entry], Journal | None]:
        """What the process that this one goes on for left unsent."""
        folder = of_run(self.resumed) if self.resumed is not None else None
        journal = Journal.take(folder) if folder is not None else None
        if journal is None:
            return [], None
        entries = journal.read()
        # It was going to end there, and goes on.
        return [entry for entry in entries if not isinstance(entry, End)], journal

    def _beginning(self) -> list[Entry]:
        name = (
            self.config.run_name
            or self.sweep_name
            or " ".join(self.values[group]["name"] for group in ("kernel", "dataset", "solver"))
        )
        tags = self.identity.tags
        if self.sweep is not None:
            tags[PARENT_TAG] = self.sweep.parent
        if self.partial:
            tags[PARTIAL_TAG] = "true"
        return [
            beginning(self.config, name, tags, self.resumed),
            Params({key: str(value) for key, value in flat(self.values).items()}),
            *([Tags({_ATTEMPT_TAG: str(self.attempt)})] if self.attempt else []),
            Text("config.yaml", self.yaml),
            Text("overrides.txt", "\n".join(self.overrides) + "\n"),
        ]

    def loaded(self) -> None:
        """Wait until the store is open: its thread would take a core from the set-up, which is timed.

        Raises:
            ValueError: if the store did not open: the run is refused before its set-up.
        """
        self.outbox.settle(_SETTLED)

    def prepared(self, setup: Setup) -> None:
        """Record the data set and what set-up derived."""
        outbox, data = self.outbox, setup.dataset
        derived = {
            **setup.derived,
            "n_train": len(data.train.X),
            "n_test": len(data.test.X),
            "n_features": data.train.X.shape[1],
            "task": "regression" if data.n_classes is None else "classification",
            "n_classes": data.n_classes,
            "bandwidth": getattr(setup.kernel, "bandwidth", None),
            "device_name": setup.device_name,
            "planned_memory_gb": round(setup.plan.peak_gb, 3),
        }
        outbox.put(
            Input(data.name, data.digest, data.location),
            Params({f"derived.{key}": str(value) for key, value in derived.items()}),
        )
        if setup.start is not None and setup.start.warm_start is not None:
            outbox.put(Tags({"warm_start": setup.start.warm_start}))

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """Record the metrics of an epoch."""
        self.outbox.put(Metrics(dict(metrics), number))

    def finished(self, result: RunResult) -> None:
        """Record the metrics of the run and its model."""
        tags = {
            "stopped_by": result.stopped_by,
            "rkhs_norm.how": result.norm.how,
            "rkhs_norm.lower_bound": str(result.norm.lower_bound).lower(),
        }
        if result.warning is not None:
            tags["solver.warning"] = result.warning
        if result.setup.reason is not None:
            tags["solver.reason"] = result.setup.reason
        per_output = {"rkhs_norm": result.norm.per_output.tolist()}
        for step, values in enumerate(zip(*result.path.values(), strict=True)):
            named = zip(result.path, values, strict=True)
            self.outbox.put(Metrics({f"{PATH}{name}": value for name, value in named}, step))
        self.outbox.put(
            Metrics(dict(result.metrics)),
            Tags(tags),
            Text("rkhs_norm_per_output.json", json.dumps(per_output)),
            Text(MISTAKES, json.dumps(result.mistakes)),
            *([Text(FEATURES, json.dumps(result.features))] if result.features else []),
        )
        if self.config.log_model:
            self._put_model(result)

    def _put_model(self, result: RunResult) -> None:
        record, reason = self.outbox.record, ""
        for folder in record.model_folders():
            try:
                save_model(result, folder)
            except (
                Exception
            ) as error:  # of MLflow, or the disk; the rest of the run is worth keeping
                shutil.rmtree(folder, ignore_errors=True)
                reason = reason or first_line(error)
            else:
                self.outbox.put(record.model(folder))
                return
        say(f"warning: the model is not kept ({reason})")

    def pruned(self, why: object) -> None:
        """A trial of a search has ended early: no run of its configuration, which others would find finished."""
        self.outbox.put(End("KILLED"), Tags({PRUNED_TAG: str(why)}))

    def kill(self, reason: str) -> None:
        """Mark the run as killed, as far as the store allows that at once.

        For a process that is about to be ended; from any thread. Returns within about two seconds, raises
        nothing. What the store did not take is kept, see ``kernelexp.store.outbox``.
        """
        with suppress(Exception):
            opening = self.opening
            if opening is None or not opening.done():
                return
            outbox = opening.result()
            if not outbox.record.ended:
                outbox.put(End("KILLED"), Tags({ERROR_TAG: reason}))
            if not outbox.hurry(_KILLED) and not self._ended_well:
                outbox.set_status("KILLED", _KILLED)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._end(error)
        except BaseException:
            if error is None:
                raise
            # ``error`` is what went wrong first, and is on its way.

    def _end(self, error: BaseException | None) -> None:
        assert self.opening is not None
        told, self._ended_well = isinstance(error, KeyboardInterrupt | Interrupted), error is None
        outbox = self.opening.result(_HURRIED if told else None)
        # Ended by ``kill``, or, where another process has the job, by that one.
        if not outbox.record.ended and not isinstance(error, ClaimLost):
            outbox.put(End("FINISHED" if error is None else "KILLED" if told else "FAILED"))
            if error is not None and not told:
                tags = {ERROR_TAG: f"{type(error).__name__}: {error}"[:5000]}
                outbox.put(Tags(tags | ({MEMORY_TAG: "true"} if is_exhausted(error) else {})))
        if not outbox.close(_HURRIED if told else None) and told:
            outbox.set_status("KILLED", _KILLED)
