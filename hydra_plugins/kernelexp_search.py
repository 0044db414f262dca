"""Hydra's name for ``kernelexp.search``: a sweeper must be in this package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn
from omegaconf import OmegaConf


class SearchSweeper(BasicSweeper):  # type: ignore[misc]
    """Sets up as Hydra's own; the jobs come from a search, in batches, each after the scores of the last."""

    def __init__(
        self, trials: int, max_batch_size: int | None = None, params: dict[str, str] | None = None
    ) -> None:
        super().__init__(max_batch_size, params)
        self.trials = trials
        self.launched = 0

    def setup(self, **given: Any) -> None:
        """As Hydra's own."""
        super().setup(**given)
        self._given = given

    def sweep(self, arguments: list[str]) -> Any:
        """Search; ``arguments`` are in the configuration too."""
        from kernelexp.search.run import run

        return run(self.config, self._launch)

    def _launch(self, jobs: Sequence[Sequence[str]]) -> Sequence[JobReturn]:
        folder = Path(self.config.hydra.sweep.dir)
        if not self.launched:
            # A launcher that asks for the memory that was planned since the first was made.
            super().setup(**self._given)
            folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self.config, folder / "multirun.yaml")
        returned: Sequence[JobReturn] = self.launcher.launch(jobs, initial_job_idx=self.launched)
        self.launched += len(jobs)
        return returned
