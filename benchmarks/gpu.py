"""Everything there is to know of a GPU, in one command of less than eight minutes, on a bare machine.

    python benchmarks/gpu.py fmnist.npz --out FOLDER [--small] [--seconds 460]

Needs PyTorch and NumPy; pytest and Triton are used where they are there. ``fmnist.npz`` holds ``x_train``
(60000, 784) and ``x_test`` as uint8, ``y_train`` and ``y_test`` as integers, as three lines make it:

    data = load(SOURCES["fmnist"](), folder)           # kernelexp.data, where that is installed
    bytes_of = lambda X: (255 * X).round().byte().numpy()
    np.savez_compressed("fmnist.npz", x_train=bytes_of(data.train.X), y_train=data.train.labels, ...)

The tests that need CUDA come first, then the benchmarks, the dearest last. ``FOLDER/gpu.json`` is written
after each part, so that a run that is cut off leaves what it has; a part that fails says so and leaves the
others. ``FOLDER/gpu.md`` has the same as tables. ``--small`` runs it all at sizes for a CPU, to see that it works.
"""

import argparse
import json
import subprocess
import sys
import time
import traceback
from pathlib import Path
from statistics import median

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from timing import DEVICE, timed  # noqa: E402

from kernelexp.engine import KERNELS, SOLVERS, Problem, memory, prepare  # noqa: E402
from kernelexp.engine.devices import device_name  # noqa: E402
from kernelexp.engine.operator import BlockedKernel  # noqa: E402
from kernelexp.engine.points import Points  # noqa: E402

LAPLACIAN = KERNELS["laplacian"](bandwidth=10.0)
TESTS = ["test_gpu.py", "test_fused.py"]
TEST_SECONDS = 150


def fmnist(path, small):
    """Points, one-hot targets and labels, of training and test; random bytes without a file."""
    if path is None:
        draw = np.random.default_rng(0)
        X, y = draw.integers(0, 256, (700, 784), dtype=np.uint8), draw.integers(0, 10, 700)
        parts = {"x_train": X[:600], "y_train": y[:600], "x_test": X[600:], "y_test": y[600:]}
    else:
        parts = dict(np.load(path))
    n = 600 if small else len(parts["x_train"])
    X, x = (
        torch.from_numpy(parts[k]).float().div_(255).reshape(len(parts[k]), -1).to(DEVICE)
        for k in ("x_train", "x_test")
    )
    labels, test = (torch.from_numpy(parts[k]).long().to(DEVICE) for k in ("y_train", "y_test"))
    Y = torch.nn.functional.one_hot(labels[:n], 10).float()
    return X[:n], Y, labels[:n], x, test


def best(work, repeats=5):
    """The median of its seconds, after one call for what is done once."""
    work()
    return median(timed(work)[0] for _ in range(repeats))


