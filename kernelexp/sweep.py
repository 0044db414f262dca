"""A sweep's parent run: made before its jobs start, told how far they are, ended as they ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from kernelexp import interrupts
from kernelexp.claims import Claim
from kernelexp.current_sweep import Sweep
from kernelexp.identity import Identity
from kernelexp.liveness import HEARTBEAT_TAG, beating
from kernelexp.resume import (
    PARTIAL_TAG,
    Finished,
    children,
    end_abandoned,
    failed_for_good,
    finished_or_claimed,
    link,
)
from kernelexp.store import TrackingConfig, experiment_id, open_store, without_password
from kernelexp.store.beginning import beginning, create_run
from kernelexp.store.delivery import ERROR_TAG, is_gone
from kernelexp.store.entries import SweepEnd
from kernelexp.store.journal import UNSENT, Journal
from kernelexp.store.reach import cannot_open, first_line, is_of_the_store
from kernelexp.store.unsent import (
    Kept,
    given_up,
    open_for,
    reached,
    send,
    send_all,
    send_of_sweep,
)
from kernelexp.sweep_outcome import SweepOutcome

if TYPE_CHECKING:
    from mlflow import MlflowClient

JOBS_TAG, PROGRESS_TAG, BEST_TAG = "sweep.jobs", "sweep.progress", "sweep.best"
BEST_BY_TAG = "sweep.best_by"
VARIED_TAG = "sweep.varied"
_NOTE_TAG = "mlflow.note.content"  # the description on a run's page
# Seconds: between attempts to end a parent, and for them all where a person is waiting.
_PAUSE, _HURRIED = 2.0, 4.0
# Seconds that a store is asked again before a job, and times that it refuses a sweep's end, of a parent that was deleted.
_AGAIN, _REFUSALS = 10.0, 3
# Times as long as it took to count the jobs that have ended, until they are counted again; until then.
_REST, _shown_until = 20.0, 0.0
# The signs of life of the parent, from its start to its end.
_BEATING = ExitStack()


def start_parent(
    config: TrackingConfig, name: str, jobs: int, varied: list[str], retries: int = 0
) -> None:
    """Create the store, the experiment and a sweep's parent run, before any job starts.

    ``jobs``: how many different ones there are; ``retries``: see ``again``. Runs that a killed process left are
    ended first, and those that were kept while this store was away delivered. A sweep that starts again has its
    parent.

    Raises:
        ValueError: if the store does not open.
    """
    client = open_store(config)
    tags = {JOBS_TAG: str(jobs), PROGRESS_TAG: f"0/{jobs}", VARIED_TAG: " ".join(varied)}
    try:
        reached(config.uri)
        send_all(config.uri, send_kept)
        end_abandoned(client, experiment_id(client, config))
        if (under_way := Sweep.current()) is not None and under_way.attempt:
            return
        parent = create_run(
            client, beginning(config, without_password(config.run_name or name), tags)
        )
    except Exception as error:
        if not is_of_the_store(error):
            raise
        raise cannot_open(config.uri, first_line(error)) from error
    _BEATING.enter_context(beating(lambda sign: client.set_tag(parent, HEARTBEAT_TAG, sign)))
    where = config.uri, config.experiment
    Sweep(parent, *where, config.patience_minutes, tuple(varied), retries).begin()


def again() -> int:
    """Whether a sweep whose worker was killed is to start once more: the how manieth time, else 0."""
    sweep = Sweep.current()
    if sweep is None or sweep.attempt == sweep.retries:
        return 0
    sweep = replace(sweep, attempt=sweep.attempt + 1)
    sweep.begin()
    return sweep.attempt


@contextmanager
def job(
    config: TrackingConfig,
    identity: Identity,
    rerun: bool,
    partial: bool,
    waiting: Callable[[str], None],
) -> Iterator[Finished | Claim | None]:
    """Around a job: the finished run that makes it superfluous, else this process's claim to it.

    Such a run becomes the sweep's. At the end the parent is told. ``waiting``: see
    ``resume.finished_or_claimed``. Outside sweeps every job is run, and in them, without a claim, while the
    store is away. ``rerun``: what was finished before the sweep does not count; ``partial``: it is a
    trial of a search on few points.

    Raises:
        ValueError: in a sweep that has started again, for a job that would fail again.
    """
    sweep = Sweep.current()
    if sweep is None:
        yield None
        return
    client, turn, failed = None, None, None
    with _store_may_be_away():
        client = _opened(config)
        if given_up(config.uri):  # and is back
            reached(config.uri)
            send_of_sweep(sweep.parent, client)
        where = experiment_id(client, config)
        if sweep.attempt:
            failed = failed_for_good(client, where, identity, sweep.parent)
        if failed is None:
            patience, of = 60 * config.patience_minutes, sweep.parent if rerun else None
            turn = finished_or_claimed(client, where, identity, waiting, patience, of)
        if isinstance(turn, Finished):
            link(client, turn.run, sweep.parent)
            if not partial and PARTIAL_TAG in turn.run.data.tags:
                client.delete_tag(turn.run_id, PARTIAL_TAG)
    if failed is not None:
        raise ValueError(failed)
    try:
        if isinstance(turn, Claim):
            with beating(turn.renew):
                yield turn
        else:
            yield turn
    finally:
        if isinstance(turn, Claim):
            with _store_may_be_away():
                turn.release()
        if client is not None and not given_up(config.uri):
            with _store_may_be_away():
                _now_and_then(lambda: show_progress(client, sweep.parent))


def _opened(config: TrackingConfig) -> MlflowClient:
    """``open_store``, asked again for some seconds: a server that starts again is not away."""
    until = time.monotonic() + _AGAIN
    while True:
        try:
            return open_store(config)
        except Exception as error:
            late = time.monotonic() >= until or given_up(config.uri)
            if late or not is_of_the_store(error):
                raise
        interrupts.check()
        time.sleep(_PAUSE)


def _now_and_then(show: Callable[[], None]) -> None:
    """Do it unless it was done a moment ago: reading all jobs after each would take their number squared."""
    global _shown_until
    began = time.monotonic()
    if began >= _shown_until:
        show()
        _shown_until = time.monotonic() + _REST * (time.monotonic() - began)


@contextmanager
def _store_may_be_away() -> Iterator[None]:
    """What is asked of it here can be left out."""
    try:
        yield
    except Exception as error:
        if not is_of_the_store(error):
            raise


def show_progress(client: MlflowClient, parent: str) -> None:
    """Write on the parent run how many jobs have ended: ``12/36``.

    Counted in the store, not carried along: the jobs may end in several processes.
    """
    run = client.get_run(parent)
    outcome = SweepOutcome(children(client, run.info.experiment_id, parent), run)
    progress = f"{outcome.ended}/{run.data.tags[JOBS_TAG]}"
    client.set_tag(parent, PROGRESS_TAG, progress)
    client.set_tag(parent, _NOTE_TAG, f"{progress} jobs: {outcome}")


def end_parent(interrupted: bool) -> str | None:
    """End the parent of a sweep as its jobs ended; one line of the outcome, None without a sweep.

    A store that is away is waited for as at the end of a run, see ``TrackingConfig``; then the end is
    kept in multirun/unsent.
    """
    sweep = Sweep.current()
    if sweep is None:
        return None
    sweep.end()
    _BEATING.close()
    config = TrackingConfig(uri=sweep.uri, experiment=sweep.experiment)
    patience = 0.0 if given_up(sweep.uri) else 60 * sweep.patience_minutes
    until = time.monotonic() + (min(_HURRIED, patience) if interrupted else patience)
    journal = _keep_end(sweep, interrupted)  # first: this process may be killed while it waits
    refusals = 0
    while True:
        try:
            client = open_store(config)
            send_of_sweep(sweep.parent, client)
            outcome = _ended(client, sweep.parent, interrupted)
        except Exception as error:
            if not is_of_the_store(error):
                raise
            reason, refusals = first_line(error), refusals + is_gone(error)
            if refusals == _REFUSALS:
                if journal is not None:
                    journal.remove()
                return f"sweep {sweep.parent} has ended, and its store refuses that ({reason})"
        else:
            if journal is not None:
                journal.remove()
            return outcome
        if time.monotonic() >= until or interrupts.received() is not None:
            return _left(sweep, reason, journal)
        time.sleep(_PAUSE)


def send_kept(one: Kept) -> str | None:
    """Hand over a run, or the end of a sweep; a line of what it was, None where another process is at it.

    Raises:
        Exception: of the store.
    """
    client = open_for(one)
    return _send_end(one, client) if isinstance(one.begin, SweepEnd) else send(one, client)


def _send_end(one: Kept, client: MlflowClient) -> str | None:
    """End the parent of a sweep that ended while the store was away, once its jobs are delivered.

    A line of the outcome, None where another process is at it.

    Raises:
        Exception: of the store.
    """
    assert isinstance(one.begin, SweepEnd)
    journal = Journal.take(one.folder)
    if journal is None:
        return None
    try:
        send_of_sweep(one.begin.parent, client)
        outcome = _ended(client, one.begin.parent, one.begin.interrupted, one.begin.time)
    except BaseException as error:
        if not is_gone(error):
            journal.close()
            raise
        outcome = f"sweep {one.begin.parent} is not to be ended any more"
    journal.remove()
    return outcome


def _keep_end(sweep: Sweep, interrupted: bool) -> Journal | None:
    end = SweepEnd(sweep.uri, sweep.experiment, sweep.parent, interrupted)
    try:
        return Journal.create(sweep.parent, [end])
    except OSError:  # of a run that a later sweep ends, as those of killed processes
        return None


def _left(sweep: Sweep, reason: str, journal: Journal | None) -> str:
    away = f"sweep {sweep.parent} has ended, and its store is away ({reason})"
    if journal is None:
        return away
    journal.close()
    return f"{away}; python -m kernelexp.store send delivers what is kept in {UNSENT}"


def _ended(client: MlflowClient, parent: str, interrupted: bool, end: int | None = None) -> str:
    # Workers that were killed, and of a sweep whose end was kept this parent.
    end_abandoned(client, client.get_run(parent).info.experiment_id)
    run = client.get_run(parent)
    show_progress(client, parent)
    outcome = SweepOutcome(children(client, run.info.experiment_id, parent), run)
    jobs = int(run.data.tags[JOBS_TAG])
    for name, value in outcome.metrics().items():
        client.log_metric(parent, name, value)
    if outcome.best is not None:
        best = outcome.best.info
        client.set_tag(parent, BEST_TAG, f"{best.run_name} ({best.run_id})")
        client.set_tag(parent, BEST_BY_TAG, outcome.by)
    all_finished = len(outcome.finished) + outcome.pruned == jobs
    if ERROR_TAG in run.data.tags:  # of a process that ended before its sweep did
        client.delete_tag(parent, ERROR_TAG)
    status = "KILLED" if interrupted else "FINISHED" if all_finished else "FAILED"
    client.set_terminated(parent, status, end)
    before = f", {outcome.skipped} of them before" if outcome.skipped else ""
    before += f", {outcome.pruned} pruned" if outcome.pruned else ""
    chosen = f"; {outcome.choice}" if outcome.best is not None else ""
    return f"{len(outcome.finished)} of {jobs} jobs finished{before}{chosen}; sweep {parent}"
