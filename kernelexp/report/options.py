"""What to report on and where to, refused in one line where that cannot be."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kernelexp.report.drawing import FORMATS


@dataclass(frozen=True)
class Options:
    """What to report on, and where to.

    Attributes:
        experiments: names; none: all that have runs.
        store: an MLflow tracking URI.
        parent: the beginning of a sweep's run id: its jobs alone.
        query: an MLflow filter.
        compare: two runs or commits, side by side in a page of their own.
        figures: draw these from every experiment; none: each from the experiment of its name.
        out: folder.
        formats: of the pictures, from ``drawing.FORMATS``.
        log: whether pictures are also kept with the sweeps whose runs they show.
        dpi: of png pictures.
    """

    experiments: Sequence[str] = ()
    store: str = "sqlite:///mlflow.db"
    parent: str | None = None
    query: str = ""
    compare: tuple[str, str] | None = None
    figures: Sequence[str] = ()
    out: Path = Path("reports")
    formats: Sequence[str] = ("png",)
    log: bool = True
    dpi: int = 160

    def check(self, figures: Collection[str]) -> None:
        """Refuse, before anything is read, names that are none and a folder that cannot be written.

        Raises:
            ValueError: with the option, what was given and what is allowed; ``figures``: those there are.
        """
        for option, given, allowed in (
            ("figure", self.figures, figures),
            ("format", self.formats, FORMATS),
        ):
            for name in given:
                if name not in allowed:
                    raise ValueError(f"--{option} {name}: must be one of {', '.join(allowed)}")
        with self.writing():
            place = next(place for place in (self.out, *self.out.parents) if place.exists())
            if not place.is_dir():
                raise ValueError(f"--out {self.out}: must be a folder; {place} is a file")
            if not os.access(place, os.W_OK | os.X_OK):
                raise ValueError(
                    f"--out {self.out}: must be a folder that can be written; {place} can not"
                )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around what writes into ``out``: an OSError becomes a ValueError that names the option."""
        try:
            yield
        except OSError as error:
            reason = f"{error.strerror or error}: {error.filename or self.out}"
            raise ValueError(
                f"--out {self.out}: must be a folder that can be written ({reason})"
            ) from error
