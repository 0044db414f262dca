"""The sizes of a search: few points for many trials, all for the last; successive halving over n."""

from __future__ import annotations

from dataclasses import dataclass

# Test points of trials on few points, which say nothing there.
_TESTED = 100
# Each rung has three times the points of the one below and a third of its trials (Jamieson, Talwalkar 2016;
# Li et al. 2018), over at most three rungs; no fewer points than this.
_FACTOR, _MOST, _FEWEST = 3, 3, 500


@dataclass(frozen=True)
class Rung:
    """Trials with so many points.

    Attributes:
        points: to train on.
        trials: how many.
        overrides: that make it so; none on the last, where all is as it was typed.
    """

    points: int
    trials: int
    overrides: tuple[str, ...]


def rungs(
    n: int,
    tested: int,
    held: float | None,
    trials: int,
    multiple: int = 1,
    asked: int = 0,
    grouped: bool = False,
) -> list[Rung]:
    """From few points to all.

    Args:
        n: points there are, those that are held out among them.
        tested: test points there are.
        held: the share or number that is held out for choosing; on each rung as many are, for scores of many points
            tell close trials apart. None: none are, or folds.
        trials: on the first rung.
        multiple: what numbers of points must be a multiple of (balanced classes).
        asked: points that the largest of the trials has to have, for its centers or its subsample.
        grouped: whether groups are held out, as wholes: then each rung holds the share of all points out, since a number
            may be more than a few of them leave.
    """
    valid = 0 if held is None else round(held * n) if held < 1 else int(held)
    sizes = [n - valid]
    # How many points a group leaves is not known.
    fewest = n if grouped and asked else max(_FEWEST, asked + multiple - 1)
    while len(sizes) < _MOST and sizes[0] // _FACTOR >= fewest:
        sizes.insert(0, sizes[0] // _FACTOR)
    found = []
    for points in sizes:
        out = valid * points // sizes[-1] if grouped else valid
        taken = (points + out) // multiple * multiple
        smaller = [f"dataset.n_train={taken}", f"dataset.n_test={min(tested, _TESTED)}"]
        smaller += [f"validation={out}"] if out else []
        found.append(Rung(taken - out, trials, tuple(smaller) if points < sizes[-1] else ()))
        trials = max(1, trials // _FACTOR)
    return found
