"""What needs a GPU: the engine on it against the CPU. Elsewhere test_stand_in.py has to do."""

import pytest
import torch
from test_fused import error, points

from kernelexp.engine import KERNELS, SOLVERS, Problem, fit
from kernelexp.engine.operator import BlockedKernel

if not torch.cuda.is_available():
    pytest.skip("PyTorch finds no CUDA device", allow_module_level=True)


@pytest.mark.parametrize("name", KERNELS)
def test_products_on_a_gpu(name):
    X, Z = points(1000, 30, 9000)
    kernel = KERNELS[name]()
    W = torch.randn(9000, 3, dtype=torch.float64)
    exact = kernel(X.double(), Z.double())
    K = BlockedKernel.on(kernel, torch.device("cuda"))(X.to("cuda"), Z.to("cuda"))
    assert error(kernel, K.dense().cpu(), X, Z) < 2e-6
    got = K.matmul(W.float().to("cuda")).cpu()
    torch.testing.assert_close(got.double(), exact @ W, rtol=1e-4, atol=1e-4 * exact.norm().item())


@pytest.mark.parametrize("n", [900, 20_000])  # where the centers are all points, and a part of them
@pytest.mark.parametrize("solver", ["eigenpro2", "eigenpro4", "cg", "falkon", "exact"])
def test_points_that_stay_on_the_host(solver, n):
    draw = torch.Generator().manual_seed(0)
    X = torch.randn(n, 20, generator=draw)
    Y = torch.sin(X[:, :1] + X[:, 1:2]).to("cuda")
    kernel = KERNELS["laplacian"](bandwidth=5.0)
    made = SOLVERS[solver](epochs=2)
    there = fit(made, Problem(kernel, X.to("cuda"), Y))
    here = fit(made, Problem(kernel, X, Y))
    torch.testing.assert_close(
        here.predict(X[:500]), there.predict(X[:500].to("cuda")), rtol=1e-3, atol=1e-3
    )
    assert here.rkhs_norm().value == pytest.approx(there.rkhs_norm().value, rel=1e-2)
