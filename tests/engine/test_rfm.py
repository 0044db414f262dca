"""Recursive feature machines: rounds against a dense solution with PyTorch's own gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kernelexp import experiment
from kernelexp.data import SOURCES, load
from kernelexp.engine import KERNELS, SOLVERS, DivergenceError, Problem, StopRule, fit, prepare
from kernelexp.sklearn import KernelClassifier, KernelRegressor

RIDGE = 1e-4


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, NEW = draw(60, 4), draw(20, 4, seed=1)
Y = torch.stack([torch.sin(2 * X[:, 0]), X[:, 1] * X[:, 2]], dim=1)


def gaussian(A, B, M):
    D = A[:, None] - B[None]
    return torch.exp(-torch.einsum("ijd,de,ije->ij", D, M, D) / (2 * 1.5**2))


def naive(rounds, power, centred, diagonal):
    M = torch.eye(4, dtype=torch.float64)
    for left in reversed(range(rounds)):
        alpha = torch.linalg.solve(gaussian(X, X, M) + 60 * RIDGE * torch.eye(60), Y)
        if not left:
            return gaussian(NEW, X, M) @ alpha, M
        at = X.clone().requires_grad_()
        outputs = gaussian(at, X, M) @ alpha
        G = torch.stack(
            [torch.autograd.grad(outputs[:, c].sum(), at, retain_graph=True)[0] for c in range(2)]
        )
        if centred:
            G = G - G.mean(1, keepdim=True)
        A = torch.einsum("cid,cie->de", G, G) / 60
        A = A / A.max()
        if diagonal:
            A = torch.diag(A.diagonal())
        values, vectors = torch.linalg.eigh(A)
        M = (vectors * values.clamp(min=0).pow(power)) @ vectors.T
    return None


@pytest.mark.parametrize("rounds", [1, 2, 4])
@pytest.mark.parametrize(
    ("power", "centred", "diagonal"), [(1.0, False, False), (0.5, True, False), (1.0, False, True)]
)
def test_rounds_are_those_of_a_dense_solution(rounds, power, centred, diagonal):
    solver = SOLVERS["rfm"](
        epochs=rounds,
        inner={"name": "exact", "ridge": RIDGE},
        agop_power=power,
        centred=centred,
        diagonal=diagonal,
    )
    f = fit(solver, Problem(KERNELS["gaussian"](bandwidth=1.5), X, Y))
    expected, M = naive(rounds, power, centred, diagonal)
    assert f.predict(NEW).numpy() == pytest.approx(expected.numpy(), abs=1e-7)
    if rounds > 1:
        root = torch.diag(f.transform) if diagonal else f.transform
        assert (root @ root.T).numpy() == pytest.approx(M.numpy(), abs=1e-7)


def test_it_finds_the_coordinates_that_matter():
    data = load(SOURCES["low_rank"](n_train=1000, n_test=1000), Path(), dtype=torch.float64)
    p = Problem(KERNELS["laplacian"](bandwidth=10.0), data.train.X, data.train.Y)
    training = prepare(SOLVERS["rfm"](epochs=5, inner={"name": "exact", "ridge": 1e-6}), p)
    errors = [
        (training.model().predict(data.test.X) - data.test.Y).square().mean().item()
        for _ in training.run()
    ]
    assert errors[-1] < errors[0] / 3
    assert set(training.features().diagonal().topk(3).indices.tolist()) == {0, 1, 5}


@pytest.mark.parametrize("inner", ["eigenpro2", {"name": "eigenpro4", "n_centers": 30, "epochs": 20},
                                   {"name": "falkon", "n_centers": 30, "ridge": 1e-4}, "cg", "auto"])  # fmt: skip
def test_any_solver_is_an_inner_one(inner):
    training = prepare(
        SOLVERS["rfm"](epochs=3, inner=inner),
        Problem(KERNELS["laplacian"](bandwidth=2.0), X, Y, seed=2),
    )
    records = list(training.run())
    model = training.model()
    assert [record.epoch for record in records] == [1, 2, 3]
    few = isinstance(inner, dict)  # which are half of the points
    assert len(model.centers) == (30 if few else 60)
    assert records[-1].train_mse < (0.3 if few else 0.1) * Y.square().mean()
    assert model.predict(X).numpy() == pytest.approx(training.training_outputs().numpy(), abs=1e-6)
    assert training.rkhs_norm().value == pytest.approx(records[-1].rkhs_norm, rel=1e-5)


@pytest.mark.parametrize("inner", ["exact", {"name": "eigenpro2", "epochs": 3}, "cg", "auto"])
def test_a_training_that_is_taken_up_gives_the_same_digits(inner):
    problem = Problem(KERNELS["gaussian"](bandwidth=1.5), X, Y)

    def made(plan=None):
        return prepare(SOLVERS["rfm"](epochs=4, inner=inner), problem, plan)

    whole, begun = made(), made()
    on = made(begun.plan)
    list(whole.run())
    rounds = begun.run()
    next(rounds), next(rounds)
    stored = begun.saved()
    on.restore(
        type(stored)({name: t.clone() for name, t in stored.tensors.items()}, stored.numbers)
    )
    assert [record.epoch for record in on.run()] == [3, 4]
    assert torch.equal(on.model().predict(NEW), whole.model().predict(NEW))


def test_a_diagonal_goes_on_from_all_of_its_matrix():
    """As checkpoints had it."""
    solver, problem = SOLVERS["rfm"](epochs=3, diagonal=True), Problem(KERNELS["gaussian"](), X, Y)
    whole, begun = prepare(solver, problem), prepare(solver, problem)
    list(whole.run())
    rounds = begun.run()
    next(rounds), next(rounds)
    begun.iterate.agop = torch.diag(begun.iterate.agop) + 0.1
    begun.iterate.agop.diagonal().sub_(0.1)
    list(rounds)
    torch.testing.assert_close(begun.model().transform, whole.model().transform)


class Sizes(TorchDispatchMode):
    """Of the tensors that are made, the most numbers."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.most = max(self.most, made.untyped_storage().nbytes() // made.element_size())
        return made


