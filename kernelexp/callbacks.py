"""What happens around Hydra's jobs: everything is checked before anything starts.

Hydra turns an exception in a callback into a warning, so what must end the program exits here.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from kernelexp.config import build, tracking
from kernelexp.errors import exit_code, explain
from kernelexp.sweep import start_parent

# Set by the entry point where the user asked for tracebacks.
TRACEBACKS_VARIABLE = "KERNELEXP_TRACEBACKS"


class Guard(Callback):  # type: ignore[misc]
    """Called by Hydra in the launching process (start) and wherever a job ran (end)."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the configuration of a single run."""
        try:
            build(config)
        except Exception as error:
            _end(error)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check every job of a sweep, then create store, experiment and parent run."""
        arguments = [str(argument) for argument in config.hydra.overrides.task]
        try:
            overrides = OverridesParser.create().parse_overrides(arguments)
            [jobs] = BasicSweeper.split_arguments(overrides, None)
            loader = GlobalHydra.instance().config_loader()
            for job in jobs:
                build(loader.load_sweep_config(config, list(job)))
            settings = tracking(config)
            if settings.enabled:
                varied = [o.key_or_group for o in overrides if o.is_sweep_override()]
                start_parent(settings, " ".join(arguments) or "sweep", len(jobs), varied)
        except Exception as error:
            _end(error)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Say at once which job failed; Hydra speaks of the first one, when all are done."""
        if job_return.status != JobStatus.FAILED:
            return
        error = job_return._return_value  # .return_value would raise it
        if config.hydra.mode == RunMode.RUN:
            _end(error)
        print(f"kernelexp: {' '.join(job_return.overrides)}: {explain(error)}", file=sys.stderr)


def _end(error: Exception) -> None:
    """Leave with one line; with a traceback where that was asked for."""
    if os.environ.get(TRACEBACKS_VARIABLE):
        sys.excepthook(type(error), error, error.__traceback__)
    else:
        print(f"kernelexp: {explain(error)}", file=sys.stderr)
    sys.exit(exit_code(error))
