"""One eigendecomposition for a grid of ridges, against training without each point and scikit-learn."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV

from kernelexp.engine import KERNELS, SOLVERS, Problem, prepare
from kernelexp.engine.solvers.work import cost

N = 120


def made(**settings):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(N, 4, generator=generator, dtype=torch.float64)
    X[:5] = X[5:10]  # rows that repeat others
    X[20] *= 30  # and one far off
    Y = torch.stack([X[:, 0].sin(), X[:, 1] * X[:, 2]], 1)
    Y += 0.2 * torch.randn(N, 2, generator=generator, dtype=torch.float64)
    p = Problem(KERNELS["laplacian"](bandwidth=3.0), X, Y)
    training = prepare(SOLVERS["ridge_path"](**settings), p)
    records = list(training.run())
    return p, training, records


CASES = {
    "all": {},
    "p centers": {"n_centers": 40},
    "kmeans": {"n_centers": 30, "centers": "kmeans"},
}


@pytest.mark.parametrize("case", CASES)
def test_leave_one_out_is_training_without_the_point(case):
    ridges = [1e-5, 1e-3, 1e-1]
    p, training, _ = made(ridges=ridges, **CASES[case])
    Z = training.model().centers
    K, K_zz = p.kernel(p.X, Z), p.kernel(Z, Z)
    for ridge, loo in zip(ridges, training.path()["loo_mse"], strict=True):
        left = []
        for i in range(N):
            rest = torch.arange(N) != i
            # The same r = n ridge, of the same centers, also if the point is one.
            A = K[rest].mT @ K[rest] + N * ridge * K_zz
            alpha = torch.linalg.lstsq(A, K[rest].mT @ p.Y[rest]).solution
            left.append(p.Y[i] - K[i] @ alpha)
        assert loo == pytest.approx(torch.stack(left).square().mean().item(), rel=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_as_scikit_learn_finds_it(case):
    p, training, _ = made(**CASES[case])
    path, Z = training.path(), training.model().centers
    T, V = torch.linalg.eigh(p.kernel(Z, Z))
    known = 1e-12 * T.max() < T
    features = (p.kernel(p.X, Z) @ (V[:, known] / T[known].sqrt())).numpy()
    some = slice(None, None, 6)  # of a grid from 1 to 1e-10 of the top eigenvalue
    ridges = np.array(path["ridge"])[some]
    peer = RidgeCV(alphas=N * ridges, fit_intercept=False, store_cv_results=True)
    peer.fit(features, p.Y.numpy())
    loo = peer.cv_results_.mean((0, 1))
    clear = ridges > 1e-8  # below, it loses digits in 1 - h
    np.testing.assert_allclose(np.array(path["loo_mse"])[some][clear], loo[clear], rtol=1e-8)
    chosen = training.choice()["ridge"]
    assert chosen == path["ridge"][int(np.argmin(path["loo_mse"]))]


@pytest.mark.parametrize("case", CASES)
def test_norm_dimension_and_errors_are_those_of_each_training(case):
    p, training, records = made(**CASES[case])
    path, Z = training.path(), training.model().centers
    for i in (5, 20, 35):  # descending from the top eigenvalue
        one = prepare(SOLVERS["exact"](**CASES[case], ridge=path["ridge"][i]), p)
        [record] = one.run()
        assert path["rkhs_norm"][i] == pytest.approx(record.rkhs_norm, rel=1e-6)
        assert path["train_mse"][i] == pytest.approx(record.train_mse, rel=1e-6)
        K = p.kernel(p.X, Z)
        A = K.mT @ K + N * path["ridge"][i] * p.kernel(Z, Z)
        trace = torch.trace(torch.linalg.lstsq(A, K.mT @ K).solution).item()
        assert path["effective_dimension"][i] == pytest.approx(trace, rel=1e-5)
        share = 1 - path["effective_dimension"][i] / N
        assert path["gcv"][i] == pytest.approx(path["train_mse"][i] / share**2, rel=1e-10)
    [record] = records
    assert record.rkhs_norm == pytest.approx(training.rkhs_norm().value, rel=1e-8)


@pytest.mark.parametrize("repeated", [0, 1])
def test_one_row_that_repeats_another_is_planned_for(repeated):
    """It takes K(X, Z) and two eigendecompositions, of seven matrices, where one of K alone takes four."""
    n = 1000
    X = torch.randn(n, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    X[:repeated] = X[n - 1]
    solver, p = SOLVERS["ridge_path"](), Problem(KERNELS["laplacian"](), X, X[:, :1])
    sizes = solver.sizes(p)
    plan = solver.plan(sizes, p.measured_limits(), p.device)
    assert plan.n_centers == n - repeated
    held = (plan.gigabytes["model"] + plan.gigabytes["setup"]) * 1e9 / (8 * n**2)
    assert held > (6.9 if repeated else 4)
    [work] = cost(solver, sizes, plan).setup
    assert (work.operations > 25 * n**3) == bool(repeated)  # 8 n^3 beside 10 n^3 twice


def test_by_gcv():
    _, training, _ = made(by="gcv")
    path = training.path()
    assert training.choice()["ridge"] == path["ridge"][int(np.argmin(path["gcv"]))]


def test_labels_are_left_out_too():
    p, _, _ = made()
    labels = (p.Y[:, 0] > 0).long()
    Y = torch.nn.functional.one_hot(labels).double()
    training = prepare(SOLVERS["ridge_path"](ridges=[1e-3]), Problem(p.kernel, p.X, Y, labels))
    list(training.run())
    right = 0
    for i in range(N):
        rest = torch.arange(N) != i
        K = p.kernel(p.X[rest], p.X[rest]) + N * 1e-3 * torch.eye(N - 1)
        f = p.kernel(p.X[i : i + 1], p.X[rest]) @ torch.linalg.solve(K, Y[rest])
        right += int(f.argmax() == labels[i])
    assert training.choice()["loo_accuracy"] == pytest.approx(right / N)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ridges": []}, "ridges=\\[\\]: must be numbers above 0, or null"),
        ({"ridges": [0.0]}, "ridges=0.0: must be a number above 0"),
        ({"by": "aic"}, "by=aic: must be one of loo, gcv"),
    ],
)
def test_what_is_wrong_is_one_line(settings, message):
    with pytest.raises(ValueError, match=message):
        SOLVERS["ridge_path"](**settings)


def test_gcv_does_not_cancel_for_the_smallest_ridges():
    """With K = I every ridge has the same score: nothing is learned of a point from another one."""
    X = 1e3 * torch.eye(60, dtype=torch.float64)
    Y = torch.randn(60, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    path = SOLVERS["ridge_path"](ridges=[1e-20, 1e-17, 1e-12, 1e-3])
    training = prepare(path, Problem(KERNELS["gaussian"](bandwidth=1.0), X, Y))
    list(training.run())
    assert training.path()["gcv"] == pytest.approx([Y.square().mean().item()] * 4)


def test_a_row_ten_thousand_times_as_far_off_is_no_matter():
    X = torch.randn(200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    X[0] *= 1e4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = SOLVERS["ridge_path"](ridges=[1e-6])
        list(prepare(path, Problem(KERNELS["linear"](), X, X[:, :1])).run())
