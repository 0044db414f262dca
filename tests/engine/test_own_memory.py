"""Who may write into what: training points, what a kernel returns, models that were handed out."""

import warnings

import pytest
import torch

from kernelexp.engine import KERNELS, SOLVERS, FunctionKernel, Problem, Saved, prepare

GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(80, 3, generator=GENERATOR, dtype=torch.float64)
Y = torch.sin(3 * X[:, :1])


def brownian(diagonal):
    """k(x, z) = min(x, z), whose diagonal is x itself: of points in R a view of them."""
    return FunctionKernel(lambda A, B: torch.minimum(A, B.T), diagonal)


def copied(training):
    now = training.saved()
    return Saved({name: t.clone() for name, t in now.tensors.items()}, now.numbers)


@pytest.mark.parametrize("solver", ["eigenpro1", "eigenpro2", "eigenpro3", "eigenpro4"])
def test_a_diagonal_that_is_a_view_of_the_points(solver):
    predicted = []
    for diagonal in (lambda A: A[:, 0], lambda A: 1.0 * A[:, 0]):
        points = X[:, :1].clone()
        training = prepare(SOLVERS[solver](q=8, epochs=3), Problem(brownian(diagonal), points, Y))
        list(training.run())
        assert torch.equal(points, X[:, :1])
        predicted.append(training.model().predict(points))
    assert torch.equal(*predicted)


@pytest.mark.parametrize("kind", ["sum", "product"])
@pytest.mark.parametrize("first", [True, False])
def test_a_matrix_that_a_function_keeps(kind, first):
    ones = torch.ones(1, 1, dtype=torch.float64)
    term = FunctionKernel(
        lambda A, B: ones.expand(len(A), len(B)), lambda A: ones[0].expand(len(A))
    )
    terms = [term, "gaussian"] if first else ["gaussian", term]
    kernel, gaussian = KERNELS[kind](terms), KERNELS["gaussian"]()(X, X)
    expected = gaussian + 1 if kind == "sum" else gaussian
    for _ in range(2):
        assert torch.allclose(kernel(X, X), expected, rtol=1e-14)
        assert torch.allclose(kernel.diag(X), expected.diagonal(), rtol=1e-14)
    assert ones.item() == 1


def test_a_model_stays_as_it_was_handed_out():
    before = X.clone()
    training = prepare(
        SOLVERS["rfm"](epochs=3, inner={"name": "exact", "ridge": 1e-3}),
        Problem(KERNELS["gaussian"](bandwidth=2.0), X, Y),
    )
    start, states, models = copied(training), [], []
    for _ in training.run():
        states.append(copied(training))
        models.append(training.model())
    predicted = [model.predict(X) for model in models]
    training.go_back(states[1])
    assert torch.equal(training.model().predict(X), predicted[1])
    training.go_back(start)
    training.advance()  # the centers of the first round are the training points
    training.go_back(states[1])
    assert torch.equal(X, before)
    for model, once in zip(models, predicted, strict=True):
        assert torch.equal(model.predict(X), once)


def test_cg_goes_back_to_the_weights_that_were_stored():
    """Also after it ended with those of an earlier iteration, since float32 could not hold the last ones."""
    points = 2 * torch.rand(600, 3, generator=GENERATOR, dtype=torch.float64) - 1
    targets = (4 * points[:, :1]).sin() * (3 * points[:, 1:2]).cos() + points[:, 2:] ** 2
    problem = Problem(KERNELS["gaussian"](bandwidth=1.0), points.float(), targets.float())
    training, states = prepare(SOLVERS["cg"](preconditioner="none"), problem), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in training.run():
            states.append(copied(training))
    assert "float32 cannot hold weights" in training.warning
    differ = [s for s in states if not torch.equal(s.tensors["solution"], s.tensors["held"])]
    assert differ
    for stored in differ[-3:]:
        training.go_back(stored)
        assert torch.equal(training.iterate.solution, stored.tensors["solution"])
        assert torch.equal(training.iterate.held, stored.tensors["held"])
