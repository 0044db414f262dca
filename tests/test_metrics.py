"""The names of what runs record: one list, each explained, and enough for all that is recorded."""

import ast
import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import ROOT

from kernelexp.comparisons import COMPARISONS
from kernelexp.metrics import EPOCH, RUN, EpochMetrics, RunMetrics, last_attempt, names


@pytest.mark.parametrize("held", [RUN, EPOCH])
def test_every_name_is_its_fields(held):
    assert dataclasses.asdict(held) == {name: name for name in names(type(held))}


@pytest.mark.parametrize("kind", [RunMetrics, EpochMetrics])
def test_every_name_is_explained_in_order(kind):
    lines = [line.strip() for line in kind.__doc__.partition("Attributes:")[2].splitlines()]
    explained = [line.split(":")[0] for line in lines if line.split(":")[0].isidentifier()]
    assert explained == list(names(kind))


def test_what_is_none_is_not_recorded():
    metrics = RunMetrics(test_accuracy=0.5, rkhs_norm=0.0)
    assert metrics.recorded() == {"test_accuracy": 0.5, "rkhs_norm": 0.0}
    assert EpochMetrics().recorded() == {}


def test_a_name_that_is_none_of_them_is_refused():
    with pytest.raises(TypeError, match="test_accurracy"):
        RunMetrics(test_accurracy=0.5)


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_every_comparison_has_names_for_its_scores(comparison):
    scores = {f"{comparison}_test_{score}" for score in ("accuracy", "r2", "mse")}
    assert scores <= set(names(RunMetrics))


def test_reading_names_needs_no_numerics():
    code = "import sys, kernelexp.metrics; print(*sorted({'torch', 'numpy', 'mlflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# Words that are labels, too, and the name of a figure.
AMBIGUOUS = {"epochs", "q", "rkhs_norm"}


@pytest.mark.parametrize("part", ["report", "sweep.py", "console.py"])
def test_readers_take_names_from_the_one_list(part):
    place = ROOT / "kernelexp" / part
    listed = {*names(RunMetrics), *names(EpochMetrics)} - AMBIGUOUS
    for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
        texts = {
            n.value
            for n in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(n, ast.Constant)
        }
        assert not texts & listed, path


def test_the_last_attempt_of_a_curve():
    """Begun again after a divergence, gone on with on a machine whose clock is behind, or told of twice."""

    def points(*told):
        return [SimpleNamespace(step=s, timestamp=t, value=v) for s, t, v in told]

    again = [(1, 10, 0.5), (2, 20, 0.4), (3, 30, 0.3), (1, 40, 0.6), (2, 50, 0.7)]
    assert last_attempt(points(*again)) == {1: 0.6, 2: 0.7}
    assert last_attempt(points((1, 10, 0.5), (2, 20, 0.6), (3, 5, 0.7))) == {1: 0.5, 2: 0.6, 3: 0.7}
    assert last_attempt(points((1, 10, 0.5), (2, 20, 0.6), (2, 30, 0.7))) == {1: 0.5, 2: 0.7}
    assert last_attempt([]) == {}
