"""The command line: every option composes, every mistake is one line and no run."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import kernelexp
from kernelexp import config
from kernelexp.arguments import as_typed, understood
from kernelexp.usage import CONF_DIR, usage

OPTIONS = [
    (path.parent.name, path.stem)
    for path in sorted(CONF_DIR.glob("*/*.yaml"))
    if path.stem not in ("npz", "npy", "table", "openml")  # need files
]
# Solvers that are others with settings of their own.
MADE_OF_OTHERS = {"overfitted", "interpolated"}


@pytest.fixture
def composed():
    config.register()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        yield lambda *overrides: compose("config", list(overrides))


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_builds(composed, group, option):
    cfg = composed(f"{group}={option}" if group != "debug" else f"+debug={option}")
    built = config.build(cfg)
    if group in ("dataset", "kernel", "solver") and option not in MADE_OF_OTHERS:
        assert getattr(built, group).name == option == cfg[group].name
        defaults = type(getattr(built, group))()
        assert getattr(built, group) == defaults  # a default is written once, in the dataclass


def test_every_class_has_its_yaml():
    for group, classes in (
        ("dataset", config.SOURCES),
        ("kernel", config.KERNELS),
        ("solver", config.SOLVERS),
        ("label_noise", config.KINDS),
    ):
        options = {path.stem for path in (CONF_DIR / group).glob("*.yaml")}
        assert options - MADE_OF_OTHERS == set(classes)


def test_defaults_and_overrides(composed):
    built = config.build(
        composed(
            "kernel=matern",
            "kernel.nu=2.5",
            "kernel.bandwidth=median",
            "solver.stop.train_error=0",
            "resource.memory_gb=4",
            "noise=0.1",
            "label_noise=flip",
            "dtype=float64",
        )
    )
    assert built.kernel.nu == 2.5
    assert built.kernel.bandwidth == "median"
    assert built.solver.stop.train_error == 0
    assert built.resource.memory_gb == 4
    assert (built.noise, built.noise_kind, str(built.dtype)) == (0.1, "flip", "torch.float64")


def test_environment_names_data_and_store(composed, monkeypatch):
    monkeypatch.setenv("KERNELEXP_DATA", "/some/data")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://some.server")
    cfg = composed()
    assert config.build(cfg).data_dir == Path("/some/data")
    assert config.tracking(cfg).uri == "http://some.server"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # as compose files leave it
    assert config.tracking(composed()).uri == "sqlite:///mlflow.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert config.tracking(composed()).uri == "sqlite:///mlflow.db"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("noise=1.5", "noise=1.5: must be a number from 0 to 1"),
        ("noise=abc", "noise=abc: must be a number"),
        ("noise=nan", "noise=nan: must be a number from 0 to 1"),
        ("seed=-1", "seed=-1: must be a whole number >= 0"),
        ("seed=null", "seed=null: must have a value"),
        ("seed=1.5", "seed=1.5: must be a whole number"),
        ("kernel=foo", "kernel=foo: must be one of arc_cosine, cauchy"),
        (
            "kernel.bandwith=3",
            "kernel.bandwith: no such key; kernel=laplacian has bandwidth; did you mean",
        ),
        ("kernl=gaussian", "kernl: no such key; the top level has dataset, kernel"),
        ("kernel.bandwidth=0", "kernel.bandwidth=0: must be a number above 0, or median"),
        ("kernel.bandwidth=big", "kernel.bandwidth=big: must be a number above 0, or median"),
        ("dataset.n_train=0", "dataset.n_train=0: must be a whole number >= 2, or null"),
        ("dataset.n_train=1438", "dataset.n_train=1438: must be at most 1437"),
        ("dataset.n_test=x", "dataset.n_test=x: must be a whole number"),
        ("dataset=npz", "dataset.path=None: must be an .npz file"),
        (
            "dataset=table",
            "dataset.path=None: must be a file (.csv, .tsv, .parquet, .feather, .arrow)",
        ),
        (
            "validation=2.5",
            "validation=2.5: must be a share between 0 and 1, or a whole number of points",
        ),
        ("dataset=npy", "dataset.path=None: must be a folder with x_train.npy"),
        ("trial=3", "trial=3: must be null; a search sets it by itself"),
        ("device=tpu", "device=tpu: must be one of auto, cpu"),
        ("device=cuda:99", "device=cuda:99: must be one of auto, cpu"),
        ("dtype=float16", "dtype=float16: must be one of float32, float64"),
        ("label_noise=none", "label_noise=none: must be one of flip, pair, uniform"),
        ("solver.epochs=0", "solver.epochs=0: must be a whole number >= 1, or null"),
        ("solver.stop.train_eror=0", "solver.stop.train_eror: no such key; solver.stop has"),
        ("solver.stop.seconds=0", "solver.stop.seconds=0"),
        ("tracking.tags.a=b", "tracking.tags.a: not there yet; write +tracking.tags.a="),
        ("scale=paper", "scale=paper: must be left out without a preset (experiment=NAME)"),
        ("compare=exact", "compare: must be a list, compare=[...]"),
        ("rerun=1.5", "rerun=1.5: must be true or false"),
        ("experiment=foo", "experiment=foo: must be one of bandwidth, batch_size"),
        ("kernel.name=rbf", "kernel.name=rbf: must be one of arc_cosine"),
        ("+solver.stop.train_eror=0", "solver.stop: stop has no train_eror, but train_error"),
        ("+colour=red", "colour: no such key"),
        ("+kernel.colour=red", "kernel.colour: no such key"),
        ("resource.memory_gb=-1", "resource.memory_gb=-1.0: must be a number above 0, or null"),
        ("checkpoint.minutes=-1", "checkpoint.minutes=-1.0: must be a number >= 0, or null"),
        ("checkpoint.minutes=soon", "checkpoint.minutes=soon: must be a number"),
        (
            "checkpoint.hours=1",
            "checkpoint.hours: no such key; checkpoint has minutes, keep, folder",
        ),
        ("resume=2.5", "resume=2.5: must be true or false"),
        ("tracking.enabled=maybe", "tracking.enabled=maybe: must be true or false"),
        (
            "seed=[1",
            """seed=[1: not understood; as text it is typed in two pairs of quotes, "seed='[1'\"""",
        ),
        ("seed=99999999999999999999", "seed=99999999999999999999: must be a whole number from 0"),
        (f"dataset.n_train=1{400 * '0'}", "must be at most 1437"),
        ("dataset.task=both", "dataset.task=both: must be one of auto, classification, regression"),
        ("~noise", "~noise: nothing can be left out; must be KEY=VALUE"),
        ("=5", "=5: must be KEY=VALUE; --help lists the keys"),
        ("noise", "noise: must be KEY=VALUE; --help lists the keys"),
        ("noise=range(0,1", "noise=range(0,1: not understood"),
        ("kernel=gaussian,", "kernel=gaussian,: not understood"),
        (
            "+tracking.tags.论文=x",
            "must be KEY=VALUE; --help lists the keys, a key in letters a to z",
        ),
        ("--multirn", "--multirn: no such option; did you mean --multirun?"),
        ("--cfg", "argument --cfg/-c: expected one argument"),
        ("noise=0,0.1", "Ambiguous value for argument 'noise=0,0.1'"),
    ],
)
def test_mistakes_are_one_line(cli, runs, override, message):
    done = cli(override)
    assert done.code == 2
    assert done.err.startswith("kernelexp: ")
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert done.out == ""
    assert runs() == []


