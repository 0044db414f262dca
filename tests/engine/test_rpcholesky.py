"""Randomly pivoted Cholesky against the algorithm one by one, naive and dense in float64."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hard_data import KINDS, table

from kernelexp.engine import KERNELS, SOLVERS, Limits, ResourceLimits, Sizes, rpcholesky
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points
from kernelexp.engine.rpcholesky import rp_cholesky

LAPLACIAN = KERNELS["laplacian"](bandwidth=2.0)
GAUSSIAN = KERNELS["gaussian"](bandwidth=3.0)


def factor(kernel, X, rank, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return rp_cholesky(BlockedKernel.on(kernel, X.device), Points.of(X), rank, generator)


def law_one_by_one(K, rank, before=(), share=1.0):
    """The probability of each sequence of pivots, from dense residuals: a dict."""
    if rank == 0:
        return {before: share}
    left = K.diagonal() / K.trace()
    law = {}
    for i in left.nonzero()[:, 0].tolist():
        after = K - torch.outer(K[:, i], K[i]) / K[i, i]
        after[i], after[:, i] = 0, 0
        law |= law_one_by_one(after, rank - 1, (*before, i), share * left[i].item())
    return law


@pytest.mark.parametrize("block", [2, rpcholesky.BLOCK])
def test_the_law_is_that_of_one_by_one(block, monkeypatch):
    """Sequences of three pivots of five points, two of them close and one far off in size."""
    monkeypatch.setattr(rpcholesky, "BLOCK", block)
    X = torch.tensor([[0.0, 0.1], [0.0, 0.2], [1.0, 0.0], [-0.5, 0.6], [2.0, 2.0]]).double()
    kernel = KERNELS["polynomial"]()
    expected = law_one_by_one(kernel(X, X), 3)
    assert sum(expected.values()) == pytest.approx(1)
    draws = 1200
    generator = torch.Generator().manual_seed(0)
    blocked, points = BlockedKernel.on(kernel, X.device), Points.of(X)
    found = Counter(
        tuple(rp_cholesky(blocked, points, 3, generator).pivots.tolist()) for _ in range(draws)
    )
    assert set(found) <= set(expected)
    often = {pivots: p for pivots, p in expected.items() if p * draws > 8}
    assert len(often) > 5
    chi = sum((found[key] - p * draws) ** 2 / (p * draws) for key, p in often.items())
    assert chi < len(often) + 4 * (2 * len(often)) ** 0.5  # four standard deviations


@pytest.mark.parametrize("kernel", [LAPLACIAN, GAUSSIAN], ids=lambda k: k.name)
def test_factor_and_diagonal_are_those_of_the_pivots(kernel):
    """Of several blocks, the last of which is cut short."""
    X = torch.randn(700, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, K = factor(kernel, X, 300), kernel(X, X)
    S = found.pivots
    assert len(S) == len(set(S.tolist())) == found.F.shape[1] == 300
    nystrom = K[:, S] @ torch.linalg.solve(K[S][:, S], K[S])
    assert (found.F @ found.F.T - nystrom).abs().max() < 1e-9
    assert (found.left - (K - found.F @ found.F.T).diagonal()).abs().max() < 1e-12
    assert found.F[S].triu(1).abs().max() < 1e-12
    assert torch.equal(S, factor(kernel, X, 300).pivots)
    assert not torch.equal(S, factor(kernel, X, 300, seed=1).pivots)


@pytest.mark.parametrize(
    ("kernel", "rank", "factor_of_best"), [(GAUSSIAN, 20, 1.6), (LAPLACIAN, 60, 2.5)]
)
def test_the_trace_that_is_left_is_near_the_least(kernel, rank, factor_of_best):
    """Within a small factor of the best of its rank, where columns at random are not: one group is small."""
    generator = torch.Generator().manual_seed(2)
    X = 0.1 * torch.randn(600, 3, dtype=torch.float64, generator=generator)
    X[:30] = 10 * torch.randn(30, 3, dtype=torch.float64, generator=generator)
    K = kernel(X, X)
    best = torch.linalg.eigvalsh(K)[:-rank].clamp(min=0).sum()
    left = [factor(kernel, X, rank, seed).left.sum() for seed in range(5)]
    assert all(best * 0.999 < trace < factor_of_best * best for trace in left)
    S = torch.randperm(600, generator=generator)[:rank]
    at_random = (K - K[:, S] @ torch.linalg.lstsq(K[S][:, S], K[S]).solution).trace()
    assert at_random > 1.4 * max(left)


@pytest.mark.parametrize("kernel", ["laplacian", "gaussian", "linear", "relu_ntk"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_no_more_pivots_than_there_is_rank(kernel, kind, dtype):
    """All that there are are asked for; repeated rows, zeros and time stamps."""
    k = KERNELS[kernel](**({"bandwidth": 2.0} if kernel in ("laplacian", "gaussian") else {}))
    X, _ = table(kind, dtype)
    found = factor(k, X, len(X))
    chosen = X[found.pivots]
    assert len(chosen.unique(dim=0)) == len(chosen)
    K = k(X.double(), X.double())
    sizes = K.diagonal().sqrt()
    assert ((K - found.F @ found.F.T).abs() <= 1e-9 * torch.outer(sizes, sizes) + 1e-300).all()
    if kernel == "laplacian":
        assert len(chosen) == len(X.unique(dim=0))
    if kernel == "linear":
        assert len(chosen) <= torch.linalg.matrix_rank(X.double())


def test_one_point_and_nothing_at_all():
    X = torch.tensor([[3.0, 4.0]])
    found = factor(KERNELS["linear"](), X, 5)
    assert found.pivots.tolist() == [0]
    assert found.F.tolist() == [[5.0]]
    assert found.left.tolist() == [0.0]
    assert factor(KERNELS["linear"](), 0 * X, 5).F.shape == (1, 0)
    assert factor(LAPLACIAN, X, 0).F.shape == (1, 0)


@pytest.mark.parametrize("solver", ["exact", "falkon", "eigenpro3", "ridge_path"])
def test_a_plan_has_the_factor(solver):
    """Beside what is held anyway, of n points and many times fewer centers: n p numbers in float64."""
    sizes = Sizes(n=100_000, d=5, c=1, distinct=100_000, itemsize=4)
    limits = Limits(ResourceLimits(), held=0, allowed=int(1e11), busy_block=256)
    made = SOLVERS[solver](n_centers=1000, centers="rpcholesky")
    plan = made.plan(sizes, limits, torch.device("cpu"))
    assert plan.gigabytes["setup"] >= 8 * 100_000 * 1000 / 1e9
    allowed = int(1e9 * plan.gigabytes["model"] + 8e8)
    with pytest.raises(ValueError, match=r"must be at least .*fewer .*centers"):
        made.plan(sizes, replace(limits, allowed=allowed), torch.device("cpu"))
