"""What the report reads of a database's tables is what MLflow's search finds."""

import math

import pytest
import report_store as made

from kernelexp.report import recorded as module
from kernelexp.report.recorded import recorded


@pytest.fixture
def store(client, workdir):
    made.sweep(client, "kernels", [{"params": {"seed": s}, "metrics": {}} for s in range(7)])
    made.sweep(client, "rkhs_norm", list(made.rkhs_norm())[:4])
    made.foreign(client, "kernels")
    return f"sqlite:///{workdir}/mlflow.db"


def test_a_database_is_read_as_by_mlflow(client, store, monkeypatch):
    numbers = [found.experiment_id for found in client.search_experiments()]
    [deleted] = client.search_runs(numbers, "params.seed = '3'")
    client.delete_run(deleted.info.run_id)
    monkeypatch.setattr(module, "_PAGE", 5)  # several pages
    read = recorded(client, store, numbers, "")
    searched = recorded(client, "http://server", numbers, "")
    assert len(read) == 17
    assert deleted.info.run_id not in {run.run for run in read}
    # NaN is not equal to itself.
    of_nan = [run.metrics.pop("test_accuracy") for run in read + searched if "run" in run.metrics]
    assert len(of_nan) == 2
    assert all(math.isnan(value) for value in of_nan)
    assert read == searched


def test_one_experiment_is_read_without_the_others(client, store):
    number = client.get_experiment_by_name("rkhs_norm").experiment_id
    assert {run.experiment for run in recorded(client, store, [number], "")} == {number}
    assert recorded(client, store, [], "") == []


def test_a_filter_is_mlflows(client, store):
    numbers = [found.experiment_id for found in client.search_experiments()]
    found = recorded(client, store, numbers, "params.seed = '6'")
    assert [run.params["seed"] for run in found] == ["6"]
