"""A search: what it may vary, what it tries, what it leaves, and what it never looks at."""

import itertools
import re

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from kernelexp import experiment, interrupts, sweep
from kernelexp.data.held_out import held_out
from kernelexp.search import run
from kernelexp.search.pruning import Outcome, Pruned, Pruner, bounds
from kernelexp.search.rungs import Rung, rungs
from kernelexp.search.space import Choice, Range, Space, as_hydra
from kernelexp.search.trials import Proposal, Trials
from kernelexp.store import TrackingConfig

DIGITS = ("dataset=digits", "dataset.n_test=200", "solver.epochs=4", "solver.batch_size=100")
SPACE = ("kernel=laplacian,gaussian", "kernel.bandwidth=log:0.5..20")


def space(*typed, kernel="laplacian", solver="eigenpro2"):
    overrides = OverridesParser.create().parse_overrides([as_hydra(item) for item in typed])
    return Space.of(overrides, {"kernel": kernel, "solver": solver})


def test_what_is_typed():
    found = space("solver.ridge=1e-8..1e-2", "kernel=gaussian,matern", "kernel.bandwidth=log:.5..2e1",
                  "solver.n_centers=log:10..1000", "kernel.nu=0.5,1.5", "dtype=float64", solver="exact")  # fmt: skip
    assert found.dimensions == (
        Choice("kernel", ("gaussian", "matern")),
        Range("solver.ridge", 1e-8, 1e-2, log=False, whole=False),
        Range("kernel.bandwidth", 0.5, 20, log=True, whole=False),
        Range("solver.n_centers", 10, 1000, log=True, whole=True),
        Choice("kernel.nu", ("0.5", "1.5")),
    )
    corners = found.corners
    assert (
        "kernel=gaussian",
        "solver.ridge=1e-08",
        "kernel.bandwidth=0.5",
        "solver.n_centers=10",
    ) in corners
    assert any("kernel.nu=1.5" in corner for corner in corners)
    assert not any("kernel.nu" in item for c in corners if c[0] == "kernel=gaussian" for item in c)


def test_settings_that_a_kernel_does_not_have_are_no_points_of_a_grid():
    found = space("kernel=gaussian,relu_ntk", "kernel.bandwidth=1,2,4")
    assert sorted(found.grid) == [
        ("kernel=gaussian", "kernel.bandwidth=1"),
        ("kernel=gaussian", "kernel.bandwidth=2"),
        ("kernel=gaussian", "kernel.bandwidth=4"),
        ("kernel=relu_ntk",),
    ]
    fixed = space("kernel=gaussian,relu_ntk", "kernel.bandwidth=choice(2)")
    assert sorted(fixed.grid) == [("kernel=gaussian", "kernel.bandwidth=2"), ("kernel=relu_ntk",)]
    assert fixed.keys == ["kernel"]
    trials = Trials(found, 0, [], at_random=2)
    asked = [p.overrides for p in trials.ask(3)] + [p.overrides for p in trials.ask(7)]
    assert sorted(asked) == sorted(found.grid)
    assert trials.ask(1) == []


