"""Claims of papers beside what came out: matched at equal settings, never at others."""

import math

import pandas as pd
import pytest
import report_store as made

from kernelexp.report.build import build
from kernelexp.report.figures import Claim, Figure, discover
from kernelexp.report.options import Options
from kernelexp.report.paper_claims import claims, readable, verdict

PAPER = {"source": "Somebody 2020", "read": "table"}


def figure(**more):
    return Figure("A figure", "", (), (), table=None, draw=None, **more)


def table():
    """Two points of a paper are run here, one of them badly; of the third another n."""
    own = [
        ("mnist", 500, "overfitted", 1.0, 2.1, 0.1),
        ("mnist", 500, "interpolated", 1.0, 2.6, math.nan),
        ("mnist", 1000, "overfitted", math.nan, 3.0, 0.1),
        ("mnist", 4000, "overfitted", 2.0, 9.0, 0.1),
    ]
    columns = ["dataset", "n", "stop", "epoch", "norm", "norm_sd"]
    ours = pd.DataFrame(own, columns=columns).assign(seeds=2, runs="ab cd", source="here")
    theirs = [("mnist", 500, 1.0, 2.0), ("mnist", 1000, math.nan, 2.0), ("mnist", 2000, 2.0, 4.0)]
    points = pd.DataFrame(theirs, columns=["dataset", "n", "epoch", "norm"]).assign(**PAPER)
    return pd.concat([ours, points], ignore_index=True)


def test_matched_by_what_the_paper_says():
    found = claims(figure(claim=Claim("norm", 0.1)), table())
    by_name = found.set_index("claim")
    assert by_name["within"].to_dict() == {
        "mnist, n 500, epoch 1, overfitted": "yes",
        "mnist, n 500, epoch 1, interpolated": "no",
        "mnist, n 1,000, overfitted": "no",
        "mnist, n 2,000, epoch 2": "",
    }
    assert by_name.loc["mnist, n 500, epoch 1, overfitted", "deviation"] == pytest.approx(0.05)
    assert verdict(found) == (
        "1 of 3 values within the tolerance; 1 of the papers' points have no run at their settings."
    )
    header, rows = readable(found)
    assert [row[header.index("deviation")] for row in rows] == ["+50.0%", "+30.0%", "+5.0%"]


def test_a_tolerance_may_be_of_the_difference_and_is_met_by_itself():
    found = claims(figure(claim=Claim("norm", 0.6, absolute=True)), table())
    assert found["within"].tolist() == ["yes", "yes", "no", ""]
    assert found["deviation"].tolist()[:3] == pytest.approx([0.1, 0.6, 1.0])
    header, rows = readable(found)
    assert rows[-1][header.index("deviation")] == "+0.10"
    assert rows[-1][header.index("tolerance")] == "0.6"


def test_runs_of_another_bandwidth_solver_or_noise_are_not_of_the_paper(client, workdir):
    """Where the paper says what its kernel was, and where its labels were drawn uniformly."""

    def job(bandwidth, noise, epochs, solver="eigenpro2", kind="uniform"):
        return {
            "params": {
                "dataset.name": "mnist", "dataset.n_train": 60000, "kernel.name": "gaussian", "kernel.bandwidth": bandwidth,
                "solver.name": solver, "noise": noise, "label_noise.name": kind,
                "solver.stop.train_error": 0.0,
            },
            "metrics": {"epochs": epochs, "test_accuracy": 0.9},
            "stopped_by": "train_error",
        }  # fmt: skip

    jobs = [
        job(5.0, 1.0, 500, "sgd"),
        job(5.0, 1.0, 2000, kind="flip"),
        job(50.0, 1.0, 873),
        job(5.0, 1.0, 900),
    ]
    made.sweep(client, "random_labels", jobs)
    out = workdir / "reports"
    build(Options(store=f"sqlite:///{workdir}/mlflow.db", out=out, dpi=40))
    found = pd.read_csv(out / "claims.csv")
    tried = found[found["within"].notna()]
    assert tried["here"].tolist() == [900]


def test_no_claim_no_rows():
    assert claims(figure(), table()).empty
    only_ours = table()[table()["source"] == "here"]
    assert claims(figure(claim=Claim("norm", 0.1)), only_ours).empty


def test_claims_name_columns_of_the_papers_points():
    named = {name: own.claim for name, own in discover().items() if own.claim is not None}
    from kernelexp.report import paper

    assert named
    for name, claim in named.items():
        assert claim.value in paper.points(name)
        assert 0 < claim.tolerance <= (3 if claim.absolute else 0.5)


def test_on_the_page(client, workdir):
    """A run at a paper's settings, and one at others."""

    def job(n, norm):
        return {
            "params": {
                "dataset.name": "mnist", "dataset.n_train": n, "kernel.name": "gaussian", "kernel.bandwidth": 5.0,
                "solver.name": "exact", "dtype": "float64",
            },
            "metrics": {"rkhs_norm": norm, "rkhs_norm_error": 0.0},
        }  # fmt: skip

    made.sweep(client, "rkhs_norm", [job(2000, 30.0), job(2500, 33.0)])
    out = workdir / "reports"
    build(Options(store=f"sqlite:///{workdir}/mlflow.db", out=out, dpi=40))
    found = pd.read_csv(out / "claims.csv")
    tried = found[found["within"].notna()]
    assert tried[["paper", "here", "within"]].to_numpy().tolist() == [[28, 30, "yes"]]
    assert len(found) > 20
    page = (out / "index.html").read_text()
    assert "1 of 1 value within the tolerance" in page
    assert "mnist, gaussian, bandwidth 5, noise 0, interpolated, n 2,000, d 784" in page
