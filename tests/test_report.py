"""The report: every figure from one small store, and what is said where something is missing."""

import contextlib
import math
import re
import sqlite3
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import report_store as made
from matplotlib.figure import Figure as Canvas

from kernelexp.report import frames, growth, paper, safe
from kernelexp.report.address import shown_store, without_password
from kernelexp.report.build import build
from kernelexp.report.comparison import comparison, readable
from kernelexp.report.figures import discover
from kernelexp.report.options import Options
from kernelexp.report.store import Store, typed

FIGURES = Path(paper.__file__).parent / "figures"
NAMES = sorted(path.stem for path in FIGURES.glob("*.py") if path.stem != "__init__")


@pytest.fixture(scope="module")
def built(report_store, tmp_path_factory):
    """All figures, built once: the report, its folder and the store."""
    out = tmp_path_factory.mktemp("reports")
    path, sweeps = report_store
    report = build(Options(store=f"sqlite:///{path}", out=out, dpi=40))
    return report, out, path, sweeps


@pytest.fixture
def table(built):
    return lambda name: pd.read_csv(built[1] / f"{name}.csv")


@pytest.fixture
def report(workdir, monkeypatch, capfd):
    """The command line in this process: exit code, stdout, lines of stderr."""

    def call(*arguments):
        from kernelexp.report.__main__ import main

        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["report", *arguments])
        try:
            code = main()
        except SystemExit as stop:
            code = stop.code
        out, err = capfd.readouterr()
        return code, out, [line for line in err.splitlines() if "kernelexp" in line]

    return call


def test_every_figure_is_built(built):
    report, out, _, _ = built
    assert report.notes == []
    assert sorted(p.name for p in report.pictures) == NAMES == sorted(discover())
    for name in NAMES:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        rows = pd.read_csv(out / f"{name}.csv")
        assert (rows["source"] == "here").any()
        assert rows.loc[rows["source"] == "here", "runs"].notna().all()


def test_pictures_are_kept_with_the_sweeps(built):
    from mlflow import MlflowClient

    _, _, path, sweeps = built
    client = MlflowClient(f"sqlite:///{path}")
    for name, parent in sweeps.items():
        assert [f.path for f in client.list_artifacts(parent, "figures")] == [f"figures/{name}.png"]


def test_page_needs_nothing_beside_it(built):
    report, out, _, _ = built
    page = (out / "index.html").read_text("utf-8")
    loads = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'>\s]*)|url\(([^)]*)\)|@import""", page)
    assert loads
    assert all(link.startswith(("data:", "#")) for link, _ in loads)
    assert "<script" not in page
    for picture in report.pictures:
        assert picture.title in page
        assert picture.runs[0] in page
    assert "5e6fc4c" in page
    assert made.DEVICE in page
    assert f"{report.runs} runs" in page


def test_norms_are_means_over_seeds(table):
    own = frames.here(table("rkhs_norm"))
    row = own[(own.n == 1000) & (own.noise == 0.1) & (own.stop == "interpolated")]
    values = [made.norm(1000, 0.1, "exact", seed=s)["metrics"]["rkhs_norm"] for s in (0, 1)]
    assert row.rkhs_norm.item() == pytest.approx(np.mean(values))
    assert row.rkhs_norm_sd.item() == pytest.approx(np.std(values, ddof=1))
    assert (row.rkhs_norm_min.item(), row.rkhs_norm_max.item()) == pytest.approx(tuple(values))
    assert row.seeds.item() == 2
    assert len(row.runs.item().split()) == 2


def test_growth_has_slopes_and_no_false_verdict(built, table):
    fits = frames.here(table("rkhs_norm_growth"))
    assert fits.slope.to_list() == pytest.approx([0.5, 0.5, 0.6, 0.6])
    assert fits.delta_aic.abs().max() < 1e-6  # three points on a power law prove nothing
    [picture] = [p for p in built[0].pictures if p.name == "rkhs_norm"]
    assert any("cannot tell the two laws apart" in fact for fact in picture.facts)
    assert any("in 6 of 6 comparisons" in fact for fact in picture.facts)


