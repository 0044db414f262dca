"""Every kernel against an independent float64 reference, and what must hold of all of them."""

import importlib
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.spatial.distance import cdist
from sklearn.gaussian_process.kernels import Matern, RationalQuadratic
from sklearn.metrics.pairwise import (
    laplacian_kernel,
    linear_kernel,
    polynomial_kernel,
    rbf_kernel,
)

from kernelexp.engine import KernelModel
from kernelexp.engine.kernels import KERNELS, composite, geometry
from kernelexp.engine.kernels.geometry import squared_distances
from kernelexp.engine.kernels.radial import Radial
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points
from kernelexp.engine.registry import discover


def half_plane_moment(theta, power):
    """A Gaussian expectation over the plane as a written-out integral, w = r (cos phi, sin phi).

    2 E[H(w.a) H(w.b) (w.a)^p (w.b)^p] for unit a, b at angle theta: the radial integral is 2^p p!,
    the angular one runs over the directions on the positive side of both.
    """
    angular, _ = quad(
        lambda phi: (math.cos(phi) * math.cos(phi - theta)) ** power,
        theta - math.pi / 2,
        math.pi / 2,
        epsabs=1e-13,
    )
    return 2**power * math.factorial(power) * angular / math.pi


def angle(x, z, extra=0.0):
    c = (x @ z + extra) / math.sqrt((x @ x + extra) * (z @ z + extra))
    return math.acos(min(1.0, max(-1.0, c)))


def arc_cosine(order):
    def k(x, z):
        scale = (np.linalg.norm(x) * np.linalg.norm(z)) ** order
        return scale * half_plane_moment(angle(x, z), order)

    return lambda X, Z: np.array([[k(x, z) for z in Z] for x in X])


def relu_network(depth, bias, ntk):
    """The recursion over layers with both expectations integrated numerically."""

    def k(x, z):
        d = len(x)
        xx, xz, zz = (a @ b / d + bias**2 for a, b in ((x, x), (x, z), (z, z)))
        tangent = xz
        for _ in range(depth):
            theta = math.acos(min(1.0, xz / math.sqrt(xx * zz)))
            derivative = half_plane_moment(theta, 0)
            xz = math.sqrt(xx * zz) * half_plane_moment(theta, 1) + bias**2
            xx, zz = xx + bias**2, zz + bias**2
            tangent = xz + tangent * derivative
        return tangent if ntk else xz

    return lambda X, Z: np.array([[k(x, z) for z in Z] for x in X])