def test_few_whole_numbers_are_a_grid_and_narrow_ranges_end():
    few = space("solver.epochs=1..3", "kernel=laplacian,gaussian")
    trials = Trials(few, 0, [], at_random=2)
    assert sorted(p.overrides for p in trials.ask(40)) == sorted(few.grid)
    assert len(few.grid) == 6
    assert [
        len(Trials(space(narrow), 0, [], 2).ask(9)) for narrow in ("kernel.bandwidth=1..1.00001",)
    ] == [1]
    assert space("solver.n_centers=log:1..1e9", solver="exact").grid is None


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            "solver.epochs=1.2..1.7",
            "solver.epochs=1.2..1.7: must be a range with a whole number in it",
        ),
        ("kernel.bandwidth=log:0..3", "kernel.bandwidth=log:0..3: must be a range above 0"),
        (
            "kernel.bandwidth=5..5",
            "kernel.bandwidth=5..5: must be a range from a number to a larger one",
        ),
        ("noise=0..1", "noise: one value for the whole search"),
        ("seed=1,2", "seed: one value for the whole search"),
        ("dataset=digits,iris", "dataset: one value for the whole search"),
        ("kernel=laplacian", "nothing to search"),
    ],
)
def test_what_can_not_be_searched(typed, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        space(typed)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("kernel.bandwith=log:1..3", "kernel.bandwith: no such key of laplacian"),
        ("kernel=gausian,laplacian", "kernel=gausian: must be one of"),
        ("kernel.bandwidth=-3..-1", "kernel.bandwidth=-3: must be a number above 0, or median"),
        ("experiment=kernels", "experiment: left out in a search"),
        ("validation=null", "validation=null: must be a share or a number of points, or left out"),
        ("--trials none", "--trials: invalid number of trials (1 or more) value: 'none'"),
        ("--many 3", "unrecognized arguments: --many"),
        ("bandwidth", "bandwidth: must be KEY=VALUE"),
    ],
)  # fmt: skip
def test_wrong_commands_are_one_line_and_train_nothing(typed, said, cli, runs):
    done = cli(*DIGITS[:2], "kernel.bandwidth=log:1..9", *typed.split(), module="kernelexp.search")
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert said in done.err
    assert runs("search") == []