def test_growth_tells_the_laws_apart_where_they_differ():
    n = np.geomspace(10, 10_000, 8)
    fit = growth.fit(n, 3 * np.exp(0.5 * np.sqrt(n)), d=2)
    assert fit["B"] == pytest.approx(0.5)
    assert fit["delta_aic"] < -20
    power = growth.fit(n, 3 * n**0.7, d=2)
    assert (power["slope"], power["slope_se"]) == pytest.approx((0.7, 0), abs=1e-9)
    assert power["delta_aic"] > 20


def test_steps_and_knees(built, table):
    rows = table("batch_size")
    star = np.where(rows.adapted, 50, 4)
    # Losses fall geometrically, so that interpolating their logarithm is exact.
    assert rows.steps.to_numpy() == pytest.approx(300 * (1 + (star - 1) / rows.batch_size))
    assert rows.seconds.to_numpy() == pytest.approx(0.5 * rows.epochs_to_loss)
    [picture] = [p for p in built[0].pictures if p.name == "batch_size"]
    assert "laplacian, adapted kernel k_G: measured knee m = 50, analytic m* = 50." in picture.facts


def test_epochs_to_a_loss():
    epoch = pd.Series([1, 2, 3])
    assert frames.epochs_to(epoch, pd.Series([1.0, 0.1, 0.01]), 0.1**1.5) == pytest.approx(2.5)
    assert frames.epochs_to(epoch, pd.Series([1.0, 0.1, 0.01]), 2.0) == 1
    assert math.isnan(frames.epochs_to(epoch, pd.Series([1.0, 0.1, 0.01]), 1e-3))


def test_noisy_test_labels(table):
    rows = table("label_noise")
    own = frames.here(rows)
    half = own[(own.kernel == "laplacian") & (own.noise == 0.5)]
    assert half.clean_test_error_percent.to_list() == pytest.approx([20, 20])
    assert half.noisy_test_error_percent.to_list() == pytest.approx([45 + 10, 45 + 10])
    neighbour = own[(own.kernel == "nearest_neighbour") & (own.noise == 1)]
    assert neighbour.noisy_test_error_percent.item() == pytest.approx(90)
    assert len(frames.paper(rows)) == 20


def test_epochs_by_subsample(built, table):
    rows = table("nystrom_preconditioner")
    assert rows.epochs_to_loss.to_numpy() == pytest.approx(10 * (1 + rows.q / rows.s))
    [picture] = [p for p in built[0].pictures if p.name == "nystrom_preconditioner"]
    said = "q = 80: 18 epochs with s = 100, 11.6 with s = 500, at most 1.5 times as many as that from s = 200."
    assert said in picture.facts


def test_overfitting_says_what_n_does(built, table):
    assert len(table("overfitting")) == 16
    [picture] = [p for p in built[0].pictures if p.name == "overfitting"]
    assert "gaussian, interpolated, noise 1: test MSE 14.1 to 28.3, n = 50 to 200." in picture.facts


def test_how_far_a_prediction_is_off(built):
    [picture] = [p for p in built[0].pictures if p.name == "learning_curves"]
    said = "laplacian, interpolated: predicted +10.0% to +10.0% beside measured, 10.0% on average."
    assert said in picture.facts


def test_grokking_says_where_accuracy_rises_and_how_circulant_m_is(built, table):
    rows = table("grokking")
    M = rows[rows.part == "M"]
    assert M[[f"m{k}" for k in range(6)]].to_numpy() == pytest.approx(
        np.eye(6) + 0.5 * np.eye(6, k=3) + 0.5 * np.eye(6, k=-3), abs=1e-9
    )
    # Its block is half the identity: circulant, and spread over all of i + j.
    assert M[["circulant", "hankel", "chance"]].iloc[0].to_list() == pytest.approx(
        [1, 1 / 3, 1 / 3]
    )
    assert rows[rows.part == "rounds"].seeds.to_list() == [2] * 4
    [picture] = [p for p in built[0].pictures if p.name == "grokking"]
    said = "0% in the first, is above 5% from round 3 and above 95% from round 4, 100% in the last."
    assert any(said in fact for fact in picture.facts)


