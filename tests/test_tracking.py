"""What a run leaves, read back with MLflow's own client from a SQLite store and from a server."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import free_port, wait_for

from kernelexp import tracking
from kernelexp.engine.byte_codes import has_int8_products
from kernelexp.store import TrackingConfig, open_store
from kernelexp.store.beginning import beginning
from kernelexp.store.entries import Input
from kernelexp.store.outbox import Outbox
from kernelexp.store.record import Record

METRICS = {
    "m_star", "m_star_adapted", "batch_size", "q", "top_eigenvalue", "setup_seconds",
    "train_seconds", "epochs", "train_accuracy", "train_mse", "test_accuracy", "test_mse",
    "rkhs_norm", "rkhs_norm_error", "peak_memory_gb",
}  # fmt: skip
EPOCH_METRICS = {
    "epoch_train_mse",
    "epoch_train_accuracy",
    "epoch_test_accuracy",
    "epoch_seconds",
    "epoch_rkhs_norm",
}
SMALL = ("dataset.n_train=300", "solver.epochs=2", "tracking.log_model=false")


def test_tags_of_ours_stay_ours(cli, runs):
    done = cli(*SMALL, "+tracking.tags.process=mine", "+tracking.tags.whose=mine")
    assert done.code == 0, done.err
    [run] = runs()
    assert (run.data.tags["whose"], run.data.tags["process"] == "mine") == ("mine", False)


def test_a_run(cli, client, runs):
    done = cli("solver.epochs=3", "kernel=gaussian", "kernel.bandwidth=2", "+tracking.tags.a=b")
    assert done.code == 0, done.err
    [run] = runs()
    metrics, params, tags = run.data.metrics, run.data.params, run.data.tags
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "gaussian digits eigenpro2"
    assert set(metrics) == METRICS | EPOCH_METRICS | {"prediction_drift"}
    for name in EPOCH_METRICS:
        history = client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == [1, 2, 3]
    assert metrics["epochs"] == 3
    assert metrics["test_accuracy"] > 0.95
    # The first in float64 from the weights, the second from predictions carried along in float32.
    assert metrics["rkhs_norm"] == pytest.approx(metrics["epoch_rkhs_norm"], rel=1e-5)
    assert metrics["prediction_drift"] < 1e-3
    assert metrics["m_star_adapted"] > metrics["m_star"]
    assert params["kernel.bandwidth"] == "2"
    assert params["solver.stop.train_error"] == "None"
    assert params["solver.name"] == "eigenpro2"
    for derived in ("q", "subsample_size", "device_name", "planned_memory_gb"):
        assert f"derived.{derived}" in params
    exact = has_int8_products(torch.device("cpu"))  # and digits are bytes
    assert params["derived.precision"] == ("bytes" if exact else "ieee")
    assert float(params["derived.planned_memory_gb"]) == pytest.approx(
        metrics["peak_memory_gb"], rel=0.1
    )
    assert tags["a"] == "b"
    assert tags["stopped_by"] == "epochs"
    [used] = run.inputs.dataset_inputs
    assert used.dataset.name == "digits"
    assert len(used.dataset.digest) == 32
    assert used.dataset.source == "sklearn.datasets.load_digits"
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "overrides.txt", "rkhs_norm_per_output.json"} <= files
    folder = client.download_artifacts(run.info.run_id, "")
    with open(f"{folder}/rkhs_norm_per_output.json") as file:
        norms = json.load(file)["rkhs_norm"]
    assert np.linalg.norm(norms) == pytest.approx(metrics["rkhs_norm"])
    with open(f"{folder}/overrides.txt") as file:
        assert file.read().split() == [
            "solver.epochs=3", "kernel=gaussian", "kernel.bandwidth=2", "+tracking.tags.a=b"
        ]  # fmt: skip
    with open(f"{folder}/config.yaml") as file:
        text = file.read()
    assert "bandwidth: 2" in text
    assert "${" not in text
    table = done.out
    for cell in ("m*", "adapted m*", "batch", "q", "seconds", "test accuracy", run.info.run_id):
        assert cell in table


def test_a_warning_is_a_tag(cli, runs):
    assert cli(*SMALL).code == 0
    done = cli("dataset.n_train=300", "kernel=linear", "solver=exact", "tracking.log_model=false")
    assert done.code == 0
    assert done.err == ""
    assert "warning: K is singular (300 points, rank" in done.out.replace("\n", " ")
    quiet, loud = runs()
    assert "solver.warning" not in quiet.data.tags
    assert loud.data.tags["solver.warning"].startswith("K is singular (300 points, rank")
    assert loud.data.tags["stopped_by"] == "least_squares"
    assert loud.data.tags["rkhs_norm.lower_bound"] == "false"


def test_mlflow_is_imported_by_one_thread_at_a_time(monkeypatch):
    """The store is opened, and MLflow imported, by a thread; until that is done nobody else imports it."""

    class NotOpenYet(Exception):
        pass

    def outbox(self):
        raise NotOpenYet

    monkeypatch.setattr(tracking.Tracker, "outbox", property(outbox))
    monkeypatch.setitem(sys.modules, "mlflow.entities", None)  # an import of it raises ImportError
    tracker = tracking.Tracker(None, None, {}, "", [])
    norm = SimpleNamespace(how="", lower_bound=False, per_output=torch.zeros(1))
    result = SimpleNamespace(
        metrics={},
        stopped_by="",
        norm=norm,
        warning=None,
        path={},
        setup=SimpleNamespace(reason=None),
    )
    for call in (
        tracker.loaded,
        lambda: tracker.prepared(None),
        lambda: tracker.epoch(1, {}),
        lambda: tracker.finished(result),
    ):
        with pytest.raises(NotOpenYet):
            call()


def test_git_tags(cli, runs):
    cli(*SMALL)
    tags = runs()[0].data.tags
    repository = os.path.dirname(os.path.dirname(__file__))
    commit = subprocess.run(
        ["git", "-C", repository, "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    assert tags["git.commit"] == commit
    assert tags["git.dirty"] in ("true", "false")


def test_same_seed_same_metrics(cli, runs):
    for _ in range(2):
        cli(*SMALL, "noise=0.1", "seed=3")
    cli(*SMALL, "noise=0.1", "seed=4")
    first, again, other = (run.data.metrics for run in runs())
    for name in ("train_mse", "test_mse", "rkhs_norm", "m_star_adapted"):
        assert first[name] == again[name] != other[name]


def test_regression_has_r2(cli, runs, workdir):
    x = np.random.default_rng(0).random((400, 3))
    y = np.sin(3 * x.sum(1))
    np.savez("r.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    done = cli("dataset=npz", "dataset.path=r.npz", "kernel=gaussian", "kernel.bandwidth=1")
    assert done.code == 0, done.err
    metrics = runs()[0].data.metrics
    expected = {name.replace("accuracy", "r2") for name in METRICS | EPOCH_METRICS}
    assert set(metrics) == expected - {"epoch_train_r2"} | {"prediction_drift", "epoch_test_mse"}
    assert metrics["epoch_test_mse"] == metrics["test_mse"]
    assert 0.9 < metrics["test_r2"] < 1
    assert metrics["test_r2"] == pytest.approx(1 - metrics["test_mse"] / y[300:].var())


@pytest.mark.parametrize("task", ["classes", "targets"])
def test_model_is_served_without_hydra(cli, runs, workdir, task):
    x = np.random.default_rng(0).integers(0, 256, (260, 4, 4), dtype=np.uint8)
    y = (x.mean((1, 2)) > 127).astype(int) if task == "classes" else x.mean((1, 2))
    np.savez("d.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    done = cli(
        "dataset=npz", "dataset.path=d.npz", "kernel.bandwidth=median", "dataset.scale=standard"
    )
    assert done.code == 0, done.err
    script = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("hydra", "omegaconf", "torchvision", "sklearn"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
import mlflow, numpy as np
x = np.load("d.npz")["x_test"]
model = mlflow.pyfunc.load_model("runs:/{runs()[0].info.run_id}/model")
np.savez("served.npz", labels=model.predict(x), outputs=model.predict(x, params={{"outputs": True}}))
assert model.metadata.signature.inputs.to_dict()[0]["tensor-spec"]["dtype"] == "uint8"
"""
    served = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert served.returncode == 0, served.stderr
    got, metrics = np.load("served.npz"), runs()[0].data.metrics
    if task == "classes":
        assert (got["labels"] == y[200:]).mean() == pytest.approx(metrics["test_accuracy"])
        assert got["outputs"].shape == (60, 2)
    else:
        mse = ((got["labels"] - y[200:]) ** 2).mean()
        assert mse == pytest.approx(metrics["test_mse"], rel=1e-3)