def test_mistake_in_any_job_ends_a_sweep_before_it_starts(cli, runs):
    done = cli("--multirun", "noise=0,1.5")
    assert done.code == 2
    assert done.err.strip() == "kernelexp: noise=1.5: must be a number from 0 to 1"
    assert runs() == []


@pytest.mark.parametrize("options", [("--multirun",), (), ("-m", "+debug=fast")])
def test_several_presets_are_refused(cli, runs, options):
    done = cli(*options, "experiment=rkhs_norm,ridge_path")
    assert (done.code, done.out) == (2, "")
    assert done.err.strip() == (
        "kernelexp: experiment=rkhs_norm,ridge_path: must be one preset at a time; type a command for each"
    )


def test_noise_above_one_is_for_regression_targets_alone(cli, runs):
    small = ("dataset.n_train=60", "dataset.n_test=20", "solver=exact", "tracking.log_model=false")
    for data in (("dataset=low_rank",), ("dataset=diabetes",), ("dataset=digits", "dataset.task=regression")):  # fmt: skip
        done = cli(*data, *small, "noise=2.5")
        assert done.code == 0, done.err
    assert [run.data.params["noise"] for run in runs()] == ["2.5"] * 3
    assert done.err == ""
    done = cli("dataset=low_rank", *small, "noise=2.5", "label_noise=flip", "cv=2")
    assert done.err.startswith("kernelexp: warning: label_noise=flip has no effect on regression")
    assert len(done.err.splitlines()) == 1
    for data in ("digits", "synthetic1", "modular", "iris"):  # the last is known once it is read
        done = cli(f"dataset={data}", *small, "noise=2.5")
        assert (done.code, done.err) == (2, "kernelexp: noise=2.5: must be a number from 0 to 1\n")
    assert cli("dataset=diabetes", "noise=-1").err == "kernelexp: noise=-1.0: must be a number >= 0\n"  # fmt: skip


