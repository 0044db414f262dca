"""What figures say and show, each from a small table of its own."""

import itertools

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from kernelexp.metrics import SELECTION
from kernelexp.report import captions, frames, paper, style
from kernelexp.report.comparison import comparison, readable
from kernelexp.report.figures import discover

# What the header of a score on points held out of training begins with.
_HELD_OUT = {"valid", "folds", "leave-one-out"}


def trials(*settings, **columns):
    """Runs of a search; one dictionary of settings for each."""
    count = len(settings)
    runs = {
        "run": [f"{i}" * 32 for i in range(count)],
        "started": pd.date_range("2026-01-01", periods=count, tz="UTC"),
        "kernel": [own["kernel.name"] for own in settings],
        "solver": "exact",
        "n": 500,
        "setup_seconds": 1.0,
        "train_seconds": 1.0,
        "settings": list(settings),
    }
    keys = sorted(set().union(*settings))
    values = {key: [own.get(key) for own in settings] for key in keys}
    return frames.Data(pd.DataFrame({**runs, **values, **columns}))


def test_of_equal_scores_the_smaller_error_is_the_best():
    search = discover()["search"]
    data = trials(
        {"kernel.name": "exponential_power", "kernel.alpha": "0.7", "kernel.bandwidth": "3"},
        {"kernel.name": "gaussian", "kernel.bandwidth": "9"},
        {"kernel.name": "gaussian", "kernel.bandwidth": "5"},
        valid_accuracy=[0.9, 0.9, 0.8],
        valid_mse=[0.2, 0.1, 0.01],
    )
    # The gaussian has no alpha, which the sentence leaves out.
    said = search.facts(search.table(data))[0]
    assert said == "Best: gaussian, kernel.bandwidth = 9, valid accuracy 90.00%."


def test_settings_without_a_panel_are_in_the_table_and_named():
    search = discover()["search"]
    more = {f"solver.s{i}": str(i + 1) for i in range(5)}
    both = dict.fromkeys(more, "7")
    data = trials({"kernel.name": "matern", **more}, {"kernel.name": "matern", **both}, valid_accuracy=[0.9, 0.8])  # fmt: skip
    table = search.table(data)
    assert set(table["setting"]) == set(more)
    best, drawn, _ = search.facts(table)
    assert "solver.s4 = 5" in best
    assert (
        drawn == "Drawn: solver.s0, solver.s1, solver.s2, solver.s3; in the table also solver.s4."
    )
    canvas = Canvas()
    search.draw(table, canvas)
    assert len(canvas.axes) == 4


def axis_labels(low, high, inches, upright, values=None):
    """The labels of a log axis of points from low to high, and whether any two of them overlap."""
    with mpl.rc_context(style.RC):
        canvas = Canvas((inches, inches))
        FigureCanvasAgg(canvas)
        ax = canvas.subplots()
        ax.plot(*([[1, 2], [low, high]] if upright else [[low, high], [1, 2]]))
        axis = ax.yaxis if upright else ax.xaxis
        style.log_axis(axis, values)
        canvas.canvas.draw()
        first, last = sorted(axis.get_view_interval())
        ticks = [t for t in axis.get_major_ticks() if first <= t.get_loc() <= last]
        boxes = [tick.label1.get_window_extent() for tick in ticks]
        minor = [t for t in axis.get_minorticklocs() if first <= t <= last]
        overlap = any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        return [(t.get_loc(), t.label1.get_text()) for t in ticks], minor, overlap


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("inches", [1.9, 3.5, 6.0])
@pytest.mark.parametrize(
    ("low", "high", "values"),
    [
        (22, 145, None),
        (0.031, 0.07, None),
        (10.3, 18, None),
        (3.82, 3.86, None),
        (0.9, 1.1, None),
        (500, 20_000, None),
        (20, 350_000, None),
        (1e-8, 2.0, None),
        (3e-5, 8e-5, None),
        (1e-30, 1e20, None),
        (500, 2000, [500, 1000, 2000]),
        (1000, 2000, [1000, 2000]),
        (1000, 2000, [1000, 1310, 2000]),
    ],
)
def test_a_log_axis_has_three_labels_that_can_be_read(low, high, values, inches, upright):
    labels, minor, overlap = axis_labels(low, high, inches, upright, values)
    texts = [text for place, text in labels if 0.99999 * low <= place <= 1.00001 * high]
    assert len(set(texts)) == len(texts) >= 3
    assert not overlap
    assert len(minor) >= 3


