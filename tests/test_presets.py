"""Every preset: both scales expand to jobs that can run, and all of it runs end to end with few points."""

import os
from functools import cache

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from kernelexp import config
from kernelexp.report.build import build
from kernelexp.report.options import Options
from kernelexp.usage import CONF_DIR, describe

PRESETS = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))
# What the figure of a preset needs to be varied.
VARIED = {
    "kernels": {"dataset", "kernel"},
    "centers": {"dataset", "kernel", "solver", "solver.n_centers"},
    "batch_size": {"solver.q", "solver.batch_size"},
    "interpolation": {"kernel", "seed"},
    "rkhs_norm": {"dataset.n_train", "noise", "solver", "seed"},
    "rkhs_norm_synthetic": {"dataset", "dataset.n_train", "noise", "solver", "seed"},
    "rkhs_norm_kernels": {"dataset", "kernel", "dataset.n_train", "noise", "solver"},
    "label_noise": {"noise", "kernel", "solver"},
    "random_labels": {"noise", "kernel", "seed"},
    "convergence": {"solver", "kernel", "seed"},
    "solvers": {"solver"},
    "bandwidth": {"kernel", "kernel.bandwidth"},
    "ridge_path": {"kernel"},
    "krr_testbed": {"dataset", "solver", "seed"},
    "preconditioners": {"kernel", "solver.preconditioner", "solver.ridge"},
    "tables": {"dataset", "kernel", "seed"},
    "rfm_low_rank": {"dataset.n_train", "solver.diagonal", "seed"},
    "grokking": {"seed"},
    "learning_curves": {"dataset.n_train", "kernel", "solver.ridge", "seed"},
    "nystrom_preconditioner": {"solver.q", "solver.subsample_size", "seed"},
    "overfitting": {"dataset.n_train", "noise", "kernel", "solver.ridge", "seed"},
    "subspace": {"dataset.n_train", "solver.epochs", "seed"},
}
PEERED = {"label_noise", "tables"}
MOST_JOBS = {"small": 80, "paper": 220}


@pytest.fixture(scope="module")
def expanded():
    """Of a preset with overrides: its sweep's parameters and the composed jobs, without running any."""
    config.register()

    def expand(*overrides, jobs=None):
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            cfg = compose("config", list(overrides), return_hydra_config=True)
            params = OmegaConf.to_container(cfg.hydra.sweeper.params, resolve=True)
            parsed = OverridesParser.create().parse_overrides(
                [*(f"{k}={v}" for k, v in params.items()), *overrides]
            )
            [batch] = BasicSweeper.split_arguments(parsed, None)
            some = batch if jobs is None else [batch[i] for i in jobs]
            return cfg, params, batch, [compose("config", list(job)) for job in some]

    return expand


def test_presets_are_those_of_the_docs():
    assert set(PRESETS) == set(VARIED)
    text = (ROOT / "docs" / "experiments.md").read_text("utf-8")
    assert all(f"| `{name}` |" in text for name in PRESETS)


@pytest.mark.parametrize("scale", ["small", "paper"])
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_composes(expanded, name, scale):
    cfg, params, batch, ends = expanded(f"experiment={name}", f"scale={scale}", jobs=(0, -1))
    assert cfg.hydra.mode.name == "MULTIRUN"
    assert cfg.tracking.experiment == name
    assert not cfg.tracking.log_model
    assert set(params) == VARIED[name]
    assert 2 <= len(batch) <= MOST_JOBS[scale]
    for job in ends:
        config.build(job)
        values = config.resolved(job)
        assert values["scale"] == scale
        assert set(values) == set(config.resolved(compose_plain()))  # no tables of sizes


@cache
def compose_plain():
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("config")


def test_the_first_line_describes():
    for group in ("experiment", "debug"):
        for path in (CONF_DIR / group).glob("*.yaml"):
            assert 20 < len(describe(path)) < 100, path


def test_an_option_without_a_comment_is_described_by_nothing(tmp_path):
    (tmp_path / "mine.yaml").write_text("defaults:\n  - gaussian\n")
    assert describe(tmp_path / "mine.yaml") == ""


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_runs(cli, runs, client, name):
    # A loss that three epochs can reach, where the figure asks for one.
    timed = name in {"batch_size", "nystrom_preconditioner"}
    loss = ["solver.stop.train_mse=0.05"] if timed else []
    done = cli(f"experiment={name}", "+debug=fast", *loss)
    assert done.code == 0, done.err
    assert done.err == ""
    parent, *children = runs(name)
    assert parent.data.tags["sweep.jobs"] == str(len(children))
    for child in children:
        metrics, params = child.data.metrics, child.data.params
        assert child.info.status == "FINISHED"
        assert params["scale"] == "debug"
        assert {"train_accuracy", "test_accuracy", "rkhs_norm"} <= set(metrics)
        assert ("epoch_prediction_error" in metrics) == (name == "interpolation")
        if params["solver.stop.train_error"] == "0.0":
            assert metrics["train_accuracy"] == 1  # so it is in the figure
        assert ("nearest_neighbour_test_accuracy" in metrics) == (name in PEERED)
    assert set(parent.data.tags["sweep.varied"].split()) <= VARIED[name]
    report = build(Options(experiments=[name], store=os.environ["MLFLOW_TRACKING_URI"], dpi=40))
    assert report.runs == len(children)
    if name == "rfm_low_rank":  # in debug of digits, and its figure is of regression
        assert report.notes == ["rfm_low_rank: not drawn: no run has epoch_test_mse"]
        return
    assert [picture.name for picture in report.pictures] == [name], report.notes
    assert client.list_artifacts(parent.info.run_id, "figures")


def test_the_command_line_wins(cli, runs):
    done = cli(
        "experiment=rkhs_norm", "+debug=fast", "dataset.n_train=280", "noise=0.2", "seed=1,2",
        "solver=exact", "tracking.experiment=mine",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert runs("rkhs_norm") == []
    parent, *children = runs("mine")
    assert parent.data.tags["sweep.varied"] == "seed"
    assert parent.info.run_name.startswith("experiment=rkhs_norm +debug=fast")
    keys = ("derived.n_train", "noise", "seed", "solver.name")
    assert [tuple(child.data.params[key] for key in keys) for child in children] == [
        ("280", "0.2", "1", "exact"),
        ("280", "0.2", "2", "exact"),
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scale=huge"], "scale=huge: must be one of small, paper"),
        (["scale=small,paper"], "scale=small,paper: must be one for the whole sweep"),
        (["solver.epochs=0"], "solver.epochs=0: must be a whole number >= 1, or null"),
        (["noise=0,2"], "noise=2.0: must be a number from 0 to 1"),
        (
            ["compare=[nobody]"],
            "compare=nobody: must be one of exact, nearest_neighbour, svm, kernel_ridge, boosting, "
            "learning_curve",
        ),
    ],
)
def test_mistakes_end_it_before_it_starts(cli, runs, overrides, message):
    done = cli("experiment=rkhs_norm", "+debug=fast", *overrides)
    assert done.code == 2
    assert done.err.strip() == f"kernelexp: {message}"
    assert runs("rkhs_norm") == []
