"""Rows that come after training: read as training rows were, and predicted for."""

import json
import resource
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from small_table import N, loaded

import kernelexp
from kernelexp import loading
from kernelexp.data.columns import Column, Columns
from kernelexp.data.table_file import read_table
from kernelexp.predict import _write


def test_new_rows_are_predicted(cli, frame, tmp_path, monkeypatch):
    frame.to_csv("people.csv", index=False)
    done = cli(
        "dataset=table", "dataset.path=people.csv", "dataset.target=left", "dataset.drop=[when]",
        "solver=exact", "solver.ridge=1e-4", "kernel.bandwidth=3", "validation=20",
        "tracking.log_model=true", "tracking.experiment=people",
    )  # fmt: skip
    assert done.code == 0, done.err
    new = frame.drop(columns="left").iloc[::-1]
    new.to_csv("new.csv", index=False)
    done = cli("best:people", "new.csv", "--out", "y.csv", "--outputs", module="kernelexp.predict")
    assert done.code == 0, done.err
    told = pd.read_csv("y.csv")
    assert list(told) == ["left", "output no", "output yes"]
    assert (told.left == frame.left.iloc[::-1].reset_index(drop=True)).mean() > 0.9
    model = kernelexp.load("best:people")
    assert (model.predict(new) == told.left).all()
    assert (model.predict(pa.Table.from_pandas(new)) == told.left).all()
    assert (model.predict(new[sorted(new)]) == told.left).all()  # in any order
    new.assign(city=new.city.where(new.age > 30)).to_csv("cityless.csv", index=False)
    new.assign(income=new.income.where(new.age > 30)).to_csv("poor.csv", index=False)
    rows = new.head(2).assign(city="Bern")
    rows.to_csv("bern.csv", index=False)
    done = cli("best:people", "bern.csv", module="kernelexp.predict")
    assert (done.code, len(done.out.splitlines())) == (0, 3)
    assert "not in training rows: city=Bern" in done.err
    new.drop(columns="age").to_csv("ageless.csv", index=False)
    infinite, large = (new.assign(age=age) for age in (np.inf, 1e100))
    infinite.to_csv("infinite.csv", index=False)
    large.to_csv("large.csv", index=False)
    with pytest.raises(ValueError, match=r"^inputs: age: has infinite values"):
        model.predict(infinite)
    (tmp_path / "a.csv").mkdir()
    for arguments, message in [
        (("best:people", "ageless.csv"), "ageless.csv: has no column age; there are city, member"),
        (("best:people", "cityless.csv"), "cityless.csv: city: "),
        (("best:people", "poor.csv"), "poor.csv: income: "),
        (("best:people", "infinite.csv", "--outputs"), "infinite.csv: age: has infinite values; correct"),
        (("best:people", "large.csv"), "large.csv, as the model takes them in float32: has NaN or infinite numbers"),
        (("best:people", "none.csv"), "none.csv: no such file"),
        (("best:other", "new.csv"), "best:other: no such experiment; there are Default, people"),
        (("zzz", "new.csv"), "run zzz: no such id or name in this store"),
        (("best:people", "new.csv", "--out", "y.doc"), "--out y.doc: must be a file whose name ends in .csv"),
        (("best:people", "new.csv", "--out", "no/y.csv"), "--out no/y.csv: no folder no; make it first, or name"),
        (("best:people", "new.csv", "--out", "a.csv"), "--out a.csv: is a folder; must be a file"),
        (("best:people",), "the following arguments are required: FILE"),
        (("best:people", "new.csv", "--out", "new.csv"), "--out new.csv: is the file of rows, which would be lost"),
        (("best:people", "new.csv", "--store", "sqlite:///no.db"), "sqlite:///no.db: no such store"),
        (("best:people", "new.csv", "--store", "mlflow.db"), "must be an address, as sqlite:///mlflow.db"),
        (("best:people", "new.csv", "--store", "sqlite:///old.db"), "old.db: must be a store that opens ("),
    ]:  # fmt: skip
        shutil.copy("mlflow.db", "old.db")
        with closing(sqlite3.connect("old.db")) as old, old:
            old.execute("UPDATE alembic_version SET version_num = 'of another program'")
        done = cli(*arguments, module="kernelexp.predict")
        assert done.code == 2
        assert message in done.err
        assert len(done.err.strip().splitlines()) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/another.db")
    done = cli("best:people", "new.csv", "--store", f"sqlite:///{tmp_path}/mlflow.db", module="kernelexp.predict")  # fmt: skip
    assert (done.code, len(done.out.splitlines())) == (0, N + 1), done.err
    assert not (tmp_path / "another.db").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    Path("mlruns").rename("elsewhere")
    done = cli("best:people", "new.csv", module="kernelexp.predict")
    assert (done.code, len(done.err.strip().splitlines())) == (2, 1)
    assert "mlruns" in done.err
    assert "which is not there; move mlruns back to where it was made" in done.err
    assert not (tmp_path / "no.db").exists()


def test_codes_that_look_like_numbers_stay_texts(cli, runs):
    codes = ["007", "A12", "003", "B7"] * 10
    pd.DataFrame({"code": codes, "y": [code in ("007", "B7") for code in codes]}).to_csv("t.csv", index=False)  # fmt: skip
    done = cli("dataset=table", "dataset.path=t.csv", "dataset.target=y", "solver=exact", "solver.ridge=1e-6",
               "tracking.experiment=codes")  # fmt: skip
    assert done.code == 0, done.err
    Path("new.csv").write_text("code\n007\n003\n")
    [job] = runs("codes")
    done = cli(job.info.run_id, "new.csv", module="kernelexp.predict")
    assert done.out.split() == ['"y"', '"true"', '"false"'], done.err


