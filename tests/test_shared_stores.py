"""Many workers at one store: a SQLite file, PostgreSQL, an MLflow server."""

import multiprocessing
import shutil

import pytest
from mlflow import MlflowClient
from servers import PostgreSQL, Server

from kernelexp import resume
from kernelexp.claims import Claim
from kernelexp.commit import code_tags
from kernelexp.identity import Identity
from kernelexp.report.recorded import recorded

WORKERS = 6


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "server"])
def store(request, empty_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    shutil.copy(empty_store, folder / "mlflow.db")
    if request.param == "sqlite":
        yield f"sqlite:///{folder}/mlflow.db"
        return
    try:
        server = PostgreSQL() if request.param == "postgresql" else Server(folder)
    except FileNotFoundError as absent:
        pytest.skip(str(absent))
    if isinstance(server, Server):
        server.start()
    yield server.uri
    server.stop()


def worker(uri, experiment, jobs, name, results):
    client = MlflowClient(uri)
    resume._POLL_SECONDS = 0.02
    for job in jobs:
        identity = Identity(job, "files", lambda: None, log_model=False)
        turn = resume.finished_or_claimed(client, experiment, identity, lambda who: None)
        if isinstance(turn, Claim):
            tags = {**identity.tags, **code_tags()}
            run = client.create_run(experiment, tags=tags)
            client.set_terminated(run.info.run_id, "FINISHED")
            turn.release()
            results.put((name, job))


def test_six_workers_at_once_do_each_job_once(store):
    """Each goes through all jobs in one order, so all come to each of them together.

    Their processes are not forked of this one: a thread of an earlier test may hold a lock at that moment, which
    the child would wait for without end.
    """
    client = MlflowClient(store)
    jobs, experiment = [f"job{i}" for i in range(6)], client.create_experiment("many")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.tracking", "kernelexp.resume"])
    results = context.Queue()
    workers = [
        context.Process(target=worker, args=(store, experiment, jobs, i, results))
        for i in range(WORKERS)
    ]
    for process in workers:
        process.start()
    for process in workers:
        process.join(300)
        assert process.exitcode == 0
    done = [results.get(timeout=10) for _ in jobs]
    assert results.empty()
    assert sorted(job for _, job in done) == jobs
    tags = client.get_experiment(experiment).tags
    assert not any(key.startswith("kernelexp.claim") for key in tags)


def test_a_run_a_sweep_and_its_report(store, cli, workdir):
    """Also what is read of a database's tables is what MLflow's search finds."""
    small = ["dataset=digits", "dataset.n_train=200", "solver.epochs=2", f"tracking.uri={store}"]
    for again in (False, True):
        done = cli("--multirun", "noise=0,0.1", "tracking.experiment=two", *small)
        assert done.code == 0, done.err
        assert done.out.count("skipped, run") == (2 if again else 0)
    built = cli("--store", store, "two", module="kernelexp.report")
    assert "2 runs" in built.out, built.err
    client = MlflowClient(store)
    number = client.get_experiment_by_name("two").experiment_id
    searched = recorded(client, "http://server", [number], "")
    assert len(searched) == 4  # two sweeps, two jobs
    assert recorded(client, store, [number], "") == searched