def test_a_run_that_never_got_there_is_marked(built, table):
    own = frames.here(table("random_labels"))
    assert own[(own.kernel == "gaussian") & (own.labels == "random")].reached.item() == 0
    [picture] = [p for p in built[0].pictures if p.name == "random_labels"]
    assert "gaussian: 12 to 300 epochs, more than 25 times as many." in picture.facts


def test_comparison_has_every_run(built, table):
    rows = table("comparison")
    assert sum(len(ids.split()) for ids in rows.runs) == built[0].runs
    seeds = rows[rows.experiment == "rkhs_norm"].seeds
    assert (seeds == 2).all()
    sizes = rows[rows.experiment == "batch_size"]
    assert sizes.also.str.contains("solver.batch_size=").all()


def test_runs_with_many_columns_are_compared_without_a_warning(report_store):
    store = Store(f"sqlite:///{report_store[0]}")
    runs = store.runs("rkhs_norm").frame
    wide = [pd.Series(i, runs.index, name=f"solver.option_{i}") for i in range(120)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.PerformanceWarning)
        table = comparison(pd.concat([runs, *wide], axis=1))
    assert table.equals(comparison(runs))


def test_papers_points_say_where_they_are_from():
    files = sorted(FIGURES.glob("*.csv"))
    assert files
    for path in files:
        assert path.read_text().startswith("#")
        assert paper.points(path.stem)[["source", "read"]].notna().all(axis=None)
    own = paper.points("rkhs_norm").set_index(["noise", "stop", "n"])["rkhs_norm"]
    assert own[0.1, "overfitted", 60_000] == 525


def test_of_equal_configurations_the_newest_finished_counts(client, report):
    job = made.norm(500, 0.0, "exact")
    more = made.norm(1000, 0.0, "exact")
    newer = {**job, "metrics": {**job["metrics"], "rkhs_norm": 77.0}}
    made.sweep(client, "rkhs_norm", [job, {**more, "status": "FAILED"}])
    parent = made.sweep(client, "rkhs_norm", [newer, {**newer, "status": "FAILED"}])
    code, _, err = report("rkhs_norm", "--no-log")
    assert code == 0
    assert err == ["kernelexp.report: rkhs_norm: 1 run failed or not finished; left out"]
    assert pd.read_csv("reports/rkhs_norm.csv").query("n == 500").rkhs_norm.to_list() == [77.0]
    assert client.list_artifacts(parent, "figures") == []


def test_what_is_missing_is_said_and_the_rest_built(client, report):
    norms = [made.norm(n, 0.0, "exact") for n in (500, 1000)]
    large = made.norm(4000, 0.0, "exact")
    large["params"]["scale"] = "paper"
    never = {**made.norm(500, 0.1, "eigenpro2"), "stopped_by": "epochs"}
    made.sweep(client, "rkhs_norm", [never, large, *norms])
    bare = [
        {"params": {"kernel.name": k}, "metrics": {"test_accuracy": 0.5}}
        for k in ("laplacian", "own")
    ]
    for name in ("kernels", "bandwidth", "mine"):
        made.sweep(client, name, bare)
    code, out, err = report("rkhs_norm", "kernels", "bandwidth", "mine", "nothing", "--no-log")
    assert code == 0
    assert out == "reports/index.html: 1 figure, 10 runs\n"
    said = [line.removeprefix("kernelexp.report: ") for line in err]
    assert said == [
        "nothing: no such experiment in this store, which has Default, bandwidth, kernels, mine, rkhs_norm",
        "rkhs_norm: 1 run of another scale than the newest (small of paper, small; --filter takes "
        "others); left out",
        'rkhs_norm: 1 run ended before zero training error, so not overfitted; marked "ended too early"',
        "kernels: not drawn: no run has m_star, train_mse",
        "bandwidth: not drawn: no run has rkhs_norm",
        "mine: no figure has this name, so its runs stand in the table alone; --figure NAME draws one "
        "from them",
    ]
    page = Path("reports/index.html").read_text("utf-8")
    assert "kernels: not drawn: no run has m_star, train_mse" in page