CASES = {
    "gaussian": ({"bandwidth": 1.7}, lambda X, Z: rbf_kernel(X, Z, gamma=1 / (2 * 1.7**2))),
    "laplacian": ({"bandwidth": 1.7}, lambda X, Z: np.exp(-cdist(X, Z) / 1.7)),
    "exponential_power": (
        {"bandwidth": 1.7, "gamma": 0.6},
        lambda X, Z: np.exp(-((cdist(X, Z) / 1.7) ** 0.6)),
    ),
    "cauchy": ({"bandwidth": 1.7}, lambda X, Z: 1 / (1 + cdist(X, Z, "sqeuclidean") / 1.7**2)),
    "rational_quadratic": (
        {"bandwidth": 1.7, "alpha": 0.4},
        RationalQuadratic(length_scale=1.7, alpha=0.4),
    ),
    "matern-0.5": ({"bandwidth": 1.7, "nu": 0.5}, Matern(length_scale=1.7, nu=0.5)),
    "matern-1.5": ({"bandwidth": 1.7, "nu": 1.5}, Matern(length_scale=1.7, nu=1.5)),
    "matern-2.5": ({"bandwidth": 1.7, "nu": 2.5}, Matern(length_scale=1.7, nu=2.5)),
    "laplacian_l1": ({"bandwidth": 1.7}, lambda X, Z: laplacian_kernel(X, Z, gamma=1 / 1.7)),
    "sum": (
        {
            "terms": [
                {"name": "gaussian", "bandwidth": 1.7},
                {"name": "linear", "bias": 0.5},
                "laplacian",
            ],
            "weights": [2, 0.5, 1],
        },
        lambda X, Z: (
            2 * rbf_kernel(X, Z, gamma=1 / (2 * 1.7**2))
            + 0.5 * (linear_kernel(X, Z) + 0.5)
            + np.exp(-cdist(X, Z) / 10)
        ),
    ),
    "product": (
        {
            "terms": [
                {"name": "laplacian", "bandwidth": 1.7},
                {"name": "polynomial", "degree": 2, "gamma": 0.3},
                {"name": "cauchy", "bandwidth": 3.0},
            ]
        },
        lambda X, Z: (
            np.exp(-cdist(X, Z) / 1.7)
            * polynomial_kernel(X, Z, degree=2, gamma=0.3, coef0=1.0)
            / (1 + cdist(X, Z, "sqeuclidean") / 9)
        ),
    ),
    "linear": ({"bias": 0.5}, lambda X, Z: linear_kernel(X, Z) + 0.5),
    "polynomial": (
        {"degree": 3, "gamma": 0.3, "bias": 0.7},
        lambda X, Z: polynomial_kernel(X, Z, degree=3, gamma=0.3, coef0=0.7),
    ),
    "polynomial-default": ({}, lambda X, Z: polynomial_kernel(X, Z, degree=3, coef0=1.0)),
    "arc_cosine-0": ({"order": 0}, arc_cosine(0)),
    "arc_cosine-1": ({"order": 1}, arc_cosine(1)),
    "arc_cosine-2": ({"order": 2}, arc_cosine(2)),
    "relu_nngp-1": ({"depth": 1}, relu_network(1, 0.0, ntk=False)),
    "relu_nngp-3-bias": ({"depth": 3, "bias": 0.4}, relu_network(3, 0.4, ntk=False)),
    "relu_ntk-1": ({"depth": 1}, relu_network(1, 0.0, ntk=True)),
    "relu_ntk-4": ({"depth": 4}, relu_network(4, 0.0, ntk=True)),
    "relu_ntk-3-bias": ({"depth": 3, "bias": 0.4}, relu_network(3, 0.4, ntk=True)),
}


def make(case):
    return KERNELS[case.split("-")[0]](**CASES[case][0])


def points(n, d, seed=0, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=(n, d))


