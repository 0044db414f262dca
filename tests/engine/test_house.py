"""How the parts of a solver hold together: final classes, pure plans, flat state."""

import dataclasses
import json
import typing

import pytest
import torch
from solving import problem

from kernelexp.engine import (
    KERNELS,
    SOLVERS,
    Iterate,
    Limits,
    Plan,
    ResourceLimits,
    Sizes,
    Solver,
    SolverOption,
    System,
    prepare,
)

CPU = torch.device("cpu")
ITERATIVE = ("askotch", "sgd", "eigenpro1", "eigenpro2", "eigenpro3", "eigenpro4", "falkon", "cg",
             "exact")  # fmt: skip
SIZES = Sizes(n=5000, d=20, c=3, distinct=5000, itemsize=4)


def below(cls):
    """It and the classes of the package that inherit from it; tests may have made others."""
    own = [child for child in cls.__subclasses__() if child.__module__.startswith("kernelexp.")]
    return [cls, *(found for child in own for found in below(child))]


def test_a_solver_is_abstract_or_final():
    for name, solver in SOLVERS.items():
        assert getattr(solver, "__final__", False), name
        assert below(solver) == [solver], name
    for cls in below(SolverOption):
        named = "name" in vars(cls)
        assert named == (cls in SOLVERS.values()), cls
        assert named or cls.__abstractmethods__, cls


def test_a_class_has_one_way_to_its_base():
    """No diamond: of the solvers' own classes each inherits from one."""
    for cls in below(SolverOption):
        own = [base for base in cls.__bases__ if base.__module__.startswith("kernelexp")]
        assert len(own) <= 1, cls


@pytest.mark.parametrize("cls", below(System), ids=lambda cls: cls.__name__)
def test_what_set_up_makes_is_frozen(cls):
    assert cls.__dataclass_params__.frozen


@pytest.mark.parametrize("cls", below(Iterate), ids=lambda cls: cls.__name__)
def test_what_is_carried_is_flat(cls):
    hints = typing.get_type_hints(cls)
    flat = (torch.Tensor, int, float, bool, str | None, list[float])
    for field in dataclasses.fields(cls):
        assert hints[field.name] in flat, field.name


@pytest.mark.parametrize("name", ITERATIVE)
@pytest.mark.parametrize("gigabytes", [0.5, 2.0, 16.0])
def test_a_plan_is_made_from_sizes_and_limits_alone(name, gigabytes):
    solver = SOLVERS[name]()
    assert isinstance(solver, Solver)
    limits = Limits(ResourceLimits(), held=10**8, allowed=int(gigabytes * 1e9), busy_block=2048)
    plan = solver.plan(SIZES, limits, CPU)
    torch.empty(10**7).zero_()
    assert solver.plan(SIZES, limits, CPU) == plan
    assert plan.peak_gb <= gigabytes
    assert plan.solver == name
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize("name", ITERATIVE)
def test_a_system_can_be_made_again_and_training_begun_again(name):
    """Also after a training has used it: nothing in it has changed."""
    solver, p = SOLVERS[name](epochs=3), problem(KERNELS["laplacian"](bandwidth=3.0))
    first = prepare(solver, p)
    once = [dataclasses.replace(record, seconds=0) for record in first.run()]
    iterate = first.solver.start(first.system)
    again = [first.solver.step(first.system, iterate) for _ in once]
    assert [dataclasses.replace(record, seconds=0) for record in again] == once
    other = prepare(solver, p, plan=first.plan)
    assert [dataclasses.replace(record, seconds=0) for record in other.run()] == once


def test_a_plan_that_does_not_fit_any_more_is_refused():
    p = problem(KERNELS["laplacian"](bandwidth=3.0))
    solver = SOLVERS["eigenpro2"]()
    plan = dataclasses.replace(prepare(solver, p).plan, limit_gb=1e6)
    large = dataclasses.replace(plan, gigabytes={**plan.gigabytes, "model": 1e6})
    with pytest.raises(ValueError, match="must be at least .* for going on as it was begun"):
        prepare(solver, p, plan=large)
    with pytest.raises(ValueError, match="solver=cg: the plan to go on with is of eigenpro2"):
        prepare(SOLVERS["cg"](), p, plan=plan)


@pytest.mark.parametrize("name", ITERATIVE)
def test_a_warm_start_begins_with_the_function_it_is_given(name):
    p = problem(KERNELS["laplacian"](bandwidth=3.0))
    training = prepare(SOLVERS[name](epochs=4), p)
    records = list(training.run())
    solver, system = training.solver, training.system
    warm = solver.start(system, training.weights())
    if name != "exact":  # which begins and ends with its solution
        expected = training.training_outputs()
        torch.testing.assert_close(
            solver.training_outputs(system, warm), expected, rtol=1e-6, atol=1e-7
        )
        assert solver.step(system, warm).train_mse < 1.5 * records[-1].train_mse
