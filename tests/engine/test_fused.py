"""The Triton kernel against float64: on a GPU where there is one, else in Triton's interpreter."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from interpreted import fused

from kernelexp.engine import KERNELS
from kernelexp.engine.kernels.radial import Radial
from kernelexp.engine.points import Points

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    if not CUDA:
        monkeypatch.setenv("TRITON_INTERPRET", "1")


CASES = [
    ("gaussian", {"bandwidth": 1.7}),
    ("laplacian", {"bandwidth": 1.7}),
    ("exponential_power", {"bandwidth": 1.7, "gamma": 0.6}),
    ("cauchy", {"bandwidth": 1.7}),
    ("rational_quadratic", {"bandwidth": 1.7, "alpha": 0.4}),
    *(("matern", {"bandwidth": 1.7, "nu": nu}) for nu in (0.5, 1.5, 2.5)),
    *(("polynomial", {"degree": degree, "gamma": 0.3}) for degree in (1, 4)),
    ("polynomial", {}),
    *(("arc_cosine", {"order": order}) for order in (0, 1, 2)),
    *((name, {"depth": 1}) for name in ("relu_nngp", "relu_ntk")),
    *((name, {"depth": 3, "bias": 0.4}) for name in ("relu_nngp", "relu_ntk")),
]
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, for log2(0) and 1 / 0


def points(n, d, m, seed=0):
    """Two sets with pairs that coincide, pairs that nearly do, and zeros."""
    draw = np.random.default_rng(seed)
    X, Z = draw.normal(size=(n, d)), draw.normal(size=(m, d))
    for i in range(0, min(n, m), 5):
        Z[i] = X[i]
        if i + 2 < min(n, m):
            Z[i + 1] = X[i + 1] + 1e-4 * draw.normal(size=d)
            X[i + 2] = Z[i + 2] = 0
    return torch.tensor(X, dtype=torch.float32), torch.tensor(Z, dtype=torch.float32)


def error(kernel, got, X, Z):
    expected = kernel(X.double(), Z.double())
    return ((got.cpu().double() - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(("name", "parameters"), CASES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (37, 5, 71), (17, 301, 13)])
def test_values(name, parameters, shape):
    kernel = KERNELS[name](**parameters)
    X, Z = points(*shape)
    got = fused.matrix(kernel, Points.of(X.to(DEVICE)), Points.of(Z.to(DEVICE)))
    assert error(kernel, got, X, Z) < 2e-6


@pytest.mark.parametrize("name", ["arc_cosine", "relu_nngp", "relu_ntk"])
def test_opposite_points(name):
    """Where the cosine is -1 its rounding moves the angle by the root of eps, 3e-4, in any float32 code."""
    X, _ = points(20, 6, 20)
    got = fused.matrix(KERNELS[name](), Points.of(X.to(DEVICE)), Points.of(-X.to(DEVICE)))
    assert error(KERNELS[name](), got, X, -X) < 3e-4


@pytest.mark.parametrize("offset", [1e2, 1e3, 1e4])
@pytest.mark.parametrize("name", [name for name, k in KERNELS.items() if issubclass(k, Radial)])
def test_far_from_the_origin(name, offset):
    X, Z = points(40, 20, 60)
    X[:3], Z[:3] = X[3:6], X[3:6]  # pairs that coincide, also where the zeros were
    X, Z = X + offset, Z + offset
    kernel = KERNELS[name](bandwidth=5.0)
    got = fused.matrix(kernel, Points.of(X.to(DEVICE)), Points.of(Z.to(DEVICE)))
    assert error(kernel, got, X, Z) < 2e-6
    assert got.diagonal()[:3].eq(1).all()


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e3, 1e6, 1e9])
def test_rational_quadratic_of_any_alpha(alpha):
    kernel = KERNELS["rational_quadratic"](bandwidth=3.0, alpha=alpha)
    X, Z = points(40, 5, 60)
    got = fused.matrix(kernel, Points.of(X.to(DEVICE)), Points.of(Z.to(DEVICE)))
    assert error(kernel, got, X, Z) < 2e-6


def test_which_kernels_have_a_profile():
    X = Points.of(torch.ones(2, 3))
    served = {name for name, kernel in KERNELS.items() if fused.serves(kernel(), X)}
    assert served == set(KERNELS) - {"linear", "laplacian_l1", "sum", "product"}
    assert not fused.serves(KERNELS["gaussian"](), X.to(torch.float64, X.device))


@pytest.mark.parametrize(("precision", "bound"), [("ieee", 1e-6), ("bf16x3", 3e-4), ("bf16", 2e-2)])
def test_close_pairs_at_every_precision(precision, bound):
    """What coincides is exactly 1; the rest is off by the root of what the products are."""
    kernel = KERNELS["laplacian"](bandwidth=5.0)
    X, Z = points(60, 40, 60)
    got = fused.matrix(
        kernel, Points.of(X.to(DEVICE), precision), Points.of(Z.to(DEVICE), precision)
    )
    assert got.diagonal()[::5].eq(1).all()
    assert error(kernel, got, X, Z) < bound


def test_writes_its_tile_and_nothing_else():
    X, Z = points(19, 8, 67)
    buffer = torch.full((100 + 19 * 67 + 100,), torch.nan, device=DEVICE)
    G = buffer[100:-100].view(19, 67)
    torch.mm(X.to(DEVICE), Z.to(DEVICE).T, out=G)
    kernel = KERNELS["relu_ntk"]()
    fused.finish_(kernel, G, Points.of(X.to(DEVICE)), Points.of(Z.to(DEVICE)))
    assert error(kernel, G, X, Z) < 2e-6
    assert buffer[:100].isnan().all()
    assert buffer[-100:].isnan().all()


def test_points_that_are_not_contiguous():
    X, Z = points(21, 12, 30)
    kernel = KERNELS["matern"]()
    columns = fused.matrix(
        kernel, Points.of(X.to(DEVICE)[:, ::2]), Points.of(Z.T.contiguous().to(DEVICE).T[:, ::2])
    )
    assert error(kernel, columns, X[:, ::2], Z[:, ::2]) < 2e-6


def test_compiles_for_gpus_that_are_not_here(monkeypatch):
    """Each profile, to machine code; the interpreter accepts what Triton does not."""
    script = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from kernelexp.engine import fused

types = dict.fromkeys(fused._finish.arg_names, "i32")
types |= dict.fromkeys(["G", "X", "Z", "x_norms", "z_norms"], "*fp32")
types |= dict.fromkeys(["a", "b", "close"], "fp32")
types |= dict.fromkeys(["profile", "order", "geometry"], "constexpr")
orders = {"matern": (0, 1, 2), "arc_cosine": (0, 1, 2), "polynomial": (1, 3), "relu_nngp": (1, 3),
          "relu_ntk": (1, 3)}
for name, profile in fused._PROFILES.items():
    for order in orders.get(name, (0,)):
        constants = {"profile": profile.function, "order": order, "geometry": profile.geometry}
        source = ASTSource(fn=fused._finish, signature=types, constexprs=constants)
        for generation in (80, 90):
            made = triton.compile(source, target=GPUTarget("cuda", generation, 32))
            print(name, len(made.asm["cubin"]))
"""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == set(fused._PROFILES)


@pytest.mark.parametrize("name", ["relu_nngp", "relu_ntk"])
def test_a_small_bias_of_opposite_points(name):
    """Where the gap is 2 up to rounding, no root is taken of what is beyond."""
    X = torch.tensor([[1000.0], [333.3], [-777.7]])
    kernel = KERNELS[name](bias=0.1)
    got = fused.matrix(kernel, Points.of(X.to(DEVICE)), Points.of(-X.to(DEVICE)))
    assert error(kernel, got, X, -X) < 3e-4