def test_every_kernel_has_a_reference():
    assert {case.split("-")[0] for case in CASES} == set(KERNELS)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_agrees_with_reference(case, scale):
    X, Z = points(7, 5, 1, scale), points(11, 5, 2, scale)
    Z[3] = X[2]  # a pair that coincides
    expected = CASES[case][1](X, Z)
    got = make(case)(torch.tensor(X), torch.tensor(Z)).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())
    single = make(case)(torch.tensor(X).float(), torch.tensor(Z).float()).numpy()
    np.testing.assert_allclose(single, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_where_points_coincide(case, dtype):
    X = torch.tensor(points(50, 8, scale=3.0), dtype=dtype)
    X[7] = 0
    X[9] = X[8]
    k = make(case)
    K = k(X, X.clone())
    assert torch.isfinite(K).all()
    tolerance = 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(K.diagonal(), k.diag(X), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(K[8, 9], K[8, 8], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_symmetric_and_positive_semidefinite(case):
    from sklearn.datasets import load_digits

    for X in (points(120, 6), load_digits().data[:200] / 16):
        X = torch.tensor(X)
        K = make(case)(X, X)
        torch.testing.assert_close(K, K.T, rtol=1e-12, atol=1e-12)
        values = torch.linalg.eigvalsh(K)
        assert values[0] > -1e-12 * len(X) * values[-1]


@pytest.mark.parametrize("name", KERNELS)
def test_odd_shapes_and_strides(name):
    k = KERNELS[name]()
    for n, m, d in ((1, 1, 1), (1, 613, 3), (521, 7, 2), (3, 2, 5000)):
        X, Z = torch.tensor(points(n, d, 3)), torch.tensor(points(m, d, 4))
        expected = k(X, Z)
        strided = torch.empty(2 * n, d, dtype=X.dtype)[::2].copy_(X)
        torch.testing.assert_close(k(strided, Z.T.contiguous().T), expected)
        torch.testing.assert_close(BlockedKernel.on(k, X.device)(X, Z).dense(), expected)


def test_close_pairs_keep_their_distance_in_float32():
    """|x - z| = 1e-3 |x| would drown in the rounding of |x|^2 + |z|^2 - 2 x.z."""
    X = torch.tensor(points(200, 100), dtype=torch.float64)
    Z = X + 1e-3 * torch.tensor(points(200, 100, 1))
    exact = (X - Z).square().sum(1)
    got = squared_distances(Points(X.float()), Points(Z.float())).diagonal().double()
    torch.testing.assert_close(got, exact, rtol=1e-2, atol=0.0)
    naive = (
        X.float().square().sum(1) + Z.float().square().sum(1) - 2 * (X.float() * Z.float()).sum(1)
    )
    assert ((naive.double() - exact).abs() / exact).max() > 3e-2  # the test could fail


RADIAL = [case for case in CASES if isinstance(make(case), Radial)]


def far_points(kind, offset, dtype):
    """Points far from the origin for their spread, one of them twice, and the same around it."""
    X = points(40, 6, 5)
    X[7] = X[6]
    far = {"all": offset, "column": offset * np.eye(6)[0], "outlier": np.full((40, 1), offset)}[
        kind
    ]
    if kind == "outlier":
        far[9] = 0
    X = torch.tensor(X + far, dtype=dtype)
    return X, X.double().numpy() - far * (kind != "outlier")


@pytest.mark.parametrize("case", RADIAL)
@pytest.mark.parametrize("offset", [0.0, 1e2, 1e3, 1e4])
@pytest.mark.parametrize("kind", ["all", "column", "outlier"])
def test_radial_kernels_do_not_depend_on_the_origin(case, offset, kind):
    X, around_zero = far_points(kind, offset, torch.float32)
    K = make(case)(X, X.clone()).double()
    np.testing.assert_allclose(K, CASES[case][1](around_zero, around_zero), rtol=0, atol=1e-6)
    assert K.diagonal().eq(1).all()
    assert K[6, 7] == 1


@pytest.mark.parametrize("case", RADIAL)
def test_a_time_stamp_in_float64(case):
    X, around_zero = far_points("column", 1.7e9, torch.float64)
    expected = CASES[case][1](around_zero, around_zero)
    np.testing.assert_allclose(make(case)(X, X), expected, rtol=0, atol=1e-13)


def test_few_differences_far_from_the_origin(monkeypatch):
    """What would take the time: pairs computed one by one. Also of groups far from each other."""
    computed = []

    def count(D, pairs, *rest):
        computed.append(len(pairs[0]))
        return recompute(D, pairs, *rest)

    recompute = geometry._recompute
    monkeypatch.setattr(geometry, "_recompute", count)
    X = torch.randn(500, 30, generator=torch.Generator().manual_seed(0))
    for moved in (X + 1e4, X + 1e4 * torch.arange(500)[:, None].remainder(2), X.double() + 1e9):
        computed.clear()
        D = squared_distances(Points(moved), Points(moved.clone()))
        assert 500 <= sum(computed) < 1000  # each with itself and hardly more, of 250,000
        exact = torch.cdist(
            moved.double(), moved.double(), compute_mode="donot_use_mm_for_euclid_dist"
        )
        torch.testing.assert_close(D.double(), exact.square(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("distinct", [1, 2, 40])
def test_many_coincident_points(distinct):
    X = torch.randn(distinct, 50, generator=torch.Generator().manual_seed(0)) + 3
    rows = torch.arange(400) % distinct
    D = squared_distances(Points(X[rows]), Points(X[rows]))
    assert D[rows[:, None] == rows].eq(0).all()
    exact = (X[:, None].double() - X.double()).square().sum(2)[rows][:, rows]
    torch.testing.assert_close(D.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e3, 1e6, 1e9])
def test_rational_quadratic_of_any_alpha_in_float32(alpha):
    X, Z = points(20, 5, 1), points(30, 5, 2)
    expected = np.exp(-alpha * np.log1p(cdist(X, Z, "sqeuclidean") / (2 * alpha * 3.0**2)))
    kernel = KERNELS["rational_quadratic"](bandwidth=3.0, alpha=alpha)
    got = kernel(torch.tensor(X).float(), torch.tensor(Z).float())
    np.testing.assert_allclose(got, expected, rtol=5e-6)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("gaussian", {"bandwidth": 0}),
        ("laplacian", {"bandwidth": -1.0}),
        ("cauchy", {"bandwidth": float("nan")}),
        ("laplacian", {"bandwidth": "mean"}),
        ("matern", {"nu": 2}),
        ("exponential_power", {"gamma": 2.1}),
        ("rational_quadratic", {"alpha": 0}),
        ("polynomial", {"degree": 0}),
        ("polynomial", {"bias": -1}),
        ("arc_cosine", {"order": 3}),
        ("relu_ntk", {"depth": 0}),
        ("relu_nngp", {"bias": -0.1}),
    ],
)
def test_refuses_bad_parameters(name, parameters):
    [(key, value)] = parameters.items()
    with pytest.raises(ValueError, match=f"^{key}={value}: must be "):
        KERNELS[name](**parameters)


@pytest.mark.parametrize(
    ("name", "metric"), [("laplacian", "euclidean"), ("laplacian_l1", "cityblock")]
)
def test_median_bandwidth(name, metric):
    X = torch.tensor(points(300, 4))
    k = KERNELS[name](bandwidth="median")
    with pytest.raises(ValueError, match="fitted_to"):
        k(X, X)
    fitted = k.fitted_to(X, torch.Generator().manual_seed(0))
    distances = cdist(X, X, metric)[np.triu_indices(300, 1)]
    assert fitted.bandwidth == pytest.approx(np.median(distances), rel=1e-4)
    with pytest.raises(ValueError, match="coincide"):
        k.fitted_to(torch.ones(10, 2), torch.Generator())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"terms": []}, "terms=\\[\\]: must be a list of kernels"),
        ({"terms": "gaussian"}, "terms=gaussian: must be a list of kernels"),
        ({"terms": [{"bandwidth": 3}]}, "must be a list of kernels"),
        ({"terms": ["gausian"]}, "terms=gausian: must be one of"),
        ({"terms": [{"name": "gaussian", "nu": 2.5}]}, "terms: gaussian has no nu, but bandwidth"),
        (
            {"terms": ["gaussian"], "weights": [1, 2]},
            "weights=\\[1, 2\\]: must be null, or 1 numbers",
        ),
        ({"terms": ["gaussian"], "weights": [0]}, "weights=0: must be a number above 0"),
    ],
)
def test_terms_that_are_none(given, said):
    with pytest.raises(ValueError, match=said):
        KERNELS["sum"](**given)


