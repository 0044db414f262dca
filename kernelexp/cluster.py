"""What a sweep asks of a cluster's scheduler, by what its jobs plan to hold."""

from __future__ import annotations

import math
from collections.abc import Iterable

from omegaconf import DictConfig, open_dict

from kernelexp.forecast import planned_memory
from kernelexp.jobs import Job

_PLUGIN = "hydra_plugins.hydra_submitit_launcher."
# GB beside the plan, which knows neither libraries that load later nor what a tracking store takes; and in
# place of it, where data have to be read for it.
_BESIDE, _UNKNOWN = 2.0, 8.0


def ask_for_memory(launcher: DictConfig, jobs: Iterable[Job]) -> None:
    """Set ``mem_gb`` of a submitit launcher that leaves it open: what the largest job plans to hold, in all ranks.

    Without rows of K that are kept: they come as far as there is room, so more than is asked for here makes a run
    faster. Other launchers ask nobody.
    """
    if not launcher._target_.startswith(_PLUGIN) or launcher.mem_gb is not None:
        return
    with open_dict(launcher):
        launcher.mem_gb = math.ceil(max(_gigabytes(job) for job in jobs))


def _gigabytes(job: Job) -> float:
    config, resource = job.checked, job.checked.resource
    try:
        plan = planned_memory(config)
    except ValueError:  # more than this machine has, which need not be the one that trains
        plan = planned_memory(config, anywhere=True)
    of_rank = plan.peak_gb if plan is not None else _UNKNOWN
    kept = resource.cache_gb or 0.0
    return resource.ranks * ((resource.memory_gb or of_rank + kept) + _BESIDE)
