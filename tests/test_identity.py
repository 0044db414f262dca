"""When a sweep takes a finished run for a job: configuration, data, version, model."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kernelexp import commit, jobs
from kernelexp.data import SOURCES, files_state, load, points_digest
from kernelexp.identity import Identity, digest, family


def own_data(path="d.npz", seed=0):
    x = np.random.default_rng(seed).random((60, 3))
    y = (x.sum(1) > 1.5).astype(int)
    np.savez(path, x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])


def test_digest_is_of_what_is_computed():
    values = {"kernel": {"bandwidth": 5}, "noise": 0, "compare": ["exact"], "tracking": {"a": 1}}
    same = {
        "tracking": {"a": 2}, "data_dir": "there", "rerun": True, "dry_run": True,
        "checkpoint": {"minutes": 1}, "resume": False,
        "compare": ["exact"], "noise": 0.0, "kernel": {"bandwidth": 5.0},
    }  # fmt: skip
    assert digest(values) == digest(same)
    for other in ({"noise": 0.1}, {"compare": []}, {"kernel": {"bandwidth": "median"}}):
        assert digest(values) != digest({**values, **other})


def test_a_family_is_of_any_length():
    solver = {"name": "sgd", "epochs": 3, "stop": {"seconds": None}, "batch_size": None}
    values = {"solver": solver, "seed": 0}
    longer = {**values, "solver": {**solver, "epochs": 9, "stop": {"seconds": 5}}}
    assert family(values) == family(longer)
    assert digest(values) != digest(longer)
    for other in ({"seed": 1}, {"solver": {**solver, "batch_size": 5}}):
        assert family(values) != family({**values, **other})


def test_digest_tells_large_seeds_apart():
    seeds = [0, 1, 2**53, 2**53 + 1, 2**53 + 2, 10**400]
    assert len({digest({"seed": seed}) for seed in seeds}) == len(seeds)
    assert digest({"a": 1e20}) == digest({"a": 10**20})
    assert digest({"a": float("inf")}) != digest({"a": float("nan")})


def run_of(version=None, files="f", points="p", model=False, **tags):
    """A finished run, as far as it is looked at."""
    own = {**commit.code_tags(), "git.dirty": "false", "data.files": files, **tags}
    if version is not None:
        own["kernelexp.version"] = version
    used = SimpleNamespace(dataset=SimpleNamespace(digest=points))
    return SimpleNamespace(
        data=SimpleNamespace(tags=own),
        inputs=SimpleNamespace(dataset_inputs=[used]),
        outputs=SimpleNamespace(model_outputs=["m"] if model else []),
    )


@pytest.fixture
def clean(monkeypatch):
    """A checkout at a known commit without changes."""
    here = {"kernelexp.version": "1", "git.commit": "a" * 40, "git.dirty": "false"}
    for module in ("commit", "identity"):
        monkeypatch.setattr(f"kernelexp.{module}.code_tags", lambda: here)


def job(points="p", log_model=False):
    return Identity("c", "f", points if callable(points) else lambda: points, log_model)


def test_files_as_they_were_are_not_read_again(clean):
    def read():
        raise AssertionError("read")

    assert job(read).accepts(run_of()) == ""


def test_points_count_where_files_have_changed(clean):
    assert job("p").accepts(run_of(files="touched")) == ""
    assert job("other").accepts(run_of(files="touched")) is None
    assert "not here" in job(None).accepts(run_of(files="elsewhere"))

    def broken():
        raise ValueError("x_train: has NaN")

    assert job(broken).accepts(run_of(files="broken")) is None


def test_version_counts_and_commits_are_told(clean):
    assert job().accepts(run_of(version="0")) is None
    assert job().accepts(run_of(**{"git.commit": "b" * 40})) == (
        "made by commit bbbbbbbbbb, this is commit aaaaaaaaaa"
    )
    changed = job().accepts(run_of(**{"git.dirty": "true"}))
    assert changed == "made by commit aaaaaaaaaa with changes, this is commit aaaaaaaaaa"


def test_a_run_without_a_model_is_none_with_one(clean):
    assert job(log_model=True).accepts(run_of()) is None
    assert job(log_model=True).accepts(run_of(model=True)) == ""
    assert job(log_model=False).accepts(run_of(model=True)) == ""


def test_a_foreign_run_is_not_ours(clean):
    foreign = SimpleNamespace(
        data=SimpleNamespace(tags={"config.digest": "c"}), inputs=None, outputs=None
    )
    assert job(log_model=True).accepts(foreign) is None


def test_state_of_files_and_digest_of_points(workdir):
    own_data()
    source = SOURCES["npz"](path="d.npz", n_train=20)
    state, points = files_state(source, workdir), points_digest(source, workdir, 0)
    assert points == load(source, workdir).digest
    assert points != points_digest(source, workdir, 1)  # other points are taken
    os.utime("d.npz")
    assert files_state(source, workdir) != state
    assert points_digest(source, workdir, 0) == points
    own_data(seed=1)
    assert points_digest(source, workdir, 0) != points


def test_digest_of_points_is_of_shapes_and_types_too(workdir):
    def points(x):
        y = np.arange(4) % 2
        np.savez("d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        return points_digest(SOURCES["npz"](path="d.npz"), workdir, 0)

    x = np.arange(1, 17, dtype=np.uint8).reshape(4, 4)
    same_bytes = [x, x.reshape(4, 2, 2), x.view(np.int8), x.view(np.uint16)]
    assert len({points(x) for x in same_bytes}) == 4


def test_arrays_in_the_data_folder_count(workdir, shared_cache):
    source, (empty, mine) = SOURCES["mnist"](), (workdir / "empty", workdir / "mine")
    empty.mkdir()
    mine.mkdir()
    assert points_digest(source, empty, 0) is None  # nothing is downloaded to compare
    before = set(shared_cache.rglob("*"))
    own_data(mine / "mnist.npz")
    first = files_state(source, mine), points_digest(source, mine, 0)
    own_data(mine / "mnist.npz", seed=1)
    second = files_state(source, mine), points_digest(source, mine, 0)
    assert not set(first) & set(second)
    assert set(shared_cache.rglob("*")) == before


def test_a_sweep_trains_again_where_data_or_wishes_changed(cli, runs):
    own_data()
    typed = (
        "--multirun", "dataset=npz", "dataset.path=d.npz", "solver=exact", "seed=0",
        "tracking.log_model=false",
    )  # fmt: skip
    assert cli(*typed).code == 0
    os.utime("d.npz")
    done = cli(*typed)
    assert "1 of 1 jobs finished, 1 of them before" in done.out
    assert "1 skipped" in cli(*typed, "dry_run=true").out
    assert "1 to run" in cli(*typed, "tracking.log_model=true", "dry_run=true").out
    own_data(seed=1)
    assert "1 to run" in cli(*typed, "dry_run=true").out
    done = cli(*typed)
    assert done.code == 0, done.err
    assert "1 of 1 jobs finished;" in done.out
    own_data()
    done = cli(*typed)
    assert "1 of 1 jobs finished, 1 of them before" in done.out
    finished = [run for run in runs() if "sweep.jobs" not in run.data.tags]
    assert len(finished) == 2
    assert len({run.data.tags["config.digest"] for run in finished}) == 1


def test_a_sweep_over_a_table_whose_file_is_new_looks_at_its_rows(cli):
    """Its source has lists, which nothing that hashes takes."""
    rows = [f"{i},{i % 7},{'no' if i % 3 else 'yes'}" for i in range(40)]
    Path("t.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    typed = (
        "--multirun", "dataset=table", "dataset.path=t.csv", "dataset.target=y", "solver=exact",
        "seed=0,1", "tracking.log_model=false",
    )  # fmt: skip
    assert cli(*typed).code == 0
    os.utime("t.csv")
    assert "2 skipped" in cli(*typed, "dry_run=true").out
    assert "2 of 2 jobs finished, 2 of them before" in cli(*typed).out


def test_points_of_files_as_they_are_are_looked_at_once(workdir, monkeypatch):
    own_data()
    read = []
    monkeypatch.setattr(jobs, "points_digest", lambda *where: read.append(where) or "points")
    checked = SimpleNamespace(dataset=SOURCES["npz"](path="d.npz"), data_dir=workdir, seed=0)
    values = {"tracking": {"log_model": False}, "solver": {"name": "exact"}}
    assert [jobs.identity(values, checked).points() for _ in range(3)] == ["points"] * 3
    assert len(read) == 1
    own_data(seed=1)
    os.utime("d.npz", (1, 1))
    jobs.identity(values, checked).points()
    assert len(read) == 2
