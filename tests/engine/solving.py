"""Problems to be solved, and the dense float64 solutions that solvers are held against."""

import torch

from kernelexp.engine import Problem


def problem(kernel, n=200, d=20, c=3, dtype=torch.float64, device="cpu", **settings):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(n, d, dtype=torch.float64, generator=generator).to(device, dtype)
    labels = torch.randint(0, c, (n,), generator=generator).to(device)
    Y = torch.nn.functional.one_hot(labels, c).to(dtype)
    return Problem(kernel, X, Y, labels, **settings)


def new_points(p, n=50):
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(n, p.X.shape[1], dtype=torch.float64, generator=generator)
    return X.to(p.X.device)


def minimiser(p, Z, ridge=0.0):
    """Alpha that minimises |K(X, Z) alpha - Y|^2 + n ridge tr(alpha^T K(Z, Z) alpha), by orthogonal
    factorisation: no normal equations."""
    X, Y, Z = p.X.double(), p.Y.double(), Z.double()
    L = torch.linalg.cholesky(p.kernel(Z, Z))
    A = torch.cat([p.kernel(X, Z), (len(X) * ridge) ** 0.5 * L.mT])
    B = torch.cat([Y, torch.zeros(len(Z), Y.shape[1], dtype=Y.dtype, device=Y.device)])
    Q, R = torch.linalg.qr(A)
    return torch.linalg.solve_triangular(R, Q.mT @ B, upper=True)


def expected_predictions(p, X_new, Z=None, ridge=0.0):
    Z = p.X if Z is None else Z
    return p.kernel(X_new.double(), Z.double()) @ minimiser(p, Z, ridge)


def ridge_of(solver):
    """The one a case has, also as a grid."""
    return solver.ridges[0] if solver.name == "ridge_path" else getattr(solver, "ridge", 0.0)


def relative(got, expected):
    return ((got.double() - expected).norm() / expected.norm()).item()


def with_step(solver, factor):
    """The same solver with its step off by a factor."""
    changed = {"relaxation": factor * solver.relaxation}
    cls = type(type(solver).__name__, (type(solver),), changed)
    return cls(**vars(solver))
