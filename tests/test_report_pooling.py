"""Runs of different settings are never one point of a figure, nor one line: it keeps those like the newest, and says so."""

import pandas as pd
import pytest
import report_store
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from kernelexp.report import paper_claims, safe, style
from kernelexp.report.figures import discover
from kernelexp.report.frames import EARLY, Data, here, of_all_seeds
from kernelexp.report.making import _choose
from kernelexp.report.store import Store

# Figures whose axis or rows are bandwidths, or of one run.
OWN = {"bandwidth", "kernels", "features", "confusion", "confused_pairs", "residuals", "search", "ridge_path", "preconditioners"}  # fmt: skip
DRAWN = sorted(
    {preset.__name__ for preset in report_store.PRESETS} - OWN - {"grokking", "subspace"}
)


def changed(job, **params):
    return {
        **job,
        "params": {**job["params"], **{k.replace("__", "."): v for k, v in params.items()}},
    }


@pytest.fixture
def tabled(workdir, client):
    """The table of a figure from jobs that are recorded in its experiment, and what was said."""

    def make(name, jobs):
        report_store.sweep(client, name, list(jobs))
        store, figure = Store(f"sqlite:///{workdir}/mlflow.db"), discover()[name]
        data = Data(store.runs(name).frame)
        _choose(figure, data)
        if figure.history:
            data.history = store.history(data.runs["run"], figure.history)
        return figure, figure.table(data), data.notes

    return make


def assert_a_run_a_seed(table):
    own = here(table)
    assert (own["runs"].str.split().str.len() <= own["seeds"]).all()


@pytest.mark.parametrize("name", DRAWN)
def test_two_bandwidths(tabled, name):
    jobs = list(getattr(report_store, name)())
    twice = [changed(job, kernel__bandwidth=s) for s in (2.0, 3.0) for job in jobs]
    figure, table, notes = tabled(name, twice)
    assert any("of another bandwidth than the newest" in note for note in notes)
    assert_a_run_a_seed(table)
    canvas = Canvas(figsize=(8, 5))
    FigureCanvasAgg(canvas)
    figure.draw(safe.labels(table), canvas)
    for ax in canvas.axes:
        for line in ax.lines:
            x = pd.Series(line.get_xdata())
            assert not x.duplicated().any() or x.nunique() <= 1 or len(x) == 2
    assert all("nan" not in fact for fact in figure.facts(table))


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("rfm_low_rank", {"kernel__name": "laplacian"}, {"kernel__name": "gaussian"}),
        ("rkhs_norm", {"solver__name": "eigenpro2"}, {"solver__name": "sgd"}),
        ("label_noise", {"solver__name": "eigenpro2"}, {"solver__name": "sgd"}),
        ("overfitting", {"solver__name": "exact"}, {"solver__name": "cg"}),
        ("learning_curves", {"solver__name": "exact"}, {"solver__name": "cg"}),
        ("batch_size", {"solver__q": 20}, {"solver__q": 80}),
        ("batch_size", {"solver__stop__train_mse": 1e-2}, {"solver__stop__train_mse": 1e-3}),
        ("centers", {"dataset__n_train": 500}, {"dataset__n_train": 5000}),
        ("tables", {"dataset__n_train": 500}, {"dataset__n_train": 400}),
        ("tables", {"solver__name": "exact"}, {"solver__name": "cg"}),
        ("subspace", {"solver__name": "exact"}, {"solver__name": "ridge_path"}),
    ],
    ids=str,
)  # fmt: skip
def test_two_settings(tabled, name, first, second):
    jobs = list(getattr(report_store, name)())
    if name in ("rkhs_norm", "label_noise"):
        jobs = [job for job in jobs if job["params"]["solver.name"] == "eigenpro2"]
    if "solver__q" in first:
        jobs = [job for job in jobs if job["metrics"]["q"] > 0]
    _, table, notes = tabled(name, [changed(job, **own) for own in (first, second) for job in jobs])
    assert any("than the newest" in note for note in notes)
    assert_a_run_a_seed(table)
    if name in ("centers", "tables"):
        assert here(table).groupby("dataset")["n"].nunique().eq(1).all()


def test_the_median_of_each_seed_is_one_setting(tabled):
    """It differs by the draw, and with the number of points: neither makes another point of it."""
    jobs = [
        changed(report_store.norm(n, 0.0, "exact", seed=seed), kernel__bandwidth="median",
                derived={"derived.bandwidth": 5 + seed / 10 + n / 1e5})
        for n in (500, 1000) for seed in range(3)
    ]  # fmt: skip
    _, table, notes = tabled("rkhs_norm", jobs)
    assert not any("bandwidth" in note for note in notes)
    assert here(table)[["n", "seeds"]].to_numpy().tolist() == [[500, 3], [1000, 3]]


def test_a_mean_is_of_the_epochs_that_all_seeds_have(tabled):
    """Where time is up, the faster seed has more of them."""
    jobs = [
        {"params": {"solver.ridge": 1e-3, "seed": seed}, "metrics": {"relative_residual": 0.1},
         "history": {"epoch_test_accuracy": [0.8 + 0.02 * e for e in range(epochs)], "epoch_seconds": [10.0 / epochs] * epochs}}
        for seed, epochs in enumerate((3, 6))
    ]  # fmt: skip
    for name in ("krr_testbed", "solvers"):
        _, table, _ = tabled(name, jobs)
        assert table["epoch"].tolist() == [1, 2, 3]
        assert table["seeds"].tolist() == [2, 2, 2]