@pytest.mark.parametrize("n", [20, 1000, 1500, 60_000])
@pytest.mark.parametrize("held", [None, 0.2, 7])
@pytest.mark.parametrize("trials", [1, 2, 40])
def test_sizes(n, held, trials):
    found = rungs(n, 300, held, trials)
    valid = 0 if held is None else round(held * n) if held < 1 else held
    assert found[-1].points == n - valid
    assert found[-1].overrides == ()
    assert found[0].trials == trials
    for low, high in itertools.pairwise(found):
        assert low.points == high.points // 3 >= 500
        assert high.trials == max(1, low.trials // 3)
        assert f"dataset.n_train={low.points + valid}" in low.overrides
        assert (f"validation={valid}" in low.overrides) == (held is not None)
    assert len(found) == 1 if n - valid < 1500 else len(found) > 1


def test_no_trial_has_fewer_points_than_its_centers():
    """Those of few points failed, and the values that all points allow were never tried."""
    assert [rung.points for rung in rungs(2000, 300, 0.2, 9)] == [533, 1600]
    assert [rung.points for rung in rungs(2000, 300, 0.2, 9, asked=533)] == [533, 1600]
    assert [rung.points for rung in rungs(2000, 300, 0.2, 9, asked=534)] == [1600]
    assert [rung.points for rung in rungs(2000, 300, 0.2, 9, 10, asked=525)] == [1600]


@pytest.mark.parametrize("groups", [3, 4, 9])
def test_few_groups_leave_points_on_each_rung(groups):
    """Of few points a number that is a fifth of all takes every group."""
    n, labels = 6750, np.arange(6750) % groups
    assert (
        len(rungs(n, 100, 0.2, 9, asked=600, grouped=True)) == 1
    )  # what a group leaves is not known
    for rung in rungs(n, 100, 0.2, 9, grouped=True)[:-1]:
        given = dict(override.split("=") for override in rung.overrides)
        m, valid = int(given["dataset.n_train"]), int(given["validation"])
        assert m - valid == rung.points
        held = held_out(valid, m, np.random.default_rng(0), groups=labels[:m])
        assert valid <= held.sum() < m


def test_a_search_of_the_number_of_centers(cli):
    done = cli(
        "dataset=synthetic1", "dataset.n_train=2000", "solver=exact", "validation=0.2",
        "solver.n_centers=600..1500", "hydra.sweeper.trials=3", "dry_run=true", module="kernelexp.search",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "a search: 3 trials on 1,600 points" in done.out


def test_balanced_sizes_are_multiples():
    assert all(
        int(r.overrides[0].split("=")[1]) % 10 == 0 for r in rungs(9997, 10, 0.1, 9, 10)[:-1]
    )


def test_the_same_scores_give_the_same_trials_and_none_twice():
    def asked(scale):
        trials = Trials(space(*SPACE), 3, [{"kernel": "gaussian", "kernel.bandwidth": 5.0}], 4)
        found = []
        for _ in range(5):
            batch = trials.ask(4)
            for p in batch:
                trials.tell(p, scale * float(p.overrides[1].split("=")[1]))
            found += [p.overrides for p in batch]
        return found

    first = asked(1.0)
    assert first[0] == ("kernel=gaussian", "kernel.bandwidth=5")
    assert first == asked(1.0)
    assert first != asked(-1.0)
    assert len(set(first)) == 20
    assert np.mean([float(o[1].split("=")[1]) for o in first[8:]]) > 5  # it has learned


def test_a_kernel_with_few_points_does_not_end_a_search():
    found = space("kernel=laplacian,relu_ntk", "kernel.bandwidth=log:1..100", "kernel.depth=1..3")
    trials = Trials(found, 0, [], at_random=2)
    asked = []
    for _ in range(10):
        [batch] = trials.ask(1)
        asked.append(batch.overrides)
        trials.tell(batch, float(batch.overrides[0] == "kernel=relu_ntk"))  # which is liked best
    assert len(set(asked)) == 10
    narrow = Trials(space("kernel.bandwidth=1..1.001"), 0, [], at_random=2)
    assert 1 <= len(narrow.ask(9)) < 9  # four digits tell no more of them apart


def test_who_is_behind_half_of_the_others_ends():
    done = [
        Outcome({}, [0.1, 0.5, 0.9]),
        Outcome({}, [0.3, 0.4]),
        Outcome({}, [0.2, 0.2], "pruned"),
    ]
    assert bounds(done[:1]) == []  # one is no crowd
    assert bounds(done) == pytest.approx([0.2, 0.45, 0.65])

    class Setup:
        max_epochs = 9

    pruner = Pruner(bounds(done))
    pruner.prepared(Setup)
    pruner.epoch(1, {"epoch_valid_accuracy": 0.0})  # too early to tell
    pruner.epoch(2, {"epoch_valid_accuracy": 0.45})
    pruner.epoch(3, {"epoch_valid_accuracy": 0.7})
    pruner.epoch(4, {"epoch_valid_accuracy": 0.1})  # its best so far counts
    assert pruner.curve == [0.0, 0.45, 0.7, 0.7]
    pruner.epoch(1, {"epoch_valid_accuracy": 0.2})  # it diverged, and began again
    with pytest.raises(Pruned, match="after epoch 2: 0.3, half of the others have 0.45"):
        pruner.epoch(2, {"epoch_valid_accuracy": 0.3})
    last = Pruner(bounds(done))
    Setup.max_epochs = 2
    last.prepared(Setup)
    last.epoch(2, {"epoch_valid_accuracy": 0.0})  # it is done anyway


def test_epochs_are_compared_with_those_of_the_same_solver(monkeypatch):
    """A solver that solves at once has its end in its first epoch."""
    at_once, slow = Outcome({}, [0.9]), Outcome({}, [0.5, 0.7])
    found = [(Proposal((f"solver={name}", f"a={i}"), None), outcome) for i in range(2)
             for name, outcome in (("exact", at_once), ("sgd", slow))]  # fmt: skip
    told = run._told(Proposal(("solver=sgd", "a=9"), None), Rung(1000, 9, ()), found)
    assert told == "trial={partial:false,bounds:[0.5,0.7]}"
    assert "bounds:[]" in run._told(Proposal(("solver=cg",), None), Rung(1000, 9, ()), found)


def test_equal_scores_are_in_the_order_of_errors():
    """Of few held-out points many have one accuracy."""
    found = [
        (mse, Outcome({"valid_accuracy": 0.9, "valid_mse": mse}, [])) for mse in (0.3, 0.1, 0.2)
    ]
    assert run._best(found) == [0.1, 0.2, 0.3]


def test_a_password_is_not_in_the_name_of_a_search(monkeypatch, workdir):
    names = []

    def create_run(client, begin):
        names.append(begin.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "create_run", create_run)
    config = TrackingConfig(uri=f"sqlite:///{workdir}/mlflow.db", experiment="search")
    with pytest.raises(KeyboardInterrupt):
        sweep.start_parent(config, "search tracking.uri=postgresql://me:secret@host/x", 1, [])
    assert names == ["search tracking.uri=postgresql://me:***@host/x"]


def trained(found):
    return [run for run in found if "sweep.jobs" not in run.data.tags]


def test_a_search(cli, runs, client):
    done = cli(*DIGITS, *SPACE, "--trials", "9", module="kernelexp.search")
    assert done.code == 0, done.err
    [parent] = [run for run in runs("search") if "sweep.jobs" in run.data.tags]
    jobs = trained(runs("search"))
    # 1,437 digits, of which 287 are held out: a third would be too few, so all trials have all.
    assert len(jobs) == 9 == int(parent.data.tags["sweep.jobs"])
    pruned = [run for run in jobs if "search.pruned" in run.data.tags]
    assert {run.info.status for run in pruned} == {"KILLED"}
    finished = [run for run in jobs if run.info.status == "FINISHED"]
    assert len(finished) == 9 - len(pruned)
    best = max(finished, key=lambda run: run.data.metrics["valid_accuracy"])
    assert parent.info.status == "FINISHED"
    assert best.data.metrics["valid_accuracy"] == parent.data.metrics["best_valid_accuracy"]
    named = done.out.split("best ")[-1].split(", valid")[0]
    [chosen] = [run for run in finished if run.info.run_name == named]
    assert chosen.data.metrics["valid_accuracy"] == best.data.metrics["valid_accuracy"]
    # The first two have the median distance of the data.
    first = {run.info.run_name for run in jobs[:2]}
    assert {name.split(",")[0] for name in first} == {"kernel=laplacian", "kernel=gaussian"}
    again = cli(*DIGITS, *SPACE, "--trials", "9", module="kernelexp.search")
    assert again.out.count("skipped") == len(finished)
    more = trained(runs("search"))[9:]
    assert {run.info.run_name for run in more} == {run.info.run_name for run in pruned}
    assert all("search.pruned" in run.data.tags for run in more)


def test_few_points_first(cli, runs):
    data = ("dataset=synthetic1", "dataset.n_train=2000", "dataset.n_test=50", "solver=exact")
    done = cli(*data, "kernel.bandwidth=log:1..9", "validation=0.2", "--trials", "4", module="kernelexp.search")  # fmt: skip
    assert done.code == 0, done.err
    jobs = trained(runs("search"))
    sizes = [int(run.data.params["derived.n_train"]) for run in jobs]
    assert sizes == [533] * 4 + [1600]
    assert [("search.partial" in run.data.tags) for run in jobs] == [True] * 4 + [False]
    assert {int(run.data.params["validation"].split(".")[-1]) for run in jobs[:4]} == {400}
    assert jobs[-1].data.params["validation"] == "0.2"
    [parent] = [run for run in runs("search") if "sweep.jobs" in run.data.tags]
    assert jobs[-1].info.run_id in parent.data.tags["sweep.best"]
    # A plain sweep over one of the smaller runs finds it, and it is a partial one no longer.
    from mlflow import MlflowClient

    from kernelexp.loading import _best

    assert _best(MlflowClient(), "search").info.run_id == jobs[-1].info.run_id


def test_a_search_that_was_interrupted_goes_on(cli, runs, monkeypatch):
    command = (
        "dataset=digits",
        "dataset.n_train=300",
        "dataset.n_test=50",
        "solver=exact",
        *SPACE,
        "--trials",
        "6",
    )
    whole = cli(*command, "tracking.experiment=whole", module="kernelexp.search")
    real, count = experiment.run, iter(range(100))

    def stopped(*arguments):
        if next(count) == 3:
            raise interrupts.Interrupted(15)
        return real(*arguments)

    monkeypatch.setattr(experiment, "run", stopped)
    assert cli(*command, module="kernelexp.search").code == 143
    assert [run.info.status for run in trained(runs("search"))] == ["FINISHED"] * 3 + ["KILLED"]
    monkeypatch.setattr(experiment, "run", real)
    done = cli(*command, module="kernelexp.search")
    assert done.out.count("skipped") == 3
    assert "6 of 6 jobs finished, 3 of them before" in done.out
    assert done.out.split("best ")[-1].split(";")[0] == whole.out.split("best ")[-1].split(";")[0]
    names = [{run.info.run_name for run in trained(runs(e))} for e in ("whole", "search")]
    assert names[0] == names[1]


def test_workers_try_what_one_process_tries(shell, runs):
    command = (
        "python -m kernelexp.search dataset=digits dataset.n_train=300 dataset.n_test=50 solver=exact "
        "kernel=laplacian,gaussian kernel.bandwidth=log:0.5..20 --trials 6"
    )
    done = [shell(command), shell(f"{command} launcher=processes tracking.experiment=workers")]
    assert [d.code for d in done] == [0, 0], done[1].err
    names = [{run.info.run_name for run in trained(runs(e))} for e in ("search", "workers")]
    assert names[0] == names[1]
    assert len(names[0]) == 6


def test_a_search_never_looks_at_test_points(cli, runs, workdir):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(260, 4)).astype("float32")
    y = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int)
    for name, test in (("a", y[200:]), ("b", 1 - y[200:])):
        np.savez(f"{name}.npz", x_train=X[:200], y_train=y[:200], x_test=X[200:], y_test=test)
        command = (
            "dataset=npz",
            f"dataset.path={name}.npz",
            *SPACE,
            "solver.epochs=4",
            "--trials",
            "8",
        )
        assert cli(*command, f"tracking.experiment={name}", module="kernelexp.search").code == 0
    a, b = (trained(runs(name)) for name in "ab")
    assert [run.info.run_name for run in a] == [run.info.run_name for run in b]
    assert [run.info.status for run in a] == [run.info.status for run in b]
    keys = ("valid_accuracy", "train_mse", "rkhs_norm")
    of = [[[run.data.metrics.get(k) for k in keys] for run in found] for found in (a, b)]
    assert of[0] == of[1]
    best = [
        run.data.metrics["best_valid_accuracy"]
        for e in "ab"
        for run in runs(e)
        if "sweep.jobs" in run.data.tags
    ]
    assert best[0] == best[1]


