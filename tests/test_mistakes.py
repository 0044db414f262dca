"""What a run gets wrong, from its outputs to the page; and two runs or commits side by side."""

import base64
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure as Canvas
from mlflow.artifacts import load_text
from report_store import record, sweep

from kernelexp.data import SOURCES, load
from kernelexp.experiment.mistakes import mistakes
from kernelexp.report.build import build
from kernelexp.report.figures.confusion import classes, draw
from kernelexp.report.options import Options
from kernelexp.report.side_by_side import side_by_side
from kernelexp.report.store import Store


def images(tmp_path, channels=()):
    rng = np.random.default_rng(0)
    shape = (4, 5, *channels)
    arrays = {
        f"x_{p}": rng.integers(0, 255, (n, *shape), dtype=np.uint8)
        for p, n in (("train", 30), ("test", 40))
    }
    labels = {f"y_{p}": np.arange(n) % 3 + 5 for p, n in (("train", 30), ("test", 40))}
    np.savez(tmp_path / "my.npz", **arrays, **labels)
    return arrays, load(SOURCES["npz"](path=str(tmp_path / "my.npz")), tmp_path)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_of_classes(tmp_path, channels):
    arrays, data = images(tmp_path, channels)
    outputs = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    found = mistakes(data, outputs)
    assert json.loads(json.dumps(found)) == found
    assert found["classes"] == ["5", "6", "7"]
    counts = np.zeros((3, 3), int)
    for true, predicted in zip(data.test.labels.tolist(), outputs.argmax(1).tolist(), strict=True):
        counts[true, predicted] += 1
    assert {(i, j): n for i, j, n in found["counts"]} == {
        ij: n for ij, n in np.ndenumerate(counts) if n
    }
    wrong = sorted((n for (i, j), n in np.ndenumerate(counts) if i != j), reverse=True)
    assert [pair["count"] for pair in found["pairs"]] == wrong[:6]
    pair = found["pairs"][0]
    rows = np.flatnonzero(
        (data.test.labels.numpy() == pair["true"])
        & (outputs.argmax(1).numpy() == pair["predicted"])
    )
    assert len(pair["images"]) == min(5, pair["count"])
    shown = np.frombuffer(base64.b64decode(pair["images"][0]), np.uint8).reshape(found["shape"])
    pixels = arrays["x_test"][rows[0]].astype(float)
    stretched = (pixels - pixels.min()) * 255 / (pixels.max() - pixels.min())
    assert abs(shown - stretched).max() <= 0.51


def test_of_targets_and_single_outputs(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5000, 2)), rng.normal(size=(5000, 2))
    np.savez(tmp_path / "my.npz", x_train=x[:50], y_train=y[:50], x_test=x, y_test=y)
    data = load(SOURCES["npz"](path=str(tmp_path / "my.npz")), tmp_path)
    found = mistakes(data, data.test.Y + 1)
    assert len(found["targets"]) == len(found["outputs"]) == 1667
    assert np.array(found["outputs"]) - np.array(found["targets"]) == pytest.approx(1, abs=1e-6)
    two = load(SOURCES["synthetic1"](n_train=50, n_test=60), tmp_path)
    found = mistakes(two, 1 - two.test.Y)
    assert sum(n for i, j, n in found["counts"] if i != j) == 60
    assert found["shape"] is None


def test_a_run_keeps_them_and_the_report_shows_them(cli, runs, workdir):
    pd.DataFrame({"a": np.arange(60), "kind": ["x", "y", "z"] * 20}).to_csv("my.csv", index=False)
    done = cli("dataset=table", "dataset.path=my.csv", "dataset.target=kind", "solver=exact")
    assert done.code == 0, done.err
    [run] = runs()
    found = json.loads(load_text(f"{run.info.artifact_uri}/test_mistakes.json"))
    assert found["classes"] == ["x", "y", "z"]
    right = sum(n for i, j, n in found["counts"] if i == j) / sum(n for *_, n in found["counts"])
    assert right == pytest.approx(run.data.metrics["test_accuracy"])
    done = cli(module="kernelexp.report")
    assert "1 figure, 1 run" in done.out, done.err
    page = Path("reports/index.html").read_text("utf-8")
    assert "Which class is taken for which" in page
    assert "precision" in page


def test_recall_and_precision(report_store, tmp_path):
    path, _ = report_store
    options = Options(
        ("confusion", "confused_pairs", "residuals"), f"sqlite:///{path}", out=tmp_path, log=False
    )
    report = build(options)
    assert report.notes == []
    table = classes(pd.read_csv(tmp_path / "confusion.csv")).set_index("class")
    assert table["points"].to_dict() == {"a": 30, "b": 10, "c": 5}
    assert table["recall"].to_dict() == {"a": 90, "b": 90, "c": 100}
    assert table["precision"].to_dict() == pytest.approx({"a": 100, "b": 75, "c": 500 / 6})
    assert table["taken for"].fillna("").to_dict() == {"a": "b", "b": "c", "c": ""}
    # The run that is better on held-out points, not the newer one.
    residuals = pd.read_csv(tmp_path / "residuals.csv")
    assert residuals["residual"].abs().to_list() == [0.5] * 20
    facts = {p.name: p.facts for p in report.pictures}
    assert "a is taken for b: 3 times, 10.0% of its points" in facts["confusion"][1]


