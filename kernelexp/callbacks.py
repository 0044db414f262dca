"""What happens around Hydra's jobs: everything is checked before anything starts.

Hydra turns an exception in a callback into a warning, so what must end the program exits here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig

from kernelexp import interrupts
from kernelexp.arguments import as_typed
from kernelexp.cluster import ask_for_memory
from kernelexp.config import tracking
from kernelexp.console import VARIED_VARIABLE, show_jobs
from kernelexp.engine.checks import refuse
from kernelexp.errors import JobFailed, JobInterrupted, exit_code, explain, let_go
from kernelexp.forecast import check_sizes
from kernelexp.jobs import single_job, sweep_jobs, typed
from kernelexp.preview import preview
from kernelexp.search.sweeper import is_search
from kernelexp.store import check_reachable, without_password
from kernelexp.sweep import start_parent

# Set by the entry point where the user asked for tracebacks.
TRACEBACKS_VARIABLE = "KERNELEXP_TRACEBACKS"
_OF_PROCESSES = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"


class Guard(Callback):  # type: ignore[misc]
    """Called by Hydra in the launching process (start) and wherever a job ran (end)."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the configuration of a single run, and that its store is there."""
        try:
            job, settings = single_job(config), tracking(config)
            if not config.dry_run:  # which shows it
                check_sizes([job.checked])
            if settings.enabled:
                check_reachable(settings.uri)
            if config.dry_run:
                show_jobs(preview([job], settings, skips=False))
        except Exception as error:
            _end(error)
        if config.dry_run:
            sys.exit(0)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check every job of a sweep, then create store, experiment and parent run."""
        JobReturn.return_value = JobReturn.return_value.getter(_result)
        try:
            workers = config.hydra.launcher.get("n_jobs")
            if workers == 0:
                raise refuse("hydra.launcher.n_jobs", 0, "a number of processes, or -1: of cores")
            settings = tracking(config)
            if settings.uri != without_password(settings.uri) and not config.dry_run:
                # Hydra writes what was typed into it.
                Path(config.hydra.sweep.dir).mkdir(0o700, parents=True, exist_ok=True)
            if is_search(config):
                interrupts.check()
                _hold(config)
                return
            jobs, varied = sweep_jobs(config)
            # Each has been composed; Hydra's sweeper would do it again, a fifth of a second a job.
            Sweeper.validate_batch_is_legal = lambda self, batch: None
            if not config.dry_run:  # which shows them all
                check_sizes(job.checked for job in jobs)
            ask_for_memory(config.hydra.launcher, jobs)
            if config.dry_run:
                show_jobs(preview(jobs, settings, skips=not config.rerun))
            elif settings.enabled:
                interrupts.check()
                name = as_typed(typed(config))
                different = len({job.identity.config for job in jobs})
                start_parent(settings, name or "sweep", different, varied, config.retries)
            os.environ[VARIED_VARIABLE] = " ".join(varied)
        except Exception as error:
            _end(error)
        if config.dry_run:
            sys.exit(0)
        interrupts.check()
        _hold(config)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Say at once which job failed; Hydra speaks of the first one, when all are done.

        Until then it keeps what each job returns: a failed one's data and matrices, too, by the frames of its error.
        """
        job_return.cfg = job_return.hydra_cfg = None
        if job_return.status != JobStatus.FAILED:
            return
        error = job_return._return_value  # .return_value would raise it
        if isinstance(error, JobInterrupted):
            return
        if config.hydra.mode == RunMode.RUN:
            _end(error)
        typed = without_password(" ".join(job_return.overrides or ()))
        print(f"kernelexp: {typed}: {explain(error)}", file=sys.stderr)
        let_go(error)


def _hold(config: DictConfig) -> None:
    if config.hydra.launcher._target_ == _OF_PROCESSES:
        interrupts.hold_for_workers()


def _result(job: JobReturn) -> Any:
    """What a job returned; Hydra's own property also writes of its failure, which is known."""
    error = job._return_value
    if isinstance(error, JobInterrupted):
        raise interrupts.Interrupted(error.signal)
    if job.status == JobStatus.FAILED:
        raise JobFailed from error
    return error


def _end(error: Exception) -> None:
    """Leave with one line; with a traceback where that was asked for."""
    if os.environ.get(TRACEBACKS_VARIABLE):
        sys.excepthook(type(error), error, error.__traceback__)
    else:
        print(f"kernelexp: {explain(error)}", file=sys.stderr)
    sys.exit(exit_code(error))
