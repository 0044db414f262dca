"""What every operator for K must do, each against K in float64 from the kernel's definition."""

import pytest
import torch

from kernelexp.engine import KERNELS
from kernelexp.engine.devices import Tiling
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points

N, P, C, BANDWIDTH = 150, 70, 3, 2.0
# Several tiles and gathers each way, and pieces at the ends that are smaller.
SMALL = Tiling(tile=32, gathered_bytes=8 * 20 * P, rows=32, picked=1 << 40)
KERNEL = BlockedKernel(KERNELS["gaussian"](bandwidth=BANDWIDTH), SMALL)
KEPT = {"tiled": 0, "kept in part": 47, "kept whole": N}
INDEX = {
    "none": [],
    "one": [N - 1],
    "repeated": [5, 5, 149, 5, 149],
    "kept": list(range(46, -1, -1)),
    "not kept": list(range(60, 140, 3)),
    "all, shuffled": torch.randperm(N, generator=torch.Generator().manual_seed(7)).tolist(),
}


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Case:
    """An operator, K as it should be, and what may lie between them."""

    def __init__(self, keep, dtype, symmetric):
        X = draw(N, 5).to(dtype)
        Z = X if symmetric else draw(P, 5, seed=1).to(dtype)
        self.dtype, self.p = dtype, len(Z)
        distances = (X.double()[:, None] - Z.double()[None]).square().sum(2)
        self.expected = torch.exp(-distances / (2 * BANDWIDTH**2))
        self.K = KERNEL(X, Z, keep)
        if keep:
            self.K._memory.fill_(torch.nan)  # what is not filled shows
        self.tolerance = 2e-6 if dtype == torch.float32 else 1e-13

    def vectors(self, rows, seed):
        return draw(rows, C, seed=seed).to(self.dtype)

    def check(self, got, expected):
        assert got.dtype == self.dtype
        assert got.shape == expected.shape
        scale = max(1.0, expected.norm(dim=0).max().item()) if expected.numel() else 1.0
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=self.tolerance * scale)


@pytest.fixture(params=KEPT)
def keep(request):
    return KEPT[request.param]


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["symmetric", "rectangular"])
def case(request, keep, dtype):
    return Case(keep, dtype, request.param)


def test_says_what_it_is(case, keep):
    assert case.K.shape == (N, case.p)
    assert case.K.kept_rows == keep
    assert case.K.complete == (keep == N)


@pytest.mark.parametrize("index", INDEX.values(), ids=INDEX)
def test_rows(case, index):
    index = torch.tensor(index, dtype=torch.long)
    expected = case.expected[index]
    first = case.K.rows(index)
    case.check(first, expected)
    out = torch.full_like(first, torch.nan)
    assert case.K.rows(index, out) is out
    case.check(out, expected)
    case.K.rows(torch.arange(N))
    first.mul_(2)  # the caller's: neither overwritten nor what a later call returns
    case.check(case.K.rows(index), expected)
    case.check(first, 2 * expected)


@pytest.mark.parametrize("size", [1, 40, N, 2 * N])
@pytest.mark.parametrize("given", [True, False])
def test_blocks(case, size, given):
    out = torch.full((size, case.p), torch.nan, dtype=case.dtype) if given else None
    parts, start = [], 0
    for rows, block in case.K.blocks(size, out):
        assert rows.start == start
        assert 0 < len(block) == rows.stop - rows.start <= size
        if given and start >= case.K.kept_rows:
            assert block.data_ptr() == out.data_ptr()
        parts.append(block.clone() if given else block)
        start = rows.stop
    case.check(torch.cat(parts), case.expected)


def test_dense(case):
    first = case.K.dense()
    case.check(first, case.expected)
    assert case.K.dense(first.mul_(2)) is first
    case.check(first, case.expected)
    first.zero_()
    case.check(case.K.dense(), case.expected)


def test_matmul(case):
    W = case.vectors(case.p, 2)
    expected = case.expected @ W.double()
    first = case.K.matmul(W)
    case.check(first, expected)
    for out in (torch.ones(N, C, dtype=case.dtype), torch.ones(C, N, dtype=case.dtype).mT):
        assert case.K.matmul(W, out) is out
        case.check(out, expected + 1)
    case.K.matmul(case.vectors(case.p, 3))
    case.check(first, expected)


@pytest.mark.parametrize("index", INDEX.values(), ids=INDEX)
def test_transposed_matmul(case, index):
    index = torch.tensor(index, dtype=torch.long)
    W = case.vectors(len(index), 4)
    out = torch.ones(C, case.p, dtype=case.dtype).mT
    for times in (1, 2):
        case.K.add_transposed_matmul(index, W, out)
        case.check(out, times * case.expected[index].T @ W.double() + 1)


