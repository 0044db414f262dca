"""The algorithms as papers and published code have them, in plain PyTorch: what we are measured by.

Whole kernel blocks by the eager chain, a dense eigensolver, nothing kept, inexact projections. The
numbers are those of the published code: s = 2,000, exponent 0.95 for the Nystrom error, batch m*.
"""

import torch


def laplacian(X, Z, bandwidth=10.0):
    """exp(-|x - z| / s): (n, d), (m, d) -> (n, m)."""
    r2 = X.square().sum(1, keepdim=True) + Z.square().sum(1) - 2 * X @ Z.T
    return torch.exp(-r2.clamp(min=0).sqrt() / bandwidth)


class Preconditioner:
    """Top q of a Nystrom subsample, flattened to the (q + 1)-th (Ma, Belkin 2019)."""

    def __init__(self, kernel, X, size, q, generator):
        self.kernel = kernel
        self.rows = torch.randperm(len(X), generator=generator)[:size]
        self.points = X[self.rows]
        values, vectors = torch.linalg.eigh(kernel(self.points, self.points) / size)
        values, self.vectors = values.flip(0)[: q + 1], vectors.flip(1)[:, :q]
        kept = (values[q] / values[:q]) ** 0.95
        self.scales = (1 - kept) / (values[:q] * size)
        removed = (self.vectors.square() * (values[:q] * (1 - kept))).sum(1) * size
        self.beta = (1 - removed).max().item()
        self.top = values[q].item()
        self.batch_size = min(len(X), max(1, int(self.beta / self.top)))

    def coefficients(self, K, g):
        """V D V^T K(X_s, X_b) g: K (m, s), g (m, c) -> (s, c)."""
        return self.vectors @ (self.scales[:, None] * (self.vectors.T @ (K.T @ g)))

    def step(self, m):
        """Of one sample: 1 / beta below m*, 2 / (beta + (m - 1) lambda) from there on."""
        if m < self.beta / self.top + 1:
            return 1 / self.beta
        return 2 / (self.beta + (m - 1) * self.top)


def eigenpro2(kernel, X, Y, epochs, generator, preconditioner=None, size=2000, q=150):
    """Interpolate Y on X; a generator of alpha after each epoch."""
    P = preconditioner or Preconditioner(kernel, X, min(size, len(X)), q, generator)
    alpha = torch.zeros_like(Y)
    for _ in range(epochs):
        for batch in torch.randperm(len(X), generator=generator).split(P.batch_size):
            K = kernel(X[batch], X)
            g = K @ alpha - Y[batch]
            step = P.step(len(batch))
            alpha[batch] -= step * g
            alpha[P.rows] += step * P.coefficients(K[:, P.rows], g)
        yield alpha


def eigenpro4(kernel, X, Y, Z, epochs, generator, size=2000, q=150):
    """Least squares over span k(., Z): delayed projections, each one epoch of ``eigenpro2``."""
    P = Preconditioner(kernel, X, size, q, generator)
    inner = Preconditioner(kernel, Z, min(size, len(Z)), q, generator)
    alpha = Y.new_zeros(len(Z), Y.shape[1])
    interval = max(1, len(Z) // P.batch_size)
    step = P.step(P.batch_size) / 2
    for _ in range(epochs):
        batches = torch.randperm(len(X), generator=generator).split(P.batch_size)
        for first in range(0, len(batches), interval):
            temporary, weights = [], []
            landmarks = Y.new_zeros(len(P.points), Y.shape[1])
            h = torch.zeros_like(alpha)
            for batch in batches[first : first + interval]:
                K_Z, K_s = kernel(X[batch], Z), kernel(X[batch], P.points)
                g = K_Z @ alpha + K_s @ landmarks - Y[batch]
                if temporary:
                    g += kernel(X[batch], torch.cat(temporary)) @ torch.cat(weights)
                coefficients = P.coefficients(K_s, g)
                temporary.append(X[batch])
                weights.append(-step * g)
                landmarks += step * coefficients
                h += K_Z.T @ g - kernel(Z, P.points) @ coefficients
            *_, theta = eigenpro2(kernel, Z, h, 1, generator, inner)
            alpha -= step * theta
        yield alpha
