"""Who counts as alive: process ids near by, signs of life elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernelexp import liveness
from kernelexp.liveness import GRACE_SECONDS, Process, Watch, beating, sign, this_process

ELSEWHERE = Process("elsewhere/1234/99", 7, "123")


@pytest.fixture
def now():
    return [1000.0]


@pytest.fixture
def watch(now):
    return Watch(lambda: now[0])


def test_another_user_s_process_that_is_hidden_is_not_gone(monkeypatch):
    """/proc mounted with hidepid, or none: the system says that it is there, not when it started."""

    def kill(pid, number):
        raise ProcessLookupError if pid == 8 else PermissionError

    def hidden(path, *others):
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(Path, "read_text", hidden)
    host = liveness.this_host()
    assert not Process(host, 7, "123").is_gone
    assert not Process(host, 7, "unknown").is_gone
    assert Process(host, 8, "123").is_gone


def test_a_process_is_written_and_read():
    assert Process.of(str(this_process())) == this_process()
    for text in ("", "my own words", "a b", "host -1 x", "host 9" + 30 * "9" + " x"):
        assert Process.of(text) is None


def test_a_process_near_by_is_known_by_its_id(watch):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = liveness._started(other.pid)
    process = Process(liveness.this_host(), other.pid, started)
    later = Process(process.host, other.pid, started + "0")  # of the same id
    try:
        assert not watch.is_dead("a", process, sign())
        assert watch.is_dead("b", later, sign())
    finally:
        other.kill()
        other.wait()
    assert watch.is_dead("a", process, sign())


def test_one_name_in_another_namespace_of_ids_is_not_near(watch):
    """Two containers of one host name: their ids mean nothing to each other."""
    name, boot, namespace = liveness.this_host().split("/")
    container = Process(f"{name}/{boot}/{namespace}0", 4_000_000, "1")
    assert not container.is_near
    assert not container.is_gone
    assert not watch.is_dead("a", container, sign())


@pytest.mark.parametrize("near", [False, True])
def test_signs_that_stay_away_for_three_periods_are_the_end(near, watch, now):
    """Of another machine, and of a process near by that was stopped."""
    holder = Process(liveness.this_host(), os.getppid(), liveness._started(os.getppid()))
    process, beat = holder if near else ELSEWHERE, sign()
    assert not watch.is_dead("a", process, beat)
    now[0] += GRACE_SECONDS
    assert not watch.is_dead("a", process, beat)
    now[0] += 1
    assert watch.is_dead("a", process, beat)
    assert not watch.is_dead("a", process, str(int(beat) + 30))


def test_clocks_of_machines_may_differ(watch):
    """And a store may have been away for hours; a sign of days ago needs no watching."""
    for seconds, dead in ((1800, False), (-1800, False), (-7200, False), (-180_000, True)):
        beat = str(int(sign()) + seconds)
        assert watch.is_dead(str(seconds), ELSEWHERE, beat) is dead


def test_what_is_not_ours_or_gives_no_signs_is_left_alone(watch, now):
    assert not watch.is_dead("a", None, "0")
    assert not watch.is_dead("b", ELSEWHERE, None)
    now[0] += 10 * GRACE_SECONDS
    assert not watch.is_dead("a", None, "0")
    assert not watch.is_dead("b", ELSEWHERE, None)
    assert not watch.is_dead("c", this_process(), "0")


def test_signs_are_given_until_the_end_whatever_fails(monkeypatch):
    monkeypatch.setattr(liveness, "BEAT_SECONDS", 0.01)
    given = []

    def give(beat):
        given.append(beat)
        if len(given) == 3:
            enough.set()
        raise OSError("the store is away")

    enough = liveness.threading.Event()
    with beating(give):
        assert enough.wait(60)
    assert all(beat.isdigit() for beat in given)
