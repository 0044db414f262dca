"""When a finished run is the one a job would be: same configuration, data and version of the code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kernelexp.commit import VERSION_TAG, code_tags, of_other_code
from kernelexp.metrics import DATA, NO_DIFFERENCE

if TYPE_CHECKING:
    from mlflow.entities import Run

DIGEST_TAG, FILES_TAG = "config.digest", "data.files"
# Of a solver: how long it goes on, not what it does.
_LENGTH = ("epochs", "stop")
# Up to here float64 tells whole numbers apart.
_EXACT = 2**53


@dataclass(frozen=True)
class Identity:
    """What makes a job the one it is.

    Attributes:
        config: ``digest`` of its configuration.
        files: state of the files its data are in, taken before they are read.
        points: computes the digest of the points it would take; None where they are not on this machine.
        log_model: whether its model is to be kept.
        family: ``digest`` of its configuration without the length of training.
    """

    config: str
    files: str
    points: Callable[[], str | None]
    log_model: bool
    family: str = ""

    @property
    def tags(self) -> dict[str, str]:
        """What its run carries."""
        return {DIGEST_TAG: self.config, FILES_TAG: self.files}

    def accepts(self, run: Run) -> str | None:
        """Whether a finished run of this configuration will do: what is to be said of it, or None.

        Files as they were are not read again; of others the points count, so that touching or moving
        files changes nothing. Another commit of the same version is told and changes nothing.
        """
        tags = run.data.tags
        if tags.get(VERSION_TAG) != code_tags()[VERSION_TAG]:
            return None
        if self.log_model and not (run.outputs and run.outputs.model_outputs):
            return None
        notes = [of_other_code(tags)]
        if tags.get(FILES_TAG) != self.files:
            try:
                points = self.points()
            except (ValueError, OSError):  # nothing to train on: the job is run, and says why
                return None
            if points is None:
                notes.append("its data are not here to compare")
            elif points not in _recorded_points(run):
                return None
        return "; ".join(filter(None, notes))


def digest(values: dict[str, Any]) -> str:
    """Hash of a resolved configuration, less where it is recorded or saved and where data are.

    Numbers that are equal hash equally, 5 and 5.0; others do not.
    """

    def canonical(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: canonical(item) for key, item in value.items()}
        if isinstance(value, list):
            return [canonical(item) for item in value]
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value % 1 == 0:
            return float(value) if abs(value) <= _EXACT else int(value)
        return value

    kept = {key: canonical(value) for key, value in values.items()}
    for name in NO_DIFFERENCE:
        group, _, setting = name.rpartition(".")
        (kept.get(group, {}) if group else kept).pop(setting, None)
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def family(values: dict[str, Any]) -> str:
    """``digest`` of a resolved configuration without ``solver.epochs`` and ``solver.stop``."""
    solver = {key: value for key, value in values["solver"].items() if key not in _LENGTH}
    return digest({**values, "solver": solver})


def data_sets(runs: Iterable[Run]) -> list[str]:
    """What data runs are of, in words; scores on different ones are not compared.

    Data differ by name, file, target or number, and where runs with equal settings of them, and the same seed, had
    other points: then a file has changed in between. Where files are the same, or there are none, points that differ
    are made on other processors, to rounding.
    """
    taken: dict[str, dict[tuple[Any, ...], set[frozenset[str]]]] = {}
    of_files: dict[tuple[Any, ...], frozenset[str]] = {}
    for run in runs:
        given = run.data.params
        named = " ".join(given[key] for key in DATA if given.get(key) not in (None, "None"))
        own = tuple(
            sorted(i for i in given.items() if i[0] == "seed" or i[0].startswith("dataset."))
        )
        points, seen = _recorded_points(run), taken.setdefault(named, {}).setdefault(own, set())
        if files := run.data.tags.get(FILES_TAG):
            points = of_files.setdefault((own, files), points)
        if points:
            seen.add(points)
    return [
        name
        for named, by_settings in sorted(taken.items())
        for name in [named]
        + [f"{named} before it changed"] * (max(map(len, by_settings.values())) - 1)
    ]


def _recorded_points(run: Run) -> frozenset[str]:
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return frozenset(used.dataset.digest for used in inputs)
