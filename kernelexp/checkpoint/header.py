"""What a checkpoint says of the run that made it, and what keeps another run from going on with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy
import torch

from kernelexp.commit import VERSION_TAG, code_tags, of_other_code
from kernelexp.engine import EpochRecord
from kernelexp.engine.devices import device_name


@dataclass(frozen=True)
class Origin:
    """What the numbers of a run come from; where any of it differs, so do their last digits or more.

    Attributes:
        family: digest of the configuration without ``solver.epochs`` and ``solver.stop``, by which
            runs that differ in their length alone are known.
        data: digest of the points.
        code: tags of version and commit.
        dtype: of the training.
        device: processor or GPU by name.
        threads: of PyTorch, on a CPU.
        pytorch: its version.
        numpy: its version.
        ranks: processes that trained together, each with so many threads.
    """

    family: str
    data: str
    code: dict[str, str]
    dtype: str
    device: str
    threads: int
    pytorch: str
    numpy: str
    ranks: int = 1

    @classmethod
    def here(
        cls, family: str, data: str, dtype: torch.dtype, device: torch.device, ranks: int = 1
    ) -> Origin:
        """Of a run in this process."""
        threads = torch.get_num_threads() if device.type == "cpu" else 0
        versions = torch.__version__, numpy.__version__
        place = device_name(device), threads
        return cls(family, data, code_tags(), _short(dtype), *place, *versions, ranks)

    def differences(self, now: Origin) -> Iterator[str]:
        """What was otherwise than ``now``, in words; another commit of a version is no difference.

        Nor is another number of ranks, and so of threads: it is asked for, and told.
        """
        then, today = ({**asdict(o), "code": o.code.get(VERSION_TAG)} for o in (self, now))
        for name, words in _WORDS.items():
            if name == "threads" and self.ranks != now.ranks:
                continue
            if then[name] != today[name]:
                yield words.format(was=then[name], now=today[name])

    def note(self, now: Origin) -> str:
        """What is to be said of code of the same version and of other ranks; empty for nothing."""
        ranks = f"made by {self.ranks} ranks, here {now.ranks}: digits are equal up to rounding"
        said = [of_other_code(self.code), ranks if self.ranks != now.ranks else ""]
        return "; ".join(filter(None, said))


_WORDS = {
    "family": "other settings",
    "data": "other data",
    "code": "kernelexp {was}, here is {now}",
    "dtype": "dtype={was}, not {now}",
    "device": "{was}, here is {now}",
    "threads": "{was} threads, here are {now}",
    "pytorch": "PyTorch {was}, here is {now}",
    "numpy": "NumPy {was}, here is {now}",
}


@dataclass(frozen=True)
class Epoch:
    """An epoch that is done: its record, and its metrics by the names they are recorded under."""

    record: EpochRecord
    metrics: dict[str, float]


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of its run.

    Attributes:
        origin: what its numbers come from.
        files: state of the files that its data were read from.
        run_id: its run in the tracking store; None without tracking.
        store: the tracking store and the experiment.
        resumed: how often the run has gone on from a checkpoint.
        epochs: those that are done, in order.
        folds: scores of those of a cross-validation that are done, in order.
        stopped_by: what ended the training; None before its end.
    """

    origin: Origin
    files: str
    run_id: str | None = None
    store: str | None = None
    resumed: int = 0
    epochs: tuple[Epoch, ...] = field(default=())
    folds: tuple[dict[str, float], ...] = field(default=())
    stopped_by: str | None = None

    @property
    def seconds(self) -> float:
        """Of training, in the epochs that are done."""
        return sum(epoch.record.seconds for epoch in self.epochs)

    def to_dict(self) -> dict[str, Any]:
        """As what JSON has."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Header:
        """Back from ``to_dict``."""
        values = {"folds": (), **values}  # which files of before do not have
        known = {f.name: values[f.name] for f in fields(cls)}
        epochs = (Epoch(EpochRecord(**e["record"]), e["metrics"]) for e in known.pop("epochs"))
        origin, folds = Origin(**known.pop("origin")), tuple(known.pop("folds"))
        return cls(origin=origin, epochs=tuple(epochs), folds=folds, **known)


def progress(epochs: int, seconds: float, folds: int = 0) -> str:
    """How far a training is, in words."""
    time = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    validated = f"{folds} fold{'s' * (folds > 1)}, " if folds else ""
    return f"{validated}{epochs} epochs, {time} of training"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
