"""A store that is not there is refused in one line, before MLflow tries it again and again."""

import os
import sqlite3
from contextlib import nullcontext

import pytest

from kernelexp.store import TrackingConfig, experiment_id, find_store, open_store, reach
from kernelexp.store.beginning import beginning, create_run
from kernelexp.store.reach import check_reachable, without_password


@pytest.fixture
def no_mlflow(monkeypatch):
    """Whoever asks MLflow fails the test."""
    import mlflow

    def asked(*_, **__):
        raise AssertionError("MLflow was asked")

    monkeypatch.setattr(mlflow, "set_tracking_uri", asked)
    monkeypatch.setattr(mlflow, "MlflowClient", asked)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("sqlite:///folder.db", "folder.db is a folder, not a file"),
        ("sqlite:////not/there/x.db", "there is no folder /not/there; mount it"),
        ("sqlite:///runs/x.db", "there is no folder runs"),
        ("sqlite:///text.db", "text.db: file is not a database"),
        ("http://127.0.0.1:1", "no server answers there"),
        ("postgresql://user:secret@127.0.0.1:1/x?sslmode=require", "no server answers there"),
        ("nonsense://x", "Can't load plugin"),
    ],
)
def test_what_is_not_there(workdir, no_mlflow, uri, reason):
    (workdir / "folder.db").mkdir()
    (workdir / "text.db").write_text("words " * 100)
    before = sorted(workdir.rglob("*"))
    for ask in (open_store, find_store):
        with pytest.raises(ValueError, match="must be a store that opens") as refused:
            ask(TrackingConfig(uri=uri))
        assert reason in str(refused.value)
        assert "secret" not in str(refused.value)
        assert "\n" not in str(refused.value)
    assert sorted(workdir.rglob("*")) == before


def test_a_network_file_system(workdir, no_mlflow, monkeypatch):
    """The mount that a folder is on decides, the last one where two are at one place."""
    mounts = workdir / "mounts"
    (workdir / "a home").mkdir()
    home = str(workdir / "a home").replace(" ", "\\040")
    lines = ["/dev/x / ext4 rw 0 0", f"/dev/x {home} xfs rw 0 0", f"host:/x {home} nfs4 rw 0 0"]
    mounts.write_text("\n".join(lines))
    monkeypatch.setattr(reach, "_MOUNTS", mounts)
    check_reachable("sqlite:///mlflow.db")
    there = f"sqlite:///{workdir}/a home/mlflow.db"
    with pytest.raises(ValueError, match="on a network file system, nfs4, where SQLite may lose"):
        check_reachable(there)
    check_reachable(there, writes=False)
    for kind, options, allowed in (
        ("gpfs", "rw", True),
        ("lustre", "rw,flock", True),
        ("lustre", "rw,localflock", False),
    ):
        mounts.write_text("\n".join([*lines, f"host:/x {home} {kind} {options} 0 0"]))
        with nullcontext() if allowed else pytest.raises(ValueError, match="lustre localflock"):
            check_reachable(there)


@pytest.mark.parametrize("part", ["folder", "file"])
def test_what_must_not_be_written(workdir, no_mlflow, monkeypatch, part):
    """Of what the system allows: the superuser may write where modes forbid it."""
    closed = workdir if part == "folder" else workdir / "mlflow.db"
    monkeypatch.setattr(
        os, "access", lambda path, mode: os.path.abspath(path) != str(closed) or mode != os.W_OK
    )
    with pytest.raises(ValueError, match="is read-only for this user"):
        open_store(TrackingConfig(uri="sqlite:///mlflow.db"))
    check_reachable("sqlite:///mlflow.db", writes=False)


def test_a_deleted_experiment(cli, client):
    client.delete_experiment(client.create_experiment("gone"))
    done = cli("--multirun", "tracking.experiment=gone", "seed=0,1")
    assert done.code == 2
    assert done.err.startswith("kernelexp: tracking.experiment=gone: must be another name")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["../../x", "a b/c", "实验 é", 'quo"te', "50%"])
def test_an_experiment_by_any_name(workdir, name):
    config = TrackingConfig(uri="sqlite:///mlflow.db", experiment=name)
    client = open_store(config)
    run = create_run(client, beginning(config, "r", {}))
    assert client.get_run(run).info.experiment_id == experiment_id(find_store(config), config)


def test_what_is_there_or_can_be_made(workdir):
    for uri in (
        "sqlite:///mlflow.db", f"sqlite:///{workdir}/mlflow.db", "sqlite:///new.db",
        "sqlite:///:memory:", "sqlite://", "mlruns", "file:///anywhere",
    ):  # fmt: skip
        check_reachable(uri)
    assert not (workdir / "new.db").exists()


def test_a_store_that_another_process_writes_to_is_there(workdir):
    other = sqlite3.connect("mlflow.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    check_reachable("sqlite:///mlflow.db")
    other.close()


@pytest.mark.parametrize("arguments", [[], ["--multirun", "seed=0,1"], ["dry_run=true"]])
def test_the_command_line_asks_first(cli, workdir, no_mlflow, arguments):
    (workdir / "folder.db").mkdir()
    done = cli(*arguments, "tracking.uri=sqlite:///folder.db")
    assert done.code == 2
    assert done.out == ""
    assert done.err == (
        "kernelexp: tracking.uri=sqlite:///folder.db: must be a store that opens (folder.db is a "
        "folder, not a file); tracking.enabled=false runs without one\n"
    )


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://me:a/secret@host/x", "postgresql://me:***@host/x"),
        ("tracking.uri=postgresql://me@there:secret@host/x", "tracking.uri=postgresql://me@there:***@host/x"),
        ("postgresql://host/x?user=me&password=a/secret", "postgresql://host/x?user=me&password=***"),
        ("uri: http://host:5000\nname: me@there", None),
        ("sqlite:////home/me@there/mlflow.db", None),
    ],
)  # fmt: skip
def test_passwords_are_not_shown(given, shown):
    assert without_password(given) == (given if shown is None else shown)
