"""The sweep that this process, or the one that started it, is at: what its jobs need to know without asking."""

from __future__ import annotations

import json
import os
from collections.abc import Container
from dataclasses import asdict, dataclass

# A sweep's parent run, for the jobs it starts in this process and in others.
PARENT_VARIABLE = "KERNELEXP_PARENT_RUN_ID"
_DETAILS_VARIABLE = "KERNELEXP_SWEEP"


@dataclass(frozen=True)
class Sweep:
    """A sweep under way, told by environment variables, which launchers pass on.

    Attributes:
        parent: id of its parent run.
        uri: of the store, and
        experiment: where that run is.
        patience_minutes: see ``TrackingConfig``.
        varied: the keys it varies.
        retries: how often it may start again, where a worker was killed.
        attempt: how often it has.
    """

    parent: str
    uri: str = ""
    experiment: str = ""
    patience_minutes: float = 0.0
    varied: tuple[str, ...] = ()
    retries: int = 0
    attempt: int = 0

    @classmethod
    def current(cls) -> Sweep | None:
        """The one under way, None outside sweeps."""
        parent = os.environ.get(PARENT_VARIABLE)
        if parent is None:
            return None
        details = json.loads(os.environ.get(_DETAILS_VARIABLE, "{}"))
        details["varied"] = tuple(details.get("varied", ()))
        return cls(**{**details, "parent": parent})

    def begin(self) -> None:
        """From here on this is the one under way."""
        os.environ[PARENT_VARIABLE] = self.parent
        os.environ[_DETAILS_VARIABLE] = json.dumps(asdict(self))

    def end(self) -> None:
        """No longer."""
        os.environ.pop(PARENT_VARIABLE, None)
        os.environ.pop(_DETAILS_VARIABLE, None)

    def name_of(self, overrides: list[str]) -> str:
        """What the job with these overrides varies, ``noise=0.1,seed=2``."""
        return told(overrides, self.varied)


def told(overrides: list[str], varied: Container[str]) -> str:
    """Those of a job's overrides that set one of the keys ``varied``."""
    return ",".join(o for o in overrides if o.split("=")[0].lstrip("+") in varied)
