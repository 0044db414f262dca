"""Where benchmarks leave their numbers: JSON with machine, versions and commit, and a table."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import torch
from timing import DEVICE

from kernelexp.engine.devices import device_name

RESULTS = Path(__file__).parent / "results"


def machine():
    """The machine in words, versions and commit."""
    git = ["git", "-C", str(RESULTS), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    name = device_name(DEVICE)
    threads = "" if DEVICE.type == "cuda" else f", {torch.get_num_threads()} threads"
    return {
        "machine": name + threads,
        "torch": torch.__version__,
        "commit": commit,
    }


def kept(name):
    """The rows that ``results/NAME.json`` has, each with the machine, versions and commit that it is of."""
    file = RESULTS / f"{name}.json"
    if not file.exists():
        return []
    found = json.loads(file.read_text())
    origin = {key: found[key] for key in machine()}
    return [{"origin": origin, **row} for row in found["rows"]]


def ratios(seconds, unit):
    """Times of repeats that ran side by side, one by one in units of the other's."""
    return [s / u for s, u in zip(seconds, unit, strict=True)]


def spread(values, digits=2):
    """``median (smallest-largest)``."""
    shown = [f"{v:.{digits}f}" for v in (median(values), min(values), max(values))]
    return f"{shown[0]} ({shown[1]}-{shown[2]})"


def write(name, title, settings, rows, columns, shown=None):
    """``results/NAME.json`` with everything, ``results/NAME.md`` with the ``columns`` of each row.

    Rows that are not ``kept`` are of this machine and commit; the table says all that its rows are of. ``shown``: what
    has a row of the table each, where that is not each of ``rows``.
    """
    here = machine()
    header = {**settings, **here}
    origins = {str(o): o for o in [row.get("origin", here) for row in rows] or [here]}.values()
    of = [f"{o['machine']}, PyTorch {o['torch']}, commit {o['commit'][:10]}" for o in origins]
    (RESULTS / f"{name}.json").write_text(json.dumps({**header, "rows": rows}, indent=1) + "\n")
    lines = [
        f"# {title}",
        "",
        f"{'; '.join(of)}. Written by `benchmarks/{Path(sys.argv[0]).name}`.",
        "",
        f"| {' | '.join(columns)} |",
        f"| {' | '.join('---' for _ in columns)} |",
        *(
            f"| {' | '.join(str(show(row)) for show in columns.values())} |"
            for row in (rows if shown is None else shown)
        ),
    ]
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
