"""What a run hands to the store: in order, once, never to the harm of the training."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kernelexp import interrupts, liveness, resume, sweep, tracking
from kernelexp.identity import Identity
from kernelexp.interrupts import Interrupted
from kernelexp.metrics import last_attempt
from kernelexp.store import StoreAway, TrackingConfig, delivery, open_store, unsent
from kernelexp.store import beginning as beginning_module
from kernelexp.store import outbox as outbox_module
from kernelexp.store.__main__ import main
from kernelexp.store.beginning import beginning, create_run
from kernelexp.store.entries import Begin, End, Metrics, Model, Tags, from_line, to_line
from kernelexp.store.journal import _LINES, UNSENT, Journal, read
from kernelexp.store.unsent import given_up

GROUPS = {group: {"name": group} for group in ("kernel", "dataset", "solver")}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Soon told that a store is away; for one that is there, also on a slow disk, the limits are long."""
    monkeypatch.setattr(outbox_module, "_PAUSES", (0.02,))
    monkeypatch.setattr(outbox_module, "_LAST_ATTEMPT", 0.2)
    monkeypatch.setattr(tracking, "_HURRIED", 60)
    monkeypatch.setattr(tracking, "_KILLED", 60)


@pytest.fixture
def config(workdir):
    return TrackingConfig(uri=f"sqlite:///{workdir}/mlflow.db", patience_minutes=0)


@pytest.fixture
def tracker(config):
    def make(run_id=None):
        identity = Identity("digest", "files", lambda: None, False)
        return tracking.Tracker(config, identity, GROUPS, "a: 1\n", ["a=1"], run_id)

    return make


@pytest.fixture
def store(monkeypatch):
    """The store's client, whose calls fail as long as ``store.error`` is an error."""
    from mlflow import MlflowClient

    class Switch:
        error = None
        calls = 0

    def guarded(name):
        call = getattr(MlflowClient, name)

        def guard(self, *args, **kwargs):
            Switch.calls += 1
            if Switch.error is not None:
                raise Switch.error
            return call(self, *args, **kwargs)

        monkeypatch.setattr(MlflowClient, name, guard)

    for name in ("create_run", "log_batch", "log_text", "set_terminated", "get_run", "search_runs",
                 "get_metric_history"):  # fmt: skip
        guarded(name)
    return Switch


def history(client, run_id, name="loss"):
    return [(p.step, p.value) for p in client.get_metric_history(run_id, name)]