def test_points_that_are_few_have_the_ticks():
    labels, _, _ = axis_labels(500, 60_000, 5, False, [500, 2000, 20_000, 60_000])
    assert [text for _, text in labels] == ["500", "2k", "20k", "60k"]
    labels, _, _ = axis_labels(1, 100, 5, True)
    assert [text for _, text in labels] == ["1", "2", "5", "10", "20", "50", "100"]


def draw(name, table):
    """The canvas of a figure, and the names in its legend."""
    canvas = Canvas()
    discover()[name].draw(table, canvas)
    return canvas, [text.get_text() for legend in canvas.legends for text in legend.get_texts()]


def test_every_line_and_marker_of_the_ridge_is_in_the_legend():
    columns = ["ridge", "loo_mse", "train_mse", "rkhs_norm", "effective_dimension"]
    values = {f"{c}{end}": [1e-3, 1e-2, 1e-1] for c in columns for end in ("", "_min", "_max")}
    own = {"kernel": "gaussian", "bandwidth": 5.0, "chosen_ridge": 1e-2, "chosen_loo_mse": 1e-2}
    _, legend = draw("ridge_path", pd.DataFrame({**values, **own}))
    assert legend == [
        "gaussian",
        "leave-one-out error, norm, dimension",
        "training error",
        "chosen ridge",
    ]


def test_every_marker_of_the_papers_convergence_is_in_the_legend():
    points = paper.points("convergence")
    ours = points.assign(source=frames.HERE)
    for end in ("min", "max"):
        ours[f"test_error_percent_{end}"] = ours["test_error_percent"]
    _, legend = draw("convergence", pd.concat([ours, points], ignore_index=True))
    assert {"eigenpro2", "sgd", "interpolated"} == {
        name.removeprefix("papers, n = 60,000: ") for name in legend if "papers" in name
    }


def test_the_colours_of_m_have_a_bar():
    rounds = {"part": "rounds", "epoch": [1, 2]}
    for name in ("epoch_train_accuracy", "epoch_test_accuracy"):
        rounds |= dict.fromkeys((name, f"{name}_min", f"{name}_max"), 1.0)
    M = pd.DataFrame({"part": "M", "m0": [1.0, 0.2], "m1": [0.2, 1.0]})
    canvas, _ = draw("grokking", pd.concat([pd.DataFrame(rounds), M], ignore_index=True))
    bar = canvas.axes[2]
    assert (bar.get_ylabel(), bar.get_ylim()) == ("entry of M", (-0.2, 0.2))


def spread(**columns):
    """With the least and the largest value of what has several seeds."""
    table = pd.DataFrame(columns).assign(seeds=1, source=frames.HERE)
    ends = {f"{c}_{end}": table[c] for c in columns for end in ("min", "max")}
    return pd.concat([table, pd.DataFrame(ends)], axis=1)


def of_kernels(**changes):
    """Two kernels on two data sets, of which each is the better on one."""
    runs = {
        "run": [str(i) * 8 for i in range(4)], "seed": 0, "dataset": ["a", "a", "b", "b"], "n": 500,
        "kernel": ["gaussian", "laplacian"] * 2, "bandwidth": 1.0, "solver": "eigenpro2",
        "m_star": 5.0, "setup_seconds": 1.0, "train_seconds": 1.0, "epochs": 40, "train_mse": 1e-3,
        "test_accuracy": [0.8, 0.9, 0.5, 0.45], "solver.stop.train_mse": 1e-3,
        "stopped_by": ["epochs", *["train_mse"] * 3],
    }  # fmt: skip
    return frames.Data(pd.DataFrame({**runs, **changes}))


