"""Where tensors are, what is launched and what the host waits for, on a stand-in for a GPU."""

import warnings
from dataclasses import replace

import pytest
import torch
from solving import problem, relative
from stand_in import GPU, OnGPU, stand_in

from kernelexp.engine import (
    KERNELS,
    SOLVERS,
    Problem,
    ResourceLimits,
    byte_codes,
    devices,
    fit,
    memory,
    points,
    prepare,
    tiles,
)
from kernelexp.engine.evaluation import Evaluation
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points
from kernelexp.engine.solvers.block import Block

CPU = torch.device("cpu")
LAPLACIAN = KERNELS["laplacian"](bandwidth=5.0)
MINE = {
    "eigenpro1": {"batch_size": 32},
    "eigenpro2": {"batch_size": 32},
    "eigenpro3": {"batch_size": 32, "n_centers": 40},
    "eigenpro4": {"batch_size": 32, "n_centers": 40},
    "falkon": {"n_centers": 40},
    "sgd": {"batch_size": 32},
}


@pytest.fixture
def gpu(monkeypatch):
    with stand_in(monkeypatch, tile=64) as device:
        yield device


def moved(p, device, host=False, **changes):
    X = p.X if host else p.X.to(device)
    return Problem(p.kernel, X, p.Y.to(device), p.labels.to(device), **changes)


def fitted(name, p, **settings):
    settings = {"epochs": 2, **MINE.get(name, {}), **settings}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit(SOLVERS[name](**settings), p)


def test_the_stand_in_refuses_what_a_gpu_would(gpu):
    there, here = torch.ones(3, device="cuda"), torch.ones(3)
    assert there.device == GPU
    assert (there + 1).is_cuda
    assert not there.cpu().is_cuda
    assert there[torch.tensor([0])].is_cuda
    for wrong in (
        lambda: there + here,
        lambda: here[there.long()],
        lambda: there.addmm(here, here),
    ):
        with pytest.raises(RuntimeError):
            wrong()
    gpu.reset()
    bool((there > 0).all())
    there[there > 2]
    assert gpu.syncs.total() == 2
    assert gpu.launches.total() == 5


@pytest.mark.parametrize("triton", [True, False])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels(name, triton, monkeypatch):
    kernel, X, Z = KERNELS[name](), torch.randn(90, 5) + 20, torch.randn(170, 5) + 20
    W, expected = torch.randn(170, 2), kernel(X.double(), Z.double())
    scale = expected.abs().max().item()
    with stand_in(monkeypatch, tile=64, triton=triton) as gpu:
        for there in (X.to(GPU), X):
            points = Points.of(there, device=GPU)
            K = BlockedKernel.on(kernel, GPU)(points, Points.of(Z.to(GPU))).dense()
            assert isinstance(K, OnGPU)
            torch.testing.assert_close(K.cpu().double(), expected, rtol=0, atol=3e-6 * scale)
            K = BlockedKernel.on(kernel, GPU)(points, Points.of(Z, device=GPU))
            got = K.matmul(W.to(GPU)).cpu()
            torch.testing.assert_close(got.double(), expected @ W.double(), rtol=1e-4, atol=scale)
        assert set(gpu.products) <= {"ieee", torch.backends.cuda.matmul.fp32_precision}


@pytest.mark.parametrize("keep", [None, 0.0, 2e-5])
@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("name", SOLVERS)
def test_solvers(name, host, keep, gpu):
    """As on the CPU; K kept, not kept, and in part."""
    p = problem(LAPLACIAN, n=100, d=5, dtype=torch.float32)
    limits = ResourceLimits(cache_gb=keep)
    expected = fitted(name, Problem(p.kernel, p.X, p.Y, p.labels, limits=limits)).predict(p.X)
    model = fitted(name, moved(p, GPU, host, limits=limits))
    assert model.weights.is_cuda
    got = model.predict(p.X.to(GPU)).cpu()
    assert relative(got, expected.double()) < 1e-3