def test_runs_of_a_point_that_differ_are_named(client, report):
    jobs = [made.norm(500, 0.0, "exact") for _ in range(2)]
    jobs[1]["params"]["dtype"] = "float64"
    made.sweep(client, "rkhs_norm", jobs)
    code, _, err = report("--no-log")
    assert code == 0
    assert len(err) == 1
    assert "rkhs_norm: runs that differ in dtype share a point" in err[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--store sqlite:////.*/mlflow.db: no finished runs"),
        (["nothing"], "nothing: no such experiment in this store, which has Default"),
        (
            ["--store", "sqlite:///no.db"],
            "--store sqlite:///no.db: no such file; run an experiment first",
        ),
        (
            ["--store", "http://127.0.0.1:9"],
            "--store http://127.0.0.1:9: must be a store that opens .*",
        ),
        (["--filter", "no filter"], "--filter 'no filter': must be an MLflow filter .*"),
        (
            ["--parent", "123"],
            "--parent 123: no sweep with such a run id in this store, which has no sweeps",
        ),
        (["--figure", "pie"], "--figure pie: must be one of bandwidth, .*"),
        (["--parent", ""], "--parent: '': must not be empty.*"),
        (["--store", ""], "--store: '': must not be empty.*"),
        (["--out", ""], "--out: '': must not be empty.*"),
        (["--format", "gif"], "--format: invalid choice: 'gif' .*"),
        (["--bogus"], "unrecognized arguments: --bogus.*"),
        (["--out", "mlflow.db"], "--out mlflow.db: must be a folder; mlflow.db is a file"),
        (["--out", "mlflow.db/x"], "--out mlflow.db/x: must be a folder; mlflow.db is a file"),
        (
            ["--store", "mlflow.db"],
            "--store mlflow.db: must be an address, as sqlite:///mlflow.db or http://HOST:PORT",
        ),
        (["--store", "sqlite:///."], "--store sqlite:///.: is a folder"),
        (["--store", "foo://me:secret@x"], "--store foo://x: must be a store that opens .*"),
        (["--store", "foo://me:a/secret@x"], "--store foo://x: must be a store that opens .*"),
        (["--store", "sqlite:///mlflow.db?timeout=30"], "--store .*: no finished runs"),
        (
            ["nothing", "--no-log", "more"],
            "nothing: no such experiment in this store.*; more: no such experiment.*",
        ),
    ],
)
def test_nothing_to_report_is_one_line(report, workdir, arguments, message):
    code, out, err = report(*arguments)
    assert (code, out) == (2, "")
    assert len(err) == 1, err
    assert re.fullmatch(f"kernelexp.report: {message}", err[0])
    assert not (workdir / "no.db").exists()
    assert not (workdir / "reports").exists()


def test_a_real_sweep(cli, report, client, workdir):
    common = ["dataset.n_train=200", "tracking.log_model=false", "tracking.experiment=mine"]
    done = cli("--multirun", "noise=0,0.2", "solver.stop.train_error=0", *common)
    assert done.code == 0, done.err
    sweep = re.search(r"sweep (\w+)", done.out)[1]
    formats = ["--format", "svg", "--format", "pdf"]
    code, _, err = report("--parent", sweep[:6], "--figure", "rkhs_norm", *formats)
    assert (code, err) == (0, [])
    assert [f.path for f in client.list_artifacts(sweep, "figures")] == [
        "figures/mine-rkhs_norm.pdf",
        "figures/mine-rkhs_norm.svg",
    ]
    rows = pd.read_csv("reports/mine-rkhs_norm.csv")
    assert set(rows.stop) == {"overfitted"}
    assert rows.sort_values("noise").rkhs_norm.is_monotonic_increasing
    assert "data:image/svg+xml;base64," in Path("reports/index.html").read_text("utf-8")

    # A later sweep takes the two jobs over; they still are those of the first one, too.
    done = cli("--multirun", "noise=0,0.2,0.4", "solver.stop.train_error=0", *common)
    assert done.code == 0, done.err
    for parent, jobs in ((sweep, 2), (re.search(r"sweep (\w+)", done.out)[1], 3)):
        code, out, _ = report("--parent", parent, "--no-log")
        assert (code, out) == (0, f"reports/index.html: 2 figures, {jobs} runs\n")


