"""Signals, dying processes and terminals that go away: how runs and sweeps end then."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernelexp import console
from kernelexp.errors import explain
from kernelexp.interrupts import Interrupted
from kernelexp.tracking import Tracker

TINY = ("dataset.n_train=300", "dataset.n_test=100", "tracking.log_model=false")
LONG = (*TINY, "solver.epochs=1000000")
WORKERS = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
STOPS = (signal.SIGINT, signal.SIGTERM)


def wait_until(holds, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to it")


@contextmanager
def started(*command, ignored=(), **options):
    """A process in a session of its own, which takes signals also where these tests ignore them."""

    def dispositions():
        for stop in STOPS:
            signal.signal(stop, signal.SIG_IGN if stop in ignored else signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=dispositions,
        **options,
    )
    try:
        yield process
    finally:
        for pid in of_the_session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def of_the_session(leader):
    """The processes that ``leader`` started, and it."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def workers_of(launcher):
    return [
        pid
        for pid in of_the_session(launcher)
        if "popen_loky" in Path(f"/proc/{pid}/cmdline").read_text()
    ]


SCRIPT = """
from multiprocessing import resource_tracker
import hashlib, os, signal, subprocess, sys, threading, time
from kernelexp import interrupts

def long_step():  # one call of a library in C
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

def tell(line):
    print(line, flush=True)

def rounds():
    try:
        while True:
            time.sleep(0.01)
            interrupts.check()
    except interrupts.Interrupted as stop:
        tell(stop)
        sys.exit(stop.exit_code)

interrupts.GRACE_SECONDS = interrupts._LAST_WORDS_SECONDS = 0.3
"""


def script(text, **options):
    return started("-c", SCRIPT + text, **options)


@pytest.mark.parametrize("stop", STOPS)
def test_a_signal_is_seen_between_rounds(stop):
    text = "interrupts.install()\nwith interrupts.on_end(tell):\n    tell('ready'); rounds()"
    with script(text) as process:
        process.stdout.readline()
        process.send_signal(stop)
        out, err = process.communicate(timeout=300)
    assert (out, err) == (f"interrupted ({stop.name})\n", "")
    assert process.returncode == 128 + stop


def test_what_does_not_look_is_ended_and_told():
    """Also where one of those who are told never answers."""
    text = """
interrupts.install()
with interrupts.on_end(lambda _: threading.Event().wait()), interrupts.on_end(tell):
    tell("ready"); long_step()
"""
    with script(text) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=300)
    assert out == "interrupted (SIGTERM), in the middle of a long step\n"
    assert err == f"kernelexp: {out}"
    assert process.returncode == 143


def test_a_second_interrupt_does_not_wait():
    text = """
interrupts.GRACE_SECONDS = 1e6
interrupts.install()
with interrupts.on_end(tell):
    tell("ready"); long_step()
"""
    with script(text) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)  # two that come at once are one to the system
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert out == "interrupted (SIGINT), pressed twice, ended at once\n"
    assert err == f"kernelexp: {out}"
    assert process.returncode == 130


def test_an_interrupt_while_it_leaves_changes_no_exit_code():
    text = """
import atexit
interrupts.GRACE_SECONDS = 1e6
interrupts.install()
with interrupts.on_end(tell):
    os.kill(os.getpid(), signal.SIGINT)
interrupts.ignore_more()
atexit.register(time.sleep, 0.3)
atexit.register(os.kill, os.getpid(), signal.SIGINT)
sys.exit(interrupts.received().exit_code)
"""
    with script(text) as process:
        assert process.communicate(timeout=300) == ("", "")
    assert process.returncode == 130


def test_before_anything_is_recorded_a_signal_ends_the_program():
    text = "interrupts.GRACE_SECONDS = 1e6\ninterrupts.install()\ntell('ready'); long_step()"
    with script(text) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=300)
    assert err == "kernelexp: interrupted (SIGTERM)\n"
    assert process.returncode == 143


def test_what_a_process_ignores_it_goes_on_to_ignore():
    text = "interrupts.install()\nwith interrupts.on_end(tell):\n    tell('ready'); rounds()"
    with script(text, ignored=[signal.SIGINT]) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=300)[0] == "interrupted (SIGTERM)\n"


def test_a_worker_notices_that_its_launcher_is_gone():
    worker = "interrupts.install(worker=True)\nwith interrupts.on_end(tell):\n    tell('ready'); rounds()"
    text = "subprocess.run([sys.executable, '-c', os.environ['WORKER']])"
    with script(text, env={**os.environ, "WORKER": SCRIPT + worker}) as process:
        process.stdout.readline()
        process.kill()
        assert process.communicate(timeout=300)[0] == "interrupted (SIGTERM)\n"


def test_a_worker_that_is_just_starting_keeps_a_signal():
    worker = "tell('ready'); sys.stdin.readline(); interrupts.install(worker=True); rounds()"
    text = """
interrupts.GRACE_SECONDS = 1e6
interrupts.install()
with interrupts.on_end(tell):
    interrupts.hold_for_workers()
    resource_tracker.ensure_running()  # as every launcher of processes does
    worker = subprocess.Popen([sys.executable, "-c", os.environ["WORKER"]])
    tell(worker.pid)
    worker.wait()
rounds()  # it takes signals itself as before
"""
    given = {"env": {**os.environ, "WORKER": SCRIPT + worker}, "stdin": subprocess.PIPE}
    with script(text, **given) as process:
        first = {process.stdout.readline(), process.stdout.readline()}
        [pid] = [int(line) for line in first if line != "ready\n"]
        for each in (pid, process.pid):
            os.kill(each, signal.SIGTERM)
        out, _ = process.communicate("go\n", timeout=300)
    assert out == 2 * "interrupted (SIGTERM)\n"
    assert process.returncode == 143


