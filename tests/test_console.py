"""What a person sees of a run that is not as it should be, and of names with characters of markup."""

import re
from dataclasses import replace

import numpy as np
import pytest

from kernelexp import console
from kernelexp.data import SOURCES
from kernelexp.engine import KERNELS, SOLVERS
from kernelexp.experiment import Config, run


@pytest.fixture(scope="module")
def result():
    config = Config(
        SOURCES["synthetic1"](n_train=40, n_test=10),
        KERNELS["gaussian"](bandwidth=7.0),
        SOLVERS["exact"](),
    )
    return run(config)


@pytest.fixture
def table(capsys, monkeypatch):
    """What is printed at the end."""

    def shown(result, on_terminal=False):
        for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "150")):
            monkeypatch.setenv(name, value if on_terminal or name == "COLUMNS" else "")
        console.Terminal(None).finished(result)
        return capsys.readouterr().out

    return shown


def test_a_system_that_is_not_solved_is_loud(result, table):
    sentence = "K is singular [rank 3 of 40]: the answer is the least-squares one."
    loud = replace(result, warning=sentence)
    assert result.warning is None
    assert "warning" not in table(result)
    assert table(loud).splitlines()[-1] == f"warning: {sentence}"
    assert f"\x1b[1;31mwarning: {sentence}" in table(loud, on_terminal=True)


@pytest.mark.parametrize(
    ("error", "shown"),
    [(0.03, "relative error about 0.03)"), (float("inf"), "relative error not known)")],
)
def test_the_norms_error_is_an_estimate(result, table, error, shown):
    assert shown in table(replace(result, norm=replace(result.norm, relative_error=error)))


@pytest.fixture
def rows(table):
    """The rows of the table by name."""

    def read(result):
        lines = (line.split("│") for line in table(result).splitlines())
        return {cells[1].strip(): cells[2].strip() for cells in lines if len(cells) == 4}

    return read


def test_numbers_that_are_equal_look_so(result, rows):
    """The two m* of a solver that deflates nothing."""
    for value, shown in ((2.95, "2.95"), (1234.5, "1,234")):
        stars = {"m_star": value, "m_star_adapted": value}
        found = rows(replace(result, metrics={**result.metrics, **stars}))
        assert found["m*"] == found["adapted m*"] == shown


def test_what_it_was_compared_with_is_shown(result, rows):
    assert not {"svm test accuracy %", "test mse"} & set(rows(result))
    theirs = {"svm_test_accuracy": 0.875, "svm_test_mse": 0.1, "boosting_test_accuracy": 0.5}
    predicted = {"test_mse": 0.021, "predicted_test_mse": 0.02}
    found = rows(replace(result, metrics={**result.metrics, **theirs, **predicted}))
    assert (found["svm test accuracy %"], found["boosting test accuracy %"]) == ("87.50", "50.00")
    assert (found["test mse"], found["predicted test mse"]) == ("0.021", "0.02")
    of_targets = {k: v for k, v in result.metrics.items() if "accuracy" not in k}
    of_targets |= {"test_r2": 0.9, "nearest_neighbour_test_r2": 0.75}
    assert rows(replace(result, metrics=of_targets))["nearest neighbour test r2"] == "0.75"


def test_names_are_no_markup(cli, runs, workdir):
    """``[/b]`` closes nothing, ``[exact]`` is shown, ``:smile:`` is no picture."""
    x = np.random.default_rng(0).random((40, 3))
    y = np.arange(40) % 2
    (workdir / "a[").mkdir()  # a slash is one in paths as well
    np.savez("a[/b].npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    arguments = (
        "--multirun", "dataset=npz", "dataset.path='a[/b].npz'", "compare=[exact],[]",
        "solver=exact", "tracking.log_model=false", "+tracking.tags.a=':smile:'",
    )  # fmt: skip
    done = cli(*arguments)
    assert done.code == 0, done.err
    assert "compare=[exact]" in done.out
    again = cli(*arguments)
    assert "dataset.path=a[/b].npz" in again.out or "dataset.path='a[/b].npz'" in again.out
    assert ":smile:" in again.out
    assert "compare=[exact]" in cli(*arguments, "dry_run=true").out


@pytest.mark.parametrize(("solver", "end"), [("eigenpro2", r"; batch \d+, q \d+, step .*"), ("ridge_path", "; centers 300"), ("rfm", "")])  # fmt: skip
def test_the_first_line_says_data_machine_memory_and_choices(cli, solver, end):
    done = cli("dataset.n_train=300", f"solver={solver}", "tracking.enabled=false")
    line = next(line for line in done.out.splitlines() if line.startswith("digits:"))
    assert re.fullmatch(rf"digits: 300 x 64, 10 classes, on [^;]*; memory [^;]*\){end}", line)
