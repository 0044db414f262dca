"""Every command in README and docs is run, on fewer points where it would take long."""

import re
import shlex
import shutil
import subprocess
import sys

import pytest
import report_store
from conftest import REAL_DATA, ROOT

# Data sets with settings of their own.
WITH_SETTINGS = ("npz", "npy", "table", "moons", "modular")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FEW = "dataset.n_train=500 dataset.n_test=200 solver.epochs=1 tracking.log_model=false"
# Run by CI itself, or not a command of this project; mlflow ui: by test_tracking.
NOT_HERE = ("make test", "make lint", "git clone", "cd kernelexp", "pip install .", "mlflow ui")
RUN_BY_TEST_PRESETS = {
    f"python -m kernelexp experiment={path.stem} +debug=fast"
    for path in (ROOT / "conf" / "experiment").glob("*.yaml")
}
RUN_BY_TEST_SWEEPS = "experiment=label_noise hydra/launcher=joblib hydra.launcher.n_jobs=2"


def blocks(language):
    for path in DOCUMENTS:
        for text in re.findall(rf"^```{language}\n(.*?)^```", path.read_text("utf-8"), re.M | re.S):
            yield path.name, text


# Whose commands need what the ones before have left, and parts that are in no checkout.
IN_ORDER, EXTENDING = "own-data.md", "extending.md"


def commands():
    seen = set()
    for name, text in blocks("sh"):
        if name in (IN_ORDER, EXTENDING):
            continue
        for line in text.replace("\\\n", " ").splitlines():
            command = re.sub(r"\s+", " ", line.split(" #")[0]).strip()
            short = shortened(command)
            if command and short not in seen | RUN_BY_TEST_PRESETS:
                seen.add(short)
                yield pytest.param(command, id=f"{name}: {command}")


def shortened(command):
    if (
        {"kernelexp", "kernelexp.search"} & set(command.split())
        and "--help" not in command
        and "--cfg" not in command
    ):
        if " experiment=" in command:
            quick = "+debug=fast" in command or "dry_run=true" in command
            command += "" if quick else " +debug=fast"
        else:
            command += " " + (FEW if "dataset.path" not in command else "tracking.log_model=false")
    if "kernelexp.report" in command:  # the runs it finds are also those of other tests
        command += " --no-log"
    if command.startswith("make run"):
        given = re.search(r'ARGS="(.*)"', command)
        overrides = f"{given[1] if given else ''} {FEW}".strip()
        # -o: nothing is installed, whatever is newer than the .venv.
        command = (
            f"make -C {shlex.quote(str(ROOT))} -o .venv/.ready run ARGS={shlex.quote(overrides)}"
        )
    if command.startswith("make paper"):
        command = f'make -C {shlex.quote(str(ROOT))} -o .venv/.ready paper PAPER="convergence" dry_run=true ARGS=+debug=fast'
    return command


@pytest.fixture
def run(cli, shell):
    """A command as a shell runs it; in this process where another would only import all again."""

    def call(command):
        match shlex.split(command):
            case ["python", "-m", module, *arguments]:
                return cli(*arguments, module=module)
        return shell(command)

    return call


@pytest.mark.parametrize("command", commands())
def test_command(command, run, client, own_arrays, monkeypatch):
    if command.startswith(NOT_HERE) or command.endswith(RUN_BY_TEST_SWEEPS):
        pytest.skip("run by CI itself, by another test, or before there is a project")
    if re.search("=(fmnist|mnist|cifar10)", command) and not (REAL_DATA / "FashionMNIST").is_dir():
        pytest.skip("no real data: set KERNELEXP_DATA")
    if "kernelexp.report" in command:  # reports on what other commands have left
        report_store.sweep(client, "rkhs_norm", list(report_store.rkhs_norm()))
    if "--compare" in command:  # two commits
        parent = report_store.sweep(client, "mine", list(report_store.rkhs_norm()))
        number = client.get_run(parent).info.experiment_id
        other = report_store.record(
            client, number, parent, params={}, metrics={"test_accuracy": 0.5}
        )
        report_store.record(client, number, parent, params={}, metrics={"test_accuracy": 0.6})
        client.set_tag(other, "git.commit", "abcdef")
    if command.startswith("make") and not (ROOT / ".venv" / ".ready").exists():
        pytest.skip("the tests do not run in the .venv that make sets up")
    monkeypatch.setenv("KERNELEXP_DATA", str(REAL_DATA))
    done = run(shortened(command))
    assert done.code == 0, done.out + done.err