@pytest.mark.parametrize("name", ["relu_ntk", "arc_cosine", "laplacian"])
def test_rounds_of_points_on_the_host(name, gpu):
    """Also with a first row of zeros, whose angle with others is none."""
    p = problem(KERNELS[name](), n=60, d=5, dtype=torch.float32)
    p.X[0] = 0
    rfm = {"inner": {"name": "exact", "ridge": 1e-2}, "epochs": 2}
    expected = fit(SOLVERS["rfm"](**rfm), Problem(p.kernel, p.X, p.Y, p.labels)).predict(p.X)
    got = fit(SOLVERS["rfm"](**rfm), moved(p, GPU, True)).predict(p.X.to(GPU)).cpu()
    assert relative(got, expected.double()) < 1e-3


@pytest.mark.parametrize("name", ["sgd", "eigenpro1", "eigenpro2", "askotch"])
def test_a_ridge_and_points_that_coincide(name, gpu):
    p = problem(LAPLACIAN, n=100, d=5, dtype=torch.float32)
    p.X[60:] = p.X[:40]
    expected = fitted(name, Problem(p.kernel, p.X, p.Y, p.labels), ridge=1e-2).predict(p.X)
    got = fitted(name, moved(p, GPU), ridge=1e-2).predict(p.X.to(GPU)).cpu()
    assert relative(got, expected.double()) < 1e-3


@pytest.mark.parametrize("precision", ["bf16", "bf16x3"])
@pytest.mark.parametrize("name", SOLVERS)
def test_precisions(name, precision, gpu):
    """Where vectors are float64, as in cg, falkon and exact, rows of K are too."""
    p = problem(LAPLACIAN, n=100, d=5, dtype=torch.float32)
    expected = fitted(name, p).predict(p.X)
    got = fitted(name, moved(p, GPU, precision=precision)).predict(p.X.to(GPU)).cpu()
    assert relative(got, expected.double()) < 0.1


@pytest.mark.parametrize("d", [9, 784, 2500])
def test_bytes_are_exact_on_a_gpu(d, gpu, monkeypatch):
    """As bfloat16 numbers less 128, in parts of coordinates whose sums float32 has."""
    monkeypatch.setattr(byte_codes, "has_int8_products", lambda device: device.type == "cpu")
    levels = torch.randint(0, 256, (70, d), generator=torch.Generator().manual_seed(0))
    there = Points.of((levels / 255).to(GPU))
    assert there.arithmetic == "bytes"
    assert there.codes.inner_products(there.codes).cpu().equal((levels @ levels.T).int())
    gpu.reset()
    K = BlockedKernel.on(LAPLACIAN, GPU)(there, there).dense().cpu()
    assert gpu.launches["mm"] == gpu.launches["fused"] * -(-d // 1008)  # and no float32 product
    assert not gpu.launches["matmul"] + gpu.launches["__matmul__"]
    expected = LAPLACIAN(levels.double() / 255, levels.double() / 255)
    torch.testing.assert_close(K.double(), expected, rtol=0, atol=3e-6)


def test_a_gpu_that_does_not_add_bytes_exactly(gpu, monkeypatch):
    rounded = byte_codes._exact_products
    monkeypatch.setattr(byte_codes, "_exact_products", lambda x, z: rounded(x, z) * (1 + 2**-20))
    assert not byte_codes.adds_bytes_exactly.__wrapped__(GPU)
    monkeypatch.setattr(points, "adds_bytes_exactly", lambda device: False)
    assert Points.of(torch.ones(3, 2).to(GPU)).arithmetic == "ieee"


def test_bf16x3_is_one_product_on_a_gpu(gpu):
    X = torch.randn(40, 30)
    there = Points.of(X.to(GPU), "bf16x3")
    gpu.reset()
    G = there.inner_products(there)
    assert gpu.launches["mm"] == 1
    torch.testing.assert_close(
        G.cpu(), Points.of(X, "bf16x3").inner_products(Points.of(X, "bf16x3"))
    )


def test_float64_keeps_its_digits_at_every_precision():
    X = torch.randn(40, 5)
    points = Points.of(X, "bf16").to(torch.float64, CPU)
    torch.testing.assert_close(LAPLACIAN(points, points), LAPLACIAN(X.double(), X.double()))


@pytest.mark.parametrize("allowed", ["tf32", "none"])
@pytest.mark.parametrize("name", ["laplacian", "linear"])
def test_ieee_is_ieee_where_the_process_allows_tf32(name, allowed, gpu, monkeypatch):
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    settings.fp32_precision = allowed
    try:
        X = torch.randn(30, 5).to(GPU)
        for precision, wanted in (("ieee", "ieee"), ("auto", "ieee"), ("tf32", "tf32")):
            gpu.reset()
            kernel = BlockedKernel.on(KERNELS[name](), GPU)
            kernel(Points.of(X, precision), Points.of(X, precision)).dense()
            assert set(gpu.products) == {wanted}
        assert settings.fp32_precision == allowed
    finally:
        settings.fp32_precision = before


def test_points_on_the_host_are_pinned_once(gpu):
    X, W = torch.randn(500, 8), torch.randn(500, 2).to(GPU)
    points = Points.of(X, device=GPU)
    for _ in range(3):
        BlockedKernel.on(LAPLACIAN, GPU)(points, points).matmul(W)
    assert gpu.pins["bytes"] == X.nbytes


def test_points_that_do_not_fit_twice_are_pinned_by_tiles(gpu, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1 << 14)
    X, W = torch.randn(500, 8), torch.randn(500, 2).to(GPU)
    points = Points.of(X, device=GPU)
    assert points.values is X
    some = points[torch.arange(30)]
    gpu.reset()
    BlockedKernel.on(LAPLACIAN, GPU)(points, some).matmul(W[:30])
    assert gpu.pins["bytes"] == X.nbytes  # one pass


def test_a_second_plan_after_memory_ran_out(gpu, monkeypatch):
    """What the first one leaves in PyTorch's hands is given back, once, and counted as free."""
    kept, emptied, limits = [10**9], [], []
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: kept[0])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (80 * 10**9 - kept[0], 80 * 10**9))
    monkeypatch.setattr(
        torch.cuda, "empty_cache", lambda: emptied.append(kept.pop()) or kept.append(0)
    )
    solver = SOLVERS["eigenpro2"](epochs=1)
    setup = type(solver).setup

    def first_fails(self, problem, plan):
        limits.append(plan.limit_gb)
        if len(limits) == 1:
            kept[0] = 77 * 10**9
            raise torch.OutOfMemoryError("CUDA out of memory")
        return setup(self, problem, plan)

    monkeypatch.setattr(type(solver), "setup", first_fails)
    p = problem(LAPLACIAN, n=100, d=5, dtype=torch.float32)
    with pytest.warns(RuntimeWarning, match="memory_gb=54.00"):
        training = prepare(solver, moved(p, GPU))
    assert training.smaller_plan
    assert emptied == [77 * 10**9]