def test_what_is_kept_is_computed_once(case, monkeypatch):
    """And together: not before something is asked for, and from then on only the rest."""
    entries = []
    matrix = type(KERNEL.kernel).matrix

    def counted(self, X, Z):
        entries.append(len(X) * len(Z))
        return matrix(self, X, Z)

    monkeypatch.setattr(type(KERNEL.kernel), "matrix", counted)
    rest = (N - case.K.kept_rows) * case.p
    kept = case.K.kept_rows
    symmetric = case.p == N
    W = case.vectors(case.p, 2)
    case.K.matmul(W)
    first = sum(entries)
    entries.clear()
    case.K.matmul(W)
    again = sum(entries)
    if symmetric:  # the tiles on and above the diagonal, of what kept rows do not have
        assert again <= 0.65 * (N - kept) ** 2
        filled = first - again
        assert filled == kept * N if kept < N else filled <= 0.65 * N * N
    else:
        assert (first, again) == (N * case.p, rest)


@pytest.mark.parametrize("shape", [(1, 1, 1), (513, 511, 3), (1030, 37, 1)])
def test_the_pieces_of_a_cpu(shape):
    n, p, c = shape
    X, Z, W = draw(n, 6), draw(p, 6, seed=1), draw(p, c, seed=2)
    kernel = KERNELS["laplacian"](bandwidth=2.0)
    expected = torch.exp(-torch.cdist(X, Z, compute_mode="donot_use_mm_for_euclid_dist") / 2)
    K = BlockedKernel.on(kernel, X.device)(X, Z)
    torch.testing.assert_close(K.dense(), expected)
    torch.testing.assert_close(K.matmul(W), expected @ W)


def test_strided_points_of_one_column():
    X, W = draw(600, 2)[:, ::2], draw(4, 600, seed=1).T
    kernel = KERNELS["matern"]()
    K = BlockedKernel.on(kernel, X.device)(X, X)
    torch.testing.assert_close(K.matmul(W), kernel(X, X) @ W)


@pytest.mark.parametrize("n", [1, 31, 32, 33, 200])
@pytest.mark.parametrize("c", [1, 3, 20])
def test_a_tile_of_a_symmetric_matrix_serves_both_its_places(n, c, monkeypatch):
    X, W, out = draw(n, 6), draw(n, c, seed=1), draw(n, c, seed=2)
    expected, entries, matrix = KERNEL.kernel(X, X), [], type(KERNEL.kernel).matrix

    def counted(self, X, Z):
        entries.append(len(X) * len(Z))
        return matrix(self, X, Z)

    monkeypatch.setattr(type(KERNEL.kernel), "matrix", counted)
    begun = out.clone()
    K = KERNEL(X, X)
    torch.testing.assert_close(K.matmul(W), expected @ W, rtol=1e-12, atol=1e-12)
    assert sum(entries) <= n * (n + SMALL.tile) / 2
    K.matmul(W, out)
    torch.testing.assert_close(out, begun + expected @ W, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("keep", KEPT.values(), ids=KEPT)
def test_precision_of_what_is_stored(keep):
    """Points of float32, K and vectors of float64: its digits are those of the points as they are."""
    X = draw(N, 5).float()
    expected = KERNEL.kernel(X.double(), X.double())
    K = KERNEL(X, X, keep, torch.float64)
    W = draw(N, C, seed=2)
    for got, wanted in (
        (K.rows(torch.arange(60, 20, -1)), expected[range(60, 20, -1)]),
        (K.dense(), expected),
        (K.matmul(W), expected @ W),
    ):
        assert got.dtype == torch.float64
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_dense_and_matmul_follow_what_they_are_given():
    """Without a type of its own a tiled K is stored in that of ``out``, multiplied in that of W."""
    X = draw(N, 5).float()
    expected, K = KERNEL.kernel(X.double(), X.double()), KERNEL(X, X)
    out = torch.empty(N, N, dtype=torch.float64)
    torch.testing.assert_close(K.dense(out), expected, rtol=1e-12, atol=1e-12)
    W = draw(N, C, seed=2)
    torch.testing.assert_close(K.matmul(W), expected @ W, rtol=1e-12, atol=1e-12)
    assert K.dense().dtype == torch.float32


def test_points_of_bytes_stay_exact(monkeypatch):
    monkeypatch.setattr("kernelexp.engine.points.bytes_are_fast", lambda X, device: True)
    levels = torch.randint(0, 256, (N, 9), generator=torch.Generator().manual_seed(0))
    points = Points.of(levels / 255)
    assert points.codes is not None
    expected = KERNEL.kernel(levels.double() / 255, levels.double() / 255)
    for keep in KEPT.values():
        K = KERNEL(points, points, keep)
        index = torch.arange(N - 1, -1, -7)
        got = K.rows(index).double()
        torch.testing.assert_close(got, expected[index], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(K.dense().double(), expected, rtol=1e-6, atol=1e-6)


def test_diagonal():
    X = draw(20, 4)
    kernel = BlockedKernel.on(KERNELS["polynomial"](), X.device)
    expected = kernel(X, X).dense().diagonal()
    torch.testing.assert_close(kernel.diag(X), expected)
    torch.testing.assert_close(kernel.diag(Points.of(X)), expected)
