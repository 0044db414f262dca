"""What a run hands to the store, as values that can be written down and handed over later.

A run is a list of them in order. Each has the time it happened at, so that handing it over twice gives
the same as once.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import TypeAlias


def now_ms() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)


@dataclass(frozen=True)
class Begin:
    """A run begins, or goes on.

    Attributes:
        key: by which the run is found where the reply to its creation was lost.
        uri: of the store.
        experiment: its name.
        name: of the run.
        tags: of the run from its beginning.
        run_id: of the run that goes on, or the key of one that the store does not know yet; None: a new one.
        time: of its start.
    """

    key: str
    uri: str
    experiment: str
    name: str
    tags: dict[str, str]
    run_id: str | None = None
    time: int = field(default_factory=now_ms)


@dataclass(frozen=True)
class Created:
    """The store has the run, under this id."""

    run_id: str


@dataclass(frozen=True)
class Params:
    """Parameters of the run."""

    values: dict[str, str]


@dataclass(frozen=True)
class Tags:
    """Tags that are set; a later value replaces an earlier one."""

    values: dict[str, str]


@dataclass(frozen=True)
class Metrics:
    """Metrics; ``step``: the epoch, 0 for those of the whole run."""

    values: dict[str, float]
    step: int = 0
    time: int = field(default_factory=now_ms)


@dataclass(frozen=True)
class Text:
    """An artifact that is a text."""

    name: str
    text: str


@dataclass(frozen=True)
class Input:
    """The data set that is trained on."""

    name: str
    digest: str
    source: str


@dataclass(frozen=True)
class Model:
    """A model in MLflow's format; ``folder``: where, absolute or within the journal's folder."""

    folder: str


@dataclass(frozen=True)
class End:
    """The run ends: FINISHED, FAILED or KILLED."""

    status: str
    time: int = field(default_factory=now_ms)


@dataclass(frozen=True)
class SweepEnd:
    """A sweep ended while the store was away; its parent run is to be ended as its jobs did."""

    uri: str
    experiment: str
    parent: str
    interrupted: bool
    time: int = field(default_factory=now_ms)


Entry: TypeAlias = Begin | Created | Params | Tags | Metrics | Text | Input | Model | End | SweepEnd
_KINDS: dict[str, type[Entry]] = {
    kind.__name__: kind
    for kind in (Begin, Created, Params, Tags, Metrics, Text, Input, Model, End, SweepEnd)
}


def to_line(entry: Entry) -> str:
    """An entry as one line of JSON, without its end."""
    return json.dumps({"kind": type(entry).__name__, **asdict(entry)}, ensure_ascii=False)


def from_line(line: str) -> Entry:
    """The entry of a line.

    Raises:
        ValueError: for a line that is none, or was made by a version that knows more.
    """
    values = json.loads(line)
    try:
        return _KINDS[values.pop("kind")](**values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{line[:80]}: not an entry of this version") from error
