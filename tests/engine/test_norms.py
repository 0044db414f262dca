"""RKHS norms: dense where it is cheap, else an estimate over all rows; never 0 for unknown."""

import math

import pytest
import torch

from kernelexp.engine import KERNELS, KernelModel
from kernelexp.engine.norms import DENSE_CENTERS

KERNEL = KERNELS["laplacian"](bandwidth=3.0)


def model(p, seed, c=1):
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(p, 5, generator=generator)
    X[p // 2 :] += 90  # what is wrong with the rows need not show in the first of them
    return KernelModel(KERNEL, X, torch.randn(p, c, generator=generator))


def dense(made):
    Z, alpha = made.centers.double(), made.weights.double()
    return (alpha * (made.kernel(Z, Z) @ alpha)).sum().sqrt().item()


@pytest.mark.parametrize("seed", range(5))
def test_up_to_2048_centers_the_error_is_a_bound(seed):
    made = model(511, seed)
    norm = made.rkhs_norm(torch.zeros(511, 1))  # whatever was carried along
    assert norm.how == "dense"
    assert 0 <= abs(norm.value / dense(made) - 1) <= norm.relative_error < 1e-9


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("wrong", ["last rows", "first rows", "every tenth"])
def test_beyond_it_is_an_estimate_that_sees_all_rows(seed, wrong):
    p = DENSE_CENTERS + 100
    made = model(p, seed)
    outputs = KernelModel(KERNEL, made.centers.double(), made.weights.double()).predict(
        made.centers
    )
    rows = {
        "last rows": slice(p // 2, None),
        "first rows": slice(0, p // 2),
        "every tenth": slice(3, None, 10),
    }
    outputs[rows[wrong]] += 0.01 * made.weights[rows[wrong]].sign()
    norm = made.rkhs_norm(outputs)
    assert norm.how == "by-product"
    true = abs(norm.value / dense(made) - 1)
    assert 0 < true <= norm.relative_error < 1000 * true
    assert norm == made.rkhs_norm(outputs)  # the same rows each time


def test_a_norm_that_is_not_known_has_an_infinite_error():
    p = DENSE_CENTERS + 1
    made = model(p, 0)
    assert made.rkhs_norm(-made.weights).relative_error == math.inf
    nothing = KernelModel(KERNEL, made.centers, torch.zeros(p, 1))
    assert nothing.rkhs_norm(torch.zeros(p, 1)).relative_error == 0