def test_a_second_run_keeps_as_many_rows(gpu, monkeypatch):
    """69 of 80 GB are PyTorch's, none of them held."""
    p = moved(problem(LAPLACIAN, n=100, d=5, dtype=torch.float32), GPU)
    plans = []
    for kept in (10**9, 69 * 10**9):
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _, kept=kept: kept)
        monkeypatch.setattr(
            torch.cuda, "mem_get_info", lambda _, kept=kept: (80 * 10**9 - kept, 80 * 10**9)
        )
        plans.append(prepare(SOLVERS["eigenpro2"](), p).plan)
    assert plans[0] == plans[1]


@pytest.mark.parametrize("error", [RuntimeError("gcc failed\nPython.h: No such file"), OSError()])
def test_without_what_triton_needs(error, monkeypatch):
    """One warning, and the step-by-step way from then on."""
    from interpreted import fused

    tried = []

    def fails(*_):
        tried.append(1)
        raise error

    probe = tiles._fused.__wrapped__
    X = torch.randn(150, 5)
    with stand_in(monkeypatch, tile=64, triton=False):
        cached = tiles.functools.cache(probe)
        monkeypatch.setattr(tiles, "_fused", cached)
        monkeypatch.setattr(fused, "matrix", fails)
        with pytest.warns(
            RuntimeWarning, match="needs a C compiler and Python's headers"
        ) as caught:
            K = BlockedKernel.on(LAPLACIAN, GPU)(X.to(GPU), X.to(GPU)).dense().cpu()
    assert len(tried) == 1
    assert len(caught) == 1
    torch.testing.assert_close(K, LAPLACIAN(X, X), rtol=1e-4, atol=1e-5)


