"""The tracking server goes and comes, answers wrongly, loses replies: nothing is lost or recorded twice."""

import os
import re
import shutil
import threading
import time

import numpy as np
import pytest
from servers import Server
from store_door import Door

from kernelexp import tracking
from kernelexp.identity import Identity
from kernelexp.store import TrackingConfig
from kernelexp.store import outbox as outbox_module

SMALL = ("dataset.n_train=300", "dataset.n_test=100", "tracking.log_model=false")
GROUPS = {group: {"name": group} for group in ("kernel", "dataset", "solver")}


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_store):
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder / "mlflow.db")
    server = Server(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def door(server, workdir, monkeypatch):
    door = Door(server.port)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", door.uri)
    monkeypatch.setattr(outbox_module, "_PAUSES", (0.2,))
    yield door
    door.close()


@pytest.fixture
def recorded(server, request):
    """The runs of this test's experiment, asked for past the door, oldest first."""
    from mlflow import MlflowClient

    client = MlflowClient(server.uri)

    def find(experiment):
        found = client.get_experiment_by_name(experiment)
        where = [found.experiment_id]
        return client.search_runs(where, order_by=["attributes.start_time ASC"])

    find.client = client
    return find


def tracker(door, experiment, run_id=None, **settings):
    config = TrackingConfig(uri=door.uri, experiment=experiment, **settings)
    identity = Identity("digest", "files", lambda: None, False)
    return tracking.Tracker(config, identity, GROUPS, "a: 1\n", ["a=1"], run_id)


def steps(client, run_id, name="loss"):
    return [point.step for point in client.get_metric_history(run_id, name)]


def until(holds, seconds=60):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to it"
        time.sleep(0.02)


@pytest.mark.parametrize("mode", ["closed", "silent", "login", "refuse", "deaf"])
def test_a_store_that_is_away_for_a_while_costs_nothing(door, recorded, monkeypatch, mode, capfd):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    name = f"away {mode}"
    with tracker(door, name) as run:
        run.epoch(1, {"loss": 1.0})
        until(lambda: run.outbox._done())
        door.set(mode)
        for epoch in range(2, 10):
            run.epoch(epoch, {"loss": 1.0 / epoch, "nan": float("nan")})
        until(lambda: run.outbox._failures > 1)
        threading.Timer(0.5, door.set, ["open"]).start()
        run.epoch(10, {"loss": 0.1})
    [found] = recorded(name)
    assert found.info.status == "FINISHED"
    assert steps(recorded.client, found.info.run_id) == list(range(1, 11))
    assert steps(recorded.client, found.info.run_id, "nan") == list(range(2, 10))
    assert not os.path.exists("multirun")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("mode", ["deaf", "refuse", "login"])
@pytest.mark.parametrize(
    "path", ["runs/create", "runs/log-batch", "runs/update", "experiments/create"]
)
def test_one_reply_that_is_lost_or_wrong(door, recorded, mode, path):
    name = f"lost {mode} {path}"
    door.once(mode, path)
    with tracker(door, name) as run:
        run.epoch(1, {"loss": 1.0})
    [found] = recorded(name)
    assert found.info.status == "FINISHED"
    assert steps(recorded.client, found.info.run_id) == [1]
    assert found.data.params["kernel.name"] == "kernel"


def test_a_run_whose_server_never_answers_is_refused(door, cli):
    door.set("silent")
    started = time.monotonic()
    done = cli(*SMALL)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "does not answer" in done.err
    assert time.monotonic() - started < 300  # MLflow itself tries for a quarter of an hour


def test_trained_while_the_store_is_away_and_sent_later(door, recorded, cli, workdir):
    """The server goes for good in the middle of a run with a model."""
    experiment = "tracking.experiment=gone"
    slow = ("dataset.n_train=400", "solver.epochs=200", "tracking.patience_minutes=0", experiment)

    def shut():
        until(lambda: any("log-batch" in line for line in door.seen))
        until(lambda: sum("log-batch" in line for line in door.seen) > 5)
        door.set("closed")

    thread = threading.Thread(target=shut)
    thread.start()
    done = cli(*slow)
    thread.join()
    assert done.code == 0, done.err
    assert "test accuracy" in done.out
    [line] = [line for line in done.err.splitlines() if "is kept in" in line]
    assert "python -m kernelexp.store send" in line
    kept = re.search(r"kept in (\S+),", line)[1]
    assert os.path.isdir(f"{kept}/model")
    assert "Traceback" not in done.err

    again = cli("send", module="kernelexp.store")
    assert again.code == 1
    assert "no server answers" in again.err
    door.set("open")
    [before] = recorded("gone")
    assert before.info.status == "RUNNING"
    sent = cli("send", module="kernelexp.store")
    assert sent.code == 0, sent.err
    assert f"delivered to run {before.info.run_id}, FINISHED" in sent.out
    assert "200 epochs and its model" in sent.out
    [run] = recorded("gone")
    assert run.info.status == "FINISHED"
    assert steps(recorded.client, run.info.run_id, "epoch_train_mse") == list(range(1, 201))
    assert run.data.params["derived.n_train"] == "400"
    assert [used.dataset.name for used in run.inputs.dataset_inputs] == ["digits"]
    assert len(run.outputs.model_outputs) == 1
    assert not os.path.exists("multirun")
    assert cli("send", module="kernelexp.store").out.startswith("nothing is kept")
    import mlflow

    mlflow.set_tracking_uri(f"http://127.0.0.1:{door.server_port}")
    model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    assert model.predict(np.zeros((2, 8, 8), np.float32)).shape == (2,)


def test_a_sweep_whose_store_goes(door, recorded, cli, server):
    """Its later jobs are trained all the same, and belong to it when they are sent; the server stops."""
    jobs = ("--multirun", *SMALL, "solver.epochs=3", "seed=0,1,2", "tracking.patience_minutes=0",
            "tracking.experiment=sweep")  # fmt: skip

    def stop():
        until(lambda: sum("runs/update" in line for line in door.seen) > 0)  # the first job ended
        server.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    done = cli(*jobs)
    thread.join()
    assert "Traceback" not in done.err
    assert done.code == 0, done.err
    assert done.out.count("test accuracy") == 3
    assert "its store is away" in done.out + done.err
    server.start()
    sent = cli("send", module="kernelexp.store")
    assert sent.code == 0, sent.err
    assert "3 of 3 jobs finished" in sent.out
    parent, *children = recorded("sweep")
    assert parent.info.status == "FINISHED"
    assert len(children) == 3
    assert {run.info.status for run in children} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert [run.info.run_name for run in children] == ["seed=0", "seed=1", "seed=2"]
    for run in children:
        assert steps(recorded.client, run.info.run_id, "epoch_train_mse") == [1, 2, 3]
