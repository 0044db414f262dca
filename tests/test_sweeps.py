"""Sweeps: resumed, previewed, in several processes, and what their parent says."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kernelexp import liveness, resume, sweep
from kernelexp.commit import code_tags
from kernelexp.identity import Identity
from kernelexp.store import TrackingConfig, outbox, unsent
from kernelexp.store.__main__ import main as send
from kernelexp.store.beginning import beginning
from kernelexp.store.entries import End
from kernelexp.store.journal import Journal
from kernelexp.store.reach import StoreAway
from kernelexp.tracking import Tracker

SMALL = ("dataset.n_train=300", "dataset.n_test=100", "solver.epochs=2", "tracking.log_model=false")
SWEEP = ("--multirun", *SMALL, "seed=0,1")


def of(found, status="FINISHED"):
    return [run for run in found if run.info.status == status and "sweep.jobs" not in run.data.tags]


def test_a_sweep_typed_again_skips_and_one_with_more_adds(cli, runs):
    assert cli(*SMALL, "seed=0").code == 0  # a single run counts
    done = cli(*SWEEP)
    assert done.code == 0, done.err
    assert "skipped" in done.out
    assert "2 of 2 jobs finished, 1 of them before" in done.out
    done = cli(*SWEEP, "seed=0,1,2")
    assert "3 of 3 jobs finished, 2 of them before" in done.out
    single, first, second, parent, third = runs()
    assert {run.data.tags["mlflow.parentRunId"] for run in (single, second, third)} == {
        parent.info.run_id
    }
    both = {f"sweep.of.{sweep.info.run_id}" for sweep in (first, parent)}
    for run in (single, second):  # of both sweeps
        assert {name for name in run.data.tags if name.startswith("sweep.of.")} == both
    assert len({run.data.tags["config.digest"] for run in (single, second, third)}) == 3
    assert parent.data.metrics["jobs_skipped"] == 2
    done = cli(*SMALL, "seed=0")  # a single run is always run
    assert done.code == 0
    assert len(of(runs())) == 4
    done = cli(*SWEEP, "rerun=true")
    assert "2 of 2 jobs finished;" in done.out
    assert len(of(runs())) == 6


def test_another_setting_is_another_job(cli, runs):
    cli(*SWEEP)
    done = cli(*SWEEP, "noise=0.1")
    assert "2 of 2 jobs finished;" in done.out
    done = cli(*SWEEP, "+tracking.tags.a=b", "tracking.uri=${oc.env:MLFLOW_TRACKING_URI}")
    assert "2 of 2 jobs finished, 2 of them before" in done.out


def test_failed_jobs_are_run_again(cli, runs):
    jobs = ("--multirun", *SMALL, "resource.memory_gb=0.01,null", "dtype=float64")
    done = cli(*jobs)
    assert done.code != 0
    assert "1 of 2 jobs finished" in done.err
    done = cli(*jobs)
    assert "1 of 2 jobs finished, 1 of them before" in done.err
    assert len(of(runs(), "FAILED")) == 2
    parent = [run for run in runs() if "sweep.jobs" in run.data.tags][-1]
    assert parent.data.tags["sweep.progress"] == "2/2"
    assert parent.data.metrics["jobs_failed"] == 1


def test_the_same_job_twice_in_a_sweep_is_run_once(cli, runs):
    done = cli("--multirun", *SMALL, "noise=0.1,0.1")
    assert done.code == 0, done.err
    assert "1 of 1 jobs finished" in done.out
    assert len(of(runs())) == 1


def test_the_parent_has_totals_and_the_best(cli, runs):
    cli(*SWEEP, "kernel=laplacian,gaussian", "validation=0.2")
    parent, *children = runs()
    best = max(children, key=lambda run: run.data.metrics["valid_accuracy"])
    values = parent.data.metrics
    assert values["jobs_finished"] == 4
    assert values["jobs_skipped"] == values["jobs_failed"] == 0
    assert values["best_test_accuracy"] == best.data.metrics["test_accuracy"]
    assert values["total_seconds"] == pytest.approx(
        sum(r.data.metrics["setup_seconds"] + r.data.metrics["train_seconds"] for r in children)
    )
    tags = parent.data.tags
    assert tags["sweep.progress"] == "4/4"
    assert tags["mlflow.note.content"].startswith("4/4 jobs: 4 finished")
    assert any(run.info.run_id in tags["sweep.best"] for run in children)


def start(workdir, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "kernelexp", *arguments],
        cwd=workdir,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(holds, seconds=90):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to it")


def test_an_end_that_was_kept_is_sent_by_the_next_sweep(cli, client, runs, monkeypatch):
    jobs = ("--multirun", *SMALL, "seed=0,1", "tracking.patience_minutes=0")
    with monkeypatch.context() as away:
        away.setattr(sweep, "_ended", lambda *_: (_ for _ in ()).throw(StoreAway("no server")))
        done = cli(*jobs)
    assert "and its store is away (no server)" in done.out
    [parent] = [run for run in runs() if "sweep.jobs" in run.data.tags]
    assert parent.info.status == "RUNNING"
    client.set_tag(parent.info.run_id, "error", "process 1 ended without a word")  # as another says
    done = cli(*jobs)
    assert f"2 of 2 jobs finished; sweep {parent.info.run_id}" in done.err
    again = client.get_run(parent.info.run_id)
    assert again.info.status == "FINISHED"
    assert "error" not in again.data.tags
    assert not list(Path("multirun").glob("unsent/*"))


def test_killed_and_typed_again_loses_no_run_and_makes_none_twice(cli, runs, workdir):
    jobs = ("--multirun", *SMALL, "seed=0,1", "solver.epochs=3,100")
    process = start(workdir, *jobs)
    try:
        wait_until(lambda: of(runs()) and of(runs(), "RUNNING"))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    before = of(runs())
    assert 1 <= len(before) < 4
    done = cli(*jobs)
    assert done.code == 0, done.err
    told = re.search(r"4 of 4 jobs finished, (\d) of them before", done.out)
    # One that had trained to its end, which the store had not got yet, is delivered.
    assert told
    assert len(before) <= int(told[1]) <= len(before) + 1
    finished = of(runs())
    assert len({run.data.tags["config.digest"] for run in finished}) == len(finished) == 4
    assert {run.info.run_id for run in before} <= {run.info.run_id for run in finished}
    first, second = [run for run in runs() if "sweep.jobs" in run.data.tags]
    assert {run.data.tags["mlflow.parentRunId"] for run in finished} == {second.info.run_id}
    assert (first.info.status, second.info.status) == ("KILLED", "FINISHED")
    assert of(runs(), "RUNNING") == []
    for run in of(runs(), "KILLED"):
        assert "ended without a word" in run.data.tags["error"]


ELSEWHERE = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "sh", "-c"]


def has_namespaces():
    """Whether a process of another host name, with ids of its own, can be started here."""
    if shutil.which(ELSEWHERE[0]) is None:
        return False
    return subprocess.run([*ELSEWHERE, "hostname other"], capture_output=True).returncode == 0


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_sweep_typed_twice_at_once_trains_each_job_once(elsewhere, runs, workdir):
    """On one machine, and on two that see nothing of each other but the store."""
    if elsewhere and not has_namespaces():
        pytest.skip("the system does not let this user start another namespace of process ids")
    typed = [sys.executable, "-m", "kernelexp", "--multirun", *SMALL, "seed=0,1", "solver.epochs=3"]
    other = [*ELSEWHERE, "hostname other && exec " + shlex.join(typed)] if elsewhere else typed
    folder = workdir / "other"  # its checkpoints are not there for both
    folder.mkdir()
    both = [
        subprocess.Popen(
            command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for command, place in ((typed, workdir), (other, folder))
    ]
    for process in both:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "2 of 2 jobs finished" in out
    jobs = [run.data.tags["config.digest"] for run in of(runs())]
    assert len(jobs) == len(set(jobs)) == 2
    assert {run.info.status for run in runs()} == {"FINISHED"}


def test_a_job_of_another_living_process_is_waited_for(cli, client, runs):
    cli(*SWEEP, "seed=0")
    parent, child = runs()
    tags = child.data.tags
    job = Identity(tags["config.digest"], tags["data.files"], lambda: None, log_model=False)
    client.delete_run(child.info.run_id)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        experiment = parent.info.experiment_id
        started = liveness._started(other.pid)
        tags = {
            **job.tags,
            **code_tags(),
            "process": f"{liveness.this_host()} {other.pid} {started}",
        }
        held = client.create_run(experiment, tags=tags).info.run_id
        told = []

        def end_it(who):
            told.append(who)
            client.set_terminated(held, "FINISHED")

        resume.end_abandoned(client, experiment)
        assert client.get_run(held).info.status == "RUNNING"
        found = resume.finished_or_claimed(client, experiment, job, end_it)
        assert found.run_id == held
        assert told == [f"run {held}"]
    finally:
        other.kill()
        other.wait()
    left = client.create_run(experiment, tags=tags).info.run_id
    elsewhere = client.create_run(
        experiment, tags={**tags, "process": f"elsewhere {other.pid} {started}"}
    ).info.run_id
    resume.end_abandoned(client, experiment)
    assert client.get_run(left).info.status == "KILLED"
    assert client.get_run(elsewhere).info.status == "RUNNING"
    assert resume.finished_or_claimed(client, experiment, job, end_it).run_id == held


def test_a_sweep_keeps_the_children_that_a_later_one_takes_over(cli, client, runs):
    cli(*SWEEP)
    cli(*SWEEP, "seed=0,1,2")
    first = runs()[0].info
    assert len(resume.children(client, first.experiment_id, first.run_id)) == 2
    sweep.show_progress(client, first.run_id)
    assert client.get_run(first.run_id).data.tags["sweep.progress"] == "2/2"


def test_runs_of_others_in_the_experiment_are_left_alone(cli, client, runs):
    cli(*SWEEP, "seed=0")
    experiment = runs()[0].info.experiment_id
    for words in ("my own words", "a b", "host -1 x", "host 9" + 30 * "9" + " x"):
        tags = {"process": words, f"sweep.of.{runs()[0].info.run_id}": "true"}
        client.create_run(experiment, tags=tags)
    done = cli(*SWEEP, "seed=0")
    assert done.code == 0, done.err
    assert "1 of 1 jobs finished, 1 of them before" in done.out
    assert len(of(runs(), "RUNNING")) == 4


def test_a_long_command_line_is_a_short_name(client, workdir, monkeypatch):
    """Databases other than SQLite refuse names of more than 250 characters."""
    monkeypatch.setenv("KERNELEXP_PARENT_RUN_ID", "")
    typed = "kernel.bandwidth=" + ",".join(str(number) for number in range(100))
    sweep.start_parent(TrackingConfig(uri=os.environ["MLFLOW_TRACKING_URI"]), typed, 1, [])
    parent = client.get_run(os.environ["KERNELEXP_PARENT_RUN_ID"])
    assert len(parent.info.run_name) == 250
    assert typed.startswith(parent.info.run_name.removesuffix("..."))
    assert parent.data.tags["full_name"] == typed


def test_dry_run_of_a_sweep(cli, runs, workdir):
    cli(*SWEEP)
    before = {path: path.stat().st_mtime for path in workdir.rglob("*.yaml")}
    count = len(runs())
    done = cli(*SWEEP, "seed=1,2", "solver=eigenpro2,exact", "dry_run=true")
    assert done.code == 0, done.err
    assert "4 jobs: 3 to run, 1 skipped" in done.out
    assert "downloaded" not in done.out
    assert "seed=2,solver=exact" in done.out
    assert "Laplacian" not in done.out  # nothing was trained
    assert len(runs()) == count
    assert {path: path.stat().st_mtime for path in workdir.rglob("*.yaml")} == before
    done = cli(*SWEEP, "seed=1,2", "rerun=true", "dry_run=true")
    assert "2 jobs: 2 to run, " in done.out


def test_a_setting_that_only_the_swept_solvers_have(cli, runs):
    # Hydra composes once without what is swept: with the default solver, which has no centers.
    typed = ("-m", *SMALL, "solver=eigenpro3,eigenpro4", "solver.n_centers=20")
    done = cli(*typed, "dry_run=true")
    assert "solver=eigenpro4 " in done.out  # named by what differs
    done = cli(*typed)
    assert (done.code, done.err) == (0, "")
    assert [run.data.params["solver.n_centers"] for run in of(runs(), "FINISHED")] == ["20", "20"]
    done = cli("-m", *SMALL, "solver=eigenpro3,exact", "solver.n_centre=20")
    assert done.err.startswith("kernelexp: solver.n_centre: no such key; solver=")


def test_a_folder_with_a_password_in_it_is_for_its_owner_alone(cli, workdir):
    """Hydra writes what was typed into multirun.yaml."""
    few = (
        "--multirun",
        "seed=0,1",
        "dataset.n_train=100",
        "solver.epochs=1",
        "tracking.enabled=false",
    )
    for uri, mode in (("postgresql://me:secret@host/x", 0o700), ("postgresql://host/x", 0o755)):
        folder = f"swept/{mode:o}"
        assert cli(*few, f"tracking.uri={uri}", f"hydra.sweep.dir={folder}").code == 0
        assert (workdir / folder / "multirun.yaml").is_file()
        assert (workdir / folder).stat().st_mode & 0o777 & ~umask() == mode & ~umask()


def umask():
    os.umask(now := os.umask(0o22))
    return now


def test_a_sweep_is_of_one_store_and_experiment(cli, runs):
    """Its jobs are counted there: those of another would be missing, and the sweep failed."""
    for varied, said in (
        ("tracking.experiment=a,b", "experiment=a,b"),
        ("tracking.experiment=e_${seed}", "experiment=e_0,e_1"),
        ("tracking.enabled=true,false", "enabled=True,False"),
    ):
        done = cli("--multirun", *SMALL, varied, "seed=0,1")
        assert done.code == 2
        assert done.err.startswith(f"kernelexp: tracking.{said}: must be one for the whole sweep")


def test_a_value_that_refers_to_what_is_swept(cli, runs):
    """Each job is checked, known and shown with its own; a sweep typed again finds them."""
    typed = ("--multirun", *SMALL, "solver.batch_size=${seed}", "seed=20,30")
    assert cli(*typed).code == 0
    parent, *children = runs()
    assert "solver.batch_size=${seed}" in parent.info.run_name
    assert [run.data.params["solver.batch_size"] for run in children] == ["20", "30"]
    again = cli(*typed, "dry_run=true")
    assert "0 to run" in again.out


def test_dry_run_says_what_is_refused_after_points_are_held_out(cli):
    sizes = ("-m", *SMALL, "solver=eigenpro3", "solver.n_centers=50,250", "validation=0.2")
    done = cli(*sizes, "dry_run=true")
    assert done.code == 0, done.err
    assert "must be a whole number from 1 to 240" in " ".join(done.out.split())
    assert cli(*sizes).code == 2


def test_a_sweep_over_a_pattern(cli):
    done = cli("-m", *SMALL, "kernel=glob(relu*)", "dry_run=true")
    assert "kernel=relu_nngp" in done.out
    assert "2 jobs: 2 to run" in done.out


def test_dry_run_makes_no_store(cli, workdir, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///new.db")
    for arguments in (SMALL, SWEEP):
        done = cli(*arguments, "dry_run=true")
        assert done.code == 0, done.err
        assert "to run" in done.out
    assert not (workdir / "new.db").exists()


def test_dry_run_says_what_does_not_fit_and_reads_no_data(cli):
    # In float32 the factor alone has 7.2 GB.
    done = cli(
        "--multirun", "dataset=mnist", "kernel=gaussian", "solver=exact,eigenpro2",
        "solver.epochs=null", "resource.memory_gb=6", "dry_run=true", "data_dir=nowhere",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "60,000" in done.out
    assert "must be at least" in done.out
    assert "2 jobs: 1 to run, 1 that cannot run" in done.out
    assert "To be downloaded first: mnist (not in data_dir=" in done.out


def test_two_workers_on_a_fresh_store(shell, workdir, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    done = shell(  # the sweep in docs/experiments.md
        ["python", "-m", "kernelexp", "experiment=label_noise", "hydra/launcher=joblib",
         "hydra.launcher.n_jobs=2", "+debug=fast", "solver=interpolated",
         "tracking.uri=sqlite:///new.db", "tracking.experiment=two"],
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "4 of 4 jobs finished" in done.out
    assert done.err == ""
    from joblib import cpu_count
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{workdir}/new.db")
    [found] = client.search_experiments(filter_string="name = 'two'")
    everything = client.search_runs([found.experiment_id])
    [parent] = [run for run in everything if "sweep.jobs" in run.data.tags]
    children = of(everything)
    assert len(children) == 4
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert parent.data.tags["sweep.progress"] == "4/4"
    here = {run.data.tags["process"] for run in children}
    assert len(here) <= 2
    assert parent.data.tags["process"] not in here
    threads = max(1, cpu_count() // 2)
    for run in children:
        assert run.data.params["derived.device_name"].endswith(f", {threads} threads")


def test_the_store_goes_before_the_end_of_a_sweep(workdir, monkeypatch, capsys):
    """No traceback; one line, and the end is kept."""
    config = TrackingConfig(uri=os.environ["MLFLOW_TRACKING_URI"], patience_minutes=0)
    monkeypatch.setenv("KERNELEXP_PARENT_RUN_ID", "")
    sweep.start_parent(config, "typed", 1, [])
    os.rename("mlflow.db", "elsewhere.db")
    os.mkdir("mlflow.db")
    line = sweep.end_parent(interrupted=False)
    assert "\n" not in line
    assert "its store is away" in line
    assert "python -m kernelexp.store send delivers what is kept in multirun/unsent" in line
    assert sweep.end_parent(interrupted=False) is None  # it has ended
    os.rmdir("mlflow.db")
    os.rename("elsewhere.db", "mlflow.db")
    assert send(["send"]) == 0
    assert "0 of 1 jobs finished" in capsys.readouterr().out
    assert not os.path.exists("multirun")


def test_jobs_wait_for_a_store_once(workdir, monkeypatch):
    """One that was given up is not waited for anew by the next job."""
    config = TrackingConfig(uri=os.environ["MLFLOW_TRACKING_URI"], patience_minutes=60)
    monkeypatch.setenv("KERNELEXP_PARENT_RUN_ID", "parent")
    (workdir / "mlflow.db").rename("elsewhere.db")
    (workdir / "mlflow.db").mkdir()
    Journal.create("key", [beginning(config, "a job before", {})]).close(given_up=True)
    monkeypatch.setattr(outbox, "_LAST_ATTEMPT", 0.1)
    identity = Identity("digest", "files", lambda: None, log_model=False)
    with sweep.job(config, identity, False, False, print) as done:
        assert done is None
        values = {group: {"name": group} for group in ("kernel", "dataset", "solver")}
        with Tracker(config, identity, values, "", []) as tracker:
            tracker.epoch(1, {"loss": 1.0})
    [first, second] = unsent.kept()
    assert (first.begin.name, second.begin.name) == ("a job before", "kernel dataset solver")
    assert second.begin.tags["mlflow.parentRunId"] == "parent"
    (workdir / "mlflow.db").rmdir()
    (workdir / "elsewhere.db").rename("mlflow.db")
    with sweep.job(
        config, identity, False, False, print
    ):  # the store is back: what is the sweep's is sent
        assert [one.begin.name for one in unsent.kept()] == ["a job before"]


def test_a_store_that_goes_while_a_job_is_waited_for(cli, client, runs, monkeypatch):
    cli(*SWEEP, "seed=0")
    parent, child = runs()
    tags = child.data.tags
    job = Identity(tags["config.digest"], tags["data.files"], lambda: None, log_model=False)
    monkeypatch.setattr(resume, "_POLL_SECONDS", 0.01)
    asked = []
    search = resume._runs

    def goes(client, where, condition, status=None):
        asked.append(status)
        if len(asked) == 1:
            return []  # not finished yet
        if len(asked) == 2:
            return [child]
        if len(asked) < 6:
            raise OSError("gone")
        return search(client, where, condition, status)

    monkeypatch.setattr(resume, "_runs", goes)
    monkeypatch.setattr(resume, "_is_held_by_another", lambda run: True)
    told = []
    where = parent.info.experiment_id
    found = resume.finished_or_claimed(client, where, job, told.append, patience=60)
    assert found.run_id == child.info.run_id
    assert told == [f"run {child.info.run_id}"]
    # One that was asked too much at once is asked again; one that is gone is not waited for by the next job.
    asked[1:] = [None] * 3
    assert resume.finished_or_claimed(client, where, job, told.append).run_id == child.info.run_id
    monkeypatch.setattr(resume, "_BRIEFLY", 0.0)
    asked[1:] = [None] * 2
    with pytest.raises(OSError, match="gone"):
        resume.finished_or_claimed(client, where, job, told.append)


def test_a_sweep_starts_whatever_is_kept_from_before(workdir, client, monkeypatch, capsys):
    """Runs for other experiments of its store are delivered, what cannot be stays, and neither stops it."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    other = TrackingConfig(uri=uri, experiment="other")
    Journal.create("good", [beginning(other, "good", {}), End("FINISHED")]).close()
    gone = TrackingConfig(uri=uri, experiment="gone")
    client.delete_experiment(client.create_experiment("gone"))
    Journal.create("bad", [beginning(gone, "bad", {})]).close()
    monkeypatch.setenv("KERNELEXP_PARENT_RUN_ID", "")
    sweep.start_parent(TrackingConfig(uri=uri), "typed", 1, [])
    delivered, left = capsys.readouterr().err.splitlines()
    assert "good: metrics of 0 epochs delivered to run" in delivered
    assert "bad is still kept in multirun/unsent/bad (experiment=gone" in left.replace(
        "tracking.", ""
    )
    assert [one.begin.name for one in unsent.kept()] == ["bad"]
    assert sweep.end_parent(False).startswith("0 of 1 jobs finished")


def test_two_sweeps_that_take_over_a_run_at_once_both_have_it(client):
    experiment = client.create_experiment("e")
    run, first, second = (client.create_run(experiment).info.run_id for _ in range(3))
    seen = [client.get_run(run) for _ in range(2)]  # both have looked before either writes
    for found, parent in zip(seen, (first, second), strict=True):
        resume.link(client, found, parent)
    for parent in (first, second):
        assert [one.info.run_id for one in resume.children(client, experiment, parent)] == [run]
