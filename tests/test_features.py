"""What is kept of the matrix that a machine has learned, against what is known of small ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure as Canvas

from kernelexp import experiment
from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, SOLVERS
from kernelexp.experiment.features import features, subspace_error
from kernelexp.report.figures import features as figure
from kernelexp.report.frames import Data


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


def test_of_a_diagonal_eigenvectors_are_coordinates(data):
    for largest, sine in (([0, 1, 5], 0), ([0, 1, 6], 1)):
        M = torch.full((20,), 0.1, dtype=torch.float64)
        M[largest] = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
        assert subspace_error(data, M)["subspace_error"] == pytest.approx(sine, abs=1e-14)
        assert subspace_error(data, M) == pytest.approx(subspace_error(data, torch.diag(M)))


def test_without_a_matrix_or_directions_there_is_nothing(data):
    assert subspace_error(data, None) == features(data, None) == {}
    assert subspace_error(replace(data, subspace=None), torch.eye(20)) == {}


@pytest.mark.parametrize(("d", "whole"), [(1, True), (256, True), (257, False)])
def test_small_matrices_are_kept_whole(data, d, whole):
    T = torch.randn(d, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    M = T @ T.T
    kept = features(data, T)
    assert kept["diagonal"] == pytest.approx(M.diagonal().tolist())
    if whole:
        assert np.array(kept["matrix"]) == pytest.approx(M.numpy(), rel=1e-5)
        assert len(kept["eigenvalues"]) == min(d, 5)
    else:
        assert kept["matrix"] is None


@pytest.mark.parametrize("diagonal", [False, True])
def test_it_is_the_matrix_of_the_kernel_that_the_run_leaves(data, diagonal):
    """k(M^(1/2) x, M^(1/2) z), whatever the power: not the gradients of its machine, which are the next round's."""
    solver = SOLVERS["rfm"](epochs=2, agop_power=0.5, diagonal=diagonal)
    source, kernel = SOURCES["low_rank"](n_train=60, n_test=10), KERNELS["gaussian"](bandwidth=2.0)
    config = experiment.Config(source, kernel, solver, dtype=torch.float64)
    [before, kept] = [
        experiment.run(replace(config, solver=replace(solver, epochs=n))) for n in (1, 2)
    ]
    assert before.features == {}  # M = 1
    M = before.model.agop(before.setup.dataset.train.X)
    M = torch.diag(M.diagonal()) if diagonal else M
    values, vectors = torch.linalg.eigh(M / M.diagonal().max())
    M = (vectors * values.clamp(min=0).sqrt()) @ vectors.mT
    assert kept.features["diagonal"] == pytest.approx(M.diagonal().tolist())
    if diagonal:
        assert kept.features["matrix"] is None
        assert kept.features["eigenvectors"] == []
    else:
        assert np.array(kept.features["matrix"]) == pytest.approx(M.numpy(), abs=1e-5)
        assert kept.features["eigenvalues"] == pytest.approx(values.sqrt().flip(0)[:5].tolist())


@pytest.mark.parametrize("shape", [None, [2, 10]])
def test_a_diagonal_is_drawn_without_eigenvectors(data, shape):
    kept = {**features(data, torch.arange(20) / 20), "shape": shape}
    found = figure.table(Data(pd.DataFrame({"run": ["a"]}), file=kept))
    canvas = Canvas()
    figure.draw(found, canvas)
    assert len(canvas.axes) == 1
    assert "eigenvector" not in " ".join(figure.facts(found))