def test_where_nothing_is_wrong_there_is_no_scale_and_the_table_is_whole(client, tmp_path):
    right = {"classes": ["a", "b"], "counts": [[0, 0, 30], [1, 1, 30]], "pairs": [], "shape": None}
    job = {"params": {}, "metrics": {"test_accuracy": 1.0}, "mistakes": right}
    sweep(client, "confusion", [job], tmp_path)
    options = Options(("confusion",), f"sqlite:///{tmp_path}/mlflow.db", out=tmp_path, log=False)
    [picture] = build(options).pictures
    [(header, rows)] = picture.extra
    assert header[:4] == ["class", "points", "recall", "precision"]
    assert [row[1:4] for row in rows] == [["30", "100", "100"]] * 2
    canvas = Canvas()
    draw(pd.read_csv(tmp_path / "confusion.csv"), canvas)
    assert len(canvas.axes) == 1  # a bar of colours would be one more
    assert "1 run of" in (tmp_path / "index.html").read_text("utf-8")


def test_runs_without_the_file_and_of_the_other_kind(report_store, tmp_path):
    path, _ = report_store
    options = Options(
        ("kernels", "residuals"),
        f"sqlite:///{path}",
        figures=("confusion",),
        out=tmp_path,
        log=False,
    )
    notes = build(options).notes
    assert any(
        "kernels-confusion: not drawn: run " in note and "has no test_mistakes.json" in note
        for note in notes
    )
    assert (
        "residuals-confusion: not drawn: no run has test_accuracy; these are runs of regression, and the figure is of classes"
        in notes
    )


@pytest.fixture
def two_commits(client, tmp_path):
    jobs = [
        {
            "params": {"seed": seed},
            "metrics": {"test_accuracy": 0.8 + seed / 100, "rkhs_norm": 20.0, "train_seconds": 4.0},
        }
        for seed in (0, 1)
    ]
    parent = sweep(client, "mine", jobs)
    number = client.get_run(parent).info.experiment_id
    later = {"test_accuracy": 0.85, "rkhs_norm": 20.0, "train_seconds": 2.0}
    runs = [
        record(client, number, parent, params=params, metrics=later)
        for params in ({"seed": 0}, {"seed": 0, "noise": 0.1})
    ]
    for run in runs:
        client.set_tag(run, "git.commit", "abcdef0123")
    return Store(f"sqlite:///{tmp_path}/mlflow.db"), runs


def test_two_commits(two_commits, tmp_path):
    store, _ = two_commits
    found = side_by_side(store, "5e6f", "abcd")
    [(_, table)] = found.tables
    [row] = table.to_dict("records")  # of the one configuration that both have run
    assert (row["test_accuracy 5e6f"], row["test_accuracy abcd"]) == (0.8, 0.85)
    assert row["train_seconds ratio"] == 0.5
    assert found.notes == ["2 runs of configurations that one of the commits ran alone; left out"]
    options = Options(store=store.uri, compare=("5e6f", "abcd"), out=tmp_path / "out")
    assert build(options).text.splitlines()[0] == "Same settings"
    assert "Commits 5e6f and abcd" in (tmp_path / "out" / "compare.html").read_text("utf-8")
    assert len(pd.read_csv(tmp_path / "out" / "compare.csv")) == 1


def test_two_runs(two_commits):
    store, (first, second) = two_commits
    found = side_by_side(store, first[:8], second)
    (_, differ), (_, results) = found.tables
    assert differ.to_numpy().tolist() == [["noise", "0.0", "0.1"]]
    assert results.set_index("result").loc["rkhs_norm", "ratio"] == 1
    with pytest.raises(ValueError, match=f"both are run {first[:8]}"):
        side_by_side(store, first, first[:6])


def test_a_commit_is_not_compared_with_itself(two_commits):
    for pair in (("5e6f", "5e6f"), ("5e6f", "5e6fc4c")):
        with pytest.raises(ValueError, match=r"5e6f.*: both are commit 5e6fc4c; give two that"):
            side_by_side(two_commits[0], *pair)


def test_two_runs_without_a_difference_are_one_sentence(two_commits, client, tmp_path):
    store, (first, _) = two_commits
    run = client.get_run(first)
    parent, number = run.data.tags["mlflow.parentRunId"], run.info.experiment_id
    # A digest of its own: of runs with one digest the newest alone counts.
    metrics = {"test_accuracy": 0.85, "rkhs_norm": 20.0, "train_seconds": 2.0}
    other = record(client, number, parent, params={"seed": 0}, metrics=metrics)
    client.set_tag(other, "git.commit", "abcdef0123")
    client.set_tag(other, "config.digest", "of its own")
    options = Options(store=store.uri, compare=(first, other), out=tmp_path / "out")
    report = build(options)
    said = "the two runs have the same settings, seed, commit and device and the same results"
    assert report.notes == [said]
    assert report.text.splitlines()[0] == "What came out"
    assert "What differs" not in (tmp_path / "out" / "compare.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (
            ("nothing", "5e6f"),
            "--compare nothing: must be the start of a finished run's id, its name, or the start of a",
        ),
        (("ffff", "5e6f"), "--compare ffff: must be"),
        (("{first}", "5e6f"), "must be two runs or two commits, not one of each"),
        (("it's", "5e6f"), "--compare it's: must be"),
    ],
)
def test_what_can_not_be_compared(two_commits, pair, said):
    store, (first, _) = two_commits
    with pytest.raises(ValueError, match=said):
        side_by_side(store, *(text.format(first=first) for text in pair))