def test_the_best_is_not_chosen_across_a_file_that_has_changed(cli, frame):
    run = ("dataset=table", "dataset.path=t.csv", "dataset.target=left", "dataset.drop=[when]", "solver=exact",
           "solver.ridge=1e-4", "validation=20", "tracking.experiment=e")  # fmt: skip
    frame.to_csv("t.csv", index=False)
    for bandwidth in (3, 4):
        assert cli(*run, f"kernel.bandwidth={bandwidth}").code == 0
    assert cli("best:e", "t.csv", module="kernelexp.predict").code == 0
    frame.assign(age=frame.age + 1).to_csv("t.csv", index=False)
    assert cli(*run, "kernel.bandwidth=5").code == 0
    done = cli("best:e", "t.csv", module="kernelexp.predict")
    assert done.code == 2
    said = "its runs are of 2 data sets, whose scores are not compared (table t.csv left; table t.csv left before it changed)"
    assert said in done.err


def test_a_run_by_its_id_the_start_of_it_or_its_name(client):
    first, second = (client.create_run("0", run_name=name).info.run_id for name in ("mine", "m_ne"))
    start = next(second[:end] for end in range(1, 33) if not first.startswith(second[:end]))
    for name, number in (("mine", first), ("m_ne", second), (first, first), (start, second)):
        assert loading.find(client, name).info.run_id == number
    client.create_run("0", run_name=start)  # a name that is also the start of an id
    client.create_run("0", run_name=first)
    with pytest.raises(ValueError, match=f"run {start}: there are several, as "):
        loading.find(client, start)
    assert loading.find(client, first).info.run_id == first
    theirs = client.create_run("0", run_name="it's").info.run_id
    assert loading.find(client, "it's").info.run_id == theirs
    with pytest.raises(ValueError, match="run %: no such id or name"):
        loading.find(client, "%")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["0.1257", "abc", "0.5"], "new.csv: a=abc: must be a number, as in training"),
        (["0.1257", "1_0", "0.5"], "new.csv: a=1_0: must be a number, as in training"),
        (["0.1257", "0.2", "0.5"], "new.csv: a: texts, as '0.1257': must be numbers, as in training"),
        ([True, False, True], "new.csv: a=true: must be a number, as in training"),
        (["0.1257", None, "abc"], "new.csv: a=abc: must be a number, as in training"),
        ([None, None, None], "new.csv: a: 3 of 3 values are missing; fill them in"),
        (pa.array([1, 2, 3], pa.date32()), "new.csv: a: date32[day]: must be numbers, as in training"),
    ],
)  # fmt: skip
def test_the_value_that_is_no_number_is_named(values, message):
    columns = Columns((Column("a"),), "y", None)
    if isinstance(values, list):
        values = pa.array(values, pa.bool_() if values[0] is True else pa.string())
    with pytest.raises(ValueError, match=".") as caught:
        columns.points(pa.table({"a": values}), "new.csv")
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["age", "city", "member"])
@pytest.mark.parametrize("whole", [False, True])
def test_missing_values_of_new_rows_are_as_those_of_training_rows(name, whole, table):
    strict = loaded(table()).columns
    rows = read_table(Path(table().path))
    some = pa.array([whole or row == 3 for row in range(N)])
    rows = rows.set_column(
        rows.column_names.index(name), name, pc.if_else(some, pa.scalar(None), rows[name])
    )
    count = N if whole else 1
    with pytest.raises(ValueError, match=f"new.csv: {name}: {count} of 120 values are missing; fill them in"):  # fmt: skip
        strict.points(rows, "new.csv")
    lenient = loaded(table(missing="impute")).columns
    assert len(lenient.points(rows, "new.csv")) == N


def test_models_of_before_say_by_what_is_filled_in_whether_values_may_be_missing(table):
    for columns in (loaded(table(missing=missing)).columns for missing in ("refuse", "impute")):
        stored = columns.to_dict()
        del stored["impute"]
        assert Columns.from_dict(stored) == columns


def test_blanks_about_names_of_new_rows_are_seen():
    columns = Columns((Column(" a"),), "y", None)
    with pytest.raises(ValueError, match="new.csv: has no column ' a'; there are a, 'b '"):
        columns.points(pa.table({"a": [1.0], "b ": [1.0]}), "new.csv")


def test_columns_come_back_from_json(table):
    columns = loaded(table(missing="impute")).columns
    assert Columns.from_dict(json.loads(json.dumps(columns.to_dict()))) == columns


@pytest.mark.parametrize("name", ["y.csv", "y.parquet"])
def test_a_full_disk_leaves_the_predictions_that_were_there(tmp_path, name):
    few, many = pa.table({"y": np.arange(10.0)}), pa.table({"y": np.random.rand(100_000)})
    _write(few, tmp_path / name)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with pytest.raises(OSError, match="File too large|write"):
            _write(many, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert read_table(tmp_path / name, []).num_rows == 10
    assert [path.name for path in tmp_path.iterdir()] == [name]
