"""Which subsample and batch take the least time: pure functions of sizes."""

import pytest
import torch

from kernelexp.engine import SOLVERS, ResourceLimits
from kernelexp.engine.batch import eighth_of_adapted, least_time_of_adapted
from kernelexp.engine.plan import Limits, Sizes
from kernelexp.engine.solvers.subsample import least_time_subsample

GB = 10**9


def sizes(n, d=784):
    return Sizes(n, d, 10, n, 4)


def test_more_points_and_epochs_want_a_larger_subsample():
    chosen = [least_time_subsample(sizes(n), 5) for n in (900, 2000, 20_000, 100_000, 1_000_000)]
    assert chosen == [900, 2000, 2000, 8000, 12_000]
    by_epochs = [least_time_subsample(sizes(60_000), epochs) for epochs in (1, 5, 20, 1000)]
    assert by_epochs == sorted(by_epochs)
    assert by_epochs[0] < by_epochs[-1]


@pytest.mark.parametrize("gigabytes", [4, 400])
def test_it_does_not_hang_on_the_memory_that_is_free(gigabytes):
    """Or a run's digits would; where a plan does not fit is another matter."""
    limits = Limits(ResourceLimits(), GB, gigabytes * GB, 2048)

    plan = SOLVERS["eigenpro2"](epochs=5).plan(sizes(60_000), limits, torch.device("cpu"))
    assert plan.subsample_size == 2000
    asked = SOLVERS["eigenpro2"](epochs=5, subsample_size=1234)
    assert asked.plan(sizes(60_000), limits, torch.device("cpu")).subsample_size == 1234


def test_batches_are_smaller_where_calls_cost_little():
    """And never larger than an eighth of m*."""
    shares = [1600 // least_time_of_adapted(3.0, 1600.0, n, n) for n in (2000, 20_000, 200_000)]
    assert shares == [8, 16, 32]
    for m_star in (1.0, 7.5, 300.0):
        batch = least_time_of_adapted(3.0, m_star, 50_000, 20)
        assert 1 <= batch <= eighth_of_adapted(3.0, m_star, 50_000, 20)
