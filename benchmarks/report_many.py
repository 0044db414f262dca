"""The report of a store with 10,000 runs: seconds and memory.

    python benchmarks/report_many.py [RUNS]

The runs of two small presets are made, and copied in the store's tables, with other ids and seeds, until there are as
many as asked for.
"""

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from results_file import write

PRESETS = ("kernels", "rkhs_norm")
# What belongs to a run, by the column that has its id.
TABLES = ("runs", "params", "metrics", "latest_metrics", "tags")


def multiply(database, wanted):
    """Copy jobs, sweep by sweep, until there are so many runs; how many there are."""
    store = sqlite3.connect(database)
    jobs = "SELECT run_uuid, value FROM tags WHERE key = 'mlflow.parentRunId'"
    of_parent = {}
    for run, parent in store.execute(jobs):
        of_parent.setdefault(parent, []).append(run)
    templates = {run: rows_of(store, run) for runs in of_parent.values() for run in runs}
    count, seed = store.execute("SELECT count(*) FROM runs").fetchone()[0], 1000
    while count < wanted:
        for runs in of_parent.values():
            seed += 1
            for run in runs:
                copy(store, templates[run], uuid.uuid4().hex, seed)
                count += 1
    store.commit()
    return count


def rows_of(store, run):
    """All that a run has, by table."""
    found = {}
    for table in TABLES:
        rows = store.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", [run])
        names = [column[0] for column in rows.description]
        found[table] = [dict(zip(names, row, strict=True)) for row in rows]
    return found


def copy(store, template, new, seed):
    for table, rows in template.items():
        for row in rows:
            row = {**row, "run_uuid": new}
            if table == "params" and row["key"] == "seed":
                row["value"] = str(seed)
            if table == "tags" and row["key"] == "config.digest":
                row["value"] = f"{row['value']} {seed}"
            marks = ", ".join(f":{name}" for name in row)
            store.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", row)


def main(wanted):
    with tempfile.TemporaryDirectory() as folder:
        for preset in PRESETS:
            typed = [f"experiment={preset}", "+debug=fast", "tracking.log_model=false"]
            command = [sys.executable, "-m", "kernelexp", *typed]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        count = multiply(Path(folder) / "mlflow.db", wanted)
        start = time.perf_counter()
        report = subprocess.Popen(
            [sys.executable, "-m", "kernelexp.report", "--no-log"], cwd=folder
        )
        _, code, used = os.wait4(report.pid, 0)
        seconds = time.perf_counter() - start
        assert code == 0
        page = sum(f.stat().st_size for f in Path(folder, "reports").rglob("*") if f.is_file())
    row = {"runs": count, "seconds": seconds, "gb": used.ru_maxrss / 1e6, "mb": page / 1e6}
    columns = {
        "runs": lambda row: f"{row['runs']:,}",
        "seconds": lambda row: f"{row['seconds']:.1f}",
        "most memory, GB": lambda row: f"{row['gb']:.2f}",
        "files written, MB": lambda row: f"{row['mb']:.1f}",
    }
    write(
        "report_many", "The report of a store with many runs", {"presets": PRESETS}, [row], columns
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
