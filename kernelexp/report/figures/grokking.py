"""Accuracy of a recursive feature machine by round, and its M as a picture: Mallinar et al. 2025."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import EPOCH, FEATURES
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import HERE, Data, from_then_on, of_all_seeds, summary

_ACCURACIES = {EPOCH.epoch_train_accuracy: "training", EPOCH.epoch_test_accuracy: "test"}
_ROUNDS, _MATRIX = "rounds", "M"
# Test accuracy from which the rise has begun, and from which it is over.
_BEGUN, _OVER = 0.05, 0.95


def table(data: Data) -> pd.DataFrame:
    """Accuracy by round, mean over the runs, and below the rows of M of the newest: columns ``m0``, ``m1``, ...

    M is that of the last round's kernel. ``circulant`` and ``hankel``: the shares of the squared norm of its upper right block,
    (d/2, d/2), that the nearest circulant matrix (one number for each i - j) and Hankel matrix (one for each i + j, modulo d/2)
    have; ``chance``: that of random numbers, 2/d.
    """
    if not data.file.get("matrix"):
        raise ValueError("the run has no M, which is kept whole of up to 256 coordinates")
    history = of_all_seeds(data.history, [])
    rounds = summary(history, ["epoch"], list(_ACCURACIES))
    rounds["seeds"] = history.groupby("epoch")["run"].nunique().to_numpy()
    M = np.array(data.file["matrix"])
    half = len(M) // 2
    i, j = np.mgrid[0:half, 0:half]
    block = M[:half, -half:]
    rows = pd.DataFrame(M.round(5), columns=[f"m{k}" for k in range(len(M))]).assign(
        runs=data.shown,
        source=HERE,
        circulant=_share(block, (i - j) % half),
        hankel=_share(block, (i + j) % half),
        chance=1 / half,
    )
    return pd.concat([rounds.assign(part=_ROUNDS), rows.assign(part=_MATRIX)], ignore_index=True)


def _share(block: np.ndarray, groups: np.ndarray) -> float:
    """Of |block|^2, that of the matrix with the mean of each group in its places."""
    sums = np.bincount(groups.ravel(), block.ravel())
    return float((sums**2 / len(block)).sum() / max((block**2).sum(), 1e-300))


def _matrix(frame: pd.DataFrame) -> np.ndarray:
    own = frame[frame["part"] == _MATRIX]
    M: np.ndarray = own[[f"m{k}" for k in range(len(own))]].to_numpy(float)
    return M


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """Left: accuracy by round; right: M, its diagonal beyond the colours."""
    left, right = figure.subplots(1, 2)
    rounds = frame[frame["part"] == _ROUNDS]
    looks = {
        "training": {"color": style.GREY, "linestyle": "--"},
        "test": {"color": style.solver_colour("eigenpro2"), "marker": "o"},
    }
    for column, name in _ACCURACIES.items():
        percent = rounds.assign(
            **{f"{column}{end}": 100 * rounds[f"{column}{end}"] for end in ("", "_min", "_max")}
        )
        style.mean_and_band(left, percent, "epoch", column, **looks[name])
    left.set(xlabel="round", ylabel="accuracy (%)", ylim=(-3, 103))
    style.accuracy_axis(left.yaxis)
    M = _matrix(frame)
    most = np.abs(M - np.diag(M.diagonal())).max() or 1.0
    drawn = right.imshow(M, cmap="RdBu", vmin=-most, vmax=most, interpolation="nearest")
    right.set_title("M of the last round", fontsize=9)
    right.axis("off")
    beyond = "max" if M.max() > most else "neither"  # the diagonal, of squares, is not negative
    figure.colorbar(drawn, ax=right, label="entry of M", shrink=0.8, extend=beyond)
    style.key(figure, list(looks.items()))


def facts(frame: pd.DataFrame) -> list[str]:
    """Where accuracy rises, and how circulant M is."""
    rounds, rows = frame[frame["part"] == _ROUNDS], frame[frame["part"] == _MATRIX].iloc[0]
    test = rounds.set_index("epoch")[EPOCH.epoch_test_accuracy]
    least = rounds[f"{EPOCH.epoch_train_accuracy}_min"].min()
    trained = ""
    if not math.isnan(least):  # runs of before have none
        trained = (
            f"Training accuracy is at least {math.floor(1e4 * least) / 100:g}% in all rounds; "
        )
    begun, over = (test[from_then_on(test > level)] for level in (_BEGUN, _OVER))
    rise = (
        "does not rise"
        if begun.empty
        else f"is above {100 * _BEGUN:.0f}% from round {begun.index[0]:.0f}"
    )
    if len(over):
        rise += f" and above {100 * _OVER:.0f}% from round {over.index[0]:.0f}"
    return [
        f"{trained}test accuracy, {100 * test.iloc[0]:.2g}% in the first, {rise}, "
        f"{100 * test.iloc[-1]:.4g}% in the last.",
        f"Of the squared norm of M's upper right block a circulant matrix has {100 * rows['circulant']:.1f}%, a Hankel matrix "
        f"{100 * rows['hankel']:.1f}%; of random numbers each would have {100 * rows['chance']:.1f}%.",
    ]


FIGURE = Figure(
    title="Modular arithmetic: accuracy by round, and what was learned",
    shows="Training and test accuracy after each round, M being 1 in the first, and the M of the run that is best on held-out points or, without any, of the newest, whose diagonal is beyond the "
    "colours.",
    expected="training accuracy is 100% from the first round; test accuracy rises from about 0 to 100% within few rounds, when the "
    "off-diagonal blocks of M have become circulant (addition and subtraction).",
    needs=("kernel", "dataset", "solver.agop_power", "seed"),
    point=("dataset", "n", "kernel", "bandwidth", "solver", "solver.agop_power"),
    one=("dataset", "n", "kernel", "bandwidth", "solver", "dataset.operation", "solver.agop_power"),
    history=tuple(_ACCURACIES),
    file=FEATURES,
    table=table,
    draw=draw,
    facts=facts,
    size=lambda frame: (8.4, 4.2),
)
