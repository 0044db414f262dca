"""Gradients in closed form, against PyTorch's own of the kernels' definitions, in float64."""

import pytest
import torch

from kernelexp.engine import KERNELS, FunctionKernel, KernelModel, gradients
from kernelexp.engine.points import Points

WIDE = {"bandwidth": 1.3}
CASES = {
    **{name: WIDE if hasattr(KERNELS[name], "profile") else {} for name in KERNELS if name != "laplacian_l1"},
    "rational_quadratic-0.4": {"bandwidth": 1.3, "alpha": 0.4},
    "exponential_power-1.5": {"bandwidth": 1.3, "gamma": 1.5},
    **{f"matern-{nu}": {"bandwidth": 1.3, "nu": nu} for nu in (0.5, 1.5, 2.5)},
    **{f"arc_cosine-{order}": {"order": order} for order in (0, 1, 2)},
    **{f"{name}-{depth}-{bias}": {"depth": depth, "bias": bias}
       for name in ("relu_nngp", "relu_ntk") for depth in (1, 3) for bias in (0.0, 0.4)},
    "sum-3": {"terms": [{"name": "gaussian", "bandwidth": 1.3}, "relu_ntk", "polynomial"], "weights": [2, 1, 0.5]},
    "product-3": {"terms": [{"name": "laplacian", "bandwidth": 1.3}, "arc_cosine", {"name": "sum", "terms": ["cauchy", "linear"]}]},
}  # fmt: skip


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_differences(f, x, h=1e-5):
    steps = h * torch.eye(len(x), dtype=torch.float64)
    return torch.stack([(f(x + e) - f(x - e)) / (2 * h) for e in steps])