def until(holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it did not come to it"
        time.sleep(0.01)


def test_entries_are_written_and_read_as_they_are():
    begin = Begin("k", "sqlite:///ü", "e", "n", {"a": "b\nc"}, time=1)
    for entry in (begin, Metrics({"m": 0.1 + 0.2, "i": float("inf")}, 3), Model("model"), End("X")):
        line = to_line(entry)
        assert "\n" not in line
        assert from_line(line) == entry
    with pytest.raises(ValueError, match="not an entry of this version"):
        from_line('{"kind": "Later"}')


def test_what_cannot_be_sent_is_kept_and_sent_once(tracker, client, runs, store, capsys, config):
    with tracker() as run:
        run.epoch(1, {"loss": 0.5})
        until(run.outbox._done)
        store.error = OSError("disk full")
        for epoch in (2, 3):
            run.epoch(epoch, {"loss": 1 / epoch})
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "'kernel dataset solver' is not all in the store (disk full); it is kept in " in err
    assert main(["send"]) == 1
    store.error = None
    [kept] = unsent.kept()
    left = [entry for entry in kept.entries if isinstance(entry, Metrics)]
    assert [entry.step for entry in left] == [1, 2, 3]
    # Killed right before the folder is removed: everything is sent again, and is there once.
    remove = Journal.remove

    def killed(self):
        raise KeyboardInterrupt

    Journal.remove = killed
    try:
        with pytest.raises(KeyboardInterrupt):
            unsent.send(kept, open_store(config))
    finally:
        Journal.remove = remove
    assert main(["send"]) == 0
    out = capsys.readouterr().out
    [found] = runs()
    assert f"metrics of 3 epochs delivered to run {found.info.run_id}, FINISHED" in out
    assert found.info.status == "FINISHED"
    assert history(client, found.info.run_id) == [(1, 0.5), (2, 1 / 2), (3, 1 / 3)]
    end = next(entry for entry in kept.entries if isinstance(entry, End))
    assert found.info.end_time == end.time
    assert not os.path.exists("multirun")
    assert main(["send"]) == 0


def test_stores_that_keep_doubles_get_none(workdir, monkeypatch):
    """A store of files has no keys by which it would drop what it has."""
    config = TrackingConfig(uri=str(workdir / "mlruns"))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = open_store(config)
    begin = beginning(config, "r", {})
    metrics = [Metrics({"loss": 1.0}, 1), Metrics({"loss": 2.0}, 2)]
    for _ in range(2):
        hands = delivery.Delivery(client, print, uncertain=True)
        hands.deliver([begin])
        hands.deliver(metrics)
    assert len(client.search_runs(client.get_experiment_by_name("kernelexp").experiment_id)) == 1
    assert history(client, hands.run_id) == [(1, 1.0), (2, 2.0)]


def test_a_refusal_is_believed_soon(tracker, client, runs, capsys):
    """The run was deleted amid its training: nobody waits for it to come back."""
    with tracker() as run:
        until(run.outbox._done)
        client.delete_run(run.run_id)
        object.__setattr__(run.outbox.config, "patience_minutes", 10)
        run.epoch(1, {"loss": 1.0})
    assert "is kept in" in capsys.readouterr().err
    assert main(["send"]) == 0  # recorded anew
    [found] = runs()
    assert found.info.status == "FINISHED"
    assert history(client, found.info.run_id) == [(1, 1.0)]


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("first"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (Interrupted(15), "KILLED")],
)
@pytest.mark.parametrize("away", [False, True])
def test_the_first_error_is_what_comes_out(tracker, runs, store, error, status, away, monkeypatch):
    def train():
        with tracker() as run:
            until(run.outbox._done)
            if away:
                store.error = OSError("gone")
                monkeypatch.setattr(tracking, "_HURRIED", 0.2)
            raise error

    with pytest.raises(type(error)) as raised:
        train()
    assert raised.value is error
    store.error = None
    if away:
        assert main(["send"]) == 0
    [found] = runs()
    assert found.info.status == status
    assert found.data.tags.get("error") == ("ValueError: first" if status == "FAILED" else None)


def test_a_signal_ends_the_waiting(tracker, store, monkeypatch, capsys):
    """A batch system's warning while a finished run waits for its store: what it has is kept, at once."""
    came = []
    monkeypatch.setattr(interrupts, "received", lambda: came[0] if came else None)
    with tracker() as run:
        until(run.outbox._done)
        object.__setattr__(run.outbox.config, "patience_minutes", 60)
        store.error = OSError("gone")
        threading.Timer(0.3, came.append, [Interrupted(15)]).start()
    assert "is kept in" in capsys.readouterr().err
    store.error = None
    assert main(["send"]) == 0


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Read timed out. (read timeout=30)", "it does not answer"),
        ("('Connection aborted.', RemoteDisconnected('Remote end", "the connection was cut"),
        ("NewConnectionError('[Errno 111] Connection refused')", "Connection refused"),
        ("database or disk is full\nlong story", "database or disk is full"),
    ],
)
def test_reasons_are_short(said, reason):
    assert outbox_module._reason(OSError(said)) == reason


def test_killed_from_another_thread(tracker, runs, store):
    with tracker() as run:
        until(run.outbox._done)
        killer = threading.Thread(target=run.kill, args=("10 s are over",))
        killer.start()
        killer.join()
        [found] = runs()
        assert found.info.status == "KILLED"
        assert found.data.tags["error"] == "10 s are over"
        run.kill("again")
    [found] = runs()
    assert found.info.status == "KILLED"