def test_a_diagonal_alone_takes_no_matrix():
    d = 1500
    wide = Problem(KERNELS["gaussian"](bandwidth=40.0), draw(30, d), draw(30, 2, seed=1))
    solver = SOLVERS["rfm"](epochs=2, diagonal=True, centred=True)
    with Sizes() as sizes:
        training = prepare(solver, wide)
        list(training.run())
        training.saved()
    assert training.features().shape == training.model().transform.shape == (d,)
    assert sizes.most < d * d / 4


def test_the_model_is_that_of_the_round_also_before_its_record(monkeypatch):
    """By which f(X) as carried along is judged: it had been taken without the coordinates of the second round."""
    solver = SOLVERS["rfm"](epochs=3)  # which interpolates
    drifts, own = [], type(solver)._drift
    monkeypatch.setattr(
        type(solver), "_drift", lambda *args: drifts.append(own(*args)) or drifts[-1]
    )
    training = prepare(solver, Problem(KERNELS["laplacian"](bandwidth=2.0), X, Y))
    list(training.run())
    assert len(drifts) == 3
    assert max(drifts) < 1e-20


def test_images_in_bytes_and_the_best_round():
    config = experiment.Config(
        dataset=SOURCES["digits"](n_train=300, n_test=200), kernel=KERNELS["laplacian"](bandwidth=5.0),
        solver=SOLVERS["rfm"](epochs=8, stop=StopRule(patience=2), agop_points=100), validation=0.2,
    )  # fmt: skip
    result = experiment.run(config)
    assert result.metrics["test_accuracy"] > 0.9
    assert result.features["shape"] == [8, 8]
    assert max(result.features["diagonal"]) == pytest.approx(1)
    assert np.diag(result.features["matrix"]) == pytest.approx(
        result.features["diagonal"], rel=1e-5
    )
    X = result.setup.dataset.test.X
    rounds = int(result.metrics["epochs"])
    there = fit(SOLVERS["rfm"](epochs=rounds, agop_points=100), Problem(
        config.kernel, result.setup.dataset.train.X, result.setup.dataset.train.Y, result.setup.dataset.train.labels
    ))  # fmt: skip
    assert (there.predict(X) - result.model.predict(X)).abs().max() < 1e-5


