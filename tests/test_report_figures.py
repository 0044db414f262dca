"""What figures say and show, each from a small table of its own."""

import itertools

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from kernelexp.report import frames, style
from kernelexp.report.figures import discover


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
