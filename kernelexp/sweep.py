"""A sweep: every job is checked, and store and parent run exist, before the first one starts."""

from __future__ import annotations

import sys
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from kernelexp.config import build, explain, tracking
from kernelexp.tracking import start_parent


class SweepCallback(Callback):  # type: ignore[misc]
    """Called by Hydra in the launching process (start) and wherever a job ran (end)."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check all jobs, then create the parent run.

        Raises:
            ValueError: for the first job that cannot work; none has run then.
        """
        arguments = [str(argument) for argument in config.hydra.overrides.task]
        overrides = OverridesParser.create().parse_overrides(arguments)
        [jobs] = BasicSweeper.split_arguments(overrides, None)
        loader = GlobalHydra.instance().config_loader()
        for job in jobs:
            build(loader.load_sweep_config(config, list(job)))
        settings = tracking(config)
        if settings.enabled:
            varied = [o.key_or_group for o in overrides if o.is_sweep_override()]
            start_parent(settings, " ".join(arguments) or "sweep", len(jobs), varied)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Say at once which job of a sweep failed; Hydra itself speaks of the first, at the end."""
        if job_return.status == JobStatus.FAILED and config.hydra.mode.name == "MULTIRUN":
            error = job_return._return_value  # .return_value would raise it
            print(
                f"kernelexp: {' '.join(job_return.overrides or [])}: {explain(error)}",
                file=sys.stderr,
            )
