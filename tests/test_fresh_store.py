"""A SQLite store that is being made: by several at once, by one that is killed, on a full disk."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from kernelexp.store import TrackingConfig, fresh, open_store
from kernelexp.store.reach import StoreAway

OPEN = (
    "from kernelexp.store import TrackingConfig, open_store;"
    "open_store(TrackingConfig(uri='sqlite:///new.db'))"
)


def start(folder, code=OPEN):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def files(folder):
    return sorted(p.name for p in folder.iterdir())


def test_two_processes_make_it_at_once(tmp_path):
    starters = [start(tmp_path) for _ in range(2)]
    for starter in starters:
        assert starter.communicate(timeout=240) == ("", "")
        assert starter.returncode == 0
    assert files(tmp_path) == ["new.db"]
    client = open_store(TrackingConfig(uri=f"sqlite:///{tmp_path}/new.db"))
    assert {e.name for e in client.search_experiments()} == {"Default", "kernelexp"}


def test_killed_while_it_is_made(tmp_path):
    """Wherever it is hit: the next start opens it, and nothing is left of the one before."""
    chance = random.Random(0)
    for _ in range(4):
        starter = start(tmp_path)
        deadline = time.monotonic() + 120
        while not any(".making" in name for name in files(tmp_path)):
            assert time.monotonic() < deadline
            assert starter.poll() is None
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.6))
        os.killpg(starter.pid, signal.SIGKILL)
        starter.communicate()
        if (tmp_path / "new.db").exists():
            break
    open_store(TrackingConfig(uri=f"sqlite:///{tmp_path}/new.db"))
    assert files(tmp_path) == ["new.db"]


def test_what_is_there_is_never_replaced(tmp_path):
    made, path = tmp_path / "made", tmp_path / "mlflow.db"
    made.write_text("made")
    path.write_text("was there first")
    fresh._put_in_place(made, path)
    assert path.read_text() == "was there first"


def test_an_empty_file_is_no_store(tmp_path):
    (tmp_path / "new.db").touch()
    client = open_store(TrackingConfig(uri=f"sqlite:///{tmp_path}/new.db"))
    assert client.get_experiment_by_name("kernelexp") is not None


def test_without_links_it_is_moved(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError("Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(fresh, "_make_tables", lambda path: path.write_text("tables"))
    fresh.make_sqlite(tmp_path / "new.db")
    assert (tmp_path / "new.db").read_text() == "tables"
    assert files(tmp_path) == ["new.db"]


def test_a_full_disk_leaves_nothing_half_made(tmp_path):
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000));"
        "import sys; sys.dont_write_bytecode = True;"
        "from kernelexp.store import StoreAway\n"
        f"try:\n  {OPEN.replace(';', chr(10) + '  ')}\n"
        "except StoreAway as error: print(error)\n"
    )
    starter = start(tmp_path, limited)
    out, err = starter.communicate(timeout=240)
    assert starter.returncode == 0, err
    assert "must be a store that opens" in out
    assert out.count("\n") == 1
    assert "new.db" not in files(tmp_path)
    assert not [name for name in files(tmp_path) if "making" in name]
    open_store(TrackingConfig(uri=f"sqlite:///{tmp_path}/new.db"))
    assert files(tmp_path) == ["new.db"]


def test_another_program_s_file_is_left_alone(workdir):
    with sqlite3.connect("other.db") as other:
        other.execute("CREATE TABLE songs (title TEXT)")
    before = (workdir / "other.db").read_bytes()
    with pytest.raises(StoreAway, match="a SQLite file of another program"):
        open_store(TrackingConfig(uri="sqlite:///other.db"))
    assert (workdir / "other.db").read_bytes() == before


def test_a_store_that_cannot_be_written(workdir, monkeypatch):
    connect = sqlite3.connect

    def read_only(path, **options):
        return connect(f"file:{path}?mode=ro", uri=True, **options)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with pytest.raises(StoreAway, match="attempt to write a readonly database"):
        open_store(TrackingConfig(uri="sqlite:///mlflow.db"))
