"""Run a command line, then again and again with kill -9 at random moments, until all of it has ended by itself.

    python kill_again.py KILLS ARGUMENTS... -- REFERENCE...

First it runs with the REFERENCE arguments added, in peace; that takes T seconds. Then without them, killed
after 0 to T seconds, two times of three counted from its next checkpoint, and so on where that left it; when it has ended it begins anew, until it was killed
KILLS times. A sweep, which skips what it has done, does not begin anew. Each run is a child that has everything imported, so that it starts at once. Prints the moments
as shares of T, and how often it ended by itself.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch  # noqa: F401

import kernelexp.__main__
import kernelexp.callbacks
import kernelexp.console
import kernelexp.sweep
import kernelexp.tracking


def start(arguments):
    """The process id of a run; its output goes to the file ``out``."""
    child = os.fork()
    if child:
        return child
    handle = os.open("out", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.argv = ["kernelexp", *arguments]
    code = 99
    try:
        kernelexp.__main__.main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def ended(child, seconds):
    """The exit code of a child that ends within so many seconds, else None."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def written():
    """The checkpoints there are."""
    return {str(path) for path in Path("multirun/checkpoints").glob("*/[0-9]*.safetensors")}


def run(arguments, seconds=600.0, trains=False):
    """Whether a run ended by itself within so many seconds, of training with ``trains``; else it is killed."""
    before, child, code = written(), start(arguments), None
    while trains and code is None and written() <= before:
        code = ended(child, 0.01)
    if code is None:
        code = ended(child, seconds)
    if code is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    elif code:
        sys.exit(f"exit code {code}\n{Path('out').read_text()}")
    return code is not None


def main():
    kills, *arguments = sys.argv[1:]
    place = arguments.index("--")
    arguments, reference = arguments[:place], arguments[place + 1 :]
    began = time.monotonic()
    run([*arguments, *reference])
    whole = time.monotonic() - began
    draw, moments, finished = random.Random(0), [], 0
    anew = "--multirun" not in arguments
    while len(moments) < int(kills) and (anew or not finished):
        share = draw.random()
        trains = len(moments) % 3 > 0
        if run(arguments, share * whole / (10 if trains else 1), trains):
            finished += 1
        else:
            moments.append(round(share, 2))
    run(arguments)  # in peace
    print(f"T = {whole:.1f} s, killed at {moments}, ended {finished + 1} times")


if __name__ == "__main__":
    main()