CENTERS = ("solver=eigenpro3", "solver.n_centers=50,1300")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("solver=eigenpro3", "solver.n_centers=50,5000"), "solver.n_centers=5000: must be a whole number from 1 to 1437"),
        ((*CENTERS, "validation=0.2"), "solver.n_centers=1300: must be a whole number from 1 to 1150"),
        ((*CENTERS, "cv=3"), "solver.n_centers=1300: must be a whole number from 1 to 958"),
        (("validation=5,2000",), "validation=2000: must be at most 1435 of 1437 points"),
        (("cv=2,2000",), "cv=2000: must be at most the 1437 training points"),
        (("dataset=npz", "dataset.path=my.npz", "dataset.n_train=20,31"), "dataset.n_train=31: must be at most 30 for dataset=npz"),
        (("dataset=npy", "dataset.path=my", "dataset.n_test=5,11"), "dataset.n_test=11: must be at most 10 for dataset=npy"),
        (("dataset=iris", "dataset.n_train=20,121"), "dataset.n_train=121: must be at most 120 for dataset=iris"),
        (("dataset=moons", "dataset.test=0.5", "dataset.n_train=20,501"), "dataset.n_train=501: must be at most 500 for dataset=moons"),
    ],
)  # fmt: skip
def test_sizes_beyond_known_data_end_a_sweep_before_it_starts(cli, runs, workdir, typed, message):
    arrays = {"x_train": np.eye(30), "y_train": np.arange(30) % 2, "x_test": np.eye(30)[:10], "y_test": np.arange(10) % 2}  # fmt: skip
    np.savez("my.npz", **arrays)
    (workdir / "my").mkdir()
    for name, array in arrays.items():
        np.save(f"my/{name}.npy", array)
    done = cli("--multirun", *typed)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"kernelexp: {message}")
    assert len(done.err.strip().splitlines()) == 1
    assert runs() == []