# Of an epoch of 256 points in 16 batches and, with predictions carried along, 4 blocks; in tiles of 64.
# For each block or batch at most: launches where K is kept and where it is computed, and syncs.
BOUNDS = {
    "sgd": (4, (37, 83), 2),
    "eigenpro2": (4, (37, 83), 2),
    "eigenpro4": (16, (31, 39), 0.5),
}


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", BOUNDS)
def test_launches_and_syncs(name, kept, gpu):
    """Counted in the second epoch of three, since the last is held against the model; a launch takes a GPU's host some 5 microseconds, a sync its work."""
    parts, launches, syncs = BOUNDS[name]
    p = problem(LAPLACIAN, n=256, d=5, dtype=torch.float32)
    limits = ResourceLimits(cache_gb=None if kept else 0.0)
    centers = {"n_centers": 64} if name == "eigenpro4" else {}
    solver = SOLVERS[name](epochs=3, batch_size=16, **centers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        training = prepare(solver, moved(p, GPU, limits=limits, block_size=64))
    epochs = training.run()
    next(epochs)
    gpu.reset()
    next(epochs)
    assert 0 < gpu.launches.total() <= launches[not kept] * parts, gpu.launches
    assert 0 < gpu.syncs.total() <= syncs * parts, gpu.syncs


def test_a_cached_epoch_is_few_launches(gpu, monkeypatch):
    """Of 60,000 points: 8 blocks, each of which gathers its kept rows in two pieces."""
    block, most = devices.blocks(GPU)[-1], devices.GPU.gathered_bytes
    assert -(-60_000 // block) == 8
    assert -(-block // (most // (4 * 60_000))) == 2
    n, block = 1024, 128
    monkeypatch.setattr(
        devices, "GPU", replace(devices.GPU, gathered_bytes=4 * n * block // 2, tile=8192)
    )
    p = moved(problem(LAPLACIAN, n=n, d=5, dtype=torch.float32), GPU, block_size=block)
    epochs = prepare(SOLVERS["eigenpro2"](epochs=3, batch_size=8), p).run()
    next(epochs)
    gpu.reset()
    next(epochs)
    assert 0 < gpu.launches.total() <= 300, gpu.launches
    assert 0 < gpu.syncs.total() <= 12, gpu.syncs  # the loss of each block, and the record


@pytest.mark.parametrize("n", [60, 64])
def test_a_block_at_once_is_batch_after_batch(n):
    """The triangular system of a GPU gives the steps that a CPU takes in turn."""
    p = problem(LAPLACIAN, n=n, d=5)
    solver = SOLVERS["eigenpro2"](subsample_size=40, q=6)
    limits = ResourceLimits().measured(CPU, n)
    system = solver.setup(p, solver.plan(solver.sizes(p), limits, CPU))
    P, sizes = system.preconditioner, [9] * (n // 9) + [n % 9]
    steps = [system.step_size(m) / m for m in sizes]

    def block():
        every = torch.arange(n)
        K = system.K.entries(every, every)
        return Block(p.Y.clone(), P.features, K, sizes, steps)

    torch.testing.assert_close(block().solved(P), block().stepped(P), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in KERNELS if name != "linear"])
def test_a_tile_is_few_launches_and_no_sync(name, gpu):
    kernel, X = KERNELS[name](), torch.randn(64, 5).to(GPU)
    points, out = Points.of(X), torch.empty(64, 64, device=GPU)
    K = BlockedKernel.on(kernel, GPU)(points, points)
    gpu.reset()
    K.dense(out)
    assert gpu.launches["fused"] == 1
    assert gpu.launches.total() <= 10, gpu.launches
    assert not gpu.syncs.total(), gpu.syncs


def test_evaluation(gpu):
    p = moved(problem(LAPLACIAN, n=100, d=5, dtype=torch.float32), GPU)
    solver = SOLVERS["eigenpro2"](epochs=2)
    training = prepare(solver, p)
    evaluation = Evaluation(training, p.X[:20] * 1.0)
    for _ in training.run():
        torch.testing.assert_close(
            evaluation.outputs().cpu(),
            training.iterate.predictions[:20].cpu(),
            rtol=1e-3,
            atol=1e-4,
        )
