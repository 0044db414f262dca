"""Which code made a run: the version counts, the commit is told."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import kernelexp

VERSION_TAG, COMMIT_TAG, DIRTY_TAG = "kernelexp.version", "git.commit", "git.dirty"


@functools.cache
def code_tags() -> dict[str, str]:
    """Version, commit of the source and whether it has changes since; no commit outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(kernelexp.__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    version = {VERSION_TAG: kernelexp.__version__}
    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # not some other project's checkout
        return {
            **version,
            COMMIT_TAG: git("rev-parse", "HEAD"),
            DIRTY_TAG: str(bool(git("status", "--porcelain"))).lower(),
        }
    except (OSError, subprocess.CalledProcessError):
        return version


def of_other_code(tags: dict[str, str]) -> str:
    """How the code of a run with these tags may differ from this one; empty where it does not.

    Code with changes that are not committed is never known to be the same.
    """
    here, there = _code(code_tags()), _code(tags)
    return "" if here == there and "changes" not in here else f"made by {there}, this is {here}"


def _code(tags: dict[str, str]) -> str:
    if COMMIT_TAG not in tags:
        return "no commit"
    changed = " with changes" if tags.get(DIRTY_TAG) == "true" else ""
    return f"commit {tags[COMMIT_TAG][:10]}{changed}"
