"""The report: every figure from one small store, and what is said where something is missing."""

import math
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import report_store as made

from kernelexp.report import frames, growth, paper
from kernelexp.report.build import Options, build
from kernelexp.report.figures import discover
from kernelexp.report.page import shown_store
from kernelexp.report.store import typed

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
        code = main()
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
    page = (out / "index.html").read_text()
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
    assert len(frames.paper(rows)) == 22


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
        "rkhs_norm: 1 run ended before zero training error, so not overfitted; marked \"ended too early\"",
        "kernels: not drawn: no run has m_star, train_mse",
        "bandwidth: not drawn: no run has rkhs_norm",
        "mine: no figure has this name, so its runs stand in the table alone; --figure NAME draws one "
        "from them",
    ]
    page = Path("reports/index.html").read_text()
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
    ],
)
def test_nothing_to_report_is_one_line(report, workdir, arguments, message):
    code, out, err = report(*arguments)
    assert (code, out) == (2, "")
    assert len(err) == 1
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
    assert "data:image/svg+xml;base64," in Path("reports/index.html").read_text()

    # A later sweep takes the two jobs over; they still are those of the first one, too.
    done = cli("--multirun", "noise=0,0.2,0.4", "solver.stop.train_error=0", *common)
    assert done.code == 0, done.err
    for parent, jobs in ((sweep, 2), (re.search(r"sweep (\w+)", done.out)[1], 3)):
        code, out, _ = report("--parent", parent, "--no-log")
        assert (code, out) == (0, f"reports/index.html: 0 figures, {jobs} runs\n")


def test_columns_are_typed():
    assert typed(pd.Series(["1", "None", "2.5"])).tolist()[::2] == [1.0, 2.5]
    assert typed(pd.Series(["True", "False"])).tolist() == [True, False]
    assert typed(pd.Series(["median", "5"])).tolist() == ["median", "5"]


def test_the_page_keeps_a_stores_password_and_folder_to_itself():
    assert shown_store("https://me:secret@host:5000/x") == "https://host:5000/x"
    assert shown_store("sqlite:////home/me/mlflow.db") == "sqlite:///mlflow.db"