def test_columns_are_typed():
    assert typed(pd.Series(["1", "None", "2.5"])).tolist()[::2] == [1.0, 2.5]
    assert typed(pd.Series(["True", "False"])).tolist() == [True, False]
    assert typed(pd.Series(["median", "5"])).tolist() == ["median", "5"]


def test_the_page_keeps_a_stores_password_and_folder_to_itself():
    assert shown_store("https://me:secret@host:5000/x") == "https://host:5000/x"
    assert shown_store("postgresql://me:a/secret@host:5432/x") == "postgresql://host:5432/x"
    assert shown_store("postgresql://me@there:secret@host/x") == "postgresql://host/x"
    assert shown_store("sqlite:////home/me/mlflow.db") == "sqlite:///mlflow.db"
    shown = without_password("postgresql://host/x?user=me&password=a/secret&sslmode=require")
    assert shown == "postgresql://host/x?user=me&password=***&sslmode=require"


def test_a_file_of_another_program_is_left_as_it_is(report, workdir):
    """MLflow would make its tables in any SQLite file that it opens."""
    for name, make, said in (
        ("other.db", "CREATE TABLE mine (x)", "a SQLite file of another program"),
        ("new.db", "", "an empty file; run an experiment first"),
    ):
        with contextlib.closing(sqlite3.connect(workdir / name)) as other:
            other.executescript(make)
        (workdir / name).touch()
        before = (workdir / name).read_bytes()
        code, _, err = report("--store", f"sqlite:///{name}")
        assert (code, err) == (2, [f"kernelexp.report: --store sqlite:///{name}: {said}"])
        assert (workdir / name).read_bytes() == before


def test_a_filter_that_matches_nothing_says_what_there_is(client, report):
    jobs = [made.norm(n, noise, "exact") for n in (500, 1000) for noise in (0.0, 0.1)]
    parent = made.sweep(client, "rkhs_norm", jobs)
    made.sweep(client, "mine", [made.norm(500, 0.0, "exact", seed=7)])

    def said(*arguments):
        code, _, err = report(*arguments)
        assert code == 2
        assert len(err) == 1, err
        return err[0].removeprefix("kernelexp.report: ")

    given = "--filter \"params.noise = '9'\": matches none of "
    found = ", where noise is '0.0', '0.1'"
    query = ["--filter", "params.noise = '9'"]
    assert said(*query) == f"{given}5 finished runs of Default, mine, rkhs_norm{found}"
    assert said("rkhs_norm", *query) == f"{given}4 finished runs of rkhs_norm{found}"
    assert said("--parent", parent, *query) == f"{given}4 finished runs of rkhs_norm{found}"
    line = said("--filter", "metrics.rkhs_norm > 1e9 and params.`dataset.color` = 'red'")
    assert line.endswith("rkhs_norm is 17.89, 20.39, 25.3, 33.3, 50.48; no run has dataset.color")
    # The report's short names, which no filter knows, and a part of a name.
    for name, meant in (
        ("kernel", "params.`kernel.name`, which is 'gaussian'"),
        ("d", "params.`derived.n_features`, which is 784"),
        ("n_train", "params.`dataset.n_train`, which is '1000', '500'"),
    ):
        line = said("--filter", f"params.{name} = 'x'")
        assert line.endswith(f", where no run has {name} (did you mean {meant}?)")
    # The one asked for as the other: MLflow refuses that, or finds nothing.
    metric = "rkhs_norm is a metric, metrics.rkhs_norm"
    line = said("--filter", "params.rkhs_norm > 3")
    assert line.startswith("--filter 'params.rkhs_norm > 3': must be an MLflow filter (")
    assert line.endswith(f"; {metric}")
    line = said("--filter", "params.rkhs_norm = '3'")
    assert line.endswith(f", where {metric}, and is 17.89, 20.39, 25.3, 33.3, 50.48")
    line = said("--filter", "metrics.noise > 3")
    assert line.endswith(", where noise is a parameter, params.`noise`, and is '0.0', '0.1'")
    assert said("--filter", "metrics.train_seconds > 1e9").endswith(", where train_seconds is 2")
    assert said("mine", "--parent", parent) == (
        f"--parent {parent[:8]}: no finished job of this sweep in mine"
    )
    assert f"{parent[:8]} (rkhs_norm)" in said("--parent", "zz")