STREAMS = "from kernelexp import streams; import sys, warnings; streams.protect();"
BASH = ("bash", "-o", "pipefail", "-c")
MUCH = "[print(9999 * 'x') for _ in range(99)]; print('é', file=sys.stderr); "


@pytest.mark.parametrize("where", ["| head -c 1", "> /dev/full", ">&-", ">&- 2>&-", "2>/dev/full"])
def test_what_becomes_of_the_output_does_not_matter(shell, where):
    code = f"{STREAMS} {MUCH} open('end', 'w').write('reached'); print('last')"
    done = shell([*BASH, f'python -c "{code}" {where}'], PYTHONIOENCODING="ascii")
    assert done.code == 0
    assert done.err in ("\\xe9\n", "")
    assert Path("end").read_text() == "reached"


def test_a_closed_descriptor_is_no_other_file(shell):
    code = f"{STREAMS} print(open('file', 'w').fileno() > 2, file=sys.stderr)"
    assert shell(f'python -c "{code}" >&-').err == "True\n"


def test_a_reader_that_leaves_ends_no_training(shell, runs):
    done = shell([*BASH, f"python -m kernelexp {' '.join(TINY)} | head -c 1"])
    assert (done.code, done.out, done.err) == (0, "d", "")
    [run] = runs()
    assert run.info.status == "FINISHED"


def test_the_table_comes_before_the_store(cli, monkeypatch):
    def broken(*_):
        raise RuntimeError("the store is gone")

    monkeypatch.setattr(Tracker, "finished", broken)
    assert "test accuracy" in cli(*TINY, "solver.epochs=1").out


def test_the_title_is_what_varies(cli):
    done = cli("--multirun", *TINY, "solver.epochs=1", "noise=0,0.1", "tracking.enabled=false")
    titles = [line.strip() for line in done.out.splitlines() if "noise=" in line]
    assert titles == ["noise=0", "noise=0.1"]
    assert console.title(["noise=0"]) is None


STUCK = """
import threading
from mlflow import MlflowClient
from kernelexp import __main__, interrupts
from kernelexp.experiment import prepare as preparing

def stand_still(*args, **kwargs):
    open("there", "w").close()
    threading.Event().wait()

interrupts.GRACE_SECONDS = 1.0
"""


@pytest.mark.parametrize(
    "where", ["preparing.load = stand_still", "MlflowClient.log_inputs = stand_still"]
)
def test_sigterm_in_a_phase_that_does_not_end(workdir, runs, where):
    with started("-c", f"{STUCK}{where}\n__main__.main()", *LONG) as process:
        wait_until(lambda: Path("there").exists() and runs())
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=300)[1]
    assert process.returncode == 143
    said = err.splitlines()  # and perhaps where that is kept which the store did not take
    assert "kernelexp: interrupted (SIGTERM), in the middle of a long step" in said
    assert all(line.startswith("kernelexp: ") for line in said)
    [run] = runs()
    assert run.info.status == "KILLED"


@pytest.mark.parametrize(
    ("launcher", "seconds"), [((), 0), ((), 2.3), (WORKERS, 1.1), (WORKERS, 3.6)]
)
def test_sigterm_ends_a_sweep_at_any_moment(workdir, runs, launcher, seconds):
    sweep = ("-m", "kernelexp", "--multirun", *LONG, *launcher, "seed=0,1,2")
    with started(*sweep) as process:
        wait_until(runs)
        time.sleep(seconds)
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=300)[1]
    assert process.returncode == 143
    assert err.startswith("kernelexp: interrupted (SIGTERM)")
    assert "Traceback" not in err
    assert {run.info.status for run in runs()} == {"KILLED"}
    assert len(runs()) <= (3 if launcher else 2)  # the parent, and what was under way


def training(runs):
    return [run for run in runs() if "epoch_train_mse" in run.data.metrics]


def test_a_killed_worker_ends_its_sweep_with_the_reason(workdir, runs):
    with started("-m", "kernelexp", "--multirun", *LONG, *WORKERS, "seed=0,1") as process:
        wait_until(lambda: len(training(runs)) == 2)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        err = process.communicate(timeout=300)[1]
    assert process.returncode == 1
    reason, count = err.splitlines()
    assert reason.startswith("kernelexp: a worker process was killed")
    assert count.startswith("kernelexp: 0 of 2 jobs finished")
    parent, *children = runs()
    assert parent.info.status == "FAILED"
    assert [child.info.status for child in children] == ["KILLED", "KILLED"]


def test_workers_end_with_their_launcher(workdir, runs):
    with started("-m", "kernelexp", "--multirun", *LONG, *WORKERS, "seed=0,1") as process:
        wait_until(lambda: len(training(runs)) == 2)
        process.kill()
        wait_until(lambda: workers_of(process.pid) == [])
    _, *children = runs()
    assert [child.info.status for child in children] == ["KILLED", "KILLED"]


def test_an_interruption_is_explained_and_copied():
    import pickle

    stop = pickle.loads(pickle.dumps(Interrupted(signal.SIGTERM)))
    assert (stop.signal, stop.exit_code) == (15, 143)
    assert explain(stop) == "interrupted (SIGTERM)"
