"""Shared fixtures: an isolated folder with a ready store, and the command line in this process."""

import fcntl
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
import warnings
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import joblib
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # as many of these as there are cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent
REAL_DATA = Path(os.environ.get("KERNELEXP_DATA", ROOT.parent / "shared" / "data"))

needs_fmnist = pytest.mark.skipif(
    not (REAL_DATA / "FashionMNIST").is_dir(),
    reason="no Fashion-MNIST: set KERNELEXP_DATA to the folder with FashionMNIST/raw",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One for each core that this process may use, none beside it where that is one; each holds 1 GB."""
    workers = min(joblib.cpu_count(), 8)
    return workers if workers > 1 else 0


class Finished(NamedTuple):
    code: int
    out: str
    err: str


def wait_for(url, seconds=240):
    """What a server answers once it is up, b"" if it never is; its first start can take a minute."""
    # An opener of its own: urlopen keeps the proxies of its first call, also those a test has set.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            return opener.open(url, timeout=30).read()
        except OSError:
            time.sleep(0.2)
    return b""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


LONGEST = ("tests/test_killed.py", "tests/test_fmnist.py")


def pytest_collection_modifyitems(items):
    """The longest first: at the end they would keep one process busy while the others wait."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A file that one of the test processes makes, for all: made_once(name, make) -> path."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def of(name, make):
        with open(folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / name).exists():
                make(folder / f"{name}.part")
                os.replace(folder / f"{name}.part", folder / name)
        return folder / name

    return of


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _isolated(shared_cache, monkeypatch):
    """No test reads or writes the user's cache, data folder or tracking store."""
    monkeypatch.setenv("KERNELEXP_CACHE", str(shared_cache))
    for name in ("KERNELEXP_DATA", "MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A store whose tables are there: making them takes seconds, copying them does not.

    From here on this process does not wait for the disk: only a loss of power would need that.
    """
    import sqlalchemy
    from mlflow import MlflowClient

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "connect")
    def do_not_wait(connection, _):
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def report_store(tmp_path_factory, empty_store):
    """A store with a few runs of every preset, and its sweeps by experiment. Copy it to write to it."""
    import report_store
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("report")
    path = shutil.copy(empty_store, folder / "mlflow.db")
    return path, report_store.fill(MlflowClient(f"sqlite:///{path}"), folder / "artifacts")


@pytest.fixture
def frame():
    """A table of people."""
    import small_table

    return small_table.people()


@pytest.fixture
def table(frame, tmp_path):
    """The same in a file: table(**options) -> data source."""
    import small_table

    frame.to_csv(tmp_path / "people.csv", index=False)
    return partial(small_table.table_of, tmp_path / "people.csv")


@pytest.fixture
def workdir(tmp_path, empty_store, monkeypatch):
    """An empty folder with a store, as the current folder."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


@pytest.fixture
def client(workdir):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{workdir}/mlflow.db")


@pytest.fixture
def cli(workdir, monkeypatch, capfd):
    """Run the command line in this process: cli("kernel=gaussian", ...) -> Finished."""

    def call(*arguments, module="kernelexp"):
        package = hasattr(import_module(module), "__path__")
        main = import_module(f"{module}.__main__" if package else module).main
        capfd.readouterr()
        before = os.environ.copy()
        taken = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        handlers = {number: signal.getsignal(number) for number in taken}
        show = warnings.showwarning
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        try:
            code = main() or 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, taken)
            warnings.showwarning = show
            os.environ.clear()
            os.environ.update(before)
        return Finished(code, *capfd.readouterr())

    return call


@pytest.fixture
def shell(workdir):
    """Run a command in a process of its own, in the test's folder."""

    def call(command, timeout=300, **env):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command,
            shell=isinstance(command, str),
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=workdir,
            env={**os.environ, "PATH": path, **env},
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def runs(client):
    """All runs of an experiment, oldest first."""

    def find(experiment="kernelexp"):
        found = client.get_experiment_by_name(experiment)
        if found is None:
            return []
        return client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"])

    return find
