"""What is kept of the matrix that a machine has learned, against what is known of small ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kernelexp.data import SOURCES, load
from kernelexp.experiment.features import features, subspace_error


@pytest.fixture(scope="module")
def data():
    return load(SOURCES["low_rank"](n_train=10, n_test=10), Path())


def turned(angle):
    """A rotation of R^20 in the plane of coordinates 5 and 6, in float64."""
    Q = torch.eye(20, dtype=torch.float64)
    c, s = np.cos(angle), np.sin(angle)
    Q[5:7, 5:7] = torch.tensor([[c, -s], [s, c]])
    return Q


@pytest.mark.parametrize("angle", [0, 1e-9, 1e-3, 0.3, np.pi / 2])
def test_the_sine_of_an_angle_that_is_known(data, angle):
    weights = torch.full((20,), 0.1, dtype=torch.float64)
    weights[[0, 1, 5]] = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    M = turned(angle) @ torch.diag(weights) @ turned(angle).T
    found = subspace_error(data, M)["subspace_error"]
    assert found == pytest.approx(np.sin(angle), rel=1e-5, abs=1e-14)


def test_without_a_matrix_or_directions_there_is_nothing(data):
    assert subspace_error(data, None) == features(data, None) == {}
    assert subspace_error(replace(data, subspace=None), torch.eye(20)) == {}


@pytest.mark.parametrize(("d", "whole"), [(1, True), (256, True), (257, False)])
def test_small_matrices_are_kept_whole(data, d, whole):
    M = torch.randn(d, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    M = M @ M.T
    kept = features(data, M)
    assert kept["diagonal"] == M.diagonal().tolist()
    if whole:
        assert np.array(kept["matrix"]) == pytest.approx(M.numpy(), rel=1e-5)
        assert len(kept["eigenvalues"]) == min(d, 5)
    else:
        assert kept["matrix"] is None