def test_a_folder_that_can_not_be_written_is_known_before_anything_is_read(report, monkeypatch):
    def never(self, uri):
        raise AssertionError

    monkeypatch.setattr(Store, "__init__", never)
    monkeypatch.setattr("os.access", lambda place, mode: False)
    code, _, err = report("--out", "a/b")
    assert code == 2
    assert err == ["kernelexp.report: --out a/b: must be a folder that can be written; . can not"]


def test_names_reach_nothing_they_must_not(client, workdir, report):
    html, math_, long = "<script>alert(1)</script>", r"$\frac$", "x" * 200
    names = ["../../x", "=1+1", html, "a/b", "a?b"]
    for name in names:
        made.sweep(client, name, [made.norm(500, 0.0, "exact", dataset=html)])
    kernels = [math_, f"{long}1{long}", f"{long}2{long}", "_under", "=cmd", "+1", "\U0010fffd"]
    for name, job in (("kernels", next(made.kernels())), ("bandwidth", next(made.bandwidth()))):
        named = [
            {**job["params"], "kernel.name": kernel, "kernel.bandwidth": 1} for kernel in kernels
        ]
        made.sweep(client, name, [{**job, "params": params} for params in named])
    (workdir / "deep" / "er").mkdir(parents=True)
    before = {path for path in workdir.rglob("*") if path.is_file()}
    arguments = ["--no-log", "--out", "deep/er/out"]
    code, out, err = report(*names, "--figure", "rkhs_norm", *arguments)
    assert (code, err) == (0, [])
    assert out.startswith("deep/er/out/index.html: 5 figures")
    written = {path for path in workdir.rglob("*") if path.is_file()} - before
    assert {path.parent for path in written} == {workdir / "deep" / "er" / "out"}
    assert len([path for path in written if path.suffix == ".png"]) == 5
    page = Path("deep/er/out/index.html").read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page

    code, out, err = report("kernels", "bandwidth", *arguments)
    assert code == 0
    assert out == "deep/er/out/index.html: 2 figures, 14 runs\n", err
    assert [line.partition(": ")[2].partition(",")[0] for line in err] == [
        f"{name}: no font here has \U0010fffd" for name in ("kernels", "bandwidth")
    ]
    table = pd.read_csv("deep/er/out/bandwidth.csv")
    assert set(table.kernel) == {k if k != "=cmd" else "'=cmd" for k in kernels}
    page = Path("deep/er/out/index.html").read_text("utf-8")
    assert "<script" not in page


def test_cells_are_no_formulas_and_numbers_stay_numbers():
    table = pd.DataFrame(
        {"text": ["=1+1", "@x", "-2", "-x", "a"], "number": [-1.5, 2, 3, 4, np.nan]}
    )
    assert safe.csv(table).splitlines() == [
        "text,number", "'=1+1,-1.5", "'@x,2.0", "-2,3.0", "'-x,4.0", "a,",
    ]  # fmt: skip


def test_names_of_files_stay_different_and_short():
    names = [
        "../x",
        "..",
        "",
        "/x",
        "x",
        "a b",
        "a_b",
        "实验",
        "实" * 200,
        "实" * 201,
        ".hidden",
        "a\0b",
    ]
    found = [safe.file_name(name) for name in names]
    assert len(set(found)) == len(names)
    assert all(re.fullmatch(r"\w[\w.-]*", name) for name in found)
    assert all(len(name.encode()) < 140 for name in found)
    assert (found[4], found[6], found[7]) == ("x", "a_b", "实验")


