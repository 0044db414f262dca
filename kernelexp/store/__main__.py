"""``python -m kernelexp.store send``: deliver the runs that were kept while the store was away."""

from __future__ import annotations

import sys

from kernelexp.store.journal import UNSENT
from kernelexp.store.reach import StoreAway, first_line
from kernelexp.store.unsent import kept, unreadable

_HELP = f"""kernelexp.store: what was kept while the MLflow store was away.

  python -m kernelexp.store send       deliver it, once the store is back
  python -m kernelexp.store list       show it

Runs are kept in {UNSENT} of the folder that they were started in; start this there, too. A run is delivered
with the times of its metrics, its parameters, artifacts, model and end, to the store that it was to be
recorded in. Delivering again, also after this was interrupted, leaves each run once. What was delivered is
removed; the rest stays, and the exit code is 1.
"""


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or {"--help", "-h"} & set(given):
        print(_HELP)
        return 0
    match given:
        case ["send"]:
            return _send()
        case ["list"]:
            for one in kept():
                print(f"{one.folder.name}: {one.shown}")
            return min(1, _say_unreadable())
    typed = " ".join(given)
    print(f"kernelexp: {typed}: must be send or list; --help says more", file=sys.stderr)
    return 2


def _send() -> int:
    from kernelexp.sweep import send_kept

    found, failed, away = kept(), _say_unreadable(), set[str]()
    if not found and not failed:
        print(f"nothing is kept in {UNSENT}")
    for one in found:
        uri = one.begin.uri
        if uri in away:
            failed += 1
            continue
        try:
            line = send_kept(one)
        except StoreAway as error:
            away.add(uri)
            failed += 1
            print(f"kernelexp: {error}", file=sys.stderr)
        except Exception as error:
            failed += 1
            print(
                f"kernelexp: {one.folder.name}: {one.shown}: {first_line(error)}", file=sys.stderr
            )
        else:
            print(line or f"{one.folder.name}: {one.shown}: left alone, its process is still at it")
    if failed:
        print(f"kernelexp: {failed} still kept in {UNSENT}", file=sys.stderr)
    return 1 if failed else 0


def _say_unreadable() -> int:
    """What no command here can send: how many there are."""
    lines = unreadable()
    for line in lines:
        print(f"kernelexp: {line}; the version that wrote it sends it", file=sys.stderr)
    return len(lines)


if __name__ == "__main__":
    sys.exit(main())