def test_killed_while_the_queue_stands(tracker, runs, monkeypatch, client):
    """The status is set past what the store does not take."""
    from mlflow import MlflowClient

    def fails(*_, **__):
        raise OSError("no metrics today")

    with tracker() as run:
        until(run.outbox._done)
        monkeypatch.setattr(MlflowClient, "log_batch", fails)
        run.epoch(1, {"loss": 1.0})
        monkeypatch.setattr(tracking, "_KILLED", 0.1)
        run.kill("reason")
        until(lambda: client.get_run(run.run_id).info.status == "KILLED")
    [kept] = unsent.kept()
    assert Tags({"error": "reason"}) in kept.entries


def test_kill_before_the_store_is_open(tracker, monkeypatch):
    waits = threading.Event()

    def opens_late(_):
        waits.wait()
        raise StoreAway("gone")

    monkeypatch.setattr(tracking, "open_store", opens_late)
    run = tracker().__enter__()
    run.kill("at once")  # does not wait
    waits.set()
    with pytest.raises(StoreAway):
        run.__exit__(None, None, None)


def test_a_killed_process_leaves_what_it_had_put_in(config, workdir, client, runs):
    code = f"""
import os, signal
from kernelexp import tracking
from kernelexp.identity import Identity
from kernelexp.store import TrackingConfig
from mlflow import MlflowClient
config = TrackingConfig(uri={config.uri!r})
identity = Identity("d", "f", lambda: None, False)
values = {GROUPS!r}
run = tracking.Tracker(config, identity, values, "", []).__enter__()
run.outbox
def away(*_, **__):
    raise OSError
MlflowClient.log_batch = away
for epoch in range(1, 6):
    run.epoch(epoch, {{"loss": 1 / epoch}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    [folder] = UNSENT.iterdir()
    with open(folder / "journal.jsonl", "a") as journal:
        journal.write('{"kind": "Metrics", "values": {"lo')  # the line it was at
    assert main(["send"]) == 0
    [found] = runs()
    assert found.info.status == "KILLED"
    assert found.data.tags["error"] == "its process ended without a word"
    assert [step for step, _ in history(client, found.info.run_id)] == [1, 2, 3, 4, 5]


def test_a_run_that_is_under_way_is_not_sent(tracker, capsys):
    with tracker() as run:
        run.epoch(1, {"loss": 1.0})
        assert main(["send"]) == 0
        assert "its process is still at it" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written(tracker, runs, monkeypatch, capsys, store):
    """It is said before training, and again where something is lost."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "create", full)
    with tracker() as run:
        run.outbox  # noqa: B018
        assert "multirun/unsent cannot be written (No space left" in capsys.readouterr().err
        until(run.outbox._done)
        store.error = OSError("gone")
        run.epoch(1, {"loss": 1.0})
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "cannot be kept (No space left on device): what is missing is lost" in err


def test_a_disk_that_is_full_in_between(tracker, runs, monkeypatch, client, store):
    """What the journal could not take is written once there is room, at the latest at the end."""
    append = Journal.append

    def full(*_):
        raise OSError(28, "No space left on device")

    with tracker() as run:
        until(run.outbox._done)
        store.error = OSError("gone")
        monkeypatch.setattr(Journal, "append", full)
        run.epoch(1, {"loss": 1.0})
        monkeypatch.setattr(Journal, "append", append)
        run.epoch(2, {"loss": 2.0})
    store.error = None
    assert main(["send"]) == 0
    [found] = runs()
    assert history(client, found.info.run_id) == [(1, 1.0), (2, 2.0)]


