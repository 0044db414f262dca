"""From the shell: ``--help``, and a run on digits in a store that exists.

python benchmarks/startup.py
"""

import os
import subprocess
import sys
import tempfile
import time

from results_file import spread, write

REPEATS = 7
COMMANDS = {"--help": ["--help"], "digits run, existing store": ["tracking.log_model=false"]}


def main():
    seconds = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        command = [sys.executable, "-m", "kernelexp"]
        settings = {"env": environment, "cwd": folder, "check": True, "capture_output": True}
        subprocess.run(command, **settings)  # makes the store
        for _ in range(REPEATS):
            for name, arguments in COMMANDS.items():
                start = time.perf_counter()
                subprocess.run([*command, *arguments], **settings)
                seconds[name].append(time.perf_counter() - start)
    rows = [{"command": name, "seconds": taken} for name, taken in seconds.items()]
    columns = {
        "command": lambda r: r["command"],
        "seconds, median (range)": lambda r: spread(r["seconds"]),
    }
    write("startup", "Start-up", {"repeats": REPEATS}, rows, columns)


if __name__ == "__main__":
    main()
