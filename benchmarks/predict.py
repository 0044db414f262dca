"""The first answer of a fresh process: a model of 20,000 centers of bytes is loaded and asked.

    python benchmarks/predict.py     needs PyTorch alone

For one row and for 10,000: seconds from the start of Python to the answer, of them for imports and for
loading; then the seconds of a second question. Five processes each, in turn.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from results_file import spread, write

from kernelexp.engine import KERNELS, KernelModel

P, D, OUTPUTS, REPEATS = 20_000, 784, 10, 5
ASK = """
import json, sys, time
start = time.perf_counter()
import torch
from kernelexp.engine import KernelModel
imported = time.perf_counter()
model = KernelModel.load(sys.argv[1])
loaded = time.perf_counter()
X = model.centers[: int(sys.argv[2])].clone()
model.predict(X)
first = time.perf_counter()
model.predict(X)
second = time.perf_counter()
print(json.dumps({"imports": imported - start, "load": loaded - imported, "first": first - loaded,
                  "second": second - first, "all": first - start}))
"""


def main():
    levels = torch.randint(0, 256, (P, D), generator=torch.Generator().manual_seed(0))
    model = KernelModel(KERNELS["laplacian"](), levels / 255, torch.ones(P, OUTPUTS))
    rows = [{"rows": n, "seconds": []} for n in (1, 10_000)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        model.save(path)
        for _ in range(REPEATS):
            for row in rows:
                command = [sys.executable, "-c", ASK, str(path), str(row["rows"])]
                asked = subprocess.run(command, check=True, capture_output=True, text=True)
                row["seconds"].append(json.loads(asked.stdout))

    def told(part):
        return lambda r: spread([seconds[part] for seconds in r["seconds"]], 3)

    columns = {"rows": lambda r: f"{r['rows']:,}"} | {
        name: told(part)
        for name, part in {
            "imports, s": "imports",
            "load": "load",
            "first answer": "first",
            "second answer": "second",
            "all to the first": "all",
        }.items()
    }
    title = f"The first answer of a fresh process, {P:,} centers of {D} bytes, Laplacian"
    write("predict", title, {"repeats": REPEATS}, rows, columns)


if __name__ == "__main__":
    main()