def test_sizes_of_data_that_have_to_be_read_are_known_in_the_jobs(cli, runs, workdir):
    x, y = np.random.default_rng(0).random((2000, 3)), np.arange(2000) % 2
    np.savez("digits.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])  # comes first
    done = cli("--multirun", "data_dir=.", "solver=falkon", "solver.n_centers=1500,2500")
    assert "solver.n_centers=2500: must be a whole number from 1 to 2000" in done.err
    assert "1 of 2 jobs finished" in done.err
    group = ("dataset=iris", "dataset.group=target", "dataset.target='petal width (cm)'")
    assert cli("--multirun", *group, "dataset.n_train=60,140", "dry_run=true").code == 0


@pytest.mark.parametrize("override", ["noise=1.5", "kernel=foo"])
def test_traceback_on_request(cli, monkeypatch, override):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    done = cli(override)
    assert done.code == 2
    assert "Traceback" in done.err


def test_errors_while_running_are_one_line(cli, runs):
    done = cli("resource.memory_gb=0.01", "dataset.n_train=200")
    assert done.code == 2
    assert done.err.startswith("kernelexp: resource.memory_gb=0.01: must be at least")
    assert len(done.err.strip().splitlines()) == 1
    [run] = runs()
    assert run.info.status == "FAILED"
    assert "memory_gb" in run.data.tags["error"]


def test_version_is_our_own(cli):
    assert cli("--version") == (0, f"kernelexp {kernelexp.__version__}\n", "")


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("实验", "实验"),
        ("数据 集.npz", "数据 集.npz"),
        ("a[/b].npz", "a[/b].npz"),
        ("50% of (all)", "50% of (all)"),
        ("it's", "it's"),
        ("http://a.b/c?d=e", "http://a.b/c?d=e"),
        ("é\\", "é\\"),
        ("${oc.env:HOME}/é", "${oc.env:HOME}/é"),
    ],
)
def test_text_is_taken_as_it_is_typed(typed, value):
    [argument] = understood([f"tracking.experiment={typed}"])
    assert OverridesParser.create().parse_override(argument).value() == value


@pytest.mark.parametrize(
    "typed",
    ["a=b,c", "a=[1,2]", "a='é'", "a=x y", "a=range(0,3)", "+a@b=c", "a=", "a=null", "a={b:1}"],
)
def test_what_parses_stays(typed):
    assert understood([typed]) == [typed]


def test_sweeps_of_text_and_options_between_values():
    assert understood(["a=é,b c", "-m", "seed=1,2"]) == ["-m", "a='é',b c", "seed=1,2"]
    assert understood(["a=[range (km), int (x)]"]) == ["a=['range (km)','int (x)']"]
    assert understood(["a=[Date (UTC), größe, x=1, b c]"]) == ["a=['Date (UTC)','größe','x=1',b c]"]
    assert understood(["a=[b [cm],c (d, e)]"]) == ["a=['b [cm]','c (d, e)']"]


@pytest.mark.parametrize(
    ("setting", "understood_as"),
    [
        ("a.b=5", "a.b=choice(5)"),
        ("a.b=null", "a.b=null"),
        ("+a.b.c=[1,2]", "+a.b.c=choice([1,2])"),
        ("a.b=é c", "a.b='é c'"),
        ("a.b=x c", "a.b=choice(x c)"),
        ("a.b='x=5'", "a.b='x=5'"),
        ("a.b={c:'='}", "a.b=choice({c:'='})"),
        ("a.b=1,2", "a.b=1,2"),
        ("a.b=", "a.b="),
        ("ab.c=5", "ab.c=5"),
    ],
)
def test_settings_of_a_swept_group_are_swept(setting, understood_as):
    assert understood([setting, "a=x,y", "c=z"]) == [understood_as, "a=x,y", "c=z"]
    assert understood([setting, "a=x"])[1:] == ["a=x"]


def test_names_of_sweeps_are_as_they_were_typed():
    made = [
        "solver=a,b",
        "solver.x=choice(3)",
        "k.b=tag(log,interval(1,1e2))",
        "k.c=interval(.1,2)",
    ]
    assert as_typed(made) == "solver=a,b solver.x=3 k.b=log:1..1e2 k.c=.1..2"
    assert as_typed(["a=choice(1,2)", "b=range(1,3)"]) == "a=choice(1,2) b=range(1,3)"


