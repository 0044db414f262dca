"""Products of points: exact for bytes, of the stated precision otherwise."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

from kernelexp.engine import KERNELS, SOLVERS, Problem, ResourceLimits, prepare
from kernelexp.engine.byte_codes import ByteCodes
from kernelexp.engine.evaluation import Evaluation
from kernelexp.engine.linalg import top_eigenpairs
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points, check_precision

CPU = torch.device("cpu")


@pytest.fixture
def as_bytes(monkeypatch):
    """Products of integers on any processor: where it has no instructions for them they are slow."""
    monkeypatch.setattr("kernelexp.engine.points.bytes_are_fast", lambda X, device: True)


def images(n, d, seed=0, unit=1 / 255, dtype=torch.float32):
    """Bytes, half of them 0 as in images, times the unit, and the bytes themselves."""
    draw = np.random.default_rng(seed)
    levels = draw.integers(0, round(1 / unit) + 1, size=(n, d)) * draw.integers(0, 2, size=(n, d))
    levels[0, 0] = round(1 / unit)
    return torch.tensor(levels).to(dtype) * unit, levels


@pytest.mark.parametrize("shape", [(1, 784, 7), (13, 1, 17), (31, 5000, 3), (257, 6, 509)])
@pytest.mark.parametrize("unit", [1 / 255, 1 / 16])
def test_byte_products_are_exact(shape, unit):
    n, d, m = shape
    (X, x), (Z, z) = images(n, d, 1, unit), images(m, d, 2, unit)
    a, b = ByteCodes.of(X), ByteCodes.of(Z)
    assert np.array_equal(a.inner_products(b).numpy(), x @ z.T)
    differences = x[:, None].astype(int) - z[None]
    assert np.array_equal(a.squared_distances(b).numpy(), (differences**2).sum(2))


def test_bytes_in_float64_are_exact_on_any_processor():
    """Their products in float32 round nothing, in half the time of float64 ones."""
    X, levels = images(40, 2100, dtype=torch.float64)
    points = Points.of(X)
    assert points.arithmetic == "bytes"
    assert np.array_equal(points.codes.inner_products(points.codes).numpy(), levels @ levels.T)


@pytest.mark.parametrize("outlier", [None, 1e6, 1e9])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_an_origin_whatever_one_point_is(offset, outlier):
    X = torch.randn(512, 10, generator=torch.Generator().manual_seed(0)) + offset
    if outlier is not None:
        X[0] = outlier
    origin = Points(X).common_origin
    assert (origin is None) == (offset == 0)
    assert origin is None or (origin - offset).abs().max() < 3


def test_what_are_bytes():
    X, _ = images(20, 10)
    assert ByteCodes.of(X).unit == pytest.approx(1 / 255)
    assert ByteCodes.of(X * 255).unit == 1
    assert ByteCodes.of(X.double()) is None  # 1 / 255 in float32 is not 1 / 255 in float64 ...
    exact, _ = images(20, 10, dtype=torch.float64)
    assert ByteCodes.of(exact) is not None
    for other in (X + 1e-4, -X, X * 1.001 + 0.3, X[:0], X * 2000, X / 0):
        assert ByteCodes.of(other) is None
    X[3, 4] += 1e-5
    assert ByteCodes.of(X) is None


@pytest.mark.usefixtures("as_bytes")
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_of_bytes(name, dtype):
    """Every kernel from integers against itself in float64 from the points, close pairs included."""
    X, _ = images(100, 49, dtype=dtype)
    X[5] = X[4]
    X[7] = 0
    X[9] = X[8]
    X[9, 3] = (X[9, 3] + 17 / 255) % 1
    X[11] = X[10] * 0  # two zero rows
    kernel = KERNELS[name]()
    points = Points.of(X)
    assert points.codes is not None or dtype == torch.float64
    expected = kernel(X.double(), X.double())
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    got = BlockedKernel.on(kernel, CPU)(points, points).dense()
    torch.testing.assert_close(got, got.T)
    scale = expected.abs().max()
    torch.testing.assert_close(got.double() / scale, expected / scale, rtol=0, atol=tolerance)


@pytest.mark.usefixtures("as_bytes")
def test_close_bytes_keep_their_distance():
    """One grey level of difference in one pixel of a bright image."""
    X = torch.full((2, 784), 250 / 255)
    X[1, 5] = 251 / 255
    X[0, 0] = X[1, 0] = 1.0
    kernel = BlockedKernel.on(KERNELS["laplacian"](bandwidth=1e-3), CPU)
    K = kernel(Points.of(X), Points.of(X)).dense()
    assert K[0, 1].item() == pytest.approx(np.exp(-1000 / 255), rel=1e-4)


@pytest.mark.parametrize(("precision", "error"), [("ieee", 1e-6), ("bf16x3", 2e-5), ("bf16", 1e-2)])
def test_error_of_a_precision(precision, error):
    X = torch.tensor(np.random.default_rng(0).normal(size=(300, 40)))
    points = Points.of(X.float(), precision)
    exact = X @ X.T
    got = points.inner_products(points)
    assert got.dtype == torch.float32
    assert (got - exact).abs().max() / exact.abs().max() < error
    kernel = KERNELS["laplacian"](bandwidth=5.0)
    K = BlockedKernel.on(kernel, CPU)(points, points).dense().double()
    assert (K - kernel(X, X)).abs().max() < 3 * error


@pytest.mark.parametrize(
    ("precision", "dtype", "allowed"),
    [
        ("fast", torch.float32, "one of auto"),
        ("tf32", torch.float32, "auto, ieee, bf16x3 or bf16 on a CPU"),
        ("bf16", torch.float64, "auto or ieee with dtype=float64"),
    ],
)
def test_refuses_a_precision(precision, dtype, allowed):
    with pytest.raises(ValueError, match=f"precision={precision}: must be {allowed}"):
        check_precision(precision, dtype, CPU)


@pytest.mark.parametrize("decay", [1.0, 2.0, "flat"])
def test_top_eigenpairs(decay):
    """Randomised where it converges, dense where the spectrum is flat; both to the residual."""
    n, rank = 1600, 60
    values = (
        1 + torch.rand(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 1e4
        if decay == "flat"
        else torch.arange(1, n + 1, dtype=torch.float64) ** -decay
    ).sort(descending=True)[0]
    generator = torch.Generator().manual_seed(0)
    Q = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
    A = (Q * values) @ Q.T
    got, V, lowest = top_eigenpairs(A, rank, generator)
    torch.testing.assert_close(V.T @ V, torch.eye(rank, dtype=V.dtype))
    assert ((A @ V - V * got).norm(dim=0) <= 0.01 * got).all()
    torch.testing.assert_close(got, values[:rank], rtol=1e-3, atol=0.0)
    assert lowest <= values[rank]


def test_evaluation_keeps_what_there_is_room_for():
    X, _ = images(400, 30)
    Y = torch.nn.functional.one_hot(torch.arange(400) % 3).float()
    kernel = KERNELS["laplacian"](bandwidth=2.0)
    for cache_gb in (None, 0.0, 400 * 400 * 4e-9 + 50 * 400 * 4e-9):
        limits = ResourceLimits(cache_gb=cache_gb)
        problem = Problem(kernel, X, Y, limits=limits, block_size=256)
        solver = SOLVERS["eigenpro2"](epochs=2)
        training = prepare(solver, problem)
        before = training.plan.gigabytes["cache"]
        evaluation = Evaluation(training, X[:100] * 1.0)
        kept = {None: 100, 0.0: 0}.get(cache_gb, 50)
        assert evaluation.K.kept_rows == kept
        assert training.plan.gigabytes["cache"] == pytest.approx(before + kept * 400 * 4e-9)
        for _ in training.run():
            torch.testing.assert_close(
                evaluation.outputs(), training.iterate.predictions[:100], rtol=1e-3, atol=1e-4
            )


def test_a_single_epoch_keeps_all_rows_or_none():
    X, _ = images(400, 30)
    Y = torch.nn.functional.one_hot(torch.arange(400) % 3).float()
    for cache_gb, epochs, kept in ((None, 1, 400), (1e-4, 1, 0), (1e-4, 2, 62)):
        limits = ResourceLimits(cache_gb=cache_gb)
        problem = Problem(KERNELS["laplacian"](), X, Y, limits=limits, block_size=256)
        assert prepare(SOLVERS["eigenpro2"](epochs=epochs), problem).plan.kept_rows == kept


def test_norms_are_computed_once(monkeypatch):
    """Of the training points: none for each tile."""
    X = torch.randn(1500, 4)
    points = Points.of(X)
    monkeypatch.setattr("kernelexp.engine.points.row_norms", None)
    for kernel in (KERNELS["laplacian"](), KERNELS["arc_cosine"](), KERNELS["relu_ntk"]()):
        K = BlockedKernel.on(kernel, CPU)(points, points[torch.arange(700)])
        K.matmul(torch.ones(700, 1))


@pytest.mark.parametrize("setting", ["high", "medium"])
def test_distances_are_those_of_float32_whatever_the_process_has_set(setting):
    """A script may have asked for rough products of its networks, which some CPUs make in bfloat16."""
    X = torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
    k = KERNELS["laplacian"](bandwidth=8.0)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(setting)
        K = k(X, X)
        assert torch.get_float32_matmul_precision() == setting
    finally:
        torch.set_float32_matmul_precision(before)
    assert (K.double() - k(X.double(), X.double())).abs().max() < 1e-6


def test_bytes_stay_exact_where_instructions_are_forbidden():
    """oneDNN's int8 products of an older processor are cut off at 16 bits; the processor says it has newer ones."""
    script = (
        "import torch; from kernelexp.engine.points import Points\n"
        "codes = torch.randint(0, 256, (60, 784), generator=torch.Generator().manual_seed(0))\n"
        "X = Points.of((codes / 255).float())\n"
        "G = X.inner_products(X).double() * 255**2\n"
        "assert (G - (codes @ codes.T)).abs().max() < 1e-6 * G.max(), (G - codes @ codes.T).abs().max()"
    )
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