def test_sweep(cli, runs):
    done = cli("--multirun", *SMALL, "noise=0,0.5", "kernel=laplacian,gaussian")
    assert done.code == 0, done.err
    parent, *children = runs()
    assert [child.info.run_name for child in children] == [
        "noise=0,kernel=laplacian", "noise=0,kernel=gaussian",
        "noise=0.5,kernel=laplacian", "noise=0.5,kernel=gaussian",
    ]  # fmt: skip
    assert {run.info.status for run in runs()} == {"FINISHED"}
    for child in children:
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert "4 of 4 jobs finished" in done.out
    assert os.listdir("multirun")


def test_failed_job_is_recorded_and_the_sweep_goes_on(cli, runs, tmp_path):
    np.savez("bad.npz", x_train=np.full((9, 2), np.nan), y_train=np.arange(9) % 2,
             x_test=np.ones((2, 2)), y_test=np.zeros(2, dtype=int))  # fmt: skip
    x = np.random.rand(9, 2)
    np.savez("good.npz", x_train=x, y_train=np.arange(9) % 2, x_test=x, y_test=np.arange(9) % 2)
    done = cli(
        "--multirun", "dataset=npz", "dataset.path=bad.npz,good.npz", "tracking.log_model=false"
    )
    assert done.code != 0
    assert "x_train: has NaN" in done.err
    assert "1 of 2 jobs finished" in done.err
    assert "Traceback" not in done.err
    parent, bad, good = runs()
    assert [run.info.status for run in (parent, bad, good)] == ["FAILED", "FAILED", "FINISHED"]
    assert "x_train: has NaN" in bad.data.tags["error"]