def test_names_in_other_scripts_and_brackets_run(cli, runs):
    rng = np.random.default_rng(0)
    parts = {f"{axis}_{part}": n for axis in "xy" for part, n in (("train", 40), ("test", 10))}
    arrays = {k: rng.random((n, 3)) if k[0] == "x" else np.arange(n) % 2 for k, n in parts.items()}
    np.savez("数据 集[" + "b].npz", **arrays)
    sweep = ["-m", "seed=0,1", "tracking.experiment=实验", "dataset=npz"]
    few = ("solver.epochs=1", "tracking.log_model=false")
    done = cli(*sweep, "dataset.path=数据 集[b].npz", *few, "+tracking.tags.x=a[/b]é")
    assert (done.code, done.err) == (0, "")
    parent, first, second = runs("实验")
    assert first.data.params["dataset.path"] == "数据 集[b].npz"
    assert first.data.params["derived.task"] == "classification"
    assert {first.info.status, second.info.status, parent.info.status} == {"FINISHED"}


def test_brackets_are_no_markup(cli):
    done = cli("-m", "compare=[],[exact]", "dry_run=true")
    assert "compare=[exact]" in done.out
    arguments = ["compare=[exact]", "seed=0,1", "dataset.n_train=90", "solver.epochs=1"]
    arguments += ["tracking.log_model=false"]
    done = cli("-m", *arguments, "tracking.run_name=a[/b]")
    assert done.code == 0, done.err
    again = cli("-m", *arguments, "tracking.run_name=a[/b]")
    assert "compare=[exact]" in again.out


def test_yaml_objects_are_text(cli, workdir):
    name = "!!python/object/apply:os.system ['touch executed']"
    cli(f"tracking.experiment={name}", "tracking.enabled=false", "dry_run=true")
    cli(f"+tracking.tags.a={name}", "tracking.enabled=false", "dry_run=true")
    assert not (workdir / "executed").exists()


def test_a_sweep_that_fails_says_each_failure_once(cli, runs):
    small = ["dataset.n_train=90", "solver.epochs=1", "resource.memory_gb=0.01"]
    done = cli("-m", "seed=0,1", *small)
    assert done.code == 2
    first, second, outcome = done.err.splitlines()
    assert first.startswith("kernelexp: seed=0 ")
    assert second.startswith("kernelexp: seed=1 ")
    assert outcome.startswith("kernelexp: 0 of 2 jobs finished")
    done = cli("-m", "seed=0,1", *small, "tracking.enabled=false")
    assert done.code == 2
    assert len(done.err.splitlines()) == 2


def test_a_launcher_that_fails_is_named(cli, monkeypatch):
    launcher = ["-m", "seed=0,1", "dataset.n_train=90", "solver.epochs=1", "hydra/launcher=joblib"]
    done = cli(*launcher, "hydra.launcher.n_jobs=0")
    assert done.code == 2
    assert done.err == (
        "kernelexp: hydra.launcher.n_jobs=0: must be a number of processes, or -1: of cores\n"
    )

    def launch(*_):
        raise ValueError("no processes to be had")

    monkeypatch.setattr("joblib.Parallel.__call__", launch)
    done = cli(*launcher)
    assert done.code == 2
    reason, outcome = done.err.splitlines()
    assert reason == "kernelexp: no processes to be had"
    assert outcome.startswith("kernelexp: 0 of 2 jobs finished")


def test_help_lists_every_option(shell):
    done = shell(["python", "-m", "kernelexp", "--help"])
    assert done.code == 0
    for _, option in OPTIONS:
        assert f"  {option}" in done.out
    assert done.out.strip() == usage(CONF_DIR).strip()


def test_primary_config_is_plain_yaml():
    defaults = OmegaConf.load(CONF_DIR / "config.yaml").defaults
    named = {key for entry in defaults if not isinstance(entry, str) for key in entry}
    assert {
        "dataset",
        "kernel",
        "solver",
        "label_noise",
        "tracking",
        "resource",
        "checkpoint",
    } <= named


@pytest.mark.parametrize("module", ["kernelexp", "kernelexp.report", "kernelexp.store"])
def test_a_python_without_the_packages_is_one_line(module):
    command = [sys.executable, "-S", "-m", module]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert "`. .venv/bin/activate` takes it" in line