def test_a_full_disk_for_the_store_and_all_else(workdir, shell):
    """The training goes to its end and shows its table; one line says what is lost."""
    code = (
        "import resource, sys, threading, time;"
        "from kernelexp import tracking, __main__ as command;"
        "epoch = tracking.Tracker.epoch\n"
        "def full(self, number, metrics):\n"
        "  resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
        "  epoch(self, number, metrics)\n"
        "tracking.Tracker.epoch = full\n"
        "sys.argv = ['kernelexp', 'dataset.n_train=300', 'solver.epochs=3', "
        "'tracking.patience_minutes=0']\n"
        "command.main()\n"
    )
    done = shell([sys.executable, "-c", code])
    assert done.code == 0, done.err
    assert "test accuracy" in done.out
    assert "Traceback" not in done.err
    assert "what is missing is lost" in done.err


def test_a_model_that_the_folder_cannot_take_is_kept_elsewhere(tracker, workdir, monkeypatch, runs):
    places = []

    def save(_, folder):
        places.append(folder)
        if "unsent" in str(folder):
            raise OSError(28, "No space left on device")
        folder.mkdir()
        (folder / "MLmodel").write_text("flavors: {}")

    monkeypatch.setattr(tracking, "save_model", save)
    with tracker() as run:
        run._put_model(None)
    assert places[0].parent.parent.name == "unsent"
    [found] = runs()
    assert len(found.outputs.model_outputs) == 1
    assert not places[1].exists()


def test_help_and_what_is_not_there(capsys, workdir):
    assert main(["--help"]) == 0
    assert "python -m kernelexp.store send" in capsys.readouterr().out
    assert main(["sned"]) == 2
    assert capsys.readouterr().err == "kernelexp: sned: must be send or list; --help says more\n"


def test_what_another_version_kept_is_said(capsys, workdir):
    folder = workdir / UNSENT / "abc"
    folder.mkdir(parents=True)
    (folder / _LINES).write_text('{"kind": "Later", "when": 1}\n')
    for command in ("list", "send"):
        assert main([command]) == 1
        said = capsys.readouterr()
        assert "nothing is kept" not in said.out
        assert f"{UNSENT / 'abc'} cannot be read" in said.err.splitlines()[0]


def interrupted(tracker, epochs):
    """A run that a process of no more left: RUNNING, with its first epochs."""
    run = tracker().__enter__()
    for epoch in range(1, epochs + 1):
        run.epoch(epoch, {"loss": 1 / epoch})
    until(run.outbox._done)
    run.outbox.record.leave()
    run.outbox._stopped = True
    return run.run_id