def test_labels_that_are_shortened_stay_different():
    names = ["x" * 50 + end for end in "abc"] + [
        "x" * 15 + "y" * 30 + "x" * 9 + end for end in "abc"
    ]
    labels = safe.labels(pd.DataFrame({"kernel": names, "n": 1, "runs": "r" * 99}))
    assert labels.kernel.nunique() == 6
    assert labels.kernel.str.len().max() <= 30
    assert labels.runs.str.len().eq(99).all()


def test_runs_of_other_programs_change_nothing(client, report):
    made.sweep(client, "rkhs_norm", list(made.rkhs_norm()))
    assert report("--no-log")[0] == 0
    alone = pd.read_csv("reports/rkhs_norm.csv")
    made.foreign(client, "rkhs_norm")
    code, out, err = report("--no-log")
    assert code == 0
    assert out == "reports/index.html: 1 figure, 27 runs\n"
    assert [line.removeprefix("kernelexp.report: ") for line in err] == [
        "rkhs_norm: 2 runs failed or not finished; left out",
        "rkhs_norm: 3 runs without kernel; left out",
    ]
    assert len(re.findall(r">run \w{8}</td>", Path("reports/index.html").read_text("utf-8"))) == 3
    pd.testing.assert_frame_equal(pd.read_csv("reports/rkhs_norm.csv"), alone, check_dtype=False)


def test_infinity_comes_back_from_the_store(client, workdir):
    job = made.norm(500, 0.0, "exact")
    job["metrics"]["rkhs_norm_error"] = math.inf
    made.sweep(client, "rkhs_norm", [job])
    frame = Store(f"sqlite:///{workdir}/mlflow.db").runs("rkhs_norm").frame
    assert frame.rkhs_norm_error.item() == math.inf
    _, header, [row] = readable(comparison(frame))
    assert row[header.index("norm error")] == "?"
    report = build(Options(store=f"sqlite:///{workdir}/mlflow.db", log=False, dpi=40))
    assert "For 1 point it is not known how far the norm is off." in report.pictures[0].facts


def test_a_system_that_is_not_solved_is_never_silent(client, report):
    why = "K is singular: two equal rows with different labels"
    jobs = [made.norm(500, 0.0, "exact"), made.norm(1000, 0.0, "exact")]
    made.sweep(client, "rkhs_norm", [{**jobs[0], "warning": why}, jobs[1]])
    code, _, err = report("--no-log")
    assert code == 0
    sentence = f"1 run with a warning of the solver, marked \u2020 under All runs: {why}"
    assert err == [f"kernelexp.report: rkhs_norm: {sentence}"]
    page = Path("reports/index.html").read_text("utf-8")
    assert f"<li>{sentence}</li>" in page
    [row] = re.findall(r"<tr>\s*<td>\u2020</td>.*?</tr>", page, re.DOTALL)
    assert "<td>500</td>" in row
    assert why in row
    table = pd.read_csv("reports/comparison.csv", keep_default_na=False)
    assert table.sort_values("n").warning.to_list() == [why, ""]


def test_runs_that_ended_too_early_are_drawn_apart(client, report):
    early = {**made.norm(1000, 0.0, "eigenpro2"), "stopped_by": "epochs"}
    kept = [made.norm(n, 0.0, solver) for n in (500, 2000) for solver in made.STOPS]
    made.sweep(client, "rkhs_norm", [early, *kept])
    code, _, err = report("--no-log")
    assert code == 0
    assert err == [
        "kernelexp.report: rkhs_norm: 1 run ended before zero training error, so not overfitted; marked "
        '"ended too early"'
    ]
    rows = frames.here(pd.read_csv("reports/rkhs_norm.csv"))
    assert rows[rows.n == 1000].stop.to_list() == [frames.EARLY]
    fits = frames.here(pd.read_csv("reports/rkhs_norm_growth.csv"))
    assert sorted(fits.stop) == ["interpolated", "overfitted"]