@pytest.mark.parametrize("kernel", [KERNELS["relu_ntk"](), KERNELS["arc_cosine"](order=0)])
def test_a_row_of_zeros_does_not_stop_it(kernel):
    points = X.clone()
    points[5] = 0
    solver = SOLVERS["rfm"](epochs=2, inner={"name": "exact", "ridge": RIDGE})
    machine = fit(solver, Problem(kernel, points, Y))
    assert machine.predict(NEW).isfinite().all()
    assert (machine.transform - torch.eye(4)).abs().max() > 0.01


def test_gradients_that_are_not_finite_end_it():
    p = Problem(KERNELS["gaussian"](bandwidth=1.5e-3), X.float() / 1000, 1e17 * Y.float())
    solver = SOLVERS["rfm"](epochs=2, inner={"name": "exact", "ridge": RIDGE})
    with pytest.raises(DivergenceError, match="round 1 of solver=rfm: .* not finite in torch"):
        fit(solver, p)


def test_estimators():
    y = Y[:, 1].numpy()
    model = KernelRegressor(
        "gaussian", bandwidth=1.5, solver="rfm", solver_params={"epochs": 3}
    ).fit(X.numpy(), y)
    assert model.score(X.numpy(), y) > 0.9
    assert model.model_.transform.shape == (4, 4)
    labels = (y > 0).astype(int)
    params = {"epochs": 2, "diagonal": True}
    assert (
        KernelClassifier(solver="rfm", solver_params=params)
        .fit(X.numpy(), labels)
        .score(X.numpy(), labels)
        > 0.9
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"inner": "rfm"}, "inner=rfm: must be one of"),
        ({"inner": {"ridge": 1}}, "must be a solver's name, or"),
        ({"inner": {"name": "exact", "ridgee": 1}}, "inner: exact has no ridgee, but epochs"),
        (
            {"inner": {"name": "eigenpro2", "stop": {"train_eror": 0}}},
            "inner: stop has no train_eror, but",
        ),
        ({"agop_power": 0}, "agop_power=0: must be a number above 0"),
        ({"agop_points": 1}, "agop_points=1: must be a whole number >= 2"),
    ],
)
def test_wrong_settings(given, said):
    with pytest.raises(ValueError, match=said):
        SOLVERS["rfm"](**given)


@pytest.mark.parametrize(
    "inner",
    [
        {"name": "cg", "epochs": 2, "preconditioner": "none"},
        {"name": "falkon", "epochs": 1, "n_centers": 20},
    ],
    ids=str,
)
def test_a_system_that_the_inner_solver_has_not_solved(inner):
    """Its residual is that of the round, and the norm a lower bound, as without rounds."""
    problem = Problem(KERNELS["gaussian"](bandwidth=1.5), X, Y)
    name, settings = inner["name"], {k: v for k, v in inner.items() if k != "name"}
    alone, rounds = (
        prepare(solver, problem)
        for solver in (SOLVERS[name](**settings), SOLVERS["rfm"](epochs=1, inner=inner))
    )
    for training in (alone, rounds):
        list(training.run())
    assert rounds.residuals() == alone.residuals()
    assert rounds.rkhs_norm().lower_bound
    assert prepare(SOLVERS["rfm"](), problem).residuals() == {}