@pytest.mark.parametrize("journal", [True, False])
def test_a_killed_run_goes_on(tracker, client, runs, monkeypatch, journal):
    """Killed at epoch 5 of 10, continued from epoch 3: each step once."""
    here = str(liveness.this_process())
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(beginning_module, "this_process", lambda: "elsewhere 1 1")
        run_id = interrupted(tracker, 5)
    [folder] = UNSENT.iterdir()
    if journal:  # two of its epochs had not come to the store
        lines = (folder / "journal.jsonl").read_text().splitlines()
        (folder / "journal.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    else:
        Journal.take(folder).remove()
    with tracker(run_id) as run:
        assert run.run_id == run_id
        running = client.get_run(run_id)
        assert running.info.status == "RUNNING"
        assert running.data.tags["process"] == here
        for epoch in range(4, 11):
            run.epoch(epoch, {"loss": 1 / epoch})
    [found] = runs()
    assert found.info.run_id == run_id
    assert found.info.status == "FINISHED"
    assert found.data.tags["resumed"] == "1"
    assert history(client, run_id) == [(epoch, 1 / epoch) for epoch in range(1, 11)]
    with tracker(run_id):
        pass
    assert client.get_run(run_id).data.tags["resumed"] == "2"


@pytest.mark.parametrize("journal", [True, False])
@pytest.mark.parametrize("ahead", [0, 300_000])
def test_a_run_goes_on_on_a_machine_whose_clock_is_behind(
    tracker, client, monkeypatch, ahead, journal
):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(beginning_module, "this_process", lambda: "elsewhere 1 1")
        run_id = interrupted(tracker, 2)
    if not journal:  # else what the former process left is handed over first
        Journal.take(next(UNSENT.iterdir())).remove()
    client.set_terminated(run_id, "KILLED", int(1000 * time.time()) + ahead)
    client.set_tag(run_id, "error", "SIGTERM")
    with tracker(run_id) as run:
        run = client.get_run(run.run_id)
        assert (run.info.status, run.data.tags["resumed"]) == ("RUNNING", "1")
        assert "error" not in run.data.tags


def test_files_that_cannot_be_written_hold_nothing_else_up(cli, runs, workdir, monkeypatch):
    """A database shared with another user, whose mlruns takes no files of ours."""
    few = ("dataset.n_train=100", "dataset.n_test=50", "solver.epochs=1", "tracking.log_model=true")
    assert cli(*few).code == 0
    [first] = runs()
    place = Path(first.info.artifact_uri.removeprefix("file://")).parents[1]
    place.rename(workdir / "theirs")
    place.write_text("a file is no folder to write into, also for root\n")
    done = cli(*few, "seed=1")
    assert done.code == 0
    assert "is not all in the store (Not a directory); it is kept in multirun/unsent/" in done.err
    assert "the store is away" not in done.err
    run = runs()[-1]
    assert run.info.status == "FINISHED"
    assert set(run.data.metrics) == set(first.data.metrics)
    assert not given_up(f"sqlite:///{workdir}/mlflow.db")
    place.unlink()
    assert cli("send", module="kernelexp.store").code == 0
    assert (place / run.info.run_id / "artifacts" / "config.yaml").is_file()
    assert runs()[-1].outputs.model_outputs
    assert not UNSENT.exists()


def test_a_run_that_goes_on_is_not_ended_by_others(tracker, client, config):
    run_id = interrupted(tracker, 1)
    client.set_tag(run_id, "process", f"{liveness.this_host()} 1 1")
    experiment = client.get_run(run_id).info.experiment_id
    get_run = client.get_run

    def meanwhile(found):
        client.set_tag(found, "process", str(liveness.this_process()))
        return get_run(found)

    client.get_run = meanwhile  # between the search and the end
    resume.end_abandoned(client, experiment)
    assert get_run(run_id).info.status == "RUNNING"


def test_a_run_that_was_deleted_goes_on_as_another(tracker, client, runs, capsys):
    run_id = interrupted(tracker, 2)
    client.delete_run(run_id)
    with tracker(run_id) as run:
        run.epoch(3, {"loss": 3.0})
    assert f"run {run_id} is no longer in the store" in capsys.readouterr().err
    [found] = runs()
    assert found.info.run_id != run_id
    assert history(client, found.info.run_id)[-1] == (3, 3.0)


def test_a_reply_lost_on_creating_a_run(config, client, monkeypatch):
    from mlflow import MlflowClient

    create, lost = MlflowClient.create_run, []

    def loses_a_reply(self, *args, **kwargs):
        made = create(self, *args, **kwargs)
        if not lost:
            lost.append(made)
            raise OSError("reply lost")
        return made

    monkeypatch.setattr(MlflowClient, "create_run", loses_a_reply)
    store = open_store(config)
    run_id = create_run(store, beginning(config, "r", {}))
    assert run_id == lost[0].info.run_id
    experiment = client.get_run(run_id).info.experiment_id
    assert len(client.search_runs([experiment])) == 1


def test_journals_are_for_one_process_at_a_time(workdir):
    journal = Journal.create("key", [End("FINISHED", 1)])
    assert Journal.take(journal.folder) is None
    with pytest.raises(OSError, match="another process is at it"):
        Journal.create("key")
    journal.close()
    taken = Journal.take(journal.folder)
    taken.append(End("KILLED", 2))
    assert read(taken.folder) == [End("FINISHED", 1), End("KILLED", 2)]
    taken.remove()
    assert not os.path.exists("multirun")
    assert json.loads(to_line(End("X", 1))) == {"kind": "End", "status": "X", "time": 1}


def refused_by_the_server(*_, **__):
    import requests

    response = requests.Response()
    response.status_code = 413
    raise requests.HTTPError("413 Client Error: Request Entity Too Large", response=response)


@pytest.mark.parametrize(
    "error", [refused_by_the_server, ModuleNotFoundError("boto3")], ids=["413", "boto3"]
)
def test_files_that_a_server_does_not_take_hold_nothing_else_up(
    tracker, config, client, monkeypatch, capsys, error
):
    """A proxy has a limit, or the store's files are where this machine has no key for."""
    from mlflow import MlflowClient

    def fails(*_, **__):
        if isinstance(error, Exception):
            raise error
        error()

    kept = MlflowClient.log_text
    monkeypatch.setattr(MlflowClient, "log_text", fails)
    patient = TrackingConfig(uri=config.uri, patience_minutes=10)
    monkeypatch.setattr("kernelexp.store.outbox._LAST_ATTEMPT", 60)
    identity = Identity("digest", "files", lambda: None, False)
    began = time.monotonic()
    with tracking.Tracker(patient, identity, GROUPS, "a: 1\n", ["a=1"], None) as run:
        run.epoch(1, {"loss": 0.5})
    assert time.monotonic() - began < 60
    found = client.get_run(run.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 0.5})
    assert "it is kept in multirun/unsent" in capsys.readouterr().err
    assert not given_up(config.uri)
    unsent.send_of_sweep("another", client)
    assert main(["send"]) == 1  # all but the files once more
    monkeypatch.setattr(MlflowClient, "log_text", kept)
    assert main(["send"]) == 0
    assert history(client, run.run_id) == [(1, 0.5)]
    assert not UNSENT.exists()