@pytest.mark.parametrize("term", ["gaussian", "laplacian_l1"])
def test_terms_are_fitted_and_kept(tmp_path, term):
    X = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    median = {"name": term, "bandwidth": "median"}
    kernel = KERNELS["product"](
        [median, {"name": "sum", "terms": [median, "linear"], "weights": [3, 1]}]
    )
    fitted = kernel.fitted_to(X, torch.Generator().manual_seed(1))
    own = KERNELS[term](bandwidth="median").fitted_to(X, torch.Generator().manual_seed(1))
    assert fitted.terms[0] == own
    assert fitted.terms[1].terms[0] == own
    model = KernelModel(fitted, X, torch.ones(60, 1, dtype=torch.float64))
    model.save(tmp_path / "model.pt")
    assert KernelModel.load(tmp_path / "model.pt").kernel == fitted
    assert hash(fitted) == hash(KernelModel.load(tmp_path / "model.pt").kernel)


def test_radial_terms_share_their_distances(monkeypatch):
    calls = []
    real = geometry.squared_distances

    def counted(X, Z):
        calls.append(1)
        return real(X, Z)

    monkeypatch.setattr(composite, "squared_distances", counted)
    X = torch.randn(5, 3, dtype=torch.float64)
    KERNELS["sum"](["laplacian", "gaussian", "linear", "cauchy"])(X, X)
    assert len(calls) == 1


def test_a_name_that_is_taken_is_refused(monkeypatch, tmp_path):
    package = tmp_path / "of_ones_own"
    package.mkdir()
    (package / "__init__.py").touch()
    for module in ("first", "second"):
        (package / f"{module}.py").write_text("class One:\n    name = 'one'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"second: name = 'one' is taken, by of_ones_own.first"):
        discover(importlib.import_module("of_ones_own"), object)
