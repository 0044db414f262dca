"""``python -m kernelexp.search kernel.bandwidth=log:1..100 --trials 40``: good settings, by held-out points."""

from __future__ import annotations

import sys

from kernelexp import __main__ as command
from kernelexp.options import Parser
from kernelexp.search.space import as_hydra
from kernelexp.search.sweeper import NAME

_EXAMPLE = (
    "example: python -m kernelexp.search kernel=laplacian,gaussian kernel.bandwidth=log:1..100 solver=exact "
    "solver.ridge=log:1e-8..1e-2 dataset=fmnist launcher=processes --trials 40"
)


def main() -> None:
    """Search; exit codes as of ``python -m kernelexp``."""
    parser = Parser(
        prog="python -m kernelexp.search",
        description="Trials on few points, the better third on three times as many, the last on all; judged by "
        "validation=0.2 (unless typed otherwise), never by test points. Typed again it goes on.",
        epilog=_EXAMPLE,
    )
    parser.add_argument("--trials", type=_count, default=40, help="on the first size (default: 40)")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE",
                        help="as of python -m kernelexp; KEY=log:A..B, KEY=A..B and KEY=a,b are searched")  # fmt: skip
    given = parser.parse_intermixed_args()
    typed = [as_hydra(argument) for argument in given.overrides]
    if not any(argument.startswith("tracking.experiment=") for argument in typed):
        typed.append("tracking.experiment=search")
    options = ["--multirun", f"hydra/sweeper={NAME}", f"hydra.sweeper.trials={given.trials}"]
    sys.argv = [sys.argv[0], *options, *typed]
    command.main()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError
    return int(text)


_count.__name__ = "number of trials (1 or more)"  # as argparse names it where it does not fit

if __name__ == "__main__":
    main()