def test_the_second_attempt_of_a_training_that_diverged_goes_on_whole(tracker, client):
    run = tracker().__enter__()
    for step, loss in ((1, 10.0), (2, 100.0), (3, 1000.0), (1, 0.5)):
        run.epoch(step, {"loss": loss})
        time.sleep(0.01)  # points are told apart by their times
    until(run.outbox._done)
    run.outbox.record.leave()  # as a killed process does
    run.outbox._stopped = True
    with tracker(run.run_id) as again:
        for step in range(1, 6):
            again.epoch(step, {"loss": 0.5 / step})
            time.sleep(0.01)
    recorded = last_attempt(client.get_metric_history(run.run_id, "loss"))
    assert recorded == {step: 0.5 / step for step in range(1, 6)}


def test_a_journal_that_was_removed_is_written_anew(tracker, store, capsys):
    with tracker() as run:
        run.epoch(1, {"loss": 1.0})
        until(run.outbox._done)
        shutil.rmtree("multirun")
        store.error = OSError("gone")
        run.epoch(2, {"loss": 0.5})
    assert "it is kept in multirun/unsent/" in capsys.readouterr().err
    [one] = unsent.kept()
    assert [entry.step for entry in one.entries if isinstance(entry, Metrics)] == [1, 2]


def test_what_no_store_takes_does_not_make_it_away(config, client, workdir):
    client.delete_experiment(client.create_experiment("gone"))
    old = beginning(TrackingConfig(uri=config.uri, experiment="gone"), "old", {})
    Journal.create("old", [old]).close(given_up=True)
    assert given_up(config.uri)
    sweep.start_parent(config, "typed", 1, [])
    assert not given_up(config.uri)
    assert "0 of 1 jobs finished" in sweep.end_parent(interrupted=False)


def test_the_end_of_a_sweep_whose_parent_was_deleted(config, client, monkeypatch):
    monkeypatch.setattr(sweep, "_PAUSE", 0.01)
    patient = TrackingConfig(uri=config.uri, patience_minutes=10)
    sweep.start_parent(patient, "typed", 1, [])
    client.delete_run(os.environ["KERNELEXP_PARENT_RUN_ID"])
    assert "its store refuses that" in sweep.end_parent(interrupted=False)
    assert not UNSENT.exists()
