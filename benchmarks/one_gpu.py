"""What runs would take on one GPU of 80 GB: work by count, at rates that are assumed, since there is none here.

python benchmarks/one_gpu.py
"""

import torch
from results_file import write

from kernelexp.data import SOURCES
from kernelexp.engine import KERNELS, SOLVERS, ResourceLimits, StopRule, rates
from kernelexp.experiment import Config
from kernelexp.forecast_time import Stopwatch

FLOPS, BYTES_A_SECOND, STEP = 5e13, 2.5e12, 3e-4
# Of an entry of the kernel matrix, beside its inner product.
_KERNEL = 40
LIMITS = ResourceLimits(memory_gb=76)
GAUSSIAN, LAPLACIAN = KERNELS["gaussian"](bandwidth=5.0), KERNELS["laplacian"](bandwidth=10.0)
OVERFITTED = SOLVERS["eigenpro2"](epochs=2000, q=20, batch_size=256, stop=StopRule(train_error=0.0))


def assumed(kernel, numbers):
    read = numbers.dtype.itemsize / BYTES_A_SECOND
    entry = (2 * numbers.d + _KERNEL) / FLOPS + read
    return rates.Rates(entry=entry, store=0, operation=1 / FLOPS, read=read, step=STEP)


def mnist(solver, epochs=None):
    config = Config(
        SOURCES["mnist"](), GAUSSIAN, solver, resource=LIMITS, dtype=torch.float64, precision="ieee"
    )
    return config, epochs


def centers(data, solver, **settings):
    return Config(data, LAPLACIAN, SOLVERS[solver](**settings), resource=LIMITS), None


MILLION = SOURCES["synthetic1"](n_train=1_000_000, n_test=2000)
RUNS = {
    "mnist, random labels, gaussian, 900 epochs": mnist(OVERFITTED, 900),
    "mnist, 10% noise, overfitted, gaussian, 600 epochs": mnist(OVERFITTED, 600),
    "mnist, interpolated, gaussian": mnist(SOLVERS["exact"](precision="float64")),
    **{
        f"fmnist, p = 20,000, {solver}": centers(SOURCES["fmnist"](), solver, n_centers=20_000)
        for solver in ("eigenpro3", "eigenpro4", "falkon", "exact")
    },
    **{
        f"synthetic1, n = 10^6, p = 80,000, {solver}": centers(
            MILLION, solver, n_centers=80_000, **epochs
        )
        for solver, epochs in (
            ("eigenpro3", {"epochs": 3}),
            ("eigenpro4", {"epochs": 3}),
            ("exact", {}),
        )
    },
}


def main():
    rates.measure = assumed
    rows = []
    for name, (config, epochs) in RUNS.items():
        total = Stopwatch(lambda config, n, epochs=epochs: epochs).of(config).total
        rows.append({"run": name, "seconds": round(total, 1)})
    columns = {"run": lambda r: r["run"], "s, forecast": lambda r: r["seconds"]}
    settings = {
        "assumed": f"{FLOPS:.0e} operations/s, {BYTES_A_SECOND:.1e} bytes/s, {STEP} s a step, 76 GB"
    }
    title = f"Forecasts for one GPU, not measured: {settings['assumed']}; written on"
    write("one_gpu", title, settings, rows, columns)


if __name__ == "__main__":
    main()
