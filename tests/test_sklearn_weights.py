"""Weights of points and classes, kernels of one's own, precomputed ones, a ridge for each target."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import AdaBoostClassifier
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.utils.validation import has_fit_parameter

from kernelexp.engine import KERNELS, SOLVERS, Problem, SingularMatrixWarning, fit, prepare
from kernelexp.kernel_machine import _moved
from kernelexp.sklearn import (
    KernelClassifier,
    KernelClassifierCV,
    KernelRegressor,
    KernelRegressorCV,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 3))
Y = np.stack([np.sin(X.sum(1)), X[:, 0] * X[:, 1], X[:, 2] ** 2], axis=1)
WEIGHTS = RNG.integers(0, 4, size=150).astype(float)
NEW = RNG.normal(size=(40, 3))
RIDGE = 1e-3


def kernel(A, B):
    return rbf_kernel(A, B, gamma=0.5)


def regressor(**given):
    return KernelRegressor(kernel="gaussian", bandwidth=1.0, solver="exact", ridge=RIDGE, **given)


def test_weights_are_those_of_kernel_ridge():
    ours = regressor().fit(X, Y, sample_weight=WEIGHTS).predict(NEW)
    ridge = KernelRidge(alpha=RIDGE * WEIGHTS.sum(), kernel=kernel_of_rows)
    theirs = ridge.fit(X, Y, sample_weight=WEIGHTS).predict(NEW)
    assert ours == pytest.approx(theirs, abs=1e-8)


def kernel_of_rows(a, b):
    return kernel(a[None], b[None])[0, 0]


@pytest.mark.parametrize("centers", [None, 30])
def test_a_weight_is_a_number_of_points(centers):
    # The same centers: of those that count, drawn by the seed.
    given = {"solver_params": {"n_centers": centers, "centers": "random"}} if centers else {}
    if centers:  # a naive solution, of the centers that were drawn
        model = regressor(random_state=3, **given).fit(X, Y, sample_weight=WEIGHTS)
        Z = model.model_.centers.numpy()
        K, Kz = kernel(X, Z), kernel(Z, Z)
        A = K.T @ (WEIGHTS[:, None] * K) + WEIGHTS.sum() * RIDGE * Kz
        naive = kernel(NEW, Z) @ np.linalg.lstsq(A, K.T @ (WEIGHTS[:, None] * Y), rcond=None)[0]
        assert model.predict(NEW) == pytest.approx(naive, abs=1e-6)
        return
    rows = np.repeat(np.arange(150), WEIGHTS.astype(int))
    weighted = regressor().fit(X, Y, sample_weight=WEIGHTS)
    repeated = regressor().fit(X[rows], Y[rows])
    assert weighted.predict(NEW) == pytest.approx(repeated.predict(NEW), abs=1e-9)
    assert weighted.rkhs_norm_ == pytest.approx(repeated.rkhs_norm_, rel=1e-9)
    assert len(weighted.model_.centers) == (WEIGHTS > 0).sum()


def test_weights_of_points_that_coincide():
    twice = np.concatenate([X, X[:50]])
    targets = np.concatenate([Y, Y[:50] + 1])
    w = RNG.uniform(0.1, 3, size=200)
    model = regressor().fit(twice, targets, sample_weight=w)
    K = kernel(twice, twice)
    alpha = np.linalg.solve(K + RIDGE * w.sum() * np.diag(1 / w), targets)
    assert model.predict(NEW) == pytest.approx(kernel(NEW, twice) @ alpha, abs=1e-8)


NO_EFFECT = "weights of points, unless 0, had no effect"


@pytest.mark.parametrize("solver", ["auto", "exact"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_weights_that_have_no_effect_say_so(solver, dtype):
    model = KernelRegressor(bandwidth=2.0, solver=solver, dtype=dtype)
    plain = model.fit(X, Y).predict(NEW)
    with pytest.warns(UserWarning, match=NO_EFFECT) as told:
        weighted = model.fit(X, Y, sample_weight=WEIGHTS + 1).predict(NEW)
    assert len(told) == 1
    assert weighted == pytest.approx(plain, abs=1e-3 if dtype == "float32" else 1e-9)
    with pytest.warns(UserWarning, match=NO_EFFECT):
        KernelClassifier(bandwidth=2.0, class_weight="balanced").fit(X, Y[:, 0] > 0.3)


def test_weights_that_have_an_effect_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regressor().fit(X, Y, sample_weight=WEIGHTS)  # a ridge
        fewer = {"n_centers": 30}
        KernelRegressor(solver="exact", solver_params=fewer).fit(X, Y, sample_weight=WEIGHTS)
        KernelRegressor().fit(X, Y, sample_weight=np.full(150, 3.0))
        some = WEIGHTS > 1
        masked = KernelRegressor().fit(X, Y, sample_weight=3.0 * some)
        assert (masked.predict(NEW) == KernelRegressor().fit(X[some], Y[some]).predict(NEW)).all()


def test_without_a_ridge_targets_of_points_that_coincide_are_averaged_by_weights():
    twice, targets = np.concatenate([X, X]), np.concatenate([Y, Y + 1])
    w = RNG.uniform(0.1, 3, size=300)
    with pytest.warns(SingularMatrixWarning, match="150 of 300 points repeat others") as told:
        model = KernelRegressor(bandwidth=2.0).fit(twice, targets, sample_weight=w)
    assert len(told) == 1
    share = w[150:, None] / (w[:150] + w[150:])[:, None]
    assert model.predict(X) == pytest.approx(Y + share, abs=1e-9)


@pytest.mark.filterwarnings(f"ignore:{NO_EFFECT}")
def test_what_weights_points_by_itself_works_without_a_ridge():
    labels = Y[:, 0] > 0
    for meta in (
        AdaBoostClassifier(KernelClassifier()),
        CalibratedClassifierCV(KernelClassifier()),
    ):
        assert meta.fit(X, labels, sample_weight=WEIGHTS + 1).score(X, labels) > 0.9


def test_class_weights():
    A, b = make_classification(
        300, 5, n_informative=4, n_redundant=0, weights=[0.9], random_state=0
    )
    names = np.array(["often", "seldom"])[b]
    given = {"kernel": "gaussian", "bandwidth": 2.0, "ridge": 0.01}
    balanced = KernelClassifier(**given, class_weight="balanced").fit(A, names)
    counts = np.bincount(b)
    by_hand = KernelClassifier(**given).fit(A, names, sample_weight=(300 / (2 * counts))[b])
    assert balanced.decision_function(A) == pytest.approx(by_hand.decision_function(A), abs=1e-9)
    plain = KernelClassifier(**given).fit(A, names)
    recall = [(m.predict(A) == "seldom")[b == 1].mean() for m in (balanced, plain)]
    assert recall[0] > recall[1]
    none = KernelClassifier(**given, class_weight={"often": 1.0, "seldom": 1.0}).fit(A, names)
    assert (none.decision_function(A) == plain.decision_function(A)).all()


def test_balanced_counts_what_weights_say():
    """A point of weight 0 as none, one of weight 2 as two."""
    A, b = make_classification(200, 5, n_informative=4, n_redundant=0, random_state=0)
    times = np.where(b == 1, 1, np.arange(200) % 5 % 3)
    given = {"kernel": "gaussian", "bandwidth": 2.0, "ridge": 0.01, "class_weight": "balanced"}
    by_weight = KernelClassifier(**given).fit(A, b, sample_weight=times)
    by_rows = KernelClassifier(**given).fit(A.repeat(times, 0), b.repeat(times))
    assert by_weight.decision_function(A) == pytest.approx(by_rows.decision_function(A), abs=1e-6)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.zeros(150), "zero"),
        (-WEIGHTS, "Negative values"),
        (WEIGHTS[:9], r"sample_weight.shape == \(9,\), expected \(150,\)"),
        (np.where(WEIGHTS > 2, np.nan, 1), "contains NaN"),
    ],
)
def test_weights_that_are_none(weights, said):
    with pytest.raises(ValueError, match=said):
        regressor().fit(X, Y, sample_weight=weights)


def test_solvers_without_weights_say_so():
    message = (
        "sample_weight, class_weight: must be None with solver=eigenpro2; solver=exact takes them"
    )
    with pytest.raises(ValueError, match=message):
        KernelRegressor(solver="eigenpro2").fit(X, Y, sample_weight=WEIGHTS)
    same = KernelRegressor(solver="eigenpro2", random_state=0).fit(
        X, Y, sample_weight=np.full(150, 3.0)
    )
    plain = KernelRegressor(solver="eigenpro2", random_state=0).fit(X, Y)
    assert (same.predict(NEW) == plain.predict(NEW)).all()
    problem = Problem(
        KERNELS["gaussian"](),
        torch.tensor(X),
        torch.tensor(Y),
        point_weights=torch.tensor(WEIGHTS + 1),
    )
    for name in SOLVERS:
        if name not in ("exact", "auto"):
            with pytest.raises(ValueError, match=f"point_weights: must be None with solver={name}"):
                prepare(SOLVERS[name](), problem)
    assert fit(SOLVERS["auto"](), problem).weights.isfinite().all()
    with pytest.raises(ValueError, match=r"point_weights \(9,\): must be \(150,\) numbers above 0"):
        Problem(
            KERNELS["gaussian"](), torch.tensor(X), torch.tensor(Y), point_weights=torch.ones(9)
        )


@pytest.mark.parametrize("estimator", [KernelClassifierCV, KernelRegressorCV])
def test_leaving_one_out_has_no_weights_and_says_so(estimator):
    plain = estimator().fit(X, NOISY)
    assert estimator().fit(X, NOISY, sample_weight=None).ridge_ == plain.ridge_
    name = estimator.__name__
    said = f"^sample_weight: must be None with {name}, .*; {name[:-2]} takes weights, with a ridge"
    with pytest.raises(ValueError, match=said):
        plain.fit(X, NOISY, sample_weight=WEIGHTS)
    assert not has_fit_parameter(plain, "sample_weight")


def test_a_ridge_for_each_target():
    ridges = [1e-2, 1e-6, 1e-2]
    ours = KernelRegressor("gaussian", bandwidth=1.0, solver="exact", ridge=ridges).fit(X, Y)
    theirs = KernelRidge(alpha=150 * np.array(ridges), kernel="precomputed")
    expected = theirs.fit(kernel(X, X), Y).predict(kernel(NEW, X))
    assert ours.predict(NEW) == pytest.approx(expected, abs=1e-6)
    alone = [
        regressor().set_params(ridge=r).fit(X, y).rkhs_norm_
        for r, y in zip(ridges, Y.T, strict=True)
    ]
    assert ours.rkhs_norm_ == pytest.approx(np.linalg.norm(alone), rel=1e-6)
    with pytest.raises(
        ValueError,
        match="must be a number, or for regression without warm_start and validation_fraction one for each of the 3",
    ):
        regressor().set_params(ridge=[1, 2]).fit(X, Y)
    with pytest.raises(ValueError, match="must be a number"):
        KernelClassifier(ridge=[1e-3, 1e-3]).fit(X, Y[:, 0] > 0)


def test_a_function_is_a_kernel():
    ours = KernelRegressor(kernel, solver="exact", ridge=RIDGE).fit(X, Y)
    assert ours.predict(NEW) == pytest.approx(regressor().fit(X, Y).predict(NEW), abs=1e-9)
    with pytest.raises(
        ValueError, match=r"kernel: the function gave \(24,\) for X \(24, 3\) and Z \(24, 3\)"
    ):
        KernelRegressor(lambda A, B: A[:, 0]).fit(X, Y)


@pytest.mark.parametrize(
    "solver", ["auto", "exact", "eigenpro2", "eigenpro3", "eigenpro4", "falkon", "cg", "sgd"]
)
def test_a_precomputed_kernel_is_that_kernel(solver):
    params = {"n_centers": 40} if solver in ("eigenpro3", "eigenpro4", "falkon") else {}
    given = {"solver": solver, "solver_params": params, "random_state": 0}
    laplacian = KERNELS["laplacian"](bandwidth=1.0)  # of a condition that rounding does not show in

    def matrix(A):
        return laplacian(torch.tensor(A), torch.tensor(X)).numpy()

    own = KernelRegressor(laplacian, **given).fit(X, Y)
    made = KernelRegressor("precomputed", **given).fit(matrix(X), Y)
    assert made.predict(matrix(NEW)) == pytest.approx(own.predict(NEW), abs=1e-6)
    assert made.rkhs_norm_ == pytest.approx(own.rkhs_norm_, rel=1e-5)


def test_precomputed_kernels_are_cut_by_rows_and_columns():
    labels = np.array(["a", "b"])[(Y[:, 0] > 0).astype(int)]
    made = cross_val_predict(KernelClassifier("precomputed"), kernel(X, X), labels, cv=5)
    own = cross_val_predict(KernelClassifier("gaussian", bandwidth=1.0), X, labels, cv=5)
    assert (made == own).all()
    search = GridSearchCV(KernelClassifier("precomputed"), {"ridge": [1e-6, 1e-2]}, cv=3)
    search.fit(kernel(X, X), labels)
    assert search.predict(kernel(NEW, X)).shape == (40,)
    chosen = KernelClassifierCV("precomputed").fit(kernel(X, X), labels)
    other = KernelClassifierCV("gaussian", bandwidth=1.0).fit(X, labels)
    assert chosen.ridge_ == pytest.approx(other.ridge_, rel=1e-6)


def test_a_precomputed_matrix_is_not_kept():
    K = kernel(X, X)
    model = KernelRegressor("precomputed", solver="eigenpro2", warm_start=True).fit(K, Y)
    assert len(pickle.dumps(model)) < K.nbytes / 2


def test_weights_with_a_precomputed_kernel():
    made = KernelRegressor("precomputed", solver="exact", ridge=RIDGE)
    made.fit(kernel(X, X), Y, sample_weight=WEIGHTS)
    own = regressor().fit(X, Y, sample_weight=WEIGHTS)
    assert made.predict(kernel(NEW, X)) == pytest.approx(own.predict(NEW), abs=1e-9)


def test_a_precomputed_kernel_is_a_square_and_has_no_bandwidth():
    with pytest.raises(
        ValueError, match=r"X \(150, 3\): must be K \(n, n\) with kernel=precomputed"
    ):
        KernelRegressor("precomputed").fit(X, Y)
    with pytest.raises(
        ValueError, match="bandwidth, kernel_params: must be None with kernel=precomputed"
    ):
        KernelRegressor("precomputed", bandwidth=2.0).fit(kernel(X, X), Y)


def test_sparse_points_are_refused_with_their_size():
    sparse = scipy.sparse.random(1000, 50_000, density=1e-4, format="csr", random_state=0)
    with pytest.raises(
        TypeError, match=r"\(1,000, 50,000\): dense data is required; X.toarray\(\) takes 0.4 GB"
    ):
        KernelRegressor().fit(sparse, np.zeros(1000))


NOISY = np.where(RNG.random(150) < 0.3, RNG.integers(0, 3, 150), (X[:, 0] > 0) + (X[:, 1] > 0))


def test_scores_of_points_that_are_held_out():
    given = {"kernel": "laplacian", "bandwidth": 1.0, "solver": "eigenpro2", "random_state": 0}
    model = KernelClassifier(**given, solver_params={"epochs": 30}, validation_fraction=0.2)
    model.fit(X, NOISY)
    assert len(model.validation_scores_) == model.n_iter_ == 30
    assert len(model.model_.centers) == 120
    # The points that were held out, by hand: those that are no centers.
    centers = {tuple(row) for row in model.model_.centers.tolist()}
    rows = [i for i, row in enumerate(X.tolist()) if tuple(row) not in centers]
    assert len(rows) == 30
    assert model.score(X[rows], NOISY[rows]) == pytest.approx(model.validation_scores_[-1])
    classes = np.bincount(NOISY[rows], minlength=3)
    assert abs(classes - np.bincount(NOISY, minlength=3) / 5).max() <= 1


def test_training_ends_and_goes_back_where_scores_fall():
    given = {
        "kernel": "laplacian",
        "bandwidth": 3.0,
        "solver": "eigenpro2",
        "random_state": 0,
        "validation_fraction": 0.3,
    }
    y = X[:, 0] + RNG.normal(size=150)
    whole = KernelRegressor(**given, solver_params={"epochs": 60}).fit(X, y)
    best = int(np.argmax(whole.validation_scores_))
    assert best < 50  # noise is learned
    short = KernelRegressor(**given, solver_params={"epochs": 60}, n_iter_no_change=4).fit(X, y)
    scores = short.validation_scores_
    assert scores == whole.validation_scores_[: len(scores)]
    at = int(np.argmax(scores))
    assert len(scores) == at + 5
    assert short.n_iter_ == at + 1
    there = KernelRegressor(**given, solver_params={"epochs": at + 1}).fit(X, y)
    assert (short.predict(NEW) == there.predict(NEW)).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"validation_fraction": 1.0}, "validation_fraction=1.0: must be a share below 1, or None"),
        ({"validation_fraction": 0}, "validation_fraction=0: must be a number above 0"),
        (
            {"n_iter_no_change": 0, "validation_fraction": 0.1},
            "n_iter_no_change=0: must be a whole number >= 1",
        ),
        (
            {"validation_fraction": 0.1, "ridge": [1, 2, 3]},
            "must be a number, or for regression without warm_start",
        ),
    ],
)
def test_shares_that_are_none(given, said):
    with pytest.raises(ValueError, match=said):
        KernelRegressor(**given).fit(X, Y)


def test_patience_without_points_that_are_held_out_is_ignored_aloud():
    given = {"solver": "eigenpro2", "solver_params": {"epochs": 4}}
    with pytest.warns(
        UserWarning, match=r"^n_iter_no_change=1: no points are held out, and it is ign"
    ):
        model = KernelRegressor(**given, n_iter_no_change=1).fit(X, Y)
    assert model.n_iter_ == 4


@pytest.mark.parametrize(("fraction", "held"), [(0.001, 1), (0.013, 2), (0.99, 149)])
def test_a_share_that_leaves_too_few_points_is_refused_by_its_name(fraction, held):
    said = f"^validation_fraction={fraction}: holds out {held} of 150 points; must leave at least 3 on both sides, one"
    with pytest.raises(ValueError, match=said):
        KernelClassifier(validation_fraction=fraction).fit(X, NOISY)
    if held == 1:
        with pytest.raises(ValueError, match="holds out 1 of 150 points; must leave at least 2 on"):
            KernelRegressor(validation_fraction=fraction).fit(X, Y)
    alone = np.where(np.arange(150) == 7, 3, NOISY)
    with pytest.raises(ValueError, match=f"^validation_fraction={fraction}: a class has one point"):
        KernelClassifier(validation_fraction=fraction).fit(X, alone)


def test_the_smallest_share_that_leaves_a_point_of_each_class_is_taken():
    given = {"solver": "eigenpro2", "solver_params": {"epochs": 1}, "validation_fraction": 0.02}
    assert len(KernelClassifier(**given).fit(X, NOISY).validation_scores_) == 1


def test_all_of_a_model_is_moved():
    """What a pickle is written from; ``meta`` stands for a GPU."""
    made = KernelRegressor(solver="rfm").fit(X, Y)
    model = _moved(made.model_, "meta")
    parts = (model.centers, model.weights, model.transform)
    assert {part.device.type for part in parts} == {"meta"}


def test_patience_has_epochs_enough():
    """Steps along the gradient of all points, whose scores rise for hundreds of epochs."""
    A = np.linspace(0, 1, 300)[:, None]
    given = {"bandwidth": 1.0, "solver": "sgd", "random_state": 0, "validation_fraction": 0.2}
    made = KernelRegressor(**given, solver_params={"batch_size": 300}, n_iter_no_change=3)
    scores = made.fit(A, np.sin(12 * A[:, 0])).validation_scores_
    assert len(scores) > 100
    assert scores[100] > scores[9] > scores[0]


def test_a_warm_start_of_a_matrix_goes_on():
    K = kernel(X, X)
    model = KernelRegressor(
        "precomputed",
        solver="eigenpro2",
        warm_start=True,
        solver_params={"epochs": 3},
        random_state=0,
    )
    first = model.fit(K, Y).score(K, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.fit(K, Y).score(K, Y) > first