def test_what_is_expected_does_not_say_what_came_out(client, report):
    for figure in discover().values():
        assert not re.search(r"\b(should|must)\b", figure.shows)
    jobs = [made.norm(n, noise, "exact") for n in (500, 1000, 2000) for noise in (0.0, 0.1)]
    for job in jobs:  # the norm falls with n and with noise
        job["metrics"]["rkhs_norm"] = 1 / job["metrics"]["rkhs_norm"]
    made.sweep(client, "rkhs_norm", jobs)
    assert report("--no-log")[0] == 0
    page = Path("reports/index.html").read_text("utf-8")
    picture, expected, here = (page.index(text) for text in ("<img", "Expected:", "Here:"))
    assert picture < expected < here
    assert here < page.index("The norm is larger with more noise in 0 of 3 comparisons at equal n.")
    assert "The norm grows with n in 0 of 2 series: exponents of n from -0.60 to -0.50." in page
    assert "show that the norm grows" not in page


def test_scores_come_first(built):
    path = built[2]
    table = comparison(Store(f"sqlite:///{path}").runs("rkhs_norm").frame)
    shared, header, rows = readable(table)
    assert header[:3] == ["test %", "norm", "norm error"]
    assert "kernel gaussian" in shared
    assert "kernel" not in header
    assert all(len(row) == len(header) for row in rows)


def test_interpolated_are_solutions_without_a_ridge_and_of_all_centers():
    runs = pd.DataFrame(
        {
            "solver": ["exact", "exact", "cg", "exact", "eigenpro2", "exact", "exact"],
            "solver.ridge": [0.0, 1e-3, 0.0, np.nan, 0.0, 0.0, 0.0],
            # Of the last but one a few rows repeat others, of the last centers are drawn.
            "p": [100, 100, np.nan, 50, np.nan, 97, 97],
            "solver.n_centers": [None, None, None, 50, None, None, None],
            "solver.centers": [None] * 5 + ["all", "kmeans"],
            "n": 100,
            "stopped_by": ["tolerance"] * 4 + ["train_error"] + ["tolerance"] * 2,
            "solver.stop.train_error": [np.nan] * 4 + [0.0] + [np.nan] * 2,
        }
    )
    data = frames.Data(runs)
    frames.with_stop(data)
    assert list(data.runs["stop"]) == ["interpolated", "interpolated", "overfitted", "interpolated"]
    assert list(data.runs.index) == [0, 2, 4, 5]
    assert data.notes[0].startswith("3 runs neither overfitted")


def test_seconds_to_the_best_error_of_any_solver(built):
    """Errors are 10% and 10% / 2^e more: the first within 1% of the best, 10%, is that of the seventh epoch."""
    near = pd.read_csv(built[1] / "krr_testbed_near.csv").set_index(["dataset", "solver"])
    for dataset in ("fmnist", "friedman1"):
        assert near.loc[dataset, "seconds"].to_dict() == {
            "askotch": 28.5,
            "eigenpro2": 7.5,
            "exact": 20.5,
        }
    assert near["best_percent"].to_list() == pytest.approx([10.0] * 6)
    assert near.loc[("fmnist", "askotch"), "residual"] == 1e-6
    assert pd.isna(near.loc[("fmnist", "eigenpro2"), "residual"])


def test_preconditioners_of_equal_iterations_do_not_cover_each_other(table):
    canvas = Canvas()
    discover()["preconditioners"].draw(table("preconditioners").assign(epochs=20), canvas)
    heights = [height for line in canvas.axes[0].lines for height in line.get_ydata()]
    assert len(heights) == len(set(heights)) == 16
    assert all(abs(height - round(height)) < 0.3 for height in heights)  # in their rows


def test_the_page_is_for_dark_narrow_and_wide_screens_too(built):
    report_, out, _, _ = built
    page = (out / "index.html").read_text("utf-8")
    assert "prefers-color-scheme: dark" in page
    assert "#runs .wide { position: relative" in page  # wider than the text, where there is room
    keys = [picture.name for picture in report_.pictures if picture.drawn.key]
    without = {"kernels", "tables", "confusion", "confused_pairs", "residuals", "features"}
    assert set(NAMES) - set(keys) == without
    assert page.count('class="key"') == len(keys)