@pytest.mark.parametrize("name", ["interpolation", "rfm_low_rank"])
def test_a_figure_by_epoch_ends_where_the_first_seed_does(tabled, name):
    [one, *_] = getattr(report_store, name)()
    jobs = []
    for seed, epochs in enumerate((3, 6)):
        history = {key: [0.5 / (1 + e) for e in range(epochs)] for key in one["history"]}
        jobs.append({**changed(one, seed=seed), "history": history})
    _, table, _ = tabled(name, jobs)
    assert here(table)["epoch"].tolist() == [1, 2, 3]
    assert here(table)["seeds"].tolist() == [2, 2, 2]


def test_each_data_set_keeps_the_solver_of_its_newest_runs(tabled):
    jobs = list(report_store.tables())
    sets = sorted({job["params"]["dataset.name"] for job in jobs})
    _, table, _ = tabled(
        "tables",
        [
            changed(j, solver__name="exact" if j["params"]["dataset.name"] == sets[0] else "cg")
            for j in jobs
        ],
    )
    assert sorted(set(here(table)["dataset"])) == sets


def test_of_one_group_too():
    epochs = pd.DataFrame({"run": ["a", "a", "b", "b", "b"], "epoch": [1, 2, 1, 2, 3]})
    assert of_all_seeds(epochs, [])["epoch"].tolist() == [1, 2, 1, 2]


def test_what_never_got_there_is_no_witness_of_a_claim(tabled):
    def job(noise, epochs, stopped_by, **more):
        params = {"dataset.name": "mnist", "dataset.n_train": 60000, "kernel.name": "gaussian", "noise": noise,
                  "solver.stop.train_error": 0.0, **more}  # fmt: skip
        return {"params": params, "metrics": {"epochs": epochs}, "stopped_by": stopped_by}

    figure, table, _notes = tabled(
        "random_labels", [job(1.0, 900, "epochs"), job(0.0, 20, "train_error")]
    )
    judged = paper_claims.claims(figure, table).query("within != ''")
    assert judged["claim"].str.contains("true").all()
    assert len(judged) == 1
    with pytest.raises(ValueError, match="no run is left"):
        tabled(
            "random_labels",
            [job(0.0, 20, "train_error", **{"solver.stop.train_error": 0.1, "dataset.n_train": 1})],
        )
    early = [changed(one, solver__stop__train_error=0.0) for one in report_store.label_noise()]
    early = [
        {**one, "stopped_by": "epochs"} for one in early if one["params"]["solver.name"] != "exact"
    ]
    figure, table, _ = tabled("label_noise", early)
    assert (here(table)["stop"] == EARLY).any()
    assert (paper_claims.claims(figure, table)["within"] == "").all()


def test_data_sets_of_one_name_are_not_one(tabled):
    def job(number, seed):
        params = {"dataset.name": "openml", "dataset.id": number, "seed": seed}
        scores = {
            "test_accuracy": 0.5 + 0.1 * (number == 31),
            "train_accuracy": 1.0,
            "epochs": 3,
            "train_mse": 1e-4,
        }
        return {"params": params, "metrics": {**scores, "m_star": 3.0, "rkhs_norm": 2.0}}

    jobs = [job(61, 0), job(61, 1), job(31, 0), job(31, 1)]
    _, table, notes = tabled("kernels", jobs)
    assert here(table)["test_accuracy_percent"].tolist() == [60.0]
    assert any("of another dataset.id than the newest" in note for note in notes)


def test_papers_without_noise_judge_no_runs_with_it(tabled):
    noisy = [changed(job, noise=0.2) for job in report_store.convergence()]
    _, table, _ = tabled("convergence", [*report_store.convergence(), *noisy])
    assert (table["source"] == "here").all()
    _, table, _ = tabled("rkhs_norm", list(report_store.rkhs_norm()))
    own, flips = (
        here(table),
        [changed(job, label_noise__name="flip") for job in report_store.rkhs_norm()],
    )
    _, table, notes = tabled("rkhs_norm", [*report_store.rkhs_norm(), *flips])
    assert here(table)["rkhs_norm"].tolist() == own["rkhs_norm"].tolist()
    assert any("with other than uniform label noise" in note for note in notes)


@pytest.mark.parametrize(
    ("true", "random", "said"),
    [
        ("train_error", "train_error", "2 to 300 epochs, 150 times as many."),
        ("train_error", "epochs", "2 to 300 epochs, more than 150 times as many."),
        ("epochs", "train_error", None),
    ],
)
def test_how_many_times_is_said_where_it_is_known(tabled, true, random, said):
    def job(noise, epochs, stopped_by):
        params = {"dataset.name": "mnist", "noise": noise, "solver.stop.train_error": 0.0}
        return {"params": params, "metrics": {"epochs": epochs}, "stopped_by": stopped_by}

    figure, table, _ = tabled("random_labels", [job(0.0, 2, true), job(1.0, 300, random)])
    own = [fact for fact in figure.facts(table) if fact.startswith("laplacian:")]
    assert own == ([f"laplacian: {said}"] if said else [])


def test_means_that_rounding_puts_outside_are_drawn():
    assert style.bars(0.1 + 0.2, 0.3, 0.3) == [[pytest.approx(0, abs=1e-15)], [0.0]]
    score = 96.7
    mean = sum([score] * 3) / 3
    Canvas().subplots().errorbar(mean, 0, xerr=style.bars(mean, score, score))


def test_a_name_is_one_label_in_all_columns():
    long = [
        "a class of which much is to be said, first",
        "a class of which more is to be said, first",
    ]
    table = pd.DataFrame({"true": long, "predicted": [long[1], long[1]]})
    shown = safe.labels(table)
    assert shown["true"].nunique() == 2
    assert shown["predicted"].tolist() == [shown["true"][1]] * 2
    assert safe.csv(pd.DataFrame({"=1+1": ["x"]})).splitlines()[0] == "'=1+1"
