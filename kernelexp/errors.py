"""What went wrong, in one line."""

from __future__ import annotations

import difflib
import re
import traceback

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from kernelexp.interrupts import Interrupted


class JobFailed(Exception):
    """A job of a sweep failed and was named; its error is the cause."""


class JobInterrupted(Exception):
    """A job was interrupted by ``signal`` in a launcher's worker, which passes on exceptions alone."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


# Of joblib, by its name: importing it takes longer than finding out what else an error may be.
_KILLED_WORKER = "TerminatedWorkerError"

# Of the engine, likewise.
_LOST_RANK = ("RankLost", "RankOutOfMemory")

_WANTED = {"Float": "a number", "Integer": "a whole number", "bool": "true or false"}


def let_go(error: BaseException | None) -> None:
    """Empty the frames of an error and of those it is of: their variables are not kept by whoever keeps it."""
    found, left = set[BaseException](), [error]
    while left:
        if (one := left.pop()) is not None and one not in found:
            found.add(one)
            traceback.clear_frames(one.__traceback__)
            left += [one.__cause__, one.__context__]


def explain(error: BaseException) -> str:
    """One line for any error: the key, the value and what is allowed where it is a setting's."""
    if isinstance(error, Interrupted):
        return str(error)
    if isinstance(error, JobFailed):
        return ""  # it was named when it failed
    if type(error).__name__ in _LOST_RANK:
        return str(error)
    cause = error
    while isinstance(cause.__cause__, (HydraException, OmegaConfBaseException)):
        cause = cause.__cause__
    if isinstance(cause, MissingConfigException) and cause.options:
        group, _, name = str(cause.missing_cfg_file).rpartition("/")
        return f"{group}={name}: must be one of {', '.join(cause.options)}"
    text = "; ".join(line.strip() for line in str(cause).splitlines() if line.strip())
    if isinstance(cause, OverrideParseException):
        return f"{cause.override}: not understood ({text})"
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return _explain_key(cause)
    if is_killed_worker(cause):
        return (
            "a worker process was killed, perhaps since memory ran out, and those beside it with it: "
            "hydra.launcher.n_jobs=... runs fewer at once; the same command again goes on"
        )
    if exit_code(cause) == 1:
        return f"{type(cause).__name__}: {text}; HYDRA_FULL_ERROR=1 shows where"
    return text


def is_killed_worker(error: BaseException) -> bool:
    """Whether joblib lost a worker, and so gave up."""
    return _KILLED_WORKER in (kind.__name__ for kind in type(error).__mro__)


def exit_code(error: BaseException) -> int:
    """2 for what can be put right in the configuration or the data, 1 for the rest; of signals their own."""
    if isinstance(error, Interrupted):
        return error.exit_code
    if isinstance(error, JobFailed) and error.__cause__ is not None:
        return exit_code(error.__cause__)
    settings = (HydraException, OmegaConfBaseException, ValueError, OSError)
    return 2 if isinstance(error, settings) else 1


def _explain_key(error: OmegaConfBaseException) -> str:
    first = str(error).splitlines()[0]
    refused = re.match(r"ValueError raised while resolving interpolation: (.*)", first)
    if refused:  # by a resolver of ours
        return refused[1]
    if "is not a ListConfig" in first:
        return f"{error.full_key}: must be a list, {error.full_key}=[...]"
    group, _, key = str(error.full_key).rpartition(".")
    if "not in" in first and error.parent_node is not None:
        if not len(error.parent_node):
            return f"{error.full_key}: not there yet; write +{error.full_key}=..."
        keys = [str(k) for k in error.parent_node if k not in ("hydra", "name")]
        near = difflib.get_close_matches(key, keys, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        named = group and "name" in error.parent_node  # of several kernels in a sweep, say
        where = f"{group}={error.parent_node['name']}" if named else group or "the top level"
        return f"{error.full_key}: no such key; {where} has {', '.join(keys)}{hint}"
    wrong = re.match(
        r"Value '(.*)' (?:of type '.*' could not be converted to|is not a valid) (\w+)", first
    )
    if wrong:
        wanted = _WANTED.get(wrong[2], wrong[2])
        return f"{error.full_key}={wrong[1]}: must be {wanted}"
    if "is not Optional" in first:
        return f"{error.full_key}=null: must have a value"
    return f"{error.full_key}: {first}"
