"""Six workers on as many "machines" go through the same jobs at once: is each trained once?

    python benchmarks/claims.py [STORE ...]      MLflow stores; default: a new SQLite file

Each worker has a host name and, where the system lets it, a namespace of process ids of its own, so that it knows
of the others by the store alone. All begin in the same moment and take the jobs in the same order, so each
is fought for. A job is a run that is created, waits for a moment and ends. After each repeat every worker marks the
runs of processes that are no more: there must be none.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from results_file import write

WORKERS, JOBS, REPEATS, TRAINING = 6, 36, 20, 0.02
HOST = "unshare --uts --pid --fork --mount-proc sh -c"


def work(store, folder, name):
    """What a worker does."""
    from mlflow import MlflowClient

    from kernelexp import resume
    from kernelexp.claims import Claim
    from kernelexp.commit import code_tags
    from kernelexp.identity import Identity
    from kernelexp.liveness import HEARTBEAT_TAG, PROCESS_TAG, sign, this_process

    client, resume._POLL_SECONDS = MlflowClient(store), 0.05
    for repeat in range(REPEATS):
        folder.joinpath(f"{repeat} {name}").touch()
        while len(list(folder.glob(f"{repeat} *"))) < WORKERS + 1:  # and the experiment
            time.sleep(0.001)
        [experiment] = folder.glob(f"{repeat} experiment *")
        experiment = experiment.name.split()[-1]
        for job in range(JOBS):
            identity = Identity(f"job{job}", "", lambda: None, log_model=False)
            turn = resume.finished_or_claimed(client, experiment, identity, lambda who: None)
            if isinstance(turn, Claim):
                own = {PROCESS_TAG: str(this_process()), HEARTBEAT_TAG: sign()}
                run = client.create_run(experiment, tags={**identity.tags, **code_tags(), **own})
                time.sleep(TRAINING * random.random())
                client.set_terminated(run.info.run_id, "FINISHED")
                turn.release()
        resume.end_abandoned(client, experiment)


def compare(store):
    from mlflow import MlflowClient

    client, mark = MlflowClient(store), uuid.uuid4().hex[:8]
    client.search_experiments()  # makes a new store's tables
    apart = subprocess.run([*HOST.split(), "hostname x"], capture_output=True).returncode == 0
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        workers = []
        for i in range(WORKERS):
            command = [sys.executable, __file__, "--worker", store, folder, f"host{i}"]
            if apart:
                shell = f'hostname host{i % 3} && exec "$@"'  # two containers of each name
                command = [*HOST.split(), shell, "sh", *command]
            workers.append(subprocess.Popen(command, env={**os.environ}))
        experiments = [client.create_experiment(f"claims {mark} {i}") for i in range(REPEATS)]
        for i, experiment in enumerate(experiments):
            Path(folder, f"{i} experiment {experiment}").touch()
        assert not any(worker.wait() for worker in workers)
        seconds = time.perf_counter() - start
    runs = [client.search_runs([experiment], max_results=1000) for experiment in experiments]
    tags = [client.get_experiment(experiment).tags for experiment in experiments]
    return {
        "store": store.partition(":")[0],
        "apart": apart,
        "trained": sum(len(found) for found in runs),
        "twice": sum(len(found) - JOBS for found in runs),
        "marked": sum(run.info.status != "FINISHED" for found in runs for run in found),
        "left": sum(key.startswith("kernelexp.claim") for of in tags for key in of),
        "seconds": seconds,
    }


def main():
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], Path(sys.argv[3]), sys.argv[4])
        return
    with tempfile.TemporaryDirectory() as folder:
        stores = sys.argv[1:] or [f"sqlite:///{folder}/mlflow.db"]
        rows = [compare(store) for store in stores]
    columns = {
        "store": lambda r: r["store"],
        "workers": lambda r: f"{WORKERS}, {'apart' if r['apart'] else 'on one machine'}",
        "jobs, each wanted by all": lambda r: f"{JOBS} x {REPEATS}",
        "trained": lambda r: r["trained"],
        "more than once": lambda r: r["twice"],
        "living runs marked as killed": lambda r: r["marked"],
        "claims left": lambda r: r["left"],
        "ms a job": lambda r: f"{1000 * r['seconds'] / (JOBS * REPEATS):.0f}",
    }
    write("claims", "One worker for each job", {"training_seconds": TRAINING}, rows, columns)


if __name__ == "__main__":
    main()
