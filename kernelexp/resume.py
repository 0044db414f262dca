"""What a sweep finds in the store: jobs that are done, jobs under way, runs left by a killed process.

A job is known by its identity, who is at it by a claim; see ``claims`` and ``liveness``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernelexp import interrupts
from kernelexp.claims import Claim, claim, remove_dead
from kernelexp.identity import DIGEST_TAG, Identity
from kernelexp.liveness import HEARTBEAT_TAG, PROCESS_TAG, Process, Watch, this_process

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT_TAG = "mlflow.parentRunId"
# Of each sweep that a run is of: several may make it theirs at once.
SWEEP_TAGS = "sweep.of."
# Of a run that failed since there was not the memory it asked for.
MEMORY_TAG = "out_of_memory"
# Of a trial of a search: that it ended early, and why; that it had few of the points.
PRUNED_TAG, PARTIAL_TAG = "search.pruned", "search.partial"
_POLL_SECONDS = 1.0
# Seconds that a store which fails is asked again, whatever the patience.
_BRIEFLY = 3.0
_WATCH = Watch()


@dataclass(frozen=True)
class Finished:
    """A finished run that makes a job superfluous.

    Attributes:
        run: the run.
        note: what is to be said of it, empty for nothing: see ``Identity.accepts``.
    """

    run: Run
    note: str

    @property
    def run_id(self) -> str:
        """Its id."""
        return str(self.run.info.run_id)


def finished_run(
    client: MlflowClient, experiment_id: str, job: Identity, parent: str | None = None
) -> Finished | None:
    """The newest finished run that makes the job superfluous; with ``parent`` of that sweep alone."""
    for run in _runs(client, experiment_id, _of(job), "FINISHED"):
        if parent is not None and parent not in sweeps_of(run.data.tags):
            continue
        if (note := job.accepts(run)) is not None:
            return Finished(run, note)
    return None


def finished_or_claimed(
    client: MlflowClient,
    experiment_id: str,
    job: Identity,
    waiting: Callable[[str], None],
    patience: float = 0.0,
    parent: str | None = None,
) -> Finished | Claim:
    """``finished_run``, or the claim to the job; while another living process is at it, wait for that.

    Such a process is another sweep, on any machine, or a worker that outlives its killed launcher by the job
    it is at. ``waiting`` is told who it is, once. ``patience``: seconds that the store may be away meanwhile;
    before that it may be for three.

    Raises:
        Exception: of the store.
    """
    told, away_since = False, None
    while True:
        interrupts.check()
        try:
            turn, who = _turn(client, experiment_id, job, parent)
            away_since = None
        except Exception:
            # A store that many ask at once may fail one of them; one that went may come back, and the process
            # that is at the job may well go on.
            away_since = away_since or time.monotonic()
            if time.monotonic() > away_since + max(_BRIEFLY, patience if told else 0):
                raise
            turn, who = None, ""
        if turn is not None:
            return turn
        if who and not told:
            waiting(who)
            told = True
        time.sleep(_POLL_SECONDS)


def _turn(
    client: MlflowClient, experiment_id: str, job: Identity, parent: str | None
) -> tuple[Finished | Claim | None, str]:
    """What a job has come to now, or who is at it."""
    if (done := finished_run(client, experiment_id, job, parent)) is not None:
        return done, ""
    own = claim(client, experiment_id, job.config, _WATCH)
    if not isinstance(own, Claim):
        return None, f"process {own.pid} of {own.host.split('/')[0]}" if own is not None else ""
    try:
        under_way = _runs(client, experiment_id, _of(job), "RUNNING")
        if held := [run for run in under_way if _is_held_by_another(run)]:
            own.release()
            return None, f"run {held[0].info.run_id}"
        # After the claim: one that ended meanwhile is not missed.
        if (done := finished_run(client, experiment_id, job, parent)) is not None:
            own.release()
            return done, ""
    except BaseException:
        own.release()
        raise
    return own, ""


def failed_for_good(
    client: MlflowClient, experiment_id: str, job: Identity, parent: str
) -> str | None:
    """What a job of this sweep failed of, where trying it again would not help."""
    for run in _runs(client, experiment_id, _of(job), "FAILED"):
        tags = run.data.tags
        if tags.get(PARENT_TAG) == parent and MEMORY_TAG not in tags:
            return str(tags.get("error", "failed before"))
    return None


def link(client: MlflowClient, run: Run, parent: str) -> None:
    """Make a finished run a child of a sweep, beside those that it is of already."""
    if run.data.tags.get(PARENT_TAG) == parent:
        return
    for name, value in linked(run.data.tags, parent).items():
        client.set_tag(run.info.run_id, name, value)


def linked(tags: Mapping[str, str], parent: str) -> dict[str, str]:
    """The tags that make a run with these one of a sweep, too; MLflow shows it below the last."""
    each = (f"{SWEEP_TAGS}{one}" for one in sorted({*sweeps_of(tags), parent}))
    return {**{name: "true" for name in each if name not in tags}, PARENT_TAG: parent}


def sweeps_of(tags: Mapping[str, str]) -> set[str]:
    """The parents of a run with these tags."""
    own = {tags[PARENT_TAG]} if PARENT_TAG in tags else set()
    return own | {name.removeprefix(SWEEP_TAGS) for name in tags if name.startswith(SWEEP_TAGS)}


def end_abandoned(client: MlflowClient, experiment_id: str) -> None:
    """Mark as killed the running runs whose process is no more, and remove its claims.

    Those of living processes are left alone, and of other machines those whose signs of life have not been
    watched for long enough, see ``Watch``.
    """
    for found in _runs(client, experiment_id, "", "RUNNING"):
        if is_alive(found):
            continue
        run = client.get_run(found.info.run_id)  # meanwhile a process may have gone on with it
        if run.info.status == "RUNNING" and not is_alive(run):
            process = _holder(run)
            assert process is not None
            client.set_terminated(run.info.run_id, "KILLED")
            how = "ended without a word" if process.is_gone else "gave no sign of life any more"
            client.set_tag(run.info.run_id, "error", f"process {process.pid} {how}")
    remove_dead(client, experiment_id, _WATCH)


def is_alive(run: Run) -> bool:
    """Whether the process that holds a run may be at it."""
    tags = run.data.tags
    return not _WATCH.is_dead(run.info.run_id, _holder(run), tags.get(HEARTBEAT_TAG))


def children(client: MlflowClient, experiment_id: str, parent: str) -> list[Run]:
    """The runs of a sweep, newest first, also those that a later sweep has made its own."""
    own = _runs(client, experiment_id, f"tags.`{PARENT_TAG}` = '{parent}'")
    lent = _runs(client, experiment_id, f"tags.`{SWEEP_TAGS}{parent}` = 'true'")
    return own + [run for run in lent if run.data.tags.get(PARENT_TAG) != parent]


def _of(job: Identity) -> str:
    return f"tags.`{DIGEST_TAG}` = '{job.config}'"


def _runs(
    client: MlflowClient, experiment_id: str, condition: str, status: str | None = None
) -> list[Run]:
    conditions = [condition] if condition else []
    if status:
        conditions.append(f"attributes.status = '{status}'")
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            " and ".join(conditions),
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            return found


def _is_held_by_another(run: Run) -> bool:
    """Whether a living process is at it, as far as it shows: near, or by signs of life."""
    holder = _holder(run)
    if holder is None or holder == this_process() or not is_alive(run):
        return False
    return holder.is_near or HEARTBEAT_TAG in run.data.tags


def _holder(run: Run) -> Process | None:
    """None of runs that are not ours."""
    return Process.of(run.data.tags.get(PROCESS_TAG, ""))