def test_a_trial_that_fails_is_named_and_the_rest_goes_on(cli, runs, monkeypatch):
    real = experiment.run

    def failing(config, *rest):
        if config.kernel.name == "gaussian":
            raise ValueError("kernel: not today")
        return real(config, *rest)

    monkeypatch.setattr(experiment, "run", failing)
    command = ("dataset=digits", "dataset.n_train=300", "dataset.n_test=50", "solver=exact", *SPACE)
    done = cli(*command, "--trials", "6", module="kernelexp.search")
    jobs = trained(runs("search"))
    failed = [run for run in jobs if run.info.status == "FAILED"]
    assert 0 < len(failed) < len(jobs) == 6
    assert done.err.count("not today") == len(failed)
    assert f"{6 - len(failed)} of 6 jobs finished" in done.out + done.err


def test_a_dry_run_shows_the_ends_and_the_sizes(cli, runs):
    done = cli(*DIGITS, *SPACE, "dry_run=true", "--trials", "12", module="kernelexp.search")
    assert done.code == 0
    assert "a search: 12 trials on 1,150 points" in done.out
    assert "kernel=gaussian,kernel.bandwidth=20" in done.out
    assert runs("search") == []


def test_points_that_mostly_coincide_suggest_no_bandwidth(cli, runs, workdir):
    rows = ["a,const,y"] + [f"{1 if i < 30 else i},5,{'uv'[i % 2]}" for i in range(40)]
    (workdir / "odd.csv").write_text("\n".join(rows))
    data = (
        "dataset=table",
        "dataset.path=odd.csv",
        "dataset.target=y",
        "solver=exact",
        "solver.ridge=1e-3",
    )
    done = cli(*data, "kernel.bandwidth=log:0.1..10", "--trials", "3", module="kernelexp.search")
    assert done.code == 0, done.err
    assert [run.info.status for run in trained(runs("search"))] == ["FINISHED"] * 3