def test_kernels_that_ran_out_of_epochs_are_hollow():
    kernels = discover()["kernels"]
    found = kernels.table(of_kernels())
    assert found.set_index(["dataset", "kernel"])["reached"].to_dict() == {
        ("a", "gaussian"): 0, ("a", "laplacian"): 1, ("b", "gaussian"): 1, ("b", "laplacian"): 1,
    }  # fmt: skip
    canvas, legend = draw("kernels", found)
    assert legend == ["ended as asked", "out of epochs above the training loss asked for"]
    hollow = [[line.get_mfc() == "white" for line in ax.lines] for ax in canvas.axes]
    assert hollow == [[True, False]] * 4 + [[False, False]] * 4
    # Where nothing was asked for, all epochs are what was wanted.
    found = kernels.table(of_kernels(**{"solver.stop.train_mse": float("nan")}))
    assert found["reached"].eq(1).all()
    assert draw("kernels", found)[1] == []


def test_kernels_have_one_order_on_all_data_sets():
    canvas, _ = draw("kernels", discover()["kernels"].table(of_kernels()))
    names = [[text.get_text() for text in ax.get_yticklabels()] for ax in canvas.axes[::4]]
    assert names == [["laplacian", "gaussian"]] * 2


@pytest.mark.parametrize("accuracy", [[100.0, 100.0, 100.0], [98.0, 100.0, 99.0]])
def test_no_accuracy_axis_goes_beyond_all(accuracy):
    own = {"kernel": "gaussian", "dataset": "a", "n": 500, "solver": "exact"}
    table = spread(
        **own, bandwidth=[1.0, 2, 4], p=[1.0, 2, 4], test_accuracy_percent=accuracy, rkhs_norm=2.0,
        seconds=1.0, learner=["x", "y", "z"], score=accuracy, measure="test_accuracy", setting="s",
        value=[1.0, 2.0, 3.0], run=["1", "2", "3"], error=0.1, by="valid_accuracy",
    )  # fmt: skip
    for name, limits in (
        ("bandwidth", "ylim"),
        ("centers", "ylim"),
        ("tables", "xlim"),
        ("search", "ylim"),
    ):
        canvas, _ = draw(name, table)
        low, high = canvas.axes[0].properties()[limits]
        assert low < min(accuracy)
        assert high == 100


def test_all_runs_have_the_score_that_chose_and_the_chosen_ridge():
    for score in SELECTION:
        runs = of_kernels(experiment="mine", noise=0.0, settings=[{}] * 4, ridge=1e-3, warning=None,
                          device_name="cpu", commit="1234567", p=None, **{score: 0.75}).runs  # fmt: skip
        table = comparison(runs)
        assert table[score].eq(0.75).all()
        _, header, rows = readable(table)
        [place] = [i for i, name in enumerate(header) if name.split()[0] in _HELD_OUT]
        percent = score.endswith("accuracy")
        assert header[place].endswith("%" if percent else "R2")
        assert {row[place] for row in rows} == {"75.00" if percent else "0.75"}
        assert {row[header.index("chosen ridge")] for row in rows} == {"0.001"}


def test_settings_are_in_the_order_of_numbers():
    sizes = [1024, 16, 1, 128]
    for values in (sizes, np.array(sizes), np.array(sizes).astype(object), list(np.array(sizes))):
        assert captions.listed(values) == "1, 16, 128, 1,024"
    # One word makes all of a column text.
    runs = pd.DataFrame({"batch_size": ["1024", "16", "auto", "1", "128"]})
    assert captions.settings(runs) == "batch size 1, 16, 128, 1024, auto"


def test_a_sine_that_is_not_known_is_left_out():
    subspace = discover()["subspace"]
    runs = {"run": ["1" * 8, "2" * 8], "dataset": "a", "n": [500, 1000], "d": 5, "kernel": "gaussian",
            "bandwidth": 1.0, "epochs": 1, "seed": 0, "test_mse": [0.5, 0.25]}  # fmt: skip
    said = subspace.facts(subspace.table(frames.Data(pd.DataFrame(runs))))
    assert said == ["One fit: test error 0.5 (n = 500); test error 0.25 (n = 1,000)."]
    known = pd.DataFrame({**runs, "subspace_error": [0.4, 0.2]})
    [said] = subspace.facts(subspace.table(frames.Data(known)))
    assert "0.5, sine 0.4 (n = 500)" in said
