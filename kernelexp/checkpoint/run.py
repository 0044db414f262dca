"""The checkpoints of one run: which it goes on from, when it writes more, what stays of them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from kernelexp.checkpoint.folder import Checkpoint, Folder
from kernelexp.checkpoint.header import Epoch, Header, Origin
from kernelexp.checkpoint.search import (
    Run,
    cannot_go_on,
    own_checkpoint,
    refuse_other,
    shorter_run,
)
from kernelexp.checkpoint.settings import CheckpointConfig
from kernelexp.engine import EpochRecord

# Writing takes at most this share of the time, whatever ``minutes`` says; but 0 minutes means it.
_SHARE = 0.01


class Saved(Protocol):
    """All that a training carries."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By name; the live ones."""

    @property
    def numbers(self) -> dict[str, Any]:
        """The rest, of what JSON has."""


@dataclass(frozen=True)
class Untrained:
    """Of a run that has done folds alone."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)


class Recorded(Protocol):
    """A run in a tracking store."""

    @property
    def run_id(self) -> str:
        """Its id."""


class Checkpoints:
    """Those of one run.

    Attributes:
        run: what it is.
        folder: where they are.
        start: where it goes on from; None for the beginning.
        longer: whether that is the end of a shorter run, of which this one is another.
        epochs: those that are done.
        folds: scores of those that are done, of a cross-validation.
    """

    def __init__(self, settings: CheckpointConfig, run: Run) -> None:
        self.settings = settings
        self.run = run
        self.folder = Folder(Path(settings.folder).expanduser() / run.config)
        self.start: Checkpoint | None = None
        self.longer = False
        self.epochs: list[Epoch] = []
        self.folds: list[dict[str, float]] = []
        self._recorded: Recorded | None = None
        self._origin: Origin | None = None
        self._minutes = math.inf if settings.minutes is None else settings.minutes
        self._due = math.inf
        self._final: Checkpoint | None = None
        self._warned = False

    @property
    def resumed(self) -> int:
        """How often the run has gone on after it was killed."""
        return 0 if self.start is None or self.longer else self.start.header.resumed + 1

    @property
    def former_run(self) -> str | None:
        """The run in this tracking store that ``start`` is of."""
        header = None if self.start is None else self.start.header
        return None if header is None or header.store != self.run.store else header.run_id

    def find_start(self) -> None:
        """Look for where to go on.

        Raises:
            ValueError: where there is a checkpoint that this run must not go on from.
        """
        if self.folder.path.is_dir() and self._hold():
            self.start = own_checkpoint(self.folder, self.run)
        if self.start is None:
            self.start = shorter_run(self.folder.path.parent, self.run)
            self.longer = self.start is not None
        if self.start is not None:
            self.epochs = list(self.start.header.epochs)
            self.folds = [] if self.longer else list(self.start.header.folds)

    def recorded_in(self, recorded: Recorded) -> None:
        """Where the run is recorded, so that it goes on there too."""
        self._recorded = recorded

    def begin(self, data: str) -> None:
        """Training begins, on data of this digest.

        Raises:
            ValueError: where ``start`` was made with others.
        """
        self._origin = self.run.origin(data)
        if self.start is not None:
            refuse_other(self.start.header, self._origin)
        self._due = time.monotonic() + 60 * self._minutes

    def taken_up(self) -> None:
        """The training is where ``start`` was: of that only the header is needed any more."""
        assert self.start is not None
        self.start = Checkpoint(self.start.header, {}, {})

    def cannot_go_on(self, why: str) -> ValueError:
        """The error for a ``start`` that is of no use; ``why`` says what of it."""
        assert self.start is not None
        return cannot_go_on(self.start.header, why)

    def epoch(self, record: EpochRecord, metrics: dict[str, float]) -> None:
        """An epoch is done; after a divergence they begin at 1 again."""
        self.epochs = [*self.epochs[: record.epoch - 1], Epoch(record, metrics)]

    def fold(self, scores: dict[str, float]) -> None:
        """A fold is done; write that if it is time for it."""
        self.folds.append(scores)
        self.after_round(Untrained)

    def after_round(self, saved: Callable[[], Saved]) -> None:
        """Write one if it is time for one."""
        if time.monotonic() >= self._due:
            self.write(saved())

    def write(self, saved: Saved) -> None:
        """Write one now; where that does not work, a warning."""
        if math.isinf(self._minutes):
            return
        began = time.monotonic()
        with self._going_on_anyway():
            if self._hold():
                self.folder.add(self._checkpoint(saved))
        ended = time.monotonic()
        rest = (ended - began) / _SHARE if self._minutes else 0.0
        self._due = ended + max(60 * self._minutes, rest)

    def ended(self, saved: Saved, stopped_by: str) -> None:
        """Training is done: this stays if one is to be kept."""
        self._due = math.inf
        with self._going_on_anyway():
            self._final = self._checkpoint(saved, stopped_by) if self.settings.keep else None

    def close(self, well: bool) -> None:
        """Leave the folder; of a run that ended well only what is to be kept stays."""
        with self._going_on_anyway():
            if well and self._final is not None and self._hold():
                self.folder.keep(self._final)
            # Also those of a run that this one did not go on from: what they were for is done.
            if well and self.folder.path.is_dir() and self.folder.hold():
                self.folder.clear()
        self.folder.release()

    def _checkpoint(self, saved: Saved, stopped_by: str | None = None) -> Checkpoint:
        assert self._origin is not None
        header = Header(
            origin=self._origin,
            files=self.run.files,
            run_id=None if self._recorded is None else self._recorded.run_id,
            store=self.run.store,
            resumed=self.resumed,
            # Those of a shorter run are nothing to go on from without its training.
            epochs=() if isinstance(saved, Untrained) else tuple(self.epochs),
            folds=tuple(self.folds),
            stopped_by=stopped_by,
        )
        return Checkpoint(header, saved.tensors, saved.numbers)

    def _hold(self) -> bool:
        """Whether the folder is this run's now; where it can not be, a warning."""
        fresh = not self.folder.is_held
        with self._going_on_anyway():
            if self.folder.hold():
                if fresh and self._origin is not None:
                    # Those of a run that this one did not go on from.
                    self.folder.clear()
                return True
            self._warn(f"{self.folder.path}: process {self.folder.holder()} is at the same run")
        return False

    @contextmanager
    def _going_on_anyway(self) -> Iterator[None]:
        """Nothing that goes wrong with a checkpoint ends a training."""
        try:
            yield
        except Exception as error:
            self._warn(str(error))

    def _warn(self, problem: str) -> None:
        if not self._warned:
            text = f"{problem}; this run goes on, but leaves no checkpoint as long as that is so"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        self._warned = True


@contextmanager
def checkpoints(settings: CheckpointConfig, run: Run, resume: bool) -> Iterator[Checkpoints]:
    """Around a run: its checkpoints, with the one to go on from where there is one and ``resume``.

    Raises:
        ValueError: where there is one that the run must not go on from.
    """
    made = Checkpoints(settings, run)
    try:
        if resume:
            made.find_start()
        yield made
    except BaseException:
        made.close(well=False)
        raise
    made.close(well=True)
