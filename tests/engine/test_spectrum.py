"""Spectrum, m*, q and the preconditioner against dense linear algebra in float64."""

import pytest
import torch

from kernelexp.engine.batch import (
    adapted_betas,
    batch_curvature,
    choose_q,
    critical_batch_size,
    default_batch_size,
    step_size,
)
from kernelexp.engine.kernels import KERNELS
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.preconditioner import Preconditioner
from kernelexp.engine.spectrum import nystrom_spectrum


def data(n=300, d=6, seed=0):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def blocked(kernel):
    return BlockedKernel.on(kernel, torch.device("cpu"))


def spectrum_of(kernel, X, size, rank):
    generator = torch.Generator().manual_seed(1)
    return nystrom_spectrum(blocked(kernel), X, size, generator, rank)


@pytest.fixture
def kernel():
    return KERNELS["laplacian"](bandwidth=2.0)


def test_eigensystem(kernel):
    X = data()
    spectrum = spectrum_of(kernel, X, 120, 30)
    K = kernel(X[spectrum.rows], X[spectrum.rows]) / 120
    expected = torch.linalg.eigvalsh(K).flip(0)[:30]
    torch.testing.assert_close(spectrum.values, expected)
    torch.testing.assert_close(K @ spectrum.vectors, spectrum.vectors * spectrum.values)
    torch.testing.assert_close(
        spectrum.vectors.T @ spectrum.vectors, torch.eye(30, dtype=torch.float64)
    )
    assert spectrum.residual < 1e-12
    assert len(set(spectrum.rows.tolist())) == 120


def test_float32_residual_is_stated(kernel):
    assert 1e-9 < spectrum_of(kernel, data().float(), 120, 30).residual < 1e-5


def test_adapted_kernel_is_the_one_of_the_paper(kernel):
    """With the whole data as subsample k_G must flatten exactly the first q eigenvalues."""
    X, q = data(150), 12
    spectrum = spectrum_of(kernel, X, 150, 20)
    P = Preconditioner.from_spectrum(blocked(kernel), X, spectrum, q)
    K = kernel(X, X)
    K_G = K - (P.features * P.scales) @ P.features.T
    values = torch.linalg.eigvalsh(K / 150).flip(0)
    expected = values.clone()
    expected[:q] = values[q]
    torch.testing.assert_close(torch.linalg.eigvalsh(K_G / 150).flip(0), expected)
    assert P.beta == pytest.approx(K_G.diagonal().max().item())
    assert P.beta == pytest.approx(adapted_betas(spectrum)[q].item())
    assert P.top_eigenvalue == pytest.approx(values[q].item())
    assert adapted_betas(spectrum)[0] == pytest.approx(1.0)


def test_same_solution_for_the_adapted_kernel(kernel):
    """Interpolation in span{k(., x_i)} preconditioned or not: K_G alpha' = y has P K alpha = y."""
    X = data(60)
    spectrum = spectrum_of(kernel, X, 60, 20)
    P = Preconditioner.from_spectrum(blocked(kernel), X, spectrum, 10)
    y = data(60, 1, seed=5)
    K = kernel(X, X)
    K_G = K - (P.features * P.scales) @ P.features.T
    beta = torch.linalg.solve(K_G, y)  # f = sum beta_j k_G(., x_j) interpolates y
    correction = P.vectors @ (P.scales[:, None] * (P.features.T @ beta))
    alpha = beta.clone()
    alpha[P.rows] -= correction  # the same f in terms of k
    torch.testing.assert_close(alpha, torch.linalg.solve(K, y))


def test_q_keeps_m_star_within_the_resource(kernel):
    spectrum = spectrum_of(kernel, data(), 300, 100)
    m_star = adapted_betas(spectrum) / spectrum.values
    for m_max in (1, 5, 20, 60):
        q = choose_q(spectrum, m_max)
        assert q == 0 or m_star[q] <= m_max
        assert m_star[q + 1] > m_max
    assert choose_q(spectrum, 20) < choose_q(spectrum, 60)


def test_q_stops_at_the_rank_of_the_kernel():
    """x.z in six dimensions has six eigenvalues: the rest is rounding and must not be used."""
    for X in (data(), data().float()):
        assert choose_q(spectrum_of(KERNELS["linear"](), X, 200, 100), 10**9) <= 5


def test_critical_batch_and_step():
    assert critical_batch_size(1.0, 0.25) == 4.0
    assert batch_curvature(1, 2.0, 0.1) == 2.0
    assert batch_curvature(10**9, 2.0, 0.1) == pytest.approx(0.1)
    assert step_size(1, 2.0, 0.1) == pytest.approx(0.5)
    assert step_size(5, 2.0, 0.1, 1.5, 2.0) == pytest.approx(0.75 * step_size(5, 2.0, 0.1))
    assert default_batch_size(800.0, 5000, 5000) == 100
    assert default_batch_size(800.0, 50, 5000) == 50
    assert default_batch_size(2.0, 50, 5000) == 1


def test_curvature_inflation_is_measured():
    """Eigenvectors of 30 points are not those of 2,000: the batch is steeper than they say."""
    X = data(2000, 20)
    kernel = KERNELS["laplacian"](bandwidth=5.0)
    P = Preconditioner.from_spectrum(blocked(kernel), X, spectrum_of(kernel, X, 30, 29), 25)
    generator = torch.Generator().manual_seed(0)
    inflation = P.curvature_inflation(blocked(kernel), X, 1500, generator)
    rows = torch.randperm(2000, generator=torch.Generator().manual_seed(9))[:1500]
    K_G = kernel(X[rows], X[rows]) - (P.features[rows] * P.scales) @ P.features[rows].T
    top = torch.linalg.eigvalsh(K_G)[-1].item() / 1500
    expected = top / batch_curvature(1500, P.beta, P.top_eigenvalue)
    assert expected > 1.2
    assert inflation == pytest.approx(expected, rel=0.1)
