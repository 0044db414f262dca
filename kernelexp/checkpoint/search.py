"""Where a run goes on from: its own last checkpoint, or the end of a run that differs in length alone."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from kernelexp.checkpoint.file import BrokenCheckpoint, read_content
from kernelexp.checkpoint.folder import Checkpoint, Folder, kept, load
from kernelexp.checkpoint.header import Header, Origin, progress
from kernelexp.engine import SolverOption


@dataclass(frozen=True)
class Run:
    """What a run is, as far as its checkpoints have to know.

    Attributes:
        config: digest of its configuration.
        family: the same without the length of training.
        files: state of the files of its data.
        points: computes the digest of its points; None where they are not on this machine.
        solver: how long it trains.
        dtype: of the training.
        device: of the training.
        store: tracking store and experiment; None without.
        ranks: processes that train it together.
    """

    config: str
    family: str
    files: str
    points: Callable[[], str | None]
    solver: SolverOption
    dtype: torch.dtype
    device: torch.device
    store: str | None = None
    ranks: int = 1

    def origin(self, data: str) -> Origin:
        """Where its numbers come from, with data of this digest."""
        return Origin.here(self.family, data, self.dtype, self.device, self.ranks)


def own_checkpoint(folder: Folder, run: Run) -> Checkpoint | None:
    """The newest of the run itself.

    Raises:
        ValueError: where the run as it is now must not go on from it.
    """
    found = folder.newest()
    if found is not None:
        origin = run.origin(_data(found.header, run))
        refuse_other(found.header, origin)
        if note := found.header.origin.note(origin):
            warnings.warn(f"{folder.path}: the checkpoint was {note}", RuntimeWarning, stacklevel=2)
    return found


def shorter_run(folder: Path, run: Run) -> Checkpoint | None:
    """The end of the longest run that was kept under ``folder`` and that ``run`` would begin with.

    One of other code, data or another machine is passed over with a warning.
    """
    best: tuple[int, Path] | None = None
    for path in kept(folder):
        try:
            header = Header.from_dict(read_content(path)["header"])
        except (BrokenCheckpoint, KeyError, TypeError):
            continue  # nobody's loss: it is one of many, and training starts anew
        if header.origin.family != run.family or not begins(header, run.solver):
            continue
        differences = header.origin.differences(run.origin(_data(header, run)))
        if first := ", ".join(differences):
            text = f"{path}: training does not go on from it, it was made with {first}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        elif best is None or len(header.epochs) > best[0]:
            best = len(header.epochs), path
    return None if best is None else load(best[1])


def begins(header: Header, solver: SolverOption) -> bool:
    """Whether a training by ``solver`` has the epochs of an ended run, and more."""
    records = [epoch.record for epoch in header.epochs]
    if header.stopped_by in ("tolerance", "least_squares") or len(records) >= solver.max_epochs:
        return False
    seconds = itertools.accumulate(record.seconds for record in records)
    return not any(
        solver.stop.reason(records[: record.epoch], so_far)
        for record, so_far in zip(records, seconds, strict=True)
    )


def refuse_other(header: Header, now: Origin) -> None:
    """Raise ``ValueError``, in one line, unless a run of origin ``now`` may go on from a checkpoint."""
    if different := ", ".join(header.origin.differences(now)):
        raise cannot_go_on(header, f"was made with {different}")


def cannot_go_on(header: Header, why: str) -> ValueError:
    """The error for a checkpoint; ``why`` says what of it."""
    done = progress(len(header.epochs), header.seconds, len(header.folds))
    return ValueError(
        f"resume=true: the checkpoint of this run ({done}) {why}; "
        "resume=false starts this run again, as does rerun=true"
    )


def _data(header: Header, run: Run) -> str:
    """Digest of the run's data; where they are not here yet they are compared when they are."""
    same_files = header.files == run.files
    return (None if same_files else run.points()) or header.origin.data