@pytest.mark.parametrize("case", CASES)
def test_of_a_kernel(case):
    kernel = KERNELS[case.split("-")[0]](**CASES[case])
    X, Z = draw(6, 4), draw(5, 4, seed=1)
    a, b = kernel.gradient_factors(Points.of(X), Points.of(Z))
    found = a[..., None] * Z + b[..., None] * X[:, None]
    for i, x in enumerate(X):
        expected = by_differences(lambda y: kernel(y[None], Z)[0], x).T
        assert found[i].numpy() == pytest.approx(expected.numpy(), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(
    "name", ["gaussian", "laplacian", "matern", "relu_ntk", "arc_cosine", "exponential_power"]
)
def test_at_the_centers_themselves(name):
    """Where points coincide there is no angle and no distance: gradients are finite, and those of a smooth kernel right."""
    kernel, X = KERNELS[name](), draw(7, 3)
    model = KernelModel(kernel, X, draw(7, 2, seed=2))
    [(_, G)] = gradients.gradients(model.kernel, X, model.weights, X)
    assert G.isfinite().all()
    if name in ("gaussian", "matern"):
        expected = torch.stack([by_differences(lambda y: model.predict(y[None])[0], x) for x in X])
        assert G.permute(1, 2, 0).numpy() == pytest.approx(expected.numpy(), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.startswith(("arc", "relu", "sum-", "product-"))]
)
def test_of_rows_of_zeros(case, dtype):
    """Which have no angle: their gradient is 0, with a bias the kernel's, and no other row's changes."""
    kernel = KERNELS[case.split("-")[0]](**CASES[case])
    X, Z = draw(6, 4), draw(5, 4, seed=1)
    X[2], Z[3] = 0, 0
    a, b = kernel.gradient_factors(Points.of(X.to(dtype)), Points.of(Z.to(dtype)))
    assert a.isfinite().all()
    assert b.isfinite().all()
    found = a[..., None] * Z + b[..., None] * X[:, None]
    tolerance = 1e-4 if dtype == torch.float32 else 1e-6
    for i, x in enumerate(X):
        if i == 2 and not case.endswith("-0.4"):
            assert case.startswith(("sum", "product")) or not found[i].any()
            continue
        expected = by_differences(lambda y: kernel(y[None], Z)[0], x).T
        assert found[i].numpy() == pytest.approx(expected.numpy(), rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("diagonal", [None, False, True])
def test_the_average_outer_product(dtype, diagonal, monkeypatch):
    monkeypatch.setattr(gradients, "_NUMBERS", 100)  # several parts
    X, Z, alpha = draw(40, 3), draw(25, 3, seed=1), draw(25, 2, seed=2)
    T = None if diagonal is None else draw(3, seed=3) if diagonal else draw(3, 3, seed=3)
    kernel = KERNELS["gaussian"](bandwidth=1.5)
    model = KernelModel(kernel, Z, alpha, T)

    def f(y):
        return model.predict(y[None])[0]

    G = torch.stack([by_differences(f, x) for x in X])  # (n, d, c)
    expected = torch.einsum("idc,iec->de", G, G) / 40
    own = KernelModel(kernel, Z.to(dtype), alpha.to(dtype), None if T is None else T.to(dtype))
    tolerance = 1e-4 if dtype == torch.float32 else 1e-7
    assert own.agop(X.to(dtype)).numpy() == pytest.approx(
        expected.numpy(), rel=tolerance, abs=tolerance
    )
    less = G - G.mean(0)
    centred = torch.einsum("idc,iec->de", less, less) / 40
    assert own.agop(X.to(dtype), centred=True).numpy() == pytest.approx(
        centred.numpy(), rel=tolerance, abs=tolerance
    )
    if diagonal is not False:  # of which it can be had alone
        for less, whole in ((False, expected), (True, centred)):
            found = gradients.agop(
                kernel, own.centers, own.weights, X.to(dtype), own.transform, less, True
            )
            assert found.numpy() == pytest.approx(
                whole.diagonal().numpy(), rel=tolerance, abs=tolerance
            )


RADIAL = [{"name": "gaussian", "bandwidth": 1.3}, {"name": "cauchy", "bandwidth": 2.0}]
FAR = {
    **{name: CASES[name] for name in ("gaussian", "laplacian", "matern")},
    "polynomial": {"degree": 2},  # whose terms do not cancel
    "sum": {"terms": RADIAL},
    "product": {"terms": RADIAL},
}


@pytest.mark.parametrize("name", FAR)
@pytest.mark.parametrize("offset", [0, 1e3, 1e5])
def test_far_from_the_origin(name, offset):
    """As exact as the kernel: a z and b x, which cancel there, are not added up apart."""
    kernel, alpha = KERNELS[name](**FAR[name]), draw(25, 2, seed=2).float()
    X, Z = (draw(40, 3) + offset).float(), (draw(25, 3, seed=1) + offset).float()
    x, z = X.double(), Z.double()
    a, b = kernel.gradient_factors(Points(x), Points(z))  # (40, 25)
    G = torch.einsum("jc,ijd->cid", alpha.double(), a[..., None] * z + b[..., None] * x[:, None])
    expected = torch.einsum("cid,cie->de", G, G) / 40
    found = KernelModel(kernel, Z, alpha).agop(X)
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_a_model_with_a_transform_is_kept(tmp_path):
    model = KernelModel(KERNELS["gaussian"](), draw(5, 2), draw(5, 1, seed=1), draw(3, 2, seed=2))
    model.save(tmp_path / "model.pt")
    X = draw(4, 3, seed=3)
    assert (KernelModel.load(tmp_path / "model.pt").predict(X) == model.predict(X)).all()
    plain = KernelModel(model.kernel, model.centers, model.weights)
    assert (plain.predict(X @ model.transform) == model.predict(X)).all()
    with pytest.raises(ValueError, match=r"must be \(n, 3\), as in training"):
        model.predict(draw(4, 2))


def test_a_kernel_without_a_closed_form_says_so():
    model = KernelModel(FunctionKernel(lambda X, Z: X @ Z.T, 1.0), draw(5, 2), draw(5, 1))
    with pytest.raises(NotImplementedError, match="FunctionKernel has no gradient in closed form"):
        model.agop(draw(3, 2))


@pytest.mark.parametrize("d", [20, 784])
def test_a_point_and_its_center_are_transformed_by_products_of_different_sizes(d):
    """Whose last bits differ; a kernel with a corner has a gradient beside it, and none there."""
    X, T = draw(300, d), torch.linalg.qr(draw(d, d, seed=1)).Q
    Z, alpha = gradients.transformed(X, T), draw(300, 1, seed=2)
    model = KernelModel(KERNELS["laplacian"](bandwidth=d**0.5), Z, alpha, T)
    for rows in (slice(0, 1), slice(3, 20)):
        expected = T @ gradients.agop(model.kernel, Z, alpha, Z[rows]) @ T.mT
        assert (model.agop(X[rows]) - expected).norm() < 1e-9 * expected.norm()
        moved = Z[rows] * (1 + 1e-15)  # as another product might round
        found = gradients.agop(model.kernel, Z, alpha, moved @ T.mT, T)
        assert (found - expected).norm() < 1e-6 * expected.norm()
