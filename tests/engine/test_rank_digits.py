"""One model on two and on three processes: the same as on one."""

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT, free_port
from engine.rank_cases import CASES, FEW, N, all_results, problem, result

from kernelexp.engine import SOLVERS, prepare
from kernelexp.engine.ranks import ALONE, NothingToDo, Ranks

BOTH = (torch.float64, torch.float32)


@pytest.fixture(scope="session")
def alone(made_once):
    def make(file):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(all_results(ALONE), file)

    return torch.load(made_once("one rank", make), weights_only=False)


@pytest.fixture(scope="session", params=[2, 3])
def several(request, made_once):
    """What each of so many ranks has found."""
    size = request.param

    def make(file):
        run_ranks(size, file)
        torch.save([torch.load(f"{file}.{rank}", weights_only=False) for rank in range(size)], file)

    return torch.load(made_once(f"{size} ranks", make), weights_only=False)


def run_ranks(size, file):
    port = free_port()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = Path(__file__).parent / "rank_cases.py"
    ranks = [
        subprocess.Popen([sys.executable, script, str(rank), str(size), str(port), file], env=env)
        for rank in range(size)
    ]
    assert [rank.wait(900) for rank in ranks] == [0] * size


def off(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("dtype", BOTH, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_the_same_function(alone, several, name, dtype):
    expected = alone[name, dtype]
    for whole, _ in several:
        found = whole[name, dtype]
        # Of float32 what rounding of each of some hundred steps adds up to.
        assert off(found["outputs"], expected["outputs"]) < (1e-10 if dtype == BOTH[0] else 1e-3)
        assert found["norm"] == pytest.approx(
            expected["norm"], rel=1e-10 if dtype == BOTH[0] else 1e-4
        )
        assert found["train"][1:] == expected["train"][1:]
        assert found["scale"] == expected["scale"]
        if dtype == BOTH[0]:
            assert off(found["weights"], expected["weights"]) < 1e-10
            assert found["train"][0] == pytest.approx(expected["train"][0], rel=1e-6, abs=1e-16)


def test_the_cases_are_what_they_say(alone):
    assert alone["eigenpro2, step halved", BOTH[0]]["scale"] == 0.5
    assert 0 < alone["eigenpro2, K in part", BOTH[0]]["kept"] < N
    assert alone["eigenpro2", BOTH[0]]["kept"] == N


@pytest.mark.parametrize("name", ["eigenpro2", "eigenpro4", "falkon", "cg"])
def test_repeated_points_and_one_far_off(alone, several, name):
    for whole, _ in several:
        assert off(whole[name, "ties"]["outputs"], alone[name, "ties"]["outputs"]) < 1e-9


@pytest.mark.parametrize("name", ["eigenpro1", "eigenpro2", "eigenpro4"])
def test_one_rank_goes_on_with_what_several_saved(alone, several, name):
    solver, settings, _ = CASES[name]
    made = SOLVERS[solver](**{**settings, "epochs": 2})
    expected = result(prepare(made, problem(ALONE)))
    for whole, _ in several:
        training = prepare(made, problem(ALONE))
        training.restore(whole[name, "saved"])
        assert off(result(training)["outputs"], expected["outputs"]) < 1e-10


def test_bytes_of_a_block(several):
    """B (c + q) numbers, and B^2 where K(X_B, X_B) is gathered too; of each rank its share."""
    share = several[0][1]["numbers"] / len(several)
    # A rank pads its own to the largest one's.
    assert 0.99 * share <= several[0][1]["bytes"] / 8 < 1.3 * share


def test_ranks_agree_when_time_is_up(several):
    assert len({found["stopped"] for _, found in several}) == 1


def test_memory_that_runs_out_on_one_makes_a_smaller_plan_on_all(alone, several):
    for _, found in several:
        assert found["smaller"]
        expected = alone["eigenpro2", torch.float64]["outputs"]
        assert off(found["after"]["outputs"], expected) < 1e-10


def test_more_ranks_than_points():
    class Many(Ranks):
        size = 2 * N

    with pytest.raises(ValueError, match=rf"resource.ranks={2 * N}: must be .* from 1 to {N}"):
        prepare(SOLVERS["eigenpro2"](), problem(Many()))


def test_exact_is_for_the_first_alone():
    class Second(Ranks):
        rank, size = 1, 2

        def dismissed(self):
            raise NothingToDo

    class First(Ranks):
        size = 2

        def dismissed(self):
            return ALONE

    exact = SOLVERS["exact"](**FEW)
    with pytest.raises(NothingToDo):
        prepare(exact, replace(problem(ALONE), ranks=Second()))
    training = prepare(exact, replace(problem(ALONE), ranks=First()))
    assert training.ranks is ALONE
