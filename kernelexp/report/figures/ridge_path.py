"""Leave-one-out error, norm and effective dimension against the ridge, from one training for each curve."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import PATH, RUN
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import Data, summary

_BY = ["dataset", "n", "kernel", "bandwidth", "epoch"]
_PANELS = {
    RUN.loo_mse: "mean square error",
    RUN.rkhs_norm: "RKHS norm ||f||",
    RUN.effective_dimension: "effective dimension",
}
_COLUMNS = (RUN.ridge, RUN.loo_mse, RUN.train_mse, RUN.rkhs_norm, RUN.effective_dimension)
# Of each step of a grid.
_HISTORY = tuple(f"{PATH}{name}" for name in _COLUMNS)


def table(data: Data) -> pd.DataFrame:
    """What was found for each ridge of the grid, means over seeds; ``epoch`` is the place in the grid."""
    history = data.history.rename(columns=dict(zip(_HISTORY, _COLUMNS, strict=True)))
    own = data.runs[["run", "seed", *_BY[:-1]]]
    found = summary(history.merge(own, on="run"), _BY, list(_COLUMNS))
    chosen = data.runs.groupby(_BY[:-1], dropna=False)[[RUN.ridge, RUN.loo_mse]].mean()
    chosen = chosen.rename(columns={RUN.ridge: "chosen_ridge", RUN.loo_mse: "chosen_loo_mse"})
    return found.merge(chosen.reset_index(), on=_BY[:-1], how="left")


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """Errors (left out: solid, training: dotted), norm, dimension; a dot where the ridge was chosen."""
    axes = figure.subplots(1, len(_PANELS))
    for (kernel, _), series in frame.groupby(["kernel", "bandwidth"], dropna=False):
        colour = style.kernel_colour(kernel)
        for ax, (column, label) in zip(axes, _PANELS.items(), strict=True):
            style.mean_and_band(ax, series, RUN.ridge, column, color=colour)
            ax.set(xlabel=RUN.ridge, ylabel=label)
        axes[0].plot(series[RUN.ridge], series[RUN.train_mse], color=colour, linestyle=":")
        at = series.iloc[0]
        axes[0].plot([at["chosen_ridge"]], [at["chosen_loo_mse"]], "o", color=colour)
    for ax in axes:
        style.log_axis(ax.xaxis)
        style.log_axis(ax.yaxis)
    low, high = frame[RUN.loo_mse].min(), frame[RUN.loo_mse].max()
    axes[0].set_ylim(low / 3, 2 * high)
    kernels = sorted(set(frame["kernel"]))
    entries = [style.colour_entry(kernel, style.kernel_colour(kernel)) for kernel in kernels]
    entries += [
        ("leave-one-out error, norm, dimension", {"linestyle": "-"}),
        ("training error", {"linestyle": ":"}),
        ("chosen ridge", {"linestyle": "", "marker": "o"}),
    ]
    style.key(figure, entries)


def facts(frame: pd.DataFrame) -> list[str]:
    """The ridge of each kernel."""
    said = []
    for (dataset, n, kernel, _), own in frame.groupby(_BY[:-1], dropna=False):
        at = own.iloc[0]
        said.append(
            f"{kernel} on {dataset}, n = {n:,.0f}: ridge {at['chosen_ridge']:.2g}, leave-one-out error "
            f"{at['chosen_loo_mse']:.3g}."
        )
    return said


FIGURE = Figure(
    title="The ridge by leave-one-out",
    shows="Mean square error of training and of leave-one-out, norm and effective dimension against the ridge; each curve is one "
    "training.",
    needs=("kernel", "dataset", "n", RUN.ridge, RUN.loo_mse),
    point=tuple(_BY[:-1]),
    one=("dataset", "n"),
    history=_HISTORY,
    table=table,
    draw=draw,
    facts=facts,
    size=lambda frame: (9.0, 3.6),
)