def test_without_tracking(cli, runs, workdir):
    assert cli(*SMALL, "tracking.enabled=false").code == 0
    assert cli("--multirun", *SMALL, "tracking.enabled=false", "noise=0,0.1").code == 0
    assert runs() == []


def test_store_that_does_not_open(cli):
    done = cli(*SMALL, "tracking.uri=postgres://nobody")
    assert done.code == 2
    assert done.err.startswith(
        "kernelexp: tracking.uri=postgres://nobody: must be a store that opens"
    )
    assert len(done.err.strip().splitlines()) == 1


def test_tracking_server(shell, workdir):
    """``mlflow ui``, as the README has it: shows the mlflow.db in its folder, and is a server to record to."""
    from mlflow import MlflowClient

    MlflowClient(os.environ["MLFLOW_TRACKING_URI"]).create_experiment("here")
    uri = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "ui", "--port", uri.split(":")[-1], "--workers", "1"]
    with open(workdir / "server.log", "w") as log:
        server = subprocess.Popen(
            command,
            cwd=workdir,
            env={k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            assert b"MLflow" in wait_for(uri), (workdir / "server.log").read_text()
            remote = MlflowClient(uri)
            assert remote.get_experiment_by_name("here")
            with_password = uri.replace("//", "//me:secret@")
            typed = ["dataset.n_train=300", "solver.epochs=2", f"tracking.uri={with_password}"]
            done = shell(
                ["python", "-m", "kernelexp", *typed],
                MLFLOW_TRACKING_URI=uri,
                LC_ALL="C",  # in which MLflow's farewell, a picture, cannot be printed
                PYTHONUTF8="0",
            )
            assert done.code == 0, done.err
            experiment = remote.get_experiment_by_name("kernelexp")
            [run] = remote.search_runs([experiment.experiment_id])
            assert run.info.status == "FINISHED"
            assert set(run.data.metrics) >= METRICS
            assert run.outputs.model_outputs
            recorded = [
                str(run.data),
                str(remote.get_logged_model(run.outputs.model_outputs[0].model_id).params),
            ]
            for name in ("config.yaml", "overrides.txt"):
                recorded.append(Path(remote.download_artifacts(run.info.run_id, name)).read_text())
            assert ["me:***@" in text and "secret" not in text for text in recorded] == [
                True
            ] * 4, recorded
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


def test_two_workers_record_one_data_set_at_once(monkeypatch, workdir):
    """MLflow looks for the data set, then inserts it; a worker in between makes the insert fail."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    log_inputs, tried = MlflowClient.log_inputs, []

    def loses_the_race_once(self, *args, **kwargs):
        tried.append(args)
        if len(tried) == 1:
            raise MlflowException(
                "(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name"
            )
        return log_inputs(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_inputs", loses_the_race_once)
    config = TrackingConfig(uri=f"sqlite:///{workdir}/mlflow.db")
    client = open_store(config)
    outbox = Outbox(config, Record([beginning(config, "r", {})]))
    outbox.begin(client)
    outbox.put(Input("d", "1", "{}"))
    outbox.start()
    assert outbox.close()
    assert len(tried) == 2
    recorded = client.get_run(outbox.run_id).inputs.dataset_inputs
    assert [used.dataset.name for used in recorded] == ["d"]
