"""What figures say and show, each from a small table of its own."""

import pandas as pd

from kernelexp.report import frames
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