def test_a_newcomers_hour(workdir, run):
    """From a CSV file to a figure and predictions, as the page says."""
    import pandas as pd

    for name, text in blocks("python"):
        if name == IN_ORDER:
            exec(compile(text, name, "exec"), {})
    [text] = [text for name, text in blocks("sh") if name == IN_ORDER]
    for command in text.replace("\\\n", " ").splitlines():
        done = run(command)
        assert done.code == 0, done.out + done.err
    assert (workdir / "reports" / "wine-bandwidth.png").is_file()
    assert list(pd.read_csv("y.csv").cultivar) == ["cultivar 0"] * 5
    import kernelexp

    assert list(kernelexp.load("best:wine").predict(pd.read_csv("new.csv"))) == ["cultivar 0"] * 5


def test_parts_of_ones_own(workdir, monkeypatch):
    """The kernel, the data set and the solver of the page, as files of a checkout, run by its command."""
    for part in ("kernelexp", "conf"):
        shutil.copytree(ROOT / part, workdir / "clone" / part)
    text = (ROOT / "docs" / EXTENDING).read_text("utf-8")
    files = re.findall(
        r"`(kernelexp/(?:[a-z]+/)+[a-z]+\.py)`:\n\n```python\n(.*?)^```", text, re.M | re.S
    )
    settings = re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)
    assert len(files) == len(settings) == 3
    for (name, code), yaml in zip(files, settings, strict=True):
        (workdir / "clone" / name).write_text(code)
        group, option = re.search(r"/schema/(\w+)/(\w+)@", yaml).groups()
        (workdir / "clone" / "conf" / group / f"{option}.yaml").write_text(yaml)
    [command] = [text for name, text in blocks("sh") if name == EXTENDING]
    monkeypatch.setenv("PYTHONPATH", str(workdir / "clone"))
    own = [sys.executable, *shlex.split(command)[1:]]
    done = subprocess.run(own, capture_output=True, text=True, cwd=workdir / "clone")
    assert done.returncode == 0, done.stderr
    assert "InverseMultiquadric" in done.stdout
    assert float(re.search(r"train accuracy % +│ ([\d.]+)", done.stdout)[1]) > 99
    forecast = [*own, "dry_run=true"]
    done = subprocess.run(forecast, capture_output=True, text=True, cwd=workdir / "clone")
    assert done.returncode == 0, done.stderr
    (workdir / "clone" / files[0][0]).write_text("class Half(\n")
    done = subprocess.run(own, capture_output=True, text=True, cwd=workdir / "clone")
    name = files[0][0].removesuffix(".py").replace("/", ".")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"kernelexp: {name}: can not be imported (SyntaxError: ")


@pytest.fixture
def own_arrays(workdir):
    import numpy as np

    rng = np.random.default_rng(0)
    x, y = rng.random((60, 3)), rng.integers(0, 2, 60)
    own = {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}
    np.savez(workdir / "my.npz", **own)
    (workdir / "arrays").mkdir()
    for name, array in own.items():
        np.save(workdir / "arrays" / f"{name}.npy", array)


@pytest.mark.parametrize("name", sorted({name for name, _ in blocks("python")}))
def test_examples(name, workdir):
    """The blocks of a document in their order, each after the ones before."""
    texts = [text for document, text in blocks("python") if document == name]
    exec(compile("\n".join(texts), name, "exec"), {})


def headings(path):
    """Of a document, as links name them."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    lines = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_links_lead_somewhere():
    for path in [*DOCUMENTS, ROOT / "CHANGELOG.md", *ROOT.glob("reports/*/README.md")]:
        for target, part in re.findall(r"\]\(([\w./-]*)(?:#([^)]+))?\)", path.read_text("utf-8")):
            there = path.parent / target if target else path
            assert there.exists(), f"{path.name}: {target}"
            assert not part or part in headings(there), f"{path.name}: {target}#{part}"


def test_names_in_the_docs_exist():
    """Configuration keys that the documents mention are keys of the configuration."""
    from hydra import compose, initialize_config_dir

    from kernelexp import config
    from kernelexp.usage import CONF_DIR

    config.register()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        bases = [compose("config", [f"kernel={k}"]) for k in config.KERNELS]
        bases += [compose("config", [f"solver={s}"]) for s in config.SOLVERS]
        bases += [compose("config", [f"dataset={own}"]) for own in WITH_SETTINGS]
    pattern = r"`((?:dataset|kernel|solver|tracking|resource)\.(?!py`)[a-z_.]+[a-z])`"
    for path in DOCUMENTS:
        for key in re.findall(pattern, path.read_text("utf-8")):
            known = key == "solver.warning" or any(exists(cfg, key) for cfg in bases)  # a tag
            assert known, f"{path.name}: {key}"


def exists(cfg, key):
    for part in key.split("."):
        if part not in cfg:
            return False
        cfg = cfg[part]
    return True