def tests(data, small):
    """What pytest says of the CUDA tests."""
    if small:
        return [{"tests": "left out"}]
    files = [str(ROOT / "tests" / "engine" / name) for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-c", "/dev/null", *files]
    settings = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": TEST_SECONDS}
    ran = subprocess.run(command, check=False, **settings)
    return [{"exit": ran.returncode, "said": ran.stdout[-3000:] + ran.stderr[-1000:]}]


def five_epochs(data, small):
    """EigenPro 2 with all that belongs to it, cold and warm; memory against the plan."""
    X, Y, labels, x, test = data
    rows = []
    for times in ("cold", "warm", "warm"):
        memory.reset_peak(DEVICE)
        seconds, training = timed(
            lambda: prepare(SOLVERS["eigenpro2"](epochs=5), Problem(LAPLACIAN, X, Y, labels))
        )
        epochs = [record.seconds for record in training.run()]
        right = training.model().predict(x).argmax(1) == test
        rows.append(
            {
                "n": len(X),
                "machine": times,
                "seconds": seconds + sum(epochs),
                "setup": seconds,
                "epochs": epochs,
                "accuracy": 100 * right.double().mean().item(),
                "peak_gb": memory.peak_bytes(DEVICE) / 1e9,
                "plan_gb": training.plan.peak_gb,
                "products": training.problem.points.arithmetic,
            }
        )
    return rows


def _copy_rate(numbers):
    """GB a second that are read and written by a copy of so many float32 numbers."""
    source = torch.zeros(numbers, device=DEVICE)
    copy = torch.empty_like(source)
    return 2e-9 * source.nbytes / best(lambda: copy.copy_(source))


def cached_epoch(data, small):
    """The second epoch against reading K once at the rate of a copy."""
    X, Y, labels, *_ = data
    rate = _copy_rate(1_000_000 if small else 1 << 30)
    solver = SOLVERS["eigenpro2"](epochs=4)
    seconds = [r.seconds for r in prepare(solver, Problem(LAPLACIAN, X, Y, labels)).run()]
    floor = 4 * len(X) ** 2 / rate / 1e9
    return [{"n": len(X), "seconds": min(seconds[1:]), "floor": floor, "gb_per_second": rate}]


def kernels(data, small):
    """Blocks of every kernel in every precision, in units of the bare product of that precision."""
    n, m, d = (64, 96, 20) if small else (8192, 16_384, 784)
    generator = torch.Generator().manual_seed(0)
    floats = torch.randn(n + m, d, generator=generator).to(DEVICE) / 3
    levels = torch.randint(0, 256, (n + m, d), generator=generator).to(DEVICE) / 255
    kinds = {name: Points.of(floats, name) for name in ("ieee", "bf16x3", "bf16")}
    if DEVICE.type == "cuda":
        kinds["tf32"] = Points.of(floats, "tf32")
    kinds["bytes"] = Points.of(levels)
    out, rows = torch.empty(n, m, device=DEVICE), []
    for kind, points in kinds.items():
        bare = best(lambda p=points: p[:n].inner_products(p[n:]), 3)
        for name, kernel in KERNELS.items():
            K = BlockedKernel.on(kernel(), DEVICE)(points[:n], points[n:])
            ratio = best(lambda K=K: K.dense(out), 3) / bare
            teraflops = 2e-12 * n * m * d / bare
            rows.append({"precision": kind, "kernel": name, "ratio": ratio, "bare": teraflops})
    return rows


def a_million(data, small):
    """One epoch of EigenPro 2 with n = 1,000,000 points of bytes, K not kept, against its products alone."""
    n, d = (2000, 784) if small else (1_000_000, 784)
    draw = torch.Generator(DEVICE).manual_seed(0)
    X = torch.randint(0, 256, (n, d), generator=draw, device=DEVICE).float().div_(255)
    Y = torch.sin(X[:, :2].sum(1, keepdim=True))
    problem = Problem(LAPLACIAN, X, Y)
    some = problem.points[: min(n, 8192)]
    product = best(lambda: some.inner_products(some), 3)
    training = prepare(SOLVERS["eigenpro2"](epochs=1), problem)
    seconds = sum(record.seconds for record in training.run())
    floor = product * (n / len(some)) ** 2
    return [{"n": n, "seconds": seconds, "floor": floor, "setup": training.setup_seconds}]


def many_centers(data, small):
    """An epoch of EigenPro 4 on n points against p, until it takes a minute."""
    n, d = (3000, 20) if small else (1_000_000, 100)
    draw = torch.Generator(DEVICE).manual_seed(0)
    X = torch.randn(n, d, generator=draw, device=DEVICE)
    Y, rows = torch.sin(X[:, :2].sum(1, keepdim=True)), []
    for p in (100, 200) if small else (20_000, 80_000, 200_000, 500_000):
        solver = SOLVERS["eigenpro4"](epochs=1, n_centers=p)
        seconds, training = timed(lambda s=solver: prepare(s, Problem(LAPLACIAN, X, Y)))
        epoch = sum(record.seconds for record in training.run())
        rows.append({"n": n, "p": p, "setup": seconds, "epoch": epoch})
        if seconds + epoch > 60:
            break
    return rows


def _rank(rank, size, file, numbers):
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=size)
    F = torch.full((numbers,), rank + 1.0, device=DEVICE)
    seconds = best(lambda: dist.all_reduce(F.fill_(rank + 1.0)), 5)
    assert F.eq(3).all()
    if not rank:
        row = {"ranks": size, "megabytes": 4e-6 * numbers, "seconds": seconds}
        Path(f"{file}.json").write_text(json.dumps(row))
    dist.destroy_process_group()


def two_ranks(data, small):
    """The all-reduce of a block, 8,192 x (10 + 400) numbers, by two processes on one device."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "meeting"
        torch.multiprocessing.spawn(_rank, (2, str(file), 1000 if small else 8192 * 410), nprocs=2)
        return [json.loads(Path(f"{file}.json").read_text())]


def table(found):
    """All parts as Markdown tables."""
    lines = [f"# One GPU: {found['device']}, PyTorch {found['torch']}", ""]
    for name, part in found["parts"].items():
        columns = list(part["rows"][0])
        lines += [f"## {name}, {part['seconds']:.0f} s", "", f"| {' | '.join(columns)} |"]
        lines += [f"|{' --- |' * len(columns)}"]
        lines += [f"| {' | '.join(_cell(row.get(c)) for c in columns)} |" for row in part["rows"]]
        lines += [""]
    return "\n".join(lines)


def _cell(value):
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("\n", " ")


PARTS = (tests, five_epochs, cached_epoch, kernels, two_ranks, a_million, many_centers)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", help="fmnist.npz; random bytes without it")
    parser.add_argument("--out", default=".", type=Path)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seconds", default=460, type=float, help="no part is begun after these")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    data = fmnist(asked.data, asked.small)
    found = {"device": device_name(DEVICE), "torch": torch.__version__, "parts": {}}
    for part in PARTS:
        began = time.perf_counter()
        if began - start > asked.seconds:
            rows = [{"left out": "no time"}]
        else:
            try:
                rows = part(data, asked.small)
            except Exception as error:  # the other parts are worth having
                traceback.print_exc()
                rows = [{"failed": f"{type(error).__name__}: {error}"[:500]}]
            memory.release(DEVICE)
        took = time.perf_counter() - began
        found["parts"][part.__name__] = {"seconds": took, "rows": rows}
        (asked.out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
        (asked.out / "gpu.md").write_text(table(found))
        print(f"## {part.__name__} ({took:.1f} s)", *map(json.dumps, rows), sep="\n", flush=True)
    failed = [name for name, made in found["parts"].items() if "failed" in made["rows"][0]]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
